// A client of Parley's REST API, for browsers and Node 20 or newer. Copy it; it needs nothing else.

/** What Parley answered instead: `code` is for programs, `message` for people, `requestId` for its operator. */
export class ParleyError extends Error {
  constructor({ code, message, request_id: requestId, retry_after: retryAfter }) {
    super(message);
    Object.assign(this, { name: "ParleyError", code, requestId, retryAfter });
  }
}

export class Parley {
  constructor(baseUrl, key) {
    Object.assign(this, { api: `${baseUrl}/api/v1`, headers: { Authorization: `Bearer ${key}` } });
  }

  /** A new conversation's id; `user` is your name for the end user. */
  async begin(assistant, user = "") {
    return (await this.#post("/conversations", { assistant, user })).id;
  }

  /** The events of an answer as {name, cursor, data}, each once, also where the connection breaks. */
  async *ask(conversation, text, { attempts = 5 } = {}) {
    // The key makes asking again harmless: the same turn answers.
    let path = `/conversations/${conversation}/turns`;
    let asked = { method: "POST", ...json({ text }) };
    let headers = { Accept: "text/event-stream", "Idempotency-Key": crypto.randomUUID() };
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      try {
        const response = await this.#fetch(path, { ...asked, headers: { ...asked.headers, ...headers } });
        for await (const event of events(response.body)) {
          if (event.name === "error") throw new ParleyError(event.data);
          yield event;
          if (event.name === "turn.finished") return;
          if (event.name === "turn.started") [path, asked] = [`/turns/${event.data.turn}/events`, {}];
          headers = { ...headers, "Last-Event-ID": event.cursor };
        }
      } catch (error) {
        if (error instanceof ParleyError) throw error;
        await sleep(200 * 2 ** attempt); // the connection broke
      }
    }
    throw new ParleyError({ code: "connection_lost", message: "Parley could not be reached." });
  }

  /** Add a file (a Blob) and wait until it is found by questions, `wait` milliseconds at most. */
  async upload(collection, file, name, { wait = 300_000 } = {}) {
    const form = new FormData();
    form.append("collection", collection);
    form.append("file", file, name);
    let document = await this.#json("/documents", { method: "POST", body: form });
    for (const until = Date.now() + wait; document.status !== "ready"; ) {
      if (document.status === "failed") throw new ParleyError(document.failure);
      if (Date.now() > until) throw new ParleyError({ code: "slow", message: "It is not ready yet." });
      await sleep(500);
      document = await this.#json(`/documents/${document.id}`);
    }
    return document;
  }

  /** The passages that an assistant would be given, best first. */
  async search(collection, query, limit = 6) {
    return (await this.#post("/search", { collection, query, limit })).results;
  }

  #post(path, body) {
    return this.#json(path, { method: "POST", ...json(body) });
  }

  async #json(path, init) {
    return (await this.#fetch(path, init)).json();
  }

  async #fetch(path, init = {}) {
    const response = await fetch(this.api + path, { ...init, headers: { ...this.headers, ...init.headers } });
    if (!response.ok) throw new ParleyError(await response.json());
    return response;
  }
}

const json = (body) => ({ body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function* events(body) {
  const decoder = new TextDecoder();
  let rest = "";
  const reader = body.getReader(); // not `for await`: Safari has no asynchronous iterator of streams
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const blocks = (rest + decoder.decode(read.value, { stream: true })).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.data) yield { name: fields.event, cursor: fields.id, data: JSON.parse(fields.data) };
    }
  }
}
