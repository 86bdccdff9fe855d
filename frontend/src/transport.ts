/** Keeps a line to Parley while one is wanted: over a socket, or over event streams where sockets do not come up. */

import type { Api } from "./api";
import { later } from "./later";
import type { Line, Loss } from "./line";
import { complain, REFUSED, Refusal, SUSPENDED, UNREACHABLE } from "./problems";
import { openSocket } from "./socket";
import { backoff } from "./timing";
import type { Problem, State } from "./types";
import type { Visit } from "./visit";
import type { Frame, Outgoing } from "./wire";

/** Most networks let sockets through. */
const streams = later("streams", () => import("./streams"));

export interface Listener {
  up(): void; // a line: what is not confirmed is to be sent again, what runs to be resumed
  frame(frame: Frame): void;
  connection(state: State["connection"], problem: Problem | null): void;
}

const BLOCKED_BEFORE_STREAMS = 2;
const CROWDED_FOR = 60_000;
const REFUSED_FOR = 60_000;

export class Transport {
  private line: Line | null = null; // that frames go out on
  private opening: Line | null = null;
  private wanted = false;
  private connecting = false;
  private attempt = 0;
  private blocked = 0;
  private unauthenticated = 0;
  private socketWorked = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private leaving = false; // Parley's process ends: what is new waits for the next line
  private generation = 0;

  constructor(
    private readonly api: Api,
    private readonly visit: Visit,
    private readonly listener: Listener,
  ) {}

  get isUp(): boolean {
    return this.line !== null && !this.leaving;
  }

  get kind(): Line["kind"] | null {
    return this.line?.kind ?? null;
  }

  /** Something is to be said or heard. */
  want(): void {
    this.wanted = true;
    if (!this.line && !this.connecting && this.timer === undefined) this.connect();
  }

  send(frame: Outgoing): void {
    this.line?.send(frame);
  }

  authenticate(token: string): void {
    this.line?.authenticate(token);
  }

  /** Nothing more is expected; the next want() connects again. */
  rest(): void {
    this.wanted = false;
    this.drop();
    this.listener.connection("idle", null);
  }

  /** The network or the tab came back, or the line is silent: what was to wait shall not. */
  again(): void {
    if (!this.wanted) return;
    this.drop();
    this.attempt = 0;
    this.connect();
  }

  /** The network went: nothing to wait for but its return, or the next attempt. */
  lose(): void {
    if (!this.wanted) return;
    this.drop();
    this.later({ why: "lost" });
  }

  private drop(): void {
    this.generation += 1;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.connecting = false;
    this.leaving = false;
    this.line?.close();
    this.opening?.close();
    this.line = this.opening = null;
  }

  private async connect(): Promise<void> {
    const generation = ++this.generation;
    this.timer = undefined;
    this.connecting = true;
    if (!this.line) this.listener.connection("connecting", null);
    let token: string;
    try {
      token = await this.visit.enter();
    } catch (error) {
      if (generation !== this.generation) return;
      this.connecting = false;
      return this.refused(error);
    }
    const blocked = this.blocked >= BLOCKED_BEFORE_STREAMS;
    const openStreams = blocked && (await streams.bring().catch(() => null))?.openStreams;
    if (generation !== this.generation) return;
    const heard = {
      up: () => this.came(opened),
      frame: (frame: Frame) => this.hear(opened, frame),
      down: (loss: Loss) => this.fell(opened, loss),
    };
    const opened: Line = openStreams ? openStreams(this.api, heard) : openSocket(this.api.base, token, heard);
    this.opening = opened;
  }

  private came(line: Line): void {
    if (line !== this.opening) return;
    this.line?.close();
    this.line = line;
    this.opening = null;
    this.connecting = this.leaving = false;
    this.attempt = this.unauthenticated = 0;
    if (line.kind === "socket") {
      this.blocked = 0;
      this.socketWorked = true;
    } else {
      complain(`WebSocket connections to ${this.api.base} are blocked; answers come as event streams instead.`);
    }
    this.listener.connection("online", null);
    this.listener.up();
  }

  private hear(line: Line, frame: Frame): void {
    if (line !== this.line && line !== this.opening) return;
    if (frame.type !== "reconnect") return this.listener.frame(frame);
    if (this.leaving) return;
    // The old line goes on telling until the next one is up: the reader notices nothing.
    this.leaving = true;
    this.timer = setTimeout(() => this.connect(), frame.delay * 1000);
  }

  private fell(line: Line, loss: Loss): void {
    if (line === this.opening) this.opening = null;
    else if (line !== this.line) return;
    else {
      this.line = null;
      if (this.connecting || this.timer !== undefined) return; // the next one is on its way
    }
    this.connecting = this.leaving = false;
    clearTimeout(this.timer);
    this.timer = undefined;
    // A network that is gone says nothing of sockets.
    if (loss.why === "blocked" && navigator.onLine !== false) this.blocked += 1;
    if (this.wanted) this.later(loss);
    else this.listener.connection("idle", null);
  }

  private later(loss: Loss): void {
    if (loss.why === "suspended") return this.listener.connection("refused", SUSPENDED);
    if (loss.why === "unauthenticated") {
      this.visit.forget();
      this.unauthenticated += 1;
      if (this.unauthenticated > 2) return this.waitRefused(REFUSED);
      return this.wait(this.unauthenticated === 1 ? 0 : backoff(this.attempt++), null);
    }
    if (loss.why === "crowded") {
      const pause = CROWDED_FOR + backoff(3);
      const message = "There are too many requests at the moment.";
      return this.wait(pause, { code: "rate_limited", message, retryAt: Date.now() + pause });
    }
    // The first attempt over streams need not wait: the socket did not fail for lack of room.
    const pause = loss.why === "blocked" && !this.socketWorked ? 0 : backoff(this.attempt++);
    this.wait(this.blocked > BLOCKED_BEFORE_STREAMS ? backoff(this.attempt++) : pause, UNREACHABLE);
  }

  private refused(error: unknown): void {
    const { problem, status } = error instanceof Refusal ? error : { problem: UNREACHABLE, status: 0 };
    if (problem.code === "refused") return this.waitRefused(problem);
    if (status === 401) return this.wait(0, problem); // who the host's server said was not believed: go on without
    const pause = Math.max(backoff(this.attempt++), problem.retryAt ? problem.retryAt - Date.now() : 0);
    this.wait(pause, problem);
  }

  /** Somebody may put right what is wrong: looked after now and then, and told meanwhile. */
  private waitRefused(problem: Problem): void {
    this.timer = setTimeout(() => this.connect(), REFUSED_FOR + backoff(4));
    this.listener.connection("refused", problem);
  }

  private wait(milliseconds: number, problem: Problem | null): void {
    this.timer = setTimeout(() => this.connect(), milliseconds);
    if (this.line) return; // it still tells
    // A line that breaks for a moment is nobody's concern.
    const tell = this.attempt > 1 || problem?.retryAt !== undefined;
    this.listener.connection(tell ? "offline" : "connecting", tell ? problem : null);
  }
}
