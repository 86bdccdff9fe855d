/** A store that keeps what it is told, and answers with a text of its own. */
import type { State, Store, Turn } from "../src/types";

export interface FakeStore extends Store {
  set(change: Partial<State>): void;
  setTurn(change: Partial<Turn>): void; // of the last turn
  calls: [string, ...unknown[]][];
  replies: Record<string, (...args: never[]) => unknown>; // what each deed does
}

export function fakeStore(initial: State): FakeStore {
  let state = initial;
  const listeners = new Set<() => void>();
  const calls: FakeStore["calls"] = [];
  const set = (change: Partial<State>) => {
    state = { ...state, ...change };
    for (const listener of listeners) listener();
  };
  const replies: FakeStore["replies"] = {
    open: () => set({ open: true }),
    close: () => set({ open: false }),
    setDraft: (draft: string) => set({ draft }),
    consent: () => set({ consented: true }),
    newConversation: () => set({ turns: [], conversation: null }),
    rate: (id: string, rating: Turn["rating"]) => {
      set({ turns: state.turns.map((turn) => (turn.id === id ? { ...turn, rating } : turn)) });
      return Promise.resolve();
    },
    share: () => Promise.resolve("https://parley.example/share/6f1e0c"),
  };
  const actions = new Proxy({} as Store["actions"], {
    get:
      (_, name: string) =>
      (...args: never[]) => {
        calls.push([name, ...args]);
        return replies[name]?.(...args) ?? Promise.resolve();
      },
  });
  return {
    getState: () => state,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    actions,
    calls,
    replies,
    set,
    setTurn: (change) => set({ turns: [...state.turns.slice(0, -1), { ...state.turns.at(-1)!, ...change }] }),
  };
}
