/** A conversation as Parley keeps it, as turns: what was said, and how the last answers ended. */

import type { Api } from "./api";
import { problemOf } from "./problems";
import type { Conversation, Turn } from "./types";
import type { WireConversation, WireMessage, WirePage, WireTurn } from "./wire";

const MOST_PAGES = 20;

export function newTurn(turn: Partial<Turn> & Pick<Turn, "id" | "question">): Turn {
  return {
    parent: null,
    attachments: [],
    answer: "",
    state: "sending",
    queue: null,
    finishReason: null,
    sources: [],
    citations: [],
    problem: null,
    answerId: null,
    rating: null,
    asked: Date.now(),
    ...turn,
  };
}

/** All turns of a conversation, those asked first first. Raises Refusal. */
export async function readHistory(api: Api, conversation: string): Promise<Map<string, Turn>> {
  const turns = new Map<string, Turn>();
  let next: string | null = `conversations/${conversation}/messages?limit=200`;
  for (let page = 0; next && page < MOST_PAGES; page += 1) {
    const told: WirePage<WireMessage> = await api.json("GET", next);
    for (const message of told.results) place(turns, message);
    next = told.next && ownAddress(api.base, told.next);
  }
  return turns;
}

/** Behind a proxy Parley may know itself by another name than the page does. */
function ownAddress(base: string, next: string): string {
  const { pathname, search } = new URL(next, base);
  return base + pathname + search;
}

function place(turns: Map<string, Turn>, message: WireMessage): void {
  const asked = Date.parse(message.created);
  for (const id of message.turns) {
    const known = turns.get(id) ?? newTurn({ id, question: "", parent: message.parent, asked, state: "waiting" });
    turns.set(
      id,
      message.role === "user"
        ? { ...known, question: message.text, attachments: message.attachments }
        : {
            ...known,
            answer: message.text,
            answerId: message.id,
            citations: message.citations,
            rating: message.rating ?? null,
            state: "finished",
            finishReason: "stop",
          },
    );
  }
}

/** How a turn stands, which its messages do not say. Raises Refusal. */
export async function readTurn(api: Api, turn: Turn): Promise<Turn> {
  const told: WireTurn = await api.json("GET", `turns/${turn.id}`);
  if (told.state === "queued" || told.state === "running") return { ...turn, state: "waiting" };
  const over = told.state === "finished" || told.state === "stopped" ? told.state : "failed";
  return {
    ...turn,
    state: over,
    answer: told.text,
    answerId: told.answer?.id ?? null,
    citations: told.citations,
    sources: told.sources,
    finishReason: told.finish_reason || null,
    problem: told.error && problemOf(told.error),
  };
}

export async function listConversations(api: Api, words: string): Promise<Conversation[]> {
  const query = words.trim() ? `?q=${encodeURIComponent(words.trim())}` : "";
  const told: WirePage<WireConversation> = await api.json("GET", `conversations${query}`);
  return told.results.map(({ id, title, active_at }) => ({ id, title, activeAt: Date.parse(active_at) }));
}
