// web/en.js, fr.js: every text exists in both languages with the same placeholders, and no other text is used.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { en } from "../../web/en.js";
import { fr } from "../../web/fr.js";
import { explain, setLanguage } from "../../web/i18n.js";

/** The protocol's error codes. */
const CODES = `
    bad_request unknown_command too_large unauthenticated forbidden two_factor_required not_member muted banned blocked
    read_only not_found conflict rate_limited slow_mode content_rejected filtered storage_unavailable overloaded
    deadline_exceeded internal
`
    .trim()
    .split(/\s+/);
const folder = new URL("../../web/", import.meta.url);
const placeholders = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();

test("both languages have the same texts and placeholders", () => {
    assert.deepEqual(Object.keys(fr).sort(), Object.keys(en).sort());
    for (const key of Object.keys(en)) assert.deepEqual(placeholders(fr[key]), placeholders(en[key]), key);
});

test("texts of webhooks and bots replace no other text", () => {
    for (const language of ["en", "fr"]) {
        const keys = (name) => {
            const source = readFileSync(new URL(`${name}.js`, folder), "utf8");
            return [...source.matchAll(/^ {4}(\w+):/gm)].map(([, key]) => key);
        };
        const all = new Set(keys(language));
        const ours = keys(`${language}-integrations`);
        assert.deepEqual(
            ours.filter((key, at) => all.has(key) || ours.indexOf(key) < at),
            [],
        );
    }
});

test("errors are in the user's language, name labels instead of fields, and give the time to wait", () => {
    const weak = { code: "bad_request", message: "password: Must have at least 8 characters." };
    const name = { code: "bad_request", message: "display_name: Must have 1 to 100 characters." };
    const slow = { code: "slow_mode", message: "slow mode: wait 12 s", retryAfterMs: 11_200 };
    assert.deepEqual([weak, name, slow].map(explain), [
        "Password: Must have at least 8 characters.",
        "Display name: Must have 1 to 100 characters.",
        "slow mode: wait 12 s",
    ]);
    globalThis.localStorage = { setItem() {}, getItem: () => null };
    globalThis.document = { documentElement: {} };
    setLanguage("fr");
    assert.match(explain(weak), /mot de passe d’au moins 8 caractères/);
    assert.equal(explain(name), "Nom affiché : valeur non valide");
    assert.match(explain(slow), /^Le mode lent est activé.* \(12 secondes\)$/);
    for (const code of CODES) assert.notEqual(explain({ code, message: "English" }), "English", code);
    setLanguage("en");
});

test("a refusal is a wrong password only if the server says so", () => {
    const forbidden = (message) => explain({ code: "forbidden", message });
    const required = "This server requires two-factor authentication for your account.";
    assert.equal(forbidden("password: The password is wrong."), en.wrong_password);
    assert.equal(forbidden("current_password: The password is wrong."), en.wrong_password);
    assert.equal(forbidden(required), required);
    setLanguage("fr");
    assert.equal(forbidden("password: The password is wrong."), fr.wrong_password);
    assert.equal(forbidden(required), fr.error_forbidden);
    setLanguage("en");
    for (const name of readdirSync(folder).filter((name) => name.endsWith(".js") && name !== "i18n.js")) {
        const source = readFileSync(new URL(name, folder), "utf8");
        assert.ok(!source.includes('t("wrong_password")'), `${name} must let explain() find the reason`);
    }
});

test("every text that is used exists", () => {
    for (const name of readdirSync(folder).filter((name) => name.endsWith(".js"))) {
        const source = readFileSync(new URL(name, folder), "utf8");
        for (const [, key] of source.matchAll(/\bt\("(\w+)"/g)) assert.ok(key in en, `${name}: ${key}`);
        for (const [, key] of source.matchAll(/\btn\("(\w+)"/g))
            assert.ok(`${key}_one` in en && `${key}_other` in en, `${name}: ${key}`);
    }
});
