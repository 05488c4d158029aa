// A small palette: what people use most, in the order in which it is shown. Any other emoji can be typed.

import { dialog, h } from "./dom.js";

/** Offered on every message. */
export const QUICK = ["👍", "❤️", "😂", "🎉", "👀"];

export const PALETTE = [
    ..."😀😃😄😁😅😂🙂😉😊😍😘😜🤔🤨😐🙄😏😴😷🤒😢😭😤😡🤯😱😎🤓🥳🤗🤝👍👎👏🙌🙏💪👋👌✌🤞👀🧠🔥✨🎉🎂🎁🏆🚀⭐☀🌧❄🌍🌱🌸🍀🐛🐱🐶🦀🍕🍎☕🍺🥂⚽🎵📌📎📅💡🔒🔧🐌💯✅❌❓❗",
];

/** A palette as a small dialog; resolves with the emoji that was chosen, or undefined. */
export function chooseEmoji(title) {
    return dialog(title, (close) =>
        h(
            "div",
            { class: "palette" },
            PALETTE.map((emoji) => h("button", { type: "button", class: "emoji", onclick: () => close(emoji) }, emoji)),
        ),
    );
}
