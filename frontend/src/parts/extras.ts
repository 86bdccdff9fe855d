/** A part of the widget: forms that some readers open. */
import { teach } from "../strings";
import { extras } from "../words/extras";

teach(extras);

export { Editor } from "./Editor";
export { HandOff } from "./HandOff";
export { Why } from "./Why";
