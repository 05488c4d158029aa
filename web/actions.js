// User actions: each function sends the commands of one action and puts their results into the store.

import { newKey } from "./veza-client.js";
import { explain, t, tn } from "./i18n.js";
import { Marks } from "./marks.js";
import { toast } from "./dom.js";
import { excerpt } from "./text.js";

const PRESENCE = "veza.presence";

/** The actions of an app. None of them throws: errors are shown to the user. */
export function act(app) {
    const { store, client } = app;
    const timeline = () => app.current?.timeline;
    let typedAt = 0;
    const marks = new Marks((type, data) => app.request(type, data, { repeat: true }));

    /** Runs `work` and shows its error; returns whether it succeeded. */
    const attempt = async (work) => {
        try {
            await work();
            return true;
        } catch (error) {
            app.showError(error);
            return false;
        }
    };

    const command = (type, data) => attempt(() => app.request(type, { conversation_id: app.open.id, ...data }));

    return {
        go(id) {
            location.hash = id ? `#/${id}` : "#/";
        },

        /**
         * `message`: {content, conversation_id?, parent_message_id?, client_message_id?, attachments?}.
         * `files` describes the attachments until the event does.
         */
        async send({ files, ...message }) {
            const key = message.client_message_id ?? newKey();
            const full = { conversation_id: app.open.id, ...message, client_message_id: key };
            const id = full.conversation_id;
            const outcome = (what) => app.apply(store.sent(id, key, what));
            app.apply(store.sending({ ...full, files }, Date.now()));
            if (app.current?.timeline.hasNewer && !full.parent_message_id) app.reads.newest(id);
            try {
                outcome(await client.send(full, (retry) => outcome({ retry })));
            } catch (error) {
                if (error.code !== "closed") outcome({ error: explain(error), isHeld: Boolean(error.details?.held) });
            }
        },

        /** Runs a slash command. Returns the answer of its bot; undefined if there was none. */
        async run(command, text, parent_message_id) {
            let answer;
            await attempt(async () => {
                const conversation_id = app.open.id;
                const data = { conversation_id, command, text, ...(parent_message_id && { parent_message_id }) };
                answer = await app.request("run_command", data);
            });
            return answer;
        },

        /** Sends a refused message again. */
        resend({ conversation_id, content, parent_message_id, client_message_id, attachments, files }) {
            app.apply(store.sent(conversation_id, client_message_id));
            this.send({ conversation_id, content, parent_message_id, client_message_id, attachments, files });
        },

        /** Forgets a refused message. A held one keeps its files: a moderator may still send it. */
        discard({ conversation_id, client_message_id, attachments = [], isHeld }) {
            app.apply(store.sent(conversation_id, client_message_id));
            if (!isHeld) app.uploads.discard(attachments);
        },

        typing() {
            const now = Date.now();
            if (now - typedAt < 2_000) return;
            typedAt = now;
            client.signal("typing", { conversation_id: app.open.id });
        },

        /** `attachments`: the ids of the files that stay; undefined for all of them. */
        edit: ({ message_id }, content, attachments) =>
            command("edit_message", { message_id, content, ...(attachments && { attachments }) }),
        remove: (message) => command("delete_message", { message_id: message.message_id }),
        pin: (message) => command("pin_message", { message_id: message.message_id, pinned: !message.pinned }),

        react(message, emoji) {
            const mine = message.reactions.find((reaction) => reaction.emoji === emoji)?.me;
            return command(mine ? "remove_reaction" : "add_reaction", { message_id: message.message_id, emoji });
        },

        /** Loads the page of messages before those shown. */
        async older() {
            const first = timeline()?.shown[0];
            if (!first || !timeline().hasOlder) return;
            await app.reads.history(app.open.id, "older", { before_seq: first.seq }).catch(() => {});
        },

        async newer() {
            const last = timeline()?.shown.at(-1);
            if (!last || !timeline().hasNewer) return;
            await app.reads.history(app.open.id, "newer", { after_seq: last.seq }).catch(() => {});
        },

        async toPresent() {
            if (timeline()?.hasNewer) await app.reads.newest(app.open.id);
            app.open.goal = "end";
            app.changed("conversation");
        },

        /** Scrolls to a message of the open conversation, and loads the history around it if needed. */
        async jump(messageId) {
            const known = timeline()?.shown.some(({ message_id }) => message_id === messageId);
            const around = { around_message_id: messageId };
            if (app.current && !known && !(await attempt(() => app.reads.history(app.open.id, "around", around))))
                return;
            app.open.goal = messageId;
            app.changed("conversation");
        },

        showPanel(kind, detail = {}) {
            app.open.panel = kind ? { kind, ...detail } : undefined;
            app.changed("panel", "conversation", "open");
        },

        async showThread(root) {
            const conversation = app.current;
            if (!conversation) return;
            this.showPanel("thread", { root });
            const thread = conversation.timeline.thread(root);
            thread.readTo = store.threads.entries.get(root)?.read_seq ?? thread.readTo;
            if (!thread.isLoaded && app.can("get_thread")) await app.reads.thread(conversation, root, "newest");
        },

        async follow(root, following) {
            const conversation_id = app.open.id;
            await attempt(async () => {
                const ack = await app.request("follow_thread", { conversation_id, message_id: root, following });
                app.apply(
                    store.event({ type: "thread_follow_updated", data: { conversation_id, ...ack } }, Date.now()),
                );
                app.changed("panel");
            });
        },

        /** Marks the replies of a followed thread as read up to `seq`. */
        readThread(conversation_id, root, seq) {
            if (!app.can("mark_thread_read") || !store.threads.read(root, seq)) return;
            app.changed("threads");
            marks.mark(`thread ${root}`, "mark_thread_read", { conversation_id, message_id: root, seq });
        },

        /** Marks a conversation as read up to `seq`. */
        read(id, seq) {
            const marker = store.markRead(id, seq);
            if (!marker) return;
            app.changed("list");
            marks.mark(id, "mark_read", marker);
        },

        async create(data) {
            let created;
            const done = await attempt(async () => {
                let invited;
                ({ conversation: created, invited_user_ids: invited } = await app.request("create_conversation", data));
                if (invited) toast(tn("invitations_sent", invited.length));
            });
            if (done) enterConversation(created);
            return done;
        },

        /** Joins a public room. For a private room, shows the form that asks to join. */
        async join(id) {
            return attempt(async () => {
                try {
                    const { conversation } = await app.request("join_conversation", { conversation_id: id });
                    enterConversation(conversation);
                } catch (error) {
                    if (error.code !== "not_found" || !app.can("request_to_join")) throw error;
                    this.go(id);
                }
            });
        },

        /** Asks to join a private room, or cancels the request. */
        async requestToJoin(id, isWanted, text) {
            const data = isWanted ? { conversation_id: id, text: text || undefined } : { conversation_id: id };
            const done = await attempt(() => app.request(isWanted ? "request_to_join" : "cancel_join_request", data));
            if (!done) return;
            if (isWanted) store.requested.add(id);
            else store.requested.delete(id);
            app.changed("conversation");
        },

        /** Accepts or declines an invitation. */
        async decideInvitation(id, accepted) {
            await attempt(async () => {
                const type = accepted ? "accept_invitation" : "decline_invitation";
                const { conversation } = await app.request(type, { conversation_id: id });
                app.apply(store.event({ type: "invitation_closed", data: { conversation_id: id } }, Date.now()));
                if (conversation) enterConversation(conversation);
            });
        },

        /** Accepts or declines a request to join. */
        async decideRequest(id, user, accepted) {
            await attempt(async () => {
                await app.request("decide_join_request", { conversation_id: id, user_id: user.id, accepted });
                app.apply(
                    store.event(
                        {
                            type: "join_request_decided",
                            data: { conversation_id: id, user, outcome: accepted ? "accepted" : "declined" },
                        },
                        Date.now(),
                    ),
                );
            });
        },

        /** A moderator has rejected a text of the user's: a message, or an edit of `message_id`. */
        rejected(id, { content, client_message_id, message_id }) {
            toast(t(message_id ? "edit_rejected" : "message_rejected", { text: excerpt(content) }), "bad");
            if (client_message_id)
                app.apply(store.sent(id, client_message_id, { error: t("rejected"), isHeld: false }));
        },

        /** The user's own request to join was accepted or declined. */
        async requestDecided(id, outcome) {
            if (outcome === "declined") toast(t("request_declined"), "bad");
            app.changed("conversation");
            if (outcome !== "accepted") return;
            if (app.open.id !== id) toast(t("request_accepted"));
            await attempt(async () => {
                const { conversation } = await app.request("get_conversation", { conversation_id: id });
                app.apply(store.record(conversation));
            });
        },

        async joinByInvite(code) {
            return attempt(async () => {
                const { conversation } = await app.request("join_by_invite", { code });
                enterConversation(conversation);
            });
        },

        leave: (id) => command("leave_conversation", { conversation_id: id }),

        async invite(userId) {
            await attempt(async () => {
                const data = { conversation_id: app.open.id, user_id: userId };
                const { pending } = await app.request("invite_member", data);
                toast(pending ? tn("invitations_sent", 1) : t("invited"));
            });
        },

        async inviteLink() {
            let code;
            await attempt(async () => {
                const { invite } = await app.request("create_invite", {
                    conversation_id: app.open.id,
                    expires_in_s: 7 * 86_400,
                });
                code = invite.code;
            });
            return code;
        },

        moderate: (type, data) => command(type, data),

        /** Blocks or unblocks a user. */
        block: ({ id, username, display_name }, isBlocked) =>
            attempt(async () => {
                await app.request(isBlocked ? "block_user" : "unblock_user", { user_id: id });
                app.apply(store.block({ id, username, display_name }, isBlocked));
                app.reads.forgetPresence(id);
                if (!isBlocked) await app.reads.presenceOf([id]);
            }),

        update: (data) => command("update_conversation", data),

        async presence(status, status_text) {
            await attempt(async () => {
                await setPresence({ status, status_text });
                localStorage.setItem(PRESENCE, JSON.stringify({ user: store.me.id, status, status_text }));
            });
        },

        /** Sets the chosen presence again, which the server forgets when it restarts. */
        async restorePresence() {
            const { user, ...kept } = JSON.parse(localStorage.getItem(PRESENCE) ?? "{}");
            const isPlain = kept.status === "online" && !kept.status_text;
            if (user === store.me.id && !isPlain && app.can("set_presence")) await setPresence(kept).catch(() => {});
        },

        async copy(text) {
            if (!navigator.clipboard) return toast(t("copy_by_hand"), "bad"); // on pages without TLS
            if (await attempt(() => navigator.clipboard.writeText(text))) toast(t("copied"));
        },
    };

    async function setPresence({ status, status_text }) {
        const data = await app.request("set_presence", { status, status_text });
        app.apply(store.event({ type: "presence", data: { user_id: store.me.id, ...data } }, Date.now()));
    }

    /** Opens a conversation that the user has just joined: its first event may arrive after the ack. */
    function enterConversation(conversation) {
        app.apply(store.record(conversation));
        if (app.open.id === conversation.id) app.open.id = undefined; // it was a preview
        location.hash = `#/${conversation.id}`;
        dispatchEvent(new HashChangeEvent("hashchange"));
    }
}
