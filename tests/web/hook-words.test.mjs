// web/hook-words.js: the states of webhooks, and refusals in the user's words at the field that they name.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { en } from "../../web/en.js";
import { fr } from "../../web/fr.js";
import { setLanguage } from "../../web/i18n.js";
import {
    attemptText,
    curlLine,
    EVENTS,
    eventName,
    eventsText,
    refusalOf,
    SENTENCES,
    shortAddress,
    stateOf,
} from "../../web/hook-words.js";

const root = new URL("../../", import.meta.url);

/** The texts of all files of a folder with these endings. */
function sources(folder, ...endings) {
    const names = readdirSync(new URL(folder, root), { recursive: true });
    const wanted = names.filter((name) => endings.some((ending) => name.endsWith(ending)));
    return wanted.map((name) => readFileSync(new URL(`${folder}/${name}`, root), "utf8")).join("\n");
}

test("every sentence that has a text of ours is one of the server's", () => {
    const server = sources("src", ".rs") + sources("migrations/functions", ".sql");
    for (const [beginning, key] of SENTENCES) {
        assert.ok(key in en && key in fr, key);
        assert.ok(server.includes(beginning), `the server does not say: ${beginning}`);
    }
});

test("the events are those of the server, each with a name in both languages", () => {
    const source = readFileSync(new URL("src/hooks/mod.rs", root), "utf8");
    const [, list] = /const EVENTS[^=]*=\s*&?\[([^\]]*)\]/.exec(source);
    assert.deepEqual([...EVENTS].sort(), [...list.matchAll(/"(\w+)"/g)].map(([, name]) => name).sort());
    for (const texts of [en, fr]) for (const event of EVENTS) assert.ok(`hook_event_${event}` in texts, event);
    assert.equal(eventName("brand_new"), "brand_new");
    assert.equal(eventsText([]), "All events");
    assert.equal(eventsText(["message_created", "message_edited"]), "Message sent, Message edited");
    assert.equal(eventsText(EVENTS), "12 kinds of events");
});

test("a webhook is on, failing, paused or off", () => {
    const now = Date.parse("2026-01-01T12:00:00Z");
    const on = { active: true, disabled_reason: null, paused_until: null, failures: 0 };
    const later = "2026-01-01T12:05:00Z";
    const names = [
        on,
        { ...on, failures: 2 },
        { ...on, failures: 5, paused_until: later },
        { ...on, failures: 5, paused_until: "2026-01-01T11:59:00Z" },
        { ...on, active: false, disabled_reason: "switched off", paused_until: later },
    ].map((webhook) => stateOf(webhook, now).name);
    assert.deepEqual(names, ["on", "failing", "paused", "failing", "off"]);
    const gone = { ...on, active: false, disabled_reason: "the receiver answered 410 Gone" };
    assert.equal(stateOf({ ...gone, disabled_reason: "switched off" }, now).text, "Off");
    assert.equal(stateOf(gone, now).text, "Off: the receiver answered 410 Gone");
});

test("a refusal names its field, in the user's language", () => {
    globalThis.localStorage = { setItem() {}, getItem: () => null };
    globalThis.document = { documentElement: {} };
    const refused = (code, message) => refusalOf({ code, message });
    const address = "url: Its address is not public. Ask the operator of this server to allow it.";
    const range = "from_seq, to_seq: Must be a range of at most 10000 seqs, from 1 on.";
    assert.deepEqual(refused("bad_request", address), { field: "url", text: en.hook_url_private });
    assert.deepEqual(refused("bad_request", range), { field: "from_seq", text: en.hook_range_seqs });
    const name = "name: Must have 1 to 100 characters.";
    assert.deepEqual(refused("bad_request", name), { field: "name", text: "Must have 1 to 100 characters." });
    assert.equal(refused("conflict", "You can have 20 webhooks. Delete one of them.").text, en.hook_too_many);
    assert.equal(refused("conflict", "You can have 20 webhooks. Delete one of them.").field, undefined);
    const taken = "username: The name is taken. Choose another one.";
    assert.deepEqual(refused("conflict", taken), { field: "username", text: en.bot_name_taken });
    assert.equal(refused("conflict", "You can have 20 bots. Delete one of them.").text, en.bot_too_many);
    assert.equal(refused("forbidden", "Something else.").text, "Something else.");
    assert.equal(refused("unreachable", "x").text, en.error_unreachable);
    setLanguage("fr");
    assert.deepEqual(refused("bad_request", address), { field: "url", text: fr.hook_url_private });
    assert.equal(refused("forbidden", "Something else.").text, fr.error_forbidden);
    setLanguage("en");
});

test("an address is cut, and a line for a shell has no quote inside its quotes", () => {
    assert.equal(shortAddress("https://example.org/"), "example.org");
    assert.equal(shortAddress(`https://example.org/${"x".repeat(60)}`).length, 48);
    assert.equal(attemptText({ status: 500, error: "the response has the status 500" }), "Answered 500");
    assert.equal(attemptText({ error: "connection refused" }), "connection refused");
    const line = curlLine("https://example.org/hooks/in/abc");
    assert.equal(line.split("'").length, 7, line);
    assert.deepEqual(JSON.parse(line.split("'")[5]), { text: en.hook_curl_text });
});
