/** Words within a block. Numbers of sources become chips, addresses become links only if they are safe. */
import type { ReactNode } from "react";
import { decode } from "./entities";
import type { Token } from "./lex";
import { safeAddress } from "./links";

/** What a number in square brackets is shown as, or null where there is no such source. */
export type Cite = (n: number, key: string) => ReactNode;

export interface Reader {
  cite: Cite | null;
  depth: number;
}

const DEEPEST = 24; // what nests deeper is shown as it was written
const MARKER = /\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]/g;

export function deeper(reader: Reader): Reader {
  return { ...reader, depth: reader.depth + 1 };
}

export function tooDeep(reader: Reader): boolean {
  return reader.depth > DEEPEST;
}

export function renderInline(tokens: Token[] | undefined, reader: Reader): ReactNode[] {
  return (tokens ?? []).map((token, index) => renderToken(token, index, deeper(reader)));
}

function renderToken(token: Token, key: number, reader: Reader): ReactNode {
  if (tooDeep(reader)) return token.raw;
  switch (token.type) {
    case "text":
      return token.tokens ? renderInline(token.tokens, reader) : withChips(decode(token.text), `${key}`, reader);
    case "strong":
      return <strong key={key}>{renderInline(token.tokens, reader)}</strong>;
    case "em":
      return <em key={key}>{renderInline(token.tokens, reader)}</em>;
    case "del":
      return <del key={key}>{renderInline(token.tokens, reader)}</del>;
    case "codespan":
      return <code key={key}>{token.text}</code>;
    case "br":
      return <br key={key} />;
    case "checkbox":
      return <Checkbox key={key} checked={Boolean(token.checked)} />;
    case "link":
      return renderLink(token, key, reader);
    case "image":
      return `${token.text || ""} (${decode(token.href)})`.trim();
    case "escape":
      return token.text;
    default:
      return token.raw;
  }
}

function renderLink(token: Token, key: number, reader: Reader): ReactNode {
  // No chips within: a button in a link is two targets in one.
  const { autolink, href, tokens } = token as { autolink?: boolean; href: string; tokens?: Token[] };
  const words = autolink ? token.raw.replace(/^<|>$/g, "") : renderInline(tokens, { ...reader, cite: null });
  const address = safeAddress(href);
  if (!address) return <span key={key}>{words}</span>;
  return (
    <a key={key} href={address} title={address} target="_blank" rel="noopener noreferrer nofollow">
      {words}
    </a>
  );
}

export function Checkbox({ checked }: { checked: boolean }) {
  return (
    <span className="task" role="img" aria-label={checked ? "\u2713" : "\u2610"} data-checked={checked || undefined} />
  );
}

function withChips(text: string, key: string, { cite }: Reader): ReactNode {
  if (!cite || !text.includes("[")) return text;
  const parts: ReactNode[] = [];
  let end = 0;
  for (const match of text.matchAll(MARKER)) {
    const chips = match[1]!.split(",").map((n, index) => cite(Number(n), `${key}.${match.index}.${index}`));
    if (!chips.every(Boolean)) continue;
    parts.push(text.slice(end, match.index).replace(/ $/, "\u00a0"), ...chips);
    end = match.index + match[0].length;
  }
  return end ? [...parts, text.slice(end)] : text;
}
