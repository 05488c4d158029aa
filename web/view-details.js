// The details of a conversation: description, actions, requests to join, members and bans.

import { addPeople, editRoom, invitations, inviteLink, leave } from "./dialogs.js";
import { confirm, dialog, h, icon } from "./dom.js";
import { agoOf, t, tn } from "./i18n.js";
import { integrations } from "./integrations.js";
import { canModerate } from "./message.js";
import { botMark, face, presenceDot } from "./people.js";
import { showsPictures } from "./pictures.js";
import { showProfile } from "./profile.js";
import { isAdmin, rankOf } from "./roles.js";

/** Everything that the details show. */
export function detailsSignature(app, conversation) {
    const { id, name, description, role, member_count, archived } = conversation;
    const seen = [...conversation.members.values()].map((member) => [
        member.id,
        app.store.people.get(member.id),
        member.role,
        app.store.presence.get(member.id),
    ]);
    const requests = [...(conversation.requests?.values() ?? [])];
    return JSON.stringify([
        id,
        name,
        description,
        role,
        member_count,
        archived,
        seen,
        requests,
        app.can("create_invite"),
        app.can("update_conversation"),
        showsPictures(),
    ]);
}

export function details(app, conversation) {
    const { store, act } = app;
    const { kind, role, description } = conversation;
    const isDirect = kind === "direct";
    const isRoom = kind.endsWith("_room");
    const moderating = !isDirect && canModerate(app);
    const canInvite = !isDirect && role !== "read_only";
    const mayEdit = kind === "group" || isAdmin(role);
    const online = ({ id }) => (["online", "away", "busy"].includes(store.presence.get(id)?.status) ? 0 : 1);
    const members = [...conversation.members.values()].sort(
        (a, b) =>
            rankOf(b.role) - rankOf(a.role) ||
            online(a) - online(b) ||
            app.displayName(a).localeCompare(app.displayName(b)),
    );
    const button = (symbol, text, onclick, props = {}) =>
        h("button", { type: "button", class: "wide-button", onclick, ...props }, icon(symbol), text);
    const archive = async () => {
        const sure =
            conversation.archived ||
            (await confirm(t("archive_title"), t("archive_text"), { cancel: t("cancel"), label: t("archive") }));
        if (sure)
            act.moderate("archive_conversation", {
                conversation_id: conversation.id,
                archived: !conversation.archived,
            });
    };
    const showIntegrations = async () => {
        await integrations(app, conversation);
        // The details may have been replaced meanwhile, with the button that had the focus.
        if (document.activeElement === document.body) document.getElementById("integrations-here")?.focus();
    };
    const requests = [...(conversation.requests?.values() ?? [])];
    return [
        requests.length > 0 && [
            h("h3", {}, tn("requests", requests.length)),
            h(
                "ul",
                { class: "requests", id: "requests" },
                requests.map((one) => request(app, conversation, one)),
            ),
        ],
        h(
            "div",
            { class: "details" },
            description && h("p", {}, description),
            isRoom && h("p", { class: "soft" }, t("address"), " ", h("code", { id: "room-address" }, conversation.id)),
            canInvite && button("plus", t("add_people"), () => addPeople(app), { id: "add-people" }),
            canInvite &&
                moderating &&
                app.can("create_invite") && [
                    button("copy", t("invite_link"), () => inviteLink(app), { id: "invite-link" }),
                    button("settings", t("invitations"), () => invitations(app, conversation), { id: "invitations" }),
                ],
            !isDirect &&
                mayEdit &&
                app.can("update_conversation") &&
                button("edit", t("edit_room"), () => editRoom(app), { id: "edit-room" }),
            moderating && button("thread", t("held"), () => act.showPanel("held"), { id: "show-held" }),
            moderating &&
                isRoom &&
                app.can("ban_member") &&
                button("block", t("bans"), () => bans(app, conversation), { id: "bans" }),
            button("plug", t("integrations"), showIntegrations, { id: "integrations-here" }),
            role === "owner" &&
                !isDirect &&
                app.can("update_conversation") &&
                button("lock", t(conversation.archived ? "unarchive" : "archive"), archive, { id: "archive" }),
            !isDirect &&
                button("leave", t("leave"), () => leave(app, conversation), { class: "wide-button bad", id: "leave" }),
        ),
        h("h3", {}, tn("members", Math.max(conversation.member_count, members.length))),
        h(
            "ul",
            { class: "items", id: "members" },
            members.map((member) => memberRow(app, member)),
        ),
    ];
}

function memberRow(app, member) {
    const presence = app.store.presence.get(member.id);
    const isMe = member.id === app.store.me.id;
    return h(
        "li",
        {},
        h(
            "button",
            {
                type: "button",
                class: "item",
                dataset: { member: member.id },
                onclick: () => showProfile(app, member.id),
            },
            h("span", { class: "with-presence" }, face(app, member, "small"), presenceDot(presence?.status)),
            h(
                "span",
                { class: "name" },
                app.displayName(member),
                botMark(app, member),
                isMe && ` (${t("you")})`,
                presence?.status_text && h("small", { class: "soft" }, ` ${presence.status_text}`),
            ),
            member.role !== "member" && h("small", { class: "role" }, t(`role_${member.role}`)),
        ),
    );
}

/** A request to join, with buttons to accept and decline it. */
function request(app, { id }, { user, text, created_at }) {
    const decide = (accepted) => app.act.decideRequest(id, user, accepted);
    return h(
        "li",
        { class: "request", dataset: { request: user.id } },
        h(
            "button",
            { type: "button", class: "item", onclick: () => showProfile(app, user.id) },
            face(app, user, "small"),
            h("span", { class: "name" }, app.displayName(user), h("small", { class: "soft" }, ` ${agoOf(created_at)}`)),
        ),
        text && h("blockquote", {}, text),
        h(
            "div",
            { class: "row end" },
            h("button", { type: "button", dataset: { do: "decline" }, onclick: () => decide(false) }, t("decline")),
            h(
                "button",
                { type: "button", class: "primary", dataset: { do: "accept" }, onclick: () => decide(true) },
                t("accept"),
            ),
        ),
    );
}

function bans(app, { id }) {
    return dialog(t("bans"), () => {
        const list = h("ul", { class: "items cards", id: "banned" });
        const row = ({ user, reason, created_at }) =>
            h(
                "li",
                { class: "card" },
                face(app, user, "small"),
                h(
                    "div",
                    { class: "name" },
                    h("strong", {}, app.displayName(user)),
                    h("small", { class: "soft" }, [agoOf(created_at), reason].filter(Boolean).join(" · ")),
                ),
                h(
                    "button",
                    {
                        type: "button",
                        dataset: { unban: user.id },
                        onclick: async () => {
                            if (await app.act.moderate("unban_member", { conversation_id: id, user_id: user.id }))
                                read();
                        },
                    },
                    t("unban"),
                ),
            );
        async function read() {
            try {
                const answer = await app.request("list_bans", { conversation_id: id });
                answer.bans.forEach(({ user }) => app.store.rememberUser(user));
                list.replaceChildren(
                    ...answer.bans.map(row),
                    answer.bans.length === 0 ? h("p", { class: "soft" }, t("no_bans")) : "",
                );
            } catch (error) {
                app.showError(error);
            }
        }
        read();
        return h("div", { class: "form" }, list);
    });
}
