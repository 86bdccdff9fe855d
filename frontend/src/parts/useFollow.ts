/** Scrolling that follows what is written, until the reader scrolls up to read. */
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

const NEAR = 48; // px from the end that still count as the end

export interface Following {
  room: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  away: boolean; // whether the end is out of sight
  jump(): void;
}

/** `grows` changes with what is shown; `asked` with each new question, which the reader wants to see. */
export function useFollow(grows: unknown, asked: unknown): Following {
  const room = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const top = useRef(0);
  const [away, setAway] = useState(false);

  const settle = useCallback(() => {
    const element = room.current;
    if (!element) return;
    if (follows.current) element.scrollTop = element.scrollHeight;
    top.current = element.scrollTop;
  }, []);

  const jump = useCallback(() => {
    follows.current = true;
    setAway(false);
    settle();
  }, [settle]);

  // Each question begins to follow anew, and what is shown makes the content grow.
  useLayoutEffect(jump, [asked, jump]);
  useLayoutEffect(settle, [grows, settle]);

  useEffect(() => {
    const element = room.current;
    if (!element || !content.current) return;
    const onScroll = () => {
      const near = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
      // Only the reader scrolls up; growing content moves the end away, but not the top.
      if (near) follows.current = true;
      else if (element.scrollTop < top.current) follows.current = false;
      top.current = element.scrollTop;
      setAway(!near && !follows.current);
    };
    element.addEventListener("scroll", onScroll, { passive: true });
    const observer = new ResizeObserver(settle);
    observer.observe(content.current);
    observer.observe(element);
    return () => {
      element.removeEventListener("scroll", onScroll);
      observer.disconnect();
    };
  }, [settle]);

  return { room, content, away, jump };
}
