/** What was good or bad about an answer, in the reader's words or ours. */
import { useState } from "react";
import type { Key } from "../strings";
import { useWords } from "./context";

const REASONS = { up: ["correct", "helpful", "clear"], down: ["wrong", "unhelpful", "sources", "unclear"] };

interface WhyProps {
  rating: "up" | "down";
  onSend: (reasons: string[], comment: string) => Promise<void>;
  onCancel: () => void;
}

export function Why({ rating, onSend, onCancel }: WhyProps) {
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
