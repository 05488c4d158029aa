// web/concurrency.js: a maximum of concurrent jobs, in order; a failed job blocks no other.

import assert from "node:assert/strict";
import test from "node:test";
import { limitConcurrency } from "../../web/concurrency.js";

test("runs at most a few jobs at once, in order, and returns each result", async () => {
    const run = limitConcurrency(3);
    const began = [];
    let running = 0;
    let most = 0;
    const work = (n) => async () => {
        began.push(n);
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, n % 4));
        running--;
        if (n % 5 === 0) throw new Error(`no ${n}`);
        return n;
    };
    const all = [...Array(20).keys()];
    const outcomes = await Promise.allSettled(all.map((n) => run(work(n))));
    assert.deepEqual(
        outcomes.map(({ value, reason }) => value ?? reason.message),
        all.map((n) => (n % 5 === 0 ? `no ${n}` : n)),
    );
    assert.deepEqual([began, most, running], [all, 3, 0]);
    assert.equal(await run(() => "at once"), "at once");
    await assert.rejects(
        run(() => {
            throw new Error("before it began");
        }),
        /before/,
    );
});
