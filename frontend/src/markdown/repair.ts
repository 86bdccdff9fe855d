/** The end of an answer that is still being written, made to look as it will: half a link is its text, half a table a
 * table, and a lone marker is not there yet. */

const LONE_MARKER = /^\s*(?:>\s?)*(?:[-*+] +)?(?:[-*+_=#>~]{1,6}|[-*+]|`{1,3}|\[[ xX]?\]?)?\s*$/;
const LONE_NUMBER = /^\s*\d{1,3}[.)]?\s*$/;
const HALF_LINK = /!?\[([^[\]\n]*)\]\([^()\n]*$/;
const HALF_LABEL = /!?\[([^[\]\n]*)$/;

export function repair(tail: string, inCode: boolean): string {
  const lines = tail.split("\n");
  const last = lines.pop()!;
  if (inCode || endsInFence(lines)) return /^ {0,3}(?:`{1,2}|~{1,2})$/.test(last) ? lines.join("\n") : tail;
  const before = lines.length ? `${lines.join("\n")}\n` : "";
  const table = repairTable(lines, last);
  if (table !== null) return table;
  if (LONE_MARKER.test(last) && last.trim()) return before;
  if (before && LONE_NUMBER.test(last)) return before;
  return before + repairLine(withoutHalfCharacter(last));
}

function endsInFence(lines: string[]): boolean {
  let fence = "";
  for (const line of lines) {
    const mark = /^\s*(?:[-*+] +|\d{1,9}[.)] +)?(`{3,}|~{3,})(.*)$/.exec(line);
    if (!mark) continue;
    if (!fence) fence = mark[1]!;
    else if (mark[1]!.startsWith(fence) && !mark[2]!.trim()) fence = "";
  }
  return fence !== "";
}

/** The tail with the table that is begun at its end, or null where there is none. */
function repairTable(lines: string[], last: string): string | null {
  let start = lines.length;
  while (start > 0 && lines[start - 1]!.trimStart().startsWith("|")) start -= 1;
  const isRow = last.trimStart().startsWith("|");
  if (!isRow && (last || start === lines.length)) return null;
  const before = lines
    .slice(0, start)
    .map((line) => `${line}\n`)
    .join("");
  const rows = [...lines.slice(start), ...(isRow ? [last] : [])];
  if (rows.length === 1) return before; // a header alone might still become anything
  const columns = rows[0]!
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|").length;
  const delimiter = rows[1]!;
  if (!/^[|\s:-]*$/.test(delimiter)) return null;
  if (rows.length > 2 && isRow) rows[rows.length - 1] = repairLine(withoutHalfCharacter(last));
  if (rows.length === 2 && isRow) rows[1] = `|${" --- |".repeat(columns)}`;
  return before + rows.join("\n");
}

function repairLine(line: string): string {
  const code = openCode(line);
  const words = code ? line.slice(0, code.at) : line;
  if (code) {
    const inside = line.slice(code.at + code.run.length);
    return closeMarks(words, inside ? line + code.run : words);
  }
  const label = HALF_LABEL.exec(words);
  let whole = words.replace(HALF_LINK, "$1");
  if (label) whole = words.slice(0, label.index) + (/^[\d,\s]*$/.test(label[1]!) ? "" : label[1]!);
  return closeMarks(whole, whole);
}

/** The run of backticks that nothing has closed yet. */
function openCode(line: string): { at: number; run: string } | null {
  let open: { at: number; run: string } | null = null;
  for (const match of line.matchAll(/`+/g)) {
    if (!open) open = { at: match.index, run: match[0] };
    else if (open.run === match[0]) open = null;
  }
  return open;
}

/** `line` with the emphasis closed that `words` opens and leaves open. */
function closeMarks(words: string, line: string): string {
  const visible = words.replace(/`+[^`]*`+/g, (code) => "x".repeat(code.length));
  const open: string[] = [];
  for (const match of visible.matchAll(/\*\*|\*|~~|__|_/g)) {
    const mark = match[0];
    const previous = visible[match.index - 1] ?? " ";
    const next = visible[match.index + mark.length];
    if (previous === "\\") continue;
    if (open.at(-1) === mark && !/\s/.test(previous)) open.pop();
    else if (next === undefined && line === words)
      return closeMarks(words.slice(0, match.index), words.slice(0, match.index));
    else if (next !== undefined && !/\s/.test(next) && !(mark.startsWith("_") && /\w/.test(previous))) open.push(mark);
  }
  return line.replace(/\s+$/, "") + open.reverse().join("");
}

function withoutHalfCharacter(line: string): string {
  return line.replace(/[\ud800-\udbff]$/, "");
}
