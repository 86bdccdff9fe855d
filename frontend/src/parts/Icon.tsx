/** Line icons, drawn on 24 by 24. */
const PATHS = {
  chat: "M21 12a8 8 0 0 1-8 8H4l2-3a8 8 0 1 1 15-5Z",
  close: "M6 6l12 12M18 6 6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "M9 6l6 6-6 6",
  plus: "M12 5v14M5 12h14",
  send: "M12 20V5M5 12l7-7 7 7",
  stop: "M8 8h8v8H8Z",
  copy: "M9 9h11v11H9ZM5 15H4V4h11v1",
  check: "M5 13l4 4L19 7",
  again: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  forward: "M5 5l8 7-8 7V5Zm14 0v14",
  up: "M7 11v9H4v-9h3Zm0 0 4-8c2 0 3 1 3 3v3h5c1 0 2 1 2 2l-2 8c0 1-1 1-2 1H7",
  bad: "M17 13V4h3v9h-3Zm0 0-4 8c-2 0-3-1-3-3v-3H5c-1 0-2-1-2-2l2-8c0-1 1-1 2-1h10",
  edit: "M4 20l1-4L16 5l3 3L8 19l-4 1Z",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm-8 8c0-4 4-6 8-6s8 2 8 6",
  menu: "M4 7h16M4 12h16M4 17h10",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14Zm5-2 4 4",
  page: "M6 3h8l4 4v14H6ZM14 3v4h4M9 12h6M9 16h6",
  warn: "M12 4 2.5 20h19L12 4Zm0 6v4m0 3h.01",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Zm0-14v5l3 2",
  offline: "M4 4l16 16M8.5 15.5a5 5 0 0 1 7 0M5 12a10 10 0 0 1 4-2.4M19 12a10 10 0 0 0-5-2.7M12 19h.01",
};

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg className="icon" data-icon={name} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
