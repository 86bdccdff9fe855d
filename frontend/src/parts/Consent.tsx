/** What has to be agreed to before the first question. */
import { safeAddress } from "../markdown/links";
import type { Settings } from "../types";
import { useAround, useWords } from "./context";
import { Logo } from "./Header";

export function Consent({ consent }: { consent: NonNullable<Settings["consent"]> }) {
  const { actions, settings } = useAround();
  const t = useWords();
  const link = safeAddress(consent.link);
  return (
    <section className="consent" aria-label={t("consentTitle")}>
      <Logo />
      <h2>{t("consentTitle")}</h2>
      <p dir="auto">{consent.text}</p>
      {settings?.retention && <p className="fine">{settings.retention}</p>}
      {link && (
        <a href={link} target="_blank" rel="noopener noreferrer nofollow">
          {t("consentMore")}
        </a>
      )}
      <button type="button" className="primary" onClick={() => actions.consent()}>
        {t("consentAgree")}
      </button>
    </section>
  );
}
