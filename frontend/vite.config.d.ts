/** How the widget is built and tested. scripts/build.mjs and scripts/package.mjs build with it, `npm run dev` serves. */
declare const _default: import("vite").UserConfig;
export default _default;
