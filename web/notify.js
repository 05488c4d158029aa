// The browser's own notifications, of mentions and direct messages while nobody looks at the page. Off until somebody
// asks for them; that is remembered by this browser.

import { excerpt } from "./text.js";

const KEY = "veza.notifications";

/** Whether the browser has notifications at all; pages that came without TLS have none. */
export function canNotify() {
    return "Notification" in globalThis;
}

export function wantsNotifications() {
    return canNotify() && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";
}

/** Turns them on, after asking the browser, or off; whether they are on then. */
export async function setNotifications(isOn) {
    const isAllowed = isOn && canNotify() && (await Notification.requestPermission()) === "granted";
    if (isAllowed) localStorage.setItem(KEY, "on");
    else localStorage.removeItem(KEY);
    return isAllowed;
}

/** Tells of a message that somebody else wrote. */
export function notify(app, id, message) {
    const { store } = app;
    const conversation = store.conversations.get(id);
    const concerns = conversation?.kind === "direct" || message.mentions.includes(store.me.id);
    if (!concerns || !document.hidden || app.connection.name !== "live" || !wantsNotifications()) return;
    if (store.blocked.has(message.sender.id)) return;
    const name = app.called(message.sender);
    const title = conversation.kind === "direct" ? name : `${name} · ${app.nameOf(conversation)}`;
    // One tag for a conversation: several windows, or several messages, do not pile up.
    const note = new Notification(title, { body: excerpt(message.content, 200), tag: id, icon: "web/icon.svg" });
    note.onclick = () => {
        focus();
        location.hash = `#/${id}`;
        note.close();
    };
}
