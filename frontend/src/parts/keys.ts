/** Keys with a meaning. */
import type { KeyboardEvent } from "react";

/** Enter, unless it breaks the line or takes a word from an input method (where Safari tells only the old key code). */
export function isSend(event: KeyboardEvent): boolean {
  const composing = event.nativeEvent?.isComposing || event.keyCode === 229;
  return event.key === "Enter" && !event.shiftKey && !event.altKey && !composing;
}
