// Pure words about webhooks and bots: the state of a webhook, its events, a curl line, and what the server refuses.

import { explain, t, timeOf, tn } from "./i18n.js";

/** The events that a webhook can have, in the order in which they are offered. */
export const EVENTS = [
    "message_created",
    "message_edited",
    "message_deleted",
    "message_pinned",
    "reaction_added",
    "reaction_removed",
    "member_joined",
    "member_left",
    "member_updated",
    "conversation_created",
    "conversation_updated",
    "file_updated",
];

/** The states of a delivery. */
export const DELIVERY_STATES = ["pending", "delivered", "dead", "withdrawn"];

/** Reasons of the server for a disabled webhook. */
const SWITCHED_OFF = "switched off";
const GONE = "the receiver answered 410 Gone";

/** Beginnings of the server's sentences, as its source has them, and the keys of our texts. */
export const SENTENCES = [
    ["url: Must be an absolute URL", "hook_url_malformed"],
    ["url: Must have at most", "hook_url_long"],
    ["url: Must begin with https://", "hook_url_scheme"],
    ["url: Must not have a user name or a password", "hook_url_credentials"],
    ["url: Must not have a fragment", "hook_url_fragment"],
    ["url: Its address is not public", "hook_url_private"],
    ["from: Must not be after", "hook_range_order"],
    ["from_seq, to_seq: Must be a range of at most", "hook_range_seqs"],
    ["The range has more than", "hook_range_large"],
    ["Webhooks are switched off on this server", "hooks_off"],
    ["There is no such webhook", "hook_gone"],
    ["Only the owner and the admins of a conversation can create its webhooks", "hook_needs_admin"],
    ["A conversation can have 20 webhooks", "hook_too_many_here"],
    ["You can have 20 webhooks", "hook_too_many"],
    ["A conversation can have 20 incoming webhooks", "hook_too_many_here"],
    ["You can have 50 incoming webhooks", "hook_too_many"],
    ["The webhook is disabled", "hook_is_off"],
    ["There is nothing at {}", "error_unknown_command"],
    ["There is no such bot", "bot_gone"],
    ["You can have %s bots", "bot_too_many"],
    ["username: The name is taken", "bot_name_taken"],
    ["username: The name {text} is reserved", "bot_name_reserved"],
    ["username: Must be 3 to 50 characters", "bot_name_rule"],
    ["A bot can have 20 tokens", "token_too_many"],
    ["url: Requests to other servers are switched off", "command_no_url"],
    ["commands: A bot can have {COMMANDS_MAX} commands", "command_too_many"],
    ["conversation_ids: The bot is not a member of %s", "token_not_member"],
];
const PATTERNS = SENTENCES.map(([beginning, key]) => {
    const escaped = beginning.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
    return [new RegExp(`^${escaped.replace(/%s|\{\w*\}/g, ".+")}`), key];
});

/** The state of a webhook: {name: "on", "failing", "paused" or "off", text}. `now` in milliseconds. */
export function stateOf({ active, disabled_reason: reason, paused_until: until, failures }, now) {
    if (!active) {
        if (!reason || reason === SWITCHED_OFF) return { name: "off", text: t("hook_off") };
        return { name: "off", text: t("hook_off_because", { why: reason === GONE ? t("hook_off_gone") : reason }) };
    }
    if (until && new Date(until) > now) return { name: "paused", text: t("hook_paused", { when: timeOf(until) }) };
    if (failures > 0) return { name: "failing", text: tn("hook_failing", failures) };
    return { name: "on", text: t("hook_on") };
}

/** What a webhook sends, in a few words. */
export function eventsText(events) {
    if (events.length === 0) return t("hook_all_events");
    return events.length <= 2 ? events.map(eventName).join(", ") : tn("hook_events", events.length);
}

/** The name of an event; an event without a text here keeps the server's name. */
export function eventName(event) {
    return EVENTS.includes(event) ? t(`hook_event_${event}`) : event;
}

/** Characters of an address in lists and titles. */
const ADDRESS_MAX = 48;

/** An address for lists and titles: without its scheme, and cut. */
export function shortAddress(url) {
    const text = url.replace(/^https?:\/\//, "").replace(/\/$/, "");
    return text.length > ADDRESS_MAX ? `${text.slice(0, ADDRESS_MAX - 1)}…` : text;
}

/** What a receiver did at an attempt. */
export const attemptText = ({ status, error }) => (status ? t("hook_answered", { status }) : error);

/** A line for a shell that posts a message. */
export function curlLine(url) {
    const body = JSON.stringify({ text: t("hook_curl_text") }).replaceAll("'", "’");
    return `curl '${url}' -H 'Content-Type: application/json' -d '${body}'`;
}

/** What the server refused: {field, text}. `field` is the name of a field of the request, or undefined. */
export function refusalOf(error) {
    const message = error.message ?? "";
    const [, field, detail] = /^(?:data\.)?(\w+)(?:[.[][^:\s]*)?(?:, \w+)*: (.+)$/s.exec(message) ?? [];
    const ours = PATTERNS.find(([pattern]) => pattern.test(message));
    if (ours) return { field, text: t(ours[1]) };
    return { field, text: field === undefined ? explain(error) : t("hook_invalid", { why: detail }) };
}
