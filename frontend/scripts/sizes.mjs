/** What a page pays for the widget: bytes of each file, as it is and gzipped. PARLEY_UI=react tells it of React. */

import { gzipSync } from "node:zlib";
import { named } from "./build.mjs";

const { app, parts } = await named();
let sum = 0;
for (const { file, code } of [app, ...parts]) {
  const zipped = gzipSync(code, { level: 9 }).length;
  sum += zipped;
  console.log(
    `${file.replace(/-\w+\.js$/, "").padEnd(10)} ${String(code.length).padStart(8)} ${String(zipped).padStart(8)}`,
  );
}
console.log(`${"all".padEnd(10)} ${"".padStart(8)} ${String(sum).padStart(8)}`);
