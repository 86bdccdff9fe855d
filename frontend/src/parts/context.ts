/** What every part may use: the words, the deeds, and the card that lies above the conversation. */
import { createContext, useContext, useEffect, useState } from "react";
import { type Speech, speak } from "../strings";
import type { Actions, Settings, Source } from "../types";

export type Mode = "bubble" | "page" | "shared";
export type Card = { kind: "passage"; source: Source } | { kind: "handoff" };

export interface Surroundings {
  actions: Actions;
  speech: Speech;
  mode: Mode;
  settings: Settings | null;
  show(card: Card): void;
  say(sentence: string): void; // to those who listen instead of looking
  takesFocus: boolean; // whether what appears may take the focus
  root: ShadowRoot | null;
}

export const Around = createContext<Surroundings>({
  actions: {} as Actions,
  speech: speak("en", {}),
  mode: "bubble",
  settings: null,
  show: () => undefined,
  say: () => undefined,
  takesFocus: false,
  root: null,
});

export const useAround = (): Surroundings => useContext(Around);
export const useWords = (): Speech["t"] => useContext(Around).speech.t;

/** The time, told once a second until `moment` is past. */
export function useNow(moment: number | undefined): number {
  const [now, setNow] = useState(() => Date.now());
  const waits = moment !== undefined && moment > now;
  useEffect(() => {
    if (!waits) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [waits]);
  return now;
}

/** The hosted page has no room for its list beside the conversation. */
export const NARROW = "(max-width: 800px)";

/** Whether a media query holds. */
export function useMedia(query: string): boolean {
  const [holds, setHolds] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const tell = () => setHolds(media.matches);
    tell();
    media.addEventListener("change", tell);
    return () => media.removeEventListener("change", tell);
  }, [query]);
  return holds;
}
