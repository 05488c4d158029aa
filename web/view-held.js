// The panel of held and flagged messages, for moderators: what the content filter keeps until one of them decides.

import { h, icon } from "./dom.js";
import { aboutFile } from "./files.js";
import { agoOf, t } from "./i18n.js";
import { face } from "./people.js";

export class Held {
    #conversation;

    constructor(app) {
        this.app = app;
    }

    /** Fills the panel. Nothing announces new texts, so opening the panel reads them again. */
    show(body, conversation, fresh) {
        if (!fresh) return;
        this.#conversation = conversation;
        this.list = h("ul", { class: "requests", id: "held" });
        body.replaceChildren(
            h("div", { class: "details" }, h("p", { class: "soft" }, t("held_about"))),
            this.list,
            h(
                "button",
                { type: "button", class: "link more", id: "held-again", onclick: () => this.#read() },
                t("reload"),
            ),
        );
        this.#read();
    }

    async #read() {
        const { app, list } = this;
        const { id } = this.#conversation;
        try {
            const answer = await app.session.request("GET", `moderation/queue?conversation_id=${id}&limit=100`);
            const { items } = answer;
            items.forEach(({ sender }) => app.store.rememberUser(sender));
            list.replaceChildren(
                ...items.map((item) => this.#row(item)),
                items.length === 0 ? h("p", { class: "soft nothing" }, t("no_held")) : "",
            );
        } catch (error) {
            app.showError(error);
        }
    }

    #row({ id, sender, content, rule, state, edit, attachments = [], created_at }) {
        const { app } = this;
        const isHeld = state === "held";
        const button = (decision, key, props = {}) =>
            h(
                "button",
                { type: "button", dataset: { do: decision }, onclick: () => this.#decide(id, decision), ...props },
                t(key),
            );
        return h(
            "li",
            { class: "request", dataset: { held: id } },
            h(
                "div",
                { class: "item" },
                face(app, sender, "small"),
                h(
                    "span",
                    { class: "name" },
                    app.displayName(sender),
                    h("small", { class: "soft" }, ` ${agoOf(created_at)}`),
                ),
            ),
            h("blockquote", {}, content),
            attachments.map((file) => h("div", { class: "file-card" }, icon("file"), aboutFile(file))),
            h("p", { class: "soft" }, t(isHeld ? (edit ? "held_edit" : "held_by") : "flagged_by", { rule })),
            h(
                "div",
                { class: "row end" },
                isHeld
                    ? [button("reject", "reject"), button("approve", "approve", { class: "primary" })]
                    : button("reject", "dismiss"),
            ),
        );
    }

    async #decide(id, decision) {
        try {
            await this.app.session.request("POST", `moderation/queue/${id}/${decision}`);
        } catch (error) {
            this.app.showError(error);
        }
        this.#read();
    }
}
