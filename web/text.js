// Formats the text of messages as nodes: paragraphs, `code`, ```blocks```, **strong**, *emphasis*, ~~strikethrough~~,
// > quotes, links and mentions. Markers without a counterpart stay as typed. Text never becomes HTML.

import { h } from "./dom.js";

/** `context`: {isMention(name) → "me", "other" or undefined}. */
export function format(content, context) {
    const parts = content.split(/```(?:[a-z0-9+-]*\n)?([\s\S]*?)```/g);
    return parts.flatMap((part, at) => {
        if (at % 2 === 1) return [h("pre", {}, h("code", {}, part.replace(/\n$/, "")))];
        return part.trim() === "" ? [] : blocks(part.replace(/^\n|\n$/g, ""), context);
    });
}

function blocks(text, context) {
    const found = [];
    for (const line of text.split("\n")) {
        const kind = line.startsWith("> ") ? "blockquote" : "p";
        const last = found.at(-1);
        const nodes = inline(kind === "p" ? line : line.slice(2), context);
        if (last?.localName === kind) last.append(document.createElement("br"), ...nodes);
        else found.push(h(kind, {}, ...nodes));
    }
    return found;
}

const TOKENS = new RegExp(
    [
        "(`[^`\\n]+`)",
        "(\\*\\*[^*\\s](?:[^*]*[^*\\s])?\\*\\*)",
        "((?<![\\w*])\\*[^*\\s](?:[^*]*[^*\\s])?\\*(?![\\w*]))",
        "(~~[^~\\s](?:[^~]*[^~\\s])?~~)",
        '(https?:\\/\\/[^\\s<>"]+[^\\s<>".,;:!?)\\]\'*])',
        "((?<![A-Za-z0-9_@.-])@[A-Za-z0-9_-]{3,50})",
    ].join("|"),
    "g",
);

function inline(text, context) {
    const nodes = [];
    let from = 0;
    for (const match of text.matchAll(TOKENS)) {
        const [whole, code, strong, emphasis, struck, link, mention] = match;
        const node = code
            ? h("code", {}, code.slice(1, -1))
            : strong
              ? h("strong", {}, ...inline(strong.slice(2, -2), context))
              : emphasis
                ? h("em", {}, ...inline(emphasis.slice(1, -1), context))
                : struck
                  ? h("s", {}, ...inline(struck.slice(2, -2), context))
                  : link
                    ? h("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, link)
                    : mentioned(mention, context);
        if (!node) continue;
        nodes.push(text.slice(from, match.index), node);
        from = match.index + whole.length;
    }
    nodes.push(text.slice(from));
    return nodes.filter((node) => node !== "");
}

function mentioned(text, context) {
    const whom = context.isMention(text.slice(1));
    return whom ? h("span", { class: `mention ${whom}` }, text) : undefined;
}

/** Nodes for a search result, whose matches stand between U+E000 and U+E001. */
export function highlighted(text) {
    return text.split("\ue000").flatMap((part, at) => {
        if (at === 0) return [part];
        const [match, ...rest] = part.split("\ue001");
        return [h("mark", {}, match), rest.join("")];
    });
}

/** What a message says: its text, or the names of its files. */
export function summaryOf({ content, attachments = [] }) {
    return content || attachments.map(({ name }) => name).join(", ");
}

/** The beginning of a text, on one line. */
export function excerpt(content, length = 140) {
    const line = content.replace(/\s+/g, " ").trim();
    return [...line].length > length ? `${[...line].slice(0, length).join("")}…` : line;
}
