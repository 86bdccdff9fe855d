/** One conversation of the list, with what can be done with it. */
import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";
import type { Conversation } from "../types";
import { useAround, useWords } from "./context";
import { Drawing } from "./Icon";

interface RowProps {
  conversation: Conversation;
  day: string;
  current: boolean;
  onChosen: () => void;
}

type Doing = "" | "menu" | "rename" | "remove" | "share";

export function ConversationRow({ conversation, day, current, onChosen }: RowProps) {
  const { actions } = useAround();
  const t = useWords();
  const id = useId();
  const [doing, setDoing] = useState<Doing>("");
  const more = useRef<HTMLButtonElement>(null);
  const title = conversation.title || t("untitled");
  const back = () => {
    setDoing("");
    more.current?.focus();
  };
  const leave = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !doing) return;
    event.stopPropagation();
    back();
  };
  return (
    <li onKeyDown={leave}>
      {day && <p className="label day">{day}</p>}
      <div className="entry" data-current={current || undefined}>
        <button
          type="button"
          className="pick"
          aria-current={current ? "true" : undefined}
          onClick={() => {
            actions.openConversation(conversation.id);
            onChosen();
          }}
        >
          <bdi>{title}</bdi>
        </button>
        <button
          ref={more}
          type="button"
          className="quiet square small"
          aria-label={t("more", { title })}
          aria-expanded={doing !== ""}
          aria-controls={doing ? id : undefined}
          onClick={() => setDoing(doing ? "" : "menu")}
        >
          <Drawing name="more" path="M5 12h.01M12 12h.01M19 12h.01" />
        </button>
      </div>
      {doing && (
        <div className="entry-deeds" id={id}>
          {doing === "menu" && (
            <div className="row wrap">
              <button type="button" className="tag" onClick={() => setDoing("rename")}>
                {t("rename")}
              </button>
              <button type="button" className="tag" onClick={() => setDoing("share")}>
                {t("share")}
              </button>
              <button type="button" className="tag" onClick={() => setDoing("remove")}>
                {t("remove")}
              </button>
            </div>
          )}
          {doing === "rename" && <Rename conversation={conversation} onDone={back} />}
          {doing === "remove" && <Remove id={conversation.id} onDone={back} />}
          {doing === "share" && <Share id={conversation.id} />}
        </div>
      )}
    </li>
  );
}

/** Runs a deed; its failure is shown and said. */
function useDeed(): [string, (deed: () => Promise<unknown>) => Promise<boolean>] {
  const { say } = useAround();
  const t = useWords();
  const [wrong, setWrong] = useState("");
  const run = async (deed: () => Promise<unknown>) => {
    setWrong("");
    try {
      await deed();
      return true;
    } catch {
      setWrong(t("failed"));
      say(t("failed"));
      return false;
    }
  };
  return [wrong, run];
}

function Rename({ conversation, onDone }: { conversation: Conversation; onDone: () => void }) {
  const { actions } = useAround();
  const t = useWords();
  const [title, setTitle] = useState(conversation.title);
  const [wrong, run] = useDeed();
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  return (
    <form
      className="form"
      onSubmit={(event) => {
        event.preventDefault();
        void run(() => actions.rename(conversation.id, title.trim())).then((done) => done && onDone());
      }}
    >
      <input
        ref={field}
        dir="auto"
        maxLength={200}
        value={title}
        aria-label={t("title")}
        onInput={(event) => setTitle(event.currentTarget.value)}
      />
      {wrong && <p className="wrong">{wrong}</p>}
      <div className="row end">
        <button type="button" className="plain" onClick={onDone}>
          {t("cancel")}
        </button>
        <button type="submit" className="primary" disabled={!title.trim()}>
          {t("saveTitle")}
        </button>
      </div>
    </form>
  );
}

function Remove({ id, onDone }: { id: string; onDone: () => void }) {
  const { actions } = useAround();
  const t = useWords();
  const [wrong, run] = useDeed();
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => first.current?.focus(), []);
  return (
    <>
      <p>{t("removeSure")}</p>
      {wrong && <p className="wrong">{wrong}</p>}
      <div className="row end">
        <button ref={first} type="button" className="plain" onClick={onDone}>
          {t("cancel")}
        </button>
        <button type="button" className="danger" onClick={() => void run(() => actions.remove(id))}>
          {t("remove")}
        </button>
      </div>
    </>
  );
}

function Share({ id }: { id: string }) {
  const { actions, say } = useAround();
  const t = useWords();
  const [url, setUrl] = useState("");
  const [told, setTold] = useState("");
  const [wrong, run] = useDeed();
  const begun = useRef(false);
  useEffect(() => {
    if (begun.current) return;
    begun.current = true;
    void run(async () => setUrl(await actions.share(id)));
  });
  const tell = (sentence: string) => {
    setTold(sentence);
    say(sentence);
  };
  return (
    <div className="form">
      {url && (
        <>
          <p>{t("shared")}</p>
          <input
            readOnly
            dir="ltr"
            value={url}
            aria-label={t("share")}
            onFocus={(event) => event.currentTarget.select()}
          />
          <div className="row wrap">
            <button
              type="button"
              className="tag"
              onClick={() => void navigator.clipboard?.writeText(url).then(() => tell(t("copied")))}
            >
              {t("copyLink")}
            </button>
            <button
              type="button"
              className="tag"
              onClick={() =>
                void run(async () => {
                  await actions.unshare(id);
                  setUrl("");
                  tell(t("unshared"));
                })
              }
            >
              {t("unshare")}
            </button>
          </div>
        </>
      )}
      {wrong && <p className="wrong">{wrong}</p>}
      {told && <p className="fine">{told}</p>}
    </div>
  );
}
