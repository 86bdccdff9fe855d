/** The live region. It is there from the start, since readers watch only what they have seen empty. */
import { useRef, useState } from "react";

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

export function Spoken({ lines }: { lines: { id: number; text: string }[] }) {
  return (
    <div className="unseen" aria-live="polite" aria-atomic="false" aria-relevant="additions">
      {lines.map((line) => (
        <p key={line.id}>{line.text}</p>
      ))}
    </div>
  );
}
