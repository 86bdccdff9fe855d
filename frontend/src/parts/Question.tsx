/** What the reader asked. */
import { useEffect, useRef, useState } from "react";
import type { Turn } from "../types";
import { useAround, useWords } from "./context";
import { Icon } from "./Icon";
import { Late } from "./Later";
import { extras, files } from "./parts";
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
    return <Late part={extras}>{({ Editor }) => <Editor text={turn.question} onDone={done} />}</Late>;
  }
  return (
    <>
      {turn.attachments[0] && <Late part={files}>{({ Attached }) => <Attached files={turn.attachments} />}</Late>}
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
    </>
  );
}
