/** One state of each kind, for the dev page and for tests. */
import type { Settings, Source, State, Turn } from "../src/types";
export declare const SOURCES: Source[];
export declare const ANSWER = "The seal **P-40** fits your pump [1]. For pumps of lot 2311, take the **P-42** instead [2, 3].\n\n## How to replace it\n\n1. Close both valves and let the pressure off.\n2. Loosen the four bolts *crosswise*.\n3. Put the new seal in with the lip `inwards`.\n\n| Part | Size | Torque |\n|------|-----:|:------:|\n| P-40 | 40 mm | 25 Nm |\n| P-42 | 40 mm | 28 Nm |\n\n```sh\npumpctl stop --unit 4\npumpctl bleed --unit 4 --until \"pressure < 0.1 bar\"\n```\n\n- [x] Valves closed\n- [ ] Torque checked\n\n> Wear gloves: the medium may still be hot.\n\nMore in the [service portal](https://example.com/service).";
export declare function makeSettings(fields?: Partial<Settings>): Settings;
export declare function makeTurn(fields?: Partial<Turn>): Turn;
export declare function makeState(fields?: Partial<State>): State;
export declare const states: Record<string, Partial<State>>;
export declare function stateOf(name: string, { scheme, locale, primary }: {
    scheme: string;
    locale: string;
    primary: string;
}): State;
