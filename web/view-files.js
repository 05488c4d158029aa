// The panel of a conversation's files: those of the messages that are loaded, newest first. The server has no list of
// files yet.

import { h, reconcile } from "./dom.js";
import { aboutFile, downloadButton, thumbnail } from "./files.js";
import { dateOf, language, t } from "./i18n.js";
import { isHidden } from "./people.js";

export function showFiles(app, body, conversation) {
    const { timeline } = conversation;
    const messages = [...timeline.known.values()].filter((message) => !message.deleted && !isHidden(app, message));
    messages.sort((a, b) => b.seq - a.seq);
    app.scanner.look();
    const rows = [{ key: "about", signature: language(), build: () => note("details", t("files_loaded")) }];
    if (app.scanner.state === "off")
        rows.push({ key: "scan", signature: language(), build: () => note("scan-note", t("files_not_scanned")) });
    for (const message of messages) {
        for (const file of message.attachments ?? []) {
            const from = t("file_from", { name: app.displayName(message.sender), when: dateOf(message.created_at) });
            rows.push({
                key: `f${message.message_id}/${file.file_id}`,
                signature: [JSON.stringify(file), from, language()].join("\t"),
                build: () => row(app, message, file, from),
            });
        }
    }
    if (!rows.some(({ key }) => key.startsWith("f")))
        rows.push({ key: "none", signature: language(), build: () => note("nothing", t("no_files")) });
    if (timeline.hasOlder)
        rows.push({
            key: "more",
            signature: language(),
            build: () =>
                h(
                    "button",
                    { type: "button", class: "link more", id: "older-files", onclick: () => app.act.older() },
                    t("load_older"),
                ),
        });
    reconcile(body, rows);
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
