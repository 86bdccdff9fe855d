/** A turn as its events tell it: any cut, repetition and takeover on the way gives what the uninterrupted stream gives. */

import { problemOf } from "./problems";
import type { Turn } from "./types";
import type { TurnFrame } from "./wire";

/** Where a reader stands in a turn's journal, and what it takes to go back. Changed in place, as tokens come often. */
export interface Log {
  cursor: string; // "" before the first event
  epoch: number;
  seq: number;
  anew: boolean; // after a reset what follows may repeat the cursor until the end (apps/conversations/stored.py)
  floor: number; // sequence number up to which the answer was restored whole, without its pieces
  floorLength: number;
  seqs: number[]; // of the pieces beyond the floor, and how long the answer was after each
  lengths: number[];
  sourcesAt: number;
}

export function newLog(): Log {
  return {
    cursor: "",
    epoch: 0,
    seq: 0,
    anew: false,
    floor: 0,
    floorLength: 0,
    seqs: [],
    lengths: [],
    sourcesAt: 0,
  };
}

/** A log of which only the cursor and the answer up to it were kept, over a reload. */
export function restoredLog(cursor: string, answer: string): Log {
  const [epoch = 0, seq = 0] = cursor.split("-").map(Number);
  return { ...newLog(), cursor, epoch, seq, floor: seq, floorLength: answer.length };
}

export function isOver(turn: Turn): boolean {
  return turn.state === "finished" || turn.state === "stopped" || turn.state === "failed";
}

export function isRunning(turn: Turn): boolean {
  return turn.state === "waiting" || turn.state === "queued" || turn.state === "answering";
}

function opens(frame: TurnFrame): boolean {
  return frame.type === "turn.started" || frame.type === "turn.finished" || (frame.type === "restarted" && frame.reset);
}

/** The turn after one more event: the same object where the event was seen before, null where only a resume from the
 * very beginning can tell what is left. */
export function take(turn: Turn, log: Log, frame: TurnFrame): Turn | null {
  if (isOver(turn)) return turn;
  const [epoch = 0, seq = 0] = frame.id.split("-").map(Number);
  const restarts = frame.type === "restarted";
  const beyond = epoch > log.epoch || (epoch === log.epoch && seq > log.seq);
  const repeated = epoch === log.epoch && seq === log.seq;
  if (!beyond && !(repeated && (log.anew || (restarts && frame.reset)))) return turn;
  // What is read from its beginning begins so: anything else is a rest of an earlier reading.
  if (!log.cursor && !opens(frame)) return turn;
  if (restarts && !frame.reset && frame.after < log.floor) return null;
  Object.assign(log, { cursor: frame.id, epoch, seq });
  if (beyond && !restarts) log.anew = false;
  return changed(turn, log, frame, seq);
}

function changed(turn: Turn, log: Log, frame: TurnFrame, seq: number): Turn {
  switch (frame.type) {
    case "turn.started":
      return { ...turn, id: frame.turn, state: turn.answer ? "answering" : "waiting", queue: null };
    case "sources":
      log.sourcesAt = seq;
      return { ...turn, sources: frame.sources };
    case "queued":
      return {
        ...turn,
        state: "queued",
        queue: { position: frame.position, wait: frame.wait, waking: frame.waking ?? "" },
      };
    case "token": {
      const answer = turn.answer + frame.text;
      log.seqs.push(seq);
      log.lengths.push(answer.length);
      return { ...turn, state: "answering", queue: null, answer };
    }
    case "restarted":
      return frame.reset ? emptied(turn, log) : rewound(turn, log, frame.after);
    case "turn.finished":
      return {
        ...turn,
        state: frame.state,
        queue: null,
        finishReason: frame.finish_reason,
        answer: frame.text,
        answerId: frame.answer || null,
        citations: frame.citations,
      };
    case "error":
      return { ...turn, state: "failed", queue: null, problem: problemOf(frame) };
    default:
      return turn; // a type that is not known yet
  }
}

function emptied(turn: Turn, log: Log): Turn {
  Object.assign(log, { anew: true, floor: 0, floorLength: 0, seqs: [], lengths: [], sourcesAt: 0 });
  return { ...turn, state: "waiting", queue: null, answer: "", sources: [] };
}

function rewound(turn: Turn, log: Log, after: number): Turn {
  log.anew = false;
  while (log.seqs.length && log.seqs[log.seqs.length - 1]! > after) {
    log.seqs.pop();
    log.lengths.pop();
  }
  const answer = turn.answer.slice(0, log.lengths[log.lengths.length - 1] ?? log.floorLength);
  const sources = log.sourcesAt > after ? [] : turn.sources;
  return { ...turn, state: answer ? "answering" : "waiting", queue: null, answer, sources };
}
