/** `marked`'s lexer, which build/marked.ts rids of what an answer must not hold: HTML and reference definitions are words
 * like any other. */
import { Lexer, type Token } from "marked";

export type { Token, Tokens } from "marked";

export type Lex = (source: string) => Token[];

/** The blocks of a Markdown text. What nests too deep for the lexer is one paragraph of plain text. */
export const lex: Lex = (source) => {
  try {
    return new Lexer().lex(source);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [plain(source)];
  }
};

export function plain(source: string): Token {
  return { type: "paragraph", raw: source, text: source, tokens: [{ type: "text", raw: source, text: source }] };
}
