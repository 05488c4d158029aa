// Who is signed in: the tokens, and requests made with them.
//
// The access token lives in memory, a few minutes; the refresh token in localStorage, until it is spent. Each refresh
// token is good for one use, and a second use signs the whole session out, so:
// - one refresh runs at a time, over all tabs (Web Locks; between tabs of a page without them, by re-reading);
// - it begins with what localStorage holds then, not with what this tab remembers.

const KEY = "veza.session";
const TIMEOUT_MS = 15_000;
/** Shorter: whoever reconnects had better try again than wait. */
const TICKET_TIMEOUT_MS = 5_000;
/** An access token with less than this left, or a quarter of its life, is renewed before it is used. */
const MARGIN_MS = 20_000;

/** A refusal: `status` 0 means that no answer came. `code` is stable, `message` is for people. */
export class ApiError extends Error {
    constructor(status, code, message, retryAfterMs) {
        super(message);
        Object.assign(this, { status, code, retryAfterMs });
    }
}

export class Session {
    #access;
    #renewAt = 0;
    #renewal;
    #storage;
    /** Called when the sign-in is lost, with the reason. */
    onLost = () => {};

    constructor(storage = globalThis.localStorage) {
        this.#storage = storage;
    }

    get #stored() {
        try {
            return JSON.parse(this.#storage.getItem(KEY)) ?? undefined;
        } catch {
            return undefined;
        }
    }

    /** Whether somebody has signed in on this browser. */
    get isKnown() {
        return Boolean(this.#stored?.refresh_token);
    }

    /** The user, as far as known without asking. */
    get user() {
        return this.#stored?.user;
    }

    async signUp({ username, email, password, display_name }) {
        this.#accept(
            await call("POST", "auth/register", { username, email, password, display_name, device_name: DEVICE }),
        );
    }

    async signIn({ login, password, totp_code }) {
        this.#accept(await call("POST", "auth/login", { login, password, totp_code, device_name: DEVICE }));
    }

    async signOut() {
        // The session ends on the server too; should it not answer, this browser forgets it all the same.
        await this.request("POST", "auth/logout").catch(() => {});
        this.#forget();
    }

    /** Leaves, when all sessions have been ended on the server. */
    forget() {
        this.#forget();
        this.onLost("signed_out");
    }

    /** The user as they are called now. */
    remember(user) {
        const stored = this.#stored;
        if (stored) this.#storage.setItem(KEY, JSON.stringify({ ...stored, user }));
    }

    #accept({ user, access_token, refresh_token, expires_in }) {
        this.#access = access_token;
        const lifeMs = expires_in * 1_000;
        this.#renewAt = Date.now() + lifeMs - Math.min(MARGIN_MS, lifeMs / 4);
        this.#storage.setItem(KEY, JSON.stringify({ user, refresh_token }));
    }

    #forget() {
        this.#access = undefined;
        this.#storage.removeItem(KEY);
    }

    /** A request with the access token, renewed when needed; once more when it turns out not to be good any more. */
    async request(method, path, body, timeoutMs = TIMEOUT_MS) {
        const token = await this.#token();
        try {
            return await call(method, path, body, token, timeoutMs);
        } catch (error) {
            if (error.status !== 401) throw error;
            return call(method, path, body, await this.#renew(token), timeoutMs);
        }
    }

    /** A ticket for one WebSocket: a browser cannot send a header with it. */
    async ticket() {
        return (await this.request("POST", "ws-ticket", undefined, TICKET_TIMEOUT_MS)).ticket;
    }

    /** Makes the next request renew the token first: the server has said that it expired. */
    expire() {
        this.#renewAt = 0;
    }

    async #token() {
        const good = this.#access && Date.now() < this.#renewAt;
        return good ? this.#access : this.#renew(this.#access);
    }

    /** A token other than `stale`. */
    #renew(stale) {
        this.#renewal ??= exclusively(() => this.#refresh(stale)).finally(() => {
            this.#renewal = undefined;
        });
        return this.#renewal;
    }

    async #refresh(stale) {
        if (this.#access && this.#access !== stale && Date.now() < this.#renewAt) return this.#access;
        const { refresh_token } = this.#stored ?? {};
        if (!refresh_token) {
            this.onLost("signed_out");
            throw new ApiError(401, "unauthenticated", "Signed out");
        }
        try {
            this.#accept(await call("POST", "auth/refresh", { refresh_token }));
        } catch (error) {
            // Another tab without Web Locks may have been faster: then there is a new one to go on with.
            const newer = this.#stored?.refresh_token;
            if (error.status === 401 && newer && newer !== refresh_token) return this.#refresh(stale);
            if (error.status === 401 || error.status === 403) {
                this.#forget();
                this.onLost(error.code);
            }
            throw error;
        }
        return this.#access;
    }
}

const DEVICE = deviceName(globalThis.navigator?.userAgent ?? "");

/** What the list of sign-ins calls this browser. */
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

/** One request; an answer that is no success becomes an ApiError. */
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
        const words = answer.detail ?? `${response.status} ${response.statusText}`;
        throw new ApiError(response.status, answer.code ?? "internal", words, answer.retry_after_ms);
    } catch (error) {
        if (error instanceof ApiError) throw error;
        throw new ApiError(0, "unreachable", "The server cannot be reached");
    } finally {
        clearTimeout(alarm);
    }
}
