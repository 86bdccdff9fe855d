/** The card that lies above the conversation: a passage, or the way to a person. */
import type { State } from "../types";
import { type Card, useAround, useWords } from "./context";
import { Late } from "./Later";
import { Passage } from "./Passage";
import { extras } from "./parts";
import { Sheet } from "./Sheet";

export function Cards({ card, state, onClosed }: { card: Card; state: State; onClosed: () => void }) {
  const { settings } = useAround();
  const t = useWords();
  if (card.kind === "passage") {
    return (
      <Sheet title={t("source", { n: card.source.n, title: "" }).replace(/[:\s]+$/, "")} onClose={onClosed}>
        <Passage source={card.source} />
      </Sheet>
    );
  }
  const way = settings?.handoff;
  if (!way) return null;
  const question = state.turns.at(-1)?.question ?? state.draft;
  return (
    <Sheet title={t("handOff")} onClose={onClosed}>
      <Late part={extras}>{({ HandOff }) => <HandOff way={way} question={question} />}</Late>
    </Sheet>
  );
}
