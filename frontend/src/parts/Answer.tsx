/** An answer as it comes, and what can be done with it. */
import { memo, useMemo, useState } from "react";
import { Markdown } from "../markdown/Markdown";
import type { Turn } from "../types";
import { useAround, useWords } from "./context";
import { Feedback } from "./Feedback";
import { AnswerIcon } from "./AnswerIcon";
import { Icon } from "./Icon";
import { Chip, SourceList } from "./Sources";
import { Trouble } from "./Trouble";
import { canResume, isBusy, listed, numbered, statusOf } from "./turns";

interface AnswerProps {
  turn: Turn;
  siblings: string[] | undefined;
  locked: boolean; // something else is being answered, or nothing may be changed
}

export const Answer = memo(function Answer({ turn, siblings, locked }: AnswerProps) {
  const { actions, settings, speech } = useAround();
  const t = useWords();
  const busy = isBusy(turn);
  const { sources, citations } = turn;
  const cite = useMemo(() => {
    const known = numbered({ sources, citations } as Turn);
    return (n: number, key: string) => {
      const source = known.get(n);
      return source ? <Chip key={key} source={source} /> : null;
    };
  }, [sources, citations]);
  const only = turn.finishReason === "sources_only";
  return (
    <div className="answer" aria-busy={busy}>
      <span className="unseen">{t("says", { name: settings?.name ?? "" })}: </span>
      {only && <p className="notice">{t("sourcesOnly")}</p>}
      {turn.answer && !(only && listed(turn).length > 0) && (
        <div className="prose" dir="auto">
          <Markdown text={turn.answer} done={!busy} cite={cite} />
        </div>
      )}
      {busy && (
        <Progress
          text={turn.answer ? "" : statusOf(turn, speech, settings?.name ?? "")}
          waking={Boolean(turn.queue?.waking)}
        />
      )}
      {turn.state === "stopped" && <p className="notice">{t("stopped")}</p>}
      {turn.finishReason === "length" && <p className="notice">{t("cutOff")}</p>}
      <SourceList sources={listed(turn)} wide={only} />
      {turn.problem && <Trouble problem={turn.problem} onRetry={locked ? null : () => actions.retry(turn.id)} />}
      {!busy && <Deeds turn={turn} siblings={siblings} locked={locked} />}
    </div>
  );
});

function Progress({ text, waking }: { text: string; waking: boolean }) {
  return (
    <p className="progress" data-waking={waking || undefined}>
      <span className="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {text}
    </p>
  );
}

function Deeds({ turn, siblings, locked }: AnswerProps) {
  const { actions, say } = useAround();
  const t = useWords();
  const [copied, setCopied] = useState(false);
  const copy = () => {
    void navigator.clipboard?.writeText(turn.answer).then(() => {
      setCopied(true);
      say(t("copied"));
      setTimeout(() => setCopied(false), 2000);
    });
  };
  return (
    <div className="deeds">
      {siblings && siblings.length > 1 && <Branches turn={turn.id} siblings={siblings} />}
      {turn.answer && (
        <button
          type="button"
          className="quiet square small"
          aria-label={t(copied ? "copied" : "copy")}
          title={t("copy")}
          onClick={copy}
        >
          <AnswerIcon name={copied ? "check" : "copy"} />
        </button>
      )}
      {!locked && turn.state !== "failed" && (
        <button
          type="button"
          className="quiet square small"
          aria-label={t("regenerate")}
          title={t("regenerate")}
          onClick={() => actions.regenerate(turn.id)}
        >
          <Icon name="again" />
        </button>
      )}
      {!locked && canResume(turn) && (
        <button type="button" className="quiet small" onClick={() => actions.resume(turn.id)}>
          <AnswerIcon name="forward" />
          {t("resume")}
        </button>
      )}
      <Feedback turn={turn} />
    </div>
  );
}

function Branches({ turn, siblings }: { turn: string; siblings: string[] }) {
  const { actions } = useAround();
  const t = useWords();
  const at = siblings.indexOf(turn);
  const go = (step: number) => {
    const other = siblings[at + step];
    if (other) actions.choose(other);
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms, and has looks of its own
    <div className="branches" role="group" aria-label={t("branch", { n: at + 1, count: siblings.length })}>
      <button
        type="button"
        className="quiet square small"
        aria-label={t("previous")}
        aria-disabled={at <= 0}
        onClick={() => go(-1)}
      >
        <span className="turned">
          <AnswerIcon name="chevron" />
        </span>
      </button>
      <span aria-hidden="true">
        {at + 1}/{siblings.length}
      </span>
      <button
        type="button"
        className="quiet square small"
        aria-label={t("next")}
        aria-disabled={at >= siblings.length - 1}
        onClick={() => go(1)}
      >
        <AnswerIcon name="chevron" />
      </button>
    </div>
  );
}
