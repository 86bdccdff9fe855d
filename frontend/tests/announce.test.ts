/** What is heard of an answer: sentences. */
import { expect, test } from "vitest";
import { sentences, spoken } from "../src/parts/announce";

/** What is said while `text` comes in pieces of `size`. */
function heard(text: string, size: number): string[] {
  const lines: string[] = [];
  let next = 0;
  for (let end = size; end < text.length + size; end += size) {
    const step = sentences(text.slice(0, end), next, end >= text.length);
    next = step.next;
    if (step.said) lines.push(step.said);
  }
  return lines;
}

test("whole sentences are said, each once, whatever the pieces", () => {
  const text = "The seal is P-40. It fits version 2.5 too! Does it? Yes";
  for (const size of [1, 2, 5, 9]) expect(heard(text, size).join(" ")).toBe(text);
  expect(heard(text, 1)).toEqual(["The seal is P-40.", "It fits version 2.5 too!", "Does it?", "Yes"]);
});

test("an item and a row are sentences too", () => {
  expect(heard("- One thing\n- Another", 1)).toEqual(["One thing", "Another"]);
});

test("marks are not read", () => {
  expect(spoken("## The **seal** [1, 2] is in the [manual](https://a.b), `P-40`")).toBe(
    "The seal is in the manual, P-40",
  );
  expect(spoken("| a | b |\n|---|---|\n| 1 | 2 |")).toBe(", a , b , , 1 , 2 ,");
});
