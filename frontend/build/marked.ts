/** What answers need of `marked`: its lexer, without HTML, reference definitions, extensions and old dialects.
 *
 * marked is one file with everything in it, of which a bundler can leave nothing out. So it is built from its own source,
 * which it brings in its source map, with its usual settings filled in; its grammar is taken as the
 * regular expressions that it amounts to. tests/lexer.test.ts compares the outcome with marked as it is. */

import { readFileSync } from "node:fs";
import { Lexer } from "marked";
import { type Plugin, transformWithOxc } from "vite";

const PREFIX = "\0marked/";
const INDEX = "index.js";

/** Each has to be found: a new marked that is written otherwise stops the build. */
type Edit = [find: RegExp | string, replacement: string];

const SETTLED: Edit[] = [
  [/!!this\.options\.gfm/g, "true"],
  [/this\.options\.(?:pedantic|breaks|silent)/g, "false"],
  [/this\.options\.gfm/g, "true"],
  [/this\.options\.(?:extensions|hooks)/g, "null"],
];

/** Rules by name instead of as properties, so that those that nothing asks for can be left out. */
const NAMED: Edit[] = [[/\b(?:(?:this\.tokenizer|this)\.)?(?:rules\.)?(other|block|inline)\.(\w+)/g, "$1_$2"]];

const EDITS: Record<string, Edit[]> = {
  "Lexer.ts": [
    [/ {4}const rules = \{[\s\S]*?this\.tokenizer\.rules = rules;\n/, ""],
    [/ {2}\/\*\*\n {3}\* Expose Rules[\s\S]*?(?= {2}\/\*\*\n {3}\* Preprocessing)/, ""],
    [/ {6}\/\/ html\n[\s\S]*?(?= {6}\/\/ table \(gfm\))/, ""],
    [/ {6}\/\/ tag\n[\s\S]*?(?= {6}\/\/ link\n)/, ""],
    [/ {6}\/\/ reflink, nolink\n[\s\S]*?(?= {6}\/\/ #4099)/, ""],
    [/ {2}\/\*\*\n {3}\* Does this link text[\s\S]*?(?= {2}\/\*\*\n {3}\* Lexing\/Compiling)/, ""],
    [/ {4}\/\/ Mask out reflinks[\s\S]*?(?= {4}\/\/ Mask out escaped)/, ""],
    ["const { blockSkip, tag, autolink } = this.tokenizer.rules.inline;", ""],
    [/\bblockSkip\./g, "inline_blockSkip."],
    ["tag.exec(rest) || autolink.exec(rest)", "inline_autolink.exec(rest)"],
    ["this.tokens.links = Object.create(null);", ""],
    [/this\.tokenizer\.(?:emStrong|del) !== _Tokenizer\.prototype\.\w+/g, "false"],
    [/this\.tokenizer\.paragraph === _Tokenizer\.prototype\.paragraph/, "true"],
    ...SETTLED,
    ["import { other, block, inline } from './rules.ts';", ""],
    ...NAMED,
  ],
  "Tokenizer.ts": [
    [/\n {2}(?:html|def|tag|reflink)\(src[\s\S]*?\n {2}\}\n/g, "\n"],
    ["rules.inline.tag.exec(tokenSrc) || ", ""],
    [/ {12}\/\/ End list item if found start of html block\n[^}]*\}\n/, ""],
    [/ {14}if \(htmlBeginRegex\.test\(lastBlock\)\) \{[^}]*\}\n/, ""],
    [/ {10}const htmlBeginRegex = .*\n/, ""],
    [/const escaped = this\.lexer\.state\.inRawBlock;/, "const escaped = false;"],
    ...SETTLED,
    ...NAMED,
  ],
  "helpers.ts": [["import { other } from './rules.ts';", ""], ...NAMED],
  "defaults.ts": [],
};

interface SourceMap {
  sources: string[];
  sourcesContent: string[];
}

function edited(name: string, source: string): string {
  let text = source;
  for (const [find, replacement] of EDITS[name]!) {
    const next = text.replaceAll(find instanceof RegExp && !find.global ? new RegExp(find, "g") : find, replacement);
    if (next === text && !SETTLED.some(([each]) => each === find)) {
      throw new Error(`marked is written differently now: ${find} is not in ${name} (build/marked.ts).`);
    }
    text = next;
  }
  const used = [...new Set(text.match(/\b(?:other|block|inline)_\w+/g))];
  return used.length ? `import { ${used.join(", ")} } from "./rules.ts";\n${text}` : text;
}

/** HTML begins nothing of its own, and so ends no paragraph. */
const HTML_BEGINS = /\| \{0,3\}\(\?:<\\\/\?\(\?:address\|.*?CDATA\\\[\)/g;

function grammar(source: string): string {
  const { rules } = (new Lexer() as unknown as { tokenizer: { rules: Record<string, Record<string, RegExp>> } }).tokenizer;
  const lines = [source.match(/function cachedIndentRegex[\s\S]*?\n\}\n/)![0]];
  for (const [kind, of] of Object.entries(rules)) {
    for (const [name, rule] of Object.entries(of)) {
      const written = new RegExp(`^ {2}${name}: (.*),$`, "m").exec(source)?.[1] ?? "";
      const made = written.startsWith("cached") ? `/* @__PURE__ */ ${written}` : written;
      const literal = rule instanceof RegExp ? `${rule}`.replace(HTML_BEGINS, "") : made;
      if (literal && !literal.includes("_tag")) lines.push(`export const ${kind}_${name} = ${literal};`);
    }
  }
  return lines.join("\n");
}

export function lexerOnly(): Plugin {
  let files: Map<string, string>;
  return {
    name: "marked-lexer-only",
    enforce: "pre",
    async resolveId(id, importer) {
      if (importer?.startsWith(PREFIX) && id.startsWith("./")) return PREFIX + id.slice(2);
      if (id !== "marked" || importer?.includes("/build/")) return null;
      const whole = await this.resolve(id, importer, { skipSelf: true });
      const map: SourceMap = JSON.parse(readFileSync(`${whole!.id}.map`, "utf8"));
      files = new Map(map.sources.map((path, at) => [path.replace(/.*\//, ""), map.sourcesContent[at]!]));
      return PREFIX + INDEX;
    },
    load(id) {
      if (!id.startsWith(PREFIX)) return null;
      const name = id.slice(PREFIX.length);
      if (name === INDEX) {
        return 'export { _Lexer as Lexer } from "./Lexer.ts";';
      }
      const source = files.get(name)!;
      return transformWithOxc(name === "rules.ts" ? grammar(source) : edited(name, source), name, { sourcemap: false });
    },
  };
}
