/** What a screen reader hears of an answer: whole sentences as they are finished, not tokens. */

const END = /[.!?\u2026\u061f\u3002\uff01\uff1f]["'\u201d\u00bb)\]]*(?=\s)|\n/g;

/** The sentences of `answer` that are complete beyond `from`, and where the next one begins. */
export function sentences(answer: string, from: number, done: boolean): { said: string; next: number } {
  let next = from;
  if (done) next = answer.length;
  else for (const end of answer.slice(from).matchAll(END)) next = from + end.index + end[0].length;
  return { said: spoken(answer.slice(from, next)), next };
}

/** Markdown as it would be read aloud. */
export function spoken(text: string): string {
  return text
    .replace(/```[^\n]*|~~~[^\n]*/g, "")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/\[\d[\d,\s]*\]/g, "")
    .replace(/^\s*(?:#{1,6}|[-*+]|>)\s+/gm, "")
    .replace(/^[|\s:-]+$/gm, "")
    .replace(/\|/g, ", ")
    .replace(/[*_`~]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}
