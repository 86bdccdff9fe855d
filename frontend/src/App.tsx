/** Everything of the widget that is seen: a function of the store's state, in a shadow root of its own. */
import { useCallback, useEffect, useId, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { Around, type Card, type Mode, type Surroundings } from "./parts/context";
import { Launcher } from "./parts/Launcher";
import { Late } from "./parts/Later";
import { Panel } from "./parts/Panel";
import { reading } from "./parts/parts";
import { Spoken, useSpoken } from "./parts/Spoken";
import { adopt, undress } from "./sheets";
import { knows, learn, speak } from "./strings";
import css from "./styles.css?inline";
import { look } from "./theme";
import type { State, Store, Theme } from "./types";

export type { Mode } from "./parts/context";

const PLAIN: Theme = { primary: "#2f5bd8", radius: 16, font: "", logo: "", position: "right", scheme: "auto" };

/** Show `store` in `root`; an element gets a shadow root. Call what it returns to take everything away again. */
export function mount(root: ShadowRoot | HTMLElement, store: Store, mode: Mode): () => void {
  const shadow = root instanceof ShadowRoot ? root : (root.shadowRoot ?? root.attachShadow({ mode: "open" }));
  adopt(shadow, css);
  const place = document.createElement("div");
  shadow.append(place);
  const app = createRoot(place);
  // At once, so that the loader's button and ours are never both there or both gone.
  flushSync(() => app.render(<App store={store} mode={mode} root={shadow} />));
  return () => {
    app.unmount();
    place.remove();
    undress(shadow);
  };
}

export function App({ store, mode, root }: { store: Store; mode: Mode; root: ShadowRoot }) {
  const known = useSyncExternalStore(store.subscribe, store.getState, store.getState);
  const locale = known.settings?.locale ?? navigator.language;
  const speaks = useLanguage(locale);
  // Settings without their words would be shown in English for a moment.
  const state = speaks ? known : { ...known, settings: null };
  const { settings } = state;
  const id = useId();
  const speech = useMemo(() => speak(locale, settings?.strings ?? {}), [settings, locale, speaks]);
  const [lines, say] = useSpoken();
  const [card, show, closeCard] = useCard();
  // A panel that stood open when the page came leaves the focus where the page has it.
  const standing = useRef(state.open && mode === "bubble");
  if (!state.open) standing.current = false;
  const takesFocus = !standing.current;
  const around = useMemo<Surroundings>(
    () => ({ actions: store.actions, speech, mode, settings, show, say, takesFocus, root }),
    [store, speech, mode, settings, show, say, takesFocus, root],
  );
  const theme = settings?.theme ?? PLAIN;
  const style = useMemo(() => look(theme).properties, [theme]);
  const shown = mode !== "bubble" || state.open;
  // A card belongs to the conversation that it was opened from.
  const place = `${state.open} ${state.conversation}`;
  const before = useRef(place);
  useEffect(() => {
    if (before.current !== place) closeCard();
    before.current = place;
  }, [place, closeCard]);
  return (
    <Around.Provider value={around}>
      <div
        className="parley"
        style={style}
        lang={speech.locale}
        dir={settings?.direction ?? "ltr"}
        data-mode={mode}
        data-scheme={theme.scheme}
        data-side={sideOf(theme, state)}
        data-open={shown || undefined}
      >
        {shown && <Panel state={state} id={id} card={card} onCardClosed={closeCard} />}
        {mode === "bubble" && <Launcher open={state.open} id={id} />}
        {(shown || state.turns.length > 0) && (
          <Late part={reading} meanwhile={<span />}>
            {({ Announcer }) => <Announcer state={state} />}
          </Late>
        )}
        <Spoken lines={lines} />
      </div>
    </Around.Provider>
  );
}

/** Whether the words of a language are here, or cannot be had. */
function useLanguage(locale: string): boolean {
  const [learnt, setLearnt] = useState("");
  useEffect(() => {
    let wanted = true;
    learn(locale).then(() => wanted && setLearnt(locale));
    return () => {
      wanted = false;
    };
  }, [locale]);
  return learnt === locale || knows(locale);
}

/** The operator means the right and left of the screen; everything within goes by the direction of the script. */
function sideOf(theme: Theme, state: State): "start" | "end" {
  return (theme.position === "left") === (state.settings?.direction === "rtl") ? "end" : "start";
}

/** The card that is shown; when it goes, the focus returns to what opened it. */
function useCard(): [Card | null, (card: Card) => void, () => void] {
  const [card, setCard] = useState<Card | null>(null);
  const from = useRef<HTMLElement | null>(null);
  const show = useCallback((next: Card) => {
    let active: Element | null = document.activeElement;
    while (active?.shadowRoot?.activeElement) active = active.shadowRoot.activeElement;
    from.current = active as HTMLElement | null;
    setCard(next);
  }, []);
  const close = useCallback(() => {
    setCard(null);
    const opener = from.current;
    from.current = null;
    // After the rest is awake again: what is inert takes no focus.
    if (opener) setTimeout(() => opener.focus());
  }, []);
  return [card, show, close];
}
