// @vitest-environment node
/** The store against a Parley on real sockets: no question is lost or asked twice, and no answer is lost. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { forgetComplaints } from "../src/problems";
import { ChatStore, type Options } from "../src/store";
import type { State } from "../src/types";
import { installBrowser, newTab, until } from "./browser";
import { FakeParley } from "./fake";

let parley: FakeParley;
let stores: ChatStore[];
let complaints: string[];

beforeEach(async () => {
  installBrowser();
  forgetComplaints();
  complaints = [];
  vi.spyOn(console, "error").mockImplementation((text) => void complaints.push(String(text)));
  parley = await new FakeParley().start();
  stores = [];
});

afterEach(async () => {
  for (const store of stores) store.end();
  await parley.stop();
});

function open(more: Partial<Options> = {}, identity?: string): ChatStore {
  const place = { base: parley.url, tenant: "acme", assistant: "guide", mode: "bubble" } as const;
  const store = new ChatStore({ ...place, ...more }, identity);
  stores.push(store);
  store.actions.open();
  return store;
}

const state = (store: ChatStore): State => store.getState();
const last = (store: ChatStore) => state(store).turns.at(-1);
const answers = (store: ChatStore) => state(store).turns.map(({ answer }) => answer);
const asks = () => parley.frames.filter(({ type }) => type === "ask");

async function ask(store: ChatStore, text: string) {
  const before = parley.turns.length;
  store.actions.ask(text);
  await until(() => parley.turns.length > before);
  return parley.last;
}

async function finished(store: ChatStore, text: string) {
  await until(() => last(store)?.state === "finished");
  expect(last(store)!.answer).toBe(text);
}

describe("asking", () => {
  test("an answer comes word by word and ends with what is stored", async () => {
    const store = open();
    const turn = await ask(store, " Which seal fits? ");
    await until(() => last(store)!.state === "waiting");
    parley.emit(turn, "queued", { position: 3, wait: 2.5 });
    await until(() => last(store)!.queue?.position === 3);
    parley.say(turn, "The seal ", "P-40");
    await until(() => last(store)!.answer === "The seal P-40");
    expect(last(store)).toMatchObject({ state: "answering", id: turn.id, question: "Which seal fits?", queue: null });
    parley.finish(turn, { text: "The seal P-40 fits." });
    await finished(store, "The seal P-40 fits.");
    expect(last(store)!.answerId).toBe(`${turn.id}-answer`);
    expect(state(store).connection).toBe("online");
    expect(asks()).toEqual([expect.objectContaining({ assistant: "guide", text: "Which seal fits?" })]);
  });

  test("what is asked meanwhile waits, and follows the turn before", async () => {
    const store = open();
    const first = await ask(store, "One?");
    store.actions.ask("Two?");
    await until(() => state(store).turns.length === 2);
    expect(last(store)!.state).toBe("sending");
    parley.finish(first, { text: "1" });
    await until(() => parley.turns.length === 2);
    expect(asks()[1]).toMatchObject({ conversation: first.conversation, parent: first.id });
    parley.finish(parley.last, { text: "2" });
    await finished(store, "2");
    expect(answers(store)).toEqual(["1", "2"]);
  });

  test("a question whose socket dies unanswered is sent again and asked once", async () => {
    const store = open();
    parley.swallow = 2;
    const turn = await ask(store, "How?");
    await until(() => asks().length === 3);
    parley.say(turn, "So.");
    parley.finish(turn);
    await finished(store, "So.");
    expect(parley.turns).toHaveLength(1);
    expect(new Set(asks().map(({ client_id }) => client_id)).size).toBe(1);
  });

  test("stop keeps what was said, and the conversation goes on", async () => {
    const store = open();
    const turn = await ask(store, "All?");
    parley.say(turn, "word ");
    await until(() => last(store)!.answer);
    store.actions.stop();
    await until(() => last(store)!.state === "stopped");
    expect(last(store)).toMatchObject({ answer: "word ", finishReason: "stopped" });
    parley.finish(await ask(store, "And?"), { text: "Gladly." });
    await finished(store, "Gladly.");
  });

  test("a question that was not sent yet is taken back into the draft", async () => {
    const store = open();
    await ask(store, "One?");
    store.actions.ask("Two?");
    await until(() => state(store).turns.length === 2);
    parley.finish(parley.last, { text: "" });
    parley.refuseAsks.push({ code: "turn_in_progress" });
    await until(() => asks().length === 2);
    await until(() => last(store)!.state === "sending");
    store.actions.stop();
    await until(() => state(store).turns.length === 1);
    expect(state(store).draft).toBe("Two?");
  });

  test("a limit is told in words with the time to try again, and another attempt is another question", async () => {
    const store = open();
    parley.refuseAsks.push({ code: "rate_limited", message: "Too many questions.", retry_after: 30 });
    store.actions.ask("One?");
    await until(() => last(store)?.state === "failed");
    expect(last(store)!.problem).toMatchObject({ code: "rate_limited", message: "Too many questions." });
    expect(last(store)!.problem!.retryAt! - Date.now()).toBeGreaterThan(25_000);
    store.actions.retry(last(store)!.id);
    await until(() => parley.turns.length === 1);
    expect(state(store).turns).toHaveLength(1);
    parley.finish(parley.last, { text: "Yes." });
    await finished(store, "Yes.");
    expect(new Set(asks().map(({ client_id }) => client_id)).size).toBe(2);
  });

  test("a conversation that answers another tab's question is waited for", async () => {
    const store = open();
    parley.refuseAsks.push({ code: "turn_in_progress" }, { code: "service_unavailable", retry_after: 0.1 });
    const turn = await ask(store, "One?");
    parley.finish(turn, { text: "Yes." });
    await finished(store, "Yes.");
    expect(asks()).toHaveLength(3);
  });

  test("a failed turn keeps what was said and is asked again beside it", async () => {
    const store = open();
    const turn = await ask(store, "One?");
    parley.say(turn, "half ");
    parley.emit(turn, "error", { code: "model_failed", message: "It broke off." });
    await until(() => last(store)?.state === "failed");
    expect(last(store)).toMatchObject({ answer: "half ", problem: { code: "model_failed" } });
    store.actions.retry(turn.id);
    await until(() => parley.turns.length === 2);
    parley.finish(parley.last, { text: "whole" });
    await finished(store, "whole");
    expect(state(store).siblings[last(store)!.id]).toEqual([turn.id, last(store)!.id]);
  });

  test("a question of more than a frame holds is refused here, in a sentence", async () => {
    const store = open();
    store.actions.ask("\u{1F4AC}".repeat(17_000));
    await until(() => last(store)?.state === "failed");
    expect(last(store)!.problem!.message).toContain("too long");
    expect(asks()).toHaveLength(0);
  });

  test("consent comes before the first question", async () => {
    parley.settings.consent = { text: "Agree?", link: "" };
    const store = open();
    await until(() => state(store).settings);
    expect(state(store).consented).toBe(false);
    store.actions.ask("One?");
    await until(() => state(store).draft === "One?");
    store.actions.consent();
    await ask(store, "One?");
    expect(open().getState().consented).toBe(false); // until its settings have come
    await until(() => state(stores[1]!).consented);
  });
});

describe("losing the line", () => {
  test("an answer goes on where it broke off", async () => {
    const store = open();
    const turn = await ask(store, "All?");
    parley.say(turn, "one ", "two ");
    await until(() => last(store)!.answer === "one two ");
    parley.cut();
    parley.say(turn, "three ");
    await until(() => parley.frames.some(({ type, after }) => type === "resume" && after === "1-4"));
    parley.say(turn, "four");
    parley.finish(turn);
    await finished(store, "one two three four");
  });

  test("a takeover takes back what the new process does not know", async () => {
    const store = open();
    const turn = await ask(store, "All?");
    parley.say(turn, "one ", "two ", "three ");
    await until(() => last(store)!.answer === "one two three ");
    parley.takeOver(turn, 2);
    parley.say(turn, "zwei ");
    await until(() => last(store)!.answer === "one zwei ");
    parley.finish(turn);
    await finished(store, "one zwei ");
  });

  test("a process that ends sends to another, and nobody notices", async () => {
    const store = open();
    const turn = await ask(store, "All?");
    parley.say(turn, "one ");
    await until(() => last(store)!.answer === "one ");
    const [old] = parley.sockets;
    const seen = new Set<string>();
    store.subscribe(() => seen.add(state(store).connection));
    parley.tell({ type: "reconnect", delay: 0.05 });
    parley.say(turn, "two ");
    await until(() => parley.sockets.size === 1 && !parley.sockets.has(old!));
    parley.say(turn, "three");
    parley.finish(turn);
    await finished(store, "one two three");
    expect(seen).toEqual(new Set(["online"]));
  });

  test("without a network it says so, keeps the question, and sends it when the network is back", async () => {
    const store = open();
    const port = Number(new URL(parley.url).port);
    parley.finish(await ask(store, "One?"), { text: "1" });
    await finished(store, "1");
    await parley.stop();
    store.actions.ask("Two?");
    await until(() => state(store).connection === "offline");
    expect(state(store).problem).toBeNull(); // the connection says it
    expect(last(store)!.state).toBe("sending");
    await parley.start(port);
    window.dispatchEvent(new Event("online"));
    await until(() => parley.turns.length === 2);
    expect(asks().at(-1)!.text).toBe("Two?");
    await until(() => state(store).connection === "online");
    expect(state(store).problem).toBeNull();
  });

  test("a token that ended is followed by another, of the same visitor", async () => {
    const store = open();
    const turn = await ask(store, "All?");
    parley.say(turn, "one ");
    await until(() => last(store)!.answer);
    parley.tokens.clear();
    parley.close(4401);
    parley.say(turn, "two");
    parley.finish(turn);
    await finished(store, "one two");
    expect(parley.visits).toHaveLength(2);
    expect(parley.visits[1]!.ticket).toBeTruthy();
    expect(complaints).toEqual([]);
  });

  test("a token is renewed in time, whatever the clock says", async () => {
    vi.spyOn(Date, "now").mockReturnValue(0);
    parley.renewAfter = 0.2;
    const store = open();
    const turn = await ask(store, "All?");
    await until(() => parley.frames.filter(({ type }) => type === "auth").length >= 3);
    expect(parley.sockets.size).toBe(1);
    parley.finish(turn, { text: "Yes." });
    await finished(store, "Yes.");
    expect(parley.visits).toHaveLength(1);
  });

  test("a suspended tenant is told, and nothing tries on", async () => {
    const store = open();
    await ask(store, "All?");
    parley.close(4403);
    await until(() => state(store).connection === "refused");
    expect(state(store).problem!.message).toContain("not available");
  });

  test("too many sockets: the time to try again is told", async () => {
    const store = open();
    await ask(store, "All?");
    parley.close(4429);
    await until(() => state(store).problem?.code === "rate_limited");
    expect(state(store).problem!.retryAt! - Date.now()).toBeGreaterThan(50_000);
  });
});

test("without a network nothing is learnt of sockets: answers come over one again", async () => {
  const store = open();
  parley.finish(await ask(store, "One?"), { text: "1" });
  await finished(store, "1");
  Object.assign(navigator, { onLine: false });
  parley.blockSockets = true;
  parley.cut();
  // Each attempt fails as one to a blocked socket does: more of them than it takes to give sockets up.
  await until(() => parley.refusedSockets >= 3);
  Object.assign(navigator, { onLine: true });
  parley.blockSockets = false;
  window.dispatchEvent(new Event("online"));
  store.actions.ask("Two?");
  await until(() => parley.turns.length === 2);
  expect(parley.sockets.size).toBe(1);
  parley.finish(parley.last, { text: "2" });
  await finished(store, "2");
  expect(complaints).toEqual([]);
});

describe("where sockets are blocked", () => {
  beforeEach(() => {
    parley.blockSockets = true;
  });

  test("answers come as event streams, with one word to the developer", async () => {
    const store = open();
    const turn = await ask(store, "All?");
    parley.say(turn, "one ");
    await until(() => last(store)!.answer === "one ");
    parley.finish(turn, { text: "one two" });
    await finished(store, "one two");
    parley.finish(await ask(store, "And?"), { text: "three" });
    await finished(store, "three");
    expect(parley.conversations).toHaveLength(1);
    expect(complaints).toEqual([expect.stringContaining("WebSocket")]);
  });

  test("a stream that breaks goes on where it broke off, and stops when told", async () => {
    const store = open();
    const turn = await ask(store, "All?");
    parley.say(turn, "one ");
    await until(() => last(store)!.answer === "one ");
    parley.cut();
    parley.say(turn, "two ");
    await until(() => last(store)!.answer === "one two ");
    expect(parley.requests).toContain(`GET /turns/${turn.id}/events?after=1-3`);
    store.actions.stop();
    await until(() => last(store)!.state === "stopped");
  });

  test("a question whose stream breaks unanswered is asked once", async () => {
    parley.swallow = 1;
    const store = open();
    const turn = await ask(store, "All?");
    await until(() => parley.requests.filter((request) => request.endsWith("/turns")).length === 2);
    parley.finish(turn, { text: "Yes." });
    await finished(store, "Yes.");
    expect(parley.turns).toHaveLength(1);
    expect(parley.conversations).toHaveLength(1);
  });

  test("what may have arrived over the socket is not asked again by another way", async () => {
    parley.blockSockets = false;
    const store = open();
    parley.finish(await ask(store, "One?"), { text: "1" });
    await finished(store, "1");
    parley.swallow = 1;
    store.actions.ask("Two?");
    await until(() => parley.turns.length === 2);
    parley.blockSockets = true;
    await until(() => last(store)!.state === "failed", 9000);
    expect(last(store)!.problem!.code).toBe("connection_lost");
    expect(parley.turns).toHaveLength(2);
  });
});

describe("after a reload", () => {
  test("an answer goes on from where it had come to", async () => {
    const first = open();
    const turn = await ask(first, "All?");
    parley.say(turn, "one ", "two ");
    await until(() => last(first)!.answer === "one two ");
    first.end();
    parley.say(turn, "three ");
    const second = open();
    expect(second.wasOpen()).toBe(true);
    await until(() => last(second)?.answer === "one two three ");
    expect(parley.frames.filter(({ type }) => type === "resume").every(({ after }) => after === "1-4")).toBe(true);
    parley.finish(turn);
    await finished(second, "one two three ");
    expect(parley.visits).toHaveLength(2);
  });

  test("a takeover beyond what was kept tells the answer from its beginning", async () => {
    const first = open();
    const turn = await ask(first, "All?");
    parley.say(turn, "one ", "two ", "three ");
    await until(() => last(first)!.answer === "one two three ");
    first.end();
    parley.takeOver(turn, 2);
    parley.say(turn, "zwei ");
    const second = open();
    await until(() => last(second)?.answer === "one zwei ");
  });

  test("a question that was not confirmed is asked, once", async () => {
    const first = open();
    await until(() => state(first).settings);
    parley.swallow = 1;
    first.actions.ask("All?");
    await until(() => parley.turns.length === 1);
    first.end();
    const second = open();
    await until(() => last(second)?.id === parley.last.id);
    parley.finish(parley.last, { text: "Yes." });
    await finished(second, "Yes.");
    expect(parley.turns).toHaveLength(1);
  });

  test("what was said is there again, with its branches and how the last answer ended", async () => {
    const first = open();
    parley.finish(await ask(first, "One?"), { text: "" });
    await until(() => last(first)!.state === "finished");
    const turn = await ask(first, "Two?");
    parley.say(turn, "half");
    await until(() => last(first)!.answer);
    first.actions.stop();
    await until(() => last(first)!.state === "stopped");
    first.end();
    newTab();
    const second = open();
    await until(() => last(second)?.state === "stopped");
    expect(state(second).turns.map(({ question }) => question)).toEqual(["One?", "Two?"]);
    expect(last(second)!.answer).toBe("half");
    second.actions.regenerate(turn.id);
    await until(() => parley.turns.length === 3);
    parley.finish(parley.last, { text: "whole" });
    await finished(second, "whole");
    expect(state(second).siblings[parley.last.id]).toEqual([turn.id, parley.last.id]);
    second.actions.choose(turn.id);
    expect(last(second)!.answer).toBe("half");
    second.actions.edit(turn.id, "Three?");
    await until(() => parley.turns.length === 4);
    expect(asks().at(-1)).toMatchObject({ edits: turn.id, text: "Three?" });
    expect(state(second).turns.map(({ question }) => question)).toEqual(["One?", "Three?"]);
  });

  test("drafts are kept, each with its conversation", async () => {
    const first = open();
    parley.finish(await ask(first, "One?"), { text: "1" });
    await finished(first, "1");
    first.actions.setDraft("half a question");
    first.end();
    const second = open();
    await until(() => state(second).draft === "half a question");
    second.actions.newConversation();
    expect(state(second)).toMatchObject({ draft: "", turns: [], conversation: null });
    second.actions.openConversation(parley.conversations[0]!);
    await until(() => state(second).draft === "half a question" && answers(second).length);
  });

  test("a conversation that is gone is begun anew, and the question with it", async () => {
    const first = open();
    parley.finish(await ask(first, "One?"), { text: "1" });
    await finished(first, "1");
    parley.refuseAsks.push({ code: "not_found" });
    const turn = await ask(first, "Two?");
    expect(asks().at(-1)).toMatchObject({ assistant: "guide", text: "Two?" });
    expect(asks().at(-1)!.parent).toBeUndefined();
    parley.finish(turn, { text: "2" });
    await finished(first, "2");
    expect(answers(first)).toEqual(["2"]);
    first.end();
    parley.conversations = [];
    const second = open();
    await until(() => state(second).settings && state(second).conversation === null);
    expect(state(second).turns).toEqual([]);
  });
});

describe("two tabs", () => {
  test("a question of one is answered in both", async () => {
    const one = open();
    parley.finish(await ask(one, "One?"), { text: "1" });
    await finished(one, "1");
    newTab();
    const two = open();
    await until(() => answers(two).length === 1);
    const turn = await ask(one, "Two?");
    parley.say(turn, "word ");
    await until(() => last(two)!.answer === "word ");
    parley.finish(turn);
    await Promise.all([finished(one, "word "), finished(two, "word ")]);
    await one.actions.rate(turn.id, "up", [], "").catch(() => {});
    parley.finish(await ask(two, "Three?"), { text: "3" });
    await finished(one, "3");
    expect(parley.turns).toHaveLength(3);
    expect(new Set(parley.visits.map(({ ticket }) => ticket)).size).toBe(2); // none, then that of the first
  });

  test("a blank one joins the first question of another", async () => {
    const one = open();
    newTab();
    const two = open();
    await until(() => state(two).settings);
    const turn = await ask(one, "One?");
    await until(() => last(two)?.question === "One?");
    parley.finish(turn, { text: "1" });
    await finished(two, "1");
  });
});

describe("who is not welcome", () => {
  test("a wrong assistant or a foreign site: one sentence to the visitor, one to the developer", async () => {
    parley.refuseVisits = true;
    const store = open();
    store.actions.ask("Hello?");
    await until(() => state(store).connection === "refused");
    expect(state(store).problem!.message).toBe("This assistant is not available on this page.");
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(complaints).toHaveLength(1);
    expect(complaints[0]).toContain("lets no visitors of https://shop.example in to acme/guide");
  });

  test("a wrong assistant is told before anybody asks", async () => {
    const store = open({ assistant: "nobody" });
    await until(() => state(store).connection === "refused");
    expect(complaints).toHaveLength(1);
    expect(parley.visits).toHaveLength(0);
  });

  test("an answer that the browser hides from a site that is not listed is told apart from no network", async () => {
    const whole = globalThis.fetch;
    vi.spyOn(globalThis, "fetch").mockImplementation((url, init) =>
      init?.mode === "no-cors" ? whole(url, init) : Promise.reject(new TypeError("Failed to fetch")),
    );
    const store = open();
    await until(() => state(store).connection === "refused");
    expect(complaints).toHaveLength(1);
    vi.restoreAllMocks();
  });

  test("no network is no refusal", async () => {
    vi.spyOn(globalThis, "fetch").mockRejectedValue(new TypeError("Failed to fetch"));
    const store = open();
    await until(() => state(store).connection === "offline");
    expect(complaints).toHaveLength(0);
    vi.restoreAllMocks();
  });
});

describe("identity", () => {
  test("who the host's server says goes with the ticket of before", async () => {
    const store = open();
    parley.finish(await ask(store, "One?"), { text: "1" });
    await finished(store, "1");
    store.identify("header.claims.signature");
    await until(() => parley.visits.length === 2);
    expect(parley.visits[1]).toEqual({ ticket: expect.any(String), identity: "header.claims.signature" });
    parley.finish(await ask(store, "Two?"), { text: "2" });
    await finished(store, "2");
    expect(answers(store)).toEqual(["1", "2"]);
  });

  test("a wrong one is told, and the visitor goes on without", async () => {
    const store = open({}, "wrong");
    const turn = await ask(store, "One?");
    await until(() => state(store).connection === "online");
    expect(state(store).problem!.message).toContain("could not be confirmed");
    parley.finish(turn, { text: "1" });
    await finished(store, "1");
    expect(state(store).problem).toBeNull();
    expect(complaints).toEqual([expect.stringContaining("The signature is wrong.")]);
  });
});

describe("the page's own server lets people in", () => {
  test("its token is asked for instead", async () => {
    parley.tokens.add("of-the-host");
    const store = open({ letIn: async () => ({ token: "of-the-host", renew_after: 600 }) });
    parley.finish(await ask(store, "One?"), { text: "1" });
    await finished(store, "1");
    expect(parley.visits).toHaveLength(0);
  });
});

test("the page hears of questions and answers", async () => {
  const store = open();
  const heard: unknown[] = [];
  store.onEvent = (name, detail) => void heard.push([name, detail]);
  const turn = await ask(store, "One?");
  parley.finish(turn, { text: "1" });
  await finished(store, "1");
  const about = { conversation: turn.conversation, turn: turn.id };
  expect(heard).toEqual([
    ["question", { ...about, text: "One?" }],
    ["answer", { ...about, text: "1", state: "finished" }],
  ]);
});
