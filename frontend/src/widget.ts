/** One assistant on a page: its store, where it is shown, and what the page may do with it. */

import { ChatStore, type Events, type Options } from "./store";
import type { Settings, Store } from "./types";
import type { LetIn } from "./visit";
import { watchPolicy } from "./welcome";

export interface WidgetOptions {
  url: string; // Parley's address
  tenant: string;
  assistant: string;
  mode?: "bubble" | "page"; // a button that opens a panel, or all of `target`
  target?: HTMLElement; // where it is shown; without one a bubble makes its own place
  letIn?: LetIn; // asked for a visitor's token, where the page's own server lets people in
  identity?: string; // a JWT of the page's own server that says who its visitor is
  settings?: Settings;
}

export type Mount = (root: ShadowRoot | HTMLElement, store: Store, mode: "bubble" | "page" | "shared") => () => void;

type Listener<Name extends keyof Events> = (detail: Events[Name]) => void;

export class Widget {
  private readonly store: ChatStore;
  private readonly listeners = new Map<keyof Events, Set<Listener<never>>>();
  private readonly undo: (() => void)[] = [];

  constructor(options: WidgetOptions, mount: Mount) {
    const { url, tenant, assistant, mode = "bubble", identity } = options;
    if (!/^https?:/.test(url) || !tenant || !assistant) {
      throw new TypeError("Parley: url, tenant and assistant have to be given (docs/widget.md).");
    }
    const base = new URL(url).origin;
    const place: Options = { base, tenant, assistant, mode };
    if (options.settings) place.settings = options.settings;
    if (options.letIn) place.letIn = options.letIn;
    this.store = new ChatStore(place, identity);
    this.store.onEvent = (name, detail) => this.emit(name, detail);
    this.undo.push(watchPolicy(base));
    const target = options.target ?? this.makePlace();
    const root = target.shadowRoot ?? target.attachShadow({ mode: "open" });
    const before = [...root.children];
    // Who is pressing the loader's button at this moment wants it open: their click would find it gone.
    const pressed = before.some((node) => node.matches(":active"));
    this.undo.push(mount(root, this.store, mode));
    for (const node of before) node.remove(); // the loader's button, which the launcher replaces
    if (mode === "bubble" && (pressed || this.store.wasOpen())) this.open();
  }

  readonly open = (): void => this.store.actions.open();
  readonly close = (): void => this.store.actions.close();

  /** Ask as if the visitor had typed it. */
  readonly ask = (text: string): void => {
    if (typeof text !== "string") throw new TypeError("Parley: ask takes a text.");
    this.store.actions.open();
    this.store.actions.ask(text);
  };

  /** Say who the visitor is by a JWT of the page's own server; null: nobody in particular again. */
  readonly identify = (jwt: string | null): void => this.store.identify(jwt);

  readonly on = <Name extends keyof Events>(name: Name, listener: Listener<Name>): void => {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener as Listener<never>));
  };

  readonly off = <Name extends keyof Events>(name: Name, listener: Listener<Name>): void => {
    this.listeners.get(name)?.delete(listener as Listener<never>);
  };

  /** Take it off the page. What is being answered goes on, and is there when the visitor comes back. */
  readonly remove = (): void => {
    for (const undo of this.undo) undo();
    this.store.end();
  };

  private emit<Name extends keyof Events>(name: Name, detail: Events[Name]): void {
    for (const listener of this.listeners.get(name) ?? []) {
      try {
        (listener as Listener<Name>)(detail);
      } catch (error) {
        // The page's own mistake, which must not stop an answer.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  private makePlace(): HTMLElement {
    const host = document.createElement("div");
    host.style.cssText = "all:initial!important;position:fixed!important;z-index:2147483000!important";
    document.body.append(host);
    this.undo.push(() => host.remove());
    return host;
  }
}
