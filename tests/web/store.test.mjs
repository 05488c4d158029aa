// web/store.js and timeline.js: the state matches the log, in whatever order events, pages and acks arrive.

import assert from "node:assert/strict";
import test from "node:test";
import { Store } from "../../web/store.js";

const ME = { id: 1, username: "ada", display_name: "Ada" };
const BOB = { id: 2, username: "bob", display_name: "Bob" };
const ROOM = "room_6";
const at = (seq) => new Date(Date.UTC(2026, 0, 1) + seq * 1_000).toISOString();

function message(seq, { id = seq * 10, sender = BOB, content = `m${seq}`, ...fields } = {}) {
    return {
        message_id: id,
        conversation_id: ROOM,
        seq,
        sender,
        content,
        message_type: "text",
        parent_message_id: null,
        mentions: [],
        reactions: [],
        pinned: false,
        edited_at: null,
        deleted: false,
        attachments: [],
        created_at: at(seq),
        ...fields,
    };
}

const created = (seq, fields) => ({ type: "message_created", data: message(seq, fields) });
const event = (type, seq, data) => ({ type, data: { conversation_id: ROOM, seq, created_at: at(seq), ...data } });

function store({ last_seq = 1, read_seq = 1 } = {}) {
    const made = new Store();
    made.welcome({
        user: ME,
        conversations: [{ id: ROOM, kind: "public_room", name: "lobby", last_seq, read_seq, role: "member" }],
    });
    const room = made.conversations.get(ROOM);
    room.timeline.merge("newest", { messages: [], has_more: false }, last_seq);
    return { made, room, give: (...events) => events.flatMap((one) => made.event(one, 0)) };
}

const shown = (room) => room.timeline.shown.map(({ seq, content }) => [seq, content]);

test("counts an event once, however often it arrives", () => {
    const { made, room, give } = store();
    for (let n = 0; n < 3; n++) give(created(2), created(3, { mentions: [1] }), created(4, { sender: ME }));
    assert.deepEqual(shown(room), [
        [2, "m2"],
        [3, "m3"],
        [4, "m4"],
    ]);
    assert.deepEqual([room.unread, room.mentions, room.cursor], [2, 1, 4]);
    assert.deepEqual(made.markRead(ROOM, 4), { conversation_id: ROOM, seq: 4 });
    assert.equal(made.markRead(ROOM, 4), undefined);
    assert.deepEqual([room.unread, room.mentions], [0, 0]);
});

test("does not count messages of a newer record twice, and reads an older record again", () => {
    const { made, room, give } = store();
    const record = {
        id: ROOM,
        kind: "public_room",
        name: "lobby",
        role: "member",
        last_seq: 3,
        read_seq: 1,
        unread_count: 2,
        mention_count: 0,
        member_count: 2,
    };
    made.record(record);
    give(created(2), created(3), created(4));
    assert.equal(room.unread, 3);
    const effects = made.record(record);
    assert.deepEqual([effects, room.unread], [[{ kind: "fetch", id: ROOM }], 3]);
});

test("an older page does not undo events", () => {
    const { room, give } = store();
    give(created(2), created(3));
    const asOf = room.cursor;
    const page = { messages: [message(2), message(3)], has_more: false };
    give(
        event("message_edited", 4, { message_id: 20, content: "edited", mentions: [], edited_at: at(4), actor: BOB }),
        event("reaction_added", 5, { message_id: 30, emoji: "👍", count: 1, user: ME }),
        created(6),
        event("message_deleted", 7, { message_id: 30, parent_message_id: null, actor: BOB }),
        event("message_pinned", 8, { message_id: 20, pinned: true, actor: BOB }),
    );
    room.timeline.merge("newest", page, asOf);
    assert.deepEqual(shown(room), [
        [2, "edited"],
        [3, ""],
        [6, "m6"],
    ]);
    const [first, second] = room.timeline.shown;
    assert.deepEqual([first.pinned, first.edited_at, second.deleted, second.reactions], [true, at(4), true, []]);
});

test("keeps an edit that arrives before the page with its message", () => {
    const { room, give } = store({ last_seq: 5 });
    give(event("message_edited", 6, { message_id: 20, content: "edited", mentions: [], edited_at: at(6), actor: BOB }));
    room.timeline.merge("older", { messages: [message(2), message(3)], has_more: false }, 5);
    assert.deepEqual(shown(room), [
        [2, "edited"],
        [3, "m3"],
    ]);
});

test("counts reactions and marks the user's own", () => {
    const { room, give } = store();
    const react = (type, seq, count, user) => event(type, seq, { message_id: 20, emoji: "🎉", count, user });
    give(created(2), react("reaction_added", 3, 1, BOB), react("reaction_added", 4, 2, ME));
    assert.deepEqual(room.timeline.shown[0].reactions, [{ emoji: "🎉", count: 2, me: true }]);
    give(react("reaction_removed", 5, 1, ME));
    assert.deepEqual(room.timeline.shown[0].reactions, [{ emoji: "🎉", count: 1, me: false }]);
    give(react("reaction_removed", 6, 0, BOB));
    assert.deepEqual(room.timeline.shown[0].reactions, []);
});

test("shows a sent message once, whether its ack or its event arrives first", () => {
    for (const ackFirst of [true, false]) {
        const { made, room, give } = store();
        made.sending({ conversation_id: ROOM, client_message_id: "k", content: "hi" }, 0);
        assert.equal(room.pending.length, 1);
        const ack = () => made.sent(ROOM, "k", { message_id: 20, seq: 2 });
        const arrives = () =>
            give(created(2, { sender: ME, content: "hi", client_message_id: ackFirst ? undefined : "k" }));
        if (ackFirst) ack();
        arrives();
        if (!ackFirst) ack();
        assert.deepEqual([room.pending, shown(room)], [[], [[2, "hi"]]]);
    }
    const { made, room } = store();
    made.sending({ conversation_id: ROOM, client_message_id: "k", content: "hi" }, 0);
    made.sent(ROOM, "k", { error: "you are muted" });
    assert.deepEqual([room.pending[0].state, room.pending[0].error], ["failed", "you are muted"]);
    made.sent(ROOM, "k");
    assert.deepEqual(room.pending, []);
});

test("shows a message from before a reload once", () => {
    // The room is not open: its history is not loaded, and the event arrived before the reload.
    const made = new Store();
    const room = { id: ROOM, kind: "public_room", name: "lobby", last_seq: 5, read_seq: 5, role: "member" };
    made.welcome({ user: ME, conversations: [room] });
    const sent = { conversation_id: ROOM, client_message_id: "k", content: "hi" };
    made.sending(sent, 0);
    assert.deepEqual(made.unsent(), [{ ...sent, parent_message_id: undefined }]);
    made.sent(ROOM, "k", { message_id: 50, seq: 5, duplicate: true });
    assert.deepEqual([made.conversations.get(ROOM).pending, made.unsent()], [[], []]);
});

test("keeps a message in the outbox until its ack, and saves every change of the outbox", () => {
    const { made, room, give } = store();
    const keeps = (effects) => effects.some(({ kind }) => kind === "outbox");
    assert.ok(keeps(made.sending({ conversation_id: ROOM, client_message_id: "k", content: "hi" }, 0)));
    assert.ok(keeps(made.sent(ROOM, "k", { retry: { code: "overloaded" } })));
    assert.equal(made.unsent().length, 1);
    assert.ok(keeps(made.sent(ROOM, "k", { message_id: 20, seq: 2 })));
    assert.deepEqual([made.unsent(), room.pending.length], [[], 1]); // shown until its event comes
    assert.ok(keeps(give(created(2, { sender: ME, client_message_id: "k" }))));
    assert.deepEqual(room.pending, []);
    // Its event is among those that a reset leaves out.
    made.sending({ conversation_id: ROOM, client_message_id: "k2", content: "again" }, 0);
    made.sent(ROOM, "k2", { message_id: 40, seq: 4 });
    assert.ok(keeps(give({ type: "reset", data: { conversation_id: ROOM, last_seq: 9 } })));
    assert.deepEqual(room.pending, []);
});

test("reset discards the state of a conversation and reads it again", () => {
    const { room, give } = store();
    give(created(2));
    const effects = give({ type: "reset", data: { conversation_id: ROOM, last_seq: 20_000 } });
    assert.deepEqual(
        effects.map(({ kind }) => kind),
        ["conversation", "fetch", "reload", "read_threads"],
    );
    assert.deepEqual([room.timeline.isLoaded, shown(room), room.cursor], [false, [], 20_000]);
    room.timeline.merge("newest", { messages: [message(19_999)], has_more: true }, 20_000);
    give(created(20_001), created(2));
    assert.deepEqual(shown(room), [
        [19_999, "m19999"],
        [20_001, "m20001"],
    ]);
});

test("after a jump into the past, new messages are not appended", () => {
    const { room, give } = store();
    give(created(50), created(51));
    room.timeline.merge("around", { messages: [message(10), message(11)], has_more: true }, 51);
    give(created(52));
    assert.deepEqual(
        shown(room).map(([seq]) => seq),
        [10, 11],
    );
    room.timeline.merge("newer", { messages: [message(12), message(50), message(51)], has_more: true }, 51);
    room.timeline.merge("newer", { messages: [], has_more: false }, 51);
    assert.deepEqual(
        shown(room).map(([seq]) => seq),
        [10, 11, 12, 50, 51, 52],
    );
});

test("shows replies in their thread and counts them at the root", () => {
    const { room, give } = store();
    give(created(2), created(3, { parent_message_id: 20 }));
    const { replies } = room.timeline.thread(20);
    assert.deepEqual([replies.length, room.timeline.shown[0].thread.reply_count], [1, 1]);
    give(created(4, { parent_message_id: 20 }));
    give({
        type: "thread_updated",
        data: { conversation_id: ROOM, message_id: 20, reply_count: 7, last_reply_at: at(4) },
    });
    assert.deepEqual([room.timeline.thread(20).replies.length, room.timeline.shown[0].thread.reply_count], [2, 7]);
    room.timeline.mergeThread(
        20,
        "newest",
        { root: message(2), messages: [message(3, { parent_message_id: 20 })], has_more: true, following: true },
        4,
    );
    assert.deepEqual([room.timeline.thread(20).replies.length, room.timeline.thread(20).hasOlder], [2, true]);
});

test("updates members, and removes a conversation that the user has left", () => {
    const { made, room, give } = store();
    room.member_count = 1;
    give(
        event("member_joined", 2, { user: BOB, role: "member" }),
        event("member_updated", 3, { user: BOB, role: "moderator", actor: ME }),
    );
    assert.deepEqual([room.member_count, room.members.get(2).role], [2, "moderator"]);
    give(
        event("conversation_updated", 4, { name: "hall", actor: BOB }),
        event("conversation_updated", 5, { archived: true, actor: BOB }),
    );
    assert.deepEqual([room.name, room.archived], ["hall", true]);
    const effects = give(event("member_left", 6, { user: ME, reason: "removed", actor: BOB }));
    assert.ok(effects.some(({ kind, reason }) => kind === "left" && reason === "removed"));
    assert.equal(made.conversations.size, 0);
});

test("shows and reads a conversation that the user was added to", () => {
    const { made, give } = store();
    const members = [
        { ...BOB, role: "owner" },
        { ...ME, role: "member" },
    ];
    const effects = give({
        type: "conversation_created",
        data: { conversation_id: "dm_4", seq: 1, kind: "direct", name: null, members, actor: BOB, created_at: at(1) },
    });
    assert.ok(effects.some(({ kind, id }) => kind === "fetch" && id === "dm_4"));
    assert.equal(made.peer(made.conversations.get("dm_4")).id, 2);
});

test("typing ends after a while or with the message", () => {
    const { made, room } = store();
    const typing = { type: "typing", data: { conversation_id: ROOM, user_id: 2, expires_in_ms: 6_000 } };
    made.event(typing, 1_000);
    assert.deepEqual([made.typingUsers(room, 6_999), made.typingUsers(room, 7_000)], [[2], []]);
    made.event(typing, 8_000);
    made.event(created(2), 8_001);
    assert.deepEqual(made.typingUsers(room, 8_002), []);
});

test("applies reads from other devices", () => {
    const { room, give } = store();
    give(created(2), created(3));
    const effects = give({ type: "read_updated", data: { conversation_id: ROOM, user_id: 1, read_seq: 2 } });
    assert.ok(effects.some(({ kind }) => kind === "fetch"));
    give({ type: "read_updated", data: { conversation_id: ROOM, user_id: 1, read_seq: 3 } });
    assert.equal(room.unread, 0);
});

test("random pages and events, in every order that the server could use, end in the state of the log", () => {
    for (let round = 1; round <= 200; round++) {
        let seed = round;
        const random = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;
        // By seq: the state of every message after that event.
        const log = [];
        let truth = new Map();
        const states = [truth];
        for (let seq = 1; seq <= 60; seq++) {
            truth = new Map([...truth].map(([id, one]) => [id, { ...one }]));
            const ids = [...truth.keys()];
            const id = ids.length > 0 && random(3) === 0 ? ids[random(ids.length)] : undefined;
            if (id === undefined) {
                truth.set(seq * 10, message(seq));
                log.push(created(seq));
            } else {
                Object.assign(truth.get(id), { content: `e${seq}`, edited_at: at(seq) });
                log.push(
                    event("message_edited", seq, {
                        message_id: id,
                        content: `e${seq}`,
                        mentions: [],
                        edited_at: at(seq),
                        actor: BOB,
                    }),
                );
            }
            states.push(truth);
        }
        const page = (state, from, to) =>
            [...state.values()].filter(({ seq }) => seq > from && seq <= to).map((one) => ({ ...one }));
        const start = random(40);
        const { made, room } = store({ last_seq: start, read_seq: 0 });
        room.timeline.reset();
        let flight; // a page that was read when the log was at `state`, asked for when the cursor was `asOf`
        for (let seq = start; seq <= 60; seq++) {
            if (!flight && random(3) === 0)
                flight = { asOf: room.cursor, state: Math.min(60, seq + random(3)), due: seq + random(6) };
            if (seq > start) made.event(log[seq - 1], 0);
            if (random(4) === 0 && seq > 1) made.event(log[random(seq)], 0); // a repetition
            if (flight && seq >= Math.max(flight.due, flight.state)) {
                const messages = page(states[flight.state], 0, flight.state);
                room.timeline.merge("newest", { messages, has_more: false }, flight.asOf);
                flight = undefined;
            }
        }
        if (!room.timeline.isLoaded) continue;
        const expected = [...states[60].values()].map(({ seq, content }) => [seq, content]);
        assert.deepEqual(shown(room), expected, `round ${round}`);
    }
});

test("applies presence to a user in all conversations", () => {
    const { made, give } = store();
    give({ type: "presence", data: { user_id: 2, status: "busy", status_text: "in a meeting" } });
    give({ type: "presence", data: { user_id: 2, status: "away", status_text: "" } });
    assert.deepEqual(made.presence.get(2), { user_id: 2, status: "away", status_text: "" });
});

test("system messages are never unread and do not reorder the list", () => {
    const { room, give } = store();
    const told = created(2, {
        message_type: "system",
        system: { kind: "joined", user: BOB, actor: null },
        content: "Bob joined",
    });
    const effects = give(told);
    assert.ok(!effects.some(({ kind }) => kind === "arrived"));
    assert.deepEqual([room.unread, room.last_message_at, room.cursor], [0, null, 2]);
    give(created(3), event("message_deleted", 4, { message_id: 20, parent_message_id: null, actor: ME }));
    assert.deepEqual(
        [room.unread, shown(room)],
        [
            1,
            [
                [2, ""],
                [3, "m3"],
            ],
        ],
    );
});

test("a new name applies everywhere, and missing fields stay", () => {
    const { made, room, give } = store();
    made.members(ROOM, [{ ...BOB, avatar_url: "https://a/b.png", role: "member", read_seq: null }], true);
    const profile = { display_name: "Robert", avatar_url: null, bio: "hi" };
    const effects = give(event("member_updated", 2, { user: { ...BOB, display_name: "Robert" }, actor: BOB, profile }));
    assert.ok(effects.some(({ kind }) => kind === "profile"));
    assert.deepEqual(made.people.get(2), { ...BOB, ...profile });
    made.rememberUser({ id: 2, username: "bob", display_name: "Robert" });
    assert.deepEqual([made.people.get(2).bio, room.members.get(2).role], ["hi", "member"]);
    give(event("member_updated", 3, { user: ME, actor: ME, profile: { ...profile, display_name: "Countess" } }));
    assert.equal(made.me.display_name, "Countess");
});

test("updates requests to join", () => {
    const { made, room, give } = store();
    const request = { conversation_id: ROOM, user: BOB, text: "please", created_at: at(1) };
    give({ type: "join_requested", data: request });
    assert.deepEqual([...room.requests.keys()], [2]);
    made.requests(ROOM, [{ ...request, user: { ...BOB, id: 3 } }]);
    assert.deepEqual([...room.requests.keys()], [3]);
    give({
        type: "join_request_decided",
        data: { conversation_id: ROOM, user: { ...BOB, id: 3 }, outcome: "declined", actor: ME },
    });
    assert.equal(room.requests.size, 0);
    for (const answer of [
        event("member_joined", 2, { user: BOB, role: "member" }),
        event("member_updated", 3, { user: BOB, banned: true, actor: ME }),
    ]) {
        give({ type: "join_requested", data: request });
        give(answer);
        assert.equal(room.requests.size, 0, answer.type);
    }
    made.requested.add("room_9");
    const effects = give({
        type: "join_request_decided",
        data: { conversation_id: "room_9", user: ME, outcome: "accepted", actor: BOB },
    });
    assert.deepEqual([effects, made.requested.size], [[{ kind: "decided", id: "room_9", outcome: "accepted" }], 0]);
});

test("a rejected text is an effect, also in a conversation that is not known", () => {
    const { give } = store();
    const data = { conversation_id: "room_9", code: "filtered", details: { rule: "offers" }, content: "an offer" };
    assert.deepEqual(give({ type: "message_rejected", data }), [{ kind: "rejected", id: "room_9", data }]);
});

test("counts unread replies of followed threads, and reads the list again when only the server can count", () => {
    const { made, give } = store();
    const { threads } = made;
    const reply = (seq, fields) => created(seq, { parent_message_id: 20, ...fields });
    const asks = (effects) => effects.some(({ kind }) => kind === "read_threads");
    give(created(2));
    assert.ok(asks(give(reply(3))), "the user may follow the thread");
    threads.list({ threads: [] }, true);
    assert.ok(!asks(give(reply(4))), "it is not");
    assert.ok(asks(give(reply(5, { sender: ME }))), "a reply follows the thread");
    const page = {
        threads: [{ root: message(2), last_reply_at: at(5), read_seq: 5, unread_count: 0 }],
        next_cursor: "more",
    };
    threads.list(page, true);
    give(reply(6), reply(7), reply(8, { sender: ME }));
    assert.deepEqual([threads.unread, threads.sorted()[0].last_reply_at, threads.cursor], [2, at(8), "more"]);
    give({
        type: "thread_updated",
        data: { conversation_id: ROOM, message_id: 20, reply_count: 4, last_reply_at: at(8) },
    });
    assert.equal(threads.entries.get(20).root.thread.reply_count, 4);
    give({
        type: "thread_follow_updated",
        data: { conversation_id: ROOM, message_id: 20, following: true, read_seq: 6, unread_count: 1 },
    });
    assert.equal(threads.unread, 1);
    assert.deepEqual([threads.read(20, 8), threads.read(20, 8), threads.unread], [true, false, 0]);
    assert.ok(asks(give(event("message_deleted", 9, { message_id: 60, parent_message_id: 20, actor: BOB }))));
    give({
        type: "thread_follow_updated",
        data: { conversation_id: ROOM, message_id: 20, following: false, read_seq: 0, unread_count: 0 },
    });
    assert.equal(threads.entries.size, 0);
    threads.list(page, true);
    made.removeConversation(ROOM);
    assert.equal(threads.entries.size, 0);
});

test("applies blocks and unblocks", () => {
    const { made } = store();
    made.blocks([BOB]);
    assert.deepEqual([...made.blocked.keys()], [2]);
    made.block(BOB, false);
    made.block({ ...BOB, id: 4 }, true);
    assert.deepEqual([...made.blocked.keys()], [4]);
});

test("the check of a file changes its messages, and an own upload's notice changes no log", () => {
    const { room, give } = store();
    const file = { file_id: 5, name: "a.png", size: 9, state: "scanning" };
    give(created(2, { attachments: [file] }), created(3, { attachments: [{ ...file, file_id: 6 }] }));
    const ready = { ...file, media_type: "image/png", state: "ready", width: 4, height: 3 };
    const version = room.timeline.known.get(20).version;
    give(event("file_updated", 4, { file_id: 5, file: ready, message_ids: [20, 999] }));
    assert.deepEqual(room.timeline.known.get(20).attachments, [ready]);
    assert.ok(room.timeline.known.get(20).version > version);
    give(event("file_updated", 5, { file_id: 6, message_ids: [30] }));
    assert.deepEqual(room.timeline.known.get(30).attachments, [{ ...file, file_id: 6, state: "expired" }]);
    const notice = { conversation_id: ROOM, file_id: 5, file: ready };
    assert.deepEqual(give({ type: "file_updated", data: notice }), [{ kind: "file", file: notice }]);
    assert.equal(room.cursor, 5);
});

test("an edit removes files, and one without a list of files keeps them", () => {
    const { room, give } = store();
    const [a, b] = [5, 6].map((file_id) => ({ file_id, name: `${file_id}.png`, size: 9, state: "ready" }));
    give(created(2, { attachments: [a, b] }));
    const edited = (content) => ({ message_id: 20, content, edited_at: "2026-01-01T00:00:00Z" });
    give(event("message_edited", 3, edited("one")));
    assert.deepEqual(room.timeline.known.get(20).attachments, [a, b]);
    give(event("message_edited", 4, { ...edited("two"), attachments: [b] }));
    assert.deepEqual([room.timeline.known.get(20).attachments, room.timeline.known.get(20).content], [[b], "two"]);
});

test("the list of files has pages of the server and what has arrived, without a hole and without what is gone", () => {
    const { room, give } = store({ last_seq: 90 });
    const { timeline } = room;
    const file = (file_id) => ({ file_id, name: `${file_id}.txt`, size: 9, state: "ready" });
    const found = (seq) => ({ ...message(seq, { attachments: [file(seq)] }), highlight: "m" });
    const listed = () => timeline.withFiles().map(({ seq }) => seq);
    timeline.merge("older", { messages: [message(20, { attachments: [file(20)] })], has_more: true }, 90);
    give(created(91, { attachments: [file(91)] }));
    assert.equal(timeline.mergeFiles({ messages: [found(80), found(70)], next_cursor: "a" }, 90), true);
    assert.deepEqual(listed(), [91, 80, 70], "20 waits for those between");
    assert.equal(timeline.known.get(800).highlight, undefined);
    // Events that came after a page was asked for are not undone by it.
    give(event("message_deleted", 92, { message_id: 800 }), event("message_deleted", 93, { message_id: 400 }));
    timeline.mergeFiles({ messages: [found(40), found(20)] }, 90);
    assert.deepEqual([listed(), timeline.files.cursor], [[91, 70, 20], undefined]);
    give(event("file_updated", 94, { file_id: 70, message_ids: [700] }));
    assert.equal(timeline.known.get(700).attachments[0].state, "expired");
    timeline.trim(0);
    assert.deepEqual(listed(), [91, 70, 20], "what is listed stays known");
    timeline.reset();
    assert.equal(timeline.files, undefined);
});

test("a reload keeps the files of messages without an ack", () => {
    const { made } = store();
    const unsent = {
        conversation_id: ROOM,
        content: "",
        client_message_id: "k",
        attachments: [5],
        files: [{ file_id: 5 }],
    };
    made.sending(unsent, 0);
    assert.deepEqual(made.unsent(), [{ ...unsent, parent_message_id: undefined }]);
});
