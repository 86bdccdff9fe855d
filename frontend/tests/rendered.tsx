/** A piece of the widget alone in a page. */
import type { ReactNode } from "react";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { afterEach, vi } from "vitest";

let last: (() => void) | null = null;

afterEach(async () => {
  last?.();
  last = null;
  document.body.replaceChildren();
  // React does what it put off in a later turn, while there is still a window.
  await new Promise((done) => setTimeout(done, 20));
});

export function render(what: ReactNode): HTMLElement {
  const place = document.body.appendChild(document.createElement("div"));
  const root = createRoot(place);
  last = () => root.unmount();
  flushSync(() => root.render(what));
  return place;
}

export function until(check: () => void): Promise<void> {
  return vi.waitFor(check, { timeout: 3000, interval: 5 });
}
