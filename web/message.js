// Rows for messages: in a conversation, in a thread, in the outbox, in lists of results.

import { confirm, dialog, h, icon, iconButton } from "./dom.js";
import { QUICK, chooseEmoji } from "./emoji.js";
import { filesOf, pendingFiles } from "./files.js";
import { agoOf, explain, momentOf, t, timeOf, tn } from "./i18n.js";
import { botMark, face, faceButton, isHidden, nameButton } from "./people.js";
import { showsPictures } from "./pictures.js";
import { isModerator } from "./roles.js";
import { excerpt, format, highlighted, summaryOf } from "./text.js";

/** Everything that a row shows. A row whose signature is unchanged is kept. */
export function signatureOf(app, message, flags) {
    const root = message.parent_message_id && app.current?.timeline.known.get(message.parent_message_id);
    const mentioned = message.mentions.filter((id) => app.store.people.has(id)).length;
    const { display_name, avatar_url } = app.person(message.sender.id);
    return [
        message.version,
        mentioned,
        app.language,
        root?.version,
        root && app.displayName(root.sender),
        root && isHidden(app, root),
        app.can("add_reaction"),
        app.has("message_threads"),
        app.current?.role,
        display_name,
        avatar_url,
        showsPictures(),
        ...Object.values(flags),
    ].join("\t");
}

/** `ids`: the users that a message mentions according to the server; undefined for a message without an ack. */
function mentionContext(app, ids) {
    const { me, people: known } = app.store;
    const people = ids ? ids.map((id) => known.get(id)).filter(Boolean) : [...known.values()];
    const mine = me.username.toLowerCase();
    return {
        isMention(name) {
            const wanted = name.toLowerCase();
            const isMine = wanted === mine || wanted === "room" || wanted === "here";
            if (isMine && (!ids || ids.includes(me.id))) return "me";
            return people.some(({ username }) => username.toLowerCase() === wanted) ? "other" : undefined;
        },
    };
}

/** Whether the user can delete the messages of others, and pin messages. */
export function canModerate(app) {
    return isModerator(app.current?.role);
}

/**
 * `flags`: compact (same sender as above), inThread (shown in the thread panel), seen (the other user has read it).
 * `onEdit(message)` starts editing.
 */
export function messageRow(app, message, flags, onEdit) {
    const { compact, inThread, seen } = flags;
    const { sender } = message;
    const mine = sender.id === app.store.me.id;
    const name = app.displayName(sender);
    const time = h(
        "time",
        { dateTime: message.created_at, title: momentOf(message.created_at) },
        timeOf(message.created_at),
    );
    const text = message.deleted ? t("deleted_message") : excerpt(summaryOf(message));
    const isReply = message.parent_message_id && !inThread;
    const mentioned = !mine && message.mentions.includes(app.store.me.id);
    return h(
        "article",
        {
            class: [
                "message",
                compact && "compact",
                mine && "mine",
                mentioned && "mentioned",
                message.deleted && "deleted",
                isReply && "reply",
            ]
                .filter(Boolean)
                .join(" "),
            tabIndex: -1,
            dataset: { id: message.message_id, seq: message.seq },
            "aria-label": `${name}, ${timeOf(message.created_at)}: ${text}`,
        },
        h("div", { class: "gutter" }, compact ? time.cloneNode(true) : faceButton(app, sender)),
        h(
            "div",
            { class: "body" },
            !compact &&
                h(
                    "header",
                    {},
                    nameButton(app, sender),
                    botMark(app, sender),
                    time,
                    message.pinned && h("span", { class: "flag" }, icon("pin"), t("pinned")),
                ),
            isReply && replyLine(app, message),
            message.deleted
                ? h("p", { class: "soft" }, t("deleted_message"))
                : h(
                      "div",
                      { class: "content" },
                      ...format(message.content, mentionContext(app, message.mentions)),
                      message.edited_at && editedNote(app, message),
                  ),
            !message.deleted &&
                message.attachments?.length > 0 &&
                filesOf(app, message, inThread ? "thread" : "conversation"),
            message.reactions.length > 0 && reactions(app, message),
            !inThread && message.thread && threadLine(app, message),
            seen && h("span", { class: "seen" }, t("seen")),
        ),
        !message.deleted && tools(app, message, mine, inThread, onEdit),
    );
}

function editedNote(app, message) {
    const title = t("edited_at", { when: momentOf(message.edited_at) });
    if (!app.can("list_edits")) return h("small", { class: "soft", title }, t("edited"));
    return h(
        "button",
        { type: "button", class: "link edited", title, onclick: () => showEdits(app, message) },
        t("edited"),
    );
}

async function showEdits(app, message) {
    try {
        const { edits } = await app.request("list_edits", {
            message_id: message.message_id,
            conversation_id: message.conversation_id,
        });
        await dialog(t("edits_title"), () =>
            h(
                "ol",
                { class: "edits" },
                [...edits, { content: message.content, created_at: message.edited_at }].map(({ content, created_at }) =>
                    h(
                        "li",
                        {},
                        h("time", {}, momentOf(created_at)),
                        h("div", { class: "content" }, ...format(content, mentionContext(app))),
                    ),
                ),
            ),
        );
    } catch (error) {
        app.showError(error);
    }
}

function replyLine(app, message) {
    const root = app.current?.timeline.known.get(message.parent_message_id);
    const text =
        root && !root.deleted && !isHidden(app, root)
            ? `${app.displayName(root.sender)}: ${excerpt(summaryOf(root), 80)}`
            : t("a_thread");
    return h(
        "button",
        { type: "button", class: "reply-line", onclick: () => openThread(app, message.parent_message_id) },
        icon("thread"),
        h("span", {}, text),
    );
}

function threadLine(app, message) {
    const { reply_count, last_reply_at } = message.thread;
    return h(
        "button",
        { type: "button", class: "thread-line", onclick: () => openThread(app, message.message_id) },
        icon("thread"),
        h("strong", {}, tn("replies", reply_count)),
        h("span", { class: "soft" }, agoOf(last_reply_at)),
    );
}

function openThread(app, root) {
    location.hash = `#/${app.open.id}/thread/${root}`;
}

function reactions(app, message) {
    const disabled = !app.can("add_reaction");
    return h(
        "div",
        { class: "reactions" },
        message.reactions.map(({ emoji, count, me }) =>
            h(
                "button",
                {
                    type: "button",
                    class: "reaction",
                    disabled,
                    "aria-pressed": String(Boolean(me)),
                    "aria-label": `${emoji} ${count}`,
                    onclick: () => app.act.react(message, emoji),
                    onmouseenter: (event) => whoReacted(app, message, emoji, event.currentTarget),
                },
                emoji,
                h("span", {}, String(count)),
            ),
        ),
        !disabled &&
            h(
                "button",
                {
                    type: "button",
                    class: "reaction add",
                    title: t("react"),
                    "aria-label": t("react"),
                    onclick: () => reactWith(app, message),
                },
                icon("smile"),
            ),
    );
}

async function whoReacted(app, message, emoji, button) {
    if (button.title || !app.can("list_reactions")) return;
    button.title = emoji;
    const request = { message_id: message.message_id, conversation_id: message.conversation_id, emoji, limit: 20 };
    const answer = await app.request("list_reactions", request).catch(() => undefined);
    if (answer) button.title = answer.reactions.map(({ user }) => user.display_name).join(", ");
}

async function reactWith(app, message) {
    const emoji = await chooseEmoji(t("react"));
    if (emoji) app.act.react(message, emoji);
}

function tools(app, message, mine, inThread, onEdit) {
    const { act } = app;
    const may = (command, allowed = true) => allowed && app.can(command);
    const pinnable = canModerate(app) || app.current?.kind === "direct";
    return h(
        "div",
        { class: "tools", role: "toolbar", "aria-label": t("message_actions") },
        may("add_reaction") &&
            QUICK.slice(0, 3).map((emoji) =>
                h(
                    "button",
                    {
                        type: "button",
                        class: "emoji",
                        title: t("react"),
                        "aria-label": `${t("react")} ${emoji}`,
                        onclick: () => act.react(message, emoji),
                    },
                    emoji,
                ),
            ),
        may("add_reaction") && iconButton("smile", t("react"), () => reactWith(app, message)),
        !inThread &&
            app.has("message_threads") &&
            iconButton(
                "thread",
                t("reply_in_thread"),
                () => openThread(app, message.parent_message_id ?? message.message_id),
                { dataset: { do: "thread" } },
            ),
        may("edit_message", mine) && iconButton("edit", t("edit"), () => onEdit(message), { dataset: { do: "edit" } }),
        may("pin_message", pinnable) &&
            iconButton("pin", t(message.pinned ? "unpin" : "pin"), () => act.pin(message), { dataset: { do: "pin" } }),
        navigator.clipboard && message.content && iconButton("copy", t("copy_text"), () => act.copy(message.content)),
        may("delete_message", mine || canModerate(app)) &&
            iconButton("trash", t("delete"), () => confirmRemoval(app, message), {
                dataset: { do: "delete" },
                class: "bad",
            }),
    );
}

async function confirmRemoval(app, message) {
    const labels = { cancel: t("cancel"), label: t("delete") };
    if (
        await confirm(
            t("delete_title"),
            t("delete_text"),
            labels,
            h("blockquote", {}, excerpt(summaryOf(message), 300)),
        )
    )
        app.act.remove(message);
}

/** A message of the outbox: not acknowledged yet, or refused. */
export function pendingRow(app, message, compact) {
    const me = app.store.me;
    const failed = message.state === "failed";
    const state = failed
        ? message.error
        : message.retry
          ? t("retrying", { why: explain(message.retry) })
          : t("sending");
    return h(
        "article",
        { class: `message mine pending ${message.state} ${compact ? "compact" : ""}`, tabIndex: -1 },
        h("div", { class: "gutter" }, !compact && face(app, me)),
        h(
            "div",
            { class: "body" },
            !compact && h("header", {}, h("strong", {}, me.display_name)),
            h("div", { class: "content" }, ...format(message.content, mentionContext(app))),
            message.files?.length > 0 && pendingFiles(message.files),
            h(
                "p",
                { class: failed ? "error" : "soft state" },
                state,
                failed && [
                    " ",
                    h(
                        "button",
                        { type: "button", class: "link", onclick: () => app.act.resend(message) },
                        t("try_again"),
                    ),
                    " ",
                    h(
                        "button",
                        { type: "button", class: "link", onclick: () => app.act.discard(message) },
                        t("discard"),
                    ),
                ],
            ),
        ),
    );
}

/** A followed thread: its conversation, its root, and the number of unread replies. */
export function threadRow(app, { id, conversation_id, root, last_reply_at, unread }) {
    const conversation = app.store.conversations.get(conversation_id);
    const where = conversation ? app.nameOf(conversation) : "";
    const text = root.deleted
        ? t("deleted_message")
        : isHidden(app, root)
          ? tn("blocked_messages", 1)
          : excerpt(summaryOf(root), 160);
    const name = app.displayName(root.sender);
    const replies = root.thread
        ? `${tn("replies", root.thread.reply_count)} · ${agoOf(last_reply_at)}`
        : agoOf(last_reply_at);
    const isOpen = app.open.id === conversation_id && location.hash.endsWith(`/thread/${id}`);
    return {
        key: `t${id}`,
        signature: [where, text, name, unread, replies, isOpen, app.language].join("\t"),
        build: () =>
            h(
                "a",
                {
                    class: `found ${unread > 0 ? "unread" : ""}`,
                    href: `#/${conversation_id}/thread/${id}`,
                    dataset: { thread: id },
                    onclick: () => isOpen && app.act.showThread(id),
                },
                h("header", {}, h("strong", {}, name), h("span", { class: "soft" }, where)),
                h("p", {}, text),
                h(
                    "footer",
                    {},
                    icon("thread"),
                    h("small", {}, replies),
                    unread > 0 &&
                        h(
                            "span",
                            { class: "badge mentions", "aria-label": tn("unread_replies", unread) },
                            String(unread),
                        ),
                ),
            ),
    };
}

/** A message in a list of results: sender, time, conversation, and the text with the matches highlighted. */
export function resultRow(app, message, showWhere) {
    const conversation = app.store.conversations.get(message.conversation_id);
    const text = message.highlight ? highlighted(excerpt(message.highlight, 300)) : [excerpt(summaryOf(message), 300)];
    return h(
        "a",
        { class: "found", href: `#/${message.conversation_id}/${message.message_id}` },
        h(
            "header",
            {},
            h("strong", {}, app.displayName(message.sender)),
            h("time", {}, agoOf(message.created_at)),
            showWhere && conversation && h("span", { class: "soft" }, app.nameOf(conversation)),
        ),
        h("p", {}, ...text),
    );
}
