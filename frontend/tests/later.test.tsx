/** What is fetched later: once, again after a failure, and meanwhile something else is there. */
import { expect, test, vi } from "vitest";
import { later } from "../src/later";
import { Late } from "../src/parts/Later";
import { knows, learn } from "../src/strings";
import { render, until } from "./rendered";

test("a part is fetched once, however many ask", async () => {
  const load = vi.fn(async () => "part");
  const part = later("extras", load);
  expect(part.here).toBeNull();
  expect(await Promise.all([part.bring(), part.bring()])).toEqual(["part", "part"]);
  await part.bring();
  expect(load).toHaveBeenCalledTimes(1);
  expect(part.here).toBe("part");
});

test("what did not come is fetched again when it is asked for again", async () => {
  let there = false;
  const part = later("extras", async () => {
    if (!there) throw new TypeError("no network");
    return "part";
  });
  await expect(part.bring()).rejects.toThrow("no network");
  expect(part.here).toBeNull();
  there = true;
  expect(await part.bring()).toBe("part");
});

test("until a part is here nothing is shown, and where it does not come it says so and tries again", async () => {
  let there = false;
  const part = later("extras", async () => {
    if (!there) throw new TypeError("no network");
    return { word: "here" };
  });
  const place = render(<Late part={part}>{({ word }) => <b>{word}</b>}</Late>);
  expect(place.textContent).toBe("");
  await until(() => expect(place.textContent).toContain("could not be loaded"));
  there = true;
  place.querySelector("button")!.click();
  await until(() => expect(place.querySelector("b")?.textContent).toBe("here"));
});

test("a part that comes between the rendering and its effects, for somebody else, is shown", async () => {
  let looks = 0;
  const part = {
    get here() {
      return looks++ ? { word: "here" } : null;
    },
    bring: () => new Promise<{ word: string }>(() => {}),
  };
  const place = render(<Late part={part}>{({ word }) => <b>{word}</b>}</Late>);
  await until(() => expect(place.querySelector("b")?.textContent).toBe("here"));
});

test("what is shown meanwhile stays where the part does not come", async () => {
  const part = later("reading", (): Promise<object> => Promise.reject(new TypeError("no network")));
  const place = render(
    <Late part={part} meanwhile={<p>as it was written</p>}>
      {() => <b>never</b>}
    </Late>,
  );
  await expect(part.bring()).rejects.toThrow();
  expect(place.textContent).toBe("as it was written");
});

test("English is always known, another language when it was learnt", async () => {
  expect([knows("en"), knows("fr-CH"), knows("not a locale")]).toEqual([true, true, true]);
  expect(knows("ar-EG")).toBe(false);
  await learn("ar-EG");
  expect(knows("ar")).toBe(true);
});
