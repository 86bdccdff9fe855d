/** Files for the next question: chosen, dropped or pasted. */
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import type { Speech } from "../strings";
import type { Problem, Settings, Upload } from "../types";
import { Clip, sizeOf } from "./Attached";
import { useAround } from "./context";
import { Icon } from "./Icon";

export function Attach({ uploads }: { uploads: Upload[] }) {
  const { actions, settings, say, speech } = useAround();
  const { t } = speech;
  const button = useRef<HTMLButtonElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);

  // At once: what is dropped before would open in the browser.
  useLayoutEffect(() => {
    const inside = button.current?.closest<HTMLElement>(".inside");
    const bring = (event: Event, from: DataTransfer | null) => {
      setOver(false);
      const files = [...(from?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      actions.attach(files);
    };
    const paste = (event: ClipboardEvent) => bring(event, event.clipboardData);
    const drop = (event: DragEvent) => bring(event, event.dataTransfer);
    const drag = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // else the browser would open what is dropped
      setOver(true);
    };
    const leave = (event: DragEvent) => {
      if (!inside?.contains(event.relatedTarget as Node | null)) setOver(false);
    };
    const heard = { paste, drop, dragover: drag, dragleave: leave } as Record<string, (event: never) => void>;
    for (const [name, deed] of Object.entries(heard)) inside?.addEventListener(name, deed as EventListener);
    return () => {
      for (const [name, deed] of Object.entries(heard)) inside?.removeEventListener(name, deed as EventListener);
    };
  }, [actions]);

  // What happens to a file is heard, too.
  const told = useRef(new Map<string, string>());
  useEffect(() => {
    for (const upload of uploads) {
      const sentence = statusOf(upload, speech, settings);
      if (told.current.get(upload.key) !== sentence) say(sentence);
      told.current.set(upload.key, sentence);
    }
  }, [uploads, speech, settings, say]);

  return (
    <>
      {uploads.length > 0 && (
        <ul className="files" aria-label={t("attached")}>
          {uploads.map((upload) => (
            <li key={upload.key} data-bad={upload.problem ? true : undefined}>
              <Clip />
              <span className="file" dir="auto">
                {upload.name}
              </span>
              <Stand upload={upload} />
              <button
                type="button"
                className="quiet square small"
                aria-label={t("detach", { name: upload.name })}
                title={t("detach", { name: upload.name })}
                onClick={() => {
                  actions.detach(upload.key);
                  say(t("fileGone", { name: upload.name }));
                  button.current?.focus();
                }}
              >
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
      <button
        ref={button}
        type="button"
        className="quiet square"
        aria-label={t("attach")}
        title={t("attach")}
        onClick={() => input.current?.click()}
      >
        <Clip />
      </button>
      <input
        ref={input}
        type="file"
        hidden
        multiple
        aria-label={t("attach")}
        accept={settings?.attachments?.kinds.join()}
        onChange={({ currentTarget }) => {
          actions.attach([...(currentTarget.files ?? [])]);
          currentTarget.value = ""; // the same file may be chosen again
        }}
      />
      {over && <p className="drop">{t("drop")}</p>}
    </>
  );
}

function Stand({ upload }: { upload: Upload }) {
  const { speech, settings } = useAround();
  const { id, problem, cut, sent, size } = upload;
  if (problem) return <span className="fine">{problemOf(problem, speech, settings)}</span>;
  if (!id) return <progress value={sent} aria-label={speech.t("fileSending", { name: upload.name })} />;
  return <span className="fine">{cut ? speech.t("fileCut") : sizeOf(size, speech.locale)}</span>;
}

function statusOf({ id, name, cut, problem }: Upload, speech: Speech, settings: Settings | null): string {
  if (problem) return `${name}: ${problemOf(problem, speech, settings)}`;
  if (!id) return speech.t("fileSending", { name });
  return `${speech.t("fileReady", { name })} ${cut ? speech.t("fileCut") : ""}`.trim();
}

function problemOf({ code, message }: Problem, speech: Speech, settings: Settings | null): string {
  const { most = 0, bytes = 0 } = settings?.attachments ?? {};
  const values = { n: most, size: Math.floor(bytes / 1e6) };
  const name = `file.${code}` as "file.empty";
  const own = speech.t(name, values);
  return own === name ? speech.problem(code, message) : own;
}
