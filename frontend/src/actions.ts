/** What can be done: types.ts' Actions, each a few words to the store. */

import { isOver } from "./journal";
import { files } from "./parts/parts";
import type { ChatStore } from "./store";
import type { Actions, State } from "./types";

export function actionsOf(chat: ChatStore): Actions {
  const json = <Body>(method: string, path: string, body?: unknown) =>
    chat.api.json<Body>(method, path, body === undefined ? {} : { body });
  return {
    open: () => {
      chat.begin();
      if (chat.getState().open) return;
      chat.set({ open: true });
      chat.keep();
      chat.onEvent("open", undefined);
    },
    close: () => {
      if (!chat.getState().open) return;
      chat.set({ open: false });
      chat.keep();
      chat.onEvent("close", undefined);
    },
    ask: (text) => {
      const words = text.trim();
      if (!words) return;
      chat.askWith(() => {
        // What the page asks waits like a draft until the visitor has agreed.
        if (!chat.getState().consented) {
          chat.setDraft(words);
          return null;
        }
        if (chat.getState().draft.trim() === words) chat.setDraft("");
        chat.keepDraft();
        const attached = chat.getState().uploads.filter(({ id }) => id);
        chat.set({ uploads: [] });
        return chat.book.ask(words, attached);
      });
    },
    stop: () => chat.stop(),
    regenerate: (id) => {
      const turn = chat.turnOf(id);
      if (turn && isOver(turn) && chat.book.isKnown(id)) chat.askWith(() => chat.book.again("regenerate", turn));
    },
    resume: (id) => {
      const turn = chat.turnOf(id);
      if (turn && isOver(turn) && chat.book.isKnown(id)) chat.askWith(() => chat.book.again("continue", turn));
    },
    edit: (id, text) => {
      const turn = chat.turnOf(id);
      if (turn && text.trim()) chat.askWith(() => chat.book.ask(text.trim(), turn.attachments, turn));
    },
    choose: (id) => {
      chat.book.choose(id);
      chat.draw();
      chat.reread(
        chat.book
          .shown()
          .flatMap((turn) => chat.book.get(turn.id) ?? [])
          .filter(({ unread }) => unread),
      );
    },
    retry: (id) => chat.retry(id),
    rate: async (id, rating, reasons, comment) => {
      const turn = chat.turnOf(id);
      if (!turn?.answerId) return;
      const path = `messages/${turn.answerId}/feedback`;
      if (rating) await json("POST", path, { rating, reasons, comment: comment.trim().slice(0, 2000) });
      else await json("DELETE", path);
      const entry = chat.book.get(id);
      if (entry) entry.turn = { ...entry.turn, rating };
      chat.draw();
      chat.tabs.tell({ kind: "rated", turn: id, rating });
    },
    setDraft: (text) => {
      chat.setDraft(text);
      if (text && chat.beginning && chat.getState().consented) chat.transport.want(); // it will be needed soon
    },
    attach: (list) => void files.bring().then(({ attach }) => attach(chat, list)),
    detach: (key) => void files.bring().then(({ detach }) => detach(chat, key)),
    consent: () => {
      chat.keeping.consent = chat.getState().settings?.consent?.text ?? null;
      chat.set({ consented: true });
    },
    handOff: async (email, note) => {
      const { conversation } = chat.book;
      if (conversation) await json("POST", `conversations/${conversation}/handoff`, { email, note });
    },
    newConversation: () => {
      chat.show(null);
      chat.tabs.tell({ kind: "conversation", id: null });
    },
    openConversation: (id) => {
      chat.show(id);
      chat.tabs.tell({ kind: "conversation", id });
    },
    findConversations: (words) => {
      chat.words = words;
      chat.refreshList();
    },
    rename: async (id, title) => {
      await json("PATCH", `conversations/${id}`, { title });
      const renamed = (each: State["conversations"][number]) => (each.id === id ? { ...each, title } : each);
      chat.set({ conversations: chat.getState().conversations.map(renamed) });
    },
    remove: async (id) => {
      await json("DELETE", `conversations/${id}`);
      chat.set({ conversations: chat.getState().conversations.filter((each) => each.id !== id) });
      if (id === chat.book.conversation) chat.show(null);
      chat.tabs.tell({ kind: "removed", id });
    },
    share: async (id) => (await json<{ url: string }>("POST", `conversations/${id}/share`)).url,
    unshare: (id) => json("DELETE", `conversations/${id}/share`),
  };
}
