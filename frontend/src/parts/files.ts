/** A part of the widget: files that come with questions. */
import { teach } from "../strings";
import { files } from "../words/files";

teach(files);

export { attach, detach } from "../attaching";
export { default as css } from "../styles/files.css?inline";
export { Attach } from "./Attach";
export { Attached } from "./Attached";
