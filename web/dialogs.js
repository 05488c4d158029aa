// Dialogs: find and create conversations, invite people, edit and leave a conversation.

import { avatar, buttonRow, confirm, dialog, field, h, icon } from "./dom.js";
import { durationOf, momentOf, t, tn } from "./i18n.js";
import { rankOf } from "./roles.js";

/** The choices for slow mode, in seconds between two messages of one member. */
const SLOW_MODES_S = [0, 5, 10, 30, 60, 300, 900, 3_600, 21_600];

const SEARCH_AFTER_MS = 200;
/** Public rooms: a list that can be searched, and a field for a room's address or an invitation code. */
export function discover(app) {
    return dialog(
        t("discover"),
        (close) => {
            const list = h("ul", { class: "items cards", id: "public-rooms" });
            const query = h("input", {
                type: "search",
                id: "find-rooms",
                placeholder: t("filter_rooms"),
                "aria-label": t("filter_rooms"),
                oninput: () => {
                    clearTimeout(timer);
                    timer = setTimeout(load, SEARCH_AFTER_MS);
                },
            });
            const more = h(
                "button",
                { type: "button", class: "link more", id: "more-rooms", hidden: true, onclick: () => load(true) },
                t("more_rooms"),
            );
            const address = h("input", {
                id: "room-by-address",
                placeholder: "room_6",
                autocomplete: "off",
                autocapitalize: "none",
            });
            const join = async (id) => (await app.act.join(id)) && close();
            const byAddress = async (event) => {
                event.preventDefault();
                const text = address.value
                    .trim()
                    .replace(/^.*#\//, "")
                    .replace(/^invite\//, "");
                if (/^room_\d+$/.test(text)) join(text);
                else if (text && (await app.act.joinByInvite(text))) close();
            };
            const room = (record) => {
                const isIn = app.store.conversations.has(record.id);
                const open = () => {
                    app.act.go(record.id);
                    close();
                };
                return h(
                    "li",
                    { class: "card" },
                    icon("hash"),
                    h(
                        "div",
                        { class: "name" },
                        h("strong", {}, record.name),
                        h(
                            "small",
                            { class: "soft" },
                            [tn("members", record.member_count), record.description].filter(Boolean).join(" · "),
                        ),
                    ),
                    h(
                        "button",
                        {
                            type: "button",
                            class: isIn ? "" : "primary",
                            dataset: { room: record.id },
                            onclick: () => (isIn ? open() : join(record.id)),
                        },
                        t(isIn ? "open" : "join"),
                    ),
                );
            };
            let round = 0;
            let timer;
            let cursor;
            /** Shows the first page of the rooms that match, or adds the next one. */
            async function load(isMore = false) {
                const mine = ++round;
                const text = query.value.trim();
                try {
                    const page = await app.request("list_public_rooms", {
                        query: text || undefined,
                        cursor: isMore === true ? cursor : undefined,
                        limit: 50,
                    });
                    if (mine !== round) return;
                    cursor = page.next_cursor ?? undefined;
                    if (isMore !== true) list.replaceChildren();
                    list.append(...page.conversations.map(room));
                    if (list.childElementCount === 0)
                        list.append(h("p", { class: "soft" }, t(text ? "no_rooms_found" : "no_rooms")));
                    more.hidden = cursor === undefined;
                } catch (error) {
                    query.hidden = list.hidden = error.code === "unknown_command";
                    if (!query.hidden) app.showError(error);
                }
                list.dataset.ready = "true";
            }
            load();
            return h(
                "div",
                { class: "form" },
                query,
                list,
                more,
                h(
                    "form",
                    { class: "row", onsubmit: byAddress },
                    field(t("by_address"), address),
                    h("button", { type: "submit", id: "join-by-address" }, t("join")),
                ),
            );
        },
        { wide: true },
    );
}

/** A field that finds users by the beginning of their names; `chosen` holds the selected ones. */
function people(app, chosen, many) {
    const found = h("ul", { class: "items", id: "found-people" });
    const picked = h("div", { class: "chips" });
    const input = h("input", {
        type: "search",
        id: "find-people",
        placeholder: t("find_people"),
        "aria-label": t("find_people"),
        autocomplete: "off",
        oninput: () => look(),
    });
    let round = 0;
    const show = () =>
        picked.replaceChildren(
            ...[...chosen.values()].map((user) =>
                h(
                    "button",
                    {
                        type: "button",
                        class: "chip",
                        title: t("remove"),
                        onclick: () => {
                            chosen.delete(user.id);
                            show();
                        },
                    },
                    user.display_name,
                    icon("close"),
                ),
            ),
        );
    async function look() {
        const mine = ++round;
        const query = input.value.trim();
        const answer = query
            ? await app.session
                  .request("GET", `users?query=${encodeURIComponent(query)}&limit=8`)
                  .catch(() => ({ users: [] }))
            : { users: [] };
        if (mine !== round) return;
        found.replaceChildren(
            ...answer.users
                .filter(({ id }) => id !== app.store.me.id)
                .map((user) =>
                    h(
                        "li",
                        {},
                        h(
                            "button",
                            {
                                type: "button",
                                class: "item",
                                dataset: { user: user.username },
                                onclick: () => pick(user),
                            },
                            avatar({ id: user.id, name: user.display_name, url: user.avatar_url }, "small"),
                            h(
                                "span",
                                { class: "name" },
                                user.display_name,
                                h("small", { class: "soft" }, ` @${user.username}`),
                            ),
                        ),
                    ),
                ),
        );
    }
    function pick(user) {
        if (!many) chosen.clear();
        chosen.set(user.id, user);
        input.value = "";
        found.replaceChildren();
        show();
        input.focus();
    }
    return h("div", { class: "people" }, picked, input, found);
}

/** Creates a room, a direct conversation or a group. */
export function newConversation(app, start = "room") {
    return dialog(t("new_conversation"), (close) => {
        const chosen = new Map();
        const name = h("input", { id: "room-name", maxLength: 100, autocomplete: "off" });
        const description = h("input", {
            id: "room-description",
            maxLength: 1000,
            placeholder: t("optional"),
            autocomplete: "off",
        });
        const isPrivate = h("input", { type: "checkbox", id: "room-private" });
        const form = h("form", { class: "form", onsubmit: create });
        let kind = start;
        const tab = (what, text) =>
            h(
                "button",
                {
                    type: "button",
                    "aria-pressed": String(kind === what),
                    id: `new-${what}`,
                    onclick: () => {
                        kind = what;
                        render();
                    },
                },
                text,
            );
        function render() {
            form.replaceChildren(
                h("div", { class: "segments" }, tab("room", t("a_room")), tab("people", t("a_talk"))),
                kind === "room"
                    ? h(
                          "div",
                          { class: "form" },
                          field(t("room_name"), name),
                          field(t("description"), description),
                          h("label", { class: "check" }, isPrivate, t("private_room")),
                      )
                    : h("p", { class: "soft" }, t("talk_text")),
                people(app, chosen, true),
                buttonRow(h("button", { type: "submit", class: "primary", id: "create" }, t("create"))),
            );
            (kind === "room" ? name : form.querySelector("#find-people")).focus();
        }
        async function create(event) {
            event.preventDefault();
            const member_ids = [...chosen.keys()];
            const room = {
                kind: isPrivate.checked ? "private_room" : "public_room",
                name: name.value.trim(),
                description: description.value.trim() || undefined,
                member_ids,
            };
            if (kind === "room" && !room.name) return name.focus();
            if (kind === "people" && member_ids.length === 0) return form.querySelector("#find-people").focus();
            const data = kind === "room" ? room : { kind: member_ids.length === 1 ? "direct" : "group", member_ids };
            if (await app.act.create(data)) close();
            return undefined;
        }
        queueMicrotask(render);
        return form;
    });
}

export function addPeople(app) {
    return dialog(t("add_people"), (close) => {
        const chosen = new Map();
        const add = async () => {
            for (const id of chosen.keys()) await app.act.invite(id);
            close();
        };
        return h(
            "div",
            { class: "form" },
            people(app, chosen, true),
            buttonRow(h("button", { type: "button", class: "primary", id: "add", onclick: add }, t("add"))),
        );
    });
}

export async function inviteLink(app) {
    const code = await app.act.inviteLink();
    if (!code) return undefined;
    return dialog(t("invite_link"), () =>
        h(
            "div",
            { class: "form" },
            h("p", { class: "soft" }, t("invite_text")),
            h("input", { readOnly: true, value: code, onfocus: (event) => event.target.select() }),
            buttonRow(
                h("button", { type: "button", class: "primary", onclick: () => app.act.copy(code) }, t("copy_text")),
            ),
        ),
    );
}

export function editRoom(app) {
    const { current } = app;
    return dialog(t("edit_room"), (close) => {
        const name = h("input", { maxLength: 100, value: current.name ?? "" });
        const description = h("input", { maxLength: 1000, value: current.description ?? "" });
        const isRoom = current.kind.endsWith("_room");
        const now = current.slow_mode_s ?? 0;
        const pauses = [...new Set([...SLOW_MODES_S, now])].sort((a, b) => a - b);
        const pause = h(
            "select",
            { id: "slow-mode" },
            pauses.map((seconds) =>
                h(
                    "option",
                    { value: String(seconds), selected: seconds === now },
                    seconds === 0 ? t("slow_off") : durationOf(seconds),
                ),
            ),
        );
        const limit = h("input", {
            id: "member-limit",
            type: "number",
            min: 0,
            max: 1_000_000,
            placeholder: t("no_limit"),
            value: current.member_limit ?? "",
        });
        const days = h("input", {
            id: "retention-days",
            type: "number",
            min: 0,
            max: 36_500,
            placeholder: t("no_limit"),
            value: current.retention_days ?? "",
        });
        const save = async (event) => {
            event.preventDefault();
            const numbers = { slow_mode_s: pause, member_limit: limit, retention_days: days };
            const rules = Object.entries(isRoom ? numbers : {}).map(([name, { value }]) => [name, Number(value)]);
            if (
                await app.act.update({
                    name: name.value.trim(),
                    description: description.value.trim() || null,
                    ...Object.fromEntries(rules),
                })
            )
                close();
        };
        return h(
            "form",
            { class: "form", onsubmit: save },
            field(t("room_name"), name),
            field(t("description"), description),
            isRoom && [field(t("slow_mode"), pause), field(t("member_limit"), limit), field(t("retention_days"), days)],
            buttonRow(h("button", { type: "submit", class: "primary", id: "save-room" }, t("save"))),
        );
    });
}

/** Asks before leaving. An owner chooses the next owner; the last member learns that the conversation is archived. */
export async function leave(app, conversation) {
    const { id, kind, role, member_count, members } = conversation;
    const title = t("leave_title", { name: app.nameOf(conversation) });
    const labels = { cancel: t("cancel"), label: t("leave") };
    const isLast = role === "owner" && member_count <= 1;
    const others = [...members.values()].filter((member) => member.id !== app.store.me.id);
    if (isLast || role !== "owner" || others.length === 0 || !app.can("transfer_ownership")) {
        const key = isLast ? "leave_last" : kind === "public_room" ? "leave_public" : "leave_private";
        if (await confirm(title, t(key), labels)) app.act.leave(id);
        return;
    }
    // The order in which the server would choose: the highest role, then the longest membership.
    others.sort(
        (a, b) => rankOf(b.role) - rankOf(a.role) || (a.joined_at ?? "9999").localeCompare(b.joined_at ?? "9999"),
    );
    const heir = h(
        "select",
        { id: "new-owner" },
        others.map((member) => h("option", { value: String(member.id) }, app.displayName(member))),
    );
    if (!(await confirm(title, t("leave_owner"), labels, field(t("new_owner"), heir)))) return;
    const data = { conversation_id: id, user_id: Number(heir.value) };
    if (await app.act.moderate("transfer_ownership", data)) app.act.leave(id);
}

/** The active invitation codes, each with a button that revokes it. */
export function invitations(app, { id }) {
    return dialog(t("invitations"), () => {
        const list = h("ul", { class: "items cards", id: "invites" });
        const row = ({ code, uses, expires_at }) =>
            h(
                "li",
                { class: "card" },
                h(
                    "div",
                    { class: "name" },
                    h("code", {}, code),
                    h(
                        "small",
                        { class: "soft" },
                        [tn("used", uses), expires_at && t("until", { when: momentOf(expires_at) })]
                            .filter(Boolean)
                            .join(" · "),
                    ),
                ),
                h(
                    "button",
                    {
                        type: "button",
                        dataset: { revoke: code },
                        onclick: async () => {
                            if (await app.act.moderate("revoke_invite", { conversation_id: id, code })) read();
                        },
                    },
                    t("remove"),
                ),
            );
        async function read() {
            try {
                const { invites } = await app.request("list_invites", { conversation_id: id });
                list.replaceChildren(
                    ...invites.map(row),
                    invites.length === 0 ? h("p", { class: "soft" }, t("no_invitations")) : "",
                );
            } catch (error) {
                app.showError(error);
            }
        }
        read();
        return h("div", { class: "form" }, list);
    });
}
