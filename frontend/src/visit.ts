/** Who the visitor is to Parley: a token in memory, renewed in time, and a ticket by which the browser is known again. */

import type { Keeping } from "./keeping";
import { complain, problemOf, Refusal, UNIDENTIFIED, UNREACHABLE } from "./problems";
import { explainSilence, type Place, unwelcome } from "./welcome";

interface Admission {
  token: string;
  renew_after: number; // seconds from now: no clock has to be right
  ticket?: string;
}

/** Lets the visitor in by the host's own server instead of by the page (docs/visitors.md). */
export type LetIn = () => Promise<{ token: string; renew_after: number }>;

const RETRY_RENEWAL = 30_000;

export class Visit {
  onRenewed: (token: string) => void = () => {};
  onTicket: () => void = () => {};
  onUnidentified: () => void = () => {};
  private token: string | null = null;
  private entering: Promise<string> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private identity: string | null = null;
  private wasIn = false;

  constructor(
    private readonly place: Place,
    private readonly keeping: Keeping,
    private readonly letIn?: LetIn,
  ) {}

  /** The token; the visitor is let in first where there is none. Raises Refusal. */
  enter(): Promise<string> {
    if (this.token) return Promise.resolve(this.token);
    this.entering ??= this.begin().finally(() => {
      this.entering = null;
    });
    return this.entering;
  }

  /** A token was refused. One that came meanwhile is kept. */
  forget(token: string | null = this.token): void {
    if (token !== this.token) return;
    this.token = null;
    clearTimeout(this.timer);
  }

  /** From the next token on the visitor is who the host's server says (a JWT), or nobody in particular again. */
  identify(jwt: string | null): void {
    this.identity = jwt;
    this.entering = null;
    this.forget();
  }

  end(): void {
    clearTimeout(this.timer);
    this.token = null;
  }

  private async begin(): Promise<string> {
    const identity = this.identity;
    const admission = await oneTabAtATime(`${this.keeping.prefix}visit`, () => this.admit(identity));
    // Somebody else by now: whoever waits for a token gets theirs.
    if (identity !== this.identity) return this.begin();
    return this.keep(admission);
  }

  private async admit(identity: string | null): Promise<Admission> {
    if (this.letIn) return this.letIn();
    const ticket = this.keeping.ticket;
    const said = { ...(ticket && { ticket }), ...(identity && { identity }) };
    // As text/plain, browsers send it at once instead of asking first.
    const body = Object.keys(said).length ? JSON.stringify(said) : null;
    const { base, tenant, assistant } = this.place;
    const url = `${base}/api/v1/visitors/${encodeURIComponent(tenant)}/${encodeURIComponent(assistant)}`;
    const response = await fetch(url, { method: "POST", body }).catch(async () => {
      // Who was let in before is let in again; only a stranger may be unwelcome.
      throw this.wasIn || ticket ? new Refusal(UNREACHABLE) : await explainSilence(this.place);
    });
    const told = await response.json().catch(() => null);
    if (response.ok && told) return told;
    if (response.status === 401 && told?.fields?.identity && identity) {
      complain(`identify: ${told.fields.identity} (docs/widget.md#identity)`);
      this.identity = null;
      this.onUnidentified();
      throw new Refusal(UNIDENTIFIED, 401);
    }
    if (response.status === 401) throw unwelcome(this.place);
    throw new Refusal(told?.code ? problemOf(told) : UNREACHABLE, response.status);
  }

  private keep({ token, renew_after: seconds, ticket }: Admission): string {
    this.token = token;
    this.wasIn = true;
    if (ticket && ticket !== this.keeping.ticket) {
      this.keeping.ticket = ticket;
      this.onTicket();
    }
    this.renewIn(seconds * 1000);
    return token;
  }

  private renewIn(milliseconds: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.renew(), milliseconds);
  }

  private async renew(): Promise<void> {
    const token = this.token;
    if (!token) return;
    try {
      const headers = { Authorization: `Bearer ${token}` };
      const response = await fetch(`${this.place.base}/api/v1/visitors/renew`, { method: "POST", headers });
      if (token !== this.token) return;
      if (response.ok) return this.onRenewed(this.keep(await response.json()));
      // The visit is over, or its token was while this machine slept: the ticket begins the next one.
      if (response.status === 401) {
        this.forget(token);
        return this.onRenewed(await this.enter());
      }
    } catch {
      // tried again below
    }
    if (token === this.token) this.renewIn(RETRY_RENEWAL);
  }
}

/** Two tabs that come at once shall be one visitor: the second finds the ticket of the first. */
async function oneTabAtATime<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
  // Only pages with TLS have locks.
  const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
  return locks ? locks.request(name, work) : work();
}
