// Parses a search query: words and "phrases" go to the server as they are. Filters such as from:ada, in:lobby or
// before:2026-01-31 become fields of search_messages. Pure; the names that filters can refer to are an argument.
//
// Invariant: a filter is never ignored silently. An unknown name or an invalid date becomes a hint, and there is no
// search while there are hints: without the filter it would find the wrong messages. A filter without a value is still
// being typed and does not count yet. Nothing between quotation marks is a filter.
//
// `context`: {me, people: [{id, username, display_name}], conversations: [{id, name, username}], language, now}. The
// username of a direct conversation is the other user's.

/** The names of the filters. The English ones work in every language. Case and accents do not matter. */
export const NAMES = {
    en: { from: "from", in: "in", before: "before", after: "after", on: "on", has: "has" },
    fr: { from: "de", in: "dans", before: "avant", after: "après", on: "le", has: "contient" },
};
/** The values of the filter `has`. */
const HAS_VALUES = {
    en: { link: "link", file: "file", image: "image" },
    fr: { link: "lien", file: "fichier", image: "image" },
};

const TOKENS = /(?<!\S)(-?)([\p{L}\p{M}]+):("[^"]*(?:"|$)|[^\s"]*)|"[^"]*"|[^\s"]+|"/gu;
const SUGGESTED_MAX = 6;
/** The latest time that the server accepts. */
const TIME_MS_MAX = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
/** The dates that are offered, in days before today. */
const DAYS = [0, 1, 7, 30];

/** A text without case, accents and repeated spaces, for comparing. */
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

/** Finds the filters in a text: [{filter, word, value, isExcluded, start, valueAt, end}]. */
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

/** Replaces typographic quotation marks, which phones type, one by one: the cursor keeps its position. */
function straightQuotes(text) {
    return text.replace(/[“”„«»]/g, '"');
}

/** Parses a query: {query, fields, hints}. `fields` go to search_messages; each hint is {key, values} of a text. */
export function readSearch(typed, context) {
    const text = straightQuotes(typed);
    const fields = {};
    const hints = [];
    const hint = (key, values = {}) => hints.push({ key, values });
    let query = text;
    for (const { filter, word, value, isExcluded, start, end } of filtersIn(text, context.language)) {
        query = query.slice(0, start) + " ".repeat(end - start) + query.slice(end);
        if (value === "") continue;
        if (isExcluded) hint("search_no_not", { filter: word });
        else if (["before", "after", "on"].includes(filter)) bound(fields, filter, value, hint);
        else {
            const [field, found] = { from: fromUser, in: inConversation, has: hasValue }[filter](value, context, hint);
            if (found === undefined) continue;
            if (fields[field] !== undefined && fields[field] !== found) hint("search_twice", { filter: word });
            fields[field] = found;
        }
    }
    query = query.replace(/\s+/g, " ").trim();
    const findsFiles = fields.has === "file" || fields.has === "image";
    if (query === "" && !findsFiles && text.trim() !== "" && hints.length === 0 && Object.keys(fields).length > 0)
        hint("search_needs_word");
    return { query, fields, hints };
}

function fromUser(value, { me, people, language }, hint) {
    const wanted = fold(value.replace(/^@/, ""));
    const isMe = wanted === "me" || (language === "fr" && wanted === "moi");
    const exact = people.find(({ username }) => fold(username) === wanted) ?? (isMe ? me : undefined);
    const named = people.filter(({ display_name }) => fold(display_name) === wanted);
    return ["from_user_id", onlyMatch(value, exact, named, hint, "search_several_people", "search_unknown_person")];
}

function inConversation(value, { conversations }, hint) {
    const wanted = fold(value.replace(/^#/, ""));
    const exact = conversations.find(
        ({ id, username }) => id === wanted || (username && `@${fold(username)}` === wanted),
    );
    const named = conversations.filter(({ name }) => fold(name) === wanted);
    return ["conversation_id", onlyMatch(value, exact, named, hint, "search_several_rooms", "search_unknown_room")];
}

/** The id of the exact match, or of the only one with that name; otherwise a hint. */
function onlyMatch(value, exact, named, hint, several, unknown) {
    if (exact) return exact.id;
    if (named.length === 1) return named[0].id;
    hint(named.length > 1 ? several : unknown, { name: value });
    return undefined;
}

function hasValue(value, { language }, hint) {
    const found = named(HAS_VALUES, language, value);
    if (!found) hint("search_bad_has", { text: value });
    return ["has", found];
}

/** The start and end of a local day in milliseconds; undefined for an invalid date. */
function dayOf(text) {
    const [, year, month, day] = (/^(\d{4})-(\d{1,2})-(\d{1,2})$/.exec(text) ?? []).map(Number);
    const start = new Date(year, month - 1, day);
    const isDay = start.getFullYear() === year && start.getMonth() === month - 1 && start.getDate() === day;
    return isDay ? { start: start.getTime(), end: new Date(year, month - 1, day + 1).getTime() } : undefined;
}

/** Applies before, after or on: the bounds are the start and end of the day. The narrowest of several counts. */
function bound(fields, filter, value, hint) {
    const day = dayOf(value);
    if (!day) return hint("search_bad_date", { text: value });
    const clamped = (ms) => new Date(Math.min(Math.max(ms, 0), TIME_MS_MAX)).toISOString();
    // `after` is exclusive on the server: the last microsecond before the first moment that is meant.
    const from = filter === "after" ? day.end : filter === "on" ? day.start : undefined;
    const to = filter === "before" ? day.start : filter === "on" ? day.end : undefined;
    const after = from === undefined ? undefined : clamped(from - 1).replace("Z", "999Z");
    const before = to === undefined ? undefined : clamped(to);
    if (after && !(fields.after > after)) fields.after = after;
    if (before && !(fields.before < before)) fields.before = before;
    return undefined;
}

/**
 * The completions of the filter value at the cursor: {start, end, options: [{insert, label, note}]}, or undefined. A
 * date has `days`, the number of days ago, instead of a note.
 */
export function complete(typed, cursor, context) {
    const text = straightQuotes(typed);
    const at = filtersIn(text, context.language).find(({ valueAt, end }) => valueAt <= cursor && cursor <= end);
    if (!at) return undefined;
    const options =
        { from: completePeople, in: completeConversations, has: completeHasValues }[at.filter] ?? completeDates;
    const raw = text.slice(at.valueAt, cursor).replaceAll('"', "");
    const found = options(fold(raw.replace(/^[@#]/, "")), context).slice(0, SUGGESTED_MAX);
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

function completePeople(wanted, { me, people, language }) {
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

function completeConversations(wanted, { conversations }) {
    const fits = conversations.filter(({ id, name, username }) => begins(wanted, name, username ?? "", id));
    return fits.map(({ id, name, username }) => {
        const isUnique =
            !/["“”„«»]/.test(name) &&
            name.trim() !== "" &&
            conversations.filter((other) => fold(other.name) === fold(name)).length === 1;
        const written = /\s/.test(name) ? `"${name}"` : name;
        return {
            insert: username ? `@${username}` : isUnique ? written : id,
            label: name,
            note: username ? `@${username}` : id,
        };
    });
}

function completeHasValues(wanted, { language }) {
    const values = HAS_VALUES[language] ?? HAS_VALUES.en;
    return Object.values(values)
        .filter((value) => begins(wanted, value))
        .map((value) => ({ insert: value, label: value, note: "" }));
}

function completeDates(wanted, { now }) {
    const days = DAYS.map((days) => {
        const day = new Date(now.getFullYear(), now.getMonth(), now.getDate() - days);
        const text = [String(day.getFullYear()).padStart(4, "0"), day.getMonth() + 1, day.getDate()]
            .map((part) => String(part).padStart(2, "0"))
            .join("-");
        return { insert: text, label: text, days };
    });
    return days.filter(({ insert }) => insert.startsWith(wanted));
}
