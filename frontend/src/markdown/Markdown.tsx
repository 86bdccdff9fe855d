/** A Markdown text that may still be growing. */
import { useRef } from "react";
import { renderBlocks } from "./blocks";
import type { Cite } from "./inline";
import { type MarkdownStream, markdownStream } from "./stream";

export function Markdown({ text, done, cite }: { text: string; done: boolean; cite: Cite | null }) {
  const stream = useRef<MarkdownStream | null>(null);
  stream.current ??= markdownStream();
  return <>{renderBlocks(stream.current.update(text, done), { cite, depth: 0 })}</>;
}
