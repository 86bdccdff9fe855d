/** A part of the widget: what only the hosted page shows. */
export { Page } from "./Page";
export { sharedStore } from "../shared";
export { default as css } from "../styles/page.css?inline";
