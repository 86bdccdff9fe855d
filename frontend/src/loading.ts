/** Reads the open conversation from Parley, beside what this page knows better. */

import type { Entry } from "./book";
import { readHistory, readTurn } from "./history";
import { isOver, isRunning } from "./journal";
import type { KeptTurn } from "./keeping";
import { Refusal } from "./problems";
import type { ChatStore } from "./store";

/** kept: what a reload has left. */
export async function load(chat: ChatStore, kept: KeptTurn[] = []): Promise<void> {
  const { book } = chat;
  const id = book.conversation;
  if (!id) return;
  try {
    const turns = await readHistory(chat.api, id);
    if (book.conversation !== id) return;
    const asked = book.unsent().concat(book.unconfirmed());
    book.open(id, turns);
    book.restore(kept);
    for (const entry of asked) book.place(entry, entry.turn.parent);
    const shown = book.shown().map(({ id: turn }) => book.get(turn)!);
    // How the last one ended is not said by its messages, nor anything of one without an answer.
    await chat.reread(
      shown.filter((entry, at) => entry.unread || (at === shown.length - 1 && !entry.pending && isOver(entry.turn))),
    );
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) chat.forgetConversation();
  }
  chat.draw();
}

export async function reread(chat: ChatStore, entries: Entry[]): Promise<void> {
  for (const entry of entries) {
    try {
      entry.turn = { ...(await readTurn(chat.api, entry.turn)), rating: entry.turn.rating };
      entry.unread = false;
      if (isRunning(entry.turn)) chat.asker.follow(entry);
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) {
        entry.unread = false;
        entry.turn = { ...entry.turn, state: "failed", problem: error.problem };
      }
    }
  }
}
