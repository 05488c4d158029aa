// The search beside the messages: the box with its filters and what completes them, hints about what was typed, results.

import { h, reconcile } from "./dom.js";
import { daysAgo, explain, language, t } from "./i18n.js";
import { foundRow } from "./message.js";
import { NAMES, complete, readSearch } from "./search.js";

const SEARCH_AFTER_MS = 250;

export class Search {
    #query = "";
    #everywhere = false;
    #found = { messages: [], state: "idle", cursor: undefined };
    /** Counts searches: the answer to an earlier one is ignored. */
    #round = 0;
    #timer;
    /** What completes the word at the cursor: {start, end, options}, or undefined. */
    #offer;
    #chosen = 0;
    /** Names that the server was asked about. */
    #looked = new Set();

    constructor(app) {
        this.app = app;
    }

    /** `fresh`: the place is empty, or was another conversation's. */
    show(body, fresh) {
        if (fresh) this.#build(body);
        this.#showFound();
    }

    #build(body) {
        this.#found = { messages: [], state: "idle", cursor: undefined };
        this.#offer = undefined;
        this.input = h("input", {
            type: "search",
            id: "search",
            placeholder: t("search_placeholder"),
            value: this.#query,
            autocomplete: "off",
            autocapitalize: "none",
            spellcheck: false,
            role: "combobox",
            "aria-label": t("search"),
            "aria-autocomplete": "list",
            "aria-controls": "search-options",
            "aria-expanded": "false",
            "aria-describedby": "search-hint",
            oninput: () => this.#typed(),
            onclick: () => this.#suggest(),
            onkeydown: (event) => this.#key(event),
            onblur: () => setTimeout(() => document.activeElement !== this.input && this.#close(), 150),
        });
        this.options = h("ul", {
            class: "suggestions",
            id: "search-options",
            role: "listbox",
            "aria-label": t("search_filters"),
            hidden: true,
        });
        this.hint = h("p", { class: "soft hint", id: "search-hint", role: "status" });
        this.everywhere = h("input", {
            type: "checkbox",
            checked: this.#everywhere,
            onchange: () => {
                this.#everywhere = this.everywhere.checked;
                this.#find();
            },
        });
        this.results = h("div", { class: "results", id: "results" });
        const words = NAMES[language()] ?? NAMES.en;
        const chips = Object.entries(words).map(([filter, word]) =>
            h(
                "button",
                {
                    type: "button",
                    class: "chip",
                    dataset: { filter },
                    title: t(`filter_${filter}`),
                    onmousedown: (event) => event.preventDefault(),
                    onclick: () => this.#begin(word),
                },
                `${word}:`,
            ),
        );
        body.replaceChildren(
            h(
                "div",
                { class: "search-form" },
                h("div", { class: "combo" }, this.input, this.options),
                h(
                    "div",
                    { class: "chips", id: "search-filters", role: "group", "aria-label": t("search_filters") },
                    chips,
                ),
                this.hint,
                h("label", { class: "check" }, this.everywhere, t("search_everywhere")),
            ),
            this.results,
        );
        this.input.focus();
        this.#find();
    }

    /** Who and what has which name: the members of the open conversation first. */
    #world() {
        const { app } = this;
        const { me, people } = app.store;
        const here = [...(app.current?.members.keys() ?? [])].map((id) => [id, app.person(id)]);
        const known = new Map([...here, ...people]);
        const places = app.store.sorted().map((conversation) => {
            const peer = app.store.peer(conversation);
            return {
                id: conversation.id,
                name: app.nameOf(conversation),
                username: peer && app.person(peer.id).username,
            };
        });
        return { me, people: [...known.values()], places, language: language(), now: new Date() };
    }

    #typed() {
        this.#query = this.input.value;
        this.#suggest();
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#find(), SEARCH_AFTER_MS);
    }

    /** Puts a filter's word where the cursor is, ready for its value. */
    #begin(word) {
        const { input } = this;
        const { value, selectionStart, selectionEnd } = input;
        const before = /(?:^|\s)$/.test(value.slice(0, selectionStart)) ? "" : " ";
        const after = /^(?:\s|$)/.test(value.slice(selectionEnd)) ? "" : " ";
        input.focus();
        input.setRangeText(`${before}${word}:${after}`, selectionStart, selectionEnd, "end");
        input.setSelectionRange(input.selectionStart - after.length, input.selectionStart - after.length);
        this.#typed();
    }

    #suggest(chosen = 0) {
        const { input, options } = this;
        this.#offer = complete(input.value, input.selectionStart, this.#world());
        this.#chosen = chosen;
        const offered = this.#offer?.options ?? [];
        options.hidden = offered.length === 0;
        input.setAttribute("aria-expanded", String(!options.hidden));
        if (options.hidden) input.removeAttribute("aria-activedescendant");
        else input.setAttribute("aria-activedescendant", `search-option-${chosen}`);
        options.replaceChildren(
            ...offered.map(({ insert, label, note, days }, at) =>
                h(
                    "li",
                    {
                        role: "option",
                        id: `search-option-${at}`,
                        "aria-selected": String(at === chosen),
                        dataset: { insert },
                        onmousedown: (event) => event.preventDefault(),
                        onclick: () => this.#complete(at),
                    },
                    h("strong", {}, label),
                    h("span", { class: "soft" }, ` ${days === undefined ? note : daysAgo(days)}`),
                ),
            ),
        );
    }

    #close() {
        if (!this.#offer || !this.input.isConnected) return;
        this.#offer = undefined;
        this.options.hidden = true;
        this.input.setAttribute("aria-expanded", "false");
        this.input.removeAttribute("aria-activedescendant");
        this.#find(); // what was still being typed is done
    }

    #complete(at) {
        const { start, end, options } = this.#offer;
        const rest = this.input.value.slice(end);
        this.input.setRangeText(options[at].insert + (rest.startsWith(" ") ? "" : " "), start, end, "end");
        if (rest.startsWith(" "))
            this.input.setSelectionRange(this.input.selectionStart + 1, this.input.selectionStart + 1);
        this.input.focus();
        this.#typed();
    }

    #key(event) {
        if (event.isComposing) return;
        const { key, shiftKey } = event;
        const count = this.#offer?.options.length ?? 0;
        if (count > 0 && (["ArrowDown", "ArrowUp", "Enter", "Escape"].includes(key) || (key === "Tab" && !shiftKey))) {
            event.preventDefault();
            event.stopPropagation();
            if (key === "Escape") this.#close();
            else if (key === "Enter" || key === "Tab") this.#complete(this.#chosen);
            else this.#suggest((this.#chosen + (key === "ArrowDown" ? 1 : -1) + count) % count);
        } else if (key === "Enter") this.#find();
        else if (key === "ArrowDown") {
            this.results.querySelector("a")?.focus();
            event.preventDefault();
        }
    }

    async #find(more = false) {
        clearTimeout(this.#timer);
        const round = ++this.#round;
        const { query, fields, hints } = readSearch(this.#query, this.#world());
        const isTyping = this.#offer !== undefined; // a name that is offered is not unknown yet
        this.#showHints(isTyping ? [] : hints);
        const { open } = this.app;
        const conversation_id = fields.conversation_id ?? (this.#everywhere ? undefined : open.id);
        this.everywhere.disabled = fields.conversation_id !== undefined;
        if (query === "" || hints.length > 0) {
            this.#found = { messages: [], state: "idle", cursor: undefined };
            this.#showFound();
            if (!isTyping) await this.#lookFor(hints);
            return;
        }
        const before = more ? this.#found : { messages: [], cursor: undefined };
        try {
            const page = await this.app.ask("search_messages", {
                query,
                ...fields,
                conversation_id,
                cursor: before.cursor,
                limit: 30,
            });
            if (round !== this.#round) return;
            const showWhere = conversation_id !== open.id;
            this.#found = {
                messages: [...before.messages, ...page.messages],
                cursor: page.next_cursor ?? undefined,
                state: "found",
                showWhere,
            };
        } catch (error) {
            if (round !== this.#round) return;
            this.#found = { messages: [], cursor: undefined, state: "failed", why: explain(error) };
        }
        this.app.changed("panel");
    }

    #showHints(hints) {
        const words = hints.map(({ key, values }) => t(key, values));
        this.hint.classList.toggle("warning", hints.length > 0);
        this.hint.replaceChildren(
            ...(words.length > 0 ? words : [t("search_hint")]).map((text) => h("span", {}, text)),
        );
    }

    /** Somebody who is not known here may be known to the server. */
    async #lookFor(hints) {
        const names = hints
            .filter(({ key }) => key === "search_unknown_person")
            .map(({ values }) => values.name.replace(/^@/, ""));
        for (const name of names.filter((one) => !this.#looked.has(one))) {
            this.#looked.add(name);
            if ((await this.app.reads.personCalled(name)) && this.hint.isConnected) this.#find();
        }
    }

    #showFound() {
        const { app } = this;
        const { messages, state, why, cursor, showWhere } = this.#found;
        const rows = messages.map((message) => ({
            key: `f${message.message_id}`,
            signature: [message.highlight, app.called(message.sender), showWhere].join("\t"),
            build: () => foundRow(app, message, showWhere),
        }));
        const note =
            state === "failed" ? why : state === "found" && messages.length === 0 ? t("nothing_found") : undefined;
        if (note) rows.push({ key: "note", signature: note, build: () => h("p", { class: "soft nothing" }, note) });
        if (cursor !== undefined)
            rows.push({
                key: `more ${cursor}`,
                signature: "",
                build: () =>
                    h(
                        "button",
                        { type: "button", class: "link more", onclick: () => this.#find(true) },
                        t("load_older"),
                    ),
            });
        reconcile(this.results, rows);
    }
}
