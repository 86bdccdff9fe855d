// Renews the endpoint board while somebody looks at it.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const board = document.getElementById("board");

  async function renew() {
    if (document.hidden || board.contains(document.activeElement)) return; // nobody loses the button under the finger
    const response = await fetch("?part=1", { headers: { Accept: "text/html" } });
    if (!response.ok || response.redirected) return;
    board.innerHTML = await response.text(); // the server's own partial, which escapes what people wrote
  }

  const again = () => setTimeout(() => renew().catch(() => {}).finally(again), EVERY_MS);
  again();
})();
