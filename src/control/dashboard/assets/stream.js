// The stream of events: read with fetch (EventSource could not send a token), resumed by itself, paused while the tab
// is hidden. What it says goes to `on`: hello, second, state(state, words), signIn(reason).

/** Events come every second; this much silence means that the connection is dead. */
const SILENCE_MS = 6000;
const WAITS_MS = [500, 1000, 2000, 4000, 8000];

export class Stream {
    #on;
    #token;
    #refreshToken;
    #abort;
    /** Counts starts and pauses: a loop goes on only while this is as it was when the loop began. */
    #generation = 0;
    #running = false;

    constructor(on) {
        this.#on = on;
        document.addEventListener("visibilitychange", () => (document.hidden ? this.#pause() : this.start()));
    }

    /** Tokens are kept by this object only: closing the page forgets them. */
    async signIn(login, password) {
        const answer = await post("auth/login", { login, password, device_name: "Dashboard" });
        this.useToken(answer.access_token, answer.refresh_token);
    }

    useToken(token, refreshToken) {
        this.#token = token;
        this.#refreshToken = refreshToken;
        this.start();
    }

    async start() {
        if (this.#running || document.hidden) return;
        this.#running = true;
        const generation = ++this.#generation;
        for (let failures = 0; generation === this.#generation;) {
            const outcome = await this.#once(() => {
                failures = 0;
            });
            if (generation !== this.#generation) break;
            if (outcome === "sign-in") {
                this.#running = false;
                break;
            }
            if (outcome === "again") continue;
            const wait = WAITS_MS[Math.min(failures++, WAITS_MS.length - 1)];
            this.#on.state("lost", outcome);
            await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2)));
        }
    }

    #pause() {
        this.#running = false;
        this.#generation++;
        this.#abort?.abort();
        this.#on.state("paused", "Paused while hidden");
    }

    /** One connection, until it ends; "sign-in", "again", or words on why it ended. */
    async #once(connected) {
        const abort = (this.#abort = new AbortController());
        let alarm;
        const alive = () => {
            clearTimeout(alarm);
            alarm = setTimeout(() => abort.abort(), SILENCE_MS);
        };
        try {
            alive();
            const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
            const response = await fetch("dashboard/events", { headers, signal: abort.signal, cache: "no-store" });
            if (!response.ok) return await this.#refused(response);
            await this.#read(response.body.getReader(), () => {
                alive();
                connected();
            });
            return "Connection ended, reconnecting";
        } catch {
            return "No connection, trying again";
        } finally {
            clearTimeout(alarm);
        }
    }

    async #refused(response) {
        const problem = await response.json().catch(() => ({}));
        if (response.status === 401 && this.#refreshToken) {
            const spent = this.#refreshToken;
            this.#refreshToken = undefined;
            try {
                const answer = await post("auth/refresh", { refresh_token: spent });
                [this.#token, this.#refreshToken] = [answer.access_token, answer.refresh_token];
                return "again";
            } catch (error) {
                problem.detail = error.message;
            }
        }
        if (response.status === 401 || response.status === 403) {
            const first = response.status === 401 && !this.#token;
            this.#token = undefined;
            this.#on.signIn(first ? undefined : problem.detail);
            return "sign-in";
        }
        return problem.detail ?? `The server answered ${response.status}, trying again`;
    }

    async #read(reader, alive) {
        const decoder = new TextDecoder();
        let text = "";
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            alive();
            text += decoder.decode(value, { stream: true });
            for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
                const [name, data] = text.slice(0, end).split("\n");
                this.#deliver(name.slice("event: ".length), data.slice("data: ".length));
            }
        }
    }

    /** A fault in drawing is a fault of the page, not of the connection: it is reported, and the stream goes on. */
    #deliver(name, data) {
        try {
            this.#on[name]?.(JSON.parse(data));
        } catch (error) {
            console.error(error);
        }
    }
}

async function post(path, body) {
    const response = await fetch(path, { method: "POST", body: JSON.stringify(body) });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? `the server answered ${response.status}`);
    return answer;
}
