// Browser notifications of mentions and direct messages while the page is hidden. Off by default; this browser
// remembers the choice.

import { excerpt, summaryOf } from "./text.js";

const KEY = "veza.notifications";

/** Whether the browser has notifications. Pages without TLS have none. */
export function canNotify() {
    return "Notification" in globalThis;
}

export function wantsNotifications() {
    return canNotify() && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";
}

/** Switches notifications on, with the browser's permission, or off; resolves with whether they are on. */
export async function setNotifications(isOn) {
    const isAllowed = isOn && canNotify() && (await Notification.requestPermission()) === "granted";
    if (isAllowed) localStorage.setItem(KEY, "on");
    else localStorage.removeItem(KEY);
    return isAllowed;
}

/** Shows a notification of a message if the user wants one. */
export function notify(app, id, message) {
    const { store } = app;
    const conversation = store.conversations.get(id);
    const concerns = conversation?.kind === "direct" || message.mentions.includes(store.me.id);
    if (!concerns || !document.hidden || app.connection.name !== "live" || !wantsNotifications()) return;
    if (store.blocked.has(message.sender.id)) return;
    const name = app.displayName(message.sender);
    const title = conversation.kind === "direct" ? name : `${name} · ${app.nameOf(conversation)}`;
    // With one tag per conversation, notifications of several windows and messages replace each other.
    const note = new Notification(title, { body: excerpt(summaryOf(message), 200), tag: id, icon: "web/icon.svg" });
    note.onclick = () => {
        focus();
        location.hash = `#/${id}`;
        note.close();
    };
}
