// A signed-in session over HTTP: its tokens, their refresh, and requests that carry them.
//
// The access token is renewed before it expires (20 s before, or a quarter of its lifetime), and when the server no
// longer accepts it. One refresh runs at a time, because a refresh token is valid once. A refresh whose answer was lost
// is repeated with the same token: the server accepts that for 30 seconds.

import { VezaError } from "./errors.js";

const TIMEOUT_MS = 15_000;
/** Shorter, because a client that reconnects should rather try again than wait. */
const TICKET_TIMEOUT_MS = 5_000;
const MARGIN_MS = 20_000;

export class Session {
    #base;
    #fetch;
    #onTokens;
    #tokens;
    #renewAt = 0;
    /** An access token that the server no longer accepts. */
    #expired;
    #used;
    #renewal;

    /**
     * `baseUrl`: of the server, https://chat.example.com. `tokens`: {access_token?, refresh_token}, of `signIn` or of
     * an earlier run. `onTokens` is called with each new pair, to store it.
     */
    constructor({ baseUrl, tokens, onTokens = () => {}, fetch = globalThis.fetch }) {
        this.#base = baseUrl.replace(/\/*$/, "/");
        this.#fetch = fetch;
        this.#onTokens = onTokens;
        this.#tokens = tokens;
        // Without a lifetime, an access token is used until the server refuses it.
        if (tokens?.access_token) this.#renewAt = Infinity;
        if (tokens?.expires_in) this.#renewAt = renewal(tokens.expires_in);
    }

    /** Signs in. `credentials`: {login, password, totp_code?, backup_code?, device_name?}. */
    static async signIn({ credentials, ...options }) {
        const session = new Session(options);
        session.#accept(await session.#call("POST", "auth/login", credentials));
        return session;
    }

    /**
     * The session of a bot, with one of its tokens instead of a password. The token is used until it expires or is
     * revoked. `signOut` does not end it: its owner revokes it.
     */
    static ofBot({ token, ...options }) {
        return new Session({ ...options, tokens: { access_token: token } });
    }

    /** The URL of the WebSocket. */
    get socketUrl() {
        return `${this.#base.replace(/^http/, "ws")}ws`;
    }

    get tokens() {
        return this.#tokens;
    }

    /** An access token that is good for a while. `stale`: one that was refused. */
    async token(stale = this.#expired) {
        const { access_token } = this.#tokens ?? {};
        const isGood = access_token && access_token !== stale && Date.now() < this.#renewAt;
        this.#used = isGood ? access_token : await this.#renew();
        return this.#used;
    }

    /** The server has refused the last token, or closed the connection because it expired. */
    expire() {
        this.#expired = this.#used;
    }

    /** A ticket for one WebSocket: a browser cannot send a header with its handshake. */
    async ticket() {
        return (await this.request("POST", "ws-ticket", undefined, TICKET_TIMEOUT_MS)).ticket;
    }

    /** A request with the access token. When the server does not accept it, it is renewed once. */
    async request(method, path, body, timeoutMs = TIMEOUT_MS) {
        const token = await this.token();
        try {
            return await this.#call(method, path, body, token, timeoutMs);
        } catch (error) {
            if (error.status !== 401) throw error;
            return this.#call(method, path, body, await this.token(token), timeoutMs);
        }
    }

    /** A command over HTTP; resolves with the data of its ack. */
    async command(type, data = {}) {
        return this.request("POST", "api/commands", { type, data });
    }

    async signOut() {
        await this.request("POST", "auth/logout");
        this.#tokens = undefined;
    }

    #renew() {
        this.#renewal ??= this.#refresh().finally(() => {
            this.#renewal = undefined;
        });
        return this.#renewal;
    }

    async #refresh() {
        const { refresh_token } = this.#tokens ?? {};
        if (!refresh_token) throw new VezaError({ code: "unauthenticated", message: "Sign in again", status: 401 });
        return this.#accept(await this.#call("POST", "auth/refresh", { refresh_token }));
    }

    #accept(tokens) {
        this.#tokens = tokens;
        this.#renewAt = renewal(tokens.expires_in);
        this.#onTokens(tokens);
        return tokens.access_token;
    }

    async #call(method, path, body, token, timeoutMs = TIMEOUT_MS) {
        const headers = {};
        if (token) headers.Authorization = `Bearer ${token}`;
        if (body !== undefined) headers["Content-Type"] = "application/json";
        const options = { method, headers, cache: "no-store", signal: AbortSignal.timeout(timeoutMs) };
        if (body !== undefined) options.body = JSON.stringify(body);
        let response, answer;
        try {
            response = await this.#fetch.call(globalThis, this.#base + path, options);
            answer = response.status === 204 ? {} : await response.json();
        } catch (error) {
            const status = response && !response.ok ? response.status : 0;
            throw new VezaError({ code: "unreachable", message: `${method} /${path}: ${error.message}`, status });
        }
        if (response.ok) return answer;
        const after = Number(response.headers.get("retry-after")) * 1_000 || undefined;
        const message = answer.detail ?? `${response.status} ${response.statusText}`;
        throw new VezaError({ retry_after_ms: after, code: "internal", ...answer, message, status: response.status });
    }
}

/** When a token of this lifetime is renewed. */
function renewal(expiresIn) {
    const lifetimeMs = expiresIn * 1_000;
    return Date.now() + lifetimeMs - Math.min(MARGIN_MS, lifetimeMs / 4);
}
