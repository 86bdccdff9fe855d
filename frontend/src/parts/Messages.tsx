/** The conversation, or how to begin one. */
import type { State } from "../types";
import { useAround, useWords } from "./context";
import { Logo } from "./Header";
import { Icon } from "./Icon";
import { Late } from "./Later";
import { reading } from "./parts";
import { Question } from "./Question";
import { isBusy } from "./turns";
import { useFollow } from "./useFollow";

export function Messages({ state }: { state: State }) {
  const { mode } = useAround();
  const t = useWords();
  const last = state.turns.at(-1);
  const { room, content, away, jump } = useFollow(state.turns, last?.asked);
  const locked = mode === "shared" || (last !== undefined && isBusy(last));
  return (
    <div className="room">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions take the focus */}
      <div ref={room} className="log" role="log" aria-live="off" aria-label={t("log")} tabIndex={0}>
        <div ref={content} className="turns">
          {!state.turns.length && <Welcome />}
          {state.turns.map((turn, index) => (
            <div key={`${index}:${turn.asked}`} className="turn">
              <Question turn={turn} locked={locked} />
              <Late part={reading} meanwhile={<p className="raw">{turn.answer}</p>}>
                {({ Answer }) => <Answer turn={turn} siblings={state.siblings[turn.id]} locked={locked} />}
              </Late>
            </div>
          ))}
        </div>
      </div>
      {away && (
        <button type="button" className="latest" aria-label={t("latest")} title={t("latest")} onClick={jump}>
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}

function Welcome() {
  const { actions, settings, mode } = useAround();
  const t = useWords();
  return (
    <div className="welcome">
      <Logo />
      <p className="greeting" dir="auto">
        {settings?.greeting || t("greeting")}
      </p>
      {settings && settings.starters.length > 0 && mode !== "shared" && (
        <ul className="starters" aria-label={t("starters")}>
          {settings.starters.map((starter) => (
            <li key={starter}>
              <button type="button" dir="auto" onClick={() => actions.ask(starter)}>
                {starter}
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
