/** Fails unless static/widget/ is what its source builds, byte by byte. */

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { files, OUT } from "./build.mjs";

const built = await files();
const committed = await readdir(OUT).catch(() => []);
const wrong = [...new Set([...committed, ...Object.keys(built)])].filter(
  (name) => !committed.includes(name) || !(name in built),
);
for (const name of Object.keys(built)) {
  if (committed.includes(name) && (await readFile(join(OUT, name), "utf8")) !== built[name]) wrong.push(name);
}
if (wrong.length) {
  console.error(
    `static/widget/ is not what frontend/ builds (${wrong.join(", ")}): run \`make widget\` and commit it.`,
  );
  process.exit(1);
}
console.log("static/widget/ is what frontend/ builds.");
