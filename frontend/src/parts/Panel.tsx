/** The panel of the bubble, or the whole of a page. */
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import type { State } from "../types";
import { Composer } from "./Composer";
import { Consent } from "./Consent";
import { Conversations } from "./Conversations";
import { type Card, useAround, useMedia, useWords } from "./context";
import { HandOff } from "./HandOff";
import { Header } from "./Header";
import { Icon } from "./Icon";
import { isComposing } from "./keys";
import { Messages } from "./Messages";
import { Sheet } from "./Sheet";
import { Passage } from "./Sources";
import { Trouble } from "./Trouble";

export const FULL_SCREEN = "(max-width: 480px), (max-height: 480px)";
const FOCUSABLE =
  'a[href],button:not([disabled],[tabindex="-1"]),input:not([disabled]),textarea:not([disabled]),[tabindex="0"]';

interface PanelProps {
  state: State;
  id: string;
  card: Card | null;
  onCardClosed: () => void;
}

export function Panel({ state, id, card, onCardClosed }: PanelProps) {
  const { actions, settings, mode, takesFocus } = useAround();
  const t = useWords();
  const full = useMedia(FULL_SCREEN) && mode === "bubble";
  const panel = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // The composer takes the focus where there is one that wants it, or else the panel itself.
    const root = panel.current?.getRootNode() as ShadowRoot | undefined;
    if (takesFocus && !panel.current?.contains(root?.activeElement ?? null)) panel.current?.focus();
  }, [takesFocus]);

  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    if (event.key === "Escape" && mode === "bubble" && !isComposing(event)) actions.close();
    if (event.key === "Tab" && full) keepWithin(event);
  };
  const name = t("chatWith", { name: settings?.name ?? "" }).trim();
  if (mode !== "bubble") {
    return (
      <Page state={state}>
        {(menu) => <Inside state={state} card={card} onCardClosed={onCardClosed} onMenu={menu} />}
      </Page>
    );
  }
  return (
    <div
      ref={panel}
      id={id}
      className="panel"
      role="dialog"
      aria-label={name}
      aria-modal={full || undefined}
      tabIndex={-1}
      onKeyDown={onKeyDown}
    >
      <Inside state={state} card={card} onCardClosed={onCardClosed} onMenu={null} />
    </div>
  );
}

/** Tab stays in what fills the screen: nothing else can be seen. */
function keepWithin(event: KeyboardEvent<HTMLDivElement>) {
  const all = [...event.currentTarget.querySelectorAll<HTMLElement>(FOCUSABLE)].filter(
    (one) => !one.closest("[inert]"),
  );
  const active = (event.currentTarget.getRootNode() as ShadowRoot | Document).activeElement;
  const end = event.shiftKey ? all[0] : all.at(-1);
  if (active !== end && active !== event.currentTarget) return;
  event.preventDefault();
  (event.shiftKey ? all.at(-1) : all[0])?.focus();
}

function Page({ state, children }: { state: State; children: (menu: (() => void) | null) => React.ReactNode }) {
  const { mode } = useAround();
  const [menu, setMenu] = useState(false);
  const narrow = useMedia("(max-width: 800px)");
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

interface InsideProps extends Omit<PanelProps, "id"> {
  onMenu: (() => void) | null;
}

function Inside({ state, card, onCardClosed, onMenu }: InsideProps) {
  const { settings, mode } = useAround();
  const t = useWords();
  const refused = state.connection === "refused" || (state.problem !== null && !state.turns.length);
  const needsConsent = mode !== "shared" && settings?.consent && !state.consented ? settings.consent : null;
  const title =
    mode === "shared"
      ? (state.conversations.find((one) => one.id === state.conversation) ?? state.conversations[0])?.title
      : "";
  return (
    <>
      <div className="inside" inert={card !== null}>
        <Header started={state.turns.length > 0} title={title ?? ""} onMenu={onMenu} />
        {state.connection === "offline" && (
          <p className="banner">
            <Icon name="offline" />
            {t("offline")}
          </p>
        )}
        {state.problem && (
          <div className={settings ? "banner" : "blocked"}>
            <Trouble problem={state.problem} onRetry={null} />
          </div>
        )}
        {!settings && !refused && <Loading />}
        {settings && needsConsent && <Consent consent={needsConsent} />}
        {settings && !needsConsent && <Messages state={state} />}
        {settings && !needsConsent && !refused && mode !== "shared" && <Composer state={state} />}
      </div>
      {card?.kind === "passage" && (
        <Sheet title={t("source", { n: card.source.n, title: "" }).replace(/[:\s]+$/, "")} onClose={onCardClosed}>
          <Passage source={card.source} />
        </Sheet>
      )}
      {card?.kind === "handoff" && settings?.handoff && (
        <Sheet title={t("handOff")} onClose={onCardClosed}>
          <HandOff way={settings.handoff} question={state.turns.at(-1)?.question ?? state.draft} />
        </Sheet>
      )}
    </>
  );
}

function Loading() {
  const t = useWords();
  return (
    <div className="loading" role="status">
      <span className="unseen">{t("loading")}</span>
      <i />
      <i />
      <i />
    </div>
  );
}
