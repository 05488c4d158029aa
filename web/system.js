// System messages (joined, left …), built in the user's language from the `system` field, not from the English content.

import { confirm, h, iconButton } from "./dom.js";
import { momentOf, parts, t, tn } from "./i18n.js";
import { nameButton } from "./people.js";

/** Kinds with a text here. Other kinds show the server's text. */
const KINDS = new Set(["joined", "added", "left", "removed", "banned"]);

/** This many in a row are folded into one line, which the user can open. */
const FOLDED_MIN = 6;

export const isSystem = ({ message_type }) => message_type === "system";

/** The rows of consecutive system messages. `mayDelete`: whether the user may delete them. */
export function systemRows(app, messages, mayDelete) {
    const rows = [];
    let run = []; // consecutive messages that the user has not opened
    const pushRun = () => {
        const visible = run.filter(({ deleted }) => !deleted);
        if (visible.length >= FOLDED_MIN) rows.push(foldedRow(app, visible));
        else rows.push(...run.map((message) => rowOf(app, message, mayDelete)));
        run = [];
    };
    for (const message of messages) {
        if (!app.revealed.has(message.message_id)) run.push(message);
        else {
            pushRun();
            rows.push(rowOf(app, message, mayDelete));
        }
    }
    pushRun();
    return rows;
}

/** One line for many messages, with a button that shows them. */
function foldedRow(app, messages) {
    const last = messages.at(-1).system?.user;
    const haveAllJoined = last && messages.every(({ system }) => system?.kind === "joined");
    const count = messages.length;
    const text = haveAllJoined ? tn("joined", count - 1, { name: app.displayName(last) }) : tn("membership", count);
    const show = () => {
        for (const { message_id } of messages) app.revealed.add(message_id);
        app.changed("conversation");
    };
    return {
        key: `folded ${messages[0].message_id}`,
        signature: `${text}\t${app.language}`,
        build: () =>
            h(
                "p",
                { class: "system folded" },
                h("span", {}, text),
                h("button", { type: "button", class: "link", onclick: show }, t("show")),
            ),
    };
}

function rowOf(app, message, mayDelete) {
    return {
        key: `m${message.message_id}`,
        signature: signatureOf(app, message, mayDelete),
        build: () => build(app, message, mayDelete),
    };
}

function build(app, message, mayDelete) {
    const { system, content, message_id, seq, created_at, deleted } = message;
    const isKnown = KINDS.has(system?.kind) && (system.kind === "joined" || system.kind === "left" || system.actor);
    const people = { user: system?.user, actor: system?.actor };
    const nodes =
        isKnown && !deleted ? parts(`system_${system.kind}`, (name) => nameButton(app, people[name])) : [content];
    if (deleted) return h("p", { hidden: true, dataset: { id: message_id, seq } });
    return h(
        "p",
        { class: "system", tabIndex: -1, title: momentOf(created_at), dataset: { id: message_id, seq } },
        h("span", {}, nodes),
        mayDelete && iconButton("trash", t("delete"), () => remove(app, message), { dataset: { do: "delete" } }),
    );
}

/** Everything that the row shows. */
function signatureOf(app, { version, system }, mayDelete) {
    const names = [system?.user, system?.actor].filter(Boolean).map((user) => app.displayName(user));
    return [version, mayDelete, app.language, ...names].join("\t");
}

async function remove(app, message) {
    if (await confirm(t("delete_title"), "", { cancel: t("cancel"), label: t("delete") })) app.act.remove(message);
}
