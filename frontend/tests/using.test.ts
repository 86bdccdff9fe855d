/** Using the widget: writing, keys, focus, consent, hand-off and the list of conversations. */
import { describe, expect, test, vi } from "vitest";
import { makeSettings, makeState, makeTurn, stateOf } from "../dev/states";
import { sizeOf } from "../src/parts/Attached";
import { FULL_SCREEN } from "../src/parts/Panel";
import { press, show, write } from "./shown";

const of = (name: string) => stateOf(name, { scheme: "light", locale: "en", primary: "" });
const area = (shown: ReturnType<typeof show>) => shown.find<HTMLTextAreaElement>(".composer textarea");

describe("the composer", () => {
  test("keeps the draft in the store, and sends it by Enter", async () => {
    const shown = show(of("welcome"));
    write(area(shown), " Which seal? ");
    expect(shown.store.calls).toContainEqual(["setDraft", " Which seal? "]);
    await shown.until(() => expect(shown.named("Send").getAttribute("aria-disabled")).toBe("false"));
    press(area(shown), "Enter");
    expect(shown.store.calls).toContainEqual(["ask", "Which seal?"]);
  });

  test("breaks the line by Shift+Enter, and sends nothing while a word is composed", () => {
    const shown = show(makeState({ draft: "ni" }));
    expect(press(area(shown), "Enter", { shiftKey: true }).defaultPrevented).toBe(false);
    press(area(shown), "Enter", { isComposing: true });
    press(area(shown), "Enter", { keyCode: 229 });
    expect(shown.store.calls).toEqual([]);
  });

  test("sends no empty question, and none while one is answered", () => {
    const empty = show(makeState({ draft: "  " }));
    press(area(empty), "Enter");
    empty.named("Send").click();
    expect(empty.store.calls).toEqual([]);
    const busy = show(makeState({ draft: "more", turns: [makeTurn({ state: "answering" })] }));
    press(area(busy), "Enter");
    expect(busy.store.calls).toEqual([]);
  });

  test("tells how long conversations are kept", () => {
    expect(show(of("welcome")).find(".composer").textContent).toContain("Conversations are kept for 30 days.");
  });
});

describe("files", () => {
  const pumps = new File(["x"], "pumps.txt");
  const dropped = (type: string, files: File[], of = "dataTransfer") =>
    Object.assign(new Event(type, { bubbles: true, cancelable: true }), { [of]: { types: ["Files"], files } });

  test("are offered only where the assistant takes them", () => {
    const shown = show(makeState({ settings: makeSettings({ attachments: null }) }));
    expect(() => shown.named("Attach files")).toThrow();
  });

  test("are chosen, dropped and pasted", () => {
    const shown = show(of("welcome"));
    const chosen = shown.find<HTMLInputElement>("input[type=file]");
    expect(chosen.accept).toBe(".docx,.pdf,.txt");
    Object.defineProperty(chosen, "files", { value: [pumps] });
    chosen.dispatchEvent(new Event("change", { bubbles: true }));
    for (const event of [dropped("drop", [pumps]), dropped("paste", [pumps], "clipboardData")]) {
      area(shown).dispatchEvent(event);
      expect(event.defaultPrevented).toBe(true);
    }
    const words = dropped("paste", [], "clipboardData");
    area(shown).dispatchEvent(words);
    expect(words.defaultPrevented).toBe(false);
    expect(shown.store.calls).toEqual(Array(3).fill(["attach", [pumps]]));
  });

  test("that are dragged over it are awaited, until they leave", async () => {
    const shown = show(of("welcome"));
    area(shown).dispatchEvent(dropped("dragover", [pumps]));
    await shown.until(() => expect(shown.find(".drop").textContent).toBe("Drop files here"));
    area(shown).dispatchEvent(dropped("dragleave", [pumps]));
    await shown.until(() => expect(shown.all(".drop")).toEqual([]));
  });

  test("say how they stand, and hold the question up until they are there", async () => {
    const shown = show(of("files"));
    expect(shown.find(".field .files").textContent).toContain("Files of this kind cannot be read.");
    expect(shown.find(".field .files").textContent).toContain("Only its beginning will be read.");
    press(area(shown), "Enter");
    expect(shown.store.calls).toEqual([]);
    shown.store.set({ uploads: shown.store.getState().uploads.filter(({ id }) => id) });
    await shown.until(() => expect(shown.named("Send").getAttribute("aria-disabled")).toBe("false"));
    await shown.until(() => expect(shown.text()).toContain("report.pdf is attached."));
  });

  test("are removed, with the focus on the button that attaches more", () => {
    const shown = show(of("files"));
    shown.named("Remove report.pdf").click();
    expect(shown.store.calls).toEqual([["detach", "1"]]);
    expect(shown.focused()).toBe(shown.named("Attach files"));
  });

  test("are told with their size", () => {
    expect([1, 37, 48_211, 4_120_000].map((size) => sizeOf(size, "en"))).toEqual([
      "1 byte",
      "37 bytes",
      "48.2 kB",
      "4.1 MB",
    ]);
  });

  test("stand above their question", () => {
    const shown = show(of("files"));
    expect(shown.find(".turn > .files").textContent).toContain("pump-4711.pdf");
    expect(shown.find(".turn > .files").textContent).toContain("482.1 kB");
  });
});

test("a starter asks", () => {
  const shown = show(of("welcome"));
  shown.named("How do I bleed the pump?").click();
  expect(shown.store.calls).toEqual([["ask", "How do I bleed the pump?"]]);
});

test("a question is asked better where it stands", async () => {
  const shown = show(of("answer"));
  shown.named("Edit question").click();
  await shown.until(() => expect(shown.focused()).toBe(shown.find(".editor textarea")));
  write(shown.find(".editor textarea"), "Which seal fits the P-5?");
  await shown.until(() => expect(shown.find<HTMLTextAreaElement>(".editor textarea").value).toContain("P-5"));
  press(shown.find(".editor textarea"), "Enter");
  await shown.until(() => expect(shown.store.calls).toEqual([["edit", "t1", "Which seal fits the P-5?"]]));
});

test("Escape leaves a question as it was, with the focus on its button", async () => {
  const shown = show(of("answer"));
  shown.named("Edit question").click();
  await shown.until(() => expect(shown.focused()).toBe(shown.find(".editor textarea")));
  press(shown.find(".editor textarea"), "Escape");
  await shown.until(() => expect(shown.focused()).toBe(shown.named("Edit question")));
  expect(shown.store.calls).toEqual([]);
});

describe("the panel", () => {
  test("opens with the focus on the composer, and returns it to the launcher", async () => {
    const shown = show(of("closed"));
    shown.named("Open chat with Acme Guide").click();
    await shown.until(() => expect(shown.focused()).toBe(area(shown)));
    press(area(shown), "Escape");
    await shown.until(() => expect(shown.focused()).toBe(shown.find(".launcher")));
    expect(shown.all(".panel")).toHaveLength(0);
  });

  test("that was open already takes no focus from the page", async () => {
    const shown = show(of("answer"));
    await new Promise((done) => setTimeout(done, 30));
    expect(shown.focused()).toBeNull();
  });

  test("keeps the focus within only where it fills the screen", async () => {
    const shown = show(of("welcome"));
    expect(shown.find(".panel").hasAttribute("aria-modal")).toBe(false);
    const send = shown.named("Send");
    send.focus();
    expect(press(send, "Tab").defaultPrevented).toBe(false);

    vi.stubGlobal("matchMedia", (query: string) =>
      Object.assign(new EventTarget(), { matches: query === FULL_SCREEN }),
    );
    const small = show(of("welcome"));
    vi.unstubAllGlobals();
    expect(small.find(".panel").getAttribute("aria-modal")).toBe("true");
    small.named("Send").focus();
    expect(press(small.named("Send"), "Tab").defaultPrevented).toBe(true);
    expect(small.focused()).toBe(small.named("Talk to a person"));
    press(small.named("Talk to a person"), "Tab", { shiftKey: true });
    expect(small.focused()).toBe(small.named("Send"));
  });

  test("of an assistant that is refused says so, and has nothing to write in", () => {
    const shown = show(of("refused"));
    expect(shown.text()).toContain("This assistant is not available on this page.");
    expect(shown.all("textarea")).toHaveLength(0);
  });
});

test("nothing is asked before consent", async () => {
  const shown = show(of("consent"));
  expect(shown.all("textarea, .starters")).toHaveLength(0);
  shown.named("Agree and start").click();
  await shown.until(() => expect(area(shown)).toBeTruthy());
});

test("a consent's link is as safe as those of answers", () => {
  const consent = { text: "x", link: "javascript:alert(1)" };
  const shown = show(makeState({ consented: false, settings: makeSettings({ consent }) }));
  expect(shown.all(".consent a")).toHaveLength(0);
});

describe("a person instead", () => {
  test("is asked for with an address that is one", async () => {
    const shown = show(of("answer"));
    shown.named("Talk to a person").click();
    await shown.until(() => expect(shown.find(".sheet input")).toBeTruthy());
    write(shown.find(".sheet input"), "ann");
    shown.find(".sheet form").dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
    await shown.until(() => expect(shown.find('[role="alert"]').textContent).toMatch(/^Please enter a whole/));
    write(shown.find(".sheet input"), "ann@example.com");
    write(shown.find(".sheet textarea"), "Call me");
    await shown.until(() => expect(shown.find<HTMLTextAreaElement>(".sheet textarea").value).toBe("Call me"));
    shown.find(".sheet form").dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
    await shown.until(() => expect(shown.find(".sheet").textContent).toContain("get back to you at ann@example.com"));
    expect(shown.store.calls).toContainEqual(["handOff", "ann@example.com", "Call me"]);
  });

  test("by e-mail has a letter begun", async () => {
    const handoff = { kind: "email", address: "help@example.com" } as const;
    const shown = show(
      makeState({ settings: makeSettings({ handoff }), turns: [makeTurn({ question: "Which seal & why?" })] }),
    );
    shown.named("Talk to a person").click();
    await shown.until(() => expect(shown.named("Write an e-mail")).toBeTruthy());
    expect(shown.named("Write an e-mail").getAttribute("href")).toBe(
      "mailto:help@example.com?subject=Acme%20Guide&body=Which%20seal%20%26%20why%3F",
    );
  });
});

describe("the list of conversations", () => {
  const page = () => show(of("page"), "page");

  test("opens, finds and begins", () => {
    const shown = page();
    shown.named("Error E-17 after start").click();
    write(shown.named("Search conversations"), "seal");
    shown.named("New conversation").click();
    expect(shown.store.calls).toEqual([["openConversation", "c2"], ["findConversations", "seal"], ["newConversation"]]);
    expect(shown.named("Seals for the P-4").getAttribute("aria-current")).toBe("true");
  });

  test("renames", async () => {
    const shown = page();
    shown.named("Options for Seals for the P-4").click();
    await shown.until(() => shown.named("Rename").click());
    await shown.until(() => write(shown.named("Title"), "Seals"));
    await shown.until(() => expect((shown.named("Title") as HTMLInputElement).value).toBe("Seals"));
    shown.find(".entry-deeds form").dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
    await shown.until(() => expect(shown.store.calls).toEqual([["rename", "c1", "Seals"]]));
    await shown.until(() => expect(shown.focused()).toBe(shown.named("Options for Seals for the P-4")));
  });

  test("asks before it deletes", async () => {
    const shown = page();
    shown.named("Options for Seals for the P-4").click();
    await shown.until(() => shown.named("Delete").click());
    await shown.until(() => expect(shown.text()).toContain("Delete this conversation for good?"));
    expect(shown.store.calls).toEqual([]);
    shown.find(".danger").click();
    expect(shown.store.calls).toEqual([["remove", "c1"]]);
  });

  test("shares by a link that can be taken back", async () => {
    const shown = page();
    shown.named("Options for Seals for the P-4").click();
    await shown.until(() => shown.named("Share").click());
    await shown.until(() =>
      expect(shown.find<HTMLInputElement>(".entry-deeds input").value).toBe("https://parley.example/share/6f1e0c"),
    );
    shown.named("Stop sharing").click();
    await shown.until(() => expect(shown.text()).toContain("The link no longer works."));
    expect(shown.store.calls).toEqual([
      ["share", "c1"],
      ["unshare", "c1"],
    ]);
  });
});

test("on a small page the list is a drawer that takes the focus, and Escape puts it away", async () => {
  vi.stubGlobal("matchMedia", (query: string) =>
    Object.assign(new EventTarget(), { matches: query === "(max-width: 800px)" }),
  );
  const shown = show(of("page"), "page");
  expect(shown.all(".aside")).toHaveLength(0);
  shown.named("Show conversations").click();
  await shown.until(() => expect(shown.focused()).toBe(shown.named("New conversation")));
  expect(shown.find("main").hasAttribute("inert")).toBe(true);
  press(shown.find(".aside button"), "Escape");
  await shown.until(() => expect(shown.focused()).toBe(shown.named("Show conversations")));
  vi.unstubAllGlobals();
});

test("what is shared is read only", () => {
  const shown = show(of("shared"), "shared");
  expect(shown.text()).toContain("Shared conversation, read only");
  expect(shown.find("h1").textContent).toBe("Seals for the P-4");
  expect(shown.all("textarea, .launcher, .aside")).toHaveLength(0);
  expect(
    shown
      .all("button")
      .map((one) => one.getAttribute("aria-label"))
      .filter((name) => /Edit|again|Good|Bad|New/.test(name ?? "")),
  ).toEqual([]);
});
