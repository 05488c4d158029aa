// The tokens of a bot: what a program signs in with. Each is shown once, and can be restricted and revoked.

import { botPath } from "./bots.js";
import { buttonRow, confirm, dialog, field, h, toast } from "./dom.js";
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
    nameOfConversation,
    refill,
    showOnce,
} from "./forms.js";
import { refusalOf } from "./hook-words.js";
import { agoOf, dateOf, durationOf, t } from "./i18n.js";

const SCOPES = ["read", "write", "manage", "files"];
const DAY_S = 86_400;
/** The choices for the lifetime of a token, in days. */
const LIFETIMES_D = [1, 7, 30, 90, 365];
const LIFETIME_D = 90;

export function botTokens(app, bot) {
    const { session } = app;
    const path = `${botPath(bot)}/tokens`;
    const error = errorLine();
    const list = h("ul", { class: "items cards", id: "bot-token-list" }, h("li", { class: "soft" }, t("loading")));
    const create = h(
        "button",
        { type: "button", class: "primary", id: "new-token", onclick: () => newToken() },
        t("token_new"),
    );
    async function read() {
        try {
            const { tokens } = await session.request("GET", path);
            bot.tokens_count = tokens.length;
            refill(
                list,
                tokens.length > 0 ? tokens.map(row) : [h("li", { class: "nothing soft" }, t("token_none"))],
                create,
            );
        } catch (reason) {
            list.replaceChildren(h("li", { class: "error nothing" }, refusalOf(reason).text));
        }
        list.dataset.ready = "true";
    }
    const row = (token) => {
        const places = token.conversation_ids ?? [];
        const isOver = token.expires_at && new Date(token.expires_at) <= Date.now();
        const facts = [
            token.scopes.map(scopeName).join(", "),
            places.length > 0 ? places.map((id) => nameOfConversation(app, id)).join(", ") : t("token_everywhere"),
            token.last_used_at ? t("last_used", { when: agoOf(token.last_used_at) }) : t("token_unused"),
        ];
        const revoke = h(
            "button",
            {
                type: "button",
                class: "bad",
                dataset: { do: "revoke" },
                "aria-label": `${t("token_revoke")}: ${token.name}`,
                onclick: () => attempt(revoke, error, () => remove(token)),
            },
            t("token_revoke"),
        );
        return h(
            "li",
            { class: "card hook", dataset: { key: token.id } },
            h(
                "div",
                { class: "name" },
                h("strong", {}, token.name),
                h("small", { class: "soft" }, facts.join(" · ")),
                token.expires_at &&
                    h(
                        "span",
                        { class: "state", dataset: { state: isOver ? "off" : "on" } },
                        t(isOver ? "token_expired" : "until", { when: dateOf(token.expires_at) }),
                    ),
            ),
            revoke,
        );
    };
    async function newToken() {
        const made = await dialog(t("token_new"), (close) => tokenForm(app, bot, close), { wide: true });
        if (!made) return;
        await showOnce(
            app,
            t("token_created"),
            t("token_once"),
            copied(app, t("token"), made.token, "bot-token"),
            copied(app, t("token_try"), tryLine(made.token), "bot-curl"),
        );
        await read();
        create.focus();
    }
    async function remove({ id, name }) {
        const labels = { cancel: t("cancel"), label: t("token_revoke") };
        if (!(await confirm(t("token_revoke_title", { name }), t("token_revoke_text"), labels))) return;
        await session.request("DELETE", `${path}/${id}`);
        toast(t("token_revoked"));
        await read();
    }
    read();
    return h("div", { class: "form" }, h("p", { class: "soft" }, t("token_about")), list, error, buttonRow(create));
}

/** The name of a scope; a scope without a text here keeps the server's name. */
const scopeName = (scope) => (SCOPES.includes(scope) ? t(`scope_${scope}`) : scope);

/** A line for a shell that uses a token. */
function tryLine(token) {
    const address = new URL("api/commands", document.baseURI).href;
    return `curl '${address}' -H 'Authorization: Bearer ${token}' -d '{"type":"list_conversations","data":{}}'`;
}

function tokenForm(app, bot, close) {
    // A conversation whose members are not known may have the bot.
    const mayBeIn = ({ kind, hasMembers, members }) => kind !== "direct" && (!hasMembers || members.has(bot.user_id));
    const name = h("input", { name: "name", id: "token-name", required: true, maxLength: 100, autocomplete: "off" });
    const scopes = checks(
        "scopes",
        t("token_scopes"),
        SCOPES.map((value) => ({
            value,
            text: scopeName(value),
            hint: t(`scope_${value}_text`),
            checked: value === "read" || value === "write",
        })),
    );
    const everywhere = h("input", { type: "checkbox", id: "token-everywhere", checked: true });
    const places = checks(
        "conversation_ids",
        t("token_places"),
        conversationsWhere(app, mayBeIn).map(([value, text]) => ({ value, text })),
        h("label", { class: "check" }, everywhere, t("token_everywhere")),
    );
    const list = places.querySelector(".checks-list");
    const showList = () => (list.hidden = everywhere.checked);
    everywhere.addEventListener("change", showList);
    showList();
    const work = async ({ elements }) => {
        const chosen = everywhere.checked ? [] : checkedOf(places);
        if (checkedOf(scopes).length === 0) throw new FieldError("scopes", t("token_no_scopes"));
        if (!everywhere.checked && chosen.length === 0) throw new FieldError("conversation_ids", t("token_no_places"));
        close(
            await app.session.request("POST", `${botPath(bot)}/tokens`, {
                name: name.value.trim(),
                scopes: checkedOf(scopes),
                ...(chosen.length > 0 && { conversation_ids: chosen }),
                expires_in_s: Number(elements.expires_in_s.value),
            }),
        );
    };
    return form(
        { id: "token-form", submit: t("create"), cancel: close, work },
        field(t("token_name"), name, t("token_name_text")),
        scopes,
        places,
        choice(
            "expires_in_s",
            t("token_expires"),
            LIFETIMES_D.map((days) => [days * DAY_S, durationOf(days * DAY_S)]),
            { value: LIFETIME_D * DAY_S, id: "token-expires" },
        ),
    );
}
