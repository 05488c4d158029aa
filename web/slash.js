// Slash commands of bots: what a text that begins with / means, and the commands of a conversation.

/** How long the list of a conversation is kept, in milliseconds. */
const KEPT_MS = 30_000;

/**
 * What the user means: {text} is a message, {command, text} runs a command. "//x" is the message "/x", and a path such
 * as "/etc/hosts" is a message too.
 */
export function parse(content) {
    if (content.startsWith("//")) return { text: content.slice(1) };
    const [, command, text] = /^\/([a-z0-9_-]{1,32}(?:@[A-Za-z0-9_-]{3,50})?)(?:\s+([\s\S]*))?$/.exec(content) ?? [];
    return command ? { command, text: text ?? "" } : { text: content };
}

/** The commands that begin with the text before the cursor; none if that is not the beginning of one. */
export function matching(commands, before) {
    const [, begun] = /^\/([a-z0-9_-]{0,32})$/.exec(before) ?? [];
    return begun === undefined ? [] : commands.filter(({ name }) => name.startsWith(begun));
}

/** Whether several bots have a command of this name. */
const isShared = (commands, name) => commands.filter((command) => command.name === name).length > 1;

/** What the user types for a command: with the name of its bot where another bot has the same. */
export function addressed(commands, { name, bot }) {
    return isShared(commands, name) ? `/${name}@${bot.username}` : `/${name}`;
}

/** The commands of conversations, as the server lists them. */
export class Commands {
    #session;
    #lists = new Map();

    constructor(session) {
        this.#session = session;
    }

    /** Those of a conversation; an empty list while they are unknown. */
    async of(id, now = Date.now()) {
        const known = this.#lists.get(id);
        if (known && now < known.at + KEPT_MS) return known.commands;
        const answer = await this.#session.request("GET", `conversations/${id}/commands`).catch(() => undefined);
        const commands = answer?.commands ?? [];
        this.#lists.set(id, { at: now, commands });
        return commands;
    }
}
