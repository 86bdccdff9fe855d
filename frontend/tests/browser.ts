/** What of a browser the store needs, without a page: storage, events of the window, sockets. */

import { WebSocket } from "ws";

/** A browser's socket only closes; that of Node wants its errors heard. */
class QuietSocket extends WebSocket {
  constructor(url: string) {
    super(url);
    this.on("error", () => {});
  }
}

class Shelf implements Storage {
  private readonly kept = new Map<string, string>();
  [name: string]: unknown;
  get length(): number {
    return this.kept.size;
  }
  key(at: number): string | null {
    return [...this.kept.keys()][at] ?? null;
  }
  getItem(name: string): string | null {
    return this.kept.get(name) ?? null;
  }
  setItem(name: string, value: string): void {
    this.kept.set(name, value);
  }
  removeItem(name: string): void {
    this.kept.delete(name);
  }
  clear(): void {
    this.kept.clear();
  }
}

export function installBrowser(): void {
  Object.assign(globalThis, {
    window: new EventTarget(),
    document: Object.assign(new EventTarget(), { hidden: false }),
    navigator: { onLine: true },
    location: { origin: "https://shop.example" },
    localStorage: new Shelf(),
    sessionStorage: new Shelf(),
    WebSocket: QuietSocket,
  });
}

/** The page is another one: a new tab, or the same site a day later. */
export function newTab(): void {
  Object.assign(globalThis, { sessionStorage: new Shelf() });
}

export async function until<Value>(look: () => Value, within = 8000): Promise<NonNullable<Value>> {
  const end = performance.now() + within;
  for (;;) {
    const value = look();
    if (value) return value as NonNullable<Value>;
    if (performance.now() > end) throw new Error(`It did not come about within ${within} ms: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
