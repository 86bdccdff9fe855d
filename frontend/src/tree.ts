/** The turns of a conversation as a tree: which of them are shown, and what stands beside them. */

import type { Turn } from "./types";

type Turns = ReadonlyMap<string, Turn>; // in the order they were asked

/** From the beginning to `tip`. */
export function branch(turns: Turns, tip: string | null): Turn[] {
  const path: Turn[] = [];
  const seen = new Set<string>();
  for (let at = tip; at !== null && !seen.has(at); ) {
    seen.add(at);
    const turn = turns.get(at);
    if (!turn) break;
    path.push(turn);
    at = turn.parent;
  }
  return path.reverse();
}

/** The latest end of the conversation that leads through a turn. */
export function latestThrough(turns: Turns, id: string): string {
  let tip = id;
  const through = new Set([id]);
  // Children are asked after their parents.
  for (const turn of turns.values()) {
    if (turn.parent !== null && through.has(turn.parent)) {
      through.add(turn.id);
      tip = turn.id;
    }
  }
  return tip;
}

/** Of each shown turn that has company: all turns with the same parent, itself among them. */
export function siblings(turns: Turns, shown: Turn[]): Record<string, string[]> {
  const byParent = new Map<string | null, string[]>();
  for (const turn of turns.values()) {
    const group = byParent.get(turn.parent);
    if (group) group.push(turn.id);
    else byParent.set(turn.parent, [turn.id]);
  }
  const found: Record<string, string[]> = {};
  for (const turn of shown) {
    const group = byParent.get(turn.parent) ?? [];
    if (group.length > 1) found[turn.id] = group;
  }
  return found;
}
