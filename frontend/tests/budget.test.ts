// @vitest-environment node
/** What a page pays for the widget, and what must not be in it: of the bundle that is committed. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";

const BUILT = join(__dirname, "../../static/widget");
const read = (name: string) => readFileSync(join(BUILT, name), "utf8");
const { app } = JSON.parse(read("manifest.json")) as { app: { file: string; integrity: string } };
const zipped = (text: string) => gzipSync(text, { level: 9 }).length;

test("the loader is less than a kilobyte", () => {
  expect(read("loader.js").length).toBeLessThan(1024);
});

test("the app is within its budget", () => {
  expect(zipped(read(app.file))).toBeLessThan(60_000);
});

test("the style sheet is within its budget", () => {
  const sheets = read(app.file).match(/`[^`]*@layer[^`]*`/g) ?? [];
  expect(sheets).not.toHaveLength(0);
  expect(sheets.reduce((sum, sheet) => sum + zipped(sheet), 0)).toBeLessThan(6_000);
});

test("names and digests fit what is there, and nothing else is", () => {
  expect(readdirSync(BUILT).sort()).toEqual([app.file, "licences.txt", "loader.js", "manifest.json"].sort());
  expect(app.integrity).toBe(`sha256-${createHash("sha256").update(read(app.file)).digest("base64")}`);
  expect(read("loader.js")).toContain(app.file);
  expect(read("loader.js")).toContain(app.integrity);
});

test.each(["loader.js", app.file])("%s is ASCII and evaluates, writes and reaches nothing foreign", (name) => {
  const code = read(name);
  expect([...code].every((character) => character.charCodeAt(0) < 128)).toBe(true);
  for (const forbidden of [
    /\beval\s*\(/,
    /new Function\b/,
    /\.innerHTML\s*=[^=]/,
    /\.outerHTML\s*=[^=]/,
    /document\.write/,
    /insertAdjacentHTML/,
  ])
    expect(code).not.toMatch(forbidden);
  const addresses = code.match(/https?:\/\/[\w.-]+/g) ?? [];
  expect(addresses.filter((address) => !/^http:\/\/www\.w3\.org/.test(address))).toEqual([]);
});
