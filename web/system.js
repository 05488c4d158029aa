// System messages (joined, left …), built in the user's language from the `system` field, not from the English content.

import { confirm, h, iconButton } from "./dom.js";
import { momentOf, parts, t } from "./i18n.js";
import { nameButton } from "./people.js";

/** Kinds with a text here. Other kinds show the server's text. */
const KINDS = new Set(["joined", "added", "left", "removed", "banned"]);

export const isSystem = ({ message_type }) => message_type === "system";

/** `mayDelete`: whether the user may delete this message. */
export function systemRow(app, message, mayDelete) {
    const { system, content, message_id, seq, created_at, deleted } = message;
    const isKnown = KINDS.has(system?.kind) && (system.kind === "joined" || system.kind === "left" || system.actor);
    const people = { user: system?.user, actor: system?.actor };
    const words =
        isKnown && !deleted ? parts(`system_${system.kind}`, (name) => nameButton(app, people[name])) : [content];
    if (deleted) return h("p", { hidden: true, dataset: { id: message_id, seq } });
    return h(
        "p",
        { class: "system", tabIndex: -1, title: momentOf(created_at), dataset: { id: message_id, seq } },
        h("span", {}, words),
        mayDelete && iconButton("trash", t("delete"), () => remove(app, message), { dataset: { do: "delete" } }),
    );
}

/** Everything that the row shows. */
export function systemSignature(app, { version, system }, mayDelete) {
    const names = [system?.user, system?.actor].filter(Boolean).map((user) => app.displayName(user));
    return [version, mayDelete, app.language, ...names].join("\t");
}

async function remove(app, message) {
    if (await confirm(t("delete_title"), "", { cancel: t("cancel"), label: t("delete") })) app.act.remove(message);
}
