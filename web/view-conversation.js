// The open conversation: its header, the banner about the connection, the messages with endless scrolling, the
// composer.
//
// The reading position is stable. At the end, new messages scroll into view. Anywhere else, the first visible row stays
// where it is when rows are added above it.

import { Composer } from "./composer.js";
import { h, icon, iconButton, reconcile } from "./dom.js";
import { Faces } from "./faces.js";
import { dayOf, language, t, tn } from "./i18n.js";
import { messageRow, canModerate, pendingRow, signatureOf } from "./message.js";
import { faceButton, hiddenRow, isHidden } from "./people.js";
import { isSystem, systemRows } from "./system.js";
import { Empty } from "./view-empty.js";

/** Messages of one sender within this time form a block. */
const BLOCK_MS = 5 * 60_000;
/** Messages kept in memory at the end of a conversation. Older ones are read again when needed. */
const KEPT = 300;
/** The next page is read at this distance from the first or last message. */
const AHEAD_PX = 700;
/** Most conversations whose reading position is remembered. */
const POSITIONS_MAX = 100;
/** The reader is at the end within this distance. */
const END_PX = 60;

export class Conversation {
    #shownId;
    #atEnd = true;
    #positioned = false;
    /** Conversation id → the first visible message and its offset, of conversations that were left above their end. */
    #positions = new Map();

    constructor(app) {
        this.app = app;
        this.head = h("header", { class: "bar" });
        this.banner = h("div", { class: "banner", id: "banner", role: "status", hidden: true });
        this.rows = h("div", { class: "rows", id: "messages", role: "log" });
        this.scroller = h(
            "div",
            {
                class: "scroller",
                tabIndex: 0,
                onscroll: () => this.#scrolled(),
                onkeydown: (event) => this.#key(event),
            },
            this.rows,
        );
        this.faces = new Faces(app, this.scroller);
        this.toEnd = h("button", { type: "button", class: "to-end", hidden: true, onclick: () => app.act.toPresent() });
        this.typing = h("p", { class: "typing", id: "typing", "aria-live": "off" });
        this.composer = new Composer(app);
        this.empty = new Empty(app);
        this.element = h(
            "main",
            { class: "conversation" },
            this.head,
            this.banner,
            this.empty.element,
            h("div", { class: "middle" }, this.scroller, this.toEnd),
            this.typing,
            this.composer.element,
        );
        this.composer.files.acceptDrops(this.element);
        new ResizeObserver(() => this.#atEnd && this.#scrollToEnd()).observe(this.scroller);
        setInterval(() => this.#showTyping(), 1_000);
    }

    update(topics) {
        const { app } = this;
        if (this.#shownId !== app.open.id) {
            this.#keepPosition();
            this.#shownId = app.open.id;
            this.#positioned = false;
            this.#atEnd = true;
            this.rows.replaceChildren();
        }
        const { current } = app;
        if (topics.has("connection") || topics.has("look")) this.#showBanner();
        if (["look", "list", "conversation", "open", "people"].some((topic) => topics.has(topic))) {
            this.#showHead(current);
            this.empty.update(current);
        }
        if (["look", "conversation", "open"].some((topic) => topics.has(topic))) {
            this.element.classList.toggle("closed", !current);
            if (current) this.#showRows(current);
            this.composer.update(current);
        }
        if (topics.has("uploads")) this.composer.uploadsChanged();
        if (topics.has("typing") || topics.has("conversation")) this.#showTyping();
    }

    #showHead(conversation) {
        const { app } = this;
        const { act, open } = app;
        const back = iconButton("back", t("back"), () => act.go(), { class: "phone", id: "back" });
        if (!conversation) return this.head.replaceChildren(back, h("strong", {}, open.preview?.name ?? ""));
        const name = app.nameOf(conversation);
        const peer = app.store.peer(conversation);
        const status = app.store.presence.get(peer?.id);
        const isDirect = conversation.kind === "direct";
        const about = isDirect
            ? status?.status_text || (status && t(`presence_${status.status}`)) || (peer && `@${peer.username}`)
            : [tn("members", conversation.member_count), conversation.description].filter(Boolean).join(" · ");
        const requests = conversation.requests?.size ?? 0;
        const toggle = (kind, symbol, label, props, note) => {
            const button = iconButton(
                symbol,
                label,
                () => act.showPanel(open.panel?.kind === kind ? undefined : kind),
                { id: `show-${kind}`, "aria-pressed": String(open.panel?.kind === kind), ...props },
            );
            if (note) button.append(note);
            return button;
        };
        return this.head.replaceChildren(
            back,
            isDirect && peer
                ? faceButton(app, peer, "small")
                : icon(
                      conversation.kind === "public_room"
                          ? "hash"
                          : conversation.kind === "private_room"
                            ? "lock"
                            : "people",
                  ),
            h(
                "div",
                { class: "about" },
                h("h1", { id: "title" }, name),
                h("small", { id: "about" }, about || "\u00a0"),
            ),
            toggle("search", "search", t("search"), { hidden: !app.can("search_messages") }),
            toggle("files", "clip", t("files"), { hidden: !app.sendsFiles }),
            toggle("pins", "pin", t("pins"), { hidden: !app.can("list_pins") }),
            toggle(
                "details",
                "people",
                requests > 0 ? tn("requests", requests) : t("details"),
                {},
                requests > 0 && h("span", { class: "badge mentions", id: "request-count" }, String(requests)),
            ),
        );
    }

    #showBanner() {
        const { connection, client } = this.app;
        const again = connection.lostAt !== undefined || connection.again;
        const lost = t(this.app.isOffline ? "offline_banner" : "connection_lost");
        const button = (text) =>
            h(
                "button",
                {
                    type: "button",
                    class: "link",
                    onclick: () => (connection.name === "ended" ? client.connect() : client.poke()),
                },
                text,
            );
        const show = (kind, ...content) => {
            const text = content.map((part) => part.textContent ?? part).join(" ");
            if (this.banner.dataset.text !== text || this.banner.hidden) this.banner.replaceChildren(...content);
            Object.assign(this.banner.dataset, { kind, text });
            this.banner.hidden = false;
        };
        if (connection.name === "ended")
            show(
                "lost",
                t(connection.reason === "too_many_connections" ? "too_many_connections" : "disconnected"),
                button(t("reconnect")),
            );
        else if (connection.name === "waiting")
            show("lost", h("span", { class: "spinner" }), lost, button(t("try_now")));
        else if (connection.name === "live") {
            if (connection.notice)
                show(
                    "good",
                    t("you_are_up_to_date"),
                    connection.missed > 0 ? h("small", {}, tn("missed", connection.missed)) : "",
                );
            else this.banner.hidden = true;
        } else if (again && connection.name === "catching_up")
            show("busy", h("span", { class: "spinner" }), t("catching_up"));
        else if (again) show("lost", h("span", { class: "spinner" }), lost, button(t("try_now")));
        else this.banner.hidden = true;
    }

    #showTyping() {
        const { app } = this;
        const typists = app.current ? app.store.typingUsers(app.current, Date.now()) : [];
        const people = typists.filter((id) => !app.store.blocked.has(id)).map((id) => app.person(id).display_name);
        const text =
            people.length === 0
                ? ""
                : people.length > 3
                  ? t("many_type")
                  : tn("types", people.length, { who: people.join(", ") });
        if (this.typing.textContent !== text) this.typing.textContent = text;
    }

    #showRows(conversation) {
        const { timeline } = conversation;
        if (this.#atEnd && !timeline.hasNewer && this.#positioned) timeline.trim(KEPT);
        const anchor = this.#atEnd ? undefined : this.#anchor();
        reconcile(this.rows, this.#rowsOf(conversation));
        this.rows.setAttribute("aria-busy", String(!timeline.isLoaded));
        this.#place(timeline, anchor);
        this.#announceNew(conversation);
        this.#markRead(conversation);
        this.faces.look();
        if (timeline.isLoaded) this.#readAhead();
    }

    #keepPosition() {
        const anchor = this.#positioned && !this.#atEnd ? this.#anchor() : undefined;
        this.#positions.delete(this.#shownId);
        if (!anchor || !this.app.store.conversations.has(this.#shownId)) return;
        this.#positions.set(this.#shownId, { ...anchor, offset: anchor.offset - this.#top });
        if (this.#positions.size > POSITIONS_MAX) this.#positions.delete(this.#positions.keys().next().value);
    }

    get #top() {
        return this.scroller.getBoundingClientRect().top;
    }

    /** The first visible message and its offset. */
    #anchor() {
        const top = this.#top;
        for (const row of this.rows.children) {
            const box = row.getBoundingClientRect();
            if (box.bottom > top && row.classList.contains("message")) return { key: row.dataset.key, offset: box.top };
        }
        return undefined;
    }

    #place(timeline, anchor) {
        const { open } = this.app;
        if (!timeline.isLoaded) return;
        if (open.goal !== undefined) {
            const { goal } = open;
            const row = goal === "end" ? undefined : this.#row(goal);
            if (goal !== "end" && !row) return;
            open.goal = undefined;
            this.#positioned = true;
            if (goal === "end") return this.#scrollToEnd();
            this.#atEnd = false;
            row.scrollIntoView({ block: "center" });
            row.classList.add("flash");
            setTimeout(() => row.classList.remove("flash"), 2_000);
            return undefined;
        }
        if (!this.#positioned) {
            this.#positioned = true;
            if (this.#restorePosition()) return undefined;
            this.#scrollToEnd();
            const divider = this.rows.querySelector(".divider");
            const above = divider && divider.getBoundingClientRect().top < this.scroller.getBoundingClientRect().top;
            if (above) divider.scrollIntoView({ block: "start" });
            this.#atEnd = this.#isAtEnd();
        } else if (this.#atEnd) this.#scrollToEnd();
        else if (anchor) this.#scrollTo(anchor);
        return undefined;
    }

    /** Scrolls a row to an offset; returns whether there is such a row. */
    #scrollTo({ key, offset }) {
        const row = [...this.rows.children].find((child) => child.dataset.key === key);
        if (row) this.scroller.scrollTop += row.getBoundingClientRect().top - offset;
        return Boolean(row);
    }

    #restorePosition() {
        const position = this.#positions.get(this.#shownId);
        if (!position || !this.#scrollTo({ ...position, offset: position.offset + this.#top })) return false;
        this.#atEnd = this.#isAtEnd();
        return true;
    }

    #row(messageId) {
        return this.rows.querySelector(`[data-id="${messageId}"]`);
    }

    #rowsOf(conversation) {
        const { app } = this;
        const { timeline, pending } = conversation;
        const rows = [];
        const push = (key, signature, build) => rows.push({ key, signature: `${signature}\t${language()}`, build });
        if (!timeline.isLoaded)
            push("loading", "", () => h("p", { class: "loading" }, h("span", { class: "spinner" }), t("loading")));
        else if (timeline.hasOlder)
            push("older", "", () => h("p", { class: "loading" }, h("span", { class: "spinner" }), t("loading_older")));
        else push("beginning", app.nameOf(conversation), () => beginning(app, conversation));
        let before; // the previous message, if this one may join its block
        let dayBefore;
        let divided = false;
        const seen = this.#seen(conversation);
        const mayDelete = canModerate(app) && app.can("delete_message");
        let hidden = []; // consecutive messages of blocked users
        const pushHidden = () => {
            if (hidden.length > 0) rows.push(hiddenRow(app, hidden));
            hidden = [];
        };
        let system = []; // consecutive system messages of one day
        const pushSystem = () => {
            rows.push(...systemRows(app, system, mayDelete));
            system = [];
        };
        for (const message of timeline.shown) {
            if (isHidden(app, message)) {
                pushSystem();
                hidden.push(message);
                before = undefined;
                continue;
            }
            pushHidden();
            const day = dayOf(message.created_at);
            if (day !== dayBefore) {
                pushSystem();
                dayBefore = day;
                push(`day ${message.created_at.slice(0, 10)} ${message.message_id}`, day, () =>
                    h("p", { class: "day" }, h("span", {}, day)),
                );
                before = undefined;
            }
            if (isSystem(message)) {
                system.push(message);
                before = undefined;
                continue;
            }
            pushSystem();
            if (
                !divided &&
                app.open.divider !== undefined &&
                message.seq > app.open.divider &&
                message.sender.id !== app.store.me.id
            ) {
                divided = true;
                push("divider", "", () => h("p", { class: "divider" }, h("span", {}, t("new_messages"))));
                before = undefined;
            }
            const compact = isSameBlock(before, message);
            const flags = { compact, inThread: false, seen: message === seen };
            push(`m${message.message_id}`, signatureOf(app, message, flags), () =>
                messageRow(app, message, flags, (m) => this.composer.edit(m)),
            );
            before = message.parent_message_id ? undefined : message;
        }
        pushHidden();
        pushSystem();
        for (const message of timeline.hasNewer ? [] : pending.filter(({ parent_message_id }) => !parent_message_id)) {
            const compact = before?.sender?.id === app.store.me.id;
            push(message.client_message_id, `${message.state}${message.error}${message.retry?.code}${compact}`, () =>
                pendingRow(app, message, compact),
            );
            before = { sender: app.store.me, created_at: message.created_at };
        }
        return rows;
    }

    /** The last message of a direct conversation, if the user sent it and the other user has read it. */
    #seen(conversation) {
        const peer = this.app.store.peer(conversation);
        if (!peer?.read_seq) return undefined;
        const last = conversation.timeline.shown.findLast(
            (message) => !message.deleted && !message.parent_message_id && !isSystem(message),
        );
        return last?.sender.id === this.app.store.me.id && last.seq <= peer.read_seq ? last : undefined;
    }

    #isAtEnd() {
        const { scrollHeight, scrollTop, clientHeight } = this.scroller;
        return scrollHeight - scrollTop - clientHeight < END_PX;
    }

    #scrollToEnd() {
        this.scroller.scrollTop = this.scroller.scrollHeight;
        this.#atEnd = true;
    }

    #scrolled() {
        this.#atEnd = this.#isAtEnd();
        const { current } = this.app;
        if (!current?.timeline.isLoaded || !this.#positioned) return;
        this.#announceNew(current);
        this.#markRead(current);
        this.faces.look();
        this.#readAhead();
    }

    #readAhead() {
        const { scrollHeight, scrollTop, clientHeight } = this.scroller;
        const { timeline, reading } = this.app.current;
        if (reading) return;
        if (timeline.hasOlder && scrollTop < AHEAD_PX) this.app.act.older();
        else if (timeline.hasNewer && scrollHeight - scrollTop - clientHeight < AHEAD_PX) this.app.act.newer();
    }

    #announceNew({ timeline, unread }) {
        this.toEnd.hidden = this.#atEnd && !timeline.hasNewer;
        this.toEnd.replaceChildren(icon("down"), unread > 0 ? tn("unread", unread) : t("to_end"));
    }

    #markRead(conversation) {
        if (document.hidden) {
            if (conversation.unread > 0) this.app.open.divider ??= conversation.read_seq;
        } else if (this.#atEnd && conversation.timeline.isLoaded && !conversation.timeline.hasNewer) {
            this.app.act.read(conversation.id, conversation.cursor);
        }
    }

    /** The arrow keys move between messages; letters press the buttons of the focused message. */
    #key(event) {
        const row = event.target.closest(".message");
        const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (step && !event.altKey && !event.ctrlKey) {
            const messages = [...this.rows.querySelectorAll(".message")];
            const at = row ? messages.indexOf(row) + step : messages.length - 1;
            event.preventDefault();
            if (at >= messages.length) this.composer.focus();
            else messages[Math.max(at, 0)]?.focus();
            return;
        }
        const what = { r: "thread", e: "edit", p: "pin", Delete: "delete", t: "thread" }[event.key];
        if (row && event.target === row && what && !event.ctrlKey && !event.metaKey) {
            row.querySelector(`[data-do="${what}"]`)?.click();
            event.preventDefault();
        }
    }
}

function isSameBlock(before, message) {
    if (!before || before.sender.id !== message.sender.id || message.parent_message_id || message.pinned) return false;
    return new Date(message.created_at) - new Date(before.created_at) < BLOCK_MS;
}

function beginning(app, conversation) {
    const name = app.nameOf(conversation);
    return h(
        "div",
        { class: "beginning" },
        h("h2", {}, name),
        h("p", { class: "soft" }, t(conversation.kind === "direct" ? "beginning_direct" : "beginning", { name })),
    );
}
