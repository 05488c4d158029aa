// The settings: availability, appearance, language, notifications, keyboard shortcuts, signing out.

import { accountLine } from "./account.js";
import { buttonRow, dialog, field, h, toast } from "./dom.js";
import { integrations } from "./integrations.js";
import { language, setLanguage, t } from "./i18n.js";
import { canNotify, setNotifications, wantsNotifications } from "./notify.js";
import { setTheme, theme } from "./theme.js";

export function settings(app) {
    const { store, session } = app;
    const choice = (legend, options, chosen, onchoose) =>
        h(
            "fieldset",
            {},
            h("legend", {}, legend),
            h(
                "div",
                { class: "segments" },
                options.map(([value, text]) =>
                    h(
                        "button",
                        {
                            type: "button",
                            "aria-pressed": String(value === chosen),
                            dataset: { value },
                            onclick: (event) => {
                                event.currentTarget.parentElement
                                    .querySelectorAll("button")
                                    .forEach((other) =>
                                        other.setAttribute("aria-pressed", String(other === event.currentTarget)),
                                    );
                                onchoose(value);
                            },
                        },
                        text,
                    ),
                ),
            ),
        );
    return dialog(t("settings"), (close) => {
        const mine = store.presence.get(store.me.id) ?? { status: "online" };
        const statusText = h("input", {
            maxLength: 100,
            value: mine.status_text ?? "",
            placeholder: t("status_placeholder"),
        });
        const notifications = h("input", {
            type: "checkbox",
            id: "notifications",
            checked: wantsNotifications(),
            disabled: !canNotify(),
            onchange: async () => {
                const wanted = notifications.checked;
                notifications.checked = await setNotifications(wanted);
                if (wanted && !notifications.checked) toast(t("notifications_off"), "bad");
            },
        });
        const speak = (tag) => {
            setLanguage(tag);
            app.changed("look", "list", "conversation", "panel", "connection", "people", "open");
            close();
            settings(app);
        };
        return h(
            "div",
            { class: "form", id: "settings" },
            accountLine(app, close),
            app.can("set_presence") &&
                choice(
                    t("presence"),
                    ["online", "away", "busy", "invisible"].map((status) => [status, t(`presence_${status}`)]),
                    mine.status,
                    (status) => app.act.presence(status, statusText.value),
                ),
            app.can("set_presence") && field(t("status_text"), statusText),
            app.can("set_presence") &&
                buttonRow(
                    h(
                        "button",
                        {
                            type: "button",
                            onclick: () =>
                                app.act.presence(store.presence.get(store.me.id)?.status ?? "online", statusText.value),
                        },
                        t("save"),
                    ),
                ),
            choice(
                t("theme"),
                [
                    ["system", t("theme_system")],
                    ["light", t("theme_light")],
                    ["dark", t("theme_dark")],
                ],
                theme(),
                setTheme,
            ),
            choice(
                t("language"),
                [
                    ["en", "English"],
                    ["fr", "Français"],
                ],
                language(),
                speak,
            ),
            h(
                "label",
                { class: "check" },
                notifications,
                h(
                    "span",
                    {},
                    t("notifications"),
                    !canNotify() && h("small", { class: "soft" }, ` ${t("notifications_missing")}`),
                ),
            ),
            h(
                "div",
                { class: "row" },
                h(
                    "button",
                    {
                        type: "button",
                        id: "my-integrations",
                        onclick: () => {
                            close();
                            integrations(app);
                        },
                    },
                    t("integrations"),
                ),
                h("button", { type: "button", onclick: () => shortcuts() }, t("shortcuts")),
                h(
                    "button",
                    {
                        type: "button",
                        class: "bad",
                        id: "sign-out",
                        onclick: async () => {
                            close();
                            app.stop();
                            await session.signOut();
                            session.onLost("signed_out");
                        },
                    },
                    t("sign_out"),
                ),
            ),
        );
    });
}

export function shortcuts() {
    const rows = [
        ["Ctrl K", "key_switch"],
        ["Alt ↑ ↓", "key_next"],
        ["Ctrl F", "key_search"],
        ["Enter", "key_send"],
        ["Shift Enter", "key_line"],
        ["↑", "key_edit"],
        ["↑ ↓", "key_walk"],
        ["R · E · P · Del", "key_message"],
        ["Esc", "key_close"],
        ["?", "key_help"],
    ];
    return dialog(t("shortcuts"), () =>
        h(
            "dl",
            { class: "keys" },
            rows.flatMap(([keys, what]) => [
                h(
                    "dt",
                    {},
                    keys.split(" ").map((key) => (key === "·" ? " · " : h("kbd", {}, key))),
                ),
                h("dd", {}, t(what)),
            ]),
        ),
    );
}
