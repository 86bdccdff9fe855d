/** What the loader leaves on the page for the app: `q` holds the calls made before it came, `s` the script tag, `b` the
 * place of its button. */
export interface Stub {
  q: unknown[][];
  s: HTMLScriptElement;
  b?: HTMLElement;
  [name: string]: unknown;
}
