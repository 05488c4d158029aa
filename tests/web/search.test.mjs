// web/search.js: a query becomes fields of search_messages, or a hint; no filter is ignored silently.

process.env.TZ = "Europe/Paris"; // a place whose days are not those of UTC, with one day of 23 hours

import assert from "node:assert/strict";
import test from "node:test";
import { complete, readSearch } from "../../web/search.js";

const ME = { id: 1, username: "ada", display_name: "Ada Lovelace" };
const PEOPLE = [
    ME,
    { id: 2, username: "bob", display_name: "Bob Martin" },
    { id: 3, username: "bob2", display_name: "Bob Martin" },
    { id: 4, username: "helene", display_name: "Hélène" },
];
const PLACES = [
    { id: "room_6", name: "lobby" },
    { id: "room_7", name: "Salle d’été" },
    { id: "room_8", name: "twins" },
    { id: "room_9", name: "Twins" },
    { id: "dm_3", name: "Bob Martin", username: "bob" },
];
const context = (language = "en") => ({
    me: ME,
    people: PEOPLE,
    conversations: PLACES,
    language,
    now: new Date(2026, 2, 1, 12),
});
const read = (text, language) => readSearch(text, context(language));
const asked = (text, language) => {
    const { query, fields, hints } = read(text, language);
    assert.deepEqual(hints, [], text);
    return { query, ...fields };
};
const hints = (text, language) => read(text, language).hints.map(({ key }) => key);

test("leaves words, phrases, exclusions and prefixes unchanged", () => {
    for (const text of [
        "tea",
        '"a phrase" -not begin*',
        "http://from:bob",
        "re:invent 10:30",
        'say "from:bob" loudly',
        "",
        '5" pipe',
    ])
        assert.deepEqual(asked(text), { query: text });
    assert.deepEqual(asked("  two   words "), { query: "two words" });
    assert.deepEqual(asked("“a phrase”"), { query: '"a phrase"' });
});

test("finds filters anywhere in the query", () => {
    assert.deepEqual(asked("from:bob tea in:#lobby -milk HAS:Link"), {
        query: "tea -milk",
        from_user_id: 2,
        conversation_id: "room_6",
        has: "link",
    });
    assert.deepEqual(asked('tea from:@helene in:"salle d’ete"'), {
        query: "tea",
        from_user_id: 4,
        conversation_id: "room_7",
    });
    assert.deepEqual(asked('from:"ada lovelace" tea'), { query: "tea", from_user_id: 1 });
    assert.deepEqual(asked("from:me tea in:@bob has:file"), {
        query: "tea",
        from_user_id: 1,
        conversation_id: "dm_3",
        has: "file",
    });
    assert.deepEqual(asked("in:room_9 tea"), { query: "tea", conversation_id: "room_9" });
    assert.deepEqual(asked("tea from: in:"), { query: "tea" }, "still being typed");
});

test("accepts French and English filters in French", () => {
    const expected = { query: "thé", from_user_id: 1, conversation_id: "room_6", has: "link" };
    assert.deepEqual(asked("de:moi dans:lobby contient:lien thé", "fr"), expected);
    assert.deepEqual(asked("from:me in:lobby has:link thé", "fr"), expected);
    assert.deepEqual(asked("thé contient:fichier", "fr"), { query: "thé", has: "file" });
    assert.deepEqual(asked("thé contient:image", "fr"), { query: "thé", has: "image" });
    for (const after of ["après:2026-01-01", "apres:2026-01-01", "apre\u0300s:2026-01-01"])
        assert.deepEqual(asked(`thé ${after} avant:2026-02-01`, "fr"), {
            query: "thé",
            after: "2026-01-01T22:59:59.999999Z",
            before: "2026-01-31T23:00:00.000Z",
        });
    assert.deepEqual(asked("le:2026-01-15 thé", "fr").before, "2026-01-15T23:00:00.000Z");
    assert.deepEqual(asked("de:moi"), { query: "de:moi" }, "in English it is a word");
});

test("uses local days, also when a day has 23 or 25 hours", () => {
    assert.deepEqual(asked("tea before:2026-01-31"), { query: "tea", before: "2026-01-30T23:00:00.000Z" });
    assert.deepEqual(asked("tea after:2026-01-01"), { query: "tea", after: "2026-01-01T22:59:59.999999Z" });
    assert.deepEqual(asked("tea on:2026-3-29"), {
        query: "tea",
        after: "2026-03-28T22:59:59.999999Z",
        before: "2026-03-29T22:00:00.000Z",
    });
    const narrow = asked("tea after:2026-01-01 after:2026-01-05 before:2026-02-01 before:2026-03-01");
    assert.deepEqual(narrow, {
        query: "tea",
        after: "2026-01-05T22:59:59.999999Z",
        before: "2026-01-31T23:00:00.000Z",
    });
    assert.deepEqual(asked("tea on:1970-01-01").after, "1970-01-01T00:00:00.000999Z");
    assert.deepEqual(asked("tea after:9999-12-31").after, "9999-12-31T22:59:59.999999Z");
    for (const text of ["2026-02-30", "2026-13-01", "26-01-01", "tomorrow", "2026-01", "0026-01-01"])
        assert.deepEqual(hints(`tea on:${text}`), ["search_bad_date"]);
});

test("turns invalid filters into hints", () => {
    const unknown = read("tea from:zoe");
    assert.deepEqual(
        [unknown.query, unknown.fields, unknown.hints],
        ["tea", {}, [{ key: "search_unknown_person", values: { name: "zoe" } }]],
    );
    assert.deepEqual(hints('tea from:"Bob Martin"'), ["search_several_people"]);
    assert.deepEqual(hints("tea in:nowhere"), ["search_unknown_room"]);
    assert.deepEqual(hints("tea in:twins"), ["search_several_rooms"]);
    assert.deepEqual(hints("tea has:video"), ["search_bad_has"]);
    assert.deepEqual(hints("tea -from:bob"), ["search_no_not"]);
    assert.deepEqual(hints("tea from:bob from:me"), ["search_twice"]);
    assert.deepEqual(hints("tea from:bob from:@bob"), []);
    assert.deepEqual(hints("from:bob on:2026-01-01"), ["search_needs_word"]);
    assert.deepEqual(hints("has:link"), ["search_needs_word"]);
    assert.deepEqual(asked("has:file from:bob"), { query: "", has: "file", from_user_id: 2 });
    assert.deepEqual(asked("contient:image", "fr"), { query: "", has: "image" });
    assert.deepEqual(hints("from:zoe"), ["search_unknown_person"]);
});

test("completes names, conversations, values and dates", () => {
    const options = (typed, language, cursor = typed.length) => complete(typed, cursor, context(language));
    const inserts = (...given) => options(...given)?.options.map(({ insert }) => insert);
    assert.deepEqual(inserts("tea from:"), ["me", "bob", "bob2", "helene"]);
    assert.deepEqual(inserts("tea from:@BO"), ["bob", "bob2"]);
    assert.deepEqual(inserts("from:mart"), ["bob", "bob2"]);
    assert.deepEqual(inserts("from:hel"), ["helene"]);
    assert.equal(inserts("from:helene"), undefined, "it stands there already");
    assert.deepEqual(inserts("de:m", "fr"), ["moi", "bob", "bob2"]);
    assert.deepEqual(inserts("in:"), ["lobby", '"Salle d’été"', "room_8", "room_9", "@bob"]);
    assert.deepEqual(inserts('in:"salle d'), ['"Salle d’été"']);
    assert.deepEqual(inserts("has:"), ["link", "file", "image"]);
    assert.deepEqual(inserts("contient:f", "fr"), ["fichier"]);
    assert.deepEqual(inserts("on:"), ["2026-03-01", "2026-02-28", "2026-02-22", "2026-01-30"]);
    assert.deepEqual(inserts("on:2026-02-2"), ["2026-02-28", "2026-02-22"]);
    assert.deepEqual(
        [inserts("tea"), inserts("from:bob "), inserts("tea from:b", "en", 2)],
        [undefined, undefined, undefined],
    );
    const { start, end } = options("from:b tea", "en", 6);
    assert.deepEqual([start, end], [5, 6]);
    // Every completion can be parsed.
    for (const typed of ["from:", "in:", "has:", "on:", "before:", "after:"]) {
        for (const insert of inserts(typed)) assert.deepEqual(hints(`tea ${typed}${insert}`), [], typed + insert);
    }
});
