/** Blocks of a growing Markdown text. What is finished is kept, and only the unfinished tail is lexed again: also of one
 * long list, table or piece of code, whose finished items, rows and lines are kept as well. */
import { type Lex, lex as lexMarkdown, plain, type Token, type Tokens } from "./lex";
import { repair } from "./repair";

const SMALL = 1500; // characters that may be lexed again with each piece
const GROWTH = 8; // a larger tail is lexed again when it has grown by this part of it: geometric, thus linear in sum

/** A block of which a part is settled: `token` is that part, and `prefix` has to stand before the rest of it. */
interface Open {
  token: Token;
  prefix: string;
}

export interface MarkdownStream {
  update(text: string, done: boolean): Token[];
}

export function markdownStream(lex: Lex = lexMarkdown): MarkdownStream {
  let seen = "";
  let settled: Token[] = [];
  let open: Open | null = null;
  let offset = 0; // where the tail begins
  let lexed = 0; // how much of the tail `shown` tells
  let shown: Token[] = [];
  let whole = false; // whether `shown` is of a finished text

  function update(text: string, done: boolean): Token[] {
    const source = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
    if (!source.startsWith(seen)) restart();
    const same = source.length === seen.length && lexed > 0 && whole === done;
    seen = source;
    const tail = source.slice(offset);
    if (same) return [...settled, ...shown];
    if (!done && lexed > SMALL && tail.length - lexed < lexed / GROWTH) {
      return [...settled, ...lengthened(shown, tail.slice(lexed))];
    }
    whole = done;
    lexed = tail.length;
    const prefix: string = open?.prefix ?? "";
    const words = done ? tail : repair(tail, open?.token.type === "code");
    const tokens = prefix || words ? lex(prefix + words) : [];
    shown = merged(open, tokens);
    if (!done) settle(prefix + tail, tokens);
    return [...settled, ...shown];
  }

  function restart() {
    seen = "";
    settled = [];
    open = null;
    offset = lexed = 0;
    shown = [];
    whole = false;
  }

  /** Keep what no further words can change. */
  function settle(source: string, tokens: Token[]) {
    let last = tokens.length - 1;
    while (last >= 0 && tokens[last]!.type === "space") last -= 1;
    const block = tokens[last];
    if (!block || !(block.raw.includes("\n") || block.raw.length > 80)) return;
    const before = tokens.slice(0, last).reduce((length, token) => length + token.raw.length, 0);
    if (
      !source.startsWith(
        tokens
          .slice(0, last)
          .map((token) => token.raw)
          .join(""),
      )
    )
      return;
    const split = splitBlock(block, source.slice(before));
    const goesOn = last === 0 ? open : null;
    const taken = before + (split?.consumed ?? 0) - (open?.prefix.length ?? 0);
    if (last > 0) {
      const rest = shown.length - (tokens.length - last);
      settled = [...settled, ...shown.slice(0, rest)];
      shown = shown.slice(rest);
      open = null;
    }
    if (split) open = { token: join(goesOn?.token, split.kept) ?? split.kept, prefix: split.prefix };
    offset += Math.max(taken, 0);
    lexed = seen.length - offset;
  }

  return { update };
}

function merged(open: Open | null, tokens: Token[]): Token[] {
  if (!open) return tokens;
  const [first, ...rest] = tokens;
  const both = first ? join(open.token, first) : null;
  return both ? [both, ...rest] : [open.token, ...tokens];
}

/** One block of two parts, or null where the second is not the first's. */
function join(first: Token | undefined, second: Token): Token | null {
  if (!first || first.type !== second.type) return null;
  const raw = first.raw + second.raw;
  if (second.type === "list") {
    return { ...first, raw, items: [...(first as Tokens.List).items, ...second.items] } as Token;
  }
  if (second.type === "table") {
    return { ...first, raw, rows: [...(first as Tokens.Table).rows, ...second.rows] } as Token;
  }
  if (second.type === "code") return { ...first, raw, text: (first as Tokens.Code).text + second.text } as Token;
  return null;
}

/** The finished part of the last block, and how much of `source` it took. */
function splitBlock(block: Token, source: string): { kept: Token; consumed: number; prefix: string } | null {
  if (block.type === "list" && block.items.length > 1) {
    const item = (block as Tokens.List).items.at(-1)!;
    const before = block.raw.trimEnd();
    const consumed = before.length - item.raw.trimEnd().length;
    if (!source.startsWith(before.slice(0, consumed))) return null;
    return { kept: { ...block, items: block.items.slice(0, -1) } as Token, consumed, prefix: "" };
  }
  if (block.type === "table" && block.rows.length > 1) {
    const lines = source.split("\n");
    const end = 2 + block.rows.length - 1; // the lines before the last row
    const consumed = lines.slice(0, end).join("\n").length + 1;
    const prefix = `${lines.slice(0, 2).join("\n")}\n`;
    return { kept: { ...block, rows: block.rows.slice(0, -1) } as Token, consumed, prefix };
  }
  return block.type === "code" ? splitCode(block, source) : null;
}

function splitCode(block: Token, source: string): { kept: Token; consumed: number; prefix: string } | null {
  const fence = /^ {0,3}(`{3,}|~{3,})[^\n]*\n/.exec(source);
  const consumed = source.lastIndexOf("\n") + 1;
  if (!fence || consumed <= fence[0].length) return null;
  const lines = source.slice(fence[0].length, consumed).trimEnd().split("\n");
  if (lines.at(-1)!.trim().startsWith(fence[1]!)) return null; // closed
  const tail = source.slice(consumed);
  if (/^ {0,3}(?:`{3,}|~{3,})/.test(tail)) return null; // about to be closed
  const text = (block as Tokens.Code).text;
  const kept = tail && text.endsWith(tail) ? text.slice(0, -tail.length) : `${text.replace(/\n*$/, "")}\n`;
  return { kept: { ...block, text: kept } as Token, consumed, prefix: fence[0] };
}

/** What is shown and words that were not lexed yet. */
function lengthened(shown: Token[], words: string): Token[] {
  const last = shown.at(-1);
  if (!last || !words) return shown;
  if (last.type === "code") return [...shown.slice(0, -1), { ...last, text: last.text + words } as Token];
  if (last.type === "paragraph" && last.tokens) {
    return [
      ...shown.slice(0, -1),
      { ...last, tokens: [...last.tokens, { type: "text", raw: words, text: words }] } as Token,
    ];
  }
  return [...shown, plain(words)];
}
