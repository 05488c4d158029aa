// The client's state: conversations with their counters and messages, users, presence, typing. A pure state machine:
// events, pages and acks go in; the state changes, and a list of effects comes out. No DOM, no network; time is an
// argument.
//
// Effects:
//   {kind: "list"}                  the list of conversations changed
//   {kind: "conversation", id}      this conversation changed
//   {kind: "outbox"}                the messages without an ack changed
//   {kind: "fetch", id}             read the conversation's record again
//   {kind: "reload", id}            read its history again
//   {kind: "member", id, user}      a user joined
//   {kind: "arrived", id, message}  another user sent a new message
//   {kind: "left", id, reason}      the user is no longer a member
//   {kind: "people"}                members or presence changed
//   {kind: "profile"}               names, pictures or blocks changed
//   {kind: "requests", id}          the requests to join changed
//   {kind: "rank", id}              the user has another role
//   {kind: "decided", id, outcome}  the user's own request to join was accepted or declined
//   {kind: "file", file}            the check of an own upload has ended
//   {kind: "rejected", id, data}    a moderator rejected a text of the user's
// and those of threads.js.
//
// Invariant: an event counts once. A conversation's `cursor` is the seq of the last numbered event that was applied;
// events up to it are dropped. `countedTo` is the seq up to which unread messages and mentions are counted: a record
// from the server may be ahead of the events, and their messages must not be counted again.

import { Threads } from "./threads.js";
import { Timeline } from "./timeline.js";

const TYPING_MS = 6_000;

export class Store {
    me;
    conversations = new Map();
    /** User id → {id, username, display_name, avatar_url, bio}; the last two are undefined while unknown. */
    people = new Map();
    /** User id → blocked user. */
    blocked = new Map();
    /** User id → {status, status_text, last_seen_at}. */
    presence = new Map();
    /** The followed threads. */
    threads = new Threads();
    /** Private rooms that the user has asked to join. */
    requested = new Set();
    /** Open invitations to conversations, by conversation. */
    invitations = new Map();

    /** Applies the first frame of a connection: the user's conversations, without counters. */
    welcome({ user, conversations }) {
        this.me = user;
        this.rememberUser(user);
        const effects = [{ kind: "list" }];
        for (const { id, kind, name, last_seq, read_seq, role } of conversations) {
            const known = this.conversations.get(id);
            const conversation = known ?? this.#add(id, last_seq);
            Object.assign(conversation, { kind, name: name ?? conversation.name, role });
            if (known)
                this.#read(conversation, read_seq, effects); // another device may have read further
            else Object.assign(conversation, { read_seq });
        }
        return effects;
    }

    #add(id, cursor) {
        const conversation = {
            id,
            kind: id.startsWith("dm_") ? "direct" : id.startsWith("group_") ? "group" : "public_room",
            name: null,
            description: null,
            role: "member",
            cursor,
            countedTo: -1,
            last_seq: cursor,
            read_seq: 0,
            unread: 0,
            mentions: 0,
            member_count: 0,
            last_message_at: null,
            created_at: null,
            archived: false,
            members: new Map(),
            hasMembers: false,
            requests: undefined,
            typing: new Map(),
            pending: [],
            timeline: new Timeline(this.me?.id),
        };
        this.conversations.set(id, conversation);
        return conversation;
    }

    /** Applies a conversation's record. A record that is older than the events is read again. */
    record({ unread_count, mention_count, last_seq, read_seq, ...record }) {
        const conversation = this.conversations.get(record.id) ?? this.#add(record.id, last_seq);
        if (last_seq < conversation.cursor) return [{ kind: "fetch", id: record.id }];
        Object.assign(conversation, record, { last_seq });
        if (read_seq >= conversation.read_seq) {
            Object.assign(conversation, {
                read_seq,
                unread: unread_count,
                mentions: mention_count,
                countedTo: last_seq,
            });
        }
        return [{ kind: "list" }, { kind: "conversation", id: record.id }];
    }

    /** Applies an event. `now` is in milliseconds. */
    event({ type, data }, now) {
        const id = data.conversation_id;
        if (type === "presence") {
            this.presence.set(data.user_id, { ...this.presence.get(data.user_id), ...data });
            return [{ kind: "list" }, { kind: "people" }];
        }
        if (type === "thread_follow_updated") return this.#followed(data);
        if (type === "join_request_decided") return this.#decided(data);
        if (type === "invitation_received") return this.#invited(data);
        if (type === "invitation_closed") return this.#uninvited(id);
        if (type === "file_updated" && data.seq === undefined) return [{ kind: "file", file: data }];
        if (type === "message_rejected") return [{ kind: "rejected", id, data }];
        const conversation = this.conversations.get(id);
        if (type === "join_requested") return conversation ? this.#requested(conversation, data) : [];
        if (type === "reset") return conversation ? this.#reset(conversation, data.last_seq) : [];
        if (type === "typing") return conversation ? this.#typing(conversation, data, now) : [];
        if (type === "read_updated") return conversation ? this.#readUpdated(conversation, data) : [];
        if (type === "thread_updated") {
            conversation?.timeline.event(type, data);
            return conversation ? [{ kind: "conversation", id }, ...this.threads.event(type, data, this.me?.id)] : [];
        }
        return Number.isInteger(data.seq) && type !== "mention" ? this.#numbered(conversation, type, data) : [];
    }

    #numbered(known, type, data) {
        const id = data.conversation_id;
        if (known && data.seq <= known.cursor) return []; // a replayed event
        const conversation = known ?? this.#add(id, data.seq - 1);
        const effects = [{ kind: "conversation", id }];
        if (!known) effects.push({ kind: "list" }, { kind: "fetch", id });
        const unseen = type === "message_deleted" ? this.#wasUnread(conversation, data.message_id) : 0;
        conversation.cursor = data.seq;
        conversation.last_seq = Math.max(conversation.last_seq, data.seq);
        conversation.timeline.event(type, data);
        if (this.#dropStored(conversation, data)) effects.push({ kind: "outbox" });
        effects.push(...this.threads.event(type, data, this.me?.id));
        if (type === "message_created") this.#messageCreated(conversation, data, effects);
        else if (type === "message_deleted" && data.seq > conversation.countedTo) {
            if (unseen === undefined) effects.push({ kind: "fetch", id });
            else conversation.unread = Math.max(0, conversation.unread - unseen);
            effects.push({ kind: "list" });
        } else if (type.startsWith("member_")) this.#memberEvent(conversation, type, data, effects);
        else if (type.startsWith("conversation_")) this.#conversationEvent(conversation, type, data, effects);
        conversation.countedTo = Math.max(conversation.countedTo, data.seq);
        return effects;
    }

    /** Drops messages from the outbox that the history now has; returns whether there were any. */
    #dropStored(conversation, { message_id, client_message_id } = {}) {
        const before = conversation.pending;
        conversation.pending = before.filter(
            (message) =>
                !(message.seq <= conversation.cursor) &&
                (message_id === undefined || message.message_id !== message_id) &&
                (client_message_id === undefined || message.client_message_id !== client_message_id),
        );
        return conversation.pending.length < before.length;
    }

    #messageCreated(conversation, message, effects) {
        const { id } = conversation;
        this.rememberUser(message.sender);
        if (message.message_type === "system") return; // never unread, and no reason to sort the list again
        conversation.typing.delete(message.sender.id);
        conversation.last_message_at = message.created_at;
        effects.push({ kind: "list" });
        const mine = message.sender.id === this.me?.id;
        if (mine || message.deleted || message.seq <= conversation.read_seq) return;
        if (message.seq > conversation.countedTo) {
            conversation.unread++;
            if (message.mentions.includes(this.me?.id)) conversation.mentions++;
        }
        effects.push({ kind: "arrived", id, message });
    }

    /** Whether a message counts as unread, as 1 or 0; undefined when the message is not known. */
    #wasUnread(conversation, messageId) {
        const message = conversation.timeline.known.get(messageId);
        if (!message) return conversation.unread === 0 ? 0 : undefined;
        const counted =
            message.sender.id !== this.me?.id &&
            message.message_type !== "system" &&
            !message.deleted &&
            message.seq > conversation.read_seq;
        return counted ? 1 : 0;
    }

    #memberEvent(conversation, type, data, effects) {
        const { user, role, muted_until, profile } = data;
        const { id, members } = conversation;
        const mine = user.id === this.me?.id;
        this.rememberUser({ ...user, ...profile });
        if (profile) effects.push({ kind: "profile" });
        // Joining in any way, or a ban, settles a request to join.
        if (type === "member_joined" || data.banned) conversation.requests?.delete(user.id);
        effects.push({ kind: "list" }, { kind: "people" });
        if (type === "member_joined") {
            if (data.seq > conversation.countedTo) conversation.member_count++;
            members.set(user.id, { ...user, role, read_seq: 0 });
            effects.push({ kind: "member", id, user: user.id });
            if (mine) conversation.role = role;
        } else if (type === "member_left") {
            if (data.seq > conversation.countedTo) conversation.member_count--;
            members.delete(user.id);
            if (mine) {
                this.conversations.delete(id);
                this.threads.removeConversation(id);
                effects.push({ kind: "left", id, reason: data.reason });
            }
        } else {
            const changed = {};
            if (role !== undefined) changed.role = role;
            if (muted_until !== undefined) changed.muted_until = muted_until;
            if (members.has(user.id)) Object.assign(members.get(user.id), changed);
            if (mine) Object.assign(conversation, changed);
            if (mine && role !== undefined) {
                conversation.requests = undefined; // the new role may not decide on them
                effects.push({ kind: "rank", id });
            }
        }
    }

    #conversationEvent(conversation, type, data, effects) {
        effects.push({ kind: "list" });
        for (const field of ["name", "description", "owner_id", "archived", "slow_mode_s", "member_limit"]) {
            // A direct conversation is named after the other user; its events carry no name.
            if (data[field] !== undefined && !(field === "name" && data[field] === null))
                conversation[field] = data[field];
        }
        if (type !== "conversation_created") return;
        conversation.created_at ??= data.created_at;
        conversation.kind = data.kind ?? conversation.kind;
        for (const member of data.members ?? []) {
            this.rememberUser(member);
            conversation.members.set(member.id, { read_seq: 0, ...member });
        }
        if (data.members) conversation.member_count = Math.max(conversation.member_count, data.members.length);
    }

    #followed(data) {
        const thread = this.conversations.get(data.conversation_id)?.timeline.threads.get(data.message_id);
        if (thread) thread.following = data.following;
        return this.threads.marker(data);
    }

    #requested(conversation, { user, text, created_at }) {
        this.rememberUser(user);
        (conversation.requests ??= new Map()).set(user.id, { user, text, created_at });
        return [{ kind: "requests", id: conversation.id }];
    }

    #decided({ conversation_id: id, user, outcome }) {
        this.conversations.get(id)?.requests?.delete(user.id);
        if (user.id !== this.me?.id) return [{ kind: "requests", id }];
        this.requested.delete(id);
        return [{ kind: "decided", id, outcome }];
    }

    #invited(invitation) {
        this.rememberUser(invitation.invited_by);
        this.invitations.set(invitation.conversation_id, invitation);
        return [{ kind: "list" }];
    }

    #uninvited(id) {
        return this.invitations.delete(id) ? [{ kind: "list" }] : [];
    }

    /** Replaces the user's open invitations by the server's list. */
    invited(invitations) {
        this.invitations.clear();
        return invitations.flatMap((invitation) => this.#invited(invitation)).concat({ kind: "list" });
    }

    /** Replaces a room's requests to join by the server's list. */
    requests(id, requests) {
        const conversation = this.conversations.get(id);
        if (!conversation) return [];
        conversation.requests = new Map();
        return requests.flatMap((request) => this.#requested(conversation, request)).concat({ kind: "requests", id });
    }

    #reset(conversation, lastSeq) {
        conversation.cursor = lastSeq;
        conversation.last_seq = lastSeq;
        conversation.countedTo = -1;
        conversation.timeline.reset();
        conversation.members.clear();
        conversation.hasMembers = false;
        conversation.requests = undefined;
        const { id } = conversation;
        const effects = this.#dropStored(conversation) ? [{ kind: "outbox" }] : [];
        effects.push({ kind: "conversation", id }, { kind: "fetch", id }, { kind: "reload", id });
        return [...effects, { kind: "read_threads" }];
    }

    #typing(conversation, { user_id, expires_in_ms }, now) {
        conversation.typing.set(user_id, now + (expires_in_ms ?? TYPING_MS));
        return [{ kind: "typing", id: conversation.id }];
    }

    /** The users who are typing in a conversation at `now`. */
    typingUsers(conversation, now) {
        for (const [user, until] of conversation.typing) {
            if (until <= now) conversation.typing.delete(user);
        }
        return [...conversation.typing.keys()];
    }

    #readUpdated(conversation, { user_id, read_seq }) {
        const effects = [{ kind: "conversation", id: conversation.id }];
        if (user_id === this.me?.id) this.#read(conversation, read_seq, effects);
        const member = conversation.members.get(user_id);
        if (member) member.read_seq = Math.max(member.read_seq ?? 0, read_seq);
        return effects;
    }

    #read(conversation, seq, effects) {
        if (seq <= conversation.read_seq) return;
        conversation.read_seq = seq;
        if (seq >= conversation.last_seq) Object.assign(conversation, { unread: 0, mentions: 0 });
        else effects.push({ kind: "fetch", id: conversation.id });
        effects.push({ kind: "list" });
    }

    /** Marks a conversation as read up to `seq`; returns the data for `mark_read`, or undefined if nothing changed. */
    markRead(id, seq) {
        const conversation = this.conversations.get(id);
        if (!conversation || seq <= conversation.read_seq) return undefined;
        const effects = [];
        this.#read(conversation, seq, effects);
        return { conversation_id: id, seq };
    }

    /** Puts a message into the outbox, where it is shown until its event arrives. */
    sending(message, now) {
        const conversation = this.conversations.get(message.conversation_id);
        conversation?.pending.push({ ...message, state: "sending", created_at: new Date(now).toISOString() });
        return [{ kind: "outbox" }, { kind: "conversation", id: message.conversation_id }];
    }

    /**
     * Applies the outcome of sending a message: {message_id, seq} of the ack, {retry} before a retry, {error} after a
     * refusal, undefined to discard it. An acknowledged message stays in the outbox until its event arrives. After a
     * reload that event never arrives, because the cursor is already past it.
     */
    sent(conversationId, clientMessageId, outcome) {
        const conversation = this.conversations.get(conversationId);
        const message = conversation?.pending.find((other) => other.client_message_id === clientMessageId);
        if (!message) return [{ kind: "outbox" }];
        if (!outcome) conversation.pending.splice(conversation.pending.indexOf(message), 1);
        else {
            const state = outcome.error ? "failed" : outcome.seq === undefined ? "sending" : "sent";
            Object.assign(message, outcome, { state });
            this.#dropStored(conversation);
        }
        return [{ kind: "outbox" }, { kind: "conversation", id: conversationId }];
    }

    /** The messages without an ack, which a reload must not lose. */
    unsent() {
        const pending = [...this.conversations.values()].flatMap((conversation) => conversation.pending);
        return pending
            .filter(({ state }) => state === "sending")
            .map(({ conversation_id, content, parent_message_id, client_message_id, attachments, files }) => ({
                conversation_id,
                content,
                parent_message_id,
                client_message_id,
                ...(attachments && { attachments, files }),
            }));
    }

    /** Applies a page of a conversation's members. */
    members(id, members, isLast) {
        const conversation = this.conversations.get(id);
        if (!conversation) return [];
        for (const member of members) {
            this.rememberUser(member);
            const known = conversation.members.get(member.id);
            const read_seq = Math.max(member.read_seq ?? 0, known?.read_seq ?? 0);
            conversation.members.set(member.id, { ...known, ...member, read_seq });
        }
        conversation.hasMembers ||= isLast;
        return [{ kind: "conversation", id }, { kind: "people" }, { kind: "list" }];
    }

    removeConversation(id) {
        this.threads.removeConversation(id);
        return this.conversations.delete(id) ? [{ kind: "list" }, { kind: "left", id, reason: "gone" }] : [];
    }

    /** Remembers what is known about a user. Fields that `user` lacks stay as they are. */
    rememberUser(user) {
        const person = { ...this.people.get(user.id) };
        for (const field of ["id", "username", "display_name", "avatar_url", "bio"]) {
            if (user[field] !== undefined) person[field] = user[field];
        }
        if (user.role === "bot" || user.bot) person.isBot = true;
        this.people.set(user.id, person);
        if (user.id === this.me?.id) this.me = { ...this.me, ...person };
    }

    /** Replaces the list of blocked users. */
    blocks(users) {
        this.blocked = new Map(users.map((user) => [user.id, user]));
        users.forEach((user) => this.rememberUser(user));
        return [{ kind: "people" }, { kind: "profile" }];
    }

    /** Applies a block or an unblock. */
    block(user, isBlocked) {
        if (isBlocked) this.blocked.set(user.id, user);
        else this.blocked.delete(user.id);
        this.presence.delete(user.id); // the server sends no presence between the two
        return [{ kind: "people" }, { kind: "profile" }];
    }

    /** All conversations, the one with the newest message first. */
    sorted() {
        const time = ({ last_message_at, created_at }) => last_message_at ?? created_at ?? "";
        return [...this.conversations.values()].sort(
            (a, b) => time(b).localeCompare(time(a)) || a.id.localeCompare(b.id),
        );
    }

    /** The other user of a direct conversation, if known. */
    peer(conversation) {
        if (conversation.kind !== "direct") return undefined;
        return [...conversation.members.values()].find(({ id }) => id !== this.me?.id);
    }
}
