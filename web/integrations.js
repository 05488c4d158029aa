// The dialog for what connects conversations to programs: webhooks in both directions, and bots.

import { bots } from "./bots.js";
import { dialog, h } from "./dom.js";
import { tabs } from "./forms.js";
import { t } from "./i18n.js";
import { incoming } from "./incoming.js";
import { outgoing } from "./outgoing.js";

const VIEWS = { outgoing, incoming, bots };

/** The integrations of a conversation, or all of the user's. */
export function integrations(app, conversation) {
    const title = conversation ? t("integrations_of", { name: app.nameOf(conversation) }) : t("integrations");
    return dialog(
        title,
        () =>
            h(
                "div",
                { id: "integrations" },
                tabs("integrations", Object.keys(VIEWS), (name) => VIEWS[name](app, conversation)),
            ),
        { wide: true },
    );
}
