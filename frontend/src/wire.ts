/** What travels between Parley and the widget: the frames of docs/websocket.md and the bodies of docs/api.md. */

import type { Attachment, Source } from "./types";

export interface WireSource extends Source {
  chunk: string;
  score: number;
}

/** An error's body, the same over HTTP, SSE and WebSocket. */
export interface WireProblem {
  code: string;
  message: string;
  request_id?: string;
  retry_after?: number;
  turn?: string;
  fields?: Record<string, string>;
}

interface Placed {
  id: string; // the cursor: epoch-seq
  turn: string;
  client_id?: string;
}

/** An event of a turn. After `turn.finished` and `error` nothing follows. */
export type TurnFrame = Placed &
  (
    | { type: "turn.started"; conversation: string | null; question: string }
    | { type: "sources"; sources: WireSource[] }
    | { type: "queued"; position: number; wait: number | null; waking?: string }
    | { type: "token"; text: string }
    | { type: "restarted"; epoch: number; after: number; reset: boolean }
    | {
        type: "turn.finished";
        state: "finished" | "stopped";
        finish_reason: "stop" | "length" | "stopped" | "sources_only" | "nothing_found";
        answer: string;
        text: string;
        citations: WireSource[];
      }
    | ({ type: "error" } & WireProblem)
  );

/** What comes about the connection or a frame that was sent, and belongs to no place in a turn. */
export type OtherFrame =
  | { type: "ready"; tenant: string }
  | { type: "limits" }
  | { type: "reconnect"; delay: number }
  | ({ type: "error"; id?: undefined; client_id?: string } & WireProblem);

export type Frame = TurnFrame | OtherFrame;

export interface Ask {
  type: "ask";
  text: string;
  client_id: string;
  conversation?: string;
  assistant?: string;
  parent?: string;
  edits?: string;
  attachments?: string[];
}

export interface Again {
  type: "regenerate" | "continue";
  turn: string;
  client_id: string;
}

export type Question = Ask | Again;

export type Outgoing = Question | { type: "stop"; turn: string } | { type: "resume"; turn: string; after?: string };

export function isTurnFrame(frame: Frame): frame is TurnFrame {
  return typeof (frame as Placed).id === "string";
}

/** A frame, or null for what is none. Types that are not known pass: whoever reads ignores them. */
export function parseFrame(text: unknown): Frame | null {
  if (typeof text !== "string") return null;
  try {
    const frame = JSON.parse(text);
    return frame && typeof frame.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

export interface WireMessage {
  id: string;
  role: "user" | "assistant";
  text: string;
  attachments: Attachment[];
  citations: WireSource[];
  created: string;
  turns: string[];
  parent: string | null;
  rating?: "up" | "down" | null;
}

export interface WireAttachment extends Attachment {
  cut: boolean;
}

export interface WireTurn {
  id: string;
  state: "queued" | "running" | "finished" | "stopped" | "interrupted" | "failed";
  finish_reason: "stop" | "length" | "stopped" | "sources_only" | "nothing_found" | "" | null;
  answer: { id: string } | null;
  text: string;
  citations: WireSource[];
  sources: WireSource[];
  error: WireProblem | null;
}

export interface WireConversation {
  id: string;
  title: string;
  active_at: string;
}

export interface WirePage<Row> {
  next: string | null;
  results: Row[];
}
