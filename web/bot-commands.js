// The slash commands of a bot: a list that is saved as a whole, and the secret of those that are sent to an address.

import { botPath } from "./bots.js";
import { buttonRow, confirm, field, h, iconButton, toast } from "./dom.js";
import { attempt, copied, errorLine, FieldError, form, showOnce } from "./forms.js";
import { refusalOf } from "./hook-words.js";
import { t } from "./i18n.js";

export function botCommands(app, bot) {
    const { session } = app;
    const path = `${botPath(bot)}/commands`;
    const body = h("div", { class: "form", id: "bot-command-view" }, h("p", { class: "soft" }, t("loading")));
    const show = (commands) => {
        bot.commands_count = commands.length;
        body.replaceChildren(...view(commands));
    };
    session.request("GET", path).then(
        ({ commands }) => show(commands),
        (reason) => body.replaceChildren(h("p", { class: "error" }, refusalOf(reason).text)),
    );

    function view(commands) {
        const rows = h("ul", { class: "items cards commands", id: "command-rows" });
        const empty = h("p", { class: "nothing soft", id: "no-commands" }, t("command_none"));
        const count = () => (empty.hidden = rows.childElementCount > 0);
        const add = (command = {}) => {
            rows.append(row(command, count));
            count();
        };
        commands.forEach(add);
        count();
        const addButton = h(
            "button",
            {
                type: "button",
                id: "add-command",
                onclick: () => {
                    add();
                    rows.lastElementChild.querySelector("input").focus();
                },
            },
            t("command_add"),
        );
        const error = errorLine();
        const rotate = h(
            "button",
            { type: "button", id: "rotate-command-secret", onclick: () => attempt(rotate, error, newSecret) },
            t("hook_rotate"),
        );
        const hasAddress = commands.some(({ url }) => url);
        return [
            h("p", { class: "soft" }, t("command_about")),
            form({ id: "commands-form", submit: t("save"), work: () => save(rows) }, rows, empty, addButton),
            hasAddress &&
                h(
                    "section",
                    { class: "form" },
                    h("h2", {}, t("hook_secret")),
                    h("p", { class: "soft" }, t("command_secret_text")),
                    error,
                    buttonRow(rotate),
                ),
        ].filter(Boolean);
    }

    async function save(rows) {
        const given = [...rows.children].map((element, at) => {
            // A refusal names the place of its command.
            for (const input of element.querySelectorAll("input")) input.name = `${input.dataset.part}-${at}`;
            const value = (name) => element.querySelector(`[data-part=${name}]`).value.trim();
            const name = value("name").replace(/^\//, "").toLowerCase();
            if (!/^[a-z0-9_-]{1,32}$/.test(name)) throw new FieldError(`name-${at}`, t("command_bad_name"));
            const { usage, url } = { usage: value("usage"), url: value("url") };
            return { name, description: value("description"), ...(usage && { usage }), ...(url && { url }) };
        });
        const twice = given.findIndex(({ name }, at) => given.findIndex((other) => other.name === name) < at);
        if (twice >= 0) throw new FieldError(`name-${twice}`, t("command_twice"));
        const { commands, secret } = await session.request("PUT", path, { commands: given }).catch((reason) => {
            throw atRow(reason, given);
        });
        toast(t("saved"));
        if (secret) await showSecret(secret);
        show(commands ?? given);
        document.getElementById("add-command")?.focus();
    }

    async function newSecret() {
        const labels = { cancel: t("cancel"), label: t("hook_rotate") };
        if (!(await confirm(t("hook_rotate_title"), t("command_rotate_text"), labels))) return;
        const { secret } = await session.request("POST", `${path}/rotate-secret`);
        await showSecret(secret);
    }

    const showSecret = (secret) =>
        showOnce(
            app,
            t("hook_secret"),
            t("command_secret_once"),
            copied(app, t("hook_secret"), secret, "command-secret"),
        );

    return body;
}

/** The server names a field, not its command: the refusal is shown at the command, if only one has the field. */
function atRow(reason, given) {
    const { field: name, text } = refusalOf(reason);
    const rows = given.flatMap((command, at) => (command[name] ? [at] : []));
    return rows.length === 1 ? new FieldError(`${name}-${rows[0]}`, text) : reason;
}

/** The fields of one command. */
function row({ name = "", description = "", usage = "", url = "" }, changed) {
    const part = (what, label, props) => {
        const spellcheck = what === "description";
        const input = h("input", { dataset: { part: what }, autocomplete: "off", spellcheck, ...props });
        return h("div", { class: "part" }, field(label, input));
    };
    const element = h("li", { class: "card command" });
    const remove = () => {
        const next = element.nextElementSibling ?? element.previousElementSibling;
        element.remove();
        changed();
        (next?.querySelector("input") ?? document.getElementById("add-command")).focus();
    };
    element.append(
        h(
            "div",
            { class: "command-parts" },
            part("name", t("command_name"), { required: true, maxLength: 33, value: name, placeholder: "/deploy" }),
            part("usage", t("command_usage"), {
                maxLength: 200,
                value: usage ?? "",
                placeholder: t("command_usage_text"),
            }),
            part("description", t("description"), { required: true, maxLength: 200, value: description }),
            part("url", t("command_url"), { type: "url", maxLength: 2000, value: url ?? "", placeholder: "https://" }),
        ),
        iconButton("trash", t("command_remove"), remove),
    );
    return element;
}
