// Shown in place of messages: a welcome, the preview of a public room, or the form that asks to join a private one.

import { discover, newConversation } from "./dialogs.js";
import { h, icon } from "./dom.js";
import { t, tn } from "./i18n.js";

export class Empty {
    #signature;

    constructor(app) {
        this.app = app;
        this.element = h("div", { class: "empty" });
    }

    update(conversation) {
        const { app } = this;
        const { id, preview } = app.open;
        this.element.hidden = Boolean(conversation);
        const signature = conversation
            ? ""
            : JSON.stringify([id, preview, app.store.requested.has(id), app.store.me?.display_name, app.language]);
        if (signature === this.#signature) return; // do not interrupt typing
        this.#signature = signature;
        if (conversation) this.element.replaceChildren();
        else if (id && !preview) this.element.replaceChildren(h("p", { class: "soft" }, t("loading")));
        else if (preview?.kind === "private_room") this.element.replaceChildren(...this.#privateRoom(id));
        else if (preview) this.element.replaceChildren(...this.#publicRoom(preview));
        else this.element.replaceChildren(...this.#welcome());
    }

    #welcome() {
        const { app } = this;
        const button = (text, onclick, props = {}) => h("button", { type: "button", onclick, ...props }, text);
        return [
            h("img", { src: "web/icon.svg", alt: "", width: 56, height: 56 }),
            h("h2", {}, t("hello", { name: app.store.me?.display_name ?? "" })),
            h("p", { class: "soft" }, t("pick_one")),
            h(
                "div",
                { class: "row" },
                button(t("discover"), () => discover(app), { class: "primary" }),
                button(t("new_conversation"), () => newConversation(app)),
            ),
        ];
    }

    #publicRoom({ id, name, description, member_count }) {
        return [
            icon("hash"),
            h("h2", {}, name),
            h("p", { class: "soft" }, description ?? tn("members", member_count)),
            h(
                "button",
                { type: "button", class: "primary", id: "join", onclick: () => this.app.act.join(id) },
                t("join_room"),
            ),
        ];
    }

    #privateRoom(id) {
        const { act, store } = this.app;
        if (store.requested.has(id)) {
            return [
                icon("lock"),
                h("h2", {}, t("closed_room")),
                h("p", { class: "soft", id: "requested" }, t("requested_text")),
                h(
                    "button",
                    { type: "button", id: "cancel-request", onclick: () => act.requestToJoin(id, false) },
                    t("cancel_request"),
                ),
            ];
        }
        const text = h("textarea", {
            id: "request-text",
            rows: 3,
            maxLength: 500,
            placeholder: t("request_placeholder"),
            "aria-label": t("request_placeholder"),
        });
        const send = (event) => {
            event.preventDefault();
            act.requestToJoin(id, true, text.value.trim());
        };
        return [
            icon("lock"),
            h("h2", {}, t("closed_room")),
            h("p", { class: "soft" }, t("closed_text")),
            h(
                "form",
                { class: "form ask", onsubmit: send },
                text,
                h("button", { type: "submit", class: "primary", id: "request" }, t("request_to_join")),
            ),
        ];
    }
}
