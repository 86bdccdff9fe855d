/** A line over REST and event streams, in the frames of the socket, for networks that let no socket through. */

import type { Api } from "./api";
import type { Heard, Line } from "./line";
import { Refusal } from "./problems";
import { readEvents } from "./sse";
import type { Ask, Frame, Outgoing, Question, WireProblem } from "./wire";

const EVENTS = "text/event-stream";

export function openStreams(api: Api, heard: Heard): Line {
  const aborting = new AbortController();
  let over = false;
  const fall = () => {
    if (over) return;
    close();
    heard.down({ why: "lost" });
  };
  const close = () => {
    over = true;
    aborting.abort();
  };
  const tell = (frame: Frame) => {
    if (!over) heard.frame(frame);
  };

  async function begun(ask: Ask): Promise<string> {
    if (ask.conversation) return ask.conversation;
    const options = {
      body: { assistant: ask.assistant },
      key: `${ask.client_id}-conversation`,
      signal: aborting.signal,
    };
    return (await api.json<{ id: string }>("POST", "conversations", options)).id;
  }

  async function asked(question: Question): Promise<Response> {
    const options = { key: question.client_id, accept: EVENTS, signal: aborting.signal };
    if (question.type !== "ask") return api.request("POST", `turns/${question.turn}/${question.type}`, options);
    const { type: _, conversation: __, assistant: ___, ...body } = question;
    return api.request("POST", `conversations/${await begun(question)}/turns`, { ...options, body });
  }

  async function follow(answering: Promise<Response>, about: { turn?: string; client_id?: string }): Promise<void> {
    let turn = about.turn;
    let ended = false;
    await readEvents(await answering, ({ id, type, data }) => {
      const payload = JSON.parse(data);
      turn ??= payload.turn;
      ended ||= type === "turn.finished" || type === "error" || type === "reconnect";
      const place = id ? { id, turn, ...(about.client_id && { client_id: about.client_id }) } : {};
      tell({ ...payload, ...place, type });
    });
    if (!ended) throw new Refusal({ code: "unreachable", message: "" });
  }

  function work(doing: Promise<unknown>, clientId?: string): void {
    doing.catch((error) => {
      // What Parley said no to is told as a frame; anything else is a line that broke.
      if (!(error instanceof Refusal) || error.status === 0 || error.problem.code === "unreachable") return fall();
      const { code, message, requestId, retryAt, fields } = error.problem;
      const body: WireProblem = { code, message };
      if (requestId) body.request_id = requestId;
      if (retryAt) body.retry_after = Math.max(0, (retryAt - Date.now()) / 1000);
      if (fields) body.fields = fields;
      tell({ type: "error", ...body, ...(clientId && { client_id: clientId }) });
    });
  }

  queueMicrotask(() => !over && heard.up());
  return {
    kind: "streams",
    send(frame: Outgoing) {
      if (frame.type === "stop")
        return work(api.request("POST", `turns/${frame.turn}/stop`, { signal: aborting.signal }));
      if (frame.type === "resume") {
        const after = frame.after ? `?after=${frame.after}` : "";
        const options = { accept: EVENTS, signal: aborting.signal };
        return work(follow(api.request("GET", `turns/${frame.turn}/events${after}`, options), { turn: frame.turn }));
      }
      work(follow(asked(frame), { client_id: frame.client_id }), frame.client_id);
    },
    authenticate() {}, // each request carries the token of its time
    close,
  };
}
