// The sign-in page: sign in, sign up, and the code from an authenticator app.

import { h } from "./dom.js";
import { showCaptcha } from "./captcha.js";
import { explain, language, setLanguage, t } from "./i18n.js";
import { codeField, warnOfFewCodes } from "./two-factor.js";

/** Shows the form in `root`; calls `entered` after signing in. `reason`: why the last session ended. */
export function showSignIn(root, session, entered, reason) {
    let mode = "in";
    /** The response of the captcha's widget. */
    let captcha;
    /** The error that asks for a code after the right password, with its challenge. */
    let asked;

    const field = (name, label, props = {}) =>
        h("label", {}, h("span", {}, label), h("input", { name, required: true, autocapitalize: "none", ...props }));

    const render = (message, kept = {}) => {
        if (asked) return renderCode(message);
        const isNew = mode === "up";
        const error = h("p", { class: "error", role: "alert", id: "sign-error", hidden: !message }, message ?? "");
        const form = h(
            "form",
            { id: "sign", class: "sign", onsubmit: submit },
            h("img", { src: "web/icon.svg", alt: "", width: 44, height: 44 }),
            h("h1", {}, t(isNew ? "sign_up_title" : "sign_in_title")),
            h("p", { class: "soft" }, t("tagline")),
            error,
            isNew
                ? [
                      field("username", t("username"), {
                          autocomplete: "username",
                          minLength: 3,
                          maxLength: 50,
                          pattern: "[A-Za-z0-9_\\-]+",
                          title: t("username_rule"),
                          value: kept.username ?? "",
                      }),
                      field("display_name", t("display_name"), {
                          autocomplete: "name",
                          required: false,
                          maxLength: 100,
                          placeholder: t("optional"),
                          value: kept.display_name ?? "",
                      }),
                      field("email", t("email"), { type: "email", autocomplete: "email", value: kept.email ?? "" }),
                  ]
                : field("login", t("login"), { autocomplete: "username", value: kept.login ?? "" }),
            field("password", t("password"), {
                type: "password",
                autocomplete: isNew ? "new-password" : "current-password",
                minLength: isNew ? 8 : 1,
                maxLength: 128,
                value: kept.password ?? "",
            }),
            isNew ? h("div", { class: "captcha", id: "captcha", hidden: true }) : "",
            h("button", { class: "primary", type: "submit" }, t(isNew ? "sign_up" : "sign_in")),
            h(
                "p",
                { class: "soft" },
                t(isNew ? "have_account" : "no_account"),
                " ",
                h(
                    "button",
                    { type: "button", class: "link", id: "sign-switch", onclick: swap },
                    t(isNew ? "sign_in" : "sign_up"),
                ),
            ),
            h(
                "p",
                { class: "languages" },
                [
                    ["en", "English"],
                    ["fr", "Français"],
                ].map(([tag, name]) =>
                    h(
                        "button",
                        {
                            type: "button",
                            class: "link",
                            "aria-pressed": String(language() === tag),
                            onclick: () => speak(tag),
                        },
                        name,
                    ),
                ),
            ),
        );
        root.replaceChildren(h("main", { class: "sign-in-page" }, form));
        const first = [...form.elements].find((input) => input.matches("input") && !input.value);
        first?.focus();
        if (isNew) askForCaptcha(form.querySelector("#captcha"));
        return undefined;
    };

    /** Shows the captcha that the server asks for, if it does. A response counts once, so each form has a widget. */
    async function askForCaptcha(box) {
        captcha = undefined;
        try {
            const widget = (await session.registrationChallenge())?.captcha;
            if (!widget || !box.isConnected) return;
            box.hidden = false;
            if (!widget.script_url) box.textContent = t("captcha_elsewhere");
            else await showCaptcha(box, widget, (response) => (captcha = response));
        } catch (error) {
            // Signing up shows what is wrong with the server; only the widget's script is a matter of its own.
            if (error.code === undefined) box.textContent = t("captcha_failed");
        }
    }

    /** The second step of signing in. */
    function renderCode(message) {
        const back = () => {
            asked = undefined;
            render();
        };
        const form = h(
            "form",
            { id: "sign", class: "sign", onsubmit: submit },
            h("img", { src: "web/icon.svg", alt: "", width: 44, height: 44 }),
            h("h1", {}, t("two_factor")),
            h("p", { class: "error", role: "alert", id: "sign-error", hidden: !message }, message ?? ""),
            codeField("totp_code", asked.methods),
            h("button", { class: "primary", type: "submit" }, t("sign_in")),
            h("button", { type: "button", class: "link", id: "sign-back", onclick: back }, t("cancel")),
        );
        root.replaceChildren(h("main", { class: "sign-in-page" }, form));
        form.querySelector("input").focus();
    }

    const values = () => Object.fromEntries(new FormData(document.getElementById("sign")));

    function swap() {
        mode = mode === "in" ? "up" : "in";
        render();
    }

    function speak(tag) {
        const kept = values();
        setLanguage(tag);
        render(undefined, kept);
    }

    async function submit(event) {
        event.preventDefault();
        const kept = values();
        const button = event.target.querySelector("button.primary");
        button.disabled = true;
        try {
            if (mode === "up") await session.signUp({ ...kept, display_name: kept.display_name || undefined, captcha });
            else if (asked) await session.verify({ ...kept, challenge: asked.challenge });
            else await session.signIn(kept);
            entered();
            // Only a warning: a failure of it must not look like one of signing in.
            if (kept.backup_code) warnOfFewCodes(session).catch(() => {});
            return undefined;
        } catch (error) {
            if (error.code === "two_factor_required") {
                asked = error;
                return render();
            }
            if (error.details?.attempts_left === 0) {
                asked = undefined;
                return render(t("sign_in_again"));
            }
            return render(explain(error), kept);
        }
    }

    render(reason);
}
