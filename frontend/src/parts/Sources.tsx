/** Numbers of sources, and the list below an answer. */
import type { Source } from "../types";
import { useAround, useWords } from "./context";

export function Chip({ source }: { source: Source }) {
  const { show } = useAround();
  const t = useWords();
  return (
    <button
      type="button"
      className="chip"
      title={source.title}
      aria-label={t("source", { n: source.n, title: source.title })}
      onClick={() => show({ kind: "passage", source })}
    >
      {source.n}
    </button>
  );
}

export function SourceList({ sources, wide }: { sources: Source[]; wide: boolean }) {
  const { show } = useAround();
  const t = useWords();
  if (!sources.length) return null;
  return (
    <div className="sources">
      <p className="label">{t("sources", { n: sources.length })}</p>
      <ul data-wide={wide || undefined}>
        {sources.map((source) => (
          <li key={source.n}>
            <button type="button" onClick={() => show({ kind: "passage", source })}>
              <span className="number">{source.n}</span>
              <span className="name" dir="auto">
                {source.title}
                {wide && <small>{source.text}</small>}
              </span>
              {source.page !== null && <span className="where">{t("shortPage", { n: source.page })}</span>}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
