// Texts, dates and plurals in the user's language.

import { en } from "./en.js";
import { fr } from "./fr.js";

const LANGUAGES = { en, fr };
const KEY = "veza.language";
let current = choose();
let formats = formatsFor(current);

function choose() {
    const kept = globalThis.localStorage?.getItem(KEY);
    const wanted = [kept, ...(globalThis.navigator?.languages ?? [])].filter(Boolean);
    const found = wanted.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES);
    return found ?? "en";
}

function formatsFor(language) {
    return {
        plural: new Intl.PluralRules(language),
        number: new Intl.NumberFormat(language),
        time: new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" }),
        day: new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long" }),
        dayWithYear: new Intl.DateTimeFormat(language, { day: "numeric", month: "long", year: "numeric" }),
        full: new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium" }),
        stamp: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }),
        relative: new Intl.RelativeTimeFormat(language, { numeric: "auto" }),
    };
}

export function language() {
    return current;
}

export function setLanguage(language) {
    current = language;
    formats = formatsFor(language);
    localStorage.setItem(KEY, language);
    document.documentElement.lang = language;
}

/** The text of a key, with each {name} replaced. A missing text shows its key, so that the mistake is visible. */
export function t(key, values = {}) {
    const text = LANGUAGES[current][key] ?? en[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The text of a key as a list of nodes, with each {name} replaced by `build(name)`. */
export function parts(key, build) {
    return t(key)
        .split(/\{(\w+)\}/)
        .map((part, at) => (at % 2 === 1 ? build(part) : part));
}

/** Codes for which our English text is better than the server's message. */
const OURS = new Set([
    "unreachable",
    "unknown_command",
    "disconnected",
    "deadline_exceeded",
    "unauthenticated",
    "two_factor_required",
    "two_factor_invalid",
    "step_up_required",
]);
/** Fields of requests → the key of their label. */
const FIELDS = {
    password: "password",
    new_password: "new_password",
    current_password: "current_password",
    username: "username",
    email: "email",
    display_name: "display_name",
    bio: "bio",
    avatar_url: "avatar_url",
    name: "room_name",
    description: "description",
    status_text: "status_text",
    captcha: "captcha",
};

/**
 * The text of an error, {code, message, retryAfterMs or retryInMs}: ours in the user's language if there is one for its
 * code, otherwise the server's message, which is English. The name of a field becomes its label.
 */
export function explain(error) {
    const [, field, detail] = /^(?:data\.)?(\w+): (.+)$/s.exec(error.message ?? "") ?? [];
    const label = field in FIELDS ? t(FIELDS[field]) : undefined;
    const key = error.details?.held ? "error_held" : `error_${error.code}`;
    const isOurs = key in LANGUAGES[current] && (current !== "en" || OURS.has(error.code));
    // Every other `forbidden` has another reason.
    if (error.code === "forbidden" && /^(current_)?password$/.test(field)) return t("wrong_password");
    if (current !== "en" && error.code === "bad_request" && /^(new_)?password$/.test(field))
        return t("invalid_password");
    if (label && error.code === "bad_request")
        return t("invalid_field", { field: label, why: isOurs ? t("invalid_value") : detail });
    const text = isOurs ? t(key) : error.message;
    const waitMs = error.retryAfterMs ?? error.retryInMs ?? 0;
    return isOurs && waitMs >= 1_000 ? tn("wait", Math.ceil(waitMs / 1_000), { why: text }) : text;
}

/** The singular or plural text of a key; {n} is the number. */
export function tn(key, count, values = {}) {
    const form = formats.plural.select(count) === "one" ? "one" : "other";
    return t(`${key}_${form}`, { n: formats.number.format(count), ...values });
}

export const numberOf = (number) => formats.number.format(number);
export const timeOf = (iso) => formats.time.format(new Date(iso));
export const momentOf = (iso) => formats.full.format(new Date(iso));
/** A date and a time, for lists. */
export const stampOf = (iso) => formats.stamp.format(new Date(iso));

export const dateOf = (iso) => formats.dayWithYear.format(new Date(iso));

const SIZES = ["byte", "kilobyte", "megabyte", "gigabyte"];

/** A size in bytes for people: "12 MB". */
export function bytesOf(bytes) {
    let at = 0;
    let size = bytes;
    while (size >= 1_000 && at < SIZES.length - 1) {
        size /= 1_000;
        at++;
    }
    const style = { style: "unit", unit: SIZES[at], unitDisplay: at === 0 ? "long" : "short" };
    const maximumFractionDigits = size < 10 && at > 0 ? 1 : 0;
    return new Intl.NumberFormat(current, { ...style, maximumFractionDigits }).format(size);
}

/** A share in percent: "45 %". */
export function percentOf(share) {
    return new Intl.NumberFormat(current, { style: "percent" }).format(share);
}

/** The day of a time: today, yesterday, a weekday, or a date. */
export function dayOf(iso, now = new Date()) {
    const at = new Date(iso);
    const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
    const days = Math.round((midnight(now) - midnight(at)) / 86_400_000);
    if (days === 0 || days === 1) {
        const text = formats.relative.format(-days, "day");
        return text[0].toUpperCase() + text.slice(1);
    }
    return (days < 300 ? formats.day : formats.dayWithYear).format(at);
}

/** A duration in the largest unit that gives a whole number. */
export function durationOf(seconds) {
    const [unit, size] = [
        ["day", 86_400],
        ["hour", 3_600],
        ["minute", 60],
        ["second", 1],
    ].find(([, size]) => seconds % size === 0);
    return new Intl.NumberFormat(current, { style: "unit", unit, unitDisplay: "long" }).format(seconds / size);
}

/** "3 days ago". */
export const daysAgo = (days) => formats.relative.format(-days, "day");

/** "5 minutes ago". */
export function agoOf(iso) {
    const minutes = Math.max(0, Math.round((Date.now() - new Date(iso)) / 60_000));
    if (minutes === 0) return formats.relative.format(0, "second");
    if (minutes < 60) return formats.relative.format(-minutes, "minute");
    if (minutes < 60 * 24) return formats.relative.format(-Math.round(minutes / 60), "hour");
    return formats.relative.format(-Math.round(minutes / 60 / 24), "day");
}
