// web/marks.js: read markers, of which the server allows a limited number.

import assert from "node:assert/strict";
import test from "node:test";
import { Marks } from "../../web/marks.js";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Marks whose commands wait until the test answers them. */
function collect() {
    const sent = [];
    const marks = new Marks(
        (type, data) =>
            new Promise((resolve, reject) => {
                sent.push({ type, data, resolve, refuse: (code, retryAfterMs) => reject({ code, retryAfterMs }) });
            }),
        1,
    );
    const until = async (count) => {
        while (sent.length < count) await pause(1);
        return sent[count - 1];
    };
    return { marks, sent, until };
}

test("has one marker per conversation in flight, and the newest replaces those that wait", async () => {
    const { marks, sent, until } = collect();
    marks.mark("room_6", "mark_read", 1);
    marks.mark("room_6", "mark_read", 2);
    marks.mark("thread 9", "mark_thread_read", 7);
    await until(2);
    for (const seq of [3, 4, 5]) {
        marks.mark("room_6", "mark_read", seq);
        await pause(5);
    }
    assert.deepEqual(
        sent.map(({ type, data }) => [type, data]),
        [
            ["mark_read", 2],
            ["mark_thread_read", 7],
        ],
    );
    sent[0].resolve();
    assert.equal((await until(3)).data, 5);
});

test("sends a refused marker again after retry_after_ms, and holds back all others until then", async () => {
    const { marks, sent, until } = collect();
    marks.mark("room_6", "mark_read", 1);
    const began = Date.now();
    (await until(1)).refuse("rate_limited", 40);
    await pause(1);
    marks.mark("room_10", "mark_read", 8);
    await until(3);
    assert.ok(Date.now() - began >= 40, "neither is sent before");
    assert.deepEqual(new Set(sent.slice(1).map(({ data }) => data)), new Set([1, 8]));
});

test("gives up a marker that is refused for good, or too often", async () => {
    const { marks, sent, until } = collect();
    marks.mark("room_6", "mark_read", 1);
    (await until(1)).refuse("not_member");
    await pause(10);
    assert.equal(sent.length, 1);
    marks.mark("room_6", "mark_read", 2);
    for (let n = 2; n <= 6; n++) (await until(n)).refuse("overloaded", 1);
    await pause(20);
    assert.equal(sent.length, 6, "five attempts");
});
