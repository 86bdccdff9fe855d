/** Builds static/widget/: the app and its parts under hashed names, the loader that knows name and digest of
 * the app, and the manifest.
 *
 * The same source gives the same bytes, so that what is committed can be compared (scripts/compare.mjs). */

import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "vite";
import { ascii } from "./ascii.mjs";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
export const OUT = resolve(HERE, "../static/widget");
const BUILT_OF = ["preact", "marked", "tailwindcss"];
const PRODUCTION = { "process.env.NODE_ENV": JSON.stringify("production") };

/** The file of an entry, and of each part that it imports later, by name; "app" is the entry. */
async function bundle(entry, define = {}) {
  const result = await build({
    root: HERE,
    mode: "production",
    logLevel: "warn",
    define: { ...PRODUCTION, ...define },
    build: {
      write: false,
      target: "es2022",
      minify: "oxc",
      modulePreload: false,
      reportCompressedSize: false,
      rolldownOptions: {
        input: join(HERE, entry),
        output: {
          format: "es",
          entryFileNames: "app.js",
          chunkFileNames: "[name].js",
          // Whatever the entry needs is one file, also what its parts need as well.
          codeSplitting: { groups: [{ name: "app", tags: ["$initial"] }] },
          comments: { legal: false },
        },
      },
    },
  });
  const made = {};
  for (const { name, isEntry, imports, code } of [result].flat().flatMap((each) => each.output)) {
    // What another file has to bring first would come without a digest.
    if (imports?.some((other) => other !== "app.js")) throw new Error(`${name} of ${entry} needs ${imports}.`);
    made[isEntry ? "app" : name] = `${ascii(code.replace(/\/\*! tailwindcss[^*]*\*\//g, "")).trim()}\n`;
  }
  return made;
}

const digest = (text, as) => createHash("sha256").update(text).digest(as);

/** Files under the name of all their content, since they name each other; and the digest of each, which the app knows of
 * its parts and the loader of the app. */
export async function named() {
  const made = await bundle("src/main.ts", { __PARTS__: "__PARTS__" });
  const version = digest(Object.values(made).join(), "hex").slice(0, 8);
  const file = (name) => `${name}-${version}.js`;
  const called = (code) =>
    code.replace(/(["'`])\.\/(\w+)\.js\1/g, (whole, _, name) => (name in made ? `"./${file(name)}"` : whole));
  const { app, ...others } = made;
  const parts = Object.entries(others).map(([name, code]) => ({ name, file: file(name), code: called(code) }));
  const digests = parts.map(({ name, file, code }) => [name, [file, `sha256-${digest(code, "base64")}`]]);
  const code = called(app).replaceAll("__PARTS__", JSON.stringify(Object.fromEntries(digests)));
  return { app: { file: file("app"), code }, parts };
}

/** The notices of what the app is built of, which have to go with it. */
async function licences() {
  const texts = await Promise.all(
    BUILT_OF.map(async (name) => {
      const text = await readFile(join(HERE, "node_modules", name, "LICENSE"), "utf8");
      return `${name}\n${"=".repeat(name.length)}\n\n${text.replace(/\r/g, "").trim()}\n`;
    }),
  );
  return texts.join("\n\n");
}

/** The files of static/widget/ by name. */
export async function files() {
  const { app, parts } = await named();
  const integrity = `sha256-${digest(app.code, "base64")}`;
  const loader = await bundle("src/loader.ts", {
    __APP__: JSON.stringify(app.file),
    __INTEGRITY__: JSON.stringify(integrity),
  });
  const manifest = {
    app: { file: app.file, integrity },
    parts: Object.fromEntries(parts.map(({ name, file }) => [name, file])),
  };
  return {
    [app.file]: app.code,
    ...Object.fromEntries(parts.map(({ file, code }) => [file, code])),
    "loader.js": loader.app,
    "manifest.json": `${JSON.stringify(manifest, null, 2)}\n`,
    "licences.txt": await licences(),
  };
}

export async function write(out = OUT) {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  for (const [name, text] of Object.entries(await files())) await writeFile(join(out, name), text);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await write();
