/** What went wrong, in words: Parley's own, and those of what happens before Parley can answer. */

import type { Problem } from "./types";
import type { WireProblem } from "./wire";

export function problemOf(body: WireProblem): Problem {
  const problem: Problem = { code: body.code, message: body.message };
  if (body.request_id) problem.requestId = body.request_id;
  if (body.retry_after !== undefined) problem.retryAt = Date.now() + body.retry_after * 1000;
  if (body.fields) problem.fields = body.fields;
  return problem;
}

/** Parley said no, or could not be asked (status 0). */
export class Refusal extends Error {
  readonly problem: Problem;
  readonly status: number;

  constructor(problem: Problem, status = 0) {
    super(problem.message);
    this.problem = problem;
    this.status = status;
  }
}

export const UNREACHABLE: Problem = {
  code: "unreachable",
  message: "There is no connection. What you write is kept and sent as soon as there is one.",
};
export const REFUSED: Problem = { code: "refused", message: "This assistant is not available on this page." };
export const SUSPENDED: Problem = { code: "refused", message: "This assistant is not available at the moment." };
export const UNCERTAIN: Problem = {
  code: "connection_lost",
  message: "The connection was lost before the question was confirmed. Ask again if there is no answer to it.",
};
export const TOO_LONG: Problem = { code: "invalid_request", message: "The question is too long. Please shorten it." };
export const UNIDENTIFIED: Problem = {
  code: "not_authenticated",
  message: "Your sign-in could not be confirmed. You can go on without it.",
};

const told = new Set<string>();

/** One message for the developer of the page, once, however often the same thing happens. */
export function complain(sentence: string): void {
  if (told.has(sentence)) return;
  told.add(sentence);
  console.error(`Parley: ${sentence}`);
}

/** For tests: what was told may be told again. */
export function forgetComplaints(): void {
  told.clear();
}
