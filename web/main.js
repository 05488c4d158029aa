// Entry point: shows the sign-in page or the application.

import { App } from "./app.js";
import { h } from "./dom.js";
import { language, t } from "./i18n.js";
import { bindKeys } from "./keys.js";
import { Session } from "./session.js";
import { Conversation } from "./view-conversation.js";
import { Panel } from "./view-panel.js";
import { Sidebar } from "./view-sidebar.js";
import { showSignIn } from "./view-signin.js";
import { applyTheme } from "./theme.js";
import { setUp, stepUp } from "./two-factor.js";

const root = document.getElementById("root");
const session = new Session();
let app;

document.documentElement.lang = language();
applyTheme();

function enter() {
    app = new App(session);
    const sidebar = new Sidebar(app);
    const conversation = new Conversation(app);
    const panel = new Panel(app);
    const frame = h("div", { class: "frame", id: "frame" }, sidebar.element, conversation.element, panel.element);
    root.replaceChildren(frame);
    // Views measure their rows: a phone shows the conversation before its update, and hides it after.
    app.watch({
        update() {
            if (app.open.id) frame.dataset.open = "true";
        },
    });
    app.watch(sidebar);
    app.watch(conversation);
    app.watch(panel);
    app.watch({
        update() {
            frame.dataset.open = String(Boolean(app.open.id));
            frame.dataset.panel = String(!panel.element.hidden);
        },
    });
    app.changed("look", "list", "conversation", "connection", "panel", "open");
    bindKeys(app, sidebar, conversation);
    app.start();
}

session.onStepUp = (methods) => stepUp(session, methods);
session.onFactorRequired = () => setUp(session, t("two_factor_required"));
session.onLost = (code) => {
    if (!app) return; // called before
    app.stop();
    app = undefined;
    document.querySelectorAll("dialog").forEach((dialog) => dialog.remove());
    document.title = "Veza Chat";
    showSignIn(root, session, enter, code === "signed_out" ? undefined : t("signed_out_elsewhere"));
};

if (session.isKnown) enter();
else showSignIn(root, session, enter);
