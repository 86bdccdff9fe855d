/** Parley as the widget sees it, on real sockets: scripted answers, and everything that can go wrong on the way. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket as Socket, WebSocketServer } from "ws";

interface Event {
  id: string;
  type: string;
  [field: string]: unknown;
}

export interface FakeTurn {
  id: string;
  conversation: string;
  parent: string | null;
  question: string;
  clientId: string;
  events: Event[];
  seq: number;
  epoch: number;
  readers: Set<(event: Event) => void>;
  stopped: boolean;
}

type Frame = Record<string, string>;

const SETTINGS = {
  tenant: "acme",
  assistant: "guide",
  name: "Guide",
  description: "",
  greeting: "",
  starters: [],
  theme: { primary: "#2f5bd8", radius: 16, font: "", logo: "", position: "right", scheme: "auto" },
  locale: "en",
  direction: "ltr",
  strings: {},
  consent: null as { text: string; link: string } | null,
  retention: "",
  attachments: null as { most: number; bytes: number; kinds: string[] } | null,
  handoff: null,
  identity: true,
};

export class FakeParley {
  url = "";
  turns: FakeTurn[] = [];
  conversations: string[] = [];
  frames: Frame[] = [];
  visits: Record<string, string>[] = [];
  requests: string[] = [];
  sockets = new Set<Socket>();
  settings = { ...SETTINGS };
  /** What goes wrong: each is looked at when its time comes. */
  blockSockets = false;
  refusedSockets = 0;
  refuseVisits = false;
  swallow = 0; // so many questions arrive, and their socket dies before a word comes back
  refuseAsks: Record<string, unknown>[] = [];
  refuseFiles: string[] = [];
  renewAfter = 600;
  tokens = new Set<string>();
  private names = 0;
  private readonly keys = new Map<string, FakeTurn>();
  private readonly begun = new Map<string, string>();
  private server!: Server;
  private readonly upgrading = new WebSocketServer({ noServer: true });

  async start(port = 0): Promise<this> {
    this.server = createServer((request, response) => void this.answer(request, response));
    this.server.on("upgrade", (request, socket, head) => {
      if (this.blockSockets) {
        this.refusedSockets += 1;
        return socket.destroy();
      }
      this.upgrading.handleUpgrade(request, socket, head, (opened) => this.talk(opened));
    });
    await new Promise<void>((resolve) => this.server.listen(port, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
    return this;
  }

  async stop(): Promise<void> {
    this.cut();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** The network goes: no close frame, and event streams end in the middle. */
  cut(): void {
    for (const socket of this.sockets) socket.terminate();
    this.sockets.clear();
    this.server.closeAllConnections();
  }

  close(code: number): void {
    for (const socket of [...this.sockets]) socket.close(code);
  }

  tell(frame: object): void {
    for (const socket of this.sockets) socket.send(JSON.stringify(frame));
  }

  get last(): FakeTurn {
    return this.turns[this.turns.length - 1]!;
  }

  emit(turn: FakeTurn, type: string, fields: object = {}): void {
    turn.seq += 1;
    const event = { id: `${turn.epoch}-${turn.seq}`, type, ...fields };
    turn.events.push(event);
    for (const reader of [...turn.readers]) reader(event);
  }

  say(turn: FakeTurn, ...texts: string[]): void {
    for (const text of texts) this.emit(turn, "token", { text });
  }

  finish(turn: FakeTurn, fields: object = {}): void {
    this.emit(turn, "turn.finished", {
      state: "finished",
      finish_reason: "stop",
      answer: `${turn.id}-answer`,
      text: this.textOf(turn),
      citations: [],
      ...fields,
    });
  }

  /** Another process takes over, and knows less than was told. */
  takeOver(turn: FakeTurn, lost: number): void {
    const after = turn.seq - lost;
    turn.epoch += 1;
    turn.seq = after;
    turn.events = turn.events.filter(({ id }) => Number(id.split("-")[1]) <= after);
    this.emit(turn, "restarted", { epoch: turn.epoch, after, reset: false });
  }

  textOf(turn: FakeTurn): string {
    return turn.events.map((event) => (event.type === "token" ? event.text : "")).join("");
  }

  private name(kind: string): string {
    this.names += 1;
    return `${kind}-${this.names}`;
  }

  private begin(conversation: string, question: string, parent: string | null, clientId: string): FakeTurn {
    const id = this.name("turn");
    const turn: FakeTurn = {
      id,
      conversation,
      parent,
      question,
      clientId,
      events: [],
      seq: 0,
      epoch: 1,
      readers: new Set(),
      stopped: false,
    };
    this.turns.push(turn);
    this.emit(turn, "turn.started", { turn: id, conversation, question: `${id}-question` });
    this.emit(turn, "sources", { sources: [] });
    return turn;
  }

  private open(frame: Frame): FakeTurn {
    const known = this.keys.get(frame.client_id!);
    if (known) return known;
    const other = this.turns.find(({ id }) => id === (frame.turn ?? frame.edits));
    const turn = frame.turn
      ? this.begin(other!.conversation, other!.question, other!.parent, frame.client_id!)
      : this.begin(this.place(frame), frame.text!, other ? other.parent : (frame.parent ?? null), frame.client_id!);
    this.keys.set(frame.client_id!, turn);
    return turn;
  }

  private place(frame: Frame): string {
    if (frame.conversation) return frame.conversation;
    const conversation = this.name("conversation");
    this.conversations.push(conversation);
    return conversation;
  }

  private after(turn: FakeTurn, cursor: string | undefined): Event[] {
    const at = (id: string) => id.split("-").map(Number) as [number, number];
    const [epoch, seq] = at(cursor ?? "0-0");
    return turn.events.filter(({ id }) => at(id)[0] > epoch || (at(id)[0] === epoch && at(id)[1] > seq));
  }

  private talk(socket: Socket): void {
    this.sockets.add(socket);
    const say = (frame: object) => socket.readyState === 1 && socket.send(JSON.stringify(frame));
    const readers = new Map<FakeTurn, (event: Event) => void>();
    const follow = (turn: FakeTurn, after?: string) => {
      const client = turn.clientId && { client_id: turn.clientId };
      const read = (event: Event) => say({ ...event, turn: turn.id, ...client });
      turn.readers.delete(readers.get(turn)!);
      readers.set(turn, read);
      for (const event of this.after(turn, after)) read(event);
      turn.readers.add(read);
    };
    socket.on("close", () => {
      this.sockets.delete(socket);
      for (const [turn, read] of readers) turn.readers.delete(read);
    });
    socket.on("message", (data) => {
      const frame = JSON.parse(String(data)) as Frame;
      this.frames.push(frame);
      if (frame.type === "auth") {
        if (this.tokens.has(frame.key!)) return say({ type: "ready", tenant: "acme" });
        say({ type: "error", code: "not_authenticated", message: "Valid credentials are required." });
        return socket.close(4401);
      }
      if (frame.type === "stop" || frame.type === "resume") {
        const turn = this.turns.find(({ id }) => id === frame.turn);
        if (!turn) return say({ type: "error", code: "not_found", message: "There is no such turn." });
        if (frame.type === "resume") return follow(turn, frame.after);
        turn.stopped = true;
        return this.finish(turn, { state: "stopped", finish_reason: "stopped" });
      }
      const refusal = this.refuseAsks.shift();
      if (refusal) return say({ type: "error", client_id: frame.client_id, message: "No.", ...refusal });
      const turn = this.open(frame);
      if (this.swallow > 0) {
        this.swallow -= 1;
        return socket.terminate();
      }
      follow(turn);
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "").replace("/api/v1", "");
    this.requests.push(`${request.method} ${path}`);
    let text = "";
    for await (const piece of request) text += piece;
    const isForm = String(request.headers["content-type"]).startsWith("multipart/");
    const json = (status: number, body: unknown) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(status === 204 ? undefined : JSON.stringify(body));
    };
    const no = (status: number, code: string) => json(status, { code, message: code, request_id: "r" });
    if (path === "/healthz/live") return json(200, {});
    if (path === "/widget/acme/guide") return json(200, this.settings);
    if (path.startsWith("/widget/")) return no(401, "not_authenticated");
    if (path.startsWith("/visitors/acme/guide")) {
      if (this.refuseVisits) return no(401, "not_authenticated");
      const said = text ? JSON.parse(text) : {};
      this.visits.push(said);
      if (said.identity === "wrong") {
        return json(401, {
          code: "not_authenticated",
          message: "No.",
          fields: { identity: "The signature is wrong." },
        });
      }
      const token = this.name("token");
      this.tokens.add(token);
      return json(200, { token, renew_after: this.renewAfter, ticket: said.ticket ?? this.name("ticket") });
    }
    const token = (request.headers.authorization ?? "").replace("Bearer ", "");
    if (!this.tokens.has(token)) return no(401, "not_authenticated");
    if (path === "/visitors/renew") {
      const next = this.name("token");
      this.tokens.add(next);
      return json(200, { token: next, renew_after: this.renewAfter });
    }
    this.rest(request, path, isForm ? { form: text } : text ? JSON.parse(text) : {}, response, json, no);
  }

  private rest(
    request: IncomingMessage,
    path: string,
    body: Frame,
    response: ServerResponse,
    json: (status: number, body: unknown) => void,
    no: (status: number, code: string) => void,
  ): void {
    const key = String(request.headers["idempotency-key"] ?? "");
    const [, first, id = "", deed = ""] = path.replace(/\?.*/, "").split("/");
    const query = new URLSearchParams(path.split("?")[1]);
    const turn = this.turns.find((each) => each.id === id);
    if (first === "conversations" && !id && request.method === "POST") {
      const conversation = this.begun.get(key) ?? this.place({});
      this.begun.set(key, conversation);
      return json(201, { id: conversation });
    }
    if (first === "conversations" && !id) {
      const results = this.conversations.map((each) => ({ id: each, title: each, active_at: "2026-03-31T18:57:42Z" }));
      return json(200, { next: null, results });
    }
    if (first === "conversations" && !this.conversations.includes(id)) return no(404, "not_found");
    if (first === "conversations" && deed === "messages") return json(200, { next: null, results: this.messages(id) });
    if (first === "conversations" && deed === "attachments") {
      if (request.method === "DELETE") return json(204, null);
      const name = /filename="([^"]*)"/.exec(body.form!)![1]!;
      const refusal = this.refuseFiles.shift();
      if (refusal) return no(422, refusal);
      return json(201, { id: this.name("file"), name, size: 1, cut: name.startsWith("long") });
    }
    if (first === "conversations" && deed === "turns") {
      const asked = this.open({ ...body, conversation: id, client_id: key });
      if (this.swallow > 0) {
        this.swallow -= 1;
        return void response.destroy();
      }
      return this.stream(asked, response);
    }
    if (!turn) return no(404, "not_found");
    if (deed === "events") return this.stream(turn, response, query.get("after") ?? undefined);
    if (deed === "stop") this.finish(turn, { state: "stopped", finish_reason: "stopped" });
    if (deed === "regenerate") return this.stream(this.open({ turn: id, client_id: key }), response);
    json(200, this.stored(turn));
  }

  private stream(turn: FakeTurn, response: ServerResponse, after?: string): void {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const read = ({ id, type, ...data }: Event) => {
      response.write(`id: ${id}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
      if (type === "turn.finished" || type === "error") response.end();
    };
    response.write("retry: 2000\n");
    for (const event of this.after(turn, after)) read(event);
    turn.readers.add(read);
    response.on("close", () => turn.readers.delete(read));
  }

  private messages(conversation: string): object[] {
    const created = "2026-03-31T18:57:42Z";
    return this.turns
      .filter((turn) => turn.conversation === conversation)
      .flatMap((turn) => {
        const { id, parent } = turn;
        const base = { attachments: [], citations: [], created, turns: [id], parent };
        const question = { ...base, id: `${id}-question`, role: "user", text: turn.question };
        const ended = turn.events.some(({ type }) => type === "turn.finished");
        const answer = { ...base, id: `${id}-answer`, role: "assistant", text: this.textOf(turn) };
        return ended ? [question, answer] : [question];
      });
  }

  private stored(turn: FakeTurn): object {
    const end = turn.events.find(({ type }) => type === "turn.finished" || type === "error");
    const failed = end?.type === "error";
    return {
      id: turn.id,
      state: !end ? "running" : failed ? "failed" : end.state,
      finish_reason: end?.finish_reason ?? null,
      answer: end && !failed ? { id: `${turn.id}-answer` } : null,
      text: this.textOf(turn),
      citations: [],
      sources: [],
      error: failed ? end : null,
    };
  }
}
