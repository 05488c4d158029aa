// Faces and names that lead to somebody's profile, and what stands for the messages of people one has blocked.

import { avatar, h, icon } from "./dom.js";
import { t, tn } from "./i18n.js";
import { showProfile } from "./profile.js";

/** Somebody's picture or initials, as they are now. */
export function face(app, user, size) {
    const known = app.store.people.get(user.id) ?? user;
    return avatar({ id: user.id, name: known.display_name, url: known.avatar_url }, size);
}

/** A face to click. The name beside it does the same, so the keyboard does not stop here. */
export function faceButton(app, user, size) {
    return h(
        "button",
        {
            type: "button",
            class: "face",
            tabIndex: -1,
            "aria-hidden": "true",
            dataset: { profile: user.id },
            onclick: () => showProfile(app, user.id),
        },
        face(app, user, size),
    );
}

/** A name to click. */
export function nameButton(app, user) {
    const username = app.store.people.get(user.id)?.username ?? user.username;
    return h(
        "button",
        {
            type: "button",
            class: "name-button",
            title: `@${username}`,
            dataset: { profile: user.id },
            onclick: () => showProfile(app, user.id),
        },
        app.called(user),
    );
}

/** A dot for online, away or busy; nothing where nothing is known. */
export function presenceDot(status) {
    return status ? h("span", { class: `presence ${status}`, title: t(`presence_${status}`) }) : null;
}

/** Whether a message is to be shown only when asked for. */
export function isHidden(app, { conversation_id, sender, message_id, message_type }) {
    return (
        app.store.blocked.has(sender.id) &&
        !conversation_id.startsWith("dm_") &&
        message_type !== "system" &&
        !app.revealed.has(message_id)
    );
}

/** The line that stands for messages of blocked people. */
export function hiddenRow(app, messages) {
    const key = `hidden ${messages[0].message_id}`;
    const show = () => {
        for (const { message_id } of messages) app.revealed.add(message_id);
        app.changed("conversation", "panel");
    };
    return {
        key,
        signature: `${messages.length}\t${app.language}`,
        build: () =>
            h(
                "p",
                { class: "hidden-messages" },
                icon("block"),
                tn("blocked_messages", messages.length),
                h("button", { type: "button", class: "link", onclick: show }, t("show")),
            ),
    };
}
