/** axe-core over all states: what can be told without a layout. The rest is told in Chromium, from dev/. */
import axe from "axe-core";
import { expect, test } from "vitest";
import { stateOf, states } from "../dev/states";
import { show } from "./shown";

const LAYOUT = ["color-contrast", "target-size", "scrollable-region-focusable"];
const CARDS: Record<string, string> = {
  passage: "Source 1: Pump manual P-4",
  "hand-off": "Talk to a person",
  editor: "Edit question",
  feedback: "Bad answer",
};

async function violations(place: Element) {
  const { violations: found } = await axe.run(place, {
    rules: Object.fromEntries(LAYOUT.map((rule) => [rule, { enabled: false }])),
  });
  return found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(", ")}`);
}

test.each(Object.keys(states).flatMap((name) => [[name, "bubble"] as const, [name, "page"] as const]))(
  "%s as %s",
  async (name, mode) => {
    const shown = show(stateOf(name, { scheme: "light", locale: "en", primary: "" }), mode);
    expect(await violations(shown.root.host)).toEqual([]);
  },
);

test.each(Object.entries(CARDS))("the card: %s", async (_, button) => {
  const shown = show(stateOf("answer", { scheme: "light", locale: "en", primary: "" }));
  shown.named(button).click();
  await shown.until(() => expect(shown.all(".sheet, .editor, .why")).toHaveLength(1));
  expect(await violations(shown.root.host)).toEqual([]);
});

test("what is wrong is found", async () => {
  const place = document.body.appendChild(document.createElement("div"));
  place.innerHTML = '<button></button><img src="">';
  expect((await violations(place)).length).toBeGreaterThan(0);
});
