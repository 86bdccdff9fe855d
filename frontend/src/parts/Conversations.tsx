/** The reader's conversations, on the hosted page. */
import { useState } from "react";
import type { State } from "../types";
import { ConversationRow } from "./ConversationRow";
import { NARROW, useAround, useMedia, useWords } from "./context";
import { Drawing, Icon } from "./Icon";

export function Conversations({ state, onChosen }: { state: State; onChosen: () => void }) {
  const { actions, speech } = useAround();
  const t = useWords();
  const [words, setWords] = useState("");
  // As a drawer it lies above the conversation, which rests meanwhile.
  const drawer = useMedia(NARROW);
  const Place = drawer ? "div" : "nav";
  const now = Date.now();
  let day = "";
  return (
    <Place
      className="aside"
      aria-label={t("conversations")}
      role={drawer ? "dialog" : undefined}
      aria-modal={drawer || undefined}
    >
      <button
        type="button"
        className="plain new"
        onClick={() => {
          actions.newConversation();
          onChosen();
        }}
      >
        <Icon name="plus" />
        {t("newConversation")}
      </button>
      <div className="find">
        <Drawing name="search" path="M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14Zm5-2 4 4" />
        <input
          type="search"
          dir="auto"
          value={words}
          aria-label={t("findConversations")}
          placeholder={t("findConversations")}
          onInput={(event) => {
            setWords(event.currentTarget.value);
            actions.findConversations(event.currentTarget.value);
          }}
        />
      </div>
      {!state.conversations.length && <p className="fine none">{t(words ? "notFound" : "noConversations")}</p>}
      <ul className="conversations">
        {state.conversations.map((conversation) => {
          const its = speech.day(conversation.activeAt, now);
          const begins = its !== day;
          day = its;
          return (
            <ConversationRow
              key={conversation.id}
              conversation={conversation}
              day={begins ? its : ""}
              current={conversation.id === state.conversation}
              onChosen={onChosen}
            />
          );
        })}
      </ul>
    </Place>
  );
}
