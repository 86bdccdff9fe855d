/** Markdown that grows: the same in the end as if it had come at once, at a cost that is linear. */
import { describe, expect, test } from "vitest";
import { ANSWER } from "../dev/states";
import { lex, type Token } from "../src/markdown/lex";
import { markdownStream } from "../src/markdown/stream";

const WORD = "The seal P-40 fits **pumps** of series `P-4` [1]. ";
const SENTENCES = WORD.repeat(4);
const ANSWERS: Record<string, string> = {
  paragraphs: `${SENTENCES}\n\n`.repeat(100),
  "one paragraph": WORD.repeat(400),
  "one list": `- ${SENTENCES}\n`.repeat(100),
  "one numbered list": Array.from({ length: 200 }, (_, n) => `${n + 1}. ${WORD}\n`).join(""),
  "one table": `| Part | Size |\n|---|---|\n${"| P-40 seal | 40 mm of rubber |\n".repeat(600)}`,
  "one piece of code": `\`\`\`py\n${"print('a line of code')\n".repeat(900)}\`\`\`\n`,
  "code that is never closed": `Look:\n\n~~~\n${"print('a line of code')\n".repeat(900)}`,
  "one quote": `> ${WORD}\n`.repeat(400),
  "one deep item": `- top\n${`  - ${WORD}\n`.repeat(400)}`,
  mixed: `${ANSWER}\n\n`.repeat(25),
};

/** What can be seen of a block. */
function essence(token: Token): unknown {
  const { type, text, items, rows, header, tokens, lang } = token as never as Record<string, never[]>;
  if (items) return [type, (items as { text: string }[]).map((item) => item.text.trim())];
  if (rows)
    return [type, [header, ...rows].map((row) => (row as unknown as { text: string }[]).map((cell) => cell.text))];
  return [type, lang, String(text).trimEnd(), type === ("paragraph" as never) ? tokens?.length : 0];
}

const seen = (tokens: Token[]) => tokens.filter((token) => token.type !== "space").map(essence);

function pieces(text: string, size: number): string[] {
  return Array.from({ length: Math.ceil(text.length / size) }, (_, index) => text.slice(0, (index + 1) * size));
}

describe.each(Object.entries(ANSWERS))("%s", (_, answer) => {
  test("lexing costs a constant number of characters for each that comes", () => {
    let characters = 0;
    const counted = markdownStream((source) => {
      characters += source.length;
      return lex(source);
    });
    const steps = pieces(answer, 4); // about a token
    const costs: number[] = [];
    for (const step of steps) {
      counted.update(step, false);
      costs.push(characters);
    }
    // Half the answer costs half: were it quadratic, the second half would cost three times the first.
    const first = costs[Math.floor(costs.length / 2)]!;
    expect(characters - first).toBeLessThan(1.6 * first + 20_000);
    expect(characters).toBeLessThan(answer.length * 420);
  });

  test("what is shown in the end is what the whole text is", () => {
    const stream = markdownStream();
    let shown: Token[] = [];
    for (const step of pieces(answer, 7)) shown = stream.update(step, false);
    shown = stream.update(answer, true);
    expect(seen(shown)).toEqual(seen(lex(answer)));
  });
});

test("a finished block is the same object ever after", () => {
  const stream = markdownStream();
  const [first] = stream.update("# Title\n\nFirst paragraph.\n\nSecond one\n", false);
  const later = stream.update("# Title\n\nFirst paragraph.\n\nSecond one\n\n- a\n- b\n", false);
  expect(later[0]).toBe(first);
});

test("a finished item of a list is the same object while others come", () => {
  const stream = markdownStream();
  const items = (text: string) => (stream.update(text, false)[0] as unknown as { items: unknown[] }).items;
  const [first] = items("- one\n- two\n- th");
  const later = items("- one\n- two\n- three\n- four");
  expect(later).toHaveLength(4);
  expect(later[0]).toBe(first);
});

test("another text begins anew", () => {
  const stream = markdownStream();
  stream.update("# One\n\nfirst\n\nsecond\n", false);
  expect(seen(stream.update("Other", true))).toEqual(seen(lex("Other")));
});

test("nothing is lexed again where nothing came", () => {
  let calls = 0;
  const stream = markdownStream((source) => {
    calls += 1;
    return lex(source);
  });
  stream.update("words", false);
  stream.update("words", false);
  expect(calls).toBe(1);
});

test("nesting without end is shown as it was written", () => {
  const text = "> ".repeat(20_000);
  expect(() => markdownStream().update(text, true)).not.toThrow();
});

test("line ends of any kind are the same", () => {
  const stream = markdownStream();
  for (const step of pieces("# A\r\n\r\nb\r\n\r\nc\r\n", 1)) stream.update(step, false);
  expect(seen(stream.update("# A\r\n\r\nb\r\n\r\nc\r\n", true))).toEqual(seen(lex("# A\n\nb\n\nc\n")));
});
