/** Icons that only answers have. */
import { Drawing } from "./Icon";

const PATHS = {
  chevron: "M9 6l6 6-6 6",
  copy: "M9 9h11v11H9ZM5 15H4V4h11v1",
  check: "M5 13l4 4L19 7",
  forward: "M5 5l8 7-8 7V5Zm14 0v14",
  up: "M7 11v9H4v-9h3Zm0 0 4-8c2 0 3 1 3 3v3h5c1 0 2 1 2 2l-2 8c0 1-1 1-2 1H7",
  bad: "M17 13V4h3v9h-3Zm0 0-4 8c-2 0-3-1-3-3v-3H5c-1 0-2-1-2-2l2-8c0-1 1-1 2-1h10",
  page: "M6 3h8l4 4v14H6ZM14 3v4h4M9 12h6M9 16h6",
};

export function AnswerIcon({ name }: { name: keyof typeof PATHS }) {
  return <Drawing name={name} path={PATHS[name]} />;
}
