/** The panel of the bubble, or the whole of a page. */
import { type KeyboardEvent, useEffect, useRef } from "react";
import type { State } from "../types";
import { Composer } from "./Composer";
import { type Card, useAround, useMedia, useWords } from "./context";
import { Header } from "./Header";
import { Icon } from "./Icon";
import { isComposing } from "./keys";
import { Late } from "./Later";
import { Messages } from "./Messages";
import { hosted, reading } from "./parts";
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
  // Whoever opens it is going to read.
  useEffect(() => void reading.bring().catch(() => null), []);
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
      <Late part={hosted}>
        {({ Page }) => (
          <Page state={state}>
            {(menu) => <Inside state={state} card={card} onCardClosed={onCardClosed} onMenu={menu} />}
          </Page>
        )}
      </Late>
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
        {settings && needsConsent && <Late part={reading}>{({ Consent }) => <Consent consent={needsConsent} />}</Late>}
        {settings && !needsConsent && <Messages state={state} />}
        {settings && !needsConsent && !refused && mode !== "shared" && <Composer state={state} />}
      </div>
      {card && <Late part={reading}>{({ Cards }) => <Cards card={card} state={state} onClosed={onCardClosed} />}</Late>}
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
