// The panel of a conversation's files, newest first: those that the server finds, and those of messages that have
// arrived since.

import { h, reconcile } from "./dom.js";
import { aboutFile, downloadButton, thumbnail } from "./files.js";
import { dateOf, language, t } from "./i18n.js";
import { isHidden } from "./people.js";

/** `fresh`: the panel was opened just now. */
export function showFiles(app, body, conversation, fresh) {
    const { timeline } = conversation;
    if (!timeline.files || (fresh && timeline.files.state === "failed")) app.reads.files(conversation);
    const { state, cursor, why } = timeline.files ?? {};
    const rows = [];
    const add = (key, build, signature = language()) => rows.push({ key, signature, build });
    if (app.hasUnscannedFiles) add("scan", () => note("scan-note", t("files_not_scanned")));
    const before = rows.length;
    for (const message of timeline.withFiles().filter((message) => !isHidden(app, message))) {
        for (const file of message.attachments) {
            const from = t("file_from", { name: app.displayName(message.sender), when: dateOf(message.created_at) });
            add(
                `f${message.message_id}/${file.file_id}`,
                () => row(app, message, file, from),
                [JSON.stringify(file), from, language()].join("\t"),
            );
        }
    }
    if (state === "failed") add("failed", () => note("nothing", why), why);
    else if (state === "reading") add("loading", () => note("nothing", t("loading")));
    else if (rows.length === before) add("none", () => note("nothing", t("no_files")));
    if (state === "failed" || (state === "read" && cursor !== undefined))
        add(
            "more",
            () => more(state === "failed" ? "try_again" : "load_older", () => app.reads.files(conversation)),
            state,
        );
    reconcile(body, rows);
}

function more(text, onclick) {
    return h("button", { type: "button", class: "link more", id: "older-files", onclick }, t(text));
}

function row(app, message, file, from) {
    return h(
        "div",
        { class: "file-row", dataset: { file: file.file_id, state: file.state } },
        h(
            "a",
            {
                href: `#/${message.conversation_id}/${message.message_id}`,
                title: t("go_to_message", { name: file.name }),
                onclick: () => app.act.jump(message.message_id),
            },
            thumbnail(app, file),
            h("div", { class: "file-about" }, aboutFile(file), h("small", { class: "soft" }, from)),
        ),
        file.state === "ready" && downloadButton(app, file),
    );
}

function note(kind, text) {
    return h("p", { class: `soft ${kind}` }, text);
}
