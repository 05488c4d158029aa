// The picture in the account dialog: a preview, a button and a drop that upload another one, and a button that removes
// it. The server makes it small, so the preview is what others see.

import { avatar, h } from "./dom.js";
import { bytesOf, explain, t } from "./i18n.js";
import { reasonText } from "./upload-words.js";

const TYPES = ["image/jpeg", "image/png", "image/webp", "image/gif"];
const BYTES_MAX = 5_000_000;

/** Whether the picture of a profile was uploaded. */
export function isUploaded({ avatar_url }) {
    return avatar_url?.startsWith("/avatars/") ?? false;
}

/** Why a picture was refused, in the user's language. */
function refusalText(error) {
    const { code } = error;
    if (code === "infected") return t("picture_infected");
    const known = reasonText(error);
    if (known) return known;
    if (code === "too_large") return t("picture_too_large", { max: bytesOf(BYTES_MAX) });
    return code === "bad_request" ? t("picture_unreadable") : explain(error);
}

/** `me`: the own profile; `changed(profile)` is called with the new one. Returns the element and `preview(name)`. */
export function ownPicture(app, me, changed) {
    const looks = h("span", { class: "with-presence" });
    const error = h("p", { class: "error", role: "alert", id: "picture-error", hidden: true });
    const status = h("small", { class: "soft", role: "status", id: "picture-status" });
    const input = h("input", {
        type: "file",
        accept: TYPES.join(","),
        hidden: true,
        id: "picture-file",
        onchange: () => {
            const [file] = input.files;
            input.value = ""; // the same file can be chosen again
            if (file) upload(file);
        },
    });
    const choose = h(
        "button",
        { type: "button", id: "choose-picture", hidden: !app.sendsFiles, onclick: () => input.click() },
        t("choose_picture"),
    );
    const remove = h("button", { type: "button", id: "remove-picture", onclick: removePicture }, t("remove_picture"));
    let name = me.display_name;

    function show() {
        looks.replaceChildren(avatar({ id: me.id, name: name || "?", url: me.avatar_url }, "large"));
        remove.hidden = !me.avatar_url;
    }

    function say(text) {
        error.textContent = text;
        error.hidden = false;
    }

    /** Runs a request whose answer is the new profile. */
    async function run(during, done, request) {
        choose.disabled = remove.disabled = true;
        error.hidden = true;
        status.textContent = during;
        try {
            me = await request();
            changed(me);
            status.textContent = done;
        } catch (reason) {
            status.textContent = hint;
            say(refusalText(reason));
        }
        choose.disabled = remove.disabled = false;
        show();
        // A disabled button loses the focus, and a hidden one cannot have it.
        if (document.activeElement === document.body) (choose.hidden ? remove : choose).focus();
    }

    function upload(file) {
        if (!TYPES.includes(file.type)) return say(t("picture_wrong_type"));
        if (file.size > BYTES_MAX) return say(t("picture_too_large", { max: bytesOf(BYTES_MAX) }));
        return run(t("picture_uploading"), t("picture_changed"), () => app.transfer.avatar(file));
    }

    function removePicture() {
        return run("", t("picture_removed"), () => app.session.request("DELETE", "users/me/avatar"));
    }

    const hint = app.sendsFiles ? t("picture_text", { max: bytesOf(BYTES_MAX) }) : "";
    status.textContent = hint;
    show();
    const isDrop = (event) => app.sendsFiles && event.dataTransfer?.types.includes("Files");
    const element = h(
        "div",
        {
            class: "profile-head",
            id: "own-picture",
            ondragover: (event) => isDrop(event) && event.preventDefault(),
            ondrop: (event) => {
                if (!isDrop(event)) return;
                event.preventDefault();
                if (!choose.disabled && event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
            },
        },
        looks,
        h(
            "div",
            {},
            h("span", { class: "soft" }, `@${me.username}`),
            h("div", { class: "row" }, choose, remove),
            status,
            error,
            input,
        ),
    );
    return {
        element,
        preview(text) {
            name = text;
            show();
        },
    };
}
