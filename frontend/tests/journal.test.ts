// @vitest-environment node
/** Any cut, repetition and takeover on the way gives the text of the uninterrupted stream. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { newTurn } from "../src/history";
import { isOver, newLog, restoredLog, take } from "../src/journal";
import type { Turn } from "../src/types";
import type { TurnFrame } from "../src/wire";

interface Server {
  events: TurnFrame[];
  epoch: number;
  seq: number;
}

const at = (id: string) => id.split("-").map(Number) as [number, number];

function emit(server: Server, fields: object): void {
  server.seq += 1;
  server.events.push({ id: `${server.epoch}-${server.seq}`, turn: "t", ...fields } as TurnFrame);
}

function after(server: Server, cursor: string): TurnFrame[] {
  const [epoch, seq] = at(cursor || "0-0");
  return server.events.filter(({ id }) => at(id)[0] > epoch || (at(id)[0] === epoch && at(id)[1] > seq));
}

function text(server: Server): string {
  return server.events.map((event) => (event.type === "token" ? event.text : "")).join("");
}

/** What happens between two readings: words, a wait, a takeover that forgets some events, a cut of the reader's line, a
 * page that is loaded anew, or a repetition of what was read. */
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("say"), texts: fc.array(fc.string({ maxLength: 4 }), { maxLength: 4 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("queue") }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("takeover"), lost: fc.nat(5) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("read"), most: fc.nat(6) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("repeat"), back: fc.nat(8) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("reload") }) },
);
type Step = { kind: string; texts?: string[]; lost?: number; most?: number; back?: number };

class Reader {
  turn: Turn = newTurn({ id: "t", question: "?", state: "waiting" });
  log = newLog();

  hear(frames: TurnFrame[]): void {
    for (const frame of frames) {
      const next = take(this.turn, this.log, frame);
      if (next) this.turn = next;
      else {
        this.turn = { ...this.turn, answer: "", sources: [], state: "waiting" };
        this.log = newLog();
      }
    }
  }

  reload(): void {
    const { answer, sources } = this.turn;
    this.log = this.log.cursor ? restoredLog(this.log.cursor, answer) : newLog();
    this.turn = newTurn({ id: "t", question: "?", state: "waiting", answer, sources });
  }
}

function play(steps: Step[], end: object): [Reader, Server] {
  const server: Server = { events: [], epoch: 1, seq: 0 };
  const reader = new Reader();
  emit(server, { type: "turn.started", conversation: "c", question: "q" });
  emit(server, { type: "sources", sources: [{ n: 1 }] });
  for (const { kind, texts = [], lost = 0, most = 0, back = 0 } of steps) {
    if (kind === "say") for (const said of texts) emit(server, { type: "token", text: said });
    else if (kind === "queue") emit(server, { type: "queued", position: 1, wait: null });
    else if (kind === "takeover") {
      // The new process counts on from what it knows of.
      server.events = server.events.slice(0, Math.max(2, server.events.length - lost));
      server.epoch += 1;
      server.seq = at(server.events.at(-1)!.id)[1];
      emit(server, { type: "restarted", epoch: server.epoch, after: server.seq, reset: false });
    } else if (kind === "read") reader.hear(after(server, reader.log.cursor).slice(0, most));
    else if (kind === "reload") reader.reload();
    else
      reader.hear(
        after(server, "")
          .slice(-back - 1)
          .filter(({ id }) => precedes(id, reader.log.cursor)),
      );
  }
  emit(server, end);
  // As the store does: from where the reader stands, and from the beginning where it stands nowhere any more.
  for (let tries = 0; tries < 3 && !isOver(reader.turn); tries += 1) reader.hear(after(server, reader.log.cursor));
  return [reader, server];
}

function precedes(id: string, cursor: string): boolean {
  const [epoch, seq] = at(id);
  const [atEpoch, atSeq] = at(cursor || "0-0");
  return epoch < atEpoch || (epoch === atEpoch && seq <= atSeq);
}

describe("the reducer", () => {
  test("ends with the text of the uninterrupted stream, though the last event brings none", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const [reader, server] = play(steps as Step[], {
          type: "error",
          code: "model_failed",
          message: "It broke off.",
        });
        expect(reader.turn.state).toBe("failed");
        expect(reader.turn.answer).toBe(text(server));
        expect(reader.turn.sources).toEqual([{ n: 1 }]);
      }),
      { numRuns: 3000 },
    );
  });

  test("takes the stored text where it differs from the joined words", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), fc.string(), (steps, stored) => {
        const end = {
          type: "turn.finished",
          state: "finished",
          finish_reason: "stop",
          answer: "a",
          text: stored,
          citations: [],
        };
        const [reader] = play(steps as Step[], end);
        expect(reader.turn).toMatchObject({ state: "finished", answer: stored, answerId: "a", queue: null });
      }),
      { numRuns: 500 },
    );
  });

  test("an answer told from the store begins anew, as often as it is cut off", () => {
    const place = { id: "1-7", turn: "t" } as const;
    const told: TurnFrame[] = [
      { ...place, type: "restarted", epoch: 1, after: 0, reset: true },
      { ...place, type: "turn.started", conversation: "c", question: "q" },
      { ...place, type: "sources", sources: [] },
      { ...place, type: "token", text: "whole" },
      { ...place, id: "1-40", type: "error", code: "model_failed", message: "It broke off." },
    ];
    fc.assert(
      fc.property(fc.array(fc.nat(4), { maxLength: 5 }), (cuts) => {
        const reader = new Reader();
        reader.turn = { ...reader.turn, answer: "half", state: "answering" };
        reader.log = restoredLog("1-7", "half");
        for (const cut of cuts) reader.hear(told.slice(0, cut));
        reader.hear(told);
        expect(reader.turn).toMatchObject({ state: "failed", answer: "whole" });
      }),
    );
  });

  test("after the end nothing follows", () => {
    const reader = new Reader();
    reader.hear([
      { id: "1-1", turn: "t", type: "turn.started", conversation: "c", question: "q" },
      { id: "1-2", turn: "t", type: "error", code: "model_failed", message: "It broke off." },
      { id: "1-3", turn: "t", type: "token", text: "late" },
    ]);
    expect(reader.turn.answer).toBe("");
  });

  test("a type of tomorrow is passed over", () => {
    const reader = new Reader();
    reader.hear([
      { id: "1-1", turn: "t", type: "turn.started", conversation: "c", question: "q" },
      { id: "1-2", turn: "t", type: "mood", mood: "good" } as unknown as TurnFrame,
      { id: "1-3", turn: "t", type: "token", text: "word" },
    ]);
    expect(reader.turn.answer).toBe("word");
  });
});
