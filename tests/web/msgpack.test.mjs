// web/msgpack.js: byte literals from the specification, lengths around each limit, invalid bytes.

import assert from "node:assert/strict";
import test from "node:test";
import { decode, encode } from "../../web/msgpack.js";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const bytes = (text) => new Uint8Array(Buffer.from(text, "hex"));

test("encodes and decodes the bytes of the specification", () => {
    for (const [value, expected] of [
        [null, "c0"],
        [false, "c2"],
        [true, "c3"],
        [0, "00"],
        [127, "7f"],
        [128, "cc80"],
        [255, "ccff"],
        [256, "cd0100"],
        [65_535, "cdffff"],
        [65_536, "ce00010000"],
        [2 ** 32 - 1, "ceffffffff"],
        [2 ** 32, "cf0000000100000000"],
        [Number.MAX_SAFE_INTEGER, "cf001fffffffffffff"],
        [-1, "ff"],
        [-32, "e0"],
        [-33, "d0df"],
        [-128, "d080"],
        [-129, "d1ff7f"],
        [-32_768, "d18000"],
        [-32_769, "d2ffff7fff"],
        [-(2 ** 31), "d280000000"],
        [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
        [Number.MIN_SAFE_INTEGER, "d3ffe0000000000001"],
        [1.5, "cb3ff8000000000000"],
        ["", "a0"],
        ["é", "a2c3a9"],
        ["👋", "a4f09f918b"],
        [[], "90"],
        [[1, [2]], "92019102"],
        [{}, "80"],
        [{ a: 1, b: undefined, c: null }, "82a16101a163c0"],
        [new Uint8Array([1, 2]), "c4020102"],
    ]) {
        assert.equal(hex(encode(value)), expected, String(value));
        if (!(value instanceof Object && "b" in value)) assert.deepEqual(decode(bytes(expected)), value);
    }
    assert.deepEqual(decode(bytes("ca3fc00000")), 1.5);
    assert.deepEqual(decode(bytes("d40501")), { extension: 5, bytes: new Uint8Array([1]) });
    assert.equal(decode(bytes("d9026869")), "hi");
});

test("round-trips lengths around each limit", () => {
    for (const length of [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536]) {
        const list = Array.from({ length }, (_, n) => n);
        const map = Object.fromEntries(list.map((n) => [`k${n}`, n]));
        for (const value of ["x".repeat(length), new Uint8Array(length).fill(7), list, map])
            assert.deepEqual(decode(encode(value)), value);
    }
});

test("round-trips random values", () => {
    let seed = 1;
    const random = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;
    const tree = (depth) => {
        switch (random(depth > 3 ? 6 : 8)) {
            case 0:
                return null;
            case 1:
                return random(2) === 1;
            case 2:
                return (random(2) ? 1 : -1) * random(2 ** (1 + random(30)));
            case 3:
                return (random(2) ? 1 : -1) * random(1_000_000) * 2 ** random(32);
            case 4:
                return random(1_000) / 7;
            case 5:
                return "aé漢👋\u0000".repeat(random(12));
            case 6:
                return Array.from({ length: random(20) }, () => tree(depth + 1));
            default:
                return Object.fromEntries(Array.from({ length: random(20) }, (_, n) => [`k${n}`, tree(depth + 1)]));
        }
    };
    for (let n = 0; n < 300; n++) {
        const value = tree(0);
        const normal = JSON.parse(JSON.stringify(value)); // -0 is 0 there
        assert.deepEqual(JSON.parse(JSON.stringify(decode(encode(value)))), normal);
    }
});

test("refuses bytes that are not exactly one value", () => {
    for (const wrong of ["", "c1", "c0c0", "a2c3", "92c0", "dd7fffffff", "a1ff", "8101c0", "cf00", "c5ffff00"]) {
        assert.throws(() => decode(bytes(wrong)), wrong);
    }
    assert.throws(() => decode(new Uint8Array(100).fill(0x91)), RangeError);
    assert.throws(() => encode(() => {}), TypeError);
    const key = decode(bytes("81a95f5f70726f746f5f5f01"));
    assert.equal(Object.getPrototypeOf(key), Object.prototype);
    assert.ok(Object.hasOwn(key, "__proto__"));
});
