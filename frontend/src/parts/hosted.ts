/** A part of the widget: what only the hosted page shows. */
import { teach } from "../strings";
import { hosted } from "../words/hosted";

teach(hosted);

export { sharedStore } from "../shared";
export { default as css } from "../styles/page.css?inline";
export { Page } from "./Page";
