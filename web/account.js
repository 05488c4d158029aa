// The account dialog: profile, password, sessions, blocked users. Fields that an older server does not return (bio,
// read receipts) are left out.

import { avatar, buttonRow, confirm, dialog, field, h, toast } from "./dom.js";
import { agoOf, explain, t } from "./i18n.js";
import { isUploaded, ownPicture } from "./own-picture.js";
import { setPictures, showsPictures } from "./pictures.js";
import { twoFactor } from "./two-factor.js";

export const editProfile = (app) => account(app, "profile");

/** `tab`: "profile", "security" or "blocked". */
export function account(app, tab = "profile") {
    return dialog(
        t("account"),
        (close) => {
            const tabs = h("div", { class: "segments", role: "tablist" });
            const body = h("div", { class: "tab" });
            const views = { profile, security, blocked };
            function show(name) {
                const names = ["profile", "security", ...(app.can("list_blocks") ? ["blocked"] : [])];
                tabs.replaceChildren(
                    ...names.map((other) =>
                        h(
                            "button",
                            {
                                type: "button",
                                role: "tab",
                                "aria-selected": String(other === name),
                                id: `account-${other}`,
                                onclick: () => show(other),
                            },
                            t(`tab_${other}`),
                        ),
                    ),
                );
                body.replaceChildren(views[name](app, close));
            }
            show(tab);
            return h("div", { class: "form", id: "account" }, tabs, body);
        },
        { wide: true },
    );
}

/** An element for a form's error, and `attempt`, which runs the form's work and shows its error. */
function formAttempt() {
    const error = h("p", { class: "error", role: "alert", hidden: true });
    const attempt = async (button, work) => {
        button.disabled = true;
        error.hidden = true;
        try {
            await work();
        } catch (reason) {
            error.textContent = explain(reason);
            error.hidden = false;
        }
        button.disabled = false;
    };
    return { error, attempt };
}

function profile(app) {
    const { session, store } = app;
    const form = h("form", { class: "form", onsubmit: save }, h("p", { class: "soft" }, t("loading")));
    const { error, attempt } = formAttempt();
    const name = h("input", {
        id: "edit-name",
        required: true,
        maxLength: 100,
        autocomplete: "name",
        oninput: preview,
    });
    const picture = h("input", {
        id: "edit-avatar",
        type: "url",
        maxLength: 2000,
        placeholder: "https://",
        autocomplete: "off",
        oninput: preview,
    });
    const bio = h("textarea", { id: "edit-bio", maxLength: 500, rows: 3 });
    const receipts = h("input", { id: "edit-receipts", type: "checkbox" });
    const mayAdd = h(
        "select",
        { id: "edit-group-invitations" },
        ["everyone", "contacts", "nobody"].map((who) => h("option", { value: who }, t(`may_add_${who}`))),
    );
    const looks = h("span", { class: "with-presence" });
    const submit = h("button", { type: "submit", class: "primary", id: "save-profile" }, t("save"));
    let me;
    /** Uploads a picture; undefined on a server that takes the address of one. */
    let uploader;

    function preview() {
        if (uploader) return uploader.preview(name.value);
        looks.replaceChildren(avatar({ id: store.me.id, name: name.value || "?", url: picture.value.trim() }, "large"));
    }

    async function save(event) {
        event.preventDefault();
        const now = { display_name: name.value.trim() };
        if (!uploader) now.avatar_url = picture.value.trim() || null;
        if ("bio" in me) now.bio = bio.value.trim() || null;
        if ("read_receipts" in me) now.read_receipts = receipts.checked ? "public" : "private";
        if ("group_invitations" in me) now.group_invitations = mayAdd.value;
        const changed = Object.fromEntries(Object.entries(now).filter(([key, value]) => value !== me[key]));
        await attempt(submit, async () => {
            remember(await session.request("PATCH", "users/me", changed));
            toast(t("saved"));
        });
    }

    function remember(profile) {
        me = profile;
        session.remember(me);
        store.rememberUser(me);
        app.apply([{ kind: "profile" }]);
    }

    session.request("GET", "users/me").then(
        (answer) => {
            me = answer;
            uploader = app.sendsFiles || isUploaded(me) ? ownPicture(app, me, remember) : undefined;
            name.value = me.display_name;
            picture.value = me.avatar_url ?? "";
            bio.value = me.bio ?? "";
            receipts.checked = me.read_receipts === "public";
            mayAdd.value = me.group_invitations ?? "everyone";
            preview();
            form.replaceChildren(
                uploader?.element ??
                    h("div", { class: "profile-head" }, looks, h("span", { class: "soft" }, `@${me.username}`)),
                field(t("display_name"), name),
                uploader ? "" : field(t("avatar_url"), picture, t("avatar_text")),
                "bio" in me ? field(t("bio"), bio) : "",
                "read_receipts" in me ? h("label", { class: "check" }, receipts, t("read_receipts")) : "",
                "group_invitations" in me ? field(t("may_add"), mayAdd, t("may_add_text")) : "",
                error,
                buttonRow(submit),
            );
            name.focus();
        },
        (reason) => form.replaceChildren(h("p", { class: "error" }, explain(reason))),
    );
    return form;
}

function security(app, close) {
    return h("div", { class: "form" }, passwordForm(app), twoFactor(app), pictures(app), signIns(app, close));
}

/** A setting of this device; it takes effect at once. */
function pictures(app) {
    const box = h("input", {
        id: "pictures",
        type: "checkbox",
        checked: showsPictures(),
        "aria-describedby": "pictures-text",
        onchange: () => {
            setPictures(box.checked);
            app.changed("look", "list", "people", "conversation", "panel");
        },
    });
    return h(
        "section",
        { class: "form" },
        h("h2", {}, t("privacy")),
        h("label", { class: "check" }, box, t("pictures")),
        h("small", { class: "soft", id: "pictures-text" }, t("pictures_text")),
    );
}

function passwordForm(app) {
    const { error, attempt } = formAttempt();
    const current = h("input", {
        id: "current-password",
        type: "password",
        required: true,
        maxLength: 128,
        autocomplete: "current-password",
    });
    const fresh = h("input", {
        id: "new-password",
        type: "password",
        required: true,
        minLength: 8,
        maxLength: 128,
        autocomplete: "new-password",
    });
    const submit = h("button", { type: "submit", id: "save-password" }, t("change_password"));
    const save = (event) => {
        event.preventDefault();
        return attempt(submit, async () => {
            await app.session.request("POST", "auth/password", {
                current_password: current.value,
                new_password: fresh.value,
            });
            form.reset();
            toast(t("password_changed"));
            form.dispatchEvent(new CustomEvent("changed", { bubbles: true }));
        });
    };
    const form = h(
        "form",
        { class: "form", onsubmit: save },
        // Tells password managers whose password this is.
        h("input", {
            type: "text",
            hidden: true,
            readOnly: true,
            autocomplete: "username",
            value: app.store.me.username,
        }),
        field(t("current_password"), current),
        field(t("new_password"), fresh, t("password_text")),
        error,
        buttonRow(submit),
    );
    return form;
}

function signIns(app, close) {
    const { session } = app;
    const { error, attempt } = formAttempt();
    const list = h("ul", { class: "items cards", id: "sessions" });
    const row = (one) =>
        h(
            "li",
            { class: "card", dataset: { session: one.id } },
            h(
                "div",
                { class: "name" },
                h("strong", {}, one.device_name),
                h(
                    "small",
                    { class: "soft" },
                    [one.current ? t("this_one") : t("last_used", { when: agoOf(one.last_used_at) }), one.ip].join(
                        " · ",
                    ),
                ),
            ),
            !one.current &&
                h(
                    "button",
                    {
                        type: "button",
                        dataset: { revoke: one.id },
                        onclick: ({ currentTarget }) =>
                            attempt(currentTarget, async () => {
                                await session.request("DELETE", `auth/sessions/${one.id}`);
                                await read();
                            }),
                    },
                    t("sign_out"),
                ),
        );
    async function read() {
        const { sessions } = await session.request("GET", "auth/sessions");
        list.replaceChildren(
            ...[...sessions]
                .sort((a, b) => b.current - a.current || b.last_used_at.localeCompare(a.last_used_at))
                .map(row),
        );
    }
    const everywhere = h(
        "button",
        {
            type: "button",
            class: "bad",
            id: "sign-out-everywhere",
            onclick: async () => {
                const sure = await confirm(t("everywhere_title"), t("everywhere_text"), {
                    cancel: t("cancel"),
                    label: t("sign_out_everywhere"),
                });
                if (!sure) return;
                await attempt(everywhere, async () => {
                    await session.request("POST", "auth/logout-all");
                    close();
                    app.stop();
                    session.forget();
                });
            },
        },
        t("sign_out_everywhere"),
    );
    attempt(everywhere, read);
    const element = h("section", { class: "form" }, h("h2", {}, t("sign_ins")), list, error, buttonRow(everywhere));
    // A new password ends the other sessions.
    queueMicrotask(() => element.parentElement?.addEventListener("changed", () => attempt(everywhere, read)));
    return element;
}

function blocked(app) {
    const list = h("ul", { class: "items cards", id: "blocked" });
    const row = (user) => {
        const person = app.person(user.id);
        return h(
            "li",
            { class: "card" },
            avatar({ id: user.id, name: person.display_name, url: person.avatar_url }, "small"),
            h(
                "div",
                { class: "name" },
                h("strong", {}, person.display_name),
                h("small", { class: "soft" }, `@${person.username}`),
            ),
            h(
                "button",
                {
                    type: "button",
                    dataset: { unblock: user.id },
                    onclick: async () => {
                        if (await app.act.block(person, false)) show();
                    },
                },
                t("unblock"),
            ),
        );
    };
    function show() {
        const users = [...app.store.blocked.values()];
        list.replaceChildren(
            ...users.map(row),
            users.length === 0 ? h("p", { class: "soft" }, t("nobody_blocked")) : "",
        );
    }
    show();
    app.reads.blocks().then(show);
    return h("div", { class: "form" }, h("p", { class: "soft" }, t("blocked_text")), list);
}

/** The line in the settings that opens the account dialog. */
export function accountLine(app, close) {
    const { me } = app.store;
    return h(
        "div",
        { class: "profile-head" },
        avatar({ id: me.id, name: me.display_name, url: me.avatar_url }, "large"),
        h("div", {}, h("strong", {}, me.display_name), h("span", { class: "soft" }, `@${me.username}`)),
        h(
            "button",
            {
                type: "button",
                id: "account-open",
                onclick: () => {
                    close();
                    account(app);
                },
            },
            t("account"),
        ),
    );
}
