// A visitor's end of Parley, for pages of your web site. Copy it; it needs nothing else.

/** What Parley answered instead: `code` is for programs, `message` for people, `requestId` for its operator. */
export class ParleyError extends Error {
  constructor({ code, message, request_id: requestId, retry_after: retryAfter }) {
    super(message);
    Object.assign(this, { name: "ParleyError", code, requestId, retryAfter });
  }
}

const LOST = { type: "error", code: "connection_lost", message: "The connection was lost. Please ask again." };
const RETRY_SECONDS = 30;

/** One visitor's conversation with one assistant, over a socket that outlives its tokens. */
export class Visitor {
  #api; #assistant; #letIn; #token; #socket; #renewal; #conversation;
  #frames = [];
  #arrived = () => {};

  /** letIn: asked for `{token, renew_after}` whenever a visit begins. Leave it out where the assistant lists your site. */
  constructor(baseUrl, tenant, assistant, letIn) {
    this.#api = `${baseUrl}/api/v1`;
    this.#assistant = assistant;
    // Without a body and without headers of ours, browsers send this at once instead of asking first.
    this.#letIn = letIn ?? (() => post(`${this.#api}/visitors/${tenant}/${assistant}`));
  }

  /** The events of an answer, in the frames of docs/websocket.md. One question at a time. */
  async *ask(text) {
    await this.#enter();
    this.#frames.length = 0;
    const where = this.#conversation ? { conversation: this.#conversation } : { assistant: this.#assistant };
    this.#send({ type: "ask", text, ...where });
    for (;;) {
      const frame = await this.#next();
      if (frame.type === "error") throw new ParleyError(frame);
      if (frame.type === "turn.started") this.#conversation = frame.conversation;
      yield frame;
      if (frame.type === "turn.finished") return;
    }
  }

  leave() {
    clearTimeout(this.#renewal);
    this.#socket?.close();
  }

  async #enter() {
    if (this.#socket?.readyState === WebSocket.OPEN) return;
    if (!this.#token) {
      this.#conversation = undefined; // another visit is another visitor
      this.#keep(await this.#letIn());
    }
    const socket = new WebSocket(`${this.#api.replace(/^http/, "ws").replace(/\/api\/v1$/, "")}/ws/chat`);
    await new Promise((resolve, reject) => {
      socket.onopen = () => socket.send(JSON.stringify({ type: "auth", key: this.#token }));
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.type === "ready") return resolve();
        this.#token = undefined;
        reject(new ParleyError(frame));
      };
      socket.onclose = () => reject(new ParleyError(LOST));
    });
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (code === 4401) this.#token = undefined;
      this.#take(LOST);
    };
  }

  #keep({ token, renew_after: seconds }) {
    this.#token = token;
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => this.#renew(), seconds * 1000);
  }

  /** The next token, in good time; the socket goes on with it, and with the answer that it is in the middle of. */
  async #renew() {
    try {
      this.#keep(await post(`${this.#api}/visitors/renew`, this.#token));
      if (this.#socket?.readyState === WebSocket.OPEN) this.#send({ type: "auth", key: this.#token });
    } catch (error) {
      if (error.code === "not_authenticated") this.#token = undefined;
      else this.#renewal = setTimeout(() => this.#renew(), RETRY_SECONDS * 1000);
    }
  }

  #send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  #take(frame) {
    if (frame.type === "ready" || frame.type === "limits") return;
    this.#frames.push(frame);
    this.#arrived();
  }

  async #next() {
    while (!this.#frames.length) await new Promise((resolve) => (this.#arrived = resolve));
    return this.#frames.shift();
  }
}

async function post(url, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(url, { method: "POST", headers });
  const body = await response.json();
  if (!response.ok) throw new ParleyError(body);
  return body;
}
