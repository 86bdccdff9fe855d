/** The conversation that is open: its turns, which of them are shown, and what Parley has not confirmed yet. */

import { newTurn } from "./history";
import { isOver, isRunning, type Log, newLog, restoredLog, take } from "./journal";
import type { KeptTurn } from "./keeping";
import type { Line } from "./line";
import { uuid } from "./timing";
import { branch, latestThrough } from "./tree";
import type { Attachment, Turn } from "./types";
import type { Ask, Question, TurnFrame } from "./wire";

export interface Entry {
  turn: Turn;
  log: Log;
  clientId: string; // "" where somebody else asked, or before this page was loaded
  pending: Question | null; // until Parley confirms it
  sent: Line["kind"] | null; // by what it went out and may have arrived: sent again it has to be the same
  stop: boolean; // as soon as it is known by name
  tries: number;
  unread: boolean; // how it ended is not known yet
}

type Asked = Pick<Turn, "question" | "attachments" | "parent">;

const named = (files: Attachment[]) => (files.length ? { attachments: files.map(({ id }) => id) } : {});

export class Book {
  conversation: string | null = null;
  tip: string | null = null;
  private entries = new Map<string, Entry>();

  open(conversation: string | null, turns: Map<string, Turn> = new Map()): void {
    this.conversation = conversation;
    this.entries = new Map();
    for (const turn of turns.values()) this.add(turn, { unread: turn.state === "waiting" });
    this.tip = [...turns.keys()].pop() ?? null;
  }

  add(turn: Turn, more: Partial<Entry> = {}): Entry {
    const entry = {
      turn,
      log: newLog(),
      clientId: "",
      pending: null,
      sent: null,
      stop: false,
      tries: 0,
      unread: false,
    };
    const placed = { ...entry, ...more };
    this.entries.set(turn.id, placed);
    return placed;
  }

  /** Of a conversation that is gone, only what waits to be asked. */
  clear(): void {
    const waiting = [...this.unconfirmed(), ...this.unsent()];
    this.open(null);
    for (const entry of waiting) this.place(entry, null);
  }

  /** An entry that was made before, under another parent. */
  place(entry: Entry, parent: string | null): void {
    entry.turn = { ...entry.turn, parent };
    this.entries.set(entry.turn.id, entry);
    this.tip = entry.turn.id;
  }

  get(id: string | null): Entry | undefined {
    return id === null ? undefined : this.entries.get(id);
  }

  all(): Entry[] {
    return [...this.entries.values()];
  }

  turns(): Map<string, Turn> {
    return new Map(this.all().map(({ turn }) => [turn.id, turn]));
  }

  shown(): Turn[] {
    return branch(this.turns(), this.tip);
  }

  choose(id: string): void {
    if (this.entries.has(id)) this.tip = latestThrough(this.turns(), id);
  }

  /** A question in words: the next one, or one that stands instead of another turn's. */
  ask(text: string, attachments: Attachment[] = [], instead?: Turn): Entry {
    const pending: Ask = { type: "ask", text, client_id: uuid(), ...named(attachments) };
    if (instead && this.isKnown(instead.id)) pending.edits = instead.id;
    return this.begin(pending, { question: text, attachments, parent: instead ? instead.parent : this.tip });
  }

  /** A turn's question once more, or more of its answer. */
  again(type: "regenerate" | "continue", turn: Turn): Entry {
    return this.begin({ type, turn: turn.id, client_id: uuid() }, turn);
  }

  private begin(pending: Question, { question, attachments, parent }: Asked): Entry {
    const clientId = pending.client_id;
    const entry = this.add(newTurn({ id: clientId, question, attachments, parent }), { clientId, pending });
    this.tip = clientId;
    return entry;
  }

  /** Ask what was refused before it began: another attempt is another question. */
  askAgain(entry: Entry): void {
    const clientId = uuid();
    const { pending } = entry;
    const old = entry.turn.id;
    const words: Question = pending
      ? { ...pending, client_id: clientId }
      : { type: "ask", text: entry.turn.question, client_id: clientId, ...named(entry.turn.attachments) };
    if (words.type === "ask") {
      delete words.conversation;
      delete words.assistant;
      delete words.parent;
    }
    Object.assign(entry, { pending: words, clientId, sent: null, stop: false, tries: 0 });
    entry.turn = { ...entry.turn, state: "sending", problem: null };
    if (old !== clientId) this.rename(entry, clientId);
  }

  /** The question as it is sent, for good: where it stands is known by now. */
  address(entry: Entry, assistant: string): Question | null {
    const { pending } = entry;
    if (pending?.type !== "ask" || entry.sent) return pending;
    const where = this.conversation ? { conversation: this.conversation } : { assistant };
    const parent = this.knownAncestor(entry.turn);
    entry.pending = { ...pending, ...where, ...(parent && !pending.edits && { parent }) };
    return entry.pending;
  }

  remove(entry: Entry): void {
    this.entries.delete(entry.turn.id);
    for (const other of this.entries.values()) {
      if (other.turn.parent === entry.turn.id) other.turn = { ...other.turn, parent: entry.turn.parent };
    }
    if (this.tip === entry.turn.id) this.tip = entry.turn.parent;
  }

  /** Parley knows the turn: it has told its name. */
  isKnown(id: string): boolean {
    const entry = this.entries.get(id);
    return entry !== undefined && entry.clientId !== id;
  }

  private knownAncestor(turn: Turn): string | null {
    for (let at = turn.parent; at !== null; at = this.entries.get(at)?.turn.parent ?? null) {
      if (this.isKnown(at)) return at;
    }
    return null;
  }

  of(turn: string, clientId: string | undefined): Entry | undefined {
    return this.entries.get(turn) ?? (clientId ? this.all().find((entry) => entry.clientId === clientId) : undefined);
  }

  /** One more event of a turn. False: it has to be told from its beginning. */
  take(entry: Entry, frame: TurnFrame): boolean {
    if (entry.turn.id !== frame.turn) this.rename(entry, frame.turn);
    entry.pending = null;
    const turn = take(entry.turn, entry.log, frame);
    if (!turn) {
      this.restart(entry);
      return false;
    }
    entry.turn = turn;
    return true;
  }

  restart(entry: Entry): void {
    entry.log = newLog();
    entry.turn = { ...entry.turn, state: "waiting", answer: "", sources: [], queue: null };
  }

  private rename(entry: Entry, id: string): void {
    const old = entry.turn.id;
    entry.turn = { ...entry.turn, id };
    // In its place: the order is that of asking.
    this.entries = new Map(this.all().map((each) => [each.turn.id, each]));
    if (this.tip === old) this.tip = id;
    for (const other of this.entries.values()) {
      if (other.turn.parent === old) other.turn = { ...other.turn, parent: id };
    }
  }

  unconfirmed(): Entry[] {
    return this.all().filter(({ pending, sent, turn }) => pending && sent && !isOver(turn));
  }

  unsent(): Entry[] {
    return this.all().filter(({ pending, sent, turn }) => pending && !sent && !isOver(turn));
  }

  running(): Entry[] {
    return this.all().filter(({ turn, unread }) => isRunning(turn) && !unread);
  }

  /** What a reload must not lose. */
  kept(): KeptTurn[] {
    const kept = (entry: Entry): KeptTurn => {
      const { id, parent, question, attachments, asked, answer, sources } = entry.turn;
      const { cursor } = entry.log;
      const place = { id, parent, question, attachments, asked };
      return entry.pending
        ? { ...place, pending: entry.pending, sent: entry.sent }
        : { ...place, cursor, answer, sources };
    };
    return [...this.unconfirmed(), ...this.unsent(), ...this.running()].map(kept);
  }

  restore(kept: KeptTurn[]): void {
    for (const { pending, sent, cursor, answer = "", sources = [], ...asked } of kept) {
      const { id, parent, question } = asked;
      if (pending) {
        this.add(newTurn(asked), {
          clientId: pending.client_id,
          pending,
          sent: sent ?? null,
        });
        this.tip = id;
      } else if (!isOver(this.entries.get(id)?.turn ?? newTurn({ id, question }))) {
        const state = answer ? "answering" : "waiting";
        const turn = newTurn({ ...asked, answer, sources, state });
        this.add(turn, { log: cursor ? restoredLog(cursor, answer) : newLog() });
        if (this.tip === null || this.tip === parent) this.tip = id;
      }
    }
  }
}
