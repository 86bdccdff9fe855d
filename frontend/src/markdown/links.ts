/** Which addresses of an answer may be followed. */
import { decode } from "./entities";

const SCHEMES = ["https:", "http:", "mailto:"];

/** The address as the browser understands it, or null where it is no whole address of a scheme that is allowed. */
export function safeAddress(href: string): string | null {
  const address = decode(href).trim();
  // A URL without a scheme would be one of the host page; the parser also drops tabs and line ends within a scheme.
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  return SCHEMES.includes(url.protocol) ? url.href : null;
}
