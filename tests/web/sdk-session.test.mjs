// sdk/js/session.js against a small server: a token is renewed before it expires and after it was refused, by one
// refresh at a time, which is repeated with the same refresh token when its answer is lost.

import assert from "node:assert/strict";
import test from "node:test";
import { Session } from "../../sdk/js/index.js";

/** Answers like the server; `calls` are the requests, `lose` the number of answers to a refresh that are lost. */
class Server {
    calls = [];
    issued = 0;
    lose = 0;
    spent = new Set();
    expires_in = 900;
    isRevoked = false;

    fetch = async (url, { headers, body }) => {
        const path = new URL(url).pathname;
        const token = headers.Authorization?.replace("Bearer ", "");
        this.calls.push(`${path} ${token ?? JSON.parse(body).refresh_token ?? ""}`.trim());
        if (path === "/auth/refresh") return this.refresh(JSON.parse(body).refresh_token);
        if (path === "/auth/login") return this.answer(200, this.pair());
        if (token !== `access ${this.issued}`) return this.answer(401, { code: "unauthenticated", detail: "expired" });
        return this.answer(200, { ticket: `ticket of ${token}` });
    };

    refresh(token) {
        if (this.isRevoked) return this.answer(401, { code: "refresh_invalid", detail: "sign in" });
        const isRepeat = this.spent.has(token);
        this.spent.add(token);
        const pair = isRepeat ? this.last : this.pair();
        if (this.lose-- > 0) throw new TypeError("fetch failed");
        return this.answer(200, pair);
    }

    pair() {
        this.issued++;
        const tokens = { access_token: `access ${this.issued}`, refresh_token: `refresh ${this.issued}` };
        this.last = { user: { id: 1 }, expires_in: this.expires_in, ...tokens };
        return this.last;
    }

    answer(status, body) {
        return new Response(JSON.stringify(body), { status });
    }
}

function signedIn(server) {
    const credentials = { login: "ada", password: "x" };
    return Session.signIn({ baseUrl: "http://test", credentials, fetch: server.fetch });
}

test("renews an access token before it expires, once for requests at the same time", async () => {
    const server = new Server();
    const session = await signedIn(server);
    assert.equal(await session.ticket(), "ticket of access 1");
    server.expires_in = 0.02; // its margin is a quarter
    server.issued = 0;
    const short = await signedIn(server);
    server.expires_in = 900;
    await new Promise((resolve) => setTimeout(resolve, 20));
    const tickets = await Promise.all([short.ticket(), short.ticket(), short.ticket()]);
    assert.deepEqual(tickets, Array(3).fill("ticket of access 2"));
    assert.equal(server.calls.filter((call) => call.startsWith("/auth/refresh")).length, 1);
});

test("renews a token that the server has refused, or whose connection was closed with 4001", async () => {
    const server = new Server();
    const session = await signedIn(server);
    server.pair(); // the first token is not accepted any more
    server.issued = 3;
    server.pair = () => ({ ...server.last, access_token: "access 3", refresh_token: "refresh 3", expires_in: 900 });
    assert.equal(await session.ticket(), "ticket of access 3");
    session.expire();
    const refreshes = () => server.calls.filter((call) => call.startsWith("/auth/refresh")).length;
    const before = refreshes();
    await session.token();
    assert.equal(refreshes(), before + 1);
});

test("repeats a refresh whose answer was lost with the same token, and ends when it is refused", async () => {
    const server = new Server();
    const session = await signedIn(server);
    await session.token();
    session.expire();
    await session.token();
    session.expire();
    server.lose = 1;
    await assert.rejects(session.token(), { code: "unreachable", status: 0 });
    assert.equal(await session.token(), "access 3");
    assert.deepEqual(server.calls.slice(-2), ["/auth/refresh refresh 2", "/auth/refresh refresh 2"]);
    session.expire();
    server.isRevoked = true;
    await assert.rejects(session.token(), { code: "refresh_invalid", status: 401 });
});

test("a bot uses its token until the server refuses it", async () => {
    const server = new Server();
    server.issued = 1;
    const session = Session.ofBot({ baseUrl: "http://chat.test", token: "access 1", fetch: server.fetch });
    assert.equal(await session.ticket(), "ticket of access 1");
    server.issued = 2;
    await assert.rejects(session.ticket(), { code: "unauthenticated", status: 401 });
    assert.ok(
        server.calls.every((call) => !call.startsWith("/auth/")),
        server.calls.join(),
    );
});
