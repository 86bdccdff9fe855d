/** What the reader thinks of an answer, and why. */
import { useState } from "react";
import type { Key } from "../strings";
import type { Turn } from "../types";
import { useAround, useWords } from "./context";
import { Icon } from "./Icon";

const REASONS = { up: ["correct", "helpful", "clear"], down: ["wrong", "unhelpful", "sources", "unclear"] };

export function Feedback({ turn }: { turn: Turn }) {
  const { actions, mode, say } = useAround();
  const t = useWords();
  const [asks, setAsks] = useState<"up" | "down" | null>(null);
  const [told, setTold] = useState("");
  if (!turn.answerId || mode === "shared") return null;

  const send = async (rating: "up" | "down" | null, reasons: string[], comment: string): Promise<boolean> => {
    try {
      await actions.rate(turn.id, rating, reasons, comment);
      return true;
    } catch {
      setTold(t("failed"));
      say(t("failed"));
      return false;
    }
  };
  const click = (rating: "up" | "down") => {
    const back = turn.rating === rating;
    setTold("");
    setAsks(back ? null : rating);
    void send(back ? null : rating, [], "");
  };
  const finish = async (reasons: string[], comment: string) => {
    if (!(await send(asks, reasons, comment))) return;
    setAsks(null);
    setTold(t("thanks"));
    say(t("thanks"));
  };

  return (
    <>
      {(["up", "down"] as const).map((rating) => (
        <button
          key={rating}
          type="button"
          className="quiet square small"
          aria-pressed={turn.rating === rating}
          aria-label={t(rating === "up" ? "good" : "bad")}
          title={t(rating === "up" ? "good" : "bad")}
          onClick={() => click(rating)}
        >
          <Icon name={rating === "up" ? "up" : "bad"} />
        </button>
      ))}
      {told && <span className="told">{told}</span>}
      {asks && <Why key={asks} rating={asks} onSend={finish} onCancel={() => setAsks(null)} />}
    </>
  );
}

interface WhyProps {
  rating: "up" | "down";
  onSend: (reasons: string[], comment: string) => Promise<void>;
  onCancel: () => void;
}

function Why({ rating, onSend, onCancel }: WhyProps) {
  const t = useWords();
  const [reasons, setReasons] = useState<string[]>([]);
  const [comment, setComment] = useState("");
  const toggle = (reason: string) =>
    setReasons((now) => (now.includes(reason) ? now.filter((other) => other !== reason) : [...now, reason]));
  return (
    <form
      className="why"
      aria-label={t(rating === "up" ? "rateGood" : "rateWhy")}
      onSubmit={(event) => {
        event.preventDefault();
        void onSend(reasons, comment.trim());
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        onCancel();
      }}
    >
      <p className="label">{t(rating === "up" ? "rateGood" : "rateWhy")}</p>
      <div className="row wrap">
        {REASONS[rating].map((reason) => (
          <button
            key={reason}
            type="button"
            className="tag"
            aria-pressed={reasons.includes(reason)}
            onClick={() => toggle(reason)}
          >
            {t(`reason.${reason}` as Key)}
          </button>
        ))}
      </div>
      <textarea
        rows={2}
        dir="auto"
        maxLength={2000}
        aria-label={t("comment")}
        placeholder={t("comment")}
        value={comment}
        onInput={(event) => setComment(event.currentTarget.value)}
      />
      <div className="row end">
        <button type="button" className="plain" onClick={onCancel}>
          {t("cancel")}
        </button>
        <button type="submit" className="primary" disabled={!reasons.length && !comment.trim()}>
          {t("sendFeedback")}
        </button>
      </div>
    </form>
  );
}
