/** What the browser keeps for the widget: by assistant for all tabs, and for one tab over a reload. docs/widget.md lists it. */

import type { Line } from "./line";
import type { Attachment, Source } from "./types";
import type { Question } from "./wire";

/** A question that was not confirmed, or a turn that was being told, when the page went. */
export interface KeptTurn {
  id: string;
  parent: string | null;
  question: string;
  attachments?: Attachment[];
  asked: number;
  pending?: Question; // until it is confirmed
  sent?: Line["kind"] | null; // by what it went out, so that it may have arrived
  cursor?: string;
  answer?: string;
  sources?: Source[];
}

export interface KeptTab {
  open: boolean;
  conversation: string | null;
  turns: KeptTurn[];
}

/** Storage that may be full, forbidden or absent: then it is memory. */
class Shelf {
  private readonly memory = new Map<string, string>();

  constructor(
    private readonly storage: () => Storage,
    private readonly prefix: string,
  ) {}

  get(name: string): string | null {
    try {
      const kept = this.storage().getItem(this.prefix + name);
      if (kept !== null) return kept;
    } catch {
      // memory has it
    }
    return this.memory.get(name) ?? null;
  }

  set(name: string, value: string | null): void {
    if (value === null) this.memory.delete(name);
    else this.memory.set(name, value);
    try {
      if (value === null) this.storage().removeItem(this.prefix + name);
      else this.storage().setItem(this.prefix + name, value);
    } catch {
      // memory has it
    }
  }
}

const DRAFTS_KEPT = 20;

export class Keeping {
  readonly prefix: string;
  private readonly local: Shelf;
  private readonly session: Shelf;

  constructor(base: string, tenant: string, assistant: string) {
    // Two installations may have a tenant and an assistant of the same names.
    this.prefix = `parley:${new URL(base).host}/${tenant}/${assistant}:`;
    this.local = new Shelf(() => localStorage, this.prefix);
    this.session = new Shelf(() => sessionStorage, this.prefix);
  }

  get ticket(): string | null {
    return this.local.get("ticket");
  }

  set ticket(value: string | null) {
    this.local.set("ticket", value);
  }

  get conversation(): string | null {
    return this.local.get("conversation");
  }

  set conversation(value: string | null) {
    this.local.set("conversation", value);
  }

  get consent(): string | null {
    return this.local.get("consent");
  }

  set consent(value: string | null) {
    this.local.set("consent", value);
  }

  draft(conversation: string | null): string {
    return this.drafts()[conversation ?? ""] ?? "";
  }

  keepDraft(conversation: string | null, text: string): void {
    const { [conversation ?? ""]: _, ...others } = this.drafts();
    const drafts = Object.entries(text ? { ...others, [conversation ?? ""]: text } : others).slice(-DRAFTS_KEPT);
    this.local.set("drafts", drafts.length ? JSON.stringify(Object.fromEntries(drafts)) : null);
  }

  private drafts(): Record<string, string> {
    return parsed(this.local.get("drafts")) ?? {};
  }

  get tab(): KeptTab | null {
    return parsed(this.session.get("tab"));
  }

  set tab(value: KeptTab | null) {
    this.session.set("tab", value && JSON.stringify(value));
    openSomewhere(value?.open ?? false);
  }
}

/** What the loader looks at, so that an open widget is open again after a reload. */
function openSomewhere(open: boolean): void {
  try {
    if (open) sessionStorage.setItem("parley:open", "1");
    else sessionStorage.removeItem("parley:open");
  } catch {
    // then it stays closed
  }
}

function parsed<Kept>(text: string | null): Kept | null {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
