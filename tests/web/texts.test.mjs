// web/en.js, fr.js: every text exists in both languages, with the same places to fill, and nothing asks for another.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { en } from "../../web/en.js";
import { fr } from "../../web/fr.js";

const folder = new URL("../../web/", import.meta.url);
const places = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();

test("both languages say the same things", () => {
    assert.deepEqual(Object.keys(fr).sort(), Object.keys(en).sort());
    for (const key of Object.keys(en)) assert.deepEqual(places(fr[key]), places(en[key]), key);
});

test("every text that is asked for exists", () => {
    for (const name of readdirSync(folder).filter((name) => name.endsWith(".js"))) {
        const source = readFileSync(new URL(name, folder), "utf8");
        for (const [, key] of source.matchAll(/\bt\("(\w+)"/g)) assert.ok(key in en, `${name}: ${key}`);
        for (const [, key] of source.matchAll(/\btn\("(\w+)"/g))
            assert.ok(`${key}_one` in en && `${key}_other` in en, `${name}: ${key}`);
    }
});
