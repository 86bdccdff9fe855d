/** What the parts of the widget agree on: what Parley tells it (`Settings`), what it knows (`State`) and what can be
 * done (`Actions`). The words of the wire are those of docs/websocket.md and docs/api.md. */

/** An assistant as its operator dressed it: `GET /api/v1/widget/<tenant>/<assistant>`, or embedded in the hosted page. */
export interface Settings {
  tenant: string; // slug
  assistant: string; // slug
  name: string;
  description: string;
  greeting: string; // what stands where nothing has been said yet
  starters: string[]; // questions to begin with
  theme: Theme;
  locale: string; // BCP 47
  direction: "ltr" | "rtl";
  strings: Partial<Record<string, string>>; // the operator's own wording, by the keys of strings.ts
  consent: { text: string; link: string } | null; // to be agreed to before the first question
  retention: string; // a sentence on how long conversations are kept, or ""
  attachments: { most: number; bytes: number; kinds: string[] } | null; // what may come with a question
  handoff: { kind: "email"; address: string } | { kind: "webhook" } | null;
  identity: boolean; // whether the host page may say who its visitor is
}

export interface Theme {
  primary: string; // #rrggbb; the text upon it is chosen for contrast
  radius: number; // px
  font: string; // a font family that is installed, or "" for the system's
  logo: string; // address on Parley's own origin, or ""
  position: "right" | "left";
  scheme: "auto" | "light" | "dark";
}

/** A passage as the model received it, numbered as the answer's [n] refer to it. */
export interface Source {
  n: number;
  document: string;
  title: string;
  heading: string[];
  page: number | null;
  text: string;
}

/** What Parley said no with. `code` is for programs, `message` for people. */
export interface Problem {
  code: string;
  message: string;
  requestId?: string;
  retryAt?: number; // ms since the epoch, by this browser's own clock
  fields?: Record<string, string>;
}

/** A file that came with a question. */
export interface Attachment {
  id: string;
  name: string;
  size: number; // bytes; 0 where nobody is to know
}

/** A file on its way to the next question. */
export interface Upload extends Attachment {
  id: string; // Parley's name for it, "" until it has one
  key: string;
  sent: number; // of 1
  cut: boolean; // only its beginning will be read
  problem: Problem | null;
}

/** One question with its answer. Turns of one conversation form a tree: `parent` is the turn it follows. */
export interface Turn {
  id: string; // the client's own name for it until Parley gave it one
  parent: string | null;
  question: string;
  attachments: Attachment[];
  answer: string; // Markdown, as far as it has come
  state: "sending" | "waiting" | "queued" | "answering" | "finished" | "stopped" | "failed";
  queue: { position: number; wait: number | null; waking: string } | null;
  finishReason: "stop" | "length" | "stopped" | "sources_only" | "nothing_found" | null;
  sources: Source[]; // those received
  citations: Source[]; // those the finished answer refers to
  problem: Problem | null;
  answerId: string | null; // the message that can be rated
  rating: "up" | "down" | null;
  asked: number; // ms since the epoch
}

export interface Conversation {
  id: string;
  title: string;
  activeAt: number; // ms since the epoch
}

export interface State {
  settings: Settings | null; // null until they have come
  open: boolean;
  connection: "idle" | "connecting" | "online" | "offline" | "refused";
  problem: Problem | null; // of the whole widget: a wrong assistant, a foreign origin, an expired visit
  conversation: string | null;
  turns: Turn[]; // the branch that is shown, in order
  siblings: Record<string, string[]>; // by turn: the turns that answer the same question or stand in its place
  conversations: Conversation[]; // hosted page alone
  draft: string;
  uploads: Upload[];
  consented: boolean;
  shared: boolean; // a shared link: read only
}

export interface Actions {
  open(): void;
  close(): void;
  ask(text: string): void;
  stop(): void;
  regenerate(turn: string): void;
  edit(turn: string, text: string): void;
  resume(turn: string): void; // go on with an answer that was cut off
  choose(turn: string): void; // show this branch
  retry(turn: string): void; // ask a failed question again
  rate(turn: string, rating: "up" | "down" | null, reasons: string[], comment: string): Promise<void>;
  setDraft(text: string): void;
  attach(files: File[]): void;
  detach(key: string): void;
  consent(): void;
  handOff(email: string, note: string): Promise<void>;
  newConversation(): void;
  openConversation(id: string): void;
  findConversations(words: string): void;
  rename(id: string, title: string): Promise<void>;
  remove(id: string): Promise<void>;
  share(id: string): Promise<string>; // the address of the read-only page
  unshare(id: string): Promise<void>;
}

/** Everything that is shown is a function of the state; everything done is an action. */
export interface Store {
  getState(): State; // the same object until something changes
  subscribe(listener: () => void): () => void;
  actions: Actions;
}
