/** What is fetched when it is needed. */
import { later } from "../later";

export const extras = later("extras", () => import("./extras"));
export const files = later("files", () => import("./files"));
export const hosted = later("hosted", () => import("./hosted"));
export const reading = later("reading", () => import("./reading"));
