/** What the tabs of one site tell each other, so that they show the same conversation. */

export type Word =
  | { kind: "asked"; conversation: string; turn: string; parent: string | null; question: string; asked: number }
  | { kind: "conversation"; id: string | null }
  | { kind: "removed"; id: string }
  | { kind: "rated"; turn: string; rating: "up" | "down" | null }
  | { kind: "visitor" };

export interface Tabs {
  tell(word: Word): void;
  close(): void;
}

export function openTabs(name: string, hear: (word: Word) => void): Tabs {
  if (typeof BroadcastChannel === "undefined") return { tell() {}, close() {} };
  const channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }) => hear(data as Word);
  return { tell: (word) => channel.postMessage(word), close: () => channel.close() };
}
