/** Blocks of an answer as elements. A block, an item and a row that did not change are not rendered again. */
import { memo, type ReactNode, useState } from "react";
import { useWords } from "../parts/context";
import { AnswerIcon } from "../parts/AnswerIcon";
import { type Cite, deeper, type Reader, renderInline, tooDeep } from "./inline";
import type { Token, Tokens } from "./lex";

interface BlockProps {
  token: Token;
  cite: Cite | null;
  depth: number;
}

/** One block. Its token is the same object as long as its text is. */
export const Block = memo(function Block({ token, cite, depth }: BlockProps): ReactNode {
  const reader: Reader = { cite, depth };
  if (tooDeep(reader)) return <p>{token.raw}</p>;
  switch (token.type) {
    case "space":
      return null;
    case "heading":
      return <Heading depth={token.depth}>{renderInline(token.tokens, reader)}</Heading>;
    case "code":
      return <CodeBlock text={token.text} lang={token.lang ?? ""} />;
    case "blockquote":
      return <blockquote>{renderBlocks(token.tokens, deeper(reader))}</blockquote>;
    case "list":
      return <List token={token as Tokens.List} {...reader} />;
    case "table":
      return <Table token={token as Tokens.Table} {...reader} />;
    case "hr":
      return <hr />;
    case "paragraph":
      return <p>{renderInline(token.tokens, reader)}</p>;
    default:
      return <>{renderInline([token], reader)}</>;
  }
});

export function renderBlocks(tokens: Token[] | undefined, { cite, depth }: Reader): ReactNode[] {
  return (tokens ?? []).map((token, index) => <Block key={index} token={token} cite={cite} depth={depth} />);
}

/** A heading of the answer, below the question. All are of one level: models begin at any, and levels must not be skipped. */
function Heading({ depth, children }: { depth: number; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: an h3 would look as the styles of headings of ours do
    <p className="heading" role="heading" aria-level={3} data-depth={Math.min(depth, 4)}>
      {children}
    </p>
  );
}

function List({ token, ...reader }: { token: Tokens.List } & Reader) {
  const items = token.items.map((item, index) => <Item key={index} item={item} {...deeper(reader)} />);
  if (!token.ordered) return <ul>{items}</ul>;
  return <ol start={token.start === "" || token.start === 1 ? undefined : Number(token.start)}>{items}</ol>;
}

const Item = memo(function Item({ item, ...reader }: { item: Tokens.ListItem } & Reader) {
  return <li className={item.task ? "task-item" : undefined}>{renderBlocks(item.tokens, reader)}</li>;
});

function Table({ token, ...reader }: { token: Tokens.Table } & Reader) {
  const t = useWords();
  return (
    // A wide table scrolls in itself, for which the keyboard has to reach it.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions take the focus
    <section className="table" tabIndex={0} aria-label={t("table")}>
      <table>
        <thead>
          <tr>
            {token.header.map((cell, index) => (
              <th key={index} scope="col" data-align={cell.align ?? undefined}>
                {renderInline(cell.tokens, reader)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {token.rows.map((cells, index) => (
            <Row key={index} cells={cells} {...reader} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

const Row = memo(function Row({ cells, ...reader }: { cells: Tokens.TableCell[] } & Reader) {
  return (
    <tr>
      {cells.map((cell, index) => (
        <td key={index} data-align={cell.align ?? undefined}>
          {renderInline(cell.tokens, reader)}
        </td>
      ))}
    </tr>
  );
});

function CodeBlock({ text, lang }: { text: string; lang: string }) {
  const t = useWords();
  const [copied, setCopied] = useState(false);
  const copy = () => {
    void navigator.clipboard?.writeText(text).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    });
  };
  const name = /^[\w+#.-]{1,20}/.exec(lang)?.[0] ?? "";
  return (
    <div className="code">
      <div className="code-bar">
        <span>{name}</span>
        <button type="button" className="quiet" onClick={copy} aria-label={t("copyCode")}>
          <AnswerIcon name={copied ? "check" : "copy"} />
          <span aria-hidden="true">{t(copied ? "copied" : "copy")}</span>
        </button>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions take the focus */}
      <pre tabIndex={0} dir="ltr">
        <code>{text.replace(/\n+$/, "")}</code>
      </pre>
    </div>
  );
}
