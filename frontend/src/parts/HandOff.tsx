/** A person instead of the assistant: by a message to the operator's own system, or by e-mail. */
import { useId, useState } from "react";
import type { Settings } from "../types";
import { useAround, useWords } from "./context";

type Way = NonNullable<Settings["handoff"]>;

export function HandOff({ way, question }: { way: Way; question: string }) {
  return way.kind === "email" ? <ByMail address={way.address} question={question} /> : <ByForm />;
}

function ByMail({ address, question }: { address: string; question: string }) {
  const { settings } = useAround();
  const t = useWords();
  const query = `subject=${encodeURIComponent(settings?.name ?? "")}&body=${encodeURIComponent(question)}`;
  return (
    <>
      <p>{t("handOffMail")}</p>
      <a
        className="primary"
        href={`mailto:${encodeURIComponent(address).replace("%40", "@")}?${query}`}
        target="_blank"
        rel="noopener noreferrer"
      >
        {t("writeMail")}
      </a>
      <p className="fine">{address}</p>
    </>
  );
}

function ByForm() {
  const { actions, say } = useAround();
  const t = useWords();
  const id = useId();
  const [email, setEmail] = useState("");
  const [note, setNote] = useState("");
  const [wrong, setWrong] = useState("");
  const [state, setState] = useState<"open" | "sending" | "sent">("open");

  const send = async () => {
    if (!/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(email.trim())) {
      setWrong(t("emailWrong"));
      return;
    }
    setWrong("");
    setState("sending");
    try {
      await actions.handOff(email.trim(), note.trim());
      setState("sent");
      say(t("handedOff", { email: email.trim() }));
    } catch {
      setState("open");
      setWrong(t("failed"));
    }
  };
  if (state === "sent") return <p>{t("handedOff", { email: email.trim() })}</p>;
  return (
    <form
      className="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <p>{t("handOffIntro")}</p>
      <label htmlFor={`${id}-email`}>{t("email")}</label>
      <input
        id={`${id}-email`}
        type="email"
        autoComplete="email"
        dir="ltr"
        value={email}
        aria-invalid={wrong !== ""}
        aria-describedby={wrong ? `${id}-wrong` : undefined}
        onInput={(event) => setEmail(event.currentTarget.value)}
      />
      {wrong && (
        <p id={`${id}-wrong`} className="wrong" role="alert">
          {wrong}
        </p>
      )}
      <label htmlFor={`${id}-note`}>{t("note")}</label>
      <textarea
        id={`${id}-note`}
        rows={3}
        dir="auto"
        maxLength={2000}
        value={note}
        onInput={(event) => setNote(event.currentTarget.value)}
      />
      <button type="submit" className="primary" disabled={state === "sending"}>
        {t("sendHandOff")}
      </button>
    </form>
  );
}
