/** What comes from other tabs and from the page around the widget. */

import { newTurn } from "./history";
import { load } from "./loading";
import type { ChatStore } from "./store";
import type { Word } from "./tabs";

const SLEPT = 60_000;

export function hear(chat: ChatStore, word: Word): void {
  const { book } = chat;
  if (word.kind === "visitor") {
    chat.visit.forget();
  } else if (!chat.beginning) {
    return; // what is kept will tell
  } else if (word.kind === "asked") {
    heardAsked(chat, word);
  } else if (word.kind === "rated") {
    const entry = book.get(word.turn);
    if (entry) entry.turn = { ...entry.turn, rating: word.rating };
    chat.draw();
  } else if (word.kind === "removed") {
    if (word.id === book.conversation) chat.forgetConversation();
    chat.refreshList();
  } else if (chat.options.mode === "bubble" && word.id !== book.conversation && !chat.busy()) {
    chat.show(word.id);
  }
}

function heardAsked(chat: ChatStore, { conversation, turn, parent, question, asked }: Word & { kind: "asked" }): void {
  const { book } = chat;
  const blank = !book.conversation && !book.shown().length;
  if (conversation !== book.conversation && !blank) return void chat.refreshList();
  if (blank) {
    book.conversation = conversation;
    if (parent) return void load(chat);
  }
  if (book.get(turn)) return;
  const follows = book.tip === parent;
  const entry = book.add(newTurn({ id: turn, parent, question, asked, state: "waiting" }));
  if (follows || parent === null || book.get(parent)) book.tip = turn;
  chat.draw();
  chat.asker.follow(entry);
}

/** Call what it returns to hear no more. */
export function watchPage(chat: ChatStore): () => void {
  const undo: (() => void)[] = [];
  let hiddenAt = 0;
  const on = (target: EventTarget, name: string, deed: () => void) => {
    target.addEventListener(name, deed);
    undo.push(() => target.removeEventListener(name, deed));
  };
  on(window, "online", () => chat.transport.again());
  on(window, "offline", () => chat.transport.lose());
  on(window, "pagehide", () => chat.keep());
  on(document, "visibilitychange", () => {
    if (document.hidden) {
      hiddenAt = performance.now();
      chat.keep();
    } else if (chat.getState().connection === "offline" || (chat.busy() && performance.now() - hiddenAt > SLEPT)) {
      chat.transport.again(); // it may have slept
    }
  });
  return () => {
    for (const each of undo) each();
  };
}
