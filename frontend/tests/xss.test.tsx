/** Nothing an answer says makes more than words: each payload, streamed split anywhere. */
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { afterAll, expect, test } from "vitest";
import { SOURCES } from "../dev/states";
import { Markdown } from "../src/markdown/Markdown";
import { Chip } from "../src/parts/Sources";
import { rest } from "./shown";
import { CORPUS } from "./xss-corpus";

afterAll(rest);

const ELEMENTS = new Set(
  "p div span strong em del code pre br ul ol li blockquote hr table thead tbody tr th td section a button svg path".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "class role dir lang title start type tabindex scope viewbox d focusable href target rel".split(" "),
);
const OURS = '<path d="[A-Za-z0-9 .-]+">'; // icons are ours: no answer reaches their attributes

/** The first thing that must not be, or "". */
function harm(place: Element): string {
  for (const element of place.querySelectorAll("*")) {
    const tag = element.tagName.toLowerCase();
    if (!ELEMENTS.has(tag)) return `<${tag}>`;
    for (const { name, value } of element.attributes) {
      const key = name.toLowerCase();
      if (!ATTRIBUTES.has(key) && !/^(aria|data)-/.test(key)) return `${key}="${value}"`;
      if (key === "href" && !/^(https?:\/\/|mailto:)/.test(value)) return `href="${value}"`;
      if (key === "href" && tag !== "a") return `href of <${tag}>`;
    }
    if (tag === "a" && element.getAttribute("rel") !== "noopener noreferrer nofollow") return "a link that tells";
    if (tag === "svg" && !new RegExp(`^${OURS}(</path>)?$`).test(element.innerHTML)) return element.innerHTML;
  }
  return "";
}

const cite = (n: number, key: string) => {
  const source = SOURCES.find((one) => one.n === n);
  return source ? <Chip key={key} source={source} /> : null;
};

/** Stream `pieces` into a new place and tell the first harm that any step did. */
function stream(pieces: string[]): string {
  const place = document.createElement("div");
  const root = createRoot(place);
  let text = "";
  let found = "";
  const step = (done: boolean) => {
    flushSync(() => root.render(<Markdown text={text} done={done} cite={cite} />));
    found ||= harm(place) && `${harm(place)} of ${JSON.stringify(text)}`;
  };
  for (const piece of pieces) {
    text += piece;
    step(false);
  }
  step(true);
  root.unmount();
  return found;
}

/** Numbers that are the same in each run. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

test("the corpus is large", () => {
  expect(new Set(CORPUS).size).toBeGreaterThan(300);
});

test.each(CORPUS.map((payload, index) => [JSON.stringify(payload).slice(0, 70), payload, index] as const))(
  "%s",
  (_, payload, index) => {
    const splits =
      payload.length <= 40
        ? Array.from({ length: payload.length }, (__, at) => at)
        : Array.from({ length: 12 }, random(index)).map((share) => Math.floor(share * payload.length));
    expect(stream([payload])).toBe("");
    for (const at of splits) expect(stream([payload.slice(0, at), payload.slice(at)])).toBe("");
    expect(stream([...payload])).toBe(""); // and character by character
  },
);

test("payloads one after the other, in random pieces, do no more than alone", () => {
  const next = random(7);
  for (let round = 0; round < 20; round += 1) {
    const text = Array.from({ length: 8 }, () => CORPUS[Math.floor(next() * CORPUS.length)]).join(
      round % 2 ? "\n\n" : " ",
    );
    const pieces: string[] = [];
    for (let at = 0; at < text.length; ) {
      const size = 1 + Math.floor(next() * 30);
      pieces.push(text.slice(at, at + size));
      at += size;
    }
    expect(stream(pieces)).toBe("");
  }
});

test("what harms is seen", () => {
  const place = document.createElement("div");
  for (const bad of [
    '<img src="x">',
    '<a href="javascript:x">x</a>',
    '<p onclick="x">',
    '<svg onload="x">',
    '<a href="https://a.b">x</a>',
  ]) {
    place.innerHTML = bad;
    expect(harm(place)).not.toBe("");
  }
});
