/** The widget's words: by key, in the reader's language, with the operator's own wording before ours. */
import { type Later, later } from "./later";
import { en } from "./words/en";
import type { extras } from "./words/extras";
import type { files } from "./words/files";
import type { hosted } from "./words/hosted";

export type Key = keyof typeof en | keyof typeof extras | keyof typeof files | keyof typeof hosted;
type Plural<Word> = Word extends `${infer Base}.one` ? `${Base}.${"zero" | "two" | "few" | "many"}` : never;
export type Words = Record<Key, string> & Partial<Record<Plural<Key>, string>>;
/** Keys that `t` takes: those of English, and the plural ones without their form. */
export type Name = Key | "wait" | "sources";

/** English brings every part along; the others are fetched as a whole. */
const LANGUAGES: Record<string, Later<Words>> = {
  de: later("de", async () => (await import("./words/de")).de),
  ar: later("ar", async () => (await import("./words/ar")).ar),
};

function languageOf(locale: string): Later<Words> | undefined {
  return LANGUAGES[supported(locale).split("-")[0]!.toLowerCase()];
}

/** English is always there: of a part, with the part. */
export function teach(words: Record<string, string>): void {
  Object.assign(en, words);
}

/** Whether the words of a language are here. */
export function knows(locale: string): boolean {
  return languageOf(locale)?.here !== null;
}

/** Fetches the words of a language. Where they cannot be had, it stays English. */
export async function learn(locale: string): Promise<void> {
  await languageOf(locale)?.bring().catch(() => null);
}

export interface Speech {
  t(name: Name, values?: Record<string, string | number>): string;
  /** The words for an error's code, or Parley's own sentence where we have none. */
  problem(code: string, message: string): string;
  /** A moment to come: in how many seconds or minutes, or else at which time of which day. */
  until(moment: number, now: number): string;
  /** The day of something that was: today, yesterday or a date. */
  day(moment: number, now: number): string;
  time(moment: number): string;
  locale: string;
}

export function speak(locale: string, own: Partial<Record<string, string>>): Speech {
  const tag = supported(locale);
  const words: Partial<Record<string, string>> = languageOf(locale)?.here ?? en;
  const plurals = new Intl.PluralRules(tag);
  const numbers = new Intl.NumberFormat(tag);

  const find = (name: string): string | undefined => own[name] || words[name] || (en as Record<string, string>)[name];

  const t: Speech["t"] = (name, values = {}) => {
    const form = typeof values.n === "number" ? plurals.select(values.n) : "other";
    const text = find(`${name}.${form}`) ?? find(name) ?? find(`${name}.other`) ?? name;
    return text.replace(/\{(\w+)\}/g, (whole, key: string) => {
      const value = values[key];
      return typeof value === "number" ? numbers.format(value) : (value ?? whole);
    });
  };

  return {
    t,
    problem: (code, message) => find(`error.${code}`) ?? (message || t("failed")),
    until: (moment, now) => until(tag, moment, now),
    day: (moment, now) => day(tag, t, moment, now),
    time: (moment) => new Intl.DateTimeFormat(tag, { timeStyle: "short" }).format(moment),
    locale: tag,
  };
}

function until(tag: string, moment: number, now: number): string {
  const seconds = Math.max(1, Math.ceil((moment - now) / 1000));
  const relative = new Intl.RelativeTimeFormat(tag, { numeric: "always", style: "long" });
  if (seconds < 90) return relative.format(seconds, "second");
  if (seconds < 3600) return relative.format(Math.ceil(seconds / 60), "minute");
  const sameDay = new Date(moment).toDateString() === new Date(now).toDateString();
  const form: Intl.DateTimeFormatOptions = sameDay
    ? { timeStyle: "short" }
    : { dateStyle: "medium", timeStyle: "short" };
  return `(${new Intl.DateTimeFormat(tag, form).format(moment)})`;
}

function day(tag: string, t: Speech["t"], moment: number, now: number): string {
  const date = new Date(moment).toDateString();
  if (date === new Date(now).toDateString()) return t("today");
  if (date === new Date(now - 86_400_000).toDateString()) return t("yesterday");
  return new Intl.DateTimeFormat(tag, { dateStyle: "medium" }).format(moment);
}

/** The locale if the browser knows it, or else English: a wrong one must not end the widget. */
function supported(locale: string): string {
  try {
    return Intl.getCanonicalLocales(locale)[0] ?? "en";
  } catch {
    return "en";
  }
}
