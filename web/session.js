// The signed-in session: its tokens, and requests that carry them.
//
// All tabs of a browser share one session, in localStorage: the user, the refresh token, and the access token with the
// time at which it is renewed. The server revokes a session whose refresh token is used twice (except for a short grace
// after the first use), so:
// 1. one refresh runs at a time in all tabs (Web Locks). Pages without TLS have no Web Locks; there, tabs that refresh
//    at the same moment rely on the server's grace;
// 2. a tab that gets the lock reads the storage again. If another tab has renewed the access token, it uses that one;
// 3. a tab never uses the tokens of another user, who may have signed in meanwhile in another tab.

import { solve } from "./proof.js";
import { removeDrafts } from "./drafts.js";
import { KeptFiles } from "./kept-files.js";

const KEY = "veza.session";
const TIMEOUT_MS = 15_000;
/** Shorter, because a client that reconnects should rather try again than wait. */
const TICKET_TIMEOUT_MS = 5_000;
/** An access token is renewed when less than this, or a quarter of its lifetime, is left. */
const MARGIN_MS = 20_000;

/** A failed request: `status` 0 means that there was no answer. `code` is stable, `message` is for people. */
export class ApiError extends Error {
    constructor(status, code, message, { retry_after_ms, details, challenge, methods } = {}) {
        super(message);
        Object.assign(this, { status, code, retryAfterMs: retry_after_ms, details, challenge, methods });
    }
}

export class Session {
    #storage;
    #userId;
    /** The access token of the last request. */
    #used;
    /** An access token that the server no longer accepts. */
    #expired;
    #renewal;
    /** The prompt that is open. */
    #prompt;
    /** Called when the session has ended, with the reason. */
    onLost = () => {};
    /** Asks for a second factor, which a request needs; resolves with true when the server has accepted one. */
    onStepUp = async () => false;
    /** Sets up two-factor authentication, which the account must have; resolves with true when it is on. */
    onFactorRequired = async () => false;

    constructor(storage = globalThis.localStorage) {
        this.#storage = storage;
        this.#userId = this.user?.id;
    }

    get #stored() {
        try {
            const stored = JSON.parse(this.#storage.getItem(KEY)) ?? undefined;
            const isOther = this.#userId !== undefined && stored?.user?.id !== this.#userId;
            return isOther ? undefined : stored;
        } catch {
            return undefined;
        }
    }

    /** Whether this browser has a session. */
    get isKnown() {
        return Boolean(this.#stored?.refresh_token);
    }

    /** The user as of the last refresh or profile change. */
    get user() {
        return this.#stored?.user;
    }

    /** What a registration needs; undefined from an older server, which knows no challenges. */
    async registrationChallenge() {
        return call("GET", "auth/register/challenge").catch((error) => {
            if (error.code !== "not_found") throw error;
        });
    }

    /** `captcha`: the response of the widget, if the challenge names one. */
    async signUp({ username, email, password, display_name, captcha }) {
        const challenge = await this.registrationChallenge();
        const proof = challenge && (await solve(challenge));
        const account = { username, email, password, display_name, device_name: DEVICE, proof, captcha };
        this.#accept(await call("POST", "auth/register", account));
    }

    /** Fails with `two_factor_required` and a `challenge` if the user needs a code too; then call `verify`. */
    async signIn({ login, password }) {
        this.#accept(await call("POST", "auth/login", { login, password, device_name: DEVICE }));
    }

    async verify({ challenge, totp_code, backup_code }) {
        this.#accept(await call("POST", "auth/2fa/verify", { challenge, totp_code, backup_code }));
    }

    async signOut() {
        const userId = this.#userId;
        // Without an answer from the server, this browser still forgets the session.
        await this.request("POST", "auth/logout").catch(() => {});
        // Another request may have found the session gone meanwhile.
        this.#forget({ withDrafts: true, userId });
    }

    /** Forgets the session after the server has ended all sessions of the user. */
    forget() {
        this.#forget({ withDrafts: true });
        this.onLost("signed_out");
    }

    /** Stores the user after a change of their profile. */
    remember(user) {
        const stored = this.#stored;
        if (stored) this.#storage.setItem(KEY, JSON.stringify({ ...stored, user }));
    }

    #accept({ user, access_token, refresh_token, expires_in }) {
        const lifetimeMs = expires_in * 1_000;
        const renew_at = Date.now() + lifetimeMs - Math.min(MARGIN_MS, lifetimeMs / 4);
        this.#userId = user.id;
        this.#storage.setItem(KEY, JSON.stringify({ user, refresh_token, access_token, renew_at }));
        return access_token;
    }

    #forget({ withDrafts = false, userId = this.#userId } = {}) {
        if (withDrafts) {
            removeDrafts(userId, this.#storage);
            new KeptFiles(userId).sweep(true);
        }
        if (this.#stored) this.#storage.removeItem(KEY);
        this.#userId = undefined;
    }

    /** A request with the access token. If it needs a second factor, the user is asked once, and it is repeated. */
    async request(method, path, body, timeoutMs) {
        try {
            return await this.#authorized(method, path, body, timeoutMs);
        } catch (error) {
            const prompts = {
                step_up_required: () => this.onStepUp(error.methods),
                two_factor_required: () => this.onFactorRequired(),
            };
            const prompt = error.status === 403 && prompts[error.code];
            if (!prompt) throw error;
            // Several requests at once share a prompt.
            this.#prompt ??= prompt().finally(() => (this.#prompt = undefined));
            if (!(await this.#prompt)) throw error;
            return this.#authorized(method, path, body, timeoutMs);
        }
    }

    /** When the server does not accept the token, it is renewed once. */
    async #authorized(method, path, body, timeoutMs = TIMEOUT_MS) {
        const token = this.#freshToken() ?? (await this.#renew(this.#stored?.access_token));
        this.#used = token;
        try {
            return await call(method, path, body, token, timeoutMs);
        } catch (error) {
            // A wrong code must not be sent twice.
            if (error.status !== 401 || error.code === "two_factor_invalid") throw error;
            return call(method, path, body, await this.#renew(token), timeoutMs);
        }
    }

    /** An access token for a request that is not made here; `stale`: one that the server no longer accepts. */
    async token(stale) {
        return this.#freshToken(stale) ?? (await this.#renew(stale ?? this.#stored?.access_token));
    }

    /** A ticket for one WebSocket: a browser cannot send a header with its handshake. */
    async ticket() {
        return (await this.request("POST", "ws-ticket", undefined, TICKET_TIMEOUT_MS)).ticket;
    }

    /** The server has closed the connection because its access token expired. */
    expire() {
        this.#expired = this.#used;
    }

    /** The access token, or undefined when it has to be renewed. `stale`: a token that is no longer accepted. */
    #freshToken(stale = this.#expired) {
        const { access_token, renew_at } = this.#stored ?? {};
        return access_token && access_token !== stale && Date.now() < renew_at ? access_token : undefined;
    }

    #renew(stale) {
        this.#renewal ??= exclusively(() => this.#refresh(stale)).finally(() => {
            this.#renewal = undefined;
        });
        return this.#renewal;
    }

    async #refresh(stale) {
        const renewed = this.#freshToken(stale);
        if (renewed) return renewed;
        const { refresh_token } = this.#stored ?? {};
        if (!refresh_token) {
            this.onLost("signed_out");
            throw new ApiError(401, "unauthenticated", "You are signed out");
        }
        try {
            return this.#accept(await call("POST", "auth/refresh", { refresh_token }));
        } catch (error) {
            // A tab without Web Locks may have been faster, and have stored the next refresh token.
            const newer = this.#stored?.refresh_token;
            if (error.status === 401 && newer && newer !== refresh_token) return this.#refresh(stale);
            if (error.status === 401 || error.status === 403) {
                this.#forget();
                this.onLost(error.code);
            }
            throw error;
        }
    }
}

const DEVICE = deviceName(globalThis.navigator?.userAgent ?? "");

/** The name of this browser in the list of sessions. */
function deviceName(agent) {
    const named = (names) => names.find(([mark]) => agent.includes(mark))?.[1];
    const browser = named([
        ["Firefox/", "Firefox"],
        ["Edg/", "Edge"],
        ["OPR/", "Opera"],
        ["Chrome/", "Chrome"],
        ["Safari/", "Safari"],
    ]);
    const system = named([
        ["Android", "Android"],
        ["iPhone", "iPhone"],
        ["iPad", "iPad"],
        ["Windows", "Windows"],
        ["Mac OS", "macOS"],
        ["Linux", "Linux"],
    ]);
    return [browser ?? "Web", system].filter(Boolean).join(", ");
}

function exclusively(work) {
    return globalThis.navigator?.locks ? navigator.locks.request("veza.refresh", work) : work();
}

/** One request. An answer with an error status is thrown as an ApiError. */
async function call(method, path, body, token, timeoutMs = TIMEOUT_MS) {
    const headers = {};
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const stop = new AbortController();
    const alarm = setTimeout(() => stop.abort(), timeoutMs);
    try {
        const options = { method, headers, cache: "no-store", signal: stop.signal };
        if (body !== undefined) options.body = JSON.stringify(body);
        const response = await fetch(path, options);
        const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
        if (response.ok) return answer;
        const message = answer.detail ?? `${response.status} ${response.statusText}`;
        throw new ApiError(response.status, answer.code ?? "internal", message, answer);
    } catch (error) {
        if (error instanceof ApiError) throw error;
        throw new ApiError(0, "unreachable", "The server cannot be reached");
    } finally {
        clearTimeout(alarm);
    }
}
