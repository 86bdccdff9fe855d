// Uploads with progress, and the live status of documents that are still being ingested.
"use strict";

(() => {
  const POLL_MS = 1500;
  const AT_ONCE = 2;
  const PIECES_FROM = 8 * 1024 * 1024; // bytes; a smaller file is soon sent again
  const SESSION_ENDED = "Your session has ended. Log in again in another tab, then retry.";

  // --- Live status: every element with data-unfinished is asked for, in one request ---

  async function refresh(address) {
    const waiting = [...document.querySelectorAll("[data-status-of][data-unfinished]")];
    if (!waiting.length || document.hidden) return;
    const query = new URLSearchParams(waiting.slice(0, 200).map((element) => ["id", element.dataset.statusOf]));
    const response = await fetch(`${address}?${query}`, { headers: { Accept: "application/json" } });
    if (!response.ok || response.redirected) return;
    for (const state of (await response.json()).documents) show(state);
  }

  function show(state) {
    for (const element of document.querySelectorAll(`[data-status-of="${CSS.escape(state.id)}"]`)) {
      const template = document.createElement("template");
      template.innerHTML = state.html; // the server's own partial, which escapes what people wrote
      const changed = element.hasAttribute("data-unfinished") && state.finished;
      element.replaceWith(template.content.firstElementChild);
      if (changed && document.querySelector("[data-reload-when-finished]")) window.location.reload();
    }
    for (const element of document.querySelectorAll(`[data-passages-of="${CSS.escape(state.id)}"]`)) {
      element.textContent = state.passages;
    }
  }

  function poll(address) {
    const again = () => setTimeout(() => refresh(address).catch(() => {}).finally(again), POLL_MS);
    again();
  }

  // --- Upload ---

  const size = (bytes) =>
    bytes < 1024 * 1024 ? `${Math.ceil(bytes / 1024)} KB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;

  function row(name, note) {
    const item = document.getElementById("file-row").content.firstElementChild.cloneNode(true);
    item.querySelector(".p-name").textContent = name;
    item.querySelector(".p-size").textContent = note;
    document.getElementById("files-card").hidden = false;
    document.querySelector(".p-files").prepend(item);
    return item;
  }

  function refuse(item, message) {
    const status = item.querySelector(".p-status");
    status.replaceChildren();
    const words = document.createElement("p");
    words.className = "p-failure";
    words.textContent = message;
    status.append(words);
  }

  // fields: of one document, by name. `known` tells of one that is there already.
  function send(form, item, fields, known) {
    return new Promise((done) => {
      const request = new XMLHttpRequest();
      const bar = item.querySelector(".p-progress > span");
      const words = item.querySelector(".p-status p");
      request.upload.addEventListener("progress", (event) => {
        const part = event.total ? event.loaded / event.total : 0;
        bar.style.width = `${Math.round(part * 100)}%`;
        words.textContent = part < 1 ? `Uploading: ${size(event.loaded)} of ${size(event.total)}` : "Checking…";
      });
      request.addEventListener("load", () => done(arrived(item, known, request)));
      request.addEventListener("error", () => done(refuse(item, "The connection broke. Try again.")));
      request.open("POST", form.action);
      request.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
      request.setRequestHeader("Accept", "application/json");
      const body = new FormData();
      for (const [name, value] of Object.entries(fields)) body.append(name, value);
      request.send(body);
    });
  }

  // The same for a large file.
  async function sendLarge(form, item, file) {
    const bar = item.querySelector(".p-progress > span");
    const words = item.querySelector(".p-status p");
    const tell = (bytes, broken) => {
      if (broken) { words.textContent = "The connection broke. It goes on as soon as it is back."; return; }
      bar.style.width = `${Math.round(100 * bytes / file.size)}%`;
      words.textContent = bytes < file.size ? `Uploading: ${size(bytes)} of ${size(file.size)}` : "Checking…";
    };
    const token = form.elements.csrfmiddlewaretoken.value;
    return arrived(item, SAME_BYTES, await window.sendInPieces(form.dataset.piecesAddress, token, file, tell));
  }

  // Whether the server took it.
  function arrived(item, known, request) {
    let body;
    try {
      body = JSON.parse(request.responseText);
    } catch {
      refuse(item, request.status === 403 || request.responseURL.includes("/login/")
        ? SESSION_ENDED : `The server answered ${request.status}. Try again.`);
      return false;
    }
    if (request.status >= 300) {
      refuse(item, (body.fields ? Object.values(body.fields) : [body.message]).join(" "));
      return false;
    }
    if (body.results) unpack(item, body.results);
    else take(item, body, known);
    return true;
  }

  function take(item, body, known) {
    const link = document.createElement("a");
    link.className = "p-link";
    link.href = body.url;
    link.textContent = body.title;
    item.querySelector(".p-name").replaceChildren(link);
    if (!body.created) item.querySelector(".p-size").textContent = known;
    item.querySelector(".p-status").dataset.statusOf = body.id;
    show(body);
  }

  // Each file of an archive gets a row; the archive's own tells how many there were.
  function unpack(item, files) {
    const archive = item.querySelector(".p-name").textContent;
    const taken = files.filter((file) => file.id).length;
    const words = document.createElement("p");
    words.className = "p-small p-muted";
    words.textContent = `Unpacked: ${taken} of ${files.length} ${files.length === 1 ? "file" : "files"} taken`;
    item.querySelector(".p-status").replaceChildren(words);
    for (const file of [...files].reverse()) {
      const its = row(file.name, `From ${archive}`);
      if (file.id) take(its, file, SAME_BYTES);
      else refuse(its, file.message);
    }
  }

  const SAME_BYTES = "Already here: the same bytes are one document.";

  // The forms for an address and for a text. What the server refuses stays in its form, to be mended.
  function add(upload, form) {
    const byUrl = form.dataset.adds === "url";
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const fields = Object.fromEntries(new FormData(form));
      const item = row(byUrl ? fields.url : fields.title, byUrl ? "From its address" : size(new Blob([fields.text]).size));
      const button = form.querySelector("button");
      button.disabled = true;
      const taken = await send(upload, item, fields, byUrl ? "Already here: it is fetched again." : SAME_BYTES);
      button.disabled = false;
      if (taken === true) form.reset();
    });
  }

  function upload(form) {
    const input = form.querySelector("input[type=file]");
    const drop = form.querySelector(".p-drop");
    input.hasChangeListener = true; // keeps unfold from looking for the text box of its own file widget
    const limit = Number(form.dataset.limit);
    const queue = [];
    let running = 0;

    const next = () => {
      while (running < AT_ONCE && queue.length) {
        const [item, file] = queue.shift();
        running += 1;
        const sent = file.size > PIECES_FROM ? sendLarge(form, item, file) : send(form, item, { file }, SAME_BYTES);
        sent.finally(() => { running -= 1; next(); });
      }
    };
    const enqueue = (files) => {
      for (const file of files) {
        const item = row(file.name, size(file.size));
        if (file.size > limit) refuse(item, `Too large: ${size(file.size)}. The limit is ${size(limit)} a file.`);
        else if (!file.size) refuse(item, "The file is empty.");
        else queue.push([item, file]);
      }
      next();
    };

    input.addEventListener("change", () => { enqueue([...input.files]); input.value = ""; });
    for (const kind of ["dragenter", "dragover"]) {
      drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("is-over"); });
    }
    for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("is-over"));
    drop.addEventListener("drop", (event) => { event.preventDefault(); enqueue([...event.dataTransfer.files]); });
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("beforeunload", (event) => { if (running || queue.length) event.preventDefault(); });
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("upload");
    if (form) {
      upload(form);
      for (const other of document.querySelectorAll("form[data-adds]")) add(form, other);
    }
    // The list's cells say where to ask, so that no page has to configure this file.
    const source = document.querySelector("[data-status-address]");
    if (source) poll(source.dataset.statusAddress);
  });
})();
