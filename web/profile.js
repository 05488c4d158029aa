// The profile dialog of a user: what they show about themselves, message and block, and for moderators of the open
// conversation: role, mute, remove and ban.

import { avatar, confirm, dialog, h, icon } from "./dom.js";
import { dateOf, durationOf, momentOf, t } from "./i18n.js";
import { editProfile } from "./account.js";
import { isAdmin, isModerator, rankOf, rolesBelow } from "./roles.js";

/** The choices for a mute in seconds; one without an end is offered too. */
const MUTES_S = [600, 3_600, 86_400];
const BAN_REASON_MAX = 500;

/** Opens the profile of a user, who may be a member of the open conversation. */
export function showProfile(app, id) {
    const { store, act } = app;
    const conversation = app.current;
    return dialog(t("profile"), (close) => {
        const body = h("div", { class: "profile", id: "profile", dataset: { user: id } });
        let created;
        const doing = (work) => async () => {
            close();
            await work();
        };
        const button = (symbol, text, work, props = {}) =>
            h("button", { type: "button", class: "wide-button", onclick: doing(work), ...props }, icon(symbol), text);
        const render = () => {
            const person = app.person(id);
            const presence = store.presence.get(id);
            const member = conversation?.members.get(id);
            const isMe = id === store.me.id;
            const isBlocked = store.blocked.has(id);
            const facts = [
                presence && [
                    t("presence"),
                    [t(`presence_${presence.status}`), presence.status_text].filter(Boolean).join(" · "),
                ],
                member && conversation.kind !== "direct" && [t("role"), t(`role_${member.role}`)],
                isMuted(member) && [
                    t("muted_until"),
                    isForever(member) ? t("until_lifted") : momentOf(member.muted_until),
                ],
                created && [t("here_since"), dateOf(created)],
            ].filter(Boolean);
            body.replaceChildren(
                h(
                    "div",
                    { class: "profile-head" },
                    avatar({ id, name: person.display_name, url: person.avatar_url }, "large"),
                    h(
                        "div",
                        {},
                        h("strong", { id: "profile-name" }, person.display_name),
                        person.isBot && h("span", { class: "bot" }, t("bot")),
                        h("span", { class: "soft" }, `@${person.username}`),
                    ),
                ),
                person.bio ? h("p", { class: "bio", id: "profile-bio" }, person.bio) : "",
                facts.length > 0
                    ? h(
                          "dl",
                          { class: "facts" },
                          facts.flatMap(([what, text]) => [h("dt", {}, what), h("dd", {}, text)]),
                      )
                    : "",
                h(
                    "div",
                    { class: "choices" },
                    isMe && button("edit", t("edit_profile"), () => editProfile(app), { id: "edit-profile" }),
                    !isMe &&
                        !isBlocked &&
                        button("send", t("write_to"), () => act.create({ kind: "direct", member_ids: [id] }), {
                            id: "write-to",
                            class: "wide-button primary",
                        }),
                    member && !isMe && moderation(app, conversation, member, button, doing),
                    !isMe &&
                        app.can("list_blocks") &&
                        (isBlocked
                            ? button("check", t("unblock"), () => act.block(person, false), { id: "unblock" })
                            : button("block", t("block"), () => block(app, person), {
                                  id: "block",
                                  class: "wide-button bad",
                              })),
                ),
            );
        };
        render();
        app.reads.profile(id).then((profile) => {
            created = profile?.created_at;
            if (body.isConnected) render();
        });
        return body;
    });
}

async function block(app, person) {
    const title = t("block_title", { name: person.display_name });
    if (await confirm(title, t("block_text"), { cancel: t("cancel"), label: t("block") }))
        await app.act.block(person, true);
}

/** What the user's role lets them do to a member; `button` makes a button, `doing` closes the dialog first. */
function moderation(app, conversation, member, button, doing) {
    const { role: mine } = conversation;
    const isBelow = rankOf(member.role) < rankOf(mine);
    if (conversation.kind === "direct" || !isModerator(mine) || !isBelow) return [];
    const { act } = app;
    const data = { conversation_id: conversation.id, user_id: member.id };
    const roles = rolesBelow(mine);
    const sure = async (command, key) => {
        const title = t(`${key}_title`, { name: app.displayName(member) });
        if (await confirm(title, t(`${key}_text`), { cancel: t("cancel"), label: t(key) }))
            await act.moderate(command, data);
    };
    return [
        isAdmin(mine) &&
            app.can("set_role") &&
            h(
                "fieldset",
                {},
                h("legend", {}, t("role")),
                h(
                    "div",
                    { class: "segments" },
                    roles.map((role) =>
                        h(
                            "button",
                            {
                                type: "button",
                                "aria-pressed": String(role === member.role),
                                dataset: { role },
                                onclick: doing(
                                    () => role !== member.role && act.moderate("set_role", { ...data, role }),
                                ),
                            },
                            t(`role_${role}`),
                        ),
                    ),
                ),
            ),
        conversation.role === "owner" &&
            app.can("transfer_ownership") &&
            button("shield", t("make_owner"), () => sure("transfer_ownership", "make_owner"), { id: "make-owner" }),
        app.can("mute_member") &&
            h(
                "fieldset",
                { id: "mutes" },
                h("legend", {}, t("mute")),
                h(
                    "div",
                    { class: "segments" },
                    [...MUTES_S, undefined].map((duration_s) =>
                        h(
                            "button",
                            {
                                type: "button",
                                dataset: { mute: duration_s ?? "forever" },
                                onclick: doing(() => act.moderate("mute_member", { ...data, duration_s })),
                            },
                            duration_s === undefined ? t("mute_forever") : durationOf(duration_s),
                        ),
                    ),
                ),
            ),
        app.can("mute_member") &&
            isMuted(member) &&
            button("bell", t("unmute"), () => act.moderate("mute_member", { ...data, duration_s: 0 }), {
                id: "unmute",
            }),
        app.can("remove_member") &&
            button("leave", t("remove_member"), () => sure("remove_member", "remove_member"), {
                id: "remove-member",
                class: "wide-button bad",
            }),
        app.can("ban_member") &&
            button("close", t("ban"), () => ban(app, member, data), { id: "ban", class: "wide-button bad" }),
    ];
}

/** Asks for a reason, which moderators see beside the ban. */
async function ban(app, member, data) {
    const reason = h("textarea", {
        id: "ban-reason",
        rows: 2,
        maxLength: BAN_REASON_MAX,
        placeholder: t("optional"),
        autofocus: true,
    });
    const title = t("ban_title", { name: app.displayName(member) });
    const question = h("label", {}, h("span", {}, t("ban_reason")), reason);
    if (await confirm(title, t("ban_text"), { cancel: t("cancel"), label: t("ban") }, question)) {
        await app.act.moderate("ban_member", { ...data, reason: reason.value.trim() || undefined });
    }
}

function isMuted(member) {
    return Boolean(member?.muted_until) && new Date(member.muted_until) > new Date();
}

/** The server represents a mute without an end by the year 9999. */
function isForever({ muted_until }) {
    return muted_until.startsWith("9999");
}
