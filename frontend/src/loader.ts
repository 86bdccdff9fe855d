/** The one script of a page: a button, and calls that wait until the app has come. It stays under 1 KB. */

declare const __APP__: string;
declare const __INTEGRITY__: string;

/** `q` holds the calls that were made before the app came; the app runs them and answers itself from then on. */
interface Stub {
  q: unknown[][];
  s: HTMLScriptElement;
  b?: HTMLElement;
  [name: string]: unknown;
}

((doc, script, win) => {
  if (win.Parley) return;
  let app: HTMLScriptElement | undefined;
  const load = () => {
    if (app) return;
    app = doc.createElement("script");
    app.type = "module";
    app.crossOrigin = "";
    app.integrity = __INTEGRITY__;
    app.src = new URL(`static/widget/${__APP__}`, script.src).href;
    app.onerror = () => {
      app = console.error("Parley: the app cannot be loaded (docs/widget.md)") as undefined;
    };
    doc.head.append(app);
  };
  const stub: Stub = { q: [], s: script };
  win.Parley = stub;
  for (const name of "open close ask identify on off create".split(" "))
    stub[name] = (...args: unknown[]) => {
      stub.q.push([name, ...args]);
      if (name < "i" || name === "open") load();
    };
  const { color, position, label, tenant } = script.dataset;
  if (!tenant) return;
  const host = doc.createElement("div");
  stub.b = host;
  host.style.cssText = `all:initial!important;position:fixed!important;z-index:2147483000!important;bottom:20px!important;${position === "left" ? position : "right"}:20px!important`;
  const button = doc.createElement("button");
  button.ariaLabel = label || "Chat";
  button.style.cssText = `width:56px;height:56px;border:0;border-radius:50%;font-size:24px;color:#fff;cursor:pointer;background:${color || "#333"}`;
  button.textContent = "\u{1F4AC}";
  button.onclick = () => (stub.open as () => void)();
  button.onpointerenter = load;
  host.attachShadow({ mode: "open" }).append(button);
  const show = () => doc.body.append(host);
  if (doc.body) show();
  else addEventListener("DOMContentLoaded", show);
  try {
    if (sessionStorage["parley:open"]) load();
  } catch {}
})(document, document.currentScript as HTMLScriptElement, window as unknown as { Parley?: Stub });
