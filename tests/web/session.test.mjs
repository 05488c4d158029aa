// web/session.js: all tabs of a browser share one session and one refresh, and never use another user's tokens.

import assert from "node:assert/strict";
import test from "node:test";
import { Session } from "../../web/session.js";

const ADA = { id: 1, username: "ada" };
const BOB = { id: 2, username: "bob" };

/** The browser's storage, and a server that counts refreshes and accepts only the last access token that it issued. */
function browser({ delayMs = 5 } = {}) {
    const items = new Map();
    const storage = {
        get length() {
            return items.size;
        },
        key: (at) => [...items.keys()][at],
        getItem: (key) => items.get(key) ?? null,
        setItem: (key, value) => items.set(key, value),
        removeItem: (key) => items.delete(key),
    };
    const server = { refreshes: 0, accepted: undefined, used: [] };
    const tokens = (user) => {
        server.accepted = `${user.username} ${server.refreshes}`;
        return { user, access_token: server.accepted, refresh_token: `next of ${server.accepted}`, expires_in: 900 };
    };
    globalThis.fetch = async (path, { headers, body }) => {
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        const answer = (status, json) => ({ status, ok: status < 300, statusText: "", json: async () => json });
        if (path === "auth/login") return answer(200, tokens(JSON.parse(body).login === "bob" ? BOB : ADA));
        if (path === "auth/refresh") {
            server.refreshes++;
            if (JSON.parse(body).refresh_token !== `next of ${server.accepted}`)
                return answer(401, { code: "refresh_reused", detail: "used twice" });
            return answer(200, tokens(ADA));
        }
        const token = headers.Authorization?.slice("Bearer ".length);
        server.used.push(token);
        return token === server.accepted ? answer(200, { ticket: "t" }) : answer(401, { code: "unauthenticated" });
    };
    let queue = Promise.resolve();
    Object.defineProperty(globalThis, "navigator", {
        configurable: true,
        value: { locks: { request: (_, work) => (queue = queue.then(work, work)) } },
    });
    return { storage, server, tab: () => new Session(storage) };
}

test("tabs share one refresh, and a reload needs none", async () => {
    const { server, tab } = browser();
    const first = tab();
    await first.signIn({ login: "ada", password: "p" });
    const second = tab();
    await second.ticket();
    assert.equal(server.refreshes, 0);
    first.expire(); // no request used a token yet, so the stored one is still valid
    await first.ticket();
    for (const session of [first, second]) session.expire();
    await Promise.all([first.ticket(), second.ticket(), second.ticket()]);
    assert.equal(server.refreshes, 1);
    await tab().ticket();
    assert.deepEqual([server.refreshes, server.used.at(-1)], [1, server.accepted]);
});

test("a token that the server does not accept is renewed once for all tabs", async () => {
    const { server, tab } = browser();
    const tabs = [tab(), tab(), tab()];
    await tabs[0].signIn({ login: "ada", password: "p" });
    const good = server.accepted;
    globalThis.fetch = ((fetch) => async (path, options) => {
        const isOld = options.headers.Authorization === `Bearer ${good}`;
        return isOld ? { status: 401, ok: false, statusText: "", json: async () => ({}) } : fetch(path, options);
    })(globalThis.fetch);
    assert.deepEqual(await Promise.all(tabs.map((session) => session.ticket())), ["t", "t", "t"]);
    assert.equal(server.refreshes, 1);
});

test("a tab of a user who signed out never uses the tokens of the next user", async () => {
    const { server, storage, tab } = browser();
    const ada = tab();
    await ada.signIn({ login: "ada", password: "p" });
    const other = tab();
    await other.signOut();
    await other.signIn({ login: "bob", password: "p" });
    const lost = [];
    ada.onLost = (reason) => lost.push(reason);
    server.used = [];
    await assert.rejects(ada.ticket(), { status: 401 });
    assert.deepEqual([lost, server.used], [["signed_out"], []]);
    await ada.signOut();
    assert.equal(JSON.parse(storage.getItem("veza.session")).user.id, BOB.id);
    await other.ticket();
});

test("signing out removes the drafts also when another request finds the session gone first", async () => {
    const { server, storage, tab } = browser();
    const session = tab();
    await session.signIn({ login: "ada", password: "p" });
    storage.setItem(`veza.draft.${ADA.id}.room_6`, "a secret");
    storage.setItem(`veza.draft.${BOB.id}.room_6`, "another's");
    const fetch = globalThis.fetch;
    let ended;
    globalThis.fetch = async (path, options) => {
        if (path !== "auth/logout") return fetch(path, options);
        server.accepted = "none"; // the server has ended the session, and its answer is slow
        await (ended = session.ticket().catch(() => {}));
        return { status: 204, ok: true };
    };
    await session.signOut();
    await ended;
    const left = Array.from({ length: storage.length }, (_, at) => storage.key(at));
    assert.deepEqual(left, [`veza.draft.${BOB.id}.room_6`]);
});

test("a refused refresh ends the session", async () => {
    const { storage, server, tab } = browser();
    const session = tab();
    await session.signIn({ login: "ada", password: "p" });
    server.accepted = "another";
    const lost = [];
    session.onLost = (reason) => lost.push(reason);
    await assert.rejects(session.ticket(), { code: "refresh_reused" });
    assert.deepEqual([lost, storage.getItem("veza.session"), session.isKnown], [["refresh_reused"], null, false]);
});

test("a second factor is asked for once, and a wrong code is sent once", async () => {
    const { server, tab } = browser();
    const session = tab();
    await session.signIn({ login: "ada", password: "p" });
    const sent = [];
    let isFresh = false;
    globalThis.fetch = async (path) => {
        sent.push(path);
        const refused = (status, json) => ({ status, ok: false, statusText: "", json: async () => json });
        if (path === "auth/2fa/step-up") return refused(401, { code: "two_factor_invalid" });
        if (isFresh) return { status: 204, ok: true };
        return refused(403, { code: "step_up_required", methods: ["totp"] });
    };
    const wrong = { code: "two_factor_invalid" };
    await assert.rejects(session.request("POST", "auth/2fa/step-up", { code: "000000" }), wrong);
    assert.deepEqual([sent, server.refreshes], [["auth/2fa/step-up"], 0]);
    const asked = [];
    session.onStepUp = async (methods) => {
        asked.push(methods);
        return isFresh;
    };
    await assert.rejects(session.request("DELETE", "auth/sessions/7"), { code: "step_up_required" });
    session.onStepUp = async (methods) => {
        asked.push(methods);
        return (isFresh = true);
    };
    const both = [session.request("DELETE", "auth/sessions/7"), session.request("DELETE", "auth/sessions/8")];
    assert.deepEqual(await Promise.all(both), [{}, {}]);
    assert.deepEqual(asked, [["totp"], ["totp"]]);
});
