// A small emoji palette, most used first. All other emoji can be typed.

import { dialog, h } from "./dom.js";

/** Reactions offered on every message. */
export const QUICK = ["👍", "❤️", "😂", "🎉", "👀"];

const PALETTE = [
    ..."😀😃😄😁😅😂🙂😉😊😍😘😜🤔🤨😐🙄😏😴😷🤒😢😭😤😡🤯😱😎🤓🥳🤗🤝👍👎👏🙌🙏💪👋👌✌🤞👀🧠🔥✨🎉🎂🎁🏆🚀⭐☀🌧❄🌍🌱🌸🍀🐛🐱🐶🦀🍕🍎☕🍺🥂⚽🎵📌📎📅💡🔒🔧🐌💯✅❌❓❗",
];

/** Shows the palette in a dialog; resolves with the chosen emoji, or undefined. */
export function chooseEmoji(title) {
    return dialog(title, (close) =>
        h(
            "div",
            { class: "palette" },
            PALETTE.map((emoji) => h("button", { type: "button", class: "emoji", onclick: () => close(emoji) }, emoji)),
        ),
    );
}
