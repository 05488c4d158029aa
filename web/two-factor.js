// Two-factor authentication: its part of the account dialog, the set-up, and the prompt for a code.

import { buttonRow, dialog, field, h, toast } from "./dom.js";
import { explain, t, tn } from "./i18n.js";

/** At this number of backup codes or fewer, the user is warned. */
const FEW_CODES = 2;

/** The part of the account dialog. */
export function twoFactor(app) {
    const { session } = app;
    const body = h("div", { class: "form", id: "two-factor" });
    const button = (id, text, onclick, kind = "") => h("button", { type: "button", id, class: kind, onclick }, text);
    async function show() {
        let state;
        try {
            state = await session.request("GET", "auth/2fa");
        } catch (reason) {
            // A server of another version does not have it.
            return body.replaceChildren(reason.status === 404 ? "" : h("p", { class: "error" }, explain(reason)));
        }
        const then = (work) => async () => (await work()) && show();
        const { enabled, required, backup_codes_left: left } = state;
        const heading = h("h2", {}, t("two_factor"));
        if (!enabled) {
            return body.replaceChildren(
                heading,
                h("p", { class: "soft" }, t("two_factor_off")),
                buttonRow(
                    button(
                        "two-factor-on",
                        t("set_up"),
                        then(() => setUp(session)),
                    ),
                ),
            );
        }
        return body.replaceChildren(
            heading,
            h("p", { class: "soft" }, t("two_factor_on")),
            h("p", { class: left <= FEW_CODES ? "error" : "soft", id: "codes-left" }, codesLeft(left)),
            buttonRow(
                button(
                    "new-codes",
                    t("new_backup_codes"),
                    then(() => newCodes(session)),
                ),
                required
                    ? ""
                    : button(
                          "two-factor-off",
                          t("turn_off"),
                          then(() => turnOff(session)),
                          "bad",
                      ),
            ),
        );
    }
    show();
    return body;
}

/** After signing in with a backup code: warns if few are left. */
export async function warnOfFewCodes(session) {
    const { backup_codes_left: left } = await session.request("GET", "auth/2fa");
    if (left <= FEW_CODES) toast(codesLeft(left), "bad");
}

const codesLeft = (left) => tn("codes_left", left) + (left <= FEW_CODES ? ` ${t("codes_low")}` : "");

/** A form that runs `work` with its values, shows its error, and gives the focus to its first field. */
function form(submitText, work, ...parts) {
    const error = h("p", { class: "error", role: "alert", hidden: true });
    const submit = h("button", { type: "submit", class: "primary" }, submitText);
    const element = h(
        "form",
        {
            class: "form",
            onsubmit: async (event) => {
                event.preventDefault();
                submit.disabled = true;
                error.hidden = true;
                try {
                    await work(Object.fromEntries(new FormData(element)));
                } catch (reason) {
                    error.textContent = explain(reason);
                    error.hidden = false;
                }
                submit.disabled = false;
            },
        },
        parts,
        error,
        buttonRow(submit),
    );
    queueMicrotask(() => element.querySelector("input")?.focus());
    return element;
}

const passwordField = () =>
    field(
        t("current_password"),
        h("input", {
            name: "password",
            type: "password",
            required: true,
            maxLength: 128,
            autocomplete: "current-password",
        }),
    );

const codeInput = (name) =>
    h("input", { name, required: true, maxLength: 64, inputMode: "numeric", autocomplete: "one-time-code" });

const backupInput = () =>
    h("input", { name: "backup_code", required: true, maxLength: 64, autocomplete: "off", autocapitalize: "none" });

/** A field for a code, with a link to use a backup code instead. `name`: the name of the app's code. */
export function codeField(name, methods = ["totp", "backup_code"]) {
    const box = h("div", { class: "form" });
    const show = (isBackup) => {
        const input = isBackup ? backupInput() : codeInput(name);
        const swap = () => {
            show(!isBackup);
            box.querySelector("input").focus();
        };
        box.replaceChildren(
            field(t(isBackup ? "backup_code" : "totp_code"), input),
            methods.includes("backup_code")
                ? h(
                      "button",
                      { type: "button", class: "link code-swap", onclick: swap },
                      t(isBackup ? "use_app_code" : "use_backup_code"),
                  )
                : "",
        );
    };
    show(!methods.includes("totp"));
    return box;
}

/** Sets it up, step by step. Resolves with true when it is on. `reason`: why the user must do so. */
export async function setUp(session, reason) {
    let isOn = false;
    await dialog(
        t("two_factor"),
        (close) => {
            const box = h("div", {});
            const begin = async ({ password }) => scan(await session.request("POST", "auth/2fa/enable", { password }));
            const scan = ({ secret, qr_svg }) =>
                box.replaceChildren(
                    form(
                        t("turn_on"),
                        async ({ code }) => {
                            const { backup_codes } = await session.request("POST", "auth/2fa/confirm", { code });
                            isOn = true;
                            box.replaceChildren(codeList(backup_codes, close));
                        },
                        h("p", { class: "soft" }, t("scan_text")),
                        picture(qr_svg),
                        h("code", { class: "secret", id: "secret" }, secret.match(/.{1,4}/g).join(" ")),
                        field(t("totp_code"), codeInput("code")),
                    ),
                );
            box.append(
                form(t("next"), begin, h("p", { class: "soft" }, reason ?? t("two_factor_off")), passwordField()),
            );
            return box;
        },
        { wide: true },
    );
    if (isOn) toast(t("two_factor_turned_on"));
    return isOn;
}

/** The QR code, from the server's SVG. */
function picture(svg) {
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    return h("div", { class: "qr", role: "img", "aria-label": t("qr_code") }, document.importNode(parsed, true));
}

/** The backup codes, which the user sees once. */
function codeList(codes, close) {
    const text = codes.join("\n");
    const save = () => {
        const link = h("a", { href: URL.createObjectURL(new Blob([`${text}\n`])), download: "veza-backup-codes.txt" });
        link.click();
        URL.revokeObjectURL(link.href);
    };
    const copy = async () => {
        await navigator.clipboard.writeText(text);
        toast(t("copied"));
    };
    return h(
        "div",
        { class: "form", id: "backup-codes" },
        h("p", { class: "soft" }, t("backup_codes_text")),
        h(
            "ol",
            { class: "codes" },
            codes.map((code) => h("li", {}, h("code", {}, code))),
        ),
        buttonRow(
            navigator.clipboard ? h("button", { type: "button", onclick: copy }, t("copy_text")) : "",
            h("button", { type: "button", onclick: save }, t("download")),
            h("button", { type: "button", class: "primary", id: "codes-done", onclick: () => close() }, t("done")),
        ),
    );
}

async function newCodes(session) {
    let isDone = false;
    await dialog(t("new_backup_codes"), (close) => {
        const box = h("div", {});
        const renew = async (values) => {
            const { backup_codes } = await session.request("POST", "auth/2fa/backup-codes", values);
            isDone = true;
            box.replaceChildren(codeList(backup_codes, close));
        };
        const text = h("p", { class: "soft" }, t("new_codes_text"));
        box.append(form(t("next"), renew, text, passwordField(), codeField("code")));
        return box;
    });
    return isDone;
}

async function turnOff(session) {
    return dialog(t("turn_off_title"), (close) => {
        const work = async (values) => {
            await session.request("POST", "auth/2fa/disable", values);
            toast(t("two_factor_turned_off"));
            close(true);
        };
        const text = h("p", { class: "soft" }, t("turn_off_text"));
        return form(t("turn_off"), work, text, passwordField(), codeField("code"));
    });
}

/** Asks for a code before a dangerous action. Resolves with true when the server has accepted it. */
export function stepUp(session, methods) {
    return dialog(t("step_up_title"), (close) => {
        const work = async (values) => {
            await session.request("POST", "auth/2fa/step-up", values);
            close(true);
        };
        return form(
            t("next"),
            work,
            h("p", { class: "soft", id: "step-up" }, t("step_up_text")),
            codeField("code", methods),
        );
    });
}
