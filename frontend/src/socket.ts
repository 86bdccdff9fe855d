/** A line over /ws/chat. */

import type { Heard, Line, Loss } from "./line";
import type { Outgoing } from "./wire";
import { parseFrame } from "./wire";

// A proxy may accept a socket and pass nothing on.
const READY_WITHIN = 8_000;

export function openSocket(base: string, token: string, heard: Heard): Line {
  let ready = false;
  let over = false;
  let socket: WebSocket | null = null;
  const fall = (loss: Loss) => {
    if (over) return;
    end();
    heard.down(loss);
  };
  const late = setTimeout(() => fall({ why: "blocked" }), READY_WITHIN);
  const end = () => {
    over = true;
    clearTimeout(late);
    socket?.close();
  };
  const say = (frame: object) => {
    if (socket?.readyState === 1) socket.send(JSON.stringify(frame));
  };
  try {
    socket = new WebSocket(`${base.replace(/^http/, "ws")}/ws/chat`);
  } catch {
    // By the page's policy, or since a page with TLS may not talk without.
    setTimeout(() => fall({ why: "blocked" }));
  }
  if (socket) {
    let opened = false;
    socket.onopen = () => {
      opened = true;
      say({ type: "auth", key: token });
    };
    socket.onmessage = ({ data }) => {
      const frame = parseFrame(data);
      if (over || !frame) return;
      if (!ready && frame.type === "ready") {
        ready = true;
        clearTimeout(late);
        heard.up();
      } else if (ready) heard.frame(frame);
    };
    socket.onclose = ({ code }) => fall(lossOf(code, opened && ready));
  }
  return {
    kind: "socket",
    send: (frame: Outgoing) => say(frame),
    authenticate: (next) => say({ type: "auth", key: next }),
    close: end,
  };
}

function lossOf(code: number, wasReady: boolean): Loss {
  if (code === 4401) return { why: "unauthenticated" };
  if (code === 4403) return { why: "suspended" };
  if (code === 4429) return { why: "crowded" };
  // Parley's own codes, 1011 and 1012 come through a socket that works.
  return { why: wasReady || code >= 4000 || code === 1011 || code === 1012 ? "lost" : "blocked" };
}
