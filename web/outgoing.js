// Outgoing webhooks: the list, the form, and the dialog of one webhook with its state, actions and deliveries.

import { buttonRow, confirm, dialog, field, h, toast } from "./dom.js";
import { deliveries, replay } from "./deliveries.js";
import {
    attempt,
    checkedOf,
    checks,
    choice,
    conversationsWhere,
    copied,
    errorLine,
    FieldError,
    form,
    maySend,
    nameOfConversation,
    refill,
    returnTo,
    showOnce,
    tabs,
} from "./forms.js";
import { EVENTS, eventName, eventsText, shortAddress, refusalOf, stateOf } from "./hook-words.js";
import { agoOf, stampOf, t } from "./i18n.js";

/** The server waits 12 s for the receiver of a test. */
const TEST_TIMEOUT_MS = 20_000;

/** The webhooks of a conversation, or of the user. */
export function outgoing(app, conversation) {
    const list = h("ul", { class: "items cards", id: "outgoing-list" }, h("li", { class: "soft" }, t("loading")));
    const mayCreate = !conversation || maySend(conversation);
    const create = h(
        "button",
        { type: "button", class: "primary", id: "new-outgoing", hidden: true, onclick: () => newHook() },
        t("hook_new"),
    );
    const query = conversation ? `?conversation_id=${conversation.id}` : "";
    async function read() {
        try {
            const { webhooks } = await app.session.request("GET", `webhooks${query}`);
            refill(list, webhooks.length > 0 ? webhooks.map(row) : [nothing(mayCreate)], create);
            create.hidden = !mayCreate;
        } catch (error) {
            list.replaceChildren(h("li", { class: "soft nothing" }, refusalOf(error).text));
        }
        list.dataset.ready = "true";
    }
    const row = (hook) => {
        const place = hook.conversation_id ? nameOfConversation(app, hook.conversation_id) : t("hook_everywhere");
        const owner =
            hook.owner_id !== app.store.me.id && t("hook_of", { name: app.person(hook.owner_id).display_name });
        return h(
            "li",
            { class: "card hook", dataset: { key: hook.id } },
            h(
                "div",
                { class: "name" },
                h("strong", {}, shortAddress(hook.url)),
                h(
                    "small",
                    { class: "soft" },
                    [!conversation && place, eventsText(hook.events), owner].filter(Boolean).join(" · "),
                ),
                stateLine(hook),
            ),
            h(
                "button",
                {
                    type: "button",
                    dataset: { do: "manage" },
                    "aria-label": `${t("manage")}: ${shortAddress(hook.url)}`,
                    onclick: async () => {
                        await manage(app, hook);
                        await read();
                        returnTo(list, hook.id, "manage", create);
                    },
                },
                t("manage"),
            ),
        );
    };
    async function newHook() {
        const made = await dialog(t("hook_new"), (close) => hookForm(app, { conversation, close }), { wide: true });
        if (!made) return;
        await showSecret(app, t("hook_created"), made.secret);
        await read();
        await manage(app, made);
        await read();
        returnTo(list, made.id, "manage", create);
    }
    read();
    return h(
        "div",
        { class: "form", id: "outgoing" },
        h("p", { class: "soft" }, t(conversation ? "hook_about_here" : "hook_about")),
        list,
        buttonRow(create),
    );
}

const nothing = (mayCreate) =>
    h(
        "li",
        { class: "nothing soft" },
        h("strong", {}, t("hook_none")),
        h("p", {}, t(mayCreate ? "hook_none_text" : "hook_needs_admin")),
    );

function stateLine(hook) {
    const { name, text } = stateOf(hook, Date.now());
    return h("span", { class: "state", dataset: { state: name } }, text);
}

const showSecret = (app, title, secret) =>
    showOnce(app, title, t("hook_secret_text"), copied(app, t("hook_secret"), secret, "hook-secret"));

/** The form of a new webhook, or of an existing one. Closes with the webhook. */
function hookForm(app, { conversation, hook, close }) {
    const all = h("input", { type: "checkbox", id: "hook-all", checked: !hook || hook.events.length === 0 });
    const events = checks(
        "events",
        t("hook_which_events"),
        EVENTS.map((event) => ({ value: event, text: eventName(event), checked: hook?.events.includes(event) })),
        h("label", { class: "check" }, all, t("hook_all_events")),
    );
    const list = events.querySelector(".checks-list");
    const showList = () => (list.hidden = all.checked);
    all.addEventListener("change", showList);
    showList();
    const url = h("input", {
        name: "url",
        id: "hook-url",
        type: "url",
        required: true,
        maxLength: 2000,
        placeholder: "https://",
        autocomplete: "off",
        value: hook?.url ?? "",
    });
    const ordered = h("input", { type: "checkbox", name: "ordered", id: "hook-ordered", checked: hook?.ordered });
    const work = async (element) => {
        const chosen = all.checked ? [] : checkedOf(events);
        if (!all.checked && chosen.length === 0) throw new FieldError("events", t("hook_no_events"));
        const given = { url: url.value.trim(), events: chosen, ordered: ordered.checked };
        if (hook) return close(await app.session.request("PATCH", `webhooks/${hook.id}`, given));
        const id = conversation?.id ?? element.elements.conversation_id.value;
        close(await app.session.request("POST", "webhooks", { ...given, ...(id && { conversation_id: id }) }));
    };
    return form(
        { id: "hook-form", submit: t(hook ? "save" : "create"), cancel: close, work },
        field(t("hook_url"), url, t("hook_url_text")),
        !hook &&
            !conversation &&
            choice("conversation_id", t("hook_conversation"), conversationsWhere(app, maySend), {
                first: t("hook_everywhere"),
                id: "hook-conversation",
                hint: t("hook_conversation_text"),
            }),
        events,
        h(
            "label",
            { class: "check top" },
            ordered,
            h("span", {}, t("hook_ordered"), h("small", { class: "soft" }, t("hook_ordered_text"))),
        ),
    );
}

/** The dialog of one webhook. */
function manage(app, { id, url }) {
    return dialog(
        shortAddress(url),
        (close) => {
            const box = h("div", { class: "form", id: "hook", dataset: { hook: id } }, h("p", {}, t("loading")));
            let hook;
            let bar;
            const changed = (now) => {
                hook = now;
                bar?.choose("overview");
            };
            const views = {
                overview: () => overview(app, hook, { changed, close }),
                deliveries: () => deliveries(app, hook),
                again: () => replay(app, hook, () => bar.choose("deliveries")),
            };
            app.session.request("GET", `webhooks/${id}`).then(
                (answer) => {
                    hook = answer;
                    const isMine = hook.owner_id === app.store.me.id;
                    const names = ["overview", "deliveries", ...(isMine ? ["again"] : [])];
                    bar = tabs("hook", names, (name) => views[name]());
                    box.replaceChildren(bar);
                    box.querySelector("[autofocus]").focus();
                },
                (error) => box.replaceChildren(h("p", { class: "error" }, refusalOf(error).text)),
            );
            return box;
        },
        { wide: true },
    );
}

function overview(app, hook, { changed, close }) {
    const { session } = app;
    const path = `webhooks/${hook.id}`;
    const isMine = hook.owner_id === app.store.me.id;
    const error = errorLine();
    const outcome = h("p", { class: "outcome", id: "test-outcome", role: "status", hidden: true });
    const button = (what, text, work, props = {}) => {
        const element = h(
            "button",
            { type: "button", dataset: { do: what }, onclick: () => attempt(element, error, work), ...props },
            text,
        );
        return element;
    };
    /** Shows the webhook after a change; the button that was used keeps the focus. */
    const show = (now, what) => {
        changed(now);
        document.querySelector(`#hook [data-do="${what}"]`)?.focus();
    };
    const edit = async () => {
        const now = await dialog(t("hook_edit"), (done) => hookForm(app, { hook, close: done }), { wide: true });
        if (now) show(now, "edit");
    };
    const test = async () => {
        outcome.hidden = false;
        outcome.dataset.state = "pending";
        outcome.textContent = t("hook_testing");
        try {
            const answer = await session.request("POST", `${path}/test`, undefined, TEST_TIMEOUT_MS);
            outcome.dataset.state = answer.delivered ? "delivered" : "dead";
            outcome.textContent = testText(answer);
        } catch (reason) {
            outcome.hidden = true;
            throw reason;
        }
    };
    const rotate = async () => {
        const labels = { cancel: t("cancel"), label: t("hook_rotate") };
        if (!(await confirm(t("hook_rotate_title"), t("hook_rotate_text"), labels))) return;
        const { secret, ...now } = await session.request("POST", `${path}/rotate`);
        await showSecret(app, t("hook_rotated"), secret);
        show(now, "rotate");
    };
    const toggle = async () => {
        const now = await session.request("PATCH", path, { active: !hook.active });
        toast(t(now.active ? "hook_is_on_again" : "hook_is_off_now"));
        show(now, "toggle");
    };
    /** The receiver is well again: the pause of the breaker ends. */
    const resume = async () => show(await session.request("PATCH", path, { active: true }), "test");
    const remove = async () => {
        const labels = { cancel: t("cancel"), label: t("delete") };
        if (!(await confirm(t("hook_delete_title"), t("hook_delete_text"), labels))) return;
        await session.request("DELETE", path);
        toast(t("hook_deleted"));
        close();
    };
    const facts = [
        [t("hook_state"), stateLine(hook)],
        [t("hook_url"), h("code", {}, hook.url)],
        [
            t("hook_conversation"),
            hook.conversation_id ? nameOfConversation(app, hook.conversation_id) : t("hook_everywhere"),
        ],
        [
            t("hook_which_events"),
            hook.events.length === 0 ? t("hook_all_events") : hook.events.map(eventName).join(", "),
        ],
        [t("hook_order"), t(hook.ordered ? "hook_in_order" : "hook_any_order")],
        [t("hook_last_success"), hook.last_success_at ? stampOf(hook.last_success_at) : t("never")],
        hook.last_failure_at && [t("hook_last_failure"), stampOf(hook.last_failure_at)],
        hook.old_secret_until &&
            new Date(hook.old_secret_until) > Date.now() && [t("hook_old_secret"), stampOf(hook.old_secret_until)],
        [t("hook_made"), agoOf(hook.created_at)],
        !isMine && [t("hook_owner"), app.person(hook.owner_id).display_name],
    ].filter(Boolean);
    const isOff = !hook.active;
    return h(
        "div",
        { class: "form" },
        h(
            "dl",
            { class: "facts" },
            facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
        ),
        !isMine && h("p", { class: "soft" }, t("hook_not_mine")),
        outcome,
        error,
        h(
            "div",
            { class: "row" },
            isMine && [
                button("test", t("hook_test"), test, { class: "primary" }),
                hook.active && hook.failures > 0 && button("resume", t("try_now"), resume),
                button("edit", t("edit"), edit),
                button("rotate", t("hook_rotate"), rotate),
            ],
            (isMine || !isOff) && button("toggle", t(isOff ? "hook_switch_on" : "hook_switch_off"), toggle),
            button("delete", t("delete"), remove, { class: "bad" }),
        ),
    );
}

function testText({ delivered, status, ms, error }) {
    if (delivered) return t("hook_test_ok", { status, ms });
    if (status) return t("hook_test_status", { status, ms });
    return t("hook_test_failed", { why: error });
}
