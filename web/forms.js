// Parts of the dialogs for webhooks and bots: forms that mark the refused field, choices, secrets that are shown once.

import { buttonRow, dialog, field, h, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { refusalOf } from "./hook-words.js";
import { isAdmin } from "./roles.js";

/** Counts what needs an id of its own. */
let ids = 0;
const newId = (what) => `${what}-${++ids}`;

/** A refusal of a field that this page makes itself, without a request. */
export class FieldError extends Error {
    constructor(name, text) {
        super(text);
        this.field = name;
    }
}

/** A line for a refusal that belongs to no field. */
export function errorLine() {
    const line = h("p", { class: "error", role: "alert", hidden: true });
    return Object.assign(line, {
        show(text) {
            line.textContent = text ?? "";
            line.hidden = !text;
        },
    });
}

/** Disables a button while `work` runs, and shows its refusal in `line`. Resolves with whether it succeeded. */
export async function attempt(button, line, work) {
    button.disabled = true;
    line.show();
    let done = true;
    try {
        await work();
    } catch (error) {
        done = false;
        line.show(refusalOf(error).text);
        if (!error.code) console.error(error);
    }
    button.disabled = false;
    if (!done && button.isConnected) button.focus();
    return done;
}

/**
 * A form that runs `work(form)`. A refusal is shown at the field that it names, which gets the focus, or else above the
 * buttons.
 */
export function form({ id, submit: submitText, cancel, work }, ...parts) {
    const general = errorLine();
    const submit = h("button", { type: "submit", class: "primary" }, submitText);
    let marks = [];
    /** Takes the marks off these fields. */
    const unmark = (isGone) => {
        const gone = marks.filter(({ input }) => isGone(input));
        marks = marks.filter((mark) => !gone.includes(mark));
        for (const { input, note, describedBy } of gone) {
            note.remove();
            input.removeAttribute("aria-invalid");
            if (describedBy) input.setAttribute("aria-describedby", describedBy);
            else input.removeAttribute("aria-describedby");
        }
    };
    const mark = (input, text) => {
        const note = h("p", { class: "error", role: "alert", id: newId("error") }, text);
        const describedBy = input.getAttribute("aria-describedby");
        marks.push({ input, note, describedBy });
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", [note.id, describedBy].filter(Boolean).join(" "));
        (input.closest("fieldset, label") ?? input).after(note);
        (input.matches("fieldset") ? input.querySelector("input:not([disabled])") : input)?.focus();
        note.scrollIntoView({ block: "nearest" });
    };
    const element = h(
        "form",
        {
            class: "form",
            id,
            oninput: ({ target }) => unmark((input) => input.contains(target)),
            onsubmit: async (event) => {
                event.preventDefault();
                submit.disabled = true;
                general.show();
                unmark(() => true);
                try {
                    await work(element);
                } catch (error) {
                    const { field: name, text } =
                        error instanceof FieldError ? { field: error.field, text: error.message } : refusalOf(error);
                    const input = name && element.querySelector(`[name="${name}"]:not([hidden])`);
                    if (input) mark(input, text);
                    else general.show(text);
                    if (!input) general.scrollIntoView({ block: "nearest" });
                    if (!error.code && !(error instanceof FieldError)) console.error(error);
                }
                submit.disabled = false;
            },
        },
        parts,
        general,
        buttonRow(cancel && h("button", { type: "button", onclick: () => cancel() }, t("cancel")), submit),
    );
    return element;
}

/** Checkboxes in a group: `options` are {value, text, hint, checked}. `name` is the field of the request. */
export function checks(name, legend, options, ...before) {
    const about = options.some(({ hint }) => hint);
    return h(
        "fieldset",
        { class: about ? "checks about" : "checks", name },
        h("legend", {}, legend),
        before,
        h(
            "div",
            { class: "checks-list" },
            options.map(({ value, text, hint, checked = false }) =>
                h(
                    "label",
                    { class: "check" },
                    h("input", { type: "checkbox", value, checked }),
                    h("span", {}, text, hint && h("small", { class: "soft" }, hint)),
                ),
            ),
        ),
    );
}

/** The values of the checked boxes of a group. */
export const checkedOf = (group) => [...group.querySelectorAll("input[value]:checked")].map(({ value }) => value);

/** Conversations of the user that satisfy a test, as [id, name]. */
export function conversationsWhere(app, test) {
    const all = app.store.sorted().filter((conversation) => !conversation.archived && test(conversation));
    return all.map((conversation) => [conversation.id, app.nameOf(conversation)]);
}

/** Whether the user may create webhooks that send from a conversation. */
export const maySend = ({ kind, role }) => kind === "direct" || isAdmin(role);
/** Whether the user may create webhooks that post into a conversation. */
export const mayPost = ({ kind, role }) => kind !== "direct" && isAdmin(role);
/** Whether the user may add bots to a conversation. */
export const mayAddBots = ({ kind, role }) => kind !== "direct" && role !== "read_only";

/** A field to choose from `options`, [value, text]; `first`: a text for no value. */
export function choice(name, label, options, { first, value, hint, ...props } = {}) {
    const all = first === undefined ? options : [["", first], ...options];
    return field(
        label,
        h(
            "select",
            { name, ...props },
            all.map(([id, text]) => h("option", { value: id, selected: String(id) === String(value) }, text)),
        ),
        hint,
    );
}

/** The name of a conversation, which the user may have left. */
export function nameOfConversation(app, id) {
    const conversation = app.store.conversations.get(id);
    return conversation ? app.nameOf(conversation) : id;
}

/** A text that is read, selected and copied, not edited. */
export function copied(app, label, value, id) {
    const box = h("textarea", {
        id,
        class: "copied",
        readOnly: true,
        rows: 2,
        value,
        spellcheck: false,
        onfocus: (event) => event.target.select(),
    });
    return h(
        "div",
        { class: "with-copy" },
        field(label, box),
        iconButton("copy", `${t("copy_text")}: ${label}`, async () => {
            box.focus();
            await app.act.copy(value);
        }),
    );
}

/** Shows what is shown only once. Closing it needs a button or Escape: a click beside it must not lose the secret. */
export function showOnce(app, title, text, ...rows) {
    return dialog(
        title,
        (close) =>
            h(
                "div",
                { class: "form", id: "shown-once" },
                h("p", { class: "once" }, text),
                rows,
                buttonRow(
                    h("button", { type: "button", class: "primary", id: "done", onclick: () => close() }, t("done")),
                ),
            ),
        { wide: true, keepsOpen: true },
    );
}

/** Replaces the children of a list without losing the focus: it returns to the same button of the same row. */
export function refill(list, children, otherwise) {
    const focused = list.contains(document.activeElement) ? document.activeElement : undefined;
    const key = focused?.closest("[data-key]")?.dataset.key;
    const what = focused?.dataset.do;
    list.replaceChildren(...children);
    if (!focused) return;
    const row = [...list.children].find((child) => child.dataset?.key === key);
    const next = row?.querySelector(what ? `[data-do="${what}"]` : "button") ?? otherwise;
    next?.focus();
}

/** After a dialog: gives the focus to the button of a row, if that was replaced meanwhile, or to `otherwise`. */
export function returnTo(list, key, what, otherwise) {
    if (document.activeElement !== document.body) return;
    (list.querySelector(`[data-key="${key}"] [data-do="${what}"]`) ?? otherwise).focus();
}

/** Tabs: `names` with the keys of their texts as `tab_NAME`; `show(name)` returns the content of a tab. */
export function tabs(id, names, show, first = names[0]) {
    const body = h("div", { class: "tab", role: "tabpanel", id: `${id}-panel` });
    const bar = h("div", { class: "segments", role: "tablist", onkeydown: step });
    const buttons = names.map((name) =>
        h(
            "button",
            {
                type: "button",
                role: "tab",
                id: `${id}-${name}`,
                "aria-controls": body.id,
                dataset: { tab: name },
                onclick: () => choose(name),
            },
            t(`tab_${name}`),
        ),
    );
    bar.append(...buttons);
    function choose(name) {
        for (const button of buttons) {
            const isChosen = button.dataset.tab === name;
            button.setAttribute("aria-selected", String(isChosen));
            button.tabIndex = isChosen ? 0 : -1;
            if (isChosen) body.setAttribute("aria-labelledby", button.id);
        }
        body.replaceChildren(show(name));
    }
    function step(event) {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const at = buttons.indexOf(document.activeElement);
        if (!by || at < 0) return;
        event.preventDefault();
        const next = buttons[(at + by + buttons.length) % buttons.length];
        next.focus();
        choose(next.dataset.tab);
    }
    choose(first);
    buttons[names.indexOf(first)].autofocus = true;
    return Object.assign(h("div", { class: "form" }, bar, body), { choose });
}
