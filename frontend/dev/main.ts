/** All states of the widget with a store that only pretends: ?state=answer&mode=bubble&scheme=dark&locale=ar.
 * With &axe the page's title tells what axe-core finds; with &hostile the page around it does its worst. */
import { mount, type Mode } from "../src/App";
import { fakeStore } from "./fake";
import { stateOf, states } from "./states";

const HOSTILE = `* { all: unset !important; color: red !important; font-size: 40px !important; display: inline !important;
  direction: rtl !important; letter-spacing: 9px !important } html { font-size: 62.5% !important }
  div, button { background: lime !important; opacity: .4 !important; visibility: hidden !important; transform: rotate(9deg) !important }`;

const query = new URLSearchParams(location.search);
const name = query.get("state") ?? "answer";
const mode = (query.get("mode") ?? (name === "shared" ? "shared" : name === "page" ? "page" : "bubble")) as Mode;
const scheme = query.get("scheme") ?? "light";
document.body.classList.toggle("dark", scheme === "dark");

if (query.has("hostile")) document.head.appendChild(document.createElement("style")).textContent = HOSTILE;
if (mode === "bubble") {
  const host = document.getElementById("host")!;
  host.append("States: ");
  for (const one of Object.keys(states)) {
    const link = document.createElement("a");
    link.href = `?state=${one}`;
    link.textContent = one;
    host.append(link, " ");
  }
} else document.getElementById("host")!.remove();

const store = fakeStore(stateOf(name, { scheme, locale: query.get("locale") ?? "en", primary: query.get("primary") ?? "" }));
const root = document.getElementById("parley")!;
mount(root, store, mode);

const press = query.get("press");
if (press) {
  for (const label of press.split(",")) {
    await new Promise((done) => setTimeout(done, 100));
    root.shadowRoot!.querySelector<HTMLElement>(`[aria-label="${label}"]`)?.click();
  }
}
if (query.has("axe")) {
  const { default: axe } = await import("axe-core");
  await new Promise((done) => setTimeout(done, 400));
  const { violations } = await axe.run({ include: [["#parley"]] } as never, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  });
  const found = violations.flatMap(({ id, nodes }) => nodes.map((node) => ({ id, at: String(node.target), why: node.failureSummary })));
  document.title = `axe ${JSON.stringify(found)}`;
  document.body.dataset.axe = JSON.stringify(found);
}
