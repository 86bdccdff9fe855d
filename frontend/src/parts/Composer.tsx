/** Where questions are written. */
import { useLayoutEffect, useRef } from "react";
import type { State } from "../types";
import { useAround, useMedia, useWords } from "./context";
import { Icon } from "./Icon";
import { isSend } from "./keys";
import { Late } from "./Later";
import { files } from "./parts";
import { isBusy } from "./turns";

const LONGEST = 20_000; // characters
const TALLEST = 168; // px

export function Composer({ state }: { state: State }) {
  const { actions, settings, takesFocus } = useAround();
  const t = useWords();
  const area = useRef<HTMLTextAreaElement>(null);
  const last = state.turns.at(-1);
  const busy = last !== undefined && isBusy(last);
  const text = state.draft;
  // A question waits for its files, but for those that were refused.
  const ready = text.trim() !== "" && !busy && state.uploads.every(({ id, problem }) => id || problem);

  // On a phone the keyboard would cover what was opened to be read.
  const touch = useMedia("(pointer: coarse)");
  // At once: later it would be taken from where the reader has gone meanwhile.
  useLayoutEffect(() => {
    if (takesFocus && !touch) area.current?.focus();
  }, [takesFocus, touch]);

  // The text is what makes it grow.
  useLayoutEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight, TALLEST)}px`;
  }, [text]);

  const send = () => {
    if (!ready) return;
    actions.ask(text.trim());
    area.current?.focus();
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="field">
        {settings?.attachments && <Late part={files}>{({ Attach }) => <Attach uploads={state.uploads} />}</Late>}
        <textarea
          ref={area}
          rows={1}
          dir={text ? "auto" : undefined} // an empty one has no direction of its own
          maxLength={LONGEST}
          value={text}
          placeholder={t("placeholder")}
          aria-label={t("question")}
          enterKeyHint="send"
          onInput={(event) => actions.setDraft(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (!isSend(event)) return;
            event.preventDefault();
            send();
          }}
        />
        {busy ? (
          <button
            type="button"
            className="send"
            aria-label={t("stop")}
            title={t("stop")}
            onClick={() => actions.stop()}
          >
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" className="send" aria-label={t("send")} title={t("send")} aria-disabled={!ready}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <p className="fine">{[t("mayErr"), settings?.retention].filter(Boolean).join(" ")}</p>
    </form>
  );
}
