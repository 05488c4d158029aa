// What somebody types into the search: words and "phrases", which the server looks for, and filters such as from:ada,
// in:lobby or before:2026-01-31, which become the fields of search_messages. Pure; who and what has which name is an
// argument.
//
// Invariant: what cannot be understood is never left out in silence. An unknown name or a date that is none becomes a
// hint, and nothing is to be asked while there is one: a search without the filter would find what nobody looked for. A
// filter without a value is still being typed, and is no filter yet. Between quotation marks nothing is a filter.
//
// `world`: {me, people: [{id, username, display_name}], places: [{id, name, username}], language, now}; the username is the
// other's in a direct conversation.

/** What the filters are called; English works everywhere. Compared without case and accents. */
export const NAMES = {
    en: { from: "from", in: "in", before: "before", after: "after", on: "on", has: "has" },
    fr: { from: "de", in: "dans", before: "avant", after: "après", on: "le", has: "contient" },
};
/** What `has` can be, in the words of a language. */
export const THINGS = { en: { link: "link", file: "file" }, fr: { link: "lien", file: "fichier" } };

const TOKENS = /(?<!\S)(-?)([\p{L}\p{M}]+):("[^"]*(?:"|$)|[^\s"]*)|"[^"]*"|[^\s"]+|"/gu;
const SUGGESTED_MAX = 6;
/** The last moment of the calendar that the server takes. */
const TIME_MS_MAX = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
/** Days before today that are offered for a date. */
const DAYS = [0, 1, 7, 30];

/** Text as it is compared. */
export function fold(text) {
    return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replace(/\s+/g, " ").trim();
}

function named(tables, language, word) {
    const wanted = fold(word);
    for (const table of [tables.en, tables[language] ?? {}]) {
        const found = Object.keys(table).find((key) => fold(table[key]) === wanted);
        if (found) return found;
    }
    return undefined;
}

/** The filters in a text: [{filter, word, value, isExcluded, start, valueAt, end}]. */
function filtersIn(text, language) {
    const found = [];
    for (const { 0: whole, 1: minus, 2: word, 3: quoted, index } of text.matchAll(TOKENS)) {
        const filter = word && named(NAMES, language, word);
        if (!filter) continue;
        const end = index + whole.length;
        found.push({
            filter,
            word,
            value: quoted.replaceAll('"', "").trim(),
            isExcluded: minus === "-",
            start: index,
            valueAt: end - quoted.length,
            end,
        });
    }
    return found;
}

/** Telephones write other quotation marks than the server reads. One for one: the cursor stays where it is. */
function straight(text) {
    return text.replace(/[“”„«»]/g, '"');
}

/**
 * What is to be asked: {query, fields, hints}. `fields` are those of search_messages; each hint is {key, values} of a text,
 * and `name` of the one about an unknown person is what they were called.
 */
export function readSearch(typed, world) {
    const text = straight(typed);
    const fields = {};
    const hints = [];
    const hint = (key, values = {}) => hints.push({ key, values });
    let query = text;
    for (const { filter, word, value, isExcluded, start, end } of filtersIn(text, world.language)) {
        query = query.slice(0, start) + " ".repeat(end - start) + query.slice(end);
        if (value === "") continue;
        if (isExcluded) hint("search_no_not", { filter: word });
        else if (["before", "after", "on"].includes(filter)) bound(fields, filter, value, hint);
        else {
            const [field, found] = { from: person, in: place, has: thing }[filter](value, world, hint);
            if (found === undefined) continue;
            if (fields[field] !== undefined && fields[field] !== found) hint("search_twice", { filter: word });
            fields[field] = found;
        }
    }
    query = query.replace(/\s+/g, " ").trim();
    if (query === "" && text.trim() !== "" && hints.length === 0 && Object.keys(fields).length > 0)
        hint("search_needs_word");
    return { query, fields, hints };
}

function person(value, { me, people, language }, hint) {
    const wanted = fold(value.replace(/^@/, ""));
    const isMe = wanted === "me" || (language === "fr" && wanted === "moi");
    const exact = people.find(({ username }) => fold(username) === wanted);
    if (exact || isMe) return ["from_user_id", exact?.id ?? me.id];
    const called = people.filter(({ display_name }) => fold(display_name) === wanted);
    if (called.length === 1) return ["from_user_id", called[0].id];
    if (called.length > 1) hint("search_several_people", { name: value });
    else hint("search_unknown_person", { name: value });
    return [];
}

function place(value, { places }, hint) {
    const wanted = fold(value.replace(/^#/, ""));
    const exact = places.find(({ id, username }) => id === wanted || (username && `@${fold(username)}` === wanted));
    if (exact) return ["conversation_id", exact.id];
    const called = places.filter(({ name }) => fold(name) === wanted);
    if (called.length === 1) return ["conversation_id", called[0].id];
    if (called.length > 1) hint("search_several_rooms", { name: value });
    else hint("search_unknown_room", { name: value });
    return [];
}

function thing(value, { language }, hint) {
    const found = named(THINGS, language, value);
    if (!found) hint("search_bad_has", { text: value });
    return ["has", found];
}

/** The reader's day: its first moment, or that of a day after it, in milliseconds; undefined where there is no such day. */
function dayOf(text) {
    const [, year, month, day] = (/^(\d{4})-(\d{1,2})-(\d{1,2})$/.exec(text) ?? []).map(Number);
    const start = new Date(year, month - 1, day);
    const isDay = start.getFullYear() === year && start.getMonth() === month - 1 && start.getDate() === day;
    return isDay ? { start: start.getTime(), end: new Date(year, month - 1, day + 1).getTime() } : undefined;
}

/** `before` a day ends where it begins, `after` one begins where it ends, `on` is it. The narrowest of several counts. */
function bound(fields, filter, value, hint) {
    const day = dayOf(value);
    if (!day) return hint("search_bad_date", { text: value });
    const clamped = (ms) => new Date(Math.min(Math.max(ms, 0), TIME_MS_MAX)).toISOString();
    // The server takes what is later than `after`: the last microsecond before the first moment that is meant.
    const from = filter === "after" ? day.end : filter === "on" ? day.start : undefined;
    const to = filter === "before" ? day.start : filter === "on" ? day.end : undefined;
    const after = from === undefined ? undefined : clamped(from - 1).replace("Z", "999Z");
    const before = to === undefined ? undefined : clamped(to);
    if (after && !(fields.after > after)) fields.after = after;
    if (before && !(fields.before < before)) fields.before = before;
    return undefined;
}

/**
 * What may stand where the cursor is: {start, end, options: [{insert, label, note}]}, or undefined. A date's option has `days`
 * in the place of a note: how many days ago it is.
 */
export function complete(typed, cursor, world) {
    const text = straight(typed);
    const at = filtersIn(text, world.language).find(({ valueAt, end }) => valueAt <= cursor && cursor <= end);
    if (!at) return undefined;
    const options = { from: persons, in: rooms, has: things }[at.filter] ?? dates;
    const raw = text.slice(at.valueAt, cursor).replaceAll('"', "");
    const found = options(fold(raw.replace(/^[@#]/, "")), world).slice(0, SUGGESTED_MAX);
    const isWhole = found.length === 1 && fold(found[0].insert) === fold(at.value);
    return found.length === 0 || isWhole ? undefined : { start: at.valueAt, end: at.end, options: found };
}

const begins = (wanted, ...names) =>
    names.some(
        (name) =>
            fold(name).startsWith(wanted) ||
            fold(name)
                .split(" ")
                .some((word) => word.startsWith(wanted)),
    );

function persons(wanted, { me, people, language }) {
    const others = people.filter(
        ({ id, username, display_name }) => id !== me.id && begins(wanted, username, display_name),
    );
    const mine = language === "fr" ? "moi" : "me";
    const self = begins(wanted, mine, me.username, me.display_name)
        ? [{ insert: mine, label: me.display_name, note: mine }]
        : [];
    return [
        ...self,
        ...others.map(({ username, display_name }) => ({
            insert: username,
            label: display_name,
            note: `@${username}`,
        })),
    ];
}

function rooms(wanted, { places }) {
    const fits = places.filter(({ id, name, username }) => begins(wanted, name, username ?? "", id));
    return fits.map(({ id, name, username }) => {
        const isUnique =
            !/["“”„«»]/.test(name) &&
            name.trim() !== "" &&
            places.filter((other) => fold(other.name) === fold(name)).length === 1;
        const written = /\s/.test(name) ? `"${name}"` : name;
        return {
            insert: username ? `@${username}` : isUnique ? written : id,
            label: name,
            note: username ? `@${username}` : id,
        };
    });
}

function things(wanted, { language }) {
    const words = THINGS[language] ?? THINGS.en;
    return Object.values(words)
        .filter((word) => begins(wanted, word))
        .map((word) => ({ insert: word, label: word, note: "" }));
}

function dates(wanted, { now }) {
    const days = DAYS.map((days) => {
        const day = new Date(now.getFullYear(), now.getMonth(), now.getDate() - days);
        const text = [String(day.getFullYear()).padStart(4, "0"), day.getMonth() + 1, day.getDate()]
            .map((part) => String(part).padStart(2, "0"))
            .join("-");
        return { insert: text, label: text, days };
    });
    return days.filter(({ insert }) => insert.startsWith(wanted));
}
