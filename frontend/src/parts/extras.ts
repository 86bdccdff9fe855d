/** A part of the widget: forms that some readers open. */
export { Editor } from "./Editor";
export { HandOff } from "./HandOff";
export { Why } from "./Why";
