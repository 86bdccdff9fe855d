/** What the widget uses of React, as Preact has it. preact/compat brings the rest of React's ways too, in five times
 * the bytes. */

import { type ComponentChild, type ComponentType, createElement, type FunctionComponent, render } from "preact";
import { useLayoutEffect, useReducer } from "preact/hooks";

export { createContext } from "preact";
export { useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

export function createRoot(place: HTMLElement) {
  return {
    render: (what: ComponentChild) => render(what, place),
    unmount: () => render(null, place),
  };
}

/** Preact renders a root at once. */
export const flushSync = (deed: () => void) => deed();

export function memo<Props extends object>(Part: FunctionComponent<Props>): ComponentType<Props> {
  function Memo(this: { shouldComponentUpdate: (next: Props) => boolean; props: Props }, props: Props) {
    this.shouldComponentUpdate = (next) => differ(this.props, next) || differ(next, this.props);
    return createElement(Part, props);
  }
  return Memo as unknown as ComponentType<Props>;
}

function differ(one: object, other: object): boolean {
  return Object.entries(one).some(([name, value]) => value !== (other as Record<string, unknown>)[name]);
}

export function useSyncExternalStore<State>(subscribe: (listener: () => void) => () => void, read: () => State): State {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const state = read();
  useLayoutEffect(() => {
    // It may have changed between the rendering and now.
    if (read() !== state) redraw(undefined);
    return subscribe(() => redraw(undefined));
  }, [subscribe]);
  return state;
}
