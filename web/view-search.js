// The search panel: the field with its filters and completions, hints, results.

import { h, reconcile } from "./dom.js";
import { daysAgo, explain, language, t } from "./i18n.js";
import { resultRow } from "./message.js";
import { NAMES, complete, readSearch } from "./search.js";

const SEARCH_AFTER_MS = 250;
const RESULTS = 30;
/** The server ends a page when it has compared enough messages, full or not. So many pages follow by themselves. */
const PAGES_MAX = 20;

export class Search {
    #query = "";
    #everywhere = false;
    #found = { messages: [], state: "idle", cursor: undefined };
    /** Counts searches, so that answers to earlier ones are ignored. */
    #round = 0;
    #timer;
    /** The completions at the cursor: {start, end, options}, or undefined. */
    #offer;
    #chosen = 0;
    /** Names that were looked up on the server. */
    #lookedUp = new Set();

    constructor(app) {
        this.app = app;
    }

    /** `fresh`: the panel is empty, or showed another conversation. */
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
        const names = NAMES[language()] ?? NAMES.en;
        const chips = Object.entries(names).map(([filter, word]) =>
            h(
                "button",
                {
                    type: "button",
                    class: "chip",
                    dataset: { filter },
                    title: t(`filter_${filter}`),
                    onmousedown: (event) => event.preventDefault(),
                    onclick: () => this.#insertFilter(word),
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

    /** The names that filters can refer to; members of the open conversation come first. */
    #context() {
        const { app } = this;
        const { me, people } = app.store;
        const here = [...(app.current?.members.keys() ?? [])].map((id) => [id, app.person(id)]);
        const known = new Map([...here, ...people]);
        const conversations = app.store.sorted().map((conversation) => {
            const peer = app.store.peer(conversation);
            return {
                id: conversation.id,
                name: app.nameOf(conversation),
                username: peer && app.person(peer.id).username,
            };
        });
        return { me, people: [...known.values()], conversations, language: language(), now: new Date() };
    }

    #typed() {
        this.#query = this.input.value;
        this.#suggest();
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#find(), SEARCH_AFTER_MS);
    }

    /** Inserts a filter at the cursor, ready for its value. */
    #insertFilter(word) {
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
        this.#offer = complete(input.value, input.selectionStart, this.#context());
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
        this.#find(); // the text counts as complete now
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
        const { query, fields, hints } = readSearch(this.#query, this.#context());
        const isTyping = this.#offer !== undefined; // a name that can be completed is not unknown yet
        this.#showHints(isTyping ? [] : hints);
        const { open } = this.app;
        const conversation_id = fields.conversation_id ?? (this.#everywhere ? undefined : open.id);
        this.everywhere.disabled = fields.conversation_id !== undefined;
        if ((query === "" && fields.has === undefined) || hints.length > 0) {
            this.#found = { messages: [], state: "idle", cursor: undefined };
            this.#showFound();
            if (!isTyping) await this.#lookUpPeople(hints);
            return;
        }
        const showWhere = conversation_id !== open.id;
        let { messages, cursor } = more ? this.#found : { messages: [], cursor: undefined };
        const wanted = messages.length + RESULTS;
        for (let left = PAGES_MAX - 1; ; left -= 1) {
            let state = "found";
            let why;
            try {
                const page = await this.app.request("search_messages", {
                    query: query || undefined,
                    ...fields,
                    conversation_id,
                    cursor,
                    limit: RESULTS,
                });
                messages = [...messages, ...page.messages];
                cursor = page.next_cursor ?? undefined;
                if (cursor !== undefined && messages.length < wanted && left > 0) state = "searching";
            } catch (error) {
                state = "failed";
                why = explain(error);
            }
            if (round !== this.#round) return;
            this.#found = { messages, cursor, state, why, showWhere };
            this.app.changed("panel");
            if (state !== "searching" || !this.input.isConnected) return;
        }
    }

    #showHints(hints) {
        const texts = hints.map(({ key, values }) => t(key, values));
        this.hint.classList.toggle("warning", hints.length > 0);
        this.hint.replaceChildren(
            ...(texts.length > 0 ? texts : [t("search_hint")]).map((text) => h("span", {}, text)),
        );
    }

    /** Looks up unknown names on the server. */
    async #lookUpPeople(hints) {
        const names = hints
            .filter(({ key }) => key === "search_unknown_person")
            .map(({ values }) => values.name.replace(/^@/, ""));
        for (const name of names.filter((one) => !this.#lookedUp.has(one))) {
            this.#lookedUp.add(name);
            if ((await this.app.reads.userByUsername(name)) && this.hint.isConnected) this.#find();
        }
    }

    #showFound() {
        const { app } = this;
        const { messages, state, why, cursor, showWhere } = this.#found;
        const rows = messages.map((message) => ({
            key: `f${message.message_id}`,
            signature: [message.highlight, app.displayName(message.sender), showWhere].join("\t"),
            build: () => resultRow(app, message, showWhere),
        }));
        const nothing =
            messages.length > 0 ? undefined : t(cursor === undefined ? "nothing_found" : "nothing_found_yet");
        const note = { failed: why, searching: t("searching_older"), found: nothing }[state];
        if (note) rows.push({ key: "note", signature: note, build: () => h("p", { class: "soft nothing" }, note) });
        if (cursor !== undefined && state !== "searching")
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
