/** What the reader thinks of an answer. */
import { useState } from "react";
import type { Turn } from "../types";
import { useAround, useWords } from "./context";
import { AnswerIcon } from "./AnswerIcon";
import { Late } from "./Later";
import { extras } from "./parts";

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
          <AnswerIcon name={rating === "up" ? "up" : "bad"} />
        </button>
      ))}
      {told && <span className="told">{told}</span>}
      {asks && (
        <Late part={extras}>
          {({ Why }) => <Why key={asks} rating={asks} onSend={finish} onCancel={() => setAsks(null)} />}
        </Late>
      )}
    </>
  );
}
