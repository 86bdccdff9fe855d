/** Who is talked to, and what can be done with the whole conversation. */
import { safeLogo } from "../theme";
import { useAround, useWords } from "./context";
import { Icon } from "./Icon";

export function Header({ started, title, onMenu }: { started: boolean; title: string; onMenu: (() => void) | null }) {
  const { actions, settings, mode, show } = useAround();
  const t = useWords();
  return (
    <header className="header">
      {onMenu && (
        <button type="button" className="quiet square menu" aria-label={t("menu")} title={t("menu")} onClick={onMenu}>
          <Icon name="menu" />
        </button>
      )}
      <Logo />
      <div className="who">
        <h1 title={title || settings?.name}>{title || settings?.name || t("assistant")}</h1>
        {settings && <p>{mode === "shared" ? t("sharedView") : settings.description || t("assistant")}</p>}
      </div>
      {settings?.handoff && mode !== "shared" && (
        <button
          type="button"
          className="quiet square"
          aria-label={t("handOff")}
          title={t("handOff")}
          onClick={() => show({ kind: "handoff" })}
        >
          <Icon name="person" />
        </button>
      )}
      {started && mode !== "shared" && (
        <button
          type="button"
          className="quiet square"
          aria-label={t("newConversation")}
          title={t("newConversation")}
          onClick={() => actions.newConversation()}
        >
          <Icon name="plus" />
        </button>
      )}
      {mode === "bubble" && (
        <button
          type="button"
          className="quiet square"
          aria-label={t("close")}
          title={t("close")}
          onClick={() => actions.close()}
        >
          <Icon name="close" />
        </button>
      )}
    </header>
  );
}

export function Logo() {
  const { settings } = useAround();
  const logo = safeLogo(settings?.theme.logo ?? "");
  return (
    <span className="logo" aria-hidden="true">
      {logo ? <img src={logo} alt="" /> : <Icon name="chat" />}
    </span>
  );
}
