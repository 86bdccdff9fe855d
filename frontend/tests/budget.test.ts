// @vitest-environment node
/** What a page pays for the widget, and what must not be in it: of the bundle that is committed. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";

const BUILT = join(__dirname, "../../static/widget");
const read = (name: string) => readFileSync(join(BUILT, name), "utf8");
const { app, parts } = JSON.parse(read("manifest.json")) as {
  app: { file: string; integrity: string };
  parts: Record<string, string>;
};
const files = [app.file, ...Object.values(parts)];
const digest = (name: string) => `sha256-${createHash("sha256").update(read(name)).digest("base64")}`;
const zipped = (text: string) => gzipSync(text, { level: 9 }).length;

test("the loader is less than a kilobyte", () => {
  expect(read("loader.js").length).toBeLessThan(1024);
});

test("the app is within its budget", () => {
  expect(zipped(read(app.file))).toBeLessThan(35_000);
});

test("so is what a first answer takes, and everything there is", () => {
  expect(zipped(read(app.file)) + zipped(read(parts.reading!))).toBeLessThan(45_000);
  expect(files.reduce((sum, file) => sum + zipped(read(file)), 0)).toBeLessThan(60_000);
});

test("with React the app is within its budget too", { timeout: 120_000 }, () => {
  const told = execFileSync(process.execPath, [join(__dirname, "../scripts/sizes.mjs")], {
    env: { ...process.env, PARLEY_UI: "react", NODE_ENV: "production" },
    encoding: "utf8",
  });
  const [, size] = told.match(/^app +\d+ +(\d+)$/m)!;
  expect(Number(size)).toBeGreaterThan(35_000); // it is React
  expect(Number(size)).toBeLessThan(90_000);
});

const sheetsWith = (part: string) =>
  files.flatMap((file) => read(file).match(new RegExp(`\`[^\`]*(?:${part})\\b[^\`]*\\{[^\`]*\``, "g")) ?? []);

test("the style sheets are within their budget", () => {
  const sheets = sheetsWith("\\.launcher|\\.prose|\\.aside");
  expect(sheets).toHaveLength(3); // the app's, that of answers, and that of the hosted page
  expect(sheets.reduce((sum, sheet) => sum + zipped(sheet), 0)).toBeLessThan(6_000);
  // Only where files may be attached.
  expect(sheetsWith("\\.field:has").map(zipped)).toEqual([expect.toSatisfy((size: number) => size < 500)]);
});

test("names and digests fit what is there, and nothing else is", () => {
  expect(readdirSync(BUILT).sort()).toEqual([...files, "licences.txt", "loader.js", "manifest.json"].sort());
  expect(app.integrity).toBe(digest(app.file));
  expect(read("loader.js")).toContain(app.file);
  expect(read("loader.js")).toContain(app.integrity);
  for (const [name, file] of Object.entries(parts)) {
    expect(read(app.file)).toContain(`"${name}":["${file}","${digest(file)}"]`);
  }
});

test("nothing is imported but the app and what it knows the digest of", () => {
  for (const file of files) {
    const imported = [...read(file).matchAll(/\b(?:import|from)\s*\(?\s*["'`]([^"'`]+)["'`]/g)].map(([, name]) =>
      name!.slice(2),
    );
    if (file === app.file) expect(imported.sort()).toEqual(Object.values(parts).sort());
    else expect([app.file]).toEqual(expect.arrayContaining(imported));
  }
});

test.each(["loader.js", ...files])("%s is ASCII and evaluates, writes and reaches nothing foreign", (name) => {
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
