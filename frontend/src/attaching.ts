/** Brings files to Parley, one after the other: each is read there at once, and waits for its question. */

import type { Api } from "./api";
import { problemOf, Refusal, UNREACHABLE } from "./problems";
import type { ChatStore } from "./store";
import { uuid } from "./timing";
import type { Problem, Settings, Upload } from "./types";
import type { WireAttachment } from "./wire";

const lines = new WeakMap<ChatStore, Promise<void>>();
const going = new Map<string, XMLHttpRequest>();

/** Send these, as far as they may come. */
export function attach(chat: ChatStore, files: File[]): void {
  for (const file of files) {
    const { settings, uploads } = chat.getState();
    const problem = settings && refusal(file, settings, uploads.filter((each) => !each.problem).length);
    const upload = { id: "", key: uuid(), name: file.name, size: file.size, sent: 0, cut: false, problem };
    chat.set({ uploads: [...uploads, upload] });
    // In line: the first one may have to begin the conversation.
    if (!problem)
      lines.set(
        chat,
        (lines.get(chat) ?? Promise.resolve()).then(() => send(chat, upload.key, file)),
      );
  }
}

export function detach(chat: ChatStore, key: string): void {
  const { uploads } = chat.getState();
  const upload = uploads.find((each) => each.key === key);
  chat.set({ uploads: uploads.filter((each) => each !== upload) });
  going.get(key)?.abort();
  // Parley forgets by itself what no question came for.
  if (upload?.id) void chat.api.request("DELETE", `${address(chat)}/${upload.id}`).catch(() => null);
}

/** What Parley would say no to, said before anything is sent. */
function refusal(file: File, { attachments }: Settings, others: number): Problem | null {
  const no = (code: string) => ({ code, message: "" });
  if (!attachments) return no("not_permitted");
  if (others >= attachments.most) return no("many");
  if (!attachments.kinds.some((kind) => file.name.toLowerCase().endsWith(kind))) return no("unsupported_type");
  if (file.size > attachments.bytes) return no("payload_too_large");
  return file.size ? null : no("empty");
}

async function send(chat: ChatStore, key: string, file: File): Promise<void> {
  const change = (changed: Partial<Upload>) =>
    chat.set({ uploads: chat.getState().uploads.map((each) => (each.key === key ? { ...each, ...changed } : each)) });
  if (!chat.getState().uploads.some((each) => each.key === key)) return; // not wanted any more
  try {
    await chat.begin();
    await begun(chat);
    const { id, cut } = await posted(chat.api, address(chat), key, file, (sent) => change({ sent }));
    change({ id, cut, sent: 1 });
  } catch (error) {
    change({ problem: error instanceof Refusal ? error.problem : UNREACHABLE });
  }
}

const address = (chat: ChatStore) => `conversations/${chat.book.conversation}/attachments`;

/** Files belong to a conversation, so one begins before its first question. */
async function begun(chat: ChatStore): Promise<void> {
  const { book, keeping } = chat;
  if (book.conversation) return;
  const { assistant } = chat.options;
  const { id } = await chat.api.json<{ id: string }>("POST", "conversations", { body: { assistant } });
  if (book.conversation) return; // a question was quicker
  keeping.keepDraft(null, "");
  book.conversation = id;
  keeping.conversation = id;
  keeping.keepDraft(id, chat.getState().draft);
  chat.draw();
}

/** fetch() would not tell how far it has come. */
async function posted(
  api: Api,
  path: string,
  key: string,
  file: File,
  told: (sent: number) => void,
  again = true,
): Promise<WireAttachment> {
  const token = await api.visit.enter();
  const request = new XMLHttpRequest();
  going.set(key, request);
  try {
    await new Promise<unknown>((resolve, reject) => {
      request.open("POST", `${api.base}/api/v1/${path}`);
      request.setRequestHeader("Authorization", `Bearer ${token}`);
      request.upload.onprogress = ({ loaded, total }) => told(loaded / (total || 1));
      request.onload = resolve;
      request.onerror = request.onabort = () => reject(new Refusal(UNREACHABLE));
      const form = new FormData();
      form.append("file", file);
      request.send(form);
    });
  } finally {
    going.delete(key);
  }
  if (request.status === 401 && again) {
    api.visit.forget(token);
    return posted(api, path, key, file, told, false);
  }
  const body = parsed(request.responseText);
  if (request.status === 201 && body) return body as WireAttachment;
  throw new Refusal(body?.code ? problemOf(body) : UNREACHABLE, request.status);
}

function parsed(text: string): (WireAttachment & { code: string; message: string }) | null {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
