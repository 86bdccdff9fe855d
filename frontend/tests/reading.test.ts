/** Reading: what is shown of answers, sources, waiting and errors. */
import { describe, expect, test, vi } from "vitest";
import { ANSWER, makeState, makeTurn, SOURCES, stateOf, states } from "../dev/states";
import { show, write } from "./shown";

const of = (name: string, scheme = "light") => stateOf(name, { scheme, locale: "en", primary: "" });

test("an answer is headings, lists, a table, code, a quote and a safe link", () => {
  const shown = show(of("answer"));
  expect(shown.find('.prose [role="heading"]').textContent).toBe("How to replace it");
  expect(shown.all("ol li")).toHaveLength(3);
  expect(shown.all("tbody tr")).toHaveLength(2);
  expect(shown.find("pre code").textContent).toContain("pumpctl stop --unit 4\n");
  expect(shown.all(".task")).toHaveLength(2);
  const link = shown.find<HTMLAnchorElement>(".prose a");
  expect([link.getAttribute("href"), link.target, link.rel]).toEqual([
    "https://example.com/service",
    "_blank",
    "noopener noreferrer nofollow",
  ]);
});

test("numbers are chips where there is such a source, and nowhere in code or links", () => {
  const answer = "Yes [1], [2,3] and [9]. `a[1]` [see [1]](https://a.example)\n\n```\nb[1]\n```";
  const shown = show(makeState({ turns: [makeTurn({ answer })] }));
  expect(shown.all(".chip").map((chip) => chip.textContent)).toEqual(["1", "2", "3"]);
  expect(shown.find(".prose").textContent).toContain("[9]");
});

test("a picture is its words and its address, and loads nothing", () => {
  const shown = show(makeState({ turns: [makeTurn({ answer: "![a pump](https://evil.example/p.png)" })] }));
  expect(shown.find(".prose").textContent).toBe("a pump (https://evil.example/p.png)");
  expect(shown.all("img")).toHaveLength(0);
});

test("a chip opens its passage with document, heading and page; Escape returns to the chip", async () => {
  const shown = show(of("answer"));
  const chip = shown.find(".chip");
  chip.focus();
  chip.click();
  await shown.until(() => expect(shown.find(".sheet").textContent).toContain("Pump manual P-4"));
  expect(shown.find(".sheet").textContent).toContain("Maintenance \u203a Spare parts \u203a Page 12");
  expect(shown.find(".passage").textContent).toBe(SOURCES[0]!.text);
  await shown.until(() => expect(shown.find(".sheet").contains(shown.focused())).toBe(true));
  expect(shown.find(".inside").hasAttribute("inert")).toBe(true);
  shown.find(".sheet").dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  await shown.until(() => expect(shown.focused()).toBe(chip));
  expect(shown.store.getState().open).toBe(true); // Escape closed the card alone
});

test.each([
  ["sending", "Sending\u2026"],
  ["waiting", "Looking it up\u2026"],
  ["queued", "Number 4 in line, about 12 seconds"],
  ["waking", "The model is waking up. This can take a few minutes."],
])("while %s it says %s, and can be stopped", (name, words) => {
  const shown = show(of(name));
  expect(shown.find(".progress").textContent).toBe(words);
  shown.named("Stop answering").click();
  expect(shown.store.calls).toContainEqual(["stop"]);
});

test.each([
  ["failed", "The answer broke off."],
  ["quota", "The limit for now is used up."],
  ["internal", "Something went wrong on our side."],
])("%s is told in human words: %s", (name, words) => {
  expect(show(of(name)).find(".trouble").textContent).toContain(words);
});

test("an internal error tells its reference", () => {
  expect(show(of("internal")).text()).toContain("Reference: e641f664db31");
});

test("what is wrong with a question is told as Parley told it", () => {
  const problem = { code: "invalid_request", message: "x", fields: { text: "This is too long." } };
  expect(show(makeState({ turns: [makeTurn({ state: "failed", answer: "", problem })] })).text()).toContain(
    "This is too long.",
  );
});

test("a limit counts down, and only then the question can be asked again", async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  try {
    const problem = { code: "rate_limited", message: "", retryAt: Date.now() + 3000 };
    const shown = show(makeState({ turns: [makeTurn({ state: "failed", answer: "", problem })] }));
    const again = shown.find(".trouble button");
    expect(again.textContent).toBe("Try again in 3 seconds");
    again.click();
    expect(shown.store.calls).toEqual([]);
    await vi.advanceTimersByTimeAsync(2000);
    await shown.until(() => expect(again.textContent).toBe("Try again in 1 second"));
    await vi.advanceTimersByTimeAsync(2000);
    await shown.until(() => expect(again.textContent).toBe("Try again"));
    again.click();
    expect(shown.store.calls).toEqual([["retry", "t1"]]);
  } finally {
    vi.useRealTimers();
  }
});

test("sources alone are shown with their words", () => {
  const shown = show(of("sources"));
  expect(shown.find(".notice").textContent).toMatch(/^No answer could be written/);
  expect(shown.all(".sources li")).toHaveLength(3);
  expect(shown.find(".sources").textContent).toContain("fits pumps of series P-4");
});

test("an answer can be copied, asked again, gone on with and paged through", async () => {
  const copied = vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
  const shown = show(
    makeState({
      turns: [makeTurn({ state: "stopped", finishReason: "stopped" })],
      siblings: { t1: ["t0", "t1", "t2"] },
    }),
  );
  shown.named("Copy").click();
  expect(copied).toHaveBeenCalledWith(ANSWER);
  await shown.until(() => expect(shown.find("[aria-live=polite]").textContent).toContain("Copied"));
  shown.named("Answer again").click();
  shown.named("Continue").click();
  shown.named("Previous version").click();
  shown.named("Next version").click();
  expect(shown.text()).toContain("2/3");
  expect(shown.store.calls).toEqual([
    ["regenerate", "t1"],
    ["resume", "t1"],
    ["choose", "t0"],
    ["choose", "t2"],
  ]);
});

test("nothing is changed while another answer is written", () => {
  const busy = makeTurn({ id: "t2", state: "answering", answer: "x", answerId: null, asked: 1 });
  const shown = show(makeState({ turns: [makeTurn(), busy] }));
  expect(shown.all('[aria-label="Answer again"], [aria-label="Edit question"]')).toHaveLength(0);
});

describe("feedback", () => {
  test("goes at once, and again with reasons and a comment", async () => {
    const shown = show(of("answer"));
    shown.named("Bad answer").click();
    expect(shown.store.calls).toEqual([["rate", "t1", "down", [], ""]]);
    await shown.until(() => shown.named("Wrong sources").click());
    write(shown.named("Comment (optional)"), "It is P-42.");
    await shown.until(() => expect(shown.named("Wrong sources").getAttribute("aria-pressed")).toBe("true"));
    shown.named("Send feedback").click();
    await shown.until(() => expect(shown.text()).toContain("Thank you for your feedback."));
    expect(shown.store.calls[1]).toEqual(["rate", "t1", "down", ["sources"], "It is P-42."]);
  });

  test("is taken back by the same button", () => {
    const shown = show(of("rated"));
    shown.named("Bad answer").click();
    expect(shown.store.calls).toEqual([["rate", "t1", null, [], ""]]);
  });

  test("that fails says so", async () => {
    const shown = show(of("answer"));
    shown.store.replies.rate = () => Promise.reject(new Error("no"));
    shown.named("Good answer").click();
    await shown.until(() => expect(shown.text()).toContain("That did not work."));
  });
});

test("sentences are heard as they come, and the end of the answer", async () => {
  const shown = show(makeState({ turns: [makeTurn({ state: "answering", answer: "", sources: SOURCES })] }));
  const heard = () => shown.all("[aria-live=polite] p").map((line) => line.textContent);
  for (const answer of ["The seal", "The seal fits. It", "The seal fits. It is **P-40** [1]. And"]) {
    shown.store.setTurn({ answer });
    await shown.until(() => expect(shown.find(".prose").textContent).toContain(answer.slice(0, 8)));
    await new Promise((done) => setTimeout(done, 20));
  }
  await shown.until(() => expect(heard()).toContain("It is P-40 ."));
  expect(heard()).toContain("The seal fits.");
  expect(heard().join()).not.toContain("And");
  shown.store.setTurn({ answer: "The seal fits. It is **P-40** [1]. And so on.", state: "finished" });
  await shown.until(() => expect(heard().slice(-2)).toEqual(["And so on.", "Answer complete."]));
});

test("an answer that was there before is not read aloud", async () => {
  const shown = show(of("answer"));
  await new Promise((done) => setTimeout(done, 50));
  expect(shown.find("[aria-live=polite]").textContent).toBe("");
});

test.each(Object.keys(states))("%s is shown on a page, in a bubble and shared, in both directions", (name) => {
  for (const locale of ["en", "ar"]) {
    for (const mode of ["bubble", "page", "shared"] as const) {
      const shown = show(stateOf(name, { scheme: "auto", locale, primary: "" }), mode);
      const dir = shown.find(".parley").getAttribute("dir");
      expect(dir).toBe(locale === "ar" && shown.store.getState().settings ? "rtl" : "ltr");
      document.body.replaceChildren();
    }
  }
});
