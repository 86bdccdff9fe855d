/** A question that is asked better. */
import { useEffect, useRef, useState } from "react";
import { useWords } from "./context";
import { isSend } from "./keys";

export function Editor({ text, onDone }: { text: string; onDone: (text: string | null) => void }) {
  const t = useWords();
  const [value, setValue] = useState(text);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(text.length, text.length);
  }, [text]);
  return (
    <form
      className="editor"
      onSubmit={(event) => {
        event.preventDefault();
        onDone(value);
      }}
    >
      <h2 className="unseen">{t("edit")}</h2>
      <textarea
        ref={area}
        dir="auto"
        rows={Math.min(8, value.split("\n").length + 1)}
        aria-label={t("edit")}
        value={value}
        onInput={(event) => setValue(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            onDone(null);
          } else if (isSend(event)) {
            event.preventDefault();
            onDone(value);
          }
        }}
      />
      <div className="row end">
        <button type="button" className="plain" onClick={() => onDone(null)}>
          {t("cancel")}
        </button>
        <button type="submit" className="primary" disabled={!value.trim()}>
          {t("save")}
        </button>
      </div>
    </form>
  );
}
