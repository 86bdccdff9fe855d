/** What the widget knows and can do: types.ts made real. */

import { actionsOf } from "./actions";
import { Api } from "./api";
import { Asker } from "./asker";
import { Book, type Entry } from "./book";
import { hear, watchPage } from "./hearing";
import { listConversations } from "./history";
import { Keeping } from "./keeping";
import { load, reread } from "./loading";
import { Refusal, UNIDENTIFIED, UNREACHABLE } from "./problems";
import { openTabs, type Tabs } from "./tabs";
import { backoff } from "./timing";
import { Transport } from "./transport";
import { siblings } from "./tree";
import type { Actions, Problem, Settings, State, Store, Turn } from "./types";
import { type LetIn, Visit } from "./visit";
import { fetchSettings, type Place } from "./welcome";

export interface Options extends Place {
  mode: "bubble" | "page";
  settings?: Settings;
  letIn?: LetIn;
}

/** What the page around the widget may hear of. */
export interface Events {
  open: undefined;
  close: undefined;
  question: { conversation: string | null; turn: string; text: string };
  answer: { conversation: string | null; turn: string; text: string; state: "finished" | "stopped" };
  error: { code: string; message: string };
}

export const EMPTY: State = {
  settings: null,
  open: false,
  connection: "idle",
  problem: null,
  conversation: null,
  turns: [],
  siblings: {},
  conversations: [],
  draft: "",
  uploads: [],
  consented: false,
  shared: false,
};

const KEEP_EVERY = 500;
const DRAFT_EVERY = 300;

export class ChatStore implements Store {
  readonly actions: Actions;
  onEvent: <Name extends keyof Events>(name: Name, detail: Events[Name]) => void = () => {};
  private state: State;
  private readonly listeners = new Set<() => void>();
  readonly keeping: Keeping;
  readonly visit: Visit;
  readonly api: Api;
  readonly book = new Book();
  readonly transport: Transport;
  readonly asker: Asker;
  readonly tabs: Tabs;
  private readonly unwatch: () => void;
  beginning: Promise<void> | null = null;
  private dressing: Promise<void> | null = null;
  private drawing = false;
  private keepTimer: ReturnType<typeof setTimeout> | undefined;
  private draftTimer: ReturnType<typeof setTimeout> | undefined;
  private settingsTimer: ReturnType<typeof setTimeout> | undefined;
  private attempts = 0;
  words = "";
  private over = false;

  constructor(
    readonly options: Options,
    identity?: string,
  ) {
    const { base, tenant, assistant } = options;
    this.keeping = new Keeping(base, tenant, assistant);
    this.visit = new Visit(options, this.keeping, options.letIn);
    this.api = new Api(base, this.visit);
    this.transport = new Transport(this.api, this.visit, {
      up: () => this.asker.up(),
      frame: (frame) => this.asker.frame(frame),
      connection: (connection, problem) => this.connected(connection, problem),
    });
    this.asker = new Asker(this.book, this.transport, assistant, {
      changed: (soon) => (soon ? this.draw() : this.drawSoon()),
      started: (entry) => this.started(entry),
      ended: (entry) => this.ended(entry),
      lostConversation: () => this.forgetConversation(),
      withdrawn: (entry) => this.withdraw(entry),
      sending: () => this.keep(),
      reread: (entries) => this.reread(entries),
    });
    this.tabs = openTabs(this.keeping.prefix, (word) => hear(this, word));
    this.visit.onRenewed = (token) => this.transport.authenticate(token);
    this.visit.onTicket = () => this.tabs.tell({ kind: "visitor" });
    this.visit.onUnidentified = () => this.complain(UNIDENTIFIED);
    this.state = { ...EMPTY, settings: options.settings ?? null, open: options.mode === "page" };
    if (options.settings) this.state.consented = this.hasConsented(options.settings);
    this.actions = actionsOf(this);
    this.unwatch = watchPage(this);
    if (identity) this.visit.identify(identity);
    if (this.state.open) this.begin();
    else this.loadSettings();
  }

  readonly getState = (): State => this.state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Whether this tab had the widget open before it was loaded anew. */
  wasOpen(): boolean {
    return this.keeping.tab?.open ?? false;
  }

  /** The visitor is who a JWT of the host's server says; null: nobody in particular again. */
  identify(jwt: string | null): void {
    this.visit.identify(jwt);
    if (jwt === null) {
      this.keeping.ticket = null;
      this.forgetConversation();
      this.tabs.tell({ kind: "visitor" });
    }
    if (!this.beginning) return;
    this.transport.again();
    this.refreshList();
  }

  end(): void {
    this.over = true;
    this.keep();
    this.unwatch();
    for (const timer of [this.keepTimer, this.draftTimer, this.settingsTimer]) clearTimeout(timer);
    this.asker.close();
    this.transport.rest();
    this.visit.end();
    this.tabs.close();
    this.listeners.clear();
  }

  // --- The state ------------------------------------------------------------------------------------------------------

  set(change: Partial<State>): void {
    this.state = { ...this.state, ...change };
    for (const listener of this.listeners) listener();
  }

  draw(): void {
    const turns = this.book.shown();
    this.set({ turns, siblings: siblings(this.book.turns(), turns), conversation: this.book.conversation });
    this.keepSoon();
  }

  /** Tokens come faster than anyone reads: one change for each frame that is drawn. */
  private drawSoon(): void {
    if (this.drawing) return;
    this.drawing = true;
    const now = () => {
      this.drawing = false;
      if (!this.over) this.draw();
    };
    // A hidden tab draws nothing.
    if (typeof requestAnimationFrame === "undefined" || document.hidden) setTimeout(now, 50);
    else requestAnimationFrame(now);
  }

  private complain(problem: Problem): void {
    this.set({ problem });
    this.onEvent("error", { code: problem.code, message: problem.message });
  }

  private connected(connection: State["connection"], problem: Problem | null): void {
    // A wrong sign-in is told until something else is to tell, or an answer has come.
    const told = problem ?? (this.state.problem === UNIDENTIFIED ? UNIDENTIFIED : null);
    const kept = told === UNREACHABLE ? null : told; // `connection` says it
    if (connection === this.state.connection && kept === this.state.problem) return;
    this.set({ connection, problem: kept });
    if (connection === "refused" && problem) this.onEvent("error", { code: problem.code, message: problem.message });
  }

  // --- Beginning ------------------------------------------------------------------------------------------------------

  /** What a visitor who looks needs: the settings, and what was said before. */
  begin(): Promise<void> {
    this.beginning ??= this.prepare();
    return this.beginning;
  }

  private async prepare(): Promise<void> {
    const tab = this.keeping.tab;
    this.book.open(tab ? tab.conversation : this.keeping.conversation);
    this.book.restore(tab?.turns ?? []);
    this.set({ draft: this.keeping.draft(this.book.conversation) });
    this.draw();
    await Promise.all([this.loadSettings(), load(this, tab?.turns)]);
    this.asker.pump();
    for (const entry of this.book.running()) this.asker.follow(entry);
    this.refreshList();
  }

  private loadSettings(): Promise<void> {
    clearTimeout(this.settingsTimer);
    this.dressing ??= this.dress().finally(() => {
      this.dressing = null;
    });
    return this.dressing;
  }

  private async dress(): Promise<void> {
    if (this.state.settings || this.over) return;
    try {
      const settings = await fetchSettings(this.options);
      this.set({ settings, consented: this.hasConsented(settings), problem: null, connection: "idle" });
    } catch (error) {
      const { problem } = error instanceof Refusal ? error : { problem: UNREACHABLE };
      const refused = problem.code === "refused";
      this.set({ connection: refused ? "refused" : "offline" });
      if (problem !== UNREACHABLE) this.complain(problem);
      const pause = refused ? 60_000 : backoff(this.attempts++);
      this.settingsTimer = setTimeout(() => this.loadSettings(), pause);
    }
  }

  /** How these stand, asked one by one. */
  async reread(entries: Entry[]): Promise<void> {
    await reread(this, entries);
    this.draw();
    this.asker.pump();
  }

  /** It is gone, or was another visitor's: what waits to be asked begins a new one. */
  forgetConversation(): void {
    this.book.clear();
    this.keeping.conversation = null;
    this.draw();
  }

  // --- Turns ----------------------------------------------------------------------------------------------------------

  private started({ turn }: Entry): void {
    const { conversation } = this.book;
    if (conversation) {
      this.keeping.conversation = conversation;
      const { id, parent, question, asked } = turn;
      this.tabs.tell({ kind: "asked", conversation, turn: id, parent, question, asked });
    }
    this.onEvent("question", { conversation, turn: turn.id, text: turn.question });
  }

  private ended({ turn }: Entry): void {
    const { conversation } = this.book;
    if (turn.problem) this.onEvent("error", { code: turn.problem.code, message: turn.problem.message });
    else if (turn.state === "finished" || turn.state === "stopped") {
      this.onEvent("answer", { conversation, turn: turn.id, text: turn.answer, state: turn.state });
    }
    if (this.state.problem === UNIDENTIFIED) this.set({ problem: null });
    this.refreshList();
  }

  askWith(make: () => Entry | null): void {
    this.begin().then(() => {
      const entry = make();
      if (!entry) return;
      this.draw();
      this.keep();
      this.asker.pump();
    });
  }

  turnOf(id: string): Turn | null {
    return this.book.get(id)?.turn ?? null;
  }

  stop(): void {
    const entry = [...this.book.running(), ...this.book.unconfirmed(), ...this.book.unsent()][0];
    if (!entry) return;
    if (entry.pending && !entry.sent) this.withdraw(entry);
    else this.asker.stop(entry);
  }

  private withdraw(entry: Entry): void {
    this.book.remove(entry);
    if (!this.state.draft) this.setDraft(entry.turn.question);
    this.draw();
  }

  retry(id: string): void {
    const entry = this.book.get(id);
    if (entry?.turn.state !== "failed") return;
    this.askWith(() => {
      if (this.book.isKnown(id)) return this.book.again("regenerate", entry.turn);
      this.book.askAgain(entry);
      return entry;
    });
  }

  busy(): boolean {
    return this.book.running().length + this.book.unconfirmed().length + this.book.unsent().length > 0;
  }

  // --- What a reload must not lose ------------------------------------------------------------------------------------

  private keepSoon(): void {
    this.keepTimer ??= setTimeout(() => this.keep(), KEEP_EVERY);
  }

  keep(): void {
    clearTimeout(this.keepTimer);
    this.keepTimer = undefined;
    if (!this.beginning) return;
    const { conversation } = this.book;
    this.keeping.tab = {
      open: this.state.open && this.options.mode === "bubble",
      conversation,
      turns: this.book.kept(),
    };
    if (this.draftTimer !== undefined) this.keepDraft();
  }

  setDraft(draft: string): void {
    this.set({ draft });
    this.draftTimer ??= setTimeout(() => this.keepDraft(), DRAFT_EVERY);
  }

  keepDraft(): void {
    clearTimeout(this.draftTimer);
    this.draftTimer = undefined;
    this.keeping.keepDraft(this.book.conversation, this.state.draft);
  }

  private hasConsented(settings: Settings): boolean {
    return settings.consent === null || this.keeping.consent === settings.consent.text;
  }

  // --- Conversations --------------------------------------------------------------------------------------------------

  show(id: string | null): void {
    if (this.draftTimer !== undefined) this.keepDraft();
    this.book.open(id);
    this.keeping.conversation = id;
    this.set({ draft: this.keeping.draft(id), uploads: [] });
    this.draw();
    this.keep();
    if (id) load(this);
  }

  /** The hosted page's list. */
  async refreshList(): Promise<void> {
    if (this.options.mode !== "page" || this.over) return;
    const { words } = this;
    // A stranger has no conversations: a visit begins with a question.
    if (!this.keeping.ticket && !this.book.conversation && !this.transport.isUp && !words) return;
    try {
      const conversations = await listConversations(this.api, words);
      if (words === this.words) this.set({ conversations });
    } catch {
      // the list stays as it was
    }
  }
}
