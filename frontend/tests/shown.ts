/** The widget in a page, as tests see it. */
import { afterEach, vi } from "vitest";
import { type FakeStore, fakeStore } from "../dev/fake";
import { type Mode, mount } from "../src/App";
import { extras, files, hosted, reading } from "../src/parts/parts";
import { learn } from "../src/strings";
import type { State } from "../src/types";

// What is fetched later is here at once, so that tests need not wait for what they are not about (tests/later.test.ts is).
await Promise.all([extras.bring(), files.bring(), hosted.bring(), reading.bring(), learn("de"), learn("ar")]);

let last: (() => void) | null = null;

afterEach(async () => {
  last?.();
  last = null;
  document.body.replaceChildren();
  await rest();
});

/** What was put off is done while there is still a window: React does so in a later turn. */
export function rest(): Promise<void> {
  return new Promise((done) => setTimeout(done, 20));
}

export interface Shown {
  store: FakeStore;
  root: ShadowRoot;
  text(): string;
  find<E extends HTMLElement = HTMLElement>(selector: string): E;
  all(selector: string): HTMLElement[];
  named(name: string): HTMLElement; // by its accessible name, or what it says
  focused(): Element | null;
  until(check: () => void): Promise<void>;
}

export function show(state: State, mode: Mode = "bubble"): Shown {
  const host = document.body.appendChild(document.createElement("div"));
  const store = fakeStore(state);
  last = mount(host, store, mode);
  const root = host.shadowRoot!;
  const find = <E extends HTMLElement>(selector: string) => {
    const element = root.querySelector<E>(selector);
    if (!element) throw new Error(`Nothing is ${selector} in ${root.innerHTML}`);
    return element;
  };
  const all = (selector: string) => [...root.querySelectorAll<HTMLElement>(selector)];
  return {
    store,
    root,
    find,
    all,
    text: () => find(".parley").textContent ?? "",
    named(name) {
      const element = all("button, a, input, textarea, [role]").find(
        (one) => (one.getAttribute("aria-label") ?? one.textContent?.trim()) === name,
      );
      if (!element) throw new Error(`Nothing is called ${name} in ${root.innerHTML}`);
      return element;
    },
    focused: () => root.activeElement,
    until: (check) => vi.waitFor(check, { timeout: 3000, interval: 5 }),
  };
}

export function press(
  element: Element,
  key: string,
  fields: KeyboardEventInit & { keyCode?: number } = {},
): KeyboardEvent {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, composed: true, cancelable: true, ...fields });
  if (fields.keyCode !== undefined) Object.defineProperty(event, "keyCode", { value: fields.keyCode });
  element.dispatchEvent(event);
  return event;
}

/** Write into a field as a reader does. React listens to the setter that it replaced. */
export function write(element: HTMLElement, text: string) {
  const prototype = element instanceof HTMLTextAreaElement ? HTMLTextAreaElement.prototype : HTMLInputElement.prototype;
  Object.getOwnPropertyDescriptor(prototype, "value")!.set!.call(element, text);
  element.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
}
