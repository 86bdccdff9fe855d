/** The end of an answer while it comes. */
import { expect, test } from "vitest";
import { repair } from "../src/markdown/repair";

test.each([
  ["half a link is its text", "see [the port", "see the port"],
  ["an address that comes is not shown", "see [the portal](https://exam", "see the portal"],
  ["a whole link stays", "see [it](https://a.b)", "see [it](https://a.b)"],
  ["half a citation is not shown", "fits [1", "fits"],
  ["half an image is its words", "![a pum", "a pum"],
  ["strong words are strong at once", "the **seal", "the **seal**"],
  ["within each other too", "a **b *c", "a **b *c***"],
  ["a mark that just began is not shown", "the **", "the"],
  ["a product is no emphasis", "2 * 3", "2 * 3"],
  ["a name with underscores is none either", "see my_file_na", "see my_file_na"],
  ["code is code at once", "run `pumpctl", "run `pumpctl`"],
  ["a bracket in code is none", "run `a[1", "run `a[1`"],
  ["a lone marker is not there yet", "a\n\n-", "a\n\n"],
  ["nor one of a heading", "a\n\n##", "a\n\n"],
  ["nor a number of a list", "a\n\n2.", "a\n\n"],
  ["but a number may be the answer", "42", "42"],
  ["nor what would make a heading of the line before", "a\n-", "a\n"],
  ["nor a fence that begins", "a\n\n``", "a\n\n"],
  ["half a delimiter makes the table", "| a | b |\n|--", "| a | b |\n| --- | --- |"],
  ["half a header is not shown", "words\n\n| a | b", "words\n\n"],
  ["half a row is a row", "| a | b |\n|---|---|\n| 1", "| a | b |\n|---|---|\n| 1"],
  ["nothing is done in code", "```\na **b [c", "```\na **b [c"],
  ["but to its closing fence", "```\na\n``", "```\na"],
  ["half a character is not shown", "ok \ud83d", "ok"],
])("%s", (_, tail, shown) => {
  expect(repair(tail, false)).toBe(shown);
});
