/** `marked`'s lexer without what an answer must not hold: HTML and reference definitions are words like any other. */
import { Lexer, type Token, Tokenizer } from "marked";

export type { Token, Tokens } from "marked";

class PlainTokenizer extends Tokenizer {
  // Where no rule of marked's answers, the paragraph and text rules take the characters as they stand.
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

export type Lex = (source: string) => Token[];

/** The blocks of a Markdown text. What nests too deep for the lexer is one paragraph of plain text. */
export const lex: Lex = (source) => {
  try {
    return new Lexer({ gfm: true, breaks: false, tokenizer: new PlainTokenizer() }).lex(source);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [plain(source)];
  }
};

export function plain(source: string): Token {
  return { type: "paragraph", raw: source, text: source, tokens: [{ type: "text", raw: source, text: source }] };
}
