/** The live region. It is there from the start, since readers watch only what they have seen empty. */
import { useEffect, useRef, useState } from "react";
import type { State, Turn } from "../types";
import { sentences } from "./announce";
import { useAround } from "./context";
import { isBusy, problemOf, statusOf } from "./turns";

const KEPT = 4;

/** Sentences to say, oldest first, each with its own key. */
export function useSpoken(): [{ id: number; text: string }[], (sentence: string) => void] {
  const [lines, setLines] = useState<{ id: number; text: string }[]>([]);
  const count = useRef(0);
  const say = useRef((text: string) => {
    if (!text) return;
    count.current += 1;
    const line = { id: count.current, text };
    setLines((before) => [...before.slice(1 - KEPT), line]);
  });
  return [lines, say.current];
}

export function Announcer({ state, lines }: { state: State; lines: { id: number; text: string }[] }) {
  const { speech, say, settings } = useAround();
  const turn = state.turns.at(-1);
  const heard = useRef({ turn: turn?.asked, next: turn?.answer.length ?? 0, busy: false });

  useEffect(() => {
    const memory = heard.current;
    if (!turn) return;
    if (memory.turn !== turn.asked)
      heard.current = { turn: turn.asked, next: isBusy(turn) ? 0 : turn.answer.length, busy: false };
    const now = heard.current;
    const { said, next } = sentences(turn.answer, now.next, !isBusy(turn));
    now.next = next;
    say(said);
    if (now.busy && !isBusy(turn)) say(ending(turn, speech));
    now.busy = isBusy(turn);
  }, [turn, say, speech]);

  const status = turn && isBusy(turn) ? statusOf(turn, speech, settings?.name ?? "") : "";
  useEffect(() => say(status), [status, say]);
  useEffect(() => {
    if (state.connection === "offline") say(speech.t("offline"));
  }, [state.connection, say, speech]);

  return (
    <div className="unseen" aria-live="polite" aria-atomic="false" aria-relevant="additions">
      {lines.map((line) => (
        <p key={line.id}>{line.text}</p>
      ))}
    </div>
  );
}

function ending(turn: Turn, speech: ReturnType<typeof useAround>["speech"]): string {
  if (turn.problem) return problemOf(turn.problem, speech);
  if (turn.state === "stopped") return speech.t("stopped");
  return speech.t("finished");
}
