/** Style sheets of a shadow root, which need no permission of the page's policy. */

const SHEETS = new Map<string, CSSStyleSheet>();

/** Once, however often it is said. */
export function adopt(root: ShadowRoot, css: string): void {
  let sheet = SHEETS.get(css);
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    SHEETS.set(css, sheet);
  }
  if (!root.adoptedStyleSheets.includes(sheet)) root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
}

export function undress(root: ShadowRoot): void {
  const ours = [...SHEETS.values()];
  root.adoptedStyleSheets = root.adoptedStyleSheets.filter((sheet) => !ours.includes(sheet));
}
