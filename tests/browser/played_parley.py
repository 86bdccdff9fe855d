"""The built widget on a web site of another origin, with a Parley that is played within the page: nothing but the
widget takes time, and answers come as fast as they are told to."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.environment import ROOT

BUILT = ROOT / "static" / "widget"
HOST_PAGE = """<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,"><h1>Shop</h1>
<p id="first">What we sell.</p><p>And what it costs.</p>
<script src="{parley}/widget.js" data-tenant="acme" data-assistant="guide" async></script>"""

# Settings, a visit and a socket, as docs/widget.md and docs/websocket.md have them.
PLAYED = r"""
(() => {
  const settings = {
    tenant: "acme", assistant: "guide", name: "Guide", description: "", greeting: "Hello!", starters: ["How?"],
    theme: { primary: "#0f766e", radius: 12, font: "", logo: "", position: "right", scheme: "light" },
    locale: "en", direction: "ltr", strings: {}, consent: null, retention: "", handoff: { kind: "webhook" },
    identity: false,
  };
  const said = (body) => Promise.resolve(new Response(JSON.stringify(body)));
  const fetched = window.fetch.bind(window);
  window.fetch = (url, init) => {
    const path = new URL(url, location.href).pathname;
    if (path.startsWith("/api/v1/widget/")) return said(settings);
    if (path.startsWith("/api/v1/visitors/")) return said({ token: "t", renew_after: 3600 });
    return fetched(url, init);
  };
  const shifts = { all: 0, outside: 0 }; // outside: of elements that are not the widget's, whose own are not told
  new PerformanceObserver((list) => {
    for (const { value, sources } of list.getEntries()) {
      shifts.all += value;
      if (sources.some(({ node }) => node)) shifts.outside += value;
    }
  }).observe({ type: "layout-shift", buffered: true });
  let socket;
  let seq = 0;
  const tell = (frame) => socket.onmessage({ data: JSON.stringify(frame) });
  const event = (type, more) => tell({ type, turn: "turn-1", id: `1-${++seq}`, ...more });
  window.WebSocket = class {
    readyState = 1;
    constructor() {
      socket = this;
      setTimeout(() => this.onopen());
    }
    send(text) {
      const frame = JSON.parse(text);
      if (frame.type === "auth") setTimeout(() => tell({ type: "ready" }));
      if (frame.type === "ask") {
        setTimeout(() => event("turn.started", { conversation: "conversation-1", client_id: frame.client_id }));
      }
    }
    close() {}
  };
  window.played = {
    shifts,
    /** Tells tokens, `rate` in a second however late a timer is, and the answer's end. */
    async stream(tokens, rate, every, look) {
      const begun = performance.now();
      for (let told = 0; told < tokens.length; ) {
        const due = Math.min(tokens.length, Math.floor(((performance.now() - begun) / 1000) * rate));
        for (; told < due; told += 1) {
          if (told % every === 0) await look(told);
          event("token", { text: tokens[told] });
        }
        await new Promise((next) => setTimeout(next, 4));
      }
      await look(tokens.length);
      event("turn.finished", { state: "finished", finish_reason: "stop", text: tokens.join(""), answer: "answer-1",
                               citations: [] });
    },
    /** Milliseconds of each frame's work, from its beginning until it was painted. */
    frames: [],
    watchFrames() {
      const painted = new MessageChannel();
      let began = 0;
      painted.port1.onmessage = () => this.frames.push(performance.now() - began);
      const frame = () => {
        requestAnimationFrame(frame);
        began = performance.now();
        painted.port2.postMessage(0);
      };
      requestAnimationFrame(frame);
    },
    /** Milliseconds from a press of the loader's button until the panel was painted with what it says. */
    open() {
      return new Promise((done) => {
        const host = [...document.documentElement.children].find((element) => element.shadowRoot);
        const begun = performance.now();
        host.shadowRoot.querySelector("button").click();
        const look = () => {
          if (!host.shadowRoot.querySelector(".panel textarea")) return requestAnimationFrame(look);
          requestAnimationFrame(() => {
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => done(performance.now() - begun);
            port2.postMessage(0);
          });
        };
        look();
      });
    },
  };
})();
"""


@dataclass
class Sites:
    shop: str
    parley: str
    served: dict[str, int] = field(default_factory=dict)  # by name, bytes as they went over the line


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        sites: Sites = self.server.sites  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        own = self.server is self.server.parley  # type: ignore[attr-defined]
        if not own:
            return self._send(HOST_PAGE.format(parley=sites.parley).encode(), "text/html")
        file = BUILT / ("loader.js" if path == "/widget.js" else path.removeprefix("/static/widget/"))
        if file.parent != BUILT or not file.is_file():
            return self.send_error(404)
        body = gzip.compress(file.read_bytes(), 9)
        sites.served[file.name] = len(body)
        return self._send(body, "text/javascript", gzipped=True)

    def _send(self, body: bytes, kind: str, *, gzipped: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        if gzipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def played() -> Iterator[Sites]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Files) for _ in range(2)]
    shop, parley = servers
    sites = Sites(f"http://localhost:{shop.server_port}", f"http://127.0.0.1:{parley.server_port}")
    threads = []
    for server in servers:
        server.sites, server.parley = sites, parley  # type: ignore[attr-defined]
        threads.append(threading.Thread(target=server.serve_forever))
        threads[-1].start()
    try:
        yield sites
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def tokens(count: int) -> list[str]:
    """An answer of everything that answers hold, in pieces like a model's."""
    block = (
        "The pump has to be primed **before** the first brew, as `EM-200` says in its manual, and again after each "
        "descaling. See [the manual](https://example.com/manual) for more.\n\n"
        "## Steps\n\n1. Fill the tank to the line.\n2. Hold the button for *five* seconds.\n3. Let the water run.\n\n"
        "| Part | Size | Price |\n|---|---|---|\n| Seal | 40 mm | 3.50 |\n| Valve | 12 mm | 9.90 |\n\n"
        "```python\nfor part in parts:\n    check(part)\n```\n\n- One thing more\n- And another one\n\n"
        "> Keep it clean.\n\n"
    )
    pieces = [block[at : at + 4] for at in range(0, len(block), 4)]
    return [pieces[at % len(pieces)] for at in range(count)]
