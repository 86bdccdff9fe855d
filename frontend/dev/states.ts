/** One state of each kind, for the dev page and for tests. */
import type { Settings, Source, State, Turn } from "../src/types";

const NOW = Date.now();

export const SOURCES: Source[] = [
  { n: 1, document: "d1", title: "Pump manual P-4", heading: ["Maintenance", "Spare parts"], page: 12, text: "The seal P-40 fits pumps of series P-4 built since 2019. Tighten the flange bolts crosswise to 25 Nm.\n\nReplace the seal after 4,000 hours of operation." },
  { n: 2, document: "d2", title: "Service bulletin 2024-07", heading: ["Recalls"], page: null, text: "Seals P-40 of lot 2311 are to be replaced by P-42." },
  { n: 3, document: "d3", title: "Catalogue of spare parts for industrial pumps and compressors, 14th edition", heading: [], page: 208, text: "P-42: seal, fluoro rubber, 40 x 52 x 7." },
];

export const ANSWER = `The seal **P-40** fits your pump [1]. For pumps of lot 2311, take the **P-42** instead [2, 3].

## How to replace it

1. Close both valves and let the pressure off.
2. Loosen the four bolts *crosswise*.
3. Put the new seal in with the lip \`inwards\`.

| Part | Size | Torque |
|------|-----:|:------:|
| P-40 | 40 mm | 25 Nm |
| P-42 | 40 mm | 28 Nm |

\`\`\`sh
pumpctl stop --unit 4
pumpctl bleed --unit 4 --until "pressure < 0.1 bar"
\`\`\`

- [x] Valves closed
- [ ] Torque checked

> Wear gloves: the medium may still be hot.

More in the [service portal](https://example.com/service).`;

const ARABIC = `الختم **P-40** مناسب لمضختك [1]. استخدم **P-42** للدفعة 2311 [2].

1. أغلق الصمامين وأفرغ الضغط.
2. فك البراغي الأربعة *بالتقاطع*.

\`\`\`sh
pumpctl stop --unit 4
\`\`\``;

export function makeSettings(fields: Partial<Settings> = {}): Settings {
  return {
    tenant: "acme",
    assistant: "guide",
    name: "Acme Guide",
    description: "Answers from our manuals",
    greeting: "Hi! What would you like to know about our pumps?",
    starters: ["Which seal fits the P-4?", "How do I bleed the pump?", "What does error E-17 mean?"],
    theme: { primary: "#2f5bd8", radius: 16, font: "", logo: "", position: "right", scheme: "light" },
    locale: "en",
    direction: "ltr",
    strings: {},
    consent: null,
    retention: "Conversations are kept for 30 days.",
    attachments: { most: 5, bytes: 10_485_760, kinds: [".docx", ".pdf", ".txt"] },
    handoff: { kind: "webhook" },
    identity: false,
    ...fields,
  };
}

export function makeTurn(fields: Partial<Turn> = {}): Turn {
  return {
    id: "t1",
    parent: null,
    question: "Which seal fits the P-4, and how do I replace it?",
    attachments: [],
    answer: ANSWER,
    state: "finished",
    queue: null,
    finishReason: "stop",
    sources: SOURCES,
    citations: SOURCES,
    problem: null,
    answerId: "a1",
    rating: null,
    asked: NOW - 60_000,
    ...fields,
  };
}

export function makeState(fields: Partial<State> = {}): State {
  return {
    settings: makeSettings(),
    open: true,
    connection: "online",
    problem: null,
    conversation: "c1",
    turns: [],
    siblings: {},
    conversations: [],
    draft: "",
    uploads: [],
    consented: true,
    shared: false,
    ...fields,
  };
}

const UPLOAD = { id: "", key: "", name: "", size: 48_211, sent: 0, cut: false, problem: null };
const running = { finishReason: null, citations: [], answerId: null, answer: "", sources: [] } satisfies Partial<Turn>;
const failed = { ...running, state: "failed" } satisfies Partial<Turn>;
const turns = (fields: Partial<Turn>): Partial<State> => ({ turns: [makeTurn(fields)] });
const DAY = 86_400_000;
const conversations = ["Seals for the P-4", "Error E-17 after start", "Spare parts for compressors of the second series", "Delivery times"].map(
  (title, index) => ({ id: `c${index + 1}`, title, activeAt: NOW - index * 0.6 * DAY }),
);

export const states: Record<string, Partial<State>> = {
  closed: { open: false },
  loading: { settings: null, connection: "connecting" },
  welcome: {},
  consent: {
    consented: false,
    settings: makeSettings({ consent: { text: "Your questions are answered by a language model. Please do not enter personal data.", link: "https://example.com/privacy" } }),
  },
  answer: { ...turns({}), siblings: { t1: ["t0", "t1"] } },
  streaming: turns({ ...running, state: "answering", sources: SOURCES, answer: ANSWER.slice(0, 330) }),
  files: {
    ...turns({ attachments: [{ id: "f1", name: "pump-4711.pdf", size: 482_113 }, { id: "f2", name: "Messwerte der letzten drei Monate, Werk Nord.xlsx", size: 18_220 }] }),
    draft: "And which of these is worn?",
    uploads: [
      { ...UPLOAD, id: "f3", key: "1", name: "report.pdf", sent: 1 },
      { ...UPLOAD, id: "f4", key: "2", name: "protocol.txt", size: 4_120_000, sent: 1, cut: true },
      { ...UPLOAD, key: "3", name: "photos of the housing and of all its screws.docx", sent: 0.4 },
      { ...UPLOAD, key: "4", name: "pump.exe", problem: { code: "unsupported_type", message: "" } },
    ],
  },
  sending: turns({ ...running, state: "sending" }),
  waiting: turns({ ...running, state: "waiting" }),
  queued: turns({ ...running, state: "queued", queue: { position: 4, wait: 12.4, waking: "" } }),
  waking: turns({ ...running, state: "queued", queue: { position: 1, wait: null, waking: "initializing" } }),
  stopped: turns({ state: "stopped", finishReason: "stopped", answer: ANSWER.slice(0, 140) }),
  long: turns({ finishReason: "length", answer: ANSWER.slice(0, 300) }),
  sources: turns({ finishReason: "sources_only", answer: "" }),
  limited: turns({ ...failed, problem: { code: "rate_limited", message: "", retryAt: NOW + 42_000 } }),
  quota: turns({ ...failed, problem: { code: "quota_exceeded", message: "", retryAt: NOW + 7 * 3_600_000 } }),
  failed: turns({ ...failed, answer: "The seal P-40 fits", problem: { code: "model_failed", message: "The model server failed." } }),
  internal: turns({ ...failed, problem: { code: "internal", message: "", requestId: "e641f664db31" } }),
  offline: { ...turns({ ...running, state: "sending" }), connection: "offline" },
  refused: { connection: "refused", settings: null, problem: { code: "refused", message: "This origin is not allowed." } },
  rated: turns({ rating: "down" }),
  page: { turns: [makeTurn(), makeTurn({ id: "t2", question: "And the torque?", answer: "25 Nm for the P-40 [1].", citations: SOURCES.slice(0, 1), asked: NOW })], conversations },
  shared: { ...turns({ answerId: null }), shared: true, conversations: conversations.slice(0, 1) },
};

export function stateOf(name: string, { scheme, locale, primary }: { scheme: string; locale: string; primary: string }): State {
  const state = makeState(states[name]);
  if (!state.settings) return state;
  const rtl = locale.startsWith("ar");
  const settings = { ...state.settings, locale, direction: rtl ? "rtl" : "ltr" } as Settings;
  settings.theme = { ...settings.theme, scheme: scheme as Settings["theme"]["scheme"], ...(primary && { primary: `#${primary}` }) };
  if (!rtl) return { ...state, settings };
  Object.assign(settings, { name: "دليل أكمي", description: "إجابات من كتيباتنا", greeting: "", starters: ["أي ختم يناسب P-4؟", "كيف أفرغ المضخة؟"], retention: "" });
  const translated = state.turns.map((turn) => ({ ...turn, question: "أي ختم يناسب المضخة P-4؟", answer: turn.answer && ARABIC }));
  return { ...state, settings, turns: translated };
}
