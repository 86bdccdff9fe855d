/** Builds the npm package into dist/package: an ES module that uses the React of whoever imports it, and its types. */

import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
process.env.PARLEY_UI = "react";
await build({
  root: HERE,
  mode: "production",
  logLevel: "warn",
  build: {
    outDir: "dist/package",
    target: "es2022",
    lib: { entry: join(HERE, "src/package.tsx"), formats: ["es"], fileName: "parley-chat" },
    rolldownOptions: { external: [/^react($|\/)/, /^react-dom($|\/)/] },
  },
});
execFileSync(join(HERE, "node_modules/.bin/tsc"), ["--project", "tsconfig.package.json"], {
  cwd: HERE,
  stdio: "inherit",
});
