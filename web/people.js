// Avatars and names that open a profile, and the row that hides messages of blocked users.

import { avatar, h, icon } from "./dom.js";
import { t, tn } from "./i18n.js";
import { showProfile } from "./profile.js";

/** A user's current avatar. */
export function face(app, user, size) {
    const known = app.store.people.get(user.id) ?? user;
    return avatar({ id: user.id, name: known.display_name, url: known.avatar_url }, size);
}

/** An avatar that opens the profile. The name beside it does the same, so the avatar is no tab stop. */
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

/** A name that opens the profile. */
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
        app.displayName(user),
    );
}

/** The mark of a bot; null for people. */
export function botMark(app, user) {
    const isBot = user.role === "bot" || app.store.people.get(user.id)?.isBot;
    return isBot ? h("span", { class: "bot" }, t("bot")) : null;
}

/** A dot in the colour of a presence; null when the presence is unknown. */
export function presenceDot(status) {
    return status ? h("span", { class: `presence ${status}`, title: t(`presence_${status}`) }) : null;
}

/** Whether a message of a blocked user is hidden. */
export function isHidden(app, { conversation_id, sender, message_id, message_type }) {
    return (
        app.store.blocked.has(sender.id) &&
        !conversation_id.startsWith("dm_") &&
        message_type !== "system" &&
        !app.revealed.has(message_id)
    );
}

/** The row in place of hidden messages. */
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
