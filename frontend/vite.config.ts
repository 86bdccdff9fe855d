/** How the widget is built and tested. scripts/build.mjs and scripts/package.mjs build with it, `npm run dev` serves. */

import tailwindcss from "@tailwindcss/vite";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** What renders: preact/compat is a tenth of React's size. PARLEY_UI=react builds and tests with React itself. */
const UI = process.env.PARLEY_UI ?? "preact";

const PREACT = [
  { find: /^react-dom\/client$/, replacement: "preact/compat/client" },
  { find: /^react\/jsx(-dev)?-runtime$/, replacement: "preact/jsx-runtime" },
  { find: /^react(-dom)?$/, replacement: "preact/compat" },
];

/** Of marked only the lexer is used; its default instance would bring the rest, renderer and all, into the bundle. */
const LEXER_ONLY: Plugin = {
  name: "marked-lexer-only",
  apply: "build",
  transform(code, id) {
    if (!id.endsWith("/marked/lib/marked.esm.js")) return null;
    const start = code.search(/var \w+=new \w+;function \w+\(\w+,\w+\)\{return \w+\.parse\(/);
    const [, lexer] = code.match(/[{,](\w+) as Lexer,/) ?? [];
    const [, tokenizer] = code.match(/[{,](\w+) as Tokenizer,/) ?? [];
    if (start < 0 || !lexer || !tokenizer) throw new Error("marked is built differently now: see LEXER_ONLY.");
    return { code: `${code.slice(0, start)}export{${lexer} as Lexer,${tokenizer} as Tokenizer};`, map: null };
  },
};

/** Nothing here writes HTML; what renders shall not be able to. */
const NO_HTML: Plugin = {
  name: "no-html",
  apply: "build",
  transform(code, id) {
    if (!id.includes("/preact/dist/")) return null;
    return { code: code.replaceAll("innerHTML", "textContent"), map: null };
  },
};

export default defineConfig({
  plugins: [tailwindcss(), LEXER_ONLY, NO_HTML],
  resolve: { alias: UI === "preact" ? PREACT : [] },
  test: {
    include: ["tests/**/*.test.{ts,tsx}", "src/**/*.test.{ts,tsx}"],
    environment: "happy-dom",
    testTimeout: 10_000,
    restoreMocks: true,
  },
});
