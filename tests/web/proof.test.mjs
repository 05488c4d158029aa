// The proof of work of a registration.

import { createHash } from "node:crypto";
import { strict as assert } from "node:assert";
import { test } from "node:test";
import { sha256, solve } from "../../web/proof.js";

const hex = (words) => [...words].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");

test("hashes like SHA-256, for every length around a block", () => {
    for (let length = 0; length < 140; length++) {
        const message = Uint8Array.from({ length }, (_, at) => (at * 7 + length) % 256);
        assert.equal(hex(sha256(message)), createHash("sha256").update(message).digest("hex"), `${length} bytes`);
    }
});

test("finds a nonce whose digest begins with the zero bits", async () => {
    const proof = await solve({ challenge: "challenge", difficulty: 12 });
    const digest = createHash("sha256").update(`${proof.challenge}:${proof.nonce}`).digest("hex");
    assert.ok(digest.startsWith("000"), digest);
});

test("needs no proof without a difficulty", async () => {
    assert.equal(await solve({ challenge: "challenge", difficulty: 0 }), undefined);
});
