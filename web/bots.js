// Bots: accounts that programs use. The list, a new bot, and the dialog of one bot with its profile, tokens, commands
// and conversations.

import { avatar, buttonRow, confirm, dialog, field, h, toast } from "./dom.js";
import { botCommands } from "./bot-commands.js";
import { botTokens } from "./bot-tokens.js";
import { attempt, choice, conversationsWhere, errorLine, form, mayAddBots, refill, returnTo, tabs } from "./forms.js";
import { refusalOf } from "./hook-words.js";
import { agoOf, t, tn } from "./i18n.js";
import { face } from "./people.js";
import { showProfile } from "./profile.js";

/** The address of a bot's resources. */
export const botPath = ({ user_id }) => `bots/${user_id}`;

/** The bots and commands of a conversation, or the user's bots. */
export function bots(app, conversation) {
    const { session } = app;
    const error = errorLine();
    const list = h("ul", { class: "items cards", id: "bot-list" }, h("li", { class: "soft" }, t("loading")));
    const create = h(
        "button",
        { type: "button", class: "primary", id: "new-bot", hidden: true, onclick: () => newBot() },
        t("bot_new"),
    );
    const commands = conversation && offered(app, conversation);
    const others = h("section", { class: "form", id: "other-bots", hidden: true });
    async function read() {
        commands?.read();
        try {
            const { bots: mine } = await session.request("GET", "bots");
            refill(list, mine.length > 0 ? mine.map(row) : [nothing()], create);
            create.hidden = false;
            showOthers(app, conversation, mine, others);
        } catch (reason) {
            const text = reason.status === 404 ? t("bots_missing") : refusalOf(reason).text;
            list.replaceChildren(h("li", { class: "soft nothing" }, text));
        }
        list.dataset.ready = "true";
    }
    const nothing = () =>
        h("li", { class: "nothing soft" }, h("strong", {}, t("bot_none")), h("p", {}, t("bot_none_text")));
    const row = (bot) => {
        const { display_name: name, username } = bot;
        const manageButton = h(
            "button",
            {
                type: "button",
                dataset: { do: "manage" },
                "aria-label": `${t("manage")}: ${name}`,
                onclick: async () => {
                    await manage(app, bot);
                    await read();
                    returnTo(list, bot.user_id, "manage", create);
                },
            },
            t("manage"),
        );
        return h(
            "li",
            { class: "card hook", dataset: { key: bot.user_id, bot: username } },
            avatar({ id: bot.user_id, name, url: bot.avatar_url }, "small"),
            h(
                "div",
                { class: "name" },
                h("strong", {}, name),
                h(
                    "small",
                    { class: "soft" },
                    [`@${username}`, tn("bot_tokens", bot.tokens_count), tn("bot_commands", bot.commands_count)].join(
                        " · ",
                    ),
                ),
            ),
            h(
                "div",
                { class: "row" },
                conversation && mayAddBots(conversation) && membership(app, bot, conversation, error, read),
                manageButton,
            ),
        );
    };
    async function newBot() {
        const made = await dialog(t("bot_new"), (close) => newForm(app, close));
        if (!made) return;
        toast(t("bot_created", { name: made.display_name }));
        await read();
        await manage(app, made, "tokens");
        await read();
        returnTo(list, made.user_id, "manage", create);
    }
    read();
    return h(
        "div",
        { class: "form", id: "bots" },
        commands?.element,
        h("p", { class: "soft" }, t(aboutOf(conversation))),
        list,
        error,
        buttonRow(create),
        others,
    );
}

/** The members of a conversation that are bots of others, or of incoming webhooks. Their names open the profiles. */
function showOthers(app, conversation, mine, section) {
    const ids = new Set(mine.map(({ user_id }) => user_id));
    const found = [...(conversation?.members.values() ?? [])].filter(
        ({ bot, id }) => (bot || app.person(id).isBot) && !ids.has(id),
    );
    section.hidden = found.length === 0;
    section.replaceChildren(
        h("h2", {}, t("bot_others")),
        h(
            "ul",
            { class: "items" },
            found.map((member) =>
                h(
                    "li",
                    {},
                    h(
                        "button",
                        { type: "button", class: "item", onclick: () => showProfile(app, member.id) },
                        face(app, member, "small"),
                        h(
                            "span",
                            { class: "name" },
                            app.displayName(member),
                            h("small", { class: "soft" }, ` @${app.person(member.id).username}`),
                        ),
                    ),
                ),
            ),
        ),
    );
}

function aboutOf(conversation) {
    if (!conversation) return "bot_about";
    return mayAddBots(conversation) ? "bot_about_here" : "bot_not_here";
}

/** The commands that members of a conversation can use; `read` reads them again. */
function offered(app, { id }) {
    const list = h("ul", { class: "items cards", id: "offered-commands" });
    const element = h("section", { class: "form plain", hidden: true }, h("h2", {}, t("commands_here")), list);
    const row = ({ name, description, usage, bot }) =>
        h(
            "li",
            { class: "card" },
            h(
                "div",
                { class: "name" },
                h("code", {}, ["/", name, usage && ` ${usage}`]),
                h("small", { class: "soft" }, [description, bot.display_name].filter(Boolean).join(" · ")),
            ),
        );
    async function read() {
        const answer = await app.session.request("GET", `conversations/${id}/commands`).catch(() => undefined);
        if (!answer) return; // the list of bots shows the error
        const rows = answer.commands.map(row);
        list.replaceChildren(...(rows.length > 0 ? rows : [h("li", { class: "soft" }, t("commands_none_here"))]));
        element.hidden = false;
    }
    return { element, read };
}

/** The button that adds a bot to a conversation or removes it. Its members are known when the conversation is open. */
function membership(app, bot, conversation, error, done) {
    const isIn = conversation.members.has(bot.user_id);
    const element = h(
        "button",
        {
            type: "button",
            dataset: { do: "member" },
            class: isIn ? "bad" : "",
            "aria-label": `${t(isIn ? "remove" : "add")}: ${bot.display_name}`,
            onclick: () =>
                attempt(element, error, async () => {
                    await setMember(app, bot, conversation.id, !isIn);
                    // The event about the member may arrive after the answer.
                    if (isIn) conversation.members.delete(bot.user_id);
                    else conversation.members.set(bot.user_id, { id: bot.user_id, role: "member", ...bot });
                    await done();
                }),
        },
        t(isIn ? "remove" : "add"),
    );
    return element;
}

async function setMember(app, bot, conversationId, isMember) {
    const path = `${botPath(bot)}/conversations`;
    if (isMember) await app.session.request("POST", path, { conversation_id: conversationId });
    else await app.session.request("DELETE", `${path}/${conversationId}`);
    toast(t(isMember ? "bot_added" : "bot_removed", { name: bot.display_name }));
}

const nameField = (value = "") =>
    field(
        t("display_name"),
        h("input", {
            name: "display_name",
            id: "bot-name",
            required: true,
            maxLength: 100,
            value,
            autocomplete: "off",
        }),
    );
const bioField = (value) =>
    field(
        t("bot_bio"),
        h("textarea", { name: "bio", id: "bot-bio", maxLength: 500, rows: 2, value: value ?? "" }),
        t("bot_bio_text"),
    );
const pictureField = (value) =>
    field(
        t("avatar_url"),
        h("input", {
            name: "avatar_url",
            id: "bot-picture",
            type: "url",
            maxLength: 2000,
            placeholder: "https://",
            autocomplete: "off",
            value: value ?? "",
        }),
        t("avatar_text"),
    );

function newForm(app, close) {
    const username = h("input", {
        name: "username",
        id: "bot-username",
        required: true,
        maxLength: 50,
        autocomplete: "off",
        autocapitalize: "none",
        spellcheck: false,
    });
    const work = async ({ elements }) => {
        const bio = elements.bio.value.trim();
        close(
            await app.session.request("POST", "bots", {
                username: username.value.trim(),
                display_name: elements.display_name.value.trim(),
                ...(bio && { bio }),
            }),
        );
    };
    return form(
        { id: "bot-form", submit: t("create"), cancel: close, work },
        nameField(),
        field(t("username"), username, t("username_rule")),
        bioField(),
    );
}

/** The dialog of one bot. */
function manage(app, bot, tab = "profile") {
    return dialog(
        bot.display_name,
        (close) => {
            const views = {
                profile: () => profile(app, bot, close),
                tokens: () => botTokens(app, bot),
                commands: () => botCommands(app, bot),
                places: () => places(app, bot),
            };
            const bar = tabs("bot", Object.keys(views), (name) => views[name](), tab);
            return h("div", { id: "bot", dataset: { bot: bot.username } }, bar);
        },
        { wide: true },
    );
}

function profile(app, bot, close) {
    const error = errorLine();
    const work = async ({ elements }) => {
        const now = {
            display_name: elements.display_name.value.trim(),
            bio: elements.bio.value.trim() || null,
            avatar_url: elements.avatar_url.value.trim() || null,
        };
        const changed = Object.fromEntries(Object.entries(now).filter(([key, value]) => value !== bot[key]));
        Object.assign(bot, await app.session.request("PATCH", botPath(bot), changed));
        const heading = remove.closest("dialog").querySelector("header h2");
        heading.textContent = title.textContent = bot.display_name;
        toast(t("saved"));
    };
    const title = h("strong", {}, bot.display_name);
    const remove = h(
        "button",
        { type: "button", class: "bad", id: "delete-bot", onclick: () => attempt(remove, error, removed) },
        t("bot_delete"),
    );
    async function removed() {
        const labels = { cancel: t("cancel"), label: t("bot_delete") };
        const title = t("bot_delete_title", { name: bot.display_name });
        if (!(await confirm(title, t("bot_delete_text"), labels))) return;
        await app.session.request("DELETE", botPath(bot));
        toast(t("bot_deleted", { name: bot.display_name }));
        close();
    }
    return h(
        "div",
        { class: "form" },
        h(
            "div",
            { class: "profile-head" },
            avatar({ id: bot.user_id, name: bot.display_name, url: bot.avatar_url }, "large"),
            h(
                "div",
                {},
                title,
                h("span", { class: "soft" }, `@${bot.username} · ${t("bot_since", { when: agoOf(bot.created_at) })}`),
            ),
        ),
        form(
            { id: "bot-profile-form", submit: t("save"), work },
            nameField(bot.display_name),
            bioField(bot.bio),
            pictureField(bot.avatar_url),
        ),
        h(
            "section",
            { class: "form" },
            h("h2", {}, t("bot_delete")),
            h("p", { class: "soft" }, t("bot_delete_text")),
            error,
            buttonRow(remove),
        ),
    );
}

/** Most conversations whose members are read to find the bot. */
const PLACES_MAX = 50;

/** Where the bot is a member, and where it can be added. */
function places(app, bot) {
    const error = errorLine();
    const list = h("ul", { class: "items cards", id: "bot-place-list" });
    const adding = h("div", {});
    let isKnown = false;
    const known = () => app.store.sorted().filter(({ members }) => members.has(bot.user_id));
    function show() {
        const here = known();
        refill(
            list,
            here.length > 0
                ? here.map(row)
                : [h("li", { class: "nothing soft" }, t(isKnown ? "bot_nowhere" : "loading"))],
            adding.querySelector("select, button"),
        );
        const free = conversationsWhere(app, (one) => mayAddBots(one) && !one.members.has(bot.user_id));
        adding.replaceChildren(
            free.length > 0
                ? form(
                      {
                          id: "bot-place",
                          submit: t("add"),
                          work: async ({ elements }) => {
                              await set(app.store.conversations.get(elements.conversation_id.value), true);
                              adding.querySelector("select, button")?.focus();
                          },
                      },
                      choice("conversation_id", t("bot_add_to"), free, { id: "bot-conversation" }),
                  )
                : h("p", { class: "soft" }, t("bot_cannot_add")),
        );
    }
    async function set(conversation, isMember) {
        await setMember(app, bot, conversation.id, isMember);
        if (isMember) conversation.members.set(bot.user_id, { id: bot.user_id, role: "member", ...bot });
        else conversation.members.delete(bot.user_id);
        show();
    }
    const row = (conversation) => {
        const remove = h(
            "button",
            {
                type: "button",
                dataset: { do: "remove" },
                "aria-label": `${t("remove")}: ${app.nameOf(conversation)}`,
                onclick: () => attempt(remove, error, () => set(conversation, false)),
            },
            t("remove"),
        );
        return h(
            "li",
            { class: "card", dataset: { key: conversation.id } },
            h("div", { class: "name" }, h("strong", {}, app.nameOf(conversation))),
            mayAddBots(conversation) && remove,
        );
    };
    /** Reads the members of conversations that were not open yet. */
    async function look() {
        const unread = app.store.sorted().filter(({ kind, hasMembers }) => kind !== "direct" && !hasMembers);
        for (const { id } of unread.slice(0, PLACES_MAX)) {
            if (!list.isConnected) return;
            await app.reads.members(id).catch(() => {});
        }
        isKnown = true;
        show();
    }
    show();
    queueMicrotask(look); // when the list is in the page
    return h("div", { class: "form" }, h("p", { class: "soft" }, t("bot_places_text")), list, error, adding);
}
