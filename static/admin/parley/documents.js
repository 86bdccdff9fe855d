// Uploads with progress, and the live status of documents that are still being ingested.
"use strict";

(() => {
  const POLL_MS = 1500;
  const AT_ONCE = 2;
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

  function row(list, file) {
    const item = document.getElementById("file-row").content.firstElementChild.cloneNode(true);
    item.querySelector(".p-name").textContent = file.name;
    item.querySelector(".p-size").textContent = size(file.size);
    list.prepend(item);
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

  function send(form, item, file) {
    return new Promise((done) => {
      const request = new XMLHttpRequest();
      const bar = item.querySelector(".p-progress > span");
      const words = item.querySelector(".p-status p");
      request.upload.addEventListener("progress", (event) => {
        const part = event.total ? event.loaded / event.total : 0;
        bar.style.width = `${Math.round(part * 100)}%`;
        words.textContent = part < 1 ? `Uploading: ${size(event.loaded)} of ${size(event.total)}` : "Checking…";
      });
      request.addEventListener("load", () => done(arrived(item, file, request)));
      request.addEventListener("error", () => done(refuse(item, "The connection broke. Choose the file again.")));
      request.open("POST", form.action);
      request.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
      request.setRequestHeader("Accept", "application/json");
      const body = new FormData();
      body.append("file", file);
      request.send(body);
    });
  }

  function arrived(item, file, request) {
    let body;
    try {
      body = JSON.parse(request.responseText);
    } catch {
      return refuse(item, request.status === 403 || request.responseURL.includes("/login/")
        ? SESSION_ENDED : `The server answered ${request.status}. Try again.`);
    }
    if (request.status >= 300) return refuse(item, [body.message, ...Object.values(body.fields ?? {})].join(" "));
    const link = document.createElement("a");
    link.className = "p-link";
    link.href = body.url;
    link.textContent = body.title;
    item.querySelector(".p-name").replaceChildren(link);
    if (!body.created) item.querySelector(".p-size").textContent = "Already here: the same bytes are one document.";
    item.querySelector(".p-status").dataset.statusOf = body.id;
    show(body);
  }

  function upload(form) {
    const list = document.querySelector(".p-files");
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
        send(form, item, file).finally(() => { running -= 1; next(); });
      }
    };
    const take = (files) => {
      document.getElementById("files-card").hidden = false;
      for (const file of files) {
        const item = row(list, file);
        if (file.size > limit) refuse(item, `Too large: ${size(file.size)}. The limit is ${size(limit)} a file.`);
        else if (!file.size) refuse(item, "The file is empty.");
        else queue.push([item, file]);
      }
      next();
    };

    input.addEventListener("change", () => { take([...input.files]); input.value = ""; });
    for (const kind of ["dragenter", "dragover"]) {
      drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("is-over"); });
    }
    for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("is-over"));
    drop.addEventListener("drop", (event) => { event.preventDefault(); take([...event.dataTransfer.files]); });
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("beforeunload", (event) => { if (running || queue.length) event.preventDefault(); });
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("upload");
    if (form) upload(form);
    // The list's cells say where to ask, so that no page has to configure this file.
    const source = document.querySelector("[data-status-address]");
    if (source) poll(source.dataset.statusAddress);
  });
})();
