// @vitest-environment node
/** The lexer that build/marked.ts leaves is marked's own, but for HTML and reference definitions. */

import { createRequire } from "node:module";
import fc from "fast-check";
import type * as Marked from "marked";
import { expect, test } from "vitest";
import { lex } from "../src/markdown/lex";

// As it is published: no import of ours is.
const whole: typeof Marked = createRequire(import.meta.url)("marked");

class Plain extends whole.Tokenizer {
  override html() {
    return undefined;
  }
  override tag() {
    return undefined;
  }
  override def() {
    return undefined;
  }
}

/** What is shown of tokens. `escaped` is marked's own note on text of HTML. */
const told = (tokens: unknown) => JSON.parse(JSON.stringify(tokens, (key, value) => (key === "escaped" ? undefined : value)));
const expected = (source: string) => told(new whole.Lexer({ gfm: true, tokenizer: new Plain() }).lex(source));

const PIECES = [
  ..."abc 12\n\n\n*_~`#>-+=|:![]()\\.&\"'",
  ...["**", "__", "~~", "```\n", "~~~", "    ", "\t", "- ", "* ", "1. ", "2) ", "> ", "# ", "## ", "\n\n", "\n- ", "\n1. "],
  ...["| a | b |\n", "|---|:-:|\n", "---\n", "===\n", "- [ ] ", "- [x] ", "![", "](", "[a](b)", "[a](b \"c\")", "[a][b]", "[a]"],
  ...["https://example.com/a", "www.example.com", "a@example.com", "&amp;", "&#65;", "\u00e4", "\u{1f600}", "\u00bb", "word "],
];

test("texts of all pieces become the same tokens", { timeout: 120_000 }, () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...PIECES), { maxLength: 40 }), (pieces) => {
      const source = pieces.join("");
      // An address right after a bracket begins no link for us, as GFM has it.
      fc.pre(!/[[!\]]www\./.test(source));
      expect(told(lex(source))).toEqual(expected(source));
    }),
    { numRuns: 3000, seed: 18, endOnFailure: true },
  );
});

test("HTML and definitions are words", () => {
  const shown = JSON.stringify(lex("<b>one</b>\n\n<div>\n\n[two]: https://example.com\n\n[two]"));
  expect(shown).not.toContain('"html"');
  expect(shown).not.toContain('"def"');
  for (const word of ["<b>one</b>", "<div>", "[two]: "]) expect(shown).toContain(word);
});

test("HTML within a line ends no paragraph, list or table", () => {
  expect(lex("one\n<div>two").map(({ type }) => type)).toEqual(["paragraph"]);
  expect(lex("- one\n<div>two").map(({ type }) => type)).toEqual(["list"]);
});
