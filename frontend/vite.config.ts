/** How the widget is built and tested. scripts/build.mjs and scripts/package.mjs build with it, `npm run dev` serves. */

import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vitest/config";

/** What renders: preact/compat is a third of React's size. PARLEY_UI=react builds and tests with React itself. */
const UI = process.env.PARLEY_UI ?? "preact";

const PREACT = [
  { find: /^react-dom\/client$/, replacement: "preact/compat/client" },
  { find: /^react\/jsx(-dev)?-runtime$/, replacement: "preact/jsx-runtime" },
  { find: /^react(-dom)?$/, replacement: "preact/compat" },
];

export default defineConfig({
  plugins: [tailwindcss()],
  resolve: { alias: UI === "preact" ? PREACT : [] },
  test: {
    include: ["tests/**/*.test.{ts,tsx}", "src/**/*.test.{ts,tsx}"],
    environment: "happy-dom",
    testTimeout: 10_000,
    restoreMocks: true,
  },
});
