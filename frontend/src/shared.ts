/** A shared conversation: what stands in its page, to be read and nothing else. */

import { newTurn } from "./history";
import { EMPTY } from "./store";
import type { Actions, Settings, Source, State, Store } from "./types";

export interface Shared {
  settings: Settings;
  title: string;
  turns: { question: string; attachments: string[]; answer: string; citations: Source[]; asked: string | number }[];
}

export function sharedStore({ settings, turns }: Shared): Store {
  const state: State = {
    ...EMPTY,
    settings,
    open: true,
    consented: true,
    shared: true,
    turns: turns.map(({ question, attachments, answer, citations, asked }, at) => {
      const time = typeof asked === "number" ? asked : Date.parse(asked);
      const parent = at ? `${at - 1}` : null;
      return newTurn({
        id: `${at}`,
        parent,
        question,
        attachments: attachments.map((name) => ({ id: name, name, size: 0 })),
        answer,
        citations,
        asked: time,
        state: "finished",
        finishReason: "stop",
      });
    }),
  };
  const actions = new Proxy({} as Actions, { get: () => () => Promise.resolve() });
  return { getState: () => state, subscribe: () => () => {}, actions };
}
