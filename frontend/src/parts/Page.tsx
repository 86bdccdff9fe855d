/** The hosted page: the conversations beside the one that is open. */
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { State } from "../types";
import { Conversations } from "./Conversations";
import { NARROW, useAround, useMedia } from "./context";

export function Page({ state, children }: { state: State; children: (menu: (() => void) | null) => ReactNode }) {
  const { mode } = useAround();
  const [menu, setMenu] = useState(false);
  const narrow = useMedia(NARROW);
  const list = mode === "page" && (!narrow || menu);
  const drawer = list && narrow;
  const page = useRef<HTMLDivElement>(null);
  const was = useRef(drawer);
  useEffect(() => {
    // The focus goes along: into the drawer, and back to the button that opened it.
    if (was.current !== drawer) page.current?.querySelector<HTMLElement>(drawer ? ".aside button" : ".menu")?.focus();
    was.current = drawer;
  }, [drawer]);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: Escape closes the list from wherever the focus is
    <div
      ref={page}
      className="page"
      data-list={list || undefined}
      onKeyDown={(event) => {
        if (event.key === "Escape") setMenu(false);
      }}
    >
      {list && <Conversations state={state} onChosen={() => setMenu(false)} />}
      {drawer && (
        <button type="button" className="scrim" tabIndex={-1} aria-hidden="true" onClick={() => setMenu(false)} />
      )}
      <main className="panel" inert={drawer}>
        {children(mode === "page" && narrow ? () => setMenu(!menu) : null)}
      </main>
    </div>
  );
}
