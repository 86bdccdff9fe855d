/** Errors and limits in human words, with the time to try again. */
import type { Problem } from "../types";
import { useAround, useNow, useWords } from "./context";
import { Icon } from "./Icon";
import { problemOf } from "./turns";

const LIMITS = ["rate_limited", "quota_exceeded", "model_busy", "turn_in_progress"];

export function Trouble({ problem, onRetry }: { problem: Problem; onRetry: (() => void) | null }) {
  const { speech } = useAround();
  const t = useWords();
  const now = useNow(problem.retryAt);
  const waits = problem.retryAt !== undefined && problem.retryAt > now;
  const limit = LIMITS.includes(problem.code);
  return (
    <div className="trouble" data-limit={limit || undefined}>
      <Icon name={limit ? "clock" : "warn"} />
      <div>
        <p>{problemOf(problem, speech)}</p>
        {problem.code === "internal" && problem.requestId && (
          <p className="fine">{t("reference", { id: problem.requestId })}</p>
        )}
        {onRetry && (
          <button type="button" className="plain" aria-disabled={waits} onClick={() => !waits && onRetry()}>
            <Icon name="again" />
            {waits ? t("tryIn", { when: speech.until(problem.retryAt!, now) }) : t("tryAgain")}
          </button>
        )}
      </div>
    </div>
  );
}
