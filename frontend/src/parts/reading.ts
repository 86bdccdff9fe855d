/** A part of the widget: answers, what can be done with them, the cards above and the consent before. It comes while the
 * first question is written. */
export { default as css } from "../styles/answers.css?inline";
export { Announcer } from "./Announcer";
export { Answer } from "./Answer";
export { Cards } from "./Cards";
export { Consent } from "./Consent";
