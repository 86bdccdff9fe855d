// @vitest-environment node
/** Files on their way to a question, against a Parley on real sockets. */

import { afterEach, beforeEach, expect, test } from "vitest";
import { files } from "../src/parts/parts";
import { ChatStore } from "../src/store";
import { installBrowser, until } from "./browser";
import { FakeParley } from "./fake";

let parley: FakeParley;
let stores: ChatStore[];

/** As far as it is used, on top of fetch(). */
class Request {
  status = 0;
  responseText = "";
  upload: { onprogress?: (event: { loaded: number; total: number }) => void } = {};
  onload = () => {};
  onerror = () => {};
  onabort = () => {};
  private readonly headers: Record<string, string> = {};
  private place: [string, string] = ["", ""];
  private readonly ending = new AbortController();

  open(method: string, url: string) {
    this.place = [method, url];
  }
  setRequestHeader(name: string, value: string) {
    this.headers[name] = value;
  }
  async send(body: FormData) {
    const [method, url] = this.place;
    this.upload.onprogress?.({ loaded: 1, total: 2 });
    try {
      const response = await fetch(url, { method, body, headers: this.headers, signal: this.ending.signal });
      [this.status, this.responseText] = [response.status, await response.text()];
      this.onload();
    } catch {
      this.onerror();
    }
  }
  abort() {
    this.ending.abort();
  }
}

beforeEach(async () => {
  installBrowser();
  Object.assign(globalThis, { XMLHttpRequest: Request });
  parley = await new FakeParley().start();
  parley.settings.attachments = { most: 2, bytes: 100, kinds: [".txt"] };
  stores = [];
  await files.bring();
});

afterEach(async () => {
  for (const store of stores) store.end();
  await parley.stop();
});

async function open(): Promise<ChatStore> {
  const store = new ChatStore({ base: parley.url, tenant: "acme", assistant: "guide", mode: "bubble" });
  stores.push(store);
  store.actions.open();
  await until(() => store.getState().settings !== null);
  return store;
}

const file = (name = "note.txt", text = "ochre") => new File([text], name);
const uploads = (store: ChatStore) => store.getState().uploads;
const posts = () => parley.requests.filter((each) => each.startsWith("POST") && each.endsWith("/attachments"));
const isThere = (store: ChatStore, count = 1) => () =>
  uploads(store).length === count && uploads(store).every(({ id, problem }) => id || problem);

test("the conversation begins with its first file, and the question names what was attached", async () => {
  const store = await open();
  store.actions.setDraft("Which colour?");
  store.actions.attach([file(), file("long.txt")]);
  await until(isThere(store, 2));
  expect(uploads(store).map(({ id, cut }) => [id !== "", cut])).toEqual([
    [true, false],
    [true, true],
  ]);
  expect(parley.conversations).toHaveLength(1);
  const ids = uploads(store).map(({ id }) => id);
  store.actions.ask("Which colour?");
  await until(() => parley.turns.length === 1);
  expect(parley.frames.find(({ type }) => type === "ask")).toMatchObject({
    conversation: parley.conversations[0],
    attachments: ids,
  });
  expect(uploads(store)).toEqual([]);
  expect(store.getState().turns[0]!.attachments.map(({ name }) => name)).toEqual(["note.txt", "long.txt"]);
  expect(store.getState().draft).toBe("");
});

test("what would be refused is not sent", async () => {
  const store = await open();
  store.actions.attach([file("tool.exe"), file("big.txt", "x".repeat(101)), file("none.txt", "")]);
  await until(isThere(store, 3));
  store.actions.attach([file("a.txt"), file("b.txt"), file("c.txt")]);
  await until(isThere(store, 6));
  const codes = uploads(store).map(({ problem }) => problem?.code);
  expect(codes).toEqual(["unsupported_type", "payload_too_large", "empty", undefined, undefined, "many"]);
  expect(posts()).toHaveLength(2);
});

test("a refused file says why, and the question goes without it", async () => {
  const store = await open();
  parley.refuseFiles = ["parser"];
  store.actions.attach([file()]);
  await until(isThere(store));
  expect(uploads(store)[0]!.problem!.code).toBe("parser");
  store.actions.ask("Which colour?");
  await until(() => parley.turns.length === 1);
  expect(parley.frames.find(({ type }) => type === "ask")).not.toHaveProperty("attachments");
});

test("a file that is removed is taken back", async () => {
  const store = await open();
  store.actions.attach([file()]);
  await until(isThere(store));
  const { id, key } = uploads(store)[0]!;
  store.actions.detach(key);
  await until(() => parley.requests.some((each) => each.startsWith("DELETE") && each.endsWith(id)));
  expect(uploads(store)).toEqual([]);
});

test("a token that has ended is renewed, and the file sent again", async () => {
  const store = await open();
  await store.api.visit.enter();
  parley.tokens.clear();
  store.actions.attach([file()]);
  await until(isThere(store));
  expect(uploads(store)[0]!.problem).toBeNull();
});

test("an edited question keeps its files, and so does one that is answered again", async () => {
  const store = await open();
  store.actions.attach([file()]);
  await until(isThere(store));
  const { id } = uploads(store)[0]!;
  store.actions.ask("Which colour?");
  await until(() => parley.turns.length === 1);
  parley.finish(parley.last);
  await until(() => store.getState().turns[0]!.state === "finished");
  store.actions.edit(parley.last.id, "What colour?");
  await until(() => parley.turns.length === 2);
  expect(parley.frames.at(-1)).toMatchObject({ edits: parley.turns[0]!.id, attachments: [id] });
  expect(store.getState().turns[0]!.attachments).toHaveLength(1);
});

test("another conversation begins without them", async () => {
  const store = await open();
  store.actions.attach([file()]);
  await until(isThere(store));
  store.actions.newConversation();
  expect(uploads(store)).toEqual([]);
});

test("a question that waits for its line still has its files after a reload", async () => {
  const store = await open();
  store.actions.attach([file()]);
  await until(isThere(store));
  const { id } = uploads(store)[0]!;
  parley.swallow = 99;
  store.actions.ask("Which colour?");
  await until(() => parley.turns.length === 1);
  store.end();
  parley.swallow = 0;
  const again = await open();
  await until(() => again.getState().turns.length === 1);
  expect(again.getState().turns[0]!.attachments.map((each) => each.id)).toContain(id);
});
