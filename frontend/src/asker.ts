/** Gets questions to Parley exactly once and follows their answers to the end, over whatever happens to the line. */

import type { Book, Entry } from "./book";
import { isOver } from "./journal";
import { problemOf, TOO_LONG, UNCERTAIN } from "./problems";
import type { Transport } from "./transport";
import type { Problem } from "./types";
import { type Frame, isTurnFrame, type TurnFrame, type WireProblem } from "./wire";

export interface Told {
  changed(soon: boolean): void; // soon: at once, not with the next frame that is drawn
  started(entry: Entry): void;
  ended(entry: Entry): void;
  lostConversation(): void; // it is not this visitor's any more, or was deleted
  withdrawn(entry: Entry): void; // refused, and not wanted any more
  sending(): void; // about to send: keep what a reload must not lose
  reread(entries: Entry[]): void; // ask how they stand, one by one
}

const LOOK_EVERY = 5_000;
const UNCONFIRMED_FOR = 10_000;
const SILENT_FOR = 45_000; // Parley tells of a wait every few seconds; a model may think before its first word
const IDLE_FOR = 180_000;
const LARGEST = 65_000; // bytes of a frame
const AGAIN_AFTER = 1_500;
const MOST_TRIES = 40;

export class Asker {
  private heardAt = performance.now();
  private looking: ReturnType<typeof setInterval> | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private closed = false;

  constructor(
    private readonly book: Book,
    private readonly transport: Transport,
    private readonly assistant: string,
    private readonly told: Told,
  ) {}

  /** Send what may be sent: one question at a time, since a conversation answers one after the other. */
  pump(): void {
    if (this.closed) return;
    const [next] = this.book.unsent();
    const busy = this.book.running().length + this.book.unconfirmed().length > 0;
    if (next || busy) this.transport.want();
    if (!next || busy || !this.transport.isUp) return;
    const question = this.book.address(next, this.assistant)!;
    if (new TextEncoder().encode(JSON.stringify(question)).length > LARGEST) return this.fail(next, TOO_LONG);
    next.sent = this.transport.kind;
    this.told.sending();
    this.heardAt = performance.now();
    this.transport.send(question);
  }

  /** A new line: say again what is not confirmed, and go on reading where it broke off. */
  up(): void {
    this.heardAt = performance.now();
    this.looking ??= setInterval(() => this.look(), LOOK_EVERY);
    for (const entry of this.book.unconfirmed()) {
      // Parley knows a repeat by the way that it comes: over another, it would be asked twice.
      if (entry.sent === this.transport.kind) this.transport.send(entry.pending!);
      else this.fail(entry, UNCERTAIN);
    }
    for (const entry of this.book.running()) this.follow(entry);
    this.pump();
  }

  follow(entry: Entry): void {
    if (!this.transport.isUp) return this.transport.want();
    const { cursor } = entry.log;
    this.heardAt = performance.now();
    this.transport.send({ type: "resume", turn: entry.turn.id, ...(cursor && { after: cursor }) });
    if (entry.stop) this.transport.send({ type: "stop", turn: entry.turn.id });
  }

  stop(entry: Entry): void {
    entry.stop = true;
    if (!entry.pending) this.transport.send({ type: "stop", turn: entry.turn.id });
  }

  frame(frame: Frame): void {
    this.heardAt = performance.now();
    if (isTurnFrame(frame)) this.event(frame);
    else if (frame.type === "error") this.refused(frame);
  }

  close(): void {
    this.closed = true;
    clearInterval(this.looking);
    clearTimeout(this.timer);
  }

  private event(frame: TurnFrame): void {
    const entry = this.book.of(frame.turn, frame.client_id);
    if (!entry || isOver(entry.turn)) return;
    const begins = entry.pending !== null;
    const whole = this.book.take(entry, frame);
    if (frame.type === "turn.started" && frame.conversation) this.book.conversation = frame.conversation;
    if (begins) {
      this.told.started(entry);
      if (entry.stop) this.stop(entry);
    }
    if (!whole) this.follow(entry);
    if (isOver(entry.turn)) this.told.ended(entry);
    this.told.changed(begins || isOver(entry.turn));
    if (isOver(entry.turn)) this.pump();
  }

  /** No event of a turn: a frame of ours was refused, and changed nothing. */
  private refused(body: WireProblem & { client_id?: string }): void {
    if (body.code === "not_authenticated") return; // the line ends with it, and begins anew with another token
    const waiting = this.book.unconfirmed();
    const entry = body.client_id ? waiting.find(({ clientId }) => clientId === body.client_id) : waiting[0];
    if (!entry) {
      if (body.code === "not_found") this.told.reread(this.book.running());
      return;
    }
    if (entry.stop) {
      this.told.withdrawn(entry);
      return this.pump();
    }
    const { pending } = entry;
    if (body.code === "not_found" && pending?.type === "ask" && pending.conversation && entry.tries === 0) {
      entry.tries += 1;
      this.told.lostConversation();
      return this.later(entry, 0);
    }
    const passing = body.code === "turn_in_progress" || body.code === "service_unavailable" || !body.client_id;
    if (passing && entry.tries < MOST_TRIES && (body.retry_after ?? 0) <= 10) {
      entry.tries += 1;
      return this.later(entry, body.retry_after ? body.retry_after * 1000 : AGAIN_AFTER);
    }
    this.fail(entry, problemOf(body));
  }

  /** A refusal leaves nothing behind, so the question is free to be asked at another place. */
  private later(entry: Entry, milliseconds: number): void {
    entry.sent = null;
    const { pending } = entry;
    if (pending?.type === "ask") {
      const { conversation: _, assistant: __, parent: ___, ...words } = pending;
      entry.pending = words;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.pump(), milliseconds);
  }

  private fail(entry: Entry, problem: Problem): void {
    entry.turn = { ...entry.turn, state: "failed", problem };
    entry.sent = null;
    this.told.ended(entry);
    this.told.changed(true);
    this.pump();
  }

  /** A line may be dead without knowing, as after a sleep; and one that nobody needs is given back. */
  private look(): void {
    const silent = performance.now() - this.heardAt;
    if (this.book.unconfirmed().length) {
      if (silent > UNCONFIRMED_FOR) this.transport.again();
    } else if (this.book.running().length) {
      if (silent > SILENT_FOR) this.transport.again();
    } else if (silent > IDLE_FOR && !this.book.unsent().length) {
      clearInterval(this.looking);
      this.looking = undefined;
      this.transport.rest();
    }
  }
}
