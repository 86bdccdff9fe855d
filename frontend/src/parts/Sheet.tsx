/** A card above the conversation, which rests meanwhile. The focus comes here and returns to where it was. */
import { type ReactNode, useEffect, useRef } from "react";
import { useWords } from "./context";
import { Icon } from "./Icon";

export function Sheet({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }) {
  const t = useWords();
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    close.current?.focus();
  }, []);
  return (
    <div className="sheet-room">
      <button type="button" className="scrim" tabIndex={-1} aria-hidden="true" onClick={onClose} />
      <div
        className="sheet"
        role="dialog"
        aria-label={title}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.stopPropagation();
          onClose();
        }}
      >
        <div className="sheet-bar">
          <h2>{title}</h2>
          <button
            ref={close}
            type="button"
            className="quiet square"
            aria-label={t("back")}
            title={t("back")}
            onClick={onClose}
          >
            <Icon name="close" />
          </button>
        </div>
        <div className="sheet-body">{children}</div>
      </div>
    </div>
  );
}
