/** Whether Parley welcomes this page at all, and what to tell its developer where it does not. */

import { good } from "./api";
import { complain, REFUSED, Refusal, UNREACHABLE } from "./problems";
import type { Settings } from "./types";

export interface Place {
  base: string; // Parley's origin
  tenant: string;
  assistant: string;
}

/** An assistant's settings, which need no visit. Raises Refusal. */
export async function fetchSettings(place: Place): Promise<Settings> {
  const { base, tenant, assistant } = place;
  const path = `/api/v1/widget/${encodeURIComponent(tenant)}/${encodeURIComponent(assistant)}`;
  const response = await fetch(base + path).catch(async () => {
    throw await explainSilence(place);
  });
  if (response.status === 401) throw unwelcome(place);
  return (await good(response)).json();
}

/** Browsers hide the answer to a page that is not listed, as if there were no network: ask what needs no permission. */
export async function explainSilence(place: Place): Promise<Refusal> {
  if (navigator.onLine === false) return new Refusal(UNREACHABLE);
  const probe = fetch(`${place.base}/healthz/live`, { mode: "no-cors", cache: "no-store" });
  return probe.then(
    () => unwelcome(place),
    async () => {
      // Of its policy a page hears a little later than that the request failed.
      await new Promise((resolve) => setTimeout(resolve, 50));
      return forbidden.has(place.base) ? new Refusal(REFUSED) : new Refusal(UNREACHABLE);
    },
  );
}

export function unwelcome({ base, tenant, assistant }: Place): Refusal {
  complain(
    `${base} lets no visitors of ${location.origin} in to ${tenant}/${assistant}. ` +
      "Check the names, that the assistant is active, and that this site is among its web sites (docs/widget.md).",
  );
  return new Refusal(REFUSED, 401);
}

const forbidden = new Set<string>();

/** The page's own policy is an obstacle that only its developer can see and remove. */
export function watchPolicy(base: string): () => void {
  const look = (event: SecurityPolicyViolationEvent) => {
    if (!event.blockedURI.replace(/^ws/, "http").startsWith(base)) return;
    forbidden.add(base);
    complain(
      `this page's Content-Security-Policy forbids requests to ${base}. ` +
        `Allow ${base} and ${base.replace(/^http/, "ws")} in ${event.effectiveDirective} (docs/widget.md).`,
    );
  };
  document.addEventListener("securitypolicyviolation", look);
  return () => document.removeEventListener("securitypolicyviolation", look);
}
