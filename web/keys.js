// Keyboard shortcuts of the whole page.

import { shortcuts } from "./settings.js";

export function bindKeys(app, sidebar, conversation) {
    const aborted = new AbortController();
    const stop = app.stop.bind(app);
    app.stop = () => {
        aborted.abort();
        stop();
    };
    addEventListener(
        "keydown",
        (event) => {
            if (document.querySelector("dialog[open]")) return;
            const { key } = event;
            const command = event.ctrlKey || event.metaKey;
            const writes = event.target.matches?.("input, textarea");
            if (command && key.toLowerCase() === "k") {
                sidebar.filter.focus();
                sidebar.filter.select();
            } else if (command && key.toLowerCase() === "f" && app.current && app.can("search_messages")) {
                app.act.showPanel("search");
            } else if (event.altKey && (key === "ArrowUp" || key === "ArrowDown")) step(key === "ArrowUp" ? -1 : 1);
            else if (key === "?" && !writes) shortcuts();
            else if (key === "Escape") escape(writes);
            else if (
                !writes &&
                !command &&
                !event.altKey &&
                key.length === 1 &&
                app.current &&
                event.target === document.body
            )
                conversation.composer.focus();
            else return;
            if (key.length > 1 || command || key === "?") event.preventDefault();
        },
        { signal: aborted.signal },
    );

    function step(by) {
        const links = [...sidebar.list.querySelectorAll("a")];
        const at = links.findIndex((link) => link.getAttribute("aria-current"));
        const next = links[(at + by + links.length) % links.length];
        if (next) location.hash = next.getAttribute("href");
    }

    function escape(writes) {
        if (app.open.panel) document.getElementById("close-panel")?.click();
        else if (!writes && app.current) conversation.composer.focus();
    }
}
