// Sends a large file in pieces that go on after a lost connection: tus 1.0.0, as apps/knowledge/tus.py speaks it.
"use strict";

(() => {
  const PIECE = 4 * 1024 * 1024;
  const LONGEST_WAIT_MS = 30000;
  const AGAIN = [0, 429, 502, 503, 504]; // 0: no answer
  const WHEN_THERE_IS_ROOM = [429, 507]; // what has come is kept

  const encoded = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

  // Waits until it may be worth to try again; a connection that comes back ends it early.
  const pause = (milliseconds) => new Promise((done) => {
    const over = () => { clearTimeout(timer); window.removeEventListener("online", over); done(); };
    const timer = setTimeout(over, milliseconds);
    window.addEventListener("online", over);
  });

  function ask(method, address, headers, body, onprogress) {
    return new Promise((done) => {
      const request = new XMLHttpRequest();
      if (onprogress) request.upload.addEventListener("progress", onprogress);
      request.addEventListener("loadend", () => done(request));
      request.open(method, address);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.send(body);
    });
  }

  // Waiting makes no room where a quota is used up. A proxy's own 429 says no such thing.
  const worthAgain = (request) => AGAIN.includes(request.status) && !request.responseText.includes('"quota_exceeded"');

  // tell(bytes, broken): how far it is, and whether the connection is lost. The last request tells what became of it.
  window.sendInPieces = async (address, token, file, tell) => {
    const known = `parley-upload ${address} ${file.name} ${file.size} ${file.lastModified}`;
    const common = { "Tus-Resumable": "1.0.0", "X-CSRFToken": token };
    let where = localStorage.getItem(known); // of a page that was closed
    let offset = null;
    let tries = 0;
    for (;;) {
      let request;
      if (!where) {
        const names = { ...common, "Upload-Length": file.size, "Upload-Metadata": `filename ${encoded(file.name)}` };
        request = await ask("POST", address, names);
        if (request.status === 201) {
          [where, offset, tries] = [request.getResponseHeader("Location"), 0, 0];
          localStorage.setItem(known, where);
          continue;
        }
      } else if (offset === null) {
        request = await ask("HEAD", where, common);
        if (request.status === 200) offset = Number(request.getResponseHeader("Upload-Offset"));
        if (request.status === 404 || offset === file.size) { // expired, or it arrived and only the answer was lost
          localStorage.removeItem(known);
          [where, offset] = [null, null];
        }
        if (request.status === 200 || request.status === 404) continue;
      } else {
        const headers = { ...common, "Content-Type": "application/offset+octet-stream", "Upload-Offset": offset };
        const begin = offset;
        request = await ask("PATCH", where, headers, file.slice(begin, begin + PIECE), (event) => tell(begin + event.loaded, false));
        if (request.status === 204) {
          [offset, tries] = [Number(request.getResponseHeader("Upload-Offset")), 0];
          continue;
        }
        offset = null; // to be asked for, where it goes on
        if (request.status === 409) continue;
      }
      if (!worthAgain(request)) {
        if (!WHEN_THERE_IS_ROOM.includes(request.status)) localStorage.removeItem(known);
        return request;
      }
      tell(offset || 0, true);
      await pause(Math.min(1000 * 2 ** tries, LONGEST_WAIT_MS));
      tries += 1;
    }
  };
})();
