/** The round button that opens the panel. */
import { useEffect, useRef } from "react";
import { useAround, useWords } from "./context";
import { Icon } from "./Icon";

export function Launcher({ open, id }: { open: boolean; id: string }) {
  const { actions, settings } = useAround();
  const t = useWords();
  const button = useRef<HTMLButtonElement>(null);
  const was = useRef(open);
  useEffect(() => {
    if (was.current && !open) button.current?.focus();
    was.current = open;
  }, [open]);
  const label = open ? t("close") : t("open", { name: settings?.name ?? "" }).trim();
  return (
    <button
      ref={button}
      type="button"
      className="launcher"
      aria-expanded={open}
      aria-controls={open ? id : undefined}
      aria-label={label}
      onClick={() => (open ? actions.close() : actions.open())}
    >
      <Icon name={open ? "close" : "chat"} />
    </button>
  );
}
