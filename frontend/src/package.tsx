/** The npm package: a React component, and the same without React's help. */

import { useEffect, useRef } from "react";
import { mount } from "./App";
import type { Events } from "./store";
import { Widget, type WidgetOptions } from "./widget";

export type { Settings, Source, Theme } from "./types";
export type { Events, WidgetOptions };

/** Shows an assistant on this page, and returns what the page can do with it. */
export function createChat(options: WidgetOptions): Widget {
  return new Widget(options, mount);
}

export type Chat = Widget;

export interface ParleyChatProps extends Omit<WidgetOptions, "target" | "settings"> {
  className?: string;
  onEvent?: (name: keyof Events, detail: Events[keyof Events]) => void;
  chat?: (chat: Widget | null) => void; // told what can open, close, ask and identify
}

const NAMES: (keyof Events)[] = ["open", "close", "question", "answer", "error"];

/** An assistant where it stands: a bubble in the page's corner, or with `mode="page"` all of its element. */
export function ParleyChat({ className, onEvent, chat, ...options }: ParleyChatProps) {
  const place = useRef<HTMLDivElement>(null);
  const widget = useRef<Widget | null>(null);
  const latest = useRef({ onEvent, chat, options });
  latest.current = { onEvent, chat, options };
  const { url, tenant, assistant, mode, identity } = options;

  useEffect(() => {
    // Of its own, since a shadow root cannot be taken back when React mounts twice.
    const target = document.createElement("div");
    if (mode === "page") target.style.height = "100%";
    place.current!.append(target);
    const made = createChat({ ...latest.current.options, target });
    widget.current = made;
    for (const name of NAMES) made.on(name, (detail) => latest.current.onEvent?.(name, detail));
    latest.current.chat?.(made);
    return () => {
      latest.current.chat?.(null);
      widget.current = null;
      made.remove();
      target.remove();
    };
  }, [url, tenant, assistant, mode]);

  const said = useRef(identity);
  useEffect(() => {
    if (said.current !== identity) widget.current?.identify(identity ?? null);
    said.current = identity;
  }, [identity]);

  return <div ref={place} className={className} />;
}
