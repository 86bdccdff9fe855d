/** The app: takes over from the loader, or shows the hosted page on which it finds itself. */

import { mount } from "./App";
import { hosted } from "./parts/parts";
import type { Shared } from "./shared";
import type { Stub } from "./stub";
import { Widget } from "./widget";

const HOSTED = document.getElementById("parley-settings");
if (HOSTED) showHosted(JSON.parse(HOSTED.textContent ?? "{}"));
else takeOver();

function showHosted(told: Shared & { mode: "bubble" | "page" | "shared" }): void {
  const target = document.getElementById("parley")!;
  if (told.mode === "shared") {
    const root = target.attachShadow({ mode: "open" });
    hosted.bring().then(({ sharedStore }) => mount(root, sharedStore(told), "shared"));
    return;
  }
  const { tenant, assistant } = told.settings;
  const place = { url: location.origin, tenant, assistant };
  // The admin's preview shows the bubble, which makes its own place.
  const shown = told.mode === "page" ? { mode: told.mode, target } : {};
  new Widget({ ...place, ...shown, settings: told.settings }, mount);
}

function takeOver(): void {
  const global = (window as unknown as { Parley?: Stub }).Parley;
  if (!global?.q) return;
  const { src, dataset } = global.s;
  const url = new URL(src).origin;
  const { tenant = "", assistant = "" } = dataset;
  const first = tenant ? new Widget({ url, tenant, assistant, ...(global.b && { target: global.b }) }, mount) : null;
  const create = (options: object) => new Widget({ url, tenant, assistant, ...options }, mount);
  for (const name of ["open", "close", "ask", "identify", "on", "off"] as const) {
    const call = first?.[name].bind(first) as ((...args: unknown[]) => void) | undefined;
    global[name] = call ?? (() => console.error(`Parley: ${name}: the script tag names no assistant (docs/widget.md)`));
  }
  global.create = create;
  const waiting = global.q;
  for (const name of ["q", "s", "b"]) delete global[name];
  for (const [name, ...args] of waiting) (global[name as string] as (...args: unknown[]) => void)(...args);
}
