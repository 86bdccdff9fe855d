/** A way to talk with Parley: a socket, or requests that answer with event streams where sockets are blocked. */

import type { Frame, Outgoing } from "./wire";

export type Loss =
  | { why: "lost" }
  | { why: "blocked" } // it never came up
  | { why: "unauthenticated" }
  | { why: "suspended" }
  | { why: "crowded" };

export interface Heard {
  up(): void;
  frame(frame: Frame): void;
  down(loss: Loss): void; // once, and nothing after it
}

export interface Line {
  readonly kind: "socket" | "streams";
  send(frame: Outgoing): void;
  authenticate(token: string): void; // the next token of the same visitor
  close(): void; // quietly: `down` is not called
}
