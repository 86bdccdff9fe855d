/** How the widget is built and tested. scripts/build.mjs and scripts/package.mjs build with it, `npm run dev` serves. */

import { fileURLToPath } from "node:url";
import tailwindcss from "@tailwindcss/vite";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";
import { lexerOnly } from "./build/marked.ts";

/** What renders: Preact is a tenth of React's size. PARLEY_UI=react builds and tests with React itself. */
const UI = process.env.PARLEY_UI ?? "preact";

const SHIM = fileURLToPath(new URL("./build/preact.ts", import.meta.url));
const PREACT = [
  { find: /^react\/jsx(-dev)?-runtime$/, replacement: "preact/jsx-runtime" },
  { find: /^react(-dom(\/client)?)?$/, replacement: SHIM },
];

/** Nothing here writes HTML; what renders shall not be able to. */
const NO_HTML: Plugin = {
  name: "no-html",
  apply: "build",
  transform(code, id) {
    if (!id.includes("/preact/dist/")) return null;
    return { code: code.replaceAll("innerHTML", "textContent"), map: null };
  },
};

/** Parts come with their digests (src/later.ts), and bring no style sheets: Vite's own way of fetching is not needed. */
const NO_PRELOAD: Plugin = {
  name: "no-preload",
  apply: "build",
  enforce: "pre",
  load: (id) => (id.includes("vite/preload-helper") ? "export const __vitePreload = (load) => load();" : null),
};

export default defineConfig({
  plugins: [tailwindcss(), lexerOnly(), NO_HTML, NO_PRELOAD],
  define: { __PARTS__: "null" },
  resolve: { alias: UI === "preact" ? PREACT : [] },
  test: {
    include: ["tests/**/*.test.{ts,tsx}", "src/**/*.test.{ts,tsx}"],
    environment: "happy-dom",
    testTimeout: 10_000,
    restoreMocks: true,
  },
});
