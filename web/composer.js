// Where messages are written: grows with the text, completes @names, edits, and says why nothing may be written.

import { h, iconButton } from "./dom.js";
import { chooseEmoji } from "./emoji.js";
import { t } from "./i18n.js";
import { isSystem } from "./system.js";
import { excerpt } from "./text.js";

const SUGGESTED_MAX = 6;
const HEIGHT_PX_MAX = 220;

export class Composer {
    #conversation;
    #editing;
    #suggestions = [];
    #selected = 0;

    /** `thread()`: the root to which what is written belongs, for the composer of a thread. */
    constructor(app, thread) {
        this.app = app;
        this.thread = thread;
        this.input = h("textarea", {
            rows: 1,
            id: thread ? "reply" : "compose",
            autocomplete: "off",
            "aria-autocomplete": "list",
            oninput: () => this.#changed(),
            onkeydown: (event) => this.#key(event),
            onblur: () => setTimeout(() => this.#suggest([]), 150),
        });
        this.editBar = h("div", { class: "edit-bar", hidden: true });
        this.list = h("ul", { class: "suggestions", role: "listbox", hidden: true });
        this.count = h("small", { class: "count" });
        this.emoji = iconButton("smile", "", () => this.#insertEmoji());
        this.submit = iconButton("send", "", undefined, {
            type: "submit",
            class: "primary",
            id: thread ? "send-reply" : "send",
        });
        this.form = h(
            "form",
            { class: "box", onsubmit: (event) => this.#submitted(event) },
            this.input,
            this.count,
            this.emoji,
            this.submit,
        );
        this.refusal = h("p", { class: "refusal", hidden: true });
        this.element = h("div", { class: "composer" }, this.list, this.editBar, this.form, this.refusal);
    }

    get #draftKey() {
        return this.thread ? `${this.#conversation?.id}/${this.thread()}` : this.#conversation?.id;
    }

    update(conversation) {
        const isOther = this.#conversation !== conversation || this.key !== this.thread?.();
        this.#conversation = conversation;
        this.element.hidden = !conversation;
        if (!conversation) return;
        this.key = this.thread?.();
        this.input.maxLength = this.app.client.welcome?.limits.max_message_length ?? 4_000;
        if (isOther) {
            this.#stopEditing();
            this.input.value = this.app.drafts.get(this.#draftKey) ?? "";
            this.#fit();
            if (matchMedia("(hover: hover)").matches) this.focus();
        }
        const name = this.app.nameOf(conversation);
        this.input.placeholder = this.thread ? t("reply_placeholder") : t("message_placeholder", { name });
        this.input.setAttribute("aria-label", this.input.placeholder);
        for (const [button, label] of [
            [this.emoji, t("emoji")],
            [this.submit, t("send")],
        ]) {
            button.title = label;
            button.setAttribute("aria-label", label);
        }
        const mutedUntil = conversation.muted_until && new Date(conversation.muted_until) > new Date();
        const why = conversation.archived
            ? t("is_archived")
            : conversation.role === "read_only"
              ? t("is_read_only")
              : mutedUntil
                ? t("is_muted")
                : "";
        const peer = this.app.store.peer(conversation);
        const blocked = peer && this.app.store.blocked.get(peer.id);
        this.form.hidden = Boolean(why || blocked);
        this.refusal.hidden = !this.form.hidden;
        if (!blocked) this.refusal.textContent = why;
        else {
            this.refusal.replaceChildren(
                t("you_blocked", { name: this.app.called(peer) }),
                " ",
                h(
                    "button",
                    { type: "button", class: "link", onclick: () => this.app.act.block(peer, false) },
                    t("unblock"),
                ),
            );
        }
    }

    focus() {
        this.input.focus({ preventScroll: true });
    }

    /** Lets the user change a message of theirs. */
    edit(message) {
        this.#editing = message;
        this.input.value = message.content;
        this.editBar.replaceChildren(
            h("span", {}, t("editing", { text: excerpt(message.content, 60) })),
            iconButton("close", t("cancel"), () => this.#stopEditing()),
        );
        this.editBar.hidden = false;
        this.#fit();
        this.focus();
    }

    #stopEditing() {
        if (this.#editing) this.input.value = "";
        this.#editing = undefined;
        this.editBar.hidden = true;
        this.#fit();
    }

    #changed() {
        this.#fit();
        if (!this.#editing) this.app.drafts.set(this.#draftKey, this.input.value);
        if (this.input.value.trim() && !this.#editing) this.app.act.typing();
        this.#suggest(this.#matches());
    }

    #fit() {
        this.input.style.height = "auto";
        const { scrollHeight } = this.input;
        this.input.style.height = `${Math.min(scrollHeight, HEIGHT_PX_MAX)}px`;
        this.input.style.overflowY = scrollHeight > HEIGHT_PX_MAX ? "auto" : "hidden";
        const left = this.input.maxLength - this.input.value.length;
        this.count.textContent = this.input.maxLength > 0 && left < 300 ? String(left) : "";
        this.submit.disabled = this.input.value.trim() === "";
    }

    #submitted(event) {
        event.preventDefault();
        const content = this.input.value.trim();
        if (!content) return;
        const edited = this.#editing;
        this.input.value = "";
        this.app.drafts.delete(this.#draftKey);
        if (edited) {
            this.#stopEditing();
            if (content !== edited.content) this.app.act.edit(edited, content);
        } else {
            if (!this.thread) Object.assign(this.app.open, { divider: undefined, goal: "end" });
            this.app.act.send({ content, parent_message_id: this.thread?.() });
        }
        this.#suggest([]);
        this.#fit();
        this.focus();
    }

    #key(event) {
        if (event.isComposing) return;
        const { key } = event;
        if (this.#suggestions.length > 0 && ["ArrowDown", "ArrowUp", "Enter", "Tab", "Escape"].includes(key)) {
            event.preventDefault();
            event.stopPropagation();
            if (key === "Escape") return this.#suggest([]);
            if (key === "Enter" || key === "Tab") return this.#complete(this.#suggestions[this.#selected]);
            this.#selected =
                (this.#selected + (key === "ArrowDown" ? 1 : -1) + this.#suggestions.length) % this.#suggestions.length;
            return this.#suggest(this.#suggestions, this.#selected);
        }
        if (key === "Enter" && !event.shiftKey) {
            event.preventDefault();
            this.form.requestSubmit();
        } else if (key === "Escape" && this.#editing) {
            event.stopPropagation();
            this.#stopEditing();
        } else if (key === "ArrowUp" && !this.thread && this.input.value === "" && this.app.can("edit_message")) {
            const mine = this.#conversation.timeline.shown.findLast(
                (message) => message.sender.id === this.app.store.me.id && !message.deleted && !isSystem(message),
            );
            if (!mine) return undefined;
            event.preventDefault();
            this.edit(mine);
        }
        return undefined;
    }

    /** Members whose name begins with what stands after the @ before the cursor. */
    #matches() {
        const before = this.input.value.slice(0, this.input.selectionStart);
        const found = /(?:^|[^A-Za-z0-9_@.-])@([A-Za-z0-9_-]{0,50})$/.exec(before);
        if (!found || !this.app.has("user_mentions")) return [];
        const wanted = found[1].toLowerCase();
        const members = [...this.#conversation.members.values()].filter(({ id }) => id !== this.app.store.me.id);
        const fits = ({ username, display_name }) =>
            username.toLowerCase().startsWith(wanted) ||
            display_name
                .toLowerCase()
                .split(/\s+/)
                .some((word) => word.startsWith(wanted));
        return members.filter(fits).slice(0, SUGGESTED_MAX);
    }

    #suggest(people, selected = 0) {
        this.#suggestions = people;
        this.#selected = selected;
        this.list.hidden = people.length === 0;
        this.list.replaceChildren(
            ...people.map((person, at) =>
                h(
                    "li",
                    {
                        role: "option",
                        "aria-selected": String(at === selected),
                        onmousedown: (event) => event.preventDefault(),
                        onclick: () => this.#complete(person),
                    },
                    h("strong", {}, person.display_name),
                    h("span", { class: "soft" }, ` @${person.username}`),
                ),
            ),
        );
    }

    #complete({ username }) {
        const { value, selectionStart } = this.input;
        const start = value.slice(0, selectionStart).lastIndexOf("@");
        this.input.setRangeText(`@${username} `, start, selectionStart, "end");
        this.#changed();
        this.focus();
    }

    async #insertEmoji() {
        const { selectionStart, selectionEnd } = this.input;
        const emoji = await chooseEmoji(t("emoji"));
        if (!emoji) return;
        this.input.setRangeText(emoji, selectionStart, selectionEnd, "end");
        this.#changed();
        this.focus();
    }
}
