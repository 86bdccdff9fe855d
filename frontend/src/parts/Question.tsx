/** What the reader asked, and the same to be asked better. */
import { useEffect, useRef, useState } from "react";
import type { Turn } from "../types";
import { useAround, useWords } from "./context";
import { Icon } from "./Icon";
import { isSend } from "./keys";
import { isBusy } from "./turns";

export function Question({ turn, locked }: { turn: Turn; locked: boolean }) {
  const { actions } = useAround();
  const t = useWords();
  const [editing, setEditing] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const left = useRef(false);
  useEffect(() => {
    if (!editing && left.current) button.current?.focus();
    left.current = editing;
  }, [editing]);

  if (editing) {
    const done = (text: string | null) => {
      setEditing(false);
      if (text?.trim()) actions.edit(turn.id, text.trim());
    };
    return <Editor text={turn.question} onDone={done} />;
  }
  return (
    <div className="question">
      {/* biome-ignore lint/a11y/useSemanticElements: questions are jumped between as headings, and look like what was said */}
      <p dir="auto" role="heading" aria-level={2}>
        {/* bdi: the direction is that of what was asked */}
        <bdi className="unseen">{t("you")}: </bdi>
        {turn.question}
      </p>
      {!locked && !isBusy(turn) && (
        <button
          ref={button}
          type="button"
          className="quiet square small"
          aria-label={t("edit")}
          title={t("edit")}
          onClick={() => setEditing(true)}
        >
          <Icon name="edit" />
        </button>
      )}
    </div>
  );
}

function Editor({ text, onDone }: { text: string; onDone: (text: string | null) => void }) {
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
        onChange={(event) => setValue(event.currentTarget.value)}
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
