/** What a turn means to its reader. */
import type { Speech } from "../strings";
import type { Problem, Source, Turn } from "../types";

export function isBusy(turn: Turn): boolean {
  return turn.state === "sending" || turn.state === "waiting" || turn.state === "queued" || turn.state === "answering";
}

/** Whether an answer can be gone on with: it was stopped, interrupted or too long. */
export function canResume(turn: Turn): boolean {
  if (!turn.answer || isBusy(turn)) return false;
  return turn.state === "stopped" || turn.state === "failed" || turn.finishReason === "length";
}

/** What an answer without words is waiting for. */
export function statusOf(turn: Turn, speech: Speech, name: string): string {
  if (turn.state === "queued" && turn.queue?.waking) return speech.t("waking");
  if (turn.state === "queued" && turn.queue) {
    const { position, wait } = turn.queue;
    const place = speech.t("queued", { n: position });
    return wait === null
      ? place
      : speech.t("queuedWait", { place, wait: speech.t("wait", { n: Math.max(1, Math.round(wait)) }) });
  }
  if (turn.state === "sending") return speech.t("sending");
  if (turn.state === "waiting" && !turn.sources.length) return speech.t("searching");
  return speech.t("typing", { name });
}

/** An error in the reader's words; what is wrong with a field is told by Parley itself. */
export function problemOf(problem: Problem, speech: Speech): string {
  const field = Object.values(problem.fields ?? {})[0];
  const sentence = speech.problem(problem.code, problem.message);
  return field && problem.code === "invalid_request" ? field : sentence;
}

/** The sources by number. Those that the finished answer refers to say most. */
export function numbered(turn: Turn): Map<number, Source> {
  return new Map([...turn.sources, ...turn.citations].map((source) => [source.n, source]));
}

/** What is listed below an answer: what it refers to, or all that was found where there is no answer. */
export function listed(turn: Turn): Source[] {
  if (isBusy(turn)) return [];
  return turn.finishReason === "sources_only" && !turn.citations.length ? turn.sources : turn.citations;
}
