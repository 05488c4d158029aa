// Incoming webhooks: addresses to which a program posts messages of a bot.

import { buttonRow, confirm, dialog, field, h, toast } from "./dom.js";
import {
    attempt,
    choice,
    conversationsWhere,
    copied,
    errorLine,
    form,
    mayPost,
    nameOfConversation,
    refill,
    returnTo,
    showOnce,
} from "./forms.js";
import { curlLine, refusalOf } from "./hook-words.js";
import { agoOf, t } from "./i18n.js";

const PATH = "incoming-webhooks";

/** The incoming webhooks of a conversation, or of the user. */
export function incoming(app, conversation) {
    const { session } = app;
    const list = h("ul", { class: "items cards", id: "incoming-list" }, h("li", { class: "soft" }, t("loading")));
    const error = errorLine();
    const isDirect = conversation?.kind === "direct";
    const mayCreate = !conversation || mayPost(conversation);
    const create = h(
        "button",
        { type: "button", class: "primary", id: "new-incoming", hidden: true, onclick: () => newHook() },
        t("hook_in_new"),
    );
    const query = conversation ? `?conversation_id=${conversation.id}` : "";
    async function read() {
        try {
            const { webhooks } = await session.request("GET", PATH + query);
            refill(list, webhooks.length > 0 ? webhooks.map(row) : [nothing()], create);
            create.hidden = !mayCreate;
        } catch (reason) {
            list.replaceChildren(h("li", { class: "soft nothing" }, refusalOf(reason).text));
        }
        list.dataset.ready = "true";
    }
    const nothing = () =>
        h(
            "li",
            { class: "nothing soft" },
            h("strong", {}, t("hook_in_none")),
            h("p", {}, t(isDirect ? "hook_in_direct" : mayCreate ? "hook_in_none_text" : "hook_needs_admin")),
        );
    const row = (hook) => {
        const button = (what, text, work, props = {}) => {
            const element = h(
                "button",
                {
                    type: "button",
                    dataset: { do: what },
                    "aria-label": `${text}: ${hook.name}`,
                    onclick: () => attempt(element, error, work),
                    ...props,
                },
                text,
            );
            return element;
        };
        const owner =
            hook.owner_id !== app.store.me.id && t("hook_of", { name: app.person(hook.owner_id).display_name });
        const used = hook.last_used_at ? t("hook_in_used", { when: agoOf(hook.last_used_at) }) : t("hook_in_unused");
        return h(
            "li",
            { class: "card hook", dataset: { key: hook.id } },
            h(
                "div",
                { class: "name" },
                h("strong", {}, hook.name),
                h(
                    "small",
                    { class: "soft" },
                    [!conversation && nameOfConversation(app, hook.conversation_id), used, owner]
                        .filter(Boolean)
                        .join(" · "),
                ),
            ),
            h(
                "div",
                { class: "row" },
                button("rotate", t("hook_in_rotate"), () => rotate(hook)),
                button("delete", t("delete"), () => remove(hook), { class: "bad" }),
            ),
        );
    };
    async function newHook() {
        const made = await dialog(t("hook_in_new"), (close) => newForm(app, conversation, close));
        if (!made) return;
        await showAddress(app, t("hook_in_created", { name: made.name }), made.url);
        await read();
        create.focus();
    }
    async function rotate({ id, name }) {
        const labels = { cancel: t("cancel"), label: t("hook_in_rotate") };
        if (!(await confirm(t("hook_in_rotate_title", { name }), t("hook_in_rotate_text"), labels))) return;
        const { url } = await session.request("POST", `${PATH}/${id}/rotate`);
        await showAddress(app, t("hook_in_rotated", { name }), url);
        await read();
        returnTo(list, id, "rotate", create);
    }
    async function remove({ id, name }) {
        const labels = { cancel: t("cancel"), label: t("delete") };
        if (!(await confirm(t("hook_in_delete_title", { name }), t("hook_in_delete_text"), labels))) return;
        await session.request("DELETE", `${PATH}/${id}`);
        toast(t("hook_deleted"));
        await read();
        create.focus();
    }
    read();
    return h(
        "div",
        { class: "form", id: "incoming" },
        h("p", { class: "soft" }, t(conversation ? "hook_in_about_here" : "hook_in_about")),
        list,
        error,
        buttonRow(create),
    );
}

function newForm(app, conversation, close) {
    const name = h("input", { name: "name", id: "incoming-name", required: true, maxLength: 100, autocomplete: "off" });
    const places = conversation ? [] : conversationsWhere(app, mayPost);
    if (!conversation && places.length === 0)
        return h(
            "div",
            { class: "form" },
            h("p", { class: "soft" }, t("hook_in_nowhere")),
            buttonRow(h("button", { type: "button", onclick: () => close() }, t("close"))),
        );
    const work = async ({ elements }) => {
        const conversation_id = conversation?.id ?? elements.conversation_id.value;
        close(await app.session.request("POST", PATH, { conversation_id, name: name.value.trim() }));
    };
    return form(
        { id: "incoming-form", submit: t("create"), cancel: close, work },
        field(t("hook_in_name"), name, t("hook_in_name_text")),
        !conversation &&
            choice("conversation_id", t("hook_conversation"), places, {
                id: "incoming-conversation",
                hint: t("hook_in_conversation_text"),
            }),
    );
}

/** `url` is a path below the address of the server. */
function showAddress(app, title, url) {
    const address = new URL(url.replace(/^\//, ""), document.baseURI).href;
    return showOnce(
        app,
        title,
        t("hook_in_once"),
        copied(app, t("hook_in_url"), address, "incoming-url"),
        copied(app, t("hook_in_curl"), curlLine(address), "incoming-curl"),
    );
}
