// Asks an assistant over /ws/chat and shows the turn as its events arrive. What models and documents wrote only ever
// becomes text nodes. docs/websocket.md describes the frames.
"use strict";

(() => {
  const RETRY_MS = [500, 1000, 2000, 4000, 8000];
  const MARKER = /\[(\d{1,4})\]/g;
  const REASONS = {
    length: ["Cut off", "The answer reached the longest length that the assistant allows."],
    sources_only: ["No model could be reached", "The passages found stand for an answer."],
    stopped: ["Stopped", "What had been written until then is kept."],
  };

  const $ = (id) => document.getElementById(id);
  const page = $("ask");
  if (!page) return;

  let socket = null;
  let attempts = 0;
  let conversation = page.dataset.conversation || null;
  let turn = null; // the one that is being answered
  let asked = 0;

  // --- One turn on the page ---

  class Turn {
    constructor(question) {
      asked += 1;
      this.clientId = `ask-${Date.now()}-${asked}`;
      this.id = null;
      this.cursor = null; // "epoch-seq" of the last event seen: where a new socket goes on
      this.pieces = [];
      this.sources = [];
      this.element = $("turn").content.firstElementChild.cloneNode(true);
      this.part(".p-bubble").textContent = question;
      $("talk").append(this.element);
      this.element.scrollIntoView({ block: "start", behavior: "smooth" });
    }

    part(selector) { return this.element.querySelector(selector); }

    take(frame) {
      if (frame.id) this.cursor = frame.id;
      const handlers = {
        "turn.started": () => this.started(frame),
        queued: () => say(frame.waking ? `The model server was asleep and is being started (${frame.waking}). That can take minutes.` : `Every model server is busy. About place ${frame.position} in line${frame.wait === null ? "" : `, some ${Math.ceil(frame.wait)} s`}.`),
        sources: () => this.found(frame.sources),
        token: () => this.token(frame),
        restarted: () => this.restarted(frame),
        "turn.finished": () => this.finished(frame),
        error: () => this.failed(frame),
      };
      handlers[frame.type]?.();
    }

    started(frame) {
      this.id = frame.turn;
      conversation = frame.conversation || conversation;
      $("record").href = `${page.dataset.record}${conversation}/change/`;
      $("record").hidden = $("anew").hidden = false;
      say("Searching the documents…");
    }

    found(sources) {
      this.sources = sources;
      const box = this.part(".p-found");
      box.hidden = false;
      box.querySelector("summary").textContent = sources.length
        ? `${sources.length} ${sources.length === 1 ? "passage goes" : "passages go"} to the model`
        : "No passage matches this question; the model is told so.";
      box.querySelector(".p-passages").replaceChildren(...sources.map((source) => passage(source)));
      say("The model reads…");
    }

    token(frame) {
      if (!this.pieces.length) this.part(".p-found").open = false; // make room for the answer
      this.pieces.push({ at: place(frame.id), text: frame.text });
      this.show();
      say(`Answering. Cursor ${this.cursor}`);
    }

    restarted(frame) {
      // Another process took the turn over: events beyond `after` never happened.
      this.pieces = this.pieces.filter((piece) => piece.at.epoch < frame.epoch && piece.at.seq <= frame.after);
      this.show();
      say("Another server goes on with the answer.");
    }

    show() {
      if (this.drawing) return;
      this.drawing = requestAnimationFrame(() => {
        this.drawing = null;
        if (turn !== this) return;
        const caret = document.createElement("span");
        caret.className = "p-caret";
        const known = new Set(this.sources.map((source) => source.n));
        this.part(".p-text").replaceChildren(...this.marked(this.pieces.map((piece) => piece.text).join(""), known), caret);
        if (atBottom()) window.scrollTo({ top: document.body.scrollHeight });
      });
    }

    marked(text, numbers) {
      const nodes = [];
      let at = 0;
      for (const marker of text.matchAll(MARKER)) {
        const n = Number(marker[1]);
        if (!numbers.has(n)) continue;
        nodes.push(text.slice(at, marker.index), this.chip(n));
        at = marker.index + marker[0].length;
      }
      return [...nodes, text.slice(at)];
    }

    chip(n) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "p-chip";
      button.textContent = n;
      button.title = this.sources.find((source) => source.n === n)?.title ?? "";
      button.addEventListener("click", () => this.open(n));
      return button;
    }

    open(n) {
      const found = [...this.element.querySelectorAll(".p-passage")].find(
        (element) => element.dataset.n === String(n) && !element.closest("[hidden]"));
      if (!found) return;
      const list = found.parentElement.closest("details");
      if (list) list.open = true;
      for (const target of this.element.querySelectorAll(".is-target")) target.classList.remove("is-target");
      found.open = true;
      found.classList.add("is-target");
      found.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }

    finished(frame) {
      const cited = new Set(frame.citations.map((source) => source.n));
      turn = null; // before show() could draw over the final text
      this.part(".p-text").replaceChildren(...this.marked(frame.text, cited));
      this.part(".p-text").hidden = !frame.text;
      this.part(".p-found").hidden = true;
      this.part(".p-cited").replaceChildren(...frame.citations.map((source) => passage(source)));
      this.rest(this.sources.filter((source) => !cited.has(source.n)), cited.size, frame.finish_reason);
      const reason = REASONS[frame.finish_reason];
      if (reason) this.problem(...reason, "is-warn");
      this.facts(frame);
      idle();
    }

    rest(others, cited, reason) {
      const box = this.part(".p-others");
      box.hidden = !others.length;
      box.open = reason === "sources_only";
      const noun = others.length === 1 ? "passage" : "passages";
      const received = `${others.length} ${cited ? "more " : ""}${noun} that the model received`;
      const whole = reason === "stop" && !cited;
      box.querySelector("summary").textContent = whole ? `The answer cites none of the ${received}` : received;
      box.querySelector(".p-passages").replaceChildren(...others.map((source) => passage(source, "is-quiet")));
    }

    facts(frame) {
      const { usage, timings } = frame;
      const facts = [
        timings.search_ms != null && `Search ${time(timings.search_ms)}`,
        timings.first_token_ms != null && `First token after ${time(timings.first_token_ms)}`,
        timings.total_ms != null && `Done after ${time(timings.total_ms)}`,
        `${count(usage.prompt_tokens)} tokens in, ${count(usage.completion_tokens)} out${usage.estimated ? ", estimated" : ""}`,
      ];
      this.part(".p-facts").replaceChildren(...facts.filter(Boolean).map((fact) => {
        const element = document.createElement("span");
        element.textContent = fact;
        return element;
      }));
    }

    failed(frame) {
      turn = null;
      const text = this.pieces.map((piece) => piece.text).join("");
      this.part(".p-text").replaceChildren(text);
      this.part(".p-text").hidden = !text;
      this.part(".p-found").hidden = true;
      this.rest(this.sources, 0, "");
      const fields = Object.values(frame.fields ?? {}).join(" ");
      const later = frame.retry_after ? ` Asking again may help in ${Math.ceil(frame.retry_after)} s.` : "";
      const head = text ? "The answer broke off" : "No answer";
      this.problem(head, [frame.message, fields].filter(Boolean).join(" ") + later, "is-bad");
      idle();
    }

    problem(head, words, kind) {
      const box = this.part(".p-problem");
      box.className = `p-problem p-note ${kind}`;
      box.hidden = false;
      box.querySelector("strong").textContent = head;
      box.querySelector("span").textContent = words;
    }
  }

  function passage(source, kind = "") {
    const element = $("passage").content.firstElementChild.cloneNode(true);
    element.dataset.n = source.n;
    const chip = element.querySelector(".p-chip");
    chip.textContent = source.n;
    if (kind) chip.classList.add(kind);
    element.querySelector("b").textContent = source.title;
    const where = [source.heading.join(" › "), source.page == null ? "" : `page ${source.page}`];
    element.querySelector(".p-where span").textContent = where.filter(Boolean).join(", ");
    element.querySelector(".p-body").textContent = source.text;
    return element;
  }

  const place = (cursor) => {
    const [epoch, seq] = String(cursor).split("-").map(Number);
    return { epoch, seq };
  };
  const time = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
  const count = (number) => number.toLocaleString("en");
  const atBottom = () => window.innerHeight + window.scrollY > document.body.scrollHeight - 160;
  const say = (words) => { $("line").textContent = words; };

  function idle() {
    say("");
    $("send").hidden = false;
    $("stop").hidden = true;
    $("question").focus();
  }

  // --- The socket ---

  function connect() {
    socket = new WebSocket(`${window.location.protocol === "https:" ? "wss" : "ws"}://${window.location.host}/ws/chat`);
    socket.addEventListener("open", () => {
      if (turn?.id) {
        send({ type: "resume", turn: turn.id, after: turn.cursor ?? "0-0" });
        say(`Connected again. The answer goes on after ${turn.cursor}.`);
      } else if (turn) {
        send(turn.frame); // perhaps once more: by its client_id it is the same question
      }
    });
    socket.addEventListener("message", (message) => receive(JSON.parse(message.data)));
    socket.addEventListener("close", (event) => closed(event));
  }

  function send(frame) { socket.send(JSON.stringify(frame)); }

  function receive(frame) {
    attempts = 0;
    if (frame.type === "reconnect") { setTimeout(() => socket.close(), (frame.delay ?? 0) * 1000); return; }
    if (!turn || frame.type === "ready") return;
    const ours = frame.client_id === turn.clientId || (frame.turn && frame.turn === turn.id);
    if (ours || (frame.type === "error" && !frame.turn)) turn.take(frame);
  }

  function closed(event) {
    socket = null;
    if (!turn) return;
    if (event.code === 4401) {
      turn.failed({ message: "Your session has ended. Log in again; what the assistant had begun is kept in its record." });
    } else if (attempts >= RETRY_MS.length) {
      const kept = turn.id ? "The answer is kept: open the record of the conversation." : "Ask again later.";
      turn.failed({ message: `The connection cannot be restored. ${kept}` });
    } else {
      say(`The connection broke${turn.cursor ? ` at ${turn.cursor}` : ""}. Connecting again…`);
      setTimeout(connect, RETRY_MS[attempts]);
      attempts += 1;
    }
  }

  // --- The page ---

  function ask() {
    const text = $("question").value.trim();
    if (!text || turn) return;
    $("welcome").hidden = true;
    turn = new Turn(text);
    const about = conversation ? { conversation } : { assistant: $("assistant").value };
    turn.frame = { type: "ask", text, client_id: turn.clientId, ...about };
    $("question").value = "";
    $("send").hidden = true;
    $("stop").hidden = false;
    say("Asking…");
    if (socket?.readyState === WebSocket.OPEN) send(turn.frame);
    else if (!socket) connect();
  }

  function anew() {
    if (turn) return;
    conversation = null;
    $("talk").replaceChildren();
    $("record").hidden = $("anew").hidden = true;
    $("welcome").hidden = false;
    $("question").focus();
  }

  $("composer").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(); }
  });
  $("stop").addEventListener("click", () => {
    if (turn?.id && socket?.readyState === WebSocket.OPEN) { send({ type: "stop", turn: turn.id }); say("Stopping…"); }
  });
  $("anew").addEventListener("click", anew);
  $("assistant").addEventListener("change", anew);
  if (conversation) { $("record").href = `${page.dataset.record}${conversation}/change/`; $("anew").hidden = false; }
})();
