// The delivery log of a webhook, and what is sent again.

import { buttonRow, field, h, icon, reconcile, toast } from "./dom.js";
import { attempt, choice, conversationsWhere, errorLine, form, nameOfConversation } from "./forms.js";
import { attemptText, DELIVERY_STATES, eventName, refusalOf } from "./hook-words.js";
import { agoOf, momentOf, numberOf, stampOf, t, tn } from "./i18n.js";

/** While the first page is shown, it is read again after this time. */
const REFRESH_MS = 3_000;
const PAGE = 25;
const DAY_MS = 86_400_000;

/** The log, the newest delivery first. */
export function deliveries(app, hook) {
    const isMine = hook.owner_id === app.store.me.id;
    const path = `webhooks/${hook.id}`;
    const list = h("ol", { class: "items cards", id: "deliveries" });
    const error = errorLine();
    const state = h(
        "select",
        { id: "delivery-state", "aria-label": t("hook_filter"), onchange: () => read() },
        h("option", { value: "" }, t("hook_deliveries_all")),
        DELIVERY_STATES.map((name) => h("option", { value: name }, t(`hook_delivery_${name}`))),
    );
    const more = h(
        "button",
        { type: "button", class: "link more", id: "more-deliveries", hidden: true, onclick: () => read(true) },
        t("load_older"),
    );
    const allAgain = h(
        "button",
        { type: "button", id: "all-again", hidden: true, onclick: () => attempt(allAgain, error, sendShown) },
        t("hook_all_again"),
    );
    let shown = [];
    let cursor;
    let round = 0;

    /** Reads the first page, or the next one. Rows that have not changed stay, with the focus. */
    async function read(isMore = false) {
        const mine = ++round;
        const query = new URLSearchParams({ limit: PAGE });
        if (state.value) query.set("state", state.value);
        if (isMore) query.set("cursor", cursor);
        try {
            const page = await app.session.request("GET", `${path}/deliveries?${query}`);
            if (mine !== round) return;
            error.show();
            shown = isMore ? [...shown, ...page.deliveries] : page.deliveries;
            cursor = page.next_cursor ?? undefined;
            more.hidden = cursor === undefined;
        } catch (reason) {
            if (mine !== round) return;
            error.show(refusalOf(reason).text);
        }
        allAgain.hidden = !isMine || state.value !== "dead" || shown.length === 0;
        const rows = shown.map((one) => ({
            key: String(one.id),
            signature: JSON.stringify(one),
            build: () => row(one),
        }));
        if (rows.length === 0 && error.hidden)
            rows.push({
                key: "none",
                signature: state.value,
                build: () =>
                    h("li", { class: "nothing soft" }, t(state.value ? "hook_no_such_delivery" : "hook_no_deliveries")),
            });
        reconcile(list, rows);
        list.dataset.ready = "true";
        if (!isMore) setTimeout(refresh, REFRESH_MS, mine);
    }

    /** What happens meanwhile is shown, until older pages are added: they would disappear. */
    function refresh(mine) {
        if (!list.isConnected || mine !== round) return;
        if (document.hidden) setTimeout(refresh, REFRESH_MS, mine);
        else read();
    }

    function row(one) {
        const line = errorLine();
        const last = one.log.at(-1);
        const again = h(
            "button",
            { type: "button", dataset: { do: "again" }, onclick: () => attempt(again, line, () => send([one])) },
            t("hook_send_again"),
        );
        return h(
            "li",
            { class: "card delivery", dataset: { delivery: one.state } },
            h(
                "details",
                {},
                h(
                    "summary",
                    {},
                    h("strong", {}, eventName(one.type)),
                    h("span", { class: "state", dataset: { state: one.state } }, t(`hook_delivery_${one.state}`)),
                    h(
                        "small",
                        { class: "soft" },
                        [
                            `${nameOfConversation(app, one.conversation_id)}, ${t("hook_seq", { seq: one.seq })}`,
                            h(
                                "time",
                                { dateTime: one.created_at, title: momentOf(one.created_at) },
                                agoOf(one.created_at),
                            ),
                            one.attempts > 0 && tn("hook_attempts", one.attempts),
                        ]
                            .filter(Boolean)
                            .flatMap((part, at) => (at > 0 ? [" · ", part] : [part])),
                    ),
                    one.state !== "delivered" && last?.error && h("small", { class: "error" }, attemptText(last)),
                ),
                h(
                    "div",
                    { class: "form" },
                    one.next_at && h("p", { class: "soft" }, t("hook_next", { when: stampOf(one.next_at) })),
                    one.log.length > 0 && attempts(one),
                    line,
                    isMine && one.state !== "pending" && buttonRow(again),
                ),
            ),
        );
    }

    /** Sends deliveries again: those with neighbouring positions in one request. */
    async function send(chosen) {
        const sorted = [...chosen].sort((a, b) => a.conversation_id.localeCompare(b.conversation_id) || a.seq - b.seq);
        const ranges = [];
        for (const { conversation_id, seq } of sorted) {
            const last = ranges.at(-1);
            if (last?.conversation_id === conversation_id && seq <= last.to_seq + 1) last.to_seq = seq;
            else ranges.push({ conversation_id, from_seq: seq, to_seq: seq });
        }
        let queued = 0;
        for (const range of ranges) queued += (await app.session.request("POST", `${path}/replay`, range)).queued;
        toast(queuedText(queued));
        await read();
    }

    const sendShown = () => send(shown);

    read();
    return h(
        "div",
        { class: "form" },
        h("p", { class: "soft" }, t("hook_log_text")),
        h(
            "div",
            { class: "row" },
            h("label", {}, h("span", {}, t("hook_filter")), state),
            h("button", { type: "button", id: "reload-deliveries", onclick: () => read() }, t("reload")),
        ),
        error,
        list,
        more,
        buttonRow(allAgain),
    );
}

/** The attempts at a delivery. */
function attempts({ log }) {
    return h(
        "ol",
        { class: "attempts" },
        [...log]
            .reverse()
            .map(({ at, status, ms, error }) =>
                h(
                    "li",
                    {},
                    icon(error ? "close" : "check"),
                    h(
                        "span",
                        {},
                        h("time", { dateTime: at }, stampOf(at)),
                        h(
                            "small",
                            { class: error ? "error" : "soft" },
                            [attemptText({ status, error }), ms !== undefined && `${numberOf(ms)} ms`]
                                .filter(Boolean)
                                .join(" · "),
                        ),
                    ),
                ),
            ),
    );
}

const queuedText = (queued) => (queued > 0 ? tn("hook_queued", queued) : t("hook_none_queued"));

/** A time for a field of the type datetime-local, in the zone of the user. */
function localTime(ms) {
    const zoned = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
    return zoned.toISOString().slice(0, 16);
}

/** Sends a range of events again: by time what the log has, or by position a part of a conversation. */
export function replay(app, hook, showLog) {
    const body = h("div", { class: "tab" });
    const bar = h("div", { class: "segments" });
    const send = async (range) => {
        const { queued } = await app.session.request("POST", `webhooks/${hook.id}/replay`, range);
        toast(queuedText(queued));
        if (queued > 0) showLog();
    };
    const part = (name, label, props) =>
        h("div", { class: "part" }, field(label, h("input", { name, id: `replay-${name}`, ...props })));
    const time = (name, label, props) => part(name, label, { type: "datetime-local", ...props });
    const position = (name, label) => part(name, label, { type: "number", min: 1, step: 1, required: true });
    const forms = {
        times: () =>
            form(
                {
                    id: "replay",
                    submit: t("hook_send_again"),
                    work: ({ elements: { from, to } }) =>
                        send({
                            from: new Date(from.value).toISOString(),
                            ...(to.value && { to: new Date(to.value).toISOString() }),
                        }),
                },
                h("p", { class: "soft" }, t("hook_by_time_text")),
                h(
                    "div",
                    { class: "row" },
                    time("from", t("hook_from"), { value: localTime(Date.now() - DAY_MS), required: true }),
                    time("to", t("hook_to")),
                ),
            ),
        log: () =>
            form(
                {
                    id: "replay",
                    submit: t("hook_send_again"),
                    work: ({ elements: { conversation_id, from_seq, to_seq } }) =>
                        send({
                            conversation_id: hook.conversation_id ?? conversation_id.value,
                            from_seq: Number(from_seq.value),
                            to_seq: Number(to_seq.value),
                        }),
                },
                h("p", { class: "soft" }, t("hook_by_seq_text")),
                !hook.conversation_id &&
                    choice(
                        "conversation_id",
                        t("hook_conversation"),
                        conversationsWhere(app, () => true),
                        { id: "replay-conversation" },
                    ),
                h(
                    "div",
                    { class: "row" },
                    position("from_seq", t("hook_from_seq")),
                    position("to_seq", t("hook_to_seq")),
                ),
            ),
    };
    function choose(kind) {
        bar.replaceChildren(
            ...["times", "log"].map((name) =>
                h(
                    "button",
                    {
                        type: "button",
                        id: `replay-by-${name}`,
                        "aria-pressed": String(name === kind),
                        onclick: () => {
                            choose(name);
                            bar.querySelector("[aria-pressed=true]").focus();
                        },
                    },
                    t(`hook_by_${name}`),
                ),
            ),
        );
        body.replaceChildren(forms[kind]());
    }
    choose("times");
    return h("div", { class: "form" }, h("p", { class: "soft" }, t("hook_again_text")), bar, body);
}
