/** axe-core in Chromium over the states of the dev page, where contrast and sizes can be seen: `node dev/axe.mjs`. */
import { execFile } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createServer } from "vite";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,760", "--virtual-time-budget=8000", "--dump-dom"];
const EXTRA = [
  "state=page",
  "state=page&scheme=dark&press=Options for Seals for the P-4",
  "state=shared",
  "state=answer&locale=ar",
  "state=answer&primary=ffd400",
  "state=answer&primary=00ff00&scheme=dark",
  "state=answer&press=Source 1: Pump manual P-4",
  "state=answer&press=Talk to a person",
  "state=answer&press=Edit question",
  "state=rated&press=Good answer",
];

const server = await createServer({ root: ROOT, server: { host: "127.0.0.1", port: 0 }, logLevel: "error" });
await server.listen();
const { states } = await server.ssrLoadModule("/dev/states.ts");
const queries = Object.keys(states).flatMap((state) => [`state=${state}`, `state=${state}&scheme=dark`]);
const only = process.argv[2];
let found = 0;
for (const query of [...queries, ...EXTRA].filter((one) => !only || one.includes(only))) {
  const address = `http://127.0.0.1:${server.httpServer.address().port}/dev/?${encodeURI(query)}&axe`;
  const { stdout } = await promisify(execFile)("chromium", [...FLAGS, address], { maxBuffer: 1e8 });
  const told = /data-axe="([^"]*)"/.exec(stdout);
  if (!told) throw new Error(`axe-core told nothing of ${query}.`);
  for (const { id, at, why } of JSON.parse(told[1].replaceAll("&quot;", '"').replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&"))) {
    found += 1;
    console.log(`${query}: ${id} at ${at}: ${why}`);
  }
}
await server.close();
console.log(`${found} violations`);
process.exitCode = found ? 1 : 0;
