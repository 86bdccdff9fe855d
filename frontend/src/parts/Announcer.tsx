/** Tells those who listen how an answer goes on. */
import { useEffect, useRef } from "react";
import type { State, Turn } from "../types";
import { sentences } from "./announce";
import { useAround } from "./context";
import { isBusy, problemOf, statusOf } from "./turns";

export function Announcer({ state }: { state: State }) {
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

  return null;
}

function ending(turn: Turn, speech: ReturnType<typeof useAround>["speech"]): string {
  if (turn.problem) return problemOf(turn.problem, speech);
  if (turn.state === "stopped") return speech.t("stopped");
  return speech.t("finished");
}
