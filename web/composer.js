// The composer: a text field that grows with its text, completes @names, edits messages, keeps drafts, and says why a
// message cannot be sent.

import { Attachments } from "./attachments.js";
import { h, iconButton } from "./dom.js";
import { Drafts } from "./drafts.js";
import { chooseEmoji } from "./emoji.js";
import { aboutFile } from "./files.js";
import { numberOf, t, tn } from "./i18n.js";
import { addressed, matching, parse } from "./slash.js";
import { isSystem } from "./system.js";
import { excerpt, format, summaryOf } from "./text.js";

const SUGGESTED_MAX = 6;
const HEIGHT_PX_MAX = 220;
/** The number of characters that are left is shown from here on. */
const COUNTED_BELOW = 300;

export class Composer {
    #conversation;
    #editing;
    /** The files of the edited message that stay. */
    #kept = [];
    #suggestions = [];
    /** The slash commands of the conversation. */
    #commands = [];
    #selected = 0;
    #lengthMax = 4_000;
    #width = 0;
    /** The place whose message is sent as soon as its files are uploaded. */
    #held;

    /** `thread()`: the id of the thread's root, for the composer of a thread. */
    constructor(app, thread) {
        this.app = app;
        this.thread = thread;
        const id = thread ? "reply" : "compose";
        this.input = h("textarea", {
            rows: 1,
            id,
            autocomplete: "off",
            "aria-autocomplete": "list",
            "aria-describedby": `${id}-too-long`,
            oninput: () => this.#changed(),
            onkeydown: (event) => this.#key(event),
            onpaste: (event) => this.files.pasted(event),
            onblur: () => setTimeout(() => this.#suggest([]), 150),
        });
        this.editBar = h("div", { class: "edit-bar", hidden: true });
        this.editFiles = h("ul", { class: "uploads", id: `${id}-edit-files`, hidden: true });
        this.list = h("ul", { class: "suggestions", role: "listbox", hidden: true });
        this.answer = h("div", { class: "bot-answer", role: "status", hidden: true });
        this.count = h("small", { class: "count" });
        this.files = new Attachments(app, id, () => this.#fit());
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
            this.files.button,
            this.emoji,
            this.submit,
        );
        this.tooLong = h("p", { class: "too-long", id: `${id}-too-long`, role: "status" });
        this.holding = h("p", { class: "holding soft", role: "status" });
        this.refusal = h("p", { class: "refusal", hidden: true });
        this.element = h(
            "div",
            { class: "composer" },
            this.answer,
            this.list,
            this.editBar,
            this.editFiles,
            this.files.element,
            this.holding,
            this.tooLong,
            this.form,
            this.refusal,
        );
        // The height depends on the width, which is 0 while a phone shows the list of conversations.
        new ResizeObserver(([{ contentRect }]) => {
            if (contentRect.width === this.#width) return;
            this.#width = contentRect.width;
            this.#fit();
        }).observe(this.element);
    }

    get #draftKey() {
        return Drafts.key(this.#conversation.id, this.thread?.());
    }

    update(conversation) {
        const isOther = this.#conversation !== conversation || this.key !== this.thread?.();
        this.#conversation = conversation;
        this.element.hidden = !conversation;
        if (!conversation) return;
        this.key = this.thread?.();
        const lengthMax = this.app.client.welcome?.limits.max_message_length ?? this.#lengthMax;
        if (lengthMax !== this.#lengthMax) {
            this.#lengthMax = lengthMax;
            this.#fit();
        }
        if (isOther) {
            this.answer.hidden = true;
            this.#commands = [];
            if (this.app.can("run_command"))
                this.app.commands.of(conversation.id).then((commands) => {
                    if (this.#conversation === conversation) this.#commands = commands;
                });
            this.#hold(undefined);
            this.#stopEditing();
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
        this.#showRefusal(conversation);
        this.#showFiles();
    }

    #showFiles() {
        const hasUploads = this.app.uploads.of(this.#draftKey).length > 0;
        const isOffered = (this.app.sendsFiles || hasUploads) && !this.form.hidden && !this.#editing;
        this.files.update(isOffered ? this.#draftKey : undefined);
        this.#fit();
    }

    /** Shows how far the uploads are, and sends a message that has waited for them. */
    uploadsChanged() {
        if (!this.#conversation) return;
        this.files.show();
        this.#fit();
        if (this.#held === undefined) return;
        const { uploads } = this.app;
        const files = uploads.of(this.#held);
        const hasFailed = files.some(({ state }) => state === "failed" || state === "lost");
        if (files.length === 0 || hasFailed) this.#hold(undefined);
        else if (uploads.isComplete(this.#held)) this.form.requestSubmit();
    }

    #hold(place) {
        this.#held = place;
        const cancel = () => this.#hold(undefined);
        this.holding.replaceChildren(
            ...(place === undefined
                ? []
                : [
                      t("sends_when_uploaded"),
                      " ",
                      h("button", { type: "button", class: "link", onclick: cancel }, t("cancel")),
                  ]),
        );
    }

    #showRefusal(conversation) {
        const isMuted = conversation.muted_until && new Date(conversation.muted_until) > new Date();
        const isReadOnly = conversation.role === "read_only";
        const key = conversation.archived
            ? "is_archived"
            : isReadOnly
              ? "is_read_only"
              : isMuted
                ? "is_muted"
                : undefined;
        const peer = this.app.store.peer(conversation);
        const blocked = peer && this.app.store.blocked.get(peer.id);
        this.form.hidden = Boolean(key || blocked);
        this.refusal.hidden = !this.form.hidden;
        if (!blocked) {
            this.refusal.textContent = key ? t(key) : "";
            return;
        }
        const unblock = () => this.app.act.block(peer, false);
        this.refusal.replaceChildren(
            t("you_blocked", { name: this.app.displayName(peer) }),
            " ",
            h("button", { type: "button", class: "link", onclick: unblock }, t("unblock")),
        );
    }

    focus() {
        this.input.focus({ preventScroll: true });
    }

    /**
     * Lets the user edit a message of theirs; `content` is the text to begin with, and `kept` are the files that stay.
     * The draft waits until that ends.
     */
    edit(message, content = message.content, kept = message.attachments ?? []) {
        this.#hold(undefined);
        this.#editing = message;
        this.#keepFiles(kept);
        this.input.value = content;
        this.editBar.replaceChildren(
            h("span", {}, t("editing", { text: excerpt(summaryOf(message), 60) })),
            iconButton("close", t("cancel"), () => this.#stopEditing()),
        );
        this.editBar.hidden = false;
        this.#showFiles();
        this.focus();
    }

    /** Shows the files of the edited message, each with a button that removes it. */
    #keepFiles(kept) {
        this.#kept = kept;
        const row = (file) => {
            const remove = () => {
                this.#keepFiles(this.#kept.filter((other) => other !== file));
                this.#fit();
                this.focus();
            };
            const about = h("div", { class: "upload-text" }, aboutFile(file));
            const button = iconButton("close", t("cancel_upload", { name: file.name }), remove);
            return h("li", { class: "upload", dataset: { file: file.file_id } }, about, button);
        };
        this.editFiles.setAttribute("aria-label", t("uploads"));
        this.editFiles.replaceChildren(...kept.map(row));
        this.editFiles.hidden = kept.length === 0;
    }

    /** Shows the draft of the conversation or thread. */
    #stopEditing() {
        this.#editing = undefined;
        this.#keepFiles([]);
        this.input.value = this.app.drafts.get(this.#draftKey);
        this.editBar.hidden = true;
        this.#showFiles();
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
        this.input.style.height = scrollHeight > 0 ? `${Math.min(scrollHeight, HEIGHT_PX_MAX)}px` : "";
        this.input.style.overflowY = scrollHeight > HEIGHT_PX_MAX ? "auto" : "hidden";
        const content = this.input.value.trim();
        const left = this.#lengthMax - lengthOf(content);
        this.count.textContent = left < COUNTED_BELOW ? numberOf(left) : "";
        this.count.classList.toggle("over", left < 0);
        const text = left < 0 ? tn("too_long", -left, { max: numberOf(this.#lengthMax) }) : "";
        if (this.tooLong.textContent !== text) this.tooLong.textContent = text;
        this.submit.disabled = (content === "" && !this.#hasFiles) || left < 0;
    }

    get #hasFiles() {
        return (this.#editing ? this.#kept : this.#uploads).length > 0;
    }

    /** The files of the message that is being written. */
    get #uploads() {
        return this.#conversation && !this.#editing ? this.app.uploads.of(this.#draftKey) : [];
    }

    #submitted(event) {
        event.preventDefault();
        const content = this.input.value.trim();
        const files = this.#uploads;
        if ((!content && !this.#hasFiles) || lengthOf(content) > this.#lengthMax) return this.#hold(undefined);
        const edited = this.#editing;
        const kept = this.#kept;
        if (!edited && !this.app.uploads.isComplete(this.#draftKey)) {
            const hasFailed = files.some(({ state }) => state === "failed" || state === "lost");
            this.#hold(hasFailed ? undefined : this.#draftKey);
            this.app.uploads.resumeAll(this.#draftKey); // what is sent is not paused
            if (hasFailed) this.holding.textContent = t("files_have_failed");
            return this.focus();
        }
        this.#hold(undefined);
        if (edited) {
            this.#stopEditing();
            const isSame = content === edited.content && kept.length === (edited.attachments?.length ?? 0);
            if (!isSame) this.#saveEdit(edited, content, kept);
        } else {
            const meant = files.length === 0 && this.app.can("run_command") ? parse(content) : { text: content };
            this.input.value = "";
            this.app.drafts.set(this.#draftKey, "");
            if (meant.command) {
                this.#run(content, meant);
                this.#suggest([]);
                this.#fit();
                return this.focus();
            }
            if (!this.thread) Object.assign(this.app.open, { divider: undefined, goal: "end" });
            const taken = this.app.uploads.take(this.#draftKey);
            const attached = taken.length > 0 ? { attachments: taken.map(({ file_id }) => file_id), files: taken } : {};
            this.app.act.send({ content: meant.text, parent_message_id: this.thread?.(), ...attached });
        }
        this.#suggest([]);
        this.#fit();
        return this.focus();
    }

    /** A command without an answer comes back into the field. A private answer is shown above it. */
    async #run(content, { command, text }) {
        const conversation = this.#conversation;
        const answer = await this.app.act.run(command, text, this.thread?.());
        if (this.#conversation !== conversation) return;
        if (!answer) {
            if (this.input.value === "") this.input.value = content;
            return this.#fit();
        }
        if (answer.visibility !== "private") return;
        const body = h("div", { class: "content" }, ...format(answer.content, { isMention: () => undefined }));
        const note = h("p", { class: "soft" }, t("only_you", { command }));
        const close = iconButton("close", t("close"), () => {
            this.answer.hidden = true;
        });
        this.answer.replaceChildren(h("div", { class: "content" }, body, note), close);
        this.answer.hidden = false;
    }

    /** A refused edit comes back into the field, unless the user has gone on to something else. */
    async #saveEdit(message, content, kept) {
        const { id } = this.#conversation;
        const attachments = message.attachments?.length > 0 ? kept.map(({ file_id }) => file_id) : undefined;
        const isSaved = await this.app.act.edit(message, content, attachments);
        if (!isSaved && !this.#editing && this.#conversation?.id === id) this.edit(message, content, kept);
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

    /** Commands that begin with the text, or members whose name begins with the text between the @ and the cursor. */
    #matches() {
        const before = this.input.value.slice(0, this.input.selectionStart);
        const commands = this.#editing ? [] : matching(this.#commands, before);
        if (commands.length > 0) return commands.slice(0, SUGGESTED_MAX).map((command) => this.#ofCommand(command));
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
        const ofMember = ({ username, display_name }) => ({
            insert: `@${username}`,
            from: "@",
            label: display_name,
            note: `@${username}`,
        });
        return members.filter(fits).slice(0, SUGGESTED_MAX).map(ofMember);
    }

    #ofCommand(command) {
        const insert = addressed(this.#commands, command);
        const label = [insert, command.usage].filter(Boolean).join(" ");
        return { insert, from: "/", label, note: `${command.description} · ${command.bot.display_name}` };
    }

    /** `suggestions`: {insert, from, label, note}; `insert` replaces what was typed from the last `from` on. */
    #suggest(suggestions, selected = 0) {
        this.#suggestions = suggestions;
        this.#selected = selected;
        this.list.hidden = suggestions.length === 0;
        this.list.replaceChildren(
            ...suggestions.map((suggestion, at) =>
                h(
                    "li",
                    {
                        role: "option",
                        "aria-selected": String(at === selected),
                        onmousedown: (event) => event.preventDefault(),
                        onclick: () => this.#complete(suggestion),
                    },
                    h("strong", {}, suggestion.label),
                    h("span", { class: "soft" }, ` ${suggestion.note}`),
                ),
            ),
        );
    }

    #complete({ insert, from }) {
        const { value, selectionStart } = this.input;
        const start = value.slice(0, selectionStart).lastIndexOf(from);
        this.input.setRangeText(`${insert} `, start, selectionStart, "end");
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

/** Characters as the server counts them: code points, not UTF-16 units. */
function lengthOf(text) {
    let length = 0;
    for (const _ of text) length++;
    return length;
}
