/** The one script of a page: a button, and calls that wait until the app has come. It stays under 1 KB. */

import type { Stub } from "./stub";

declare const __APP__: string;
declare const __INTEGRITY__: string;

((doc, script, win) => {
  if (win.Parley) return;
  let app: HTMLElement | 0;
  const make = (tag: string, fields: object) => Object.assign(doc.createElement(tag), fields);
  const load = () => {
    if (app) return;
    app = make("script", {
      type: "module",
      crossOrigin: "",
      integrity: __INTEGRITY__,
      src: new URL(`static/widget/${__APP__}`, script.src),
      onerror() {
        app = 0;
        console.error("Parley did not load");
      },
    });
    doc.head.append(app);
  };
  const stub = { q: [], s: script } as unknown as Stub;
  win.Parley = stub;
  "open ask create close identify on off".split(" ").map((name, at) => {
    stub[name] = (...args: unknown[]) => {
      stub.q.push([name, ...args]);
      at < 3 && load();
    };
  });
  const { color, position, label, tenant } = script.dataset;
  if (!tenant) return;
  const host = make("div", {});
  stub.b = host;
  // Nothing that the page says of its own elements moves or hides it.
  host.style.cssText = `all:initial;position:fixed;z-index:2147483000;bottom:20px;${position || "right"}:20px`.replace(
    /;|$/g,
    "!important$&",
  );
  const button = make("button", {
    ariaLabel: label || "Chat",
    textContent: "\u2026",
    onclick: stub.open,
    onpointerenter: load,
  });
  button.style.cssText = `width:56px;height:56px;border:0;border-radius:50%;color:#fff;background:${color || "#333"}`;
  host.attachShadow({ mode: "open" }).append(button);
  // Not into the body, which may not be there yet.
  doc.documentElement.append(host);
  try {
    sessionStorage["parley:open"] && load();
  } catch {}
})(document, document.currentScript as HTMLScriptElement, window as unknown as { Parley?: Stub });
