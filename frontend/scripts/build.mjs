/** Builds static/widget/: the app under a hashed name, the loader that knows name and digest, and the manifest.
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
        output: { format: "es", codeSplitting: false, entryFileNames: "out.js", comments: { legal: false } },
      },
    },
  });
  const files = [result].flat().flatMap((each) => each.output);
  if (files.length !== 1) throw new Error(`${entry} became ${files.map((file) => file.fileName)} instead of one file.`);
  const code = files[0].code.replace(/\/\*! tailwindcss[^*]*\*\//g, "");
  return `${ascii(code).trim()}\n`;
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
  const app = await bundle("src/main.ts");
  const file = `app-${createHash("sha256").update(app).digest("hex").slice(0, 8)}.js`;
  const integrity = `sha256-${createHash("sha256").update(app).digest("base64")}`;
  const loader = await bundle("src/loader.ts", {
    __APP__: JSON.stringify(file),
    __INTEGRITY__: JSON.stringify(integrity),
  });
  const manifest = `${JSON.stringify({ app: { file, integrity } }, null, 2)}\n`;
  return { [file]: app, "loader.js": loader, "manifest.json": manifest, "licences.txt": await licences() };
}

export async function write(out = OUT) {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  for (const [name, text] of Object.entries(await files())) await writeFile(join(out, name), text);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await write();
