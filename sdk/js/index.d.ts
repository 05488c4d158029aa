// The interface of the package. types.d.ts, which is generated, has the commands, their acks and the events.

import type {
    Commands,
    Credentials,
    DeliveredEvent,
    Events,
    Message,
    SendMessageAck,
    SendMessageData,
    Seq,
    SignedIn,
} from "./types.js";

export * from "./types.js";

/** Error code → retry, reconnect or final. */
export const ERROR_CODES: Record<string, "retry" | "reconnect" | "final">;
/** Errors after which an idempotent command is sent again. */
export const RETRIED: Set<string>;
/** Close code → its name, and whether a client reconnects. */
export const CLOSE_CODES: Record<number, { code: string; reconnect: boolean }>;

export class VezaError extends Error {
    /** An error code of the protocol, or `disconnected`, `closed`, `outbox_full`, `unreachable`. */
    code: string;
    retryAfterMs?: number;
    details?: Record<string, unknown>;
    /** Of an HTTP answer; 0 if there was none. */
    status?: number;
}

/** A unique client_message_id. */
export function newKey(): string;

export interface Tokens {
    access_token?: string;
    /** A bot has none. */
    refresh_token?: string;
    expires_in?: number;
}

export interface SessionOptions {
    /** Of the server: https://chat.example.com */
    baseUrl: string;
    tokens?: Tokens;
    /** Called with each new pair of tokens, to store it. */
    onTokens?: (tokens: SignedIn) => void;
    fetch?: typeof fetch;
}

export class Session {
    constructor(options: SessionOptions & { tokens: Tokens });
    static signIn(options: SessionOptions & { credentials: Credentials }): Promise<Session>;
    /** With the token of a bot, veza_bot_…, instead of a password. */
    static ofBot(options: Omit<SessionOptions, "tokens" | "onTokens"> & { token: string }): Session;
    readonly socketUrl: string;
    readonly tokens: Tokens | undefined;
    token(stale?: string): Promise<string>;
    expire(): void;
    ticket(): Promise<string>;
    request(method: string, path: string, body?: unknown, timeoutMs?: number): Promise<any>;
    command<K extends keyof Commands>(type: K, data: Commands[K]["data"]): Promise<Commands[K]["ack"]>;
    signOut(): Promise<void>;
}

/** A message with its key, as the outbox keeps it. */
export type OutgoingMessage = SendMessageData & { client_message_id: string };

export interface StoredState {
    user?: number;
    cursors: Record<string, Seq>;
    left: Record<string, Seq>;
    outbox: OutgoingMessage[];
}

/** Where a client keeps what a later run needs. Its functions are synchronous. */
export interface Store {
    load(): StoredState;
    begin(userId: number): void;
    setCursor(conversationId: string, seq: Seq, isMember: boolean): void;
    putMessage(message: OutgoingMessage): void;
    removeMessage(clientMessageId: string): void;
}

export class Journal {
    constructor(text?: string);
    apply(entry: object): string;
    text(): string;
    state(): StoredState;
}

export class JournalStore implements Store {
    journal: Journal;
    write(line: string): void;
    load(): StoredState;
    begin(userId: number): void;
    setCursor(conversationId: string, seq: Seq, isMember: boolean): void;
    putMessage(message: OutgoingMessage): void;
    removeMessage(clientMessageId: string): void;
}

export class LocalStore extends JournalStore {
    constructor(key: string, storage?: Pick<Storage, "getItem" | "setItem">);
}

/** An event as the application receives it. */
export type VezaEvent = { [K in DeliveredEvent]: { type: K; data: Events[K] } }[DeliveredEvent];

export type State =
    | { name: "idle" }
    | { name: "connecting"; lostAt?: number }
    | { name: "catching_up"; again?: boolean; away?: number }
    | { name: "live" }
    | { name: "waiting"; code?: number; lostAt?: number; retryAt?: number }
    | { name: "ended"; reason: string };

export interface Notifications {
    state: State;
    welcome: Events["welcome"];
    event: VezaEvent;
    /** All missed events have been emitted. */
    up_to_date: { missed: number; again: boolean; away: number };
    /** The user is no longer a member. */
    gone: { conversation_id: string };
    /** The conversation's events do not arrive on this connection. */
    unsubscribed: { conversation_id: string; error: VezaError };
    /** A message was acknowledged, also one of an earlier run. */
    sent: { message: OutgoingMessage; ack: SendMessageAck };
    /** A message was refused for good. */
    refused: { message: OutgoingMessage; error: VezaError };
}

export interface Retry {
    code: string;
    message: string;
    retryInMs: number;
}

export interface ClientOptions {
    session?: Session;
    /** The endpoint, ws(s)://…/ws; with a session, its own. */
    url?: string;
    /** Returns a new ticket. An error with `status` 401 or 403 ends the client. */
    ticket?: () => Promise<string>;
    /** Called when the access token has expired. */
    expired?: () => void;
    format?: "msgpack" | "json";
    /** Under Node.js 20 that of the package `ws`. */
    WebSocket?: unknown;
    store?: Store;
    /** Messages without an ack, at most. */
    outboxMax?: number;
    /** Events that wait in `events()`, at most; the log has the others. 0: the client only sends. */
    eventsMax?: number;
    /** Whether the log of a conversation that was joined while away is skipped. */
    skipsJoined?: boolean;
    random?: () => number;
}

export class VezaClient {
    constructor(options: ClientOptions);
    readonly welcome: Events["welcome"] | undefined;
    readonly state: State;
    readonly cursors: Map<string, Seq>;
    readonly unsent: number;
    on<K extends keyof Notifications>(type: K, listener: (detail: Notifications[K]) => void): this;
    events(): AsyncIterable<VezaEvent>;
    connect(): void;
    close(): void;
    poke(): void;
    networkLost(): void;
    upToDate(): Promise<void>;
    request<K extends keyof Commands>(
        type: K,
        data?: Commands[K]["data"],
        options?: { timeoutMs?: number; repeat?: boolean },
    ): Promise<Commands[K]["ack"]>;
    signal(type: "typing", data: Commands["typing"]["data"]): void;
    send(data: SendMessageData, notify?: (retry: Retry) => void): Promise<SendMessageAck>;
    history(conversationId: string, afterSeq?: Seq): AsyncGenerator<Message>;
}
