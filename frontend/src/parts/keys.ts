/** Keys with a meaning. */
import type { KeyboardEvent } from "react";

/** The key belongs to a word that an input method is putting together. React wraps the browser's event. */
export function isComposing(event: KeyboardEvent): boolean {
  return (event.nativeEvent ?? event).isComposing;
}

/** Enter, unless it breaks the line or takes a word from an input method (where Safari tells only the old key code). */
export function isSend(event: KeyboardEvent): boolean {
  const composing = isComposing(event) || event.keyCode === 229;
  return event.key === "Enter" && !event.shiftKey && !event.altKey && !composing;
}
