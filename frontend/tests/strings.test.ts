/** Words, numbers and times by language. */
import { expect, test } from "vitest";
import { learn, speak } from "../src/strings";
import { ar } from "../src/words/ar";
import { de } from "../src/words/de";
import { en } from "../src/words/en";
import { extras } from "../src/words/extras";
import { files } from "../src/words/files";
import { hosted } from "../src/words/hosted";

await Promise.all([learn("de"), learn("ar")]);

const holes = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

test.each([
  ["de", de],
  ["ar", ar],
])("%s has every word, with the same holes", (_, words) => {
  for (const [key, text] of Object.entries({ ...en, ...extras, ...files, ...hosted })) {
    const other = (words as Record<string, string>)[key];
    expect(other, key).toBeTruthy();
    if (!key.endsWith(".one")) expect(holes(other!), key).toEqual(holes(text));
  }
});

test.each([
  ["en", 1, "1 source"],
  ["en", 3, "3 sources"],
  ["de", 1, "1 Quelle"],
  ["ar", 1, "مصدر واحد"],
  ["ar", 2, "مصدران"],
  ["ar", 3, /مصادر$/],
  ["ar", 11, /مصدرًا$/],
])("%s counts %i", (locale, n, said) => {
  expect(speak(locale, {}).t("sources", { n })).toMatch(said);
});

test("the operator's words come before ours, also those of a number", () => {
  const { t, problem } = speak("de", {
    send: "Abschicken",
    "sources.other": "{n} Belege",
    "error.model_busy": "Moment!",
  });
  expect(t("send")).toBe("Abschicken");
  expect(t("sources", { n: 4 })).toBe("4 Belege");
  expect(t("stop")).toBe("Antwort anhalten");
  expect(problem("model_busy", "x")).toBe("Moment!");
});

test("a language that we do not have is English, with its own dates", () => {
  const { t, until } = speak("fr-CH", {});
  expect(t("send")).toBe("Send");
  expect(until(10_000, 0)).toBe("dans 10 secondes");
});

test("a locale that is none is English", () => {
  expect(speak("not a locale", {}).t("send")).toBe("Send");
});

test("a region has the words of its language", () => {
  expect(speak("de-AT", {}).t("send")).toBe("Senden");
});

test("a code without words is told as Parley told it", () => {
  expect(speak("en", {}).problem("new_code", "This is new.")).toBe("This is new.");
  expect(speak("en", {}).problem("new_code", "")).toBe("That did not work. Please try again.");
});

test("what a reader is called does not fill another's hole", () => {
  expect(speak("en", {}).t("typing", { name: "{n}" })).toBe("{n} is writing\u2026");
});

test.each([
  [12_000, "in 12 seconds"],
  [89_001, "in 2 minutes"],
  [600_000, "in 10 minutes"],
])("in %i ms is %s", (ms, said) => {
  expect(speak("en", {}).until(ms, 0)).toBe(said);
});

test("what is far away is told as a time, with its day if that is another", () => {
  const now = new Date(2026, 4, 5, 10, 0).getTime();
  const { until, day } = speak("de", {});
  expect(until(new Date(2026, 4, 5, 17, 30).getTime(), now)).toBe("(17:30)");
  expect(until(new Date(2026, 4, 6, 17, 30).getTime(), now)).toBe("(06.05.2026, 17:30)");
  expect(day(now - 1000, now)).toBe("Heute");
  expect(day(now - 86_400_000, now)).toBe("Gestern");
  expect(day(new Date(2026, 3, 1).getTime(), now)).toBe("01.04.2026");
});
