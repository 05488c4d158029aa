// The panel beside the messages: a thread, pinned messages, files, details, held messages, search, mentions, followed
// threads.

import { Composer } from "./composer.js";
import { h, iconButton, nodes, reconcile } from "./dom.js";
import { Faces } from "./faces.js";
import { t, tn } from "./i18n.js";
import { resultRow, messageRow, pendingRow, signatureOf, threadRow } from "./message.js";
import { hiddenRow, isHidden } from "./people.js";
import { details, detailsSignature } from "./view-details.js";
import { showFiles } from "./view-files.js";
import { Held } from "./view-held.js";
import { Search } from "./view-search.js";

export class Panel {
    #shown;
    #mentions = { messages: [], state: "idle", cursor: undefined };

    constructor(app) {
        this.app = app;
        this.title = h("h2");
        this.buttons = h("div", { class: "actions" });
        this.body = h("div", { class: "panel-body", onscroll: () => this.#scrolled() });
        this.faces = new Faces(app, this.body);
        this.composer = new Composer(app, () => app.open.panel?.root);
        this.composer.element.hidden = true;
        this.search = new Search(app);
        this.held = new Held(app);
        this.element = h(
            "aside",
            { class: "panel", id: "panel", hidden: true },
            h("header", { class: "bar" }, this.title, this.buttons),
            this.body,
            this.composer.element,
        );
        this.composer.files.acceptDrops(this.element);
    }

    update(topics) {
        if (topics.has("uploads") && this.app.open.panel?.kind === "thread") this.composer.uploadsChanged();
        if (!["panel", "open", "look", "people", "conversation", "threads"].some((topic) => topics.has(topic))) return;
        const { app } = this;
        const { panel } = app.open;
        const usable = panel && (app.current || panel.kind === "mentions" || panel.kind === "threads");
        this.element.hidden = !usable;
        const key = usable && `${app.open.id}/${panel.kind}/${panel.root ?? ""}/${app.language}`;
        if (key !== this.#shown) this.body.replaceChildren();
        const fresh = key !== this.#shown;
        this.#shown = key;
        if (!usable) return;
        this.title.textContent = t(`panel_${panel.kind}`);
        this.element.dataset.kind = panel.kind;
        this.buttons.replaceChildren(iconButton("close", t("close"), () => this.#close(), { id: "close-panel" }));
        this.composer.element.hidden = panel.kind !== "thread";
        if (panel.kind === "thread") this.#showThread(app.current, panel.root);
        else if (panel.kind === "pins") this.#showPins(app.current);
        else if (panel.kind === "files") showFiles(app, this.body, app.current, fresh);
        else if (panel.kind === "details") this.#showDetails(app.current, fresh);
        else if (panel.kind === "held") this.held.show(this.body, app.current, fresh);
        else if (panel.kind === "search") this.search.show(this.body, fresh);
        else if (panel.kind === "mentions") this.#showMentions(fresh);
        else if (panel.kind === "threads") this.#showThreads();
    }

    #close() {
        const { open, act } = this.app;
        act.showPanel(undefined);
        if (location.hash.includes("/thread/")) history.replaceState(null, "", `#/${open.id}`);
    }

    #showThread(conversation, root) {
        const { app } = this;
        const { timeline } = conversation;
        const thread = timeline.thread(root);
        const rootMessage = timeline.known.get(root);
        if (thread.following !== undefined && app.can("follow_thread")) {
            this.buttons.prepend(
                h(
                    "button",
                    {
                        type: "button",
                        class: "link",
                        id: "follow",
                        "aria-pressed": String(thread.following),
                        onclick: () => app.act.follow(root, !thread.following),
                    },
                    t(thread.following ? "unfollow" : "follow"),
                ),
            );
        }
        const atEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 60;
        const flags = { compact: false, inThread: true, seen: false };
        const row = (message) => ({
            key: `m${message.message_id}`,
            signature: signatureOf(app, message, flags),
            build: () => messageRow(app, message, flags, (m) => this.composer.edit(m)),
        });
        const rows = rootMessage ? [row(rootMessage)] : [];
        const count = Math.max(thread.replies.length, rootMessage?.thread?.reply_count ?? 0);
        rows.push({
            key: "count",
            signature: `${count}`,
            build: () => h("p", { class: "day" }, h("span", {}, tn("replies", count))),
        });
        if (thread.hasOlder) {
            const more = () => app.reads.thread(conversation, root, "older");
            rows.push({
                key: "more",
                signature: "",
                build: () =>
                    h(
                        "p",
                        { class: "loading" },
                        h("button", { type: "button", class: "link", onclick: more }, t("load_older")),
                    ),
            });
        }
        let divided = thread.readTo === undefined || !thread.following;
        for (const message of thread.replies) {
            if (!divided && message.seq > thread.readTo && message.sender.id !== app.store.me.id) {
                divided = true;
                rows.push({
                    key: "divider",
                    signature: app.language,
                    build: () => h("p", { class: "divider" }, h("span", {}, t("new_messages"))),
                });
            }
            rows.push(isHidden(app, message) ? hiddenRow(app, [message]) : row(message));
        }
        for (const message of conversation.pending.filter(({ parent_message_id }) => parent_message_id === root)) {
            rows.push({
                key: message.client_message_id,
                signature: `${message.state}${message.error}${message.retry?.code}`,
                build: () => pendingRow(app, message, false),
            });
        }
        reconcile(this.body, rows);
        if (atEnd) this.body.scrollTop = this.body.scrollHeight;
        this.composer.update(conversation);
        this.#scrolled();
    }

    #scrolled() {
        this.#markThread();
        this.faces.look();
    }

    /** Marks an open thread as read when its end is visible. */
    #markThread() {
        const { current, open } = this.app;
        if (open.panel?.kind !== "thread" || !current || document.hidden) return;
        const { isLoaded, replies } = current.timeline.thread(open.panel.root);
        const last = replies.at(-1);
        const isAtEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 60;
        if (isLoaded && last && isAtEnd) this.app.act.readThread(current.id, open.panel.root, last.seq);
    }

    #showPins({ timeline }) {
        const pins = timeline.pins ?? [];
        const rows = pins.map((message) => ({
            key: `p${message.message_id}`,
            signature: String(message.version),
            build: () => resultRow(this.app, message, false),
        }));
        if (pins.length === 0)
            rows.push({ key: "none", signature: "", build: () => nothing(t(timeline.pins ? "no_pins" : "loading")) });
        reconcile(this.body, rows);
    }

    #showDetails(conversation, fresh) {
        const signature = detailsSignature(this.app, conversation);
        if (!fresh && this.body.dataset.signature === signature) return;
        this.body.dataset.signature = signature;
        const focused = this.body.contains(document.activeElement) ? document.activeElement.id : "";
        this.body.replaceChildren(...nodes(details(this.app, conversation)));
        if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }

    /** The followed threads, the one with the newest reply first. */
    #showThreads() {
        const { app } = this;
        const { threads } = app.store;
        const rows = threads.sorted().map((thread) => threadRow(app, thread));
        if (rows.length === 0)
            rows.push({
                key: "none",
                signature: app.language,
                build: () => nothing(t(threads.isLoaded ? "no_threads" : "loading")),
            });
        if (threads.cursor !== undefined) {
            const more = () => app.reads.threads(true);
            rows.push({
                key: "more",
                signature: app.language,
                build: () => h("button", { type: "button", class: "link more", onclick: more }, t("load_older")),
            });
        }
        reconcile(this.body, rows);
    }

    #showMentions(fresh) {
        const mentions = this.#mentions;
        if (fresh) {
            Object.assign(mentions, { messages: [], state: "loading", cursor: undefined });
            this.#readMentions();
        }
        const more =
            mentions.cursor !== undefined &&
            h("button", { type: "button", class: "link", onclick: () => this.#readMentions() }, t("load_older"));
        const note =
            mentions.messages.length === 0 ? nothing(t(mentions.state === "loading" ? "loading" : "no_mentions")) : "";
        this.body.replaceChildren(
            ...mentions.messages.map((message) => resultRow(this.app, message, true)),
            note,
            more || "",
        );
    }

    async #readMentions() {
        const mentions = this.#mentions;
        const page = await this.app
            .request("list_mentions", { cursor: mentions.cursor, limit: 30 })
            .catch(() => ({ messages: [] }));
        Object.assign(mentions, {
            messages: [...mentions.messages, ...page.messages],
            cursor: page.next_cursor ?? undefined,
            state: "found",
        });
        this.app.changed("panel");
    }
}

function nothing(text) {
    return h("p", { class: "soft nothing" }, text);
}
