/** Parley as the widget sees it, on real sockets: scripted answers, and everything that can go wrong on the way. */
import { type WebSocket as Socket } from "ws";
interface Event {
    id: string;
    type: string;
    [field: string]: unknown;
}
export interface FakeTurn {
    id: string;
    conversation: string;
    parent: string | null;
    question: string;
    clientId: string;
    events: Event[];
    seq: number;
    epoch: number;
    readers: Set<(event: Event) => void>;
    stopped: boolean;
}
type Frame = Record<string, string>;
export declare class FakeParley {
    url: string;
    turns: FakeTurn[];
    conversations: string[];
    frames: Frame[];
    visits: Record<string, string>[];
    requests: string[];
    sockets: Set<Socket>;
    settings: {
        tenant: string;
        assistant: string;
        name: string;
        description: string;
        greeting: string;
        starters: never[];
        theme: {
            primary: string;
            radius: number;
            font: string;
            logo: string;
            position: string;
            scheme: string;
        };
        locale: string;
        direction: string;
        strings: {};
        consent: {
            text: string;
            link: string;
        } | null;
        retention: string;
        handoff: null;
        identity: boolean;
    };
    /** What goes wrong: each is looked at when its time comes. */
    blockSockets: boolean;
    refuseVisits: boolean;
    swallow: number;
    refuseAsks: Record<string, unknown>[];
    renewAfter: number;
    tokens: Set<string>;
    private names;
    private readonly keys;
    private readonly begun;
    private server;
    private readonly upgrading;
    start(port?: number): Promise<this>;
    stop(): Promise<void>;
    /** The network goes: no close frame, and event streams end in the middle. */
    cut(): void;
    close(code: number): void;
    tell(frame: object): void;
    get last(): FakeTurn;
    emit(turn: FakeTurn, type: string, fields?: object): void;
    say(turn: FakeTurn, ...texts: string[]): void;
    finish(turn: FakeTurn, fields?: object): void;
    /** Another process takes over, and knows less than was told. */
    takeOver(turn: FakeTurn, lost: number): void;
    textOf(turn: FakeTurn): string;
    private name;
    private begin;
    private open;
    private place;
    private after;
    private talk;
    private answer;
    private rest;
    private stream;
    private messages;
    private stored;
}
export {};
