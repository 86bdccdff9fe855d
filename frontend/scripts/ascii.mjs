/** Files that are the same under any charset: whatever is beyond ASCII is written as an escape. */
export function ascii(code) {
  return code.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
