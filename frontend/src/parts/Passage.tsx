/** The passage that a number stands for, and where it is from. */
import type { Source } from "../types";
import { useWords } from "./context";
import { AnswerIcon } from "./AnswerIcon";

export function Passage({ source }: { source: Source }) {
  const t = useWords();
  return (
    <>
      <p className="origin" dir="auto">
        <AnswerIcon name="page" />
        <strong>{source.title}</strong>
      </p>
      {(source.heading.length > 0 || source.page !== null) && (
        <p className="path" dir="auto">
          {[...source.heading, ...(source.page === null ? [] : [t("page", { n: source.page })])].join(" \u203a ")}
        </p>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions take the focus */}
      <blockquote className="passage" dir="auto" tabIndex={0}>
        {source.text}
      </blockquote>
    </>
  );
}
