// The sidebar: conversations, the state of the connection, the signed-in user.

import { h, icon, iconButton, reconcile } from "./dom.js";
import { discover, newConversation } from "./dialogs.js";
import { t, tn } from "./i18n.js";
import { face, presenceDot } from "./people.js";
import { showsPictures } from "./pictures.js";
import { settings } from "./settings.js";

/** Most conversations shown at once; the filter finds the others. */
const SHOWN_MAX = 300;

export class Sidebar {
    constructor(app) {
        this.app = app;
        this.filter = h("input", {
            type: "search",
            id: "filter",
            autocomplete: "off",
            oninput: () => this.#list(),
            onkeydown: (event) => this.#filterKey(event),
        });
        this.invitations = h("ul", { class: "items", id: "invitations" });
        this.invitationsTitle = h("h2");
        this.rooms = h("ul", { class: "items", id: "rooms" });
        this.direct = h("ul", { class: "items", id: "direct" });
        this.roomsTitle = h("h2");
        this.directTitle = h("h2");
        this.buttons = h("div", { class: "actions" });
        this.threads = h("button", {
            type: "button",
            class: "item threads",
            id: "threads",
            hidden: true,
            onclick: () => this.#toThreads(),
        });
        this.list = h(
            "nav",
            { class: "lists", id: "conversations", onkeydown: (event) => this.#listKey(event) },
            h("div", { class: "items" }, this.threads),
            this.invitationsTitle,
            this.invitations,
            this.roomsTitle,
            this.rooms,
            this.directTitle,
            this.direct,
        );
        this.status = h("p", { id: "connection", role: "status" });
        this.me = h("button", { type: "button", class: "self", id: "me", onclick: () => settings(this.app) });
        this.element = h(
            "aside",
            { class: "sidebar" },
            h(
                "header",
                { class: "bar" },
                h("img", { src: "web/icon.svg", alt: "", width: 26, height: 26 }),
                h("strong", {}, "Veza"),
                this.buttons,
            ),
            h("div", { class: "filter" }, icon("search"), this.filter),
            this.list,
            h("footer", {}, this.status, this.me),
        );
    }

    update(topics) {
        if (topics.has("look")) this.#frame();
        if (topics.has("look") || topics.has("list") || topics.has("open")) this.#list();
        if (["look", "threads", "panel", "open"].some((topic) => topics.has(topic))) this.#showThreads();
        if (topics.has("connection") || topics.has("look")) this.#connection();
        if (["people", "list", "look", "connection"].some((topic) => topics.has(topic))) this.#self();
    }

    #frame() {
        const { app } = this;
        this.filter.placeholder = t("filter");
        this.filter.setAttribute("aria-label", t("filter"));
        this.list.setAttribute("aria-label", t("conversations"));
        this.invitationsTitle.textContent = t("invitations");
        this.roomsTitle.textContent = t("rooms");
        this.directTitle.textContent = t("direct_messages");
        this.buttons.replaceChildren(
            iconButton("at", t("mentions"), () => app.act.showPanel("mentions"), {
                id: "mentions",
                hidden: !app.can("list_mentions"),
            }),
            iconButton("compass", t("discover"), () => discover(app), { id: "discover" }),
            iconButton("plus", t("new_conversation"), () => newConversation(app), { id: "new" }),
        );
    }

    #showThreads() {
        const { store, open } = this.app;
        const { unread, isLoaded } = store.threads;
        this.threads.hidden = !isLoaded || !this.app.can("list_threads");
        this.threads.classList.toggle("unread", unread > 0);
        this.threads.setAttribute("aria-pressed", String(open.panel?.kind === "threads"));
        this.threads.setAttribute(
            "aria-label",
            [t("threads"), unread > 0 && tn("unread_replies", unread)].filter(Boolean).join(", "),
        );
        this.threads.replaceChildren(
            icon("thread"),
            h("span", { class: "name" }, t("threads")),
            h("span", { class: "badge mentions" }, unread > 99 ? "99+" : unread > 0 ? String(unread) : ""),
        );
    }

    #toThreads() {
        const { act, open } = this.app;
        act.showPanel(open.panel?.kind === "threads" ? undefined : "threads");
    }

    #list() {
        const { store, open } = this.app;
        const wanted = this.filter.value.trim().toLowerCase();
        const all = store
            .sorted()
            .filter((conversation) => !wanted || this.app.nameOf(conversation).toLowerCase().includes(wanted));
        const isRoom = ({ kind }) => kind === "public_room" || kind === "private_room";
        const rows = (list) =>
            list.slice(0, SHOWN_MAX).map((conversation) => this.#row(conversation, conversation.id === open.id));
        reconcile(this.rooms, rows(all.filter(isRoom)));
        reconcile(this.direct, rows(all.filter((conversation) => !isRoom(conversation))));
        reconcile(
            this.invitations,
            [...store.invitations.values()].map((invitation) => this.#invitation(invitation)),
        );
        this.invitationsTitle.hidden = this.invitations.childElementCount === 0;
        this.roomsTitle.hidden = this.rooms.childElementCount === 0;
        this.directTitle.hidden = this.direct.childElementCount === 0;
    }

    #invitation({ conversation_id: id, name, invited_by: by }) {
        const title = name ?? t("group_without_name");
        const decide = (accepted) => () => this.app.act.decideInvitation(id, accepted);
        return {
            key: id,
            signature: [title, by.display_name].join("\t"),
            build: () =>
                h(
                    "li",
                    { class: "invitation", "data-invitation": id },
                    h("strong", {}, title),
                    h("span", { class: "soft" }, t("invited_by", { name: by.display_name })),
                    h(
                        "span",
                        { class: "decision" },
                        h("button", { type: "button", class: "primary accept", onclick: decide(true) }, t("accept")),
                        h("button", { type: "button", class: "decline", onclick: decide(false) }, t("decline")),
                    ),
                ),
        };
    }

    #row(conversation, isOpen) {
        const { app } = this;
        const { store } = app;
        const { id, kind, unread, mentions, archived } = conversation;
        const name = app.nameOf(conversation);
        const peer = app.store.peer(conversation);
        const status = app.store.presence.get(peer?.id)?.status ?? "";
        const requests = conversation.requests?.size ?? 0;
        const draft = app.drafts.get(id) !== "" && !isOpen;
        const badge = mentions > 0 ? `@${mentions}` : unread > 0 ? (unread > 99 ? "99+" : String(unread)) : "";
        const label = [
            name,
            unread > 0 && tn("unread", unread),
            mentions > 0 && tn("mentioned", mentions),
            requests > 0 && tn("requests", requests),
        ]
            .filter(Boolean)
            .join(", ");
        return {
            key: id,
            signature: [
                requests,
                name,
                kind,
                unread,
                mentions,
                isOpen,
                archived,
                status,
                draft,
                peer?.id,
                store.people.get(peer?.id)?.avatar_url,
                showsPictures(),
            ].join("\t"),
            build: () =>
                h(
                    "li",
                    {},
                    h(
                        "a",
                        {
                            href: `#/${id}`,
                            "aria-label": label,
                            "aria-current": isOpen ? "page" : undefined,
                            class: `item ${unread > 0 ? "unread" : ""} ${archived ? "archived" : ""}`,
                        },
                        kind === "direct"
                            ? h(
                                  "span",
                                  { class: "with-presence" },
                                  face(app, peer ?? { id: 0, display_name: name }, "small"),
                                  presenceDot(status),
                              )
                            : icon(kind === "public_room" ? "hash" : kind === "private_room" ? "lock" : "people"),
                        h("span", { class: "name" }, name),
                        draft && icon("edit"),
                        requests > 0 &&
                            h(
                                "span",
                                { class: "asked", title: tn("requests", requests) },
                                icon("person"),
                                String(requests),
                            ),
                        badge && h("span", { class: `badge ${mentions > 0 ? "mentions" : ""}` }, badge),
                    ),
                ),
        };
    }

    #connection() {
        const { name, caughtUp } = this.app.connection;
        const key = { live: "up_to_date", waiting: "reconnecting", ended: "disconnected" }[name] ?? "connecting";
        Object.assign(this.status.dataset, { state: name, caughtUp });
        this.status.replaceChildren(h("span", { class: "dot" }), t(this.app.isOffline ? "offline" : key));
    }

    #self() {
        const { store } = this.app;
        const me = store.me ?? this.app.session.user;
        if (!me) return;
        const presence = store.presence.get(me.id);
        const isHere = ["live", "catching_up"].includes(this.app.connection.name);
        const status = isHere ? (presence?.status ?? "online") : "offline";
        this.me.replaceChildren(
            h("span", { class: "with-presence" }, face(this.app, me), presenceDot(status)),
            h(
                "span",
                { class: "who" },
                h("strong", {}, me.display_name),
                h("small", {}, presence?.status_text || `@${me.username}`),
            ),
            icon("settings"),
        );
        this.me.title = t("settings");
        this.me.setAttribute("aria-label", `${me.display_name}, ${t("settings")}`);
    }

    #filterKey(event) {
        if (event.key === "Escape") {
            this.filter.value = "";
            this.#list();
            this.filter.blur();
        } else if (event.key === "ArrowDown" || event.key === "Enter") {
            const first = this.list.querySelector("a");
            event.preventDefault();
            if (event.key === "ArrowDown") return first?.focus();
            if (first) location.hash = first.getAttribute("href");
            this.filter.value = "";
            this.#list();
        }
        return undefined;
    }

    #listKey(event) {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (!step || event.altKey) return;
        const links = [...this.list.querySelectorAll("a, #threads:not([hidden])")];
        const next = links[links.indexOf(document.activeElement) + step];
        event.preventDefault();
        (next ?? (step < 0 ? this.filter : undefined))?.focus();
    }
}
