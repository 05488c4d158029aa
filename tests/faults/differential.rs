//! Convergence: a client that was offline ends with the same state as a client that stayed connected, and both end with
//! the state that a new client reads.
//!
//! How: five users run random commands in a few conversations, while their devices connect and disconnect. In some
//! histories the server is killed and started again. Each device builds its state from events alone, beginning with the
//! first event. At the end this state must equal that of a new device, which reads the history, the members and the
//! pins instead. `CHAT_TEST_HISTORIES` sets the number of histories, `CHAT_TEST_SEED` repeats a run.

use crate::support;
use crate::support::{Client, Format, Random, Server, User, from_env, text, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const USERS: usize = 5;
const DEVICES_OF_EACH: usize = 3;
const COMMANDS: u64 = 60;

/// A message as every device should show it.
#[derive(Clone, PartialEq, Debug, Default)]
struct KnownMessage {
    content: String,
    kind: String,
    /// What a system message reports.
    system: Value,
    sender: i64,
    deleted: bool,
    edited_at: Option<String>,
    pinned: bool,
    parent: Option<i64>,
    mentions: BTreeSet<i64>,
    /// Emoji → count, and whether the user of the device reacted.
    reactions: BTreeMap<String, (i64, bool)>,
    /// Number of replies, and the time of the newest.
    thread: Option<(i64, String)>,
}

/// The state of a conversation as every device should show it.
#[derive(Clone, PartialEq, Debug, Default)]
struct State {
    messages: BTreeMap<i64, KnownMessage>,
    /// Member → role and end of the mute.
    members: BTreeMap<i64, (String, Option<String>)>,
    settings: BTreeMap<&'static str, Value>,
    /// User → display name.
    names: BTreeMap<i64, String>,
}

const SETTINGS: [&str; 6] = ["name", "description", "archived", "owner_id", "slow_mode_s", "member_limit"];

impl KnownMessage {
    fn read(message: &Value) -> Self {
        let reaction = |entry: &Value| {
            (text(&entry["emoji"]).to_owned(), (entry["count"].as_i64().unwrap(), entry["me"].as_bool().unwrap()))
        };
        Self {
            content: text(&message["content"]).to_owned(),
            kind: text(&message["message_type"]).to_owned(),
            system: message["system"].clone(),
            sender: message["sender"]["id"].as_i64().unwrap(),
            deleted: message["deleted"].as_bool().unwrap(),
            edited_at: message["edited_at"].as_str().map(str::to_owned),
            pinned: message["pinned"].as_bool().unwrap(),
            parent: message["parent_message_id"].as_i64(),
            mentions: ids(&message["mentions"]),
            reactions: message["reactions"].as_array().unwrap().iter().map(reaction).collect(),
            thread: thread(&message["thread"]),
        }
    }
}

fn ids(list: &Value) -> BTreeSet<i64> {
    list.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

fn thread(thread: &Value) -> Option<(i64, String)> {
    let replies = thread["reply_count"].as_i64().filter(|replies| *replies > 0)?;
    Some((replies, text(&thread["last_reply_at"]).to_owned()))
}

impl State {
    /// Applies one event, on a device of user `me`.
    fn apply(&mut self, event: &Value, me: i64) {
        let data = &event["data"];
        for person in ["sender", "actor", "user", "invited_by"] {
            self.record_name(&data[person]);
        }
        let user = || data["user"]["id"].as_i64().unwrap();
        let message = data["message_id"].as_i64();
        match text(&event["type"]) {
            "message_created" => drop(self.messages.insert(message.unwrap(), KnownMessage::read(data))),
            "message_edited" => {
                let message = self.messages.get_mut(&message.unwrap()).expect("an edit comes after its message");
                text(&data["content"]).clone_into(&mut message.content);
                message.mentions = ids(&data["mentions"]);
                message.edited_at = data["edited_at"].as_str().map(str::to_owned);
            }
            "message_deleted" => {
                let message = self.messages.get_mut(&message.unwrap()).expect("a deletion comes after its message");
                message.deleted = true;
                message.content.clear();
                message.system = Value::Null;
                message.mentions.clear();
                message.reactions.clear();
                message.pinned = false;
            }
            "message_pinned" => {
                self.messages.get_mut(&message.unwrap()).unwrap().pinned = data["pinned"].as_bool().unwrap();
            }
            "reaction_added" | "reaction_removed" => {
                let reactions = &mut self.messages.get_mut(&message.unwrap()).unwrap().reactions;
                let entry = reactions.entry(text(&data["emoji"]).to_owned()).or_default();
                entry.0 = data["count"].as_i64().unwrap();
                if user() == me {
                    entry.1 = event["type"] == "reaction_added";
                }
                reactions.retain(|_, (count, _)| *count > 0);
            }
            "thread_updated" => {
                if let Some(root) = self.messages.get_mut(&message.unwrap()) {
                    root.thread = thread(data);
                }
            }
            "conversation_created" => {
                for member in data["members"].as_array().unwrap() {
                    let role = text(&member["role"]).to_owned();
                    self.members.insert(member["id"].as_i64().unwrap(), (role, None));
                    self.record_name(member);
                }
                self.settings = SETTINGS.iter().map(|name| (*name, Value::Null)).collect();
                self.settings.extend([("archived", json!(false)), ("slow_mode_s", json!(0))]);
                self.update_settings(data);
            }
            "member_joined" => {
                let muted_until = data["muted_until"].as_str().map(str::to_owned);
                self.members.insert(user(), (text(&data["role"]).to_owned(), muted_until));
            }
            "member_left" => drop(self.members.remove(&user())),
            "member_updated" => {
                if let Some(member) = self.members.get_mut(&user()) {
                    if let Some(role) = data["role"].as_str() {
                        role.clone_into(&mut member.0);
                    }
                    if let Some(until) = data.get("muted_until") {
                        member.1 = until.as_str().map(str::to_owned);
                    }
                }
            }
            "conversation_updated" => self.update_settings(data),
            "caught_up"
            | "read_updated"
            | "typing"
            | "mention"
            | "lagging"
            | "thread_follow_updated"
            | "join_requested"
            | "join_request_decided"
            | "message_rejected" => {}
            other => panic!("this test does not know the event {other}: {event}"),
        }
    }

    fn record_name(&mut self, person: &Value) {
        if let Some(id) = person["id"].as_i64() {
            self.names.insert(id, text(&person["display_name"]).to_owned());
        }
    }

    fn update_settings(&mut self, data: &Value) {
        for name in SETTINGS {
            if let Some(value) = data.get(name) {
                self.settings.insert(name, value.clone());
            }
        }
    }

    /// The state that a new device reads.
    async fn fresh(server: &Server, user: &User, conversation: &str) -> Self {
        let mut state = Self::default();
        for message in server.history(user, conversation).await {
            state.messages.insert(message["message_id"].as_i64().unwrap(), KnownMessage::read(&message));
            state.record_name(&message["sender"]);
        }
        let page = json!({"conversation_id": conversation, "limit": 200});
        for member in server.ok(user, "list_members", page).await["members"].as_array().unwrap() {
            let until = member["muted_until"].as_str().map(str::to_owned);
            state.members.insert(member["id"].as_i64().unwrap(), (text(&member["role"]).to_owned(), until));
            state.record_name(member);
        }
        let found =
            &server.ok(user, "get_conversation", json!({"conversation_id": conversation})).await["conversation"];
        state.settings = SETTINGS.iter().map(|name| (*name, found[*name].clone())).collect();
        let pinned = server.ok(user, "list_pins", json!({"conversation_id": conversation})).await;
        let listed: BTreeSet<_> =
            pinned["messages"].as_array().unwrap().iter().map(|m| m["message_id"].as_i64().unwrap()).collect();
        let marked = state.messages.iter().filter(|(_, m)| m.pinned).map(|(id, _)| *id).collect();
        assert_eq!(listed, marked, "list_pins differs from the `pinned` fields of the messages");
        // The counts of unread messages must equal a count over the history.
        let all: Vec<Value> = server.history(user, conversation).await;
        let unread = |read: &Value, matches: &dyn Fn(&Value) -> bool| {
            let read = read.as_i64().unwrap();
            let counted = |m: &&Value| {
                m["seq"].as_i64().unwrap() > read
                    && m["deleted"] == false
                    && m["message_type"] != "system"
                    && m["sender"]["id"] != user.id
                    && matches(m)
            };
            all.iter().filter(counted).count() as i64
        };
        assert_eq!(found["unread_count"], unread(&found["read_seq"], &|_| true), "{found}");
        let mentions_me = |m: &Value| ids(&m["mentions"]).contains(&user.id);
        assert_eq!(found["mention_count"], unread(&found["read_seq"], &mentions_me), "{found}");
        let listed = server.ok(user, "list_threads", json!({"conversation_id": conversation, "limit": 100})).await;
        for thread in listed["threads"].as_array().unwrap() {
            let root = &thread["root"]["message_id"];
            let replies = unread(&thread["read_seq"], &|m| m["parent_message_id"] == *root);
            assert_eq!(thread["unread_count"], replies, "{thread}");
        }
        state
    }
}

/// A device, with its cursor and state of every conversation.
struct Device {
    user: User,
    format: Format,
    client: Option<Client>,
    states: BTreeMap<String, (i64, State)>,
}

impl Device {
    async fn connect(&mut self, server: &Server) {
        let mut client = Client::none(server, &self.user, self.format).await;
        let cursors: BTreeMap<_, _> =
            self.states.iter().map(|(conversation, (seq, _))| (conversation.clone(), *seq)).collect();
        client.ok("resume", json!({"cursors": cursors})).await;
        self.client = Some(client);
    }

    fn apply(&mut self, events: Vec<Value>) {
        for event in events {
            let conversation = text(&event["data"]["conversation_id"]).to_owned();
            assert_ne!(event["type"], "reset", "{event}");
            let Some((cursor, state)) = self.states.get_mut(&conversation) else { continue };
            let without_seq = ["caught_up", "mention", "read_updated", "lagging"];
            let is_without_seq = without_seq.contains(&text(&event["type"]));
            if let Some(seq) = event["data"]["seq"].as_i64().filter(|_| !is_without_seq) {
                assert_eq!(seq, *cursor + 1, "no gap and no repetition: {event}");
                *cursor = seq;
            }
            state.apply(&event, self.user.id);
        }
    }

    /// Ends the connection, with a close frame or without.
    async fn disconnect(&mut self, with_close_frame: bool) {
        let Some(mut client) = self.client.take() else { return };
        let events = client.take_events();
        self.apply(events);
        if with_close_frame {
            client.close().await;
        }
    }

    /// Reads up to the last event of every conversation that its user can read.
    async fn read_to_end(&mut self, server: &Server, heads: &BTreeMap<String, i64>) {
        if self.client.is_none() {
            self.connect(server).await;
        }
        for (conversation, head) in heads {
            while self.states.get(conversation).is_some_and(|(cursor, _)| cursor < head) {
                let Some(client) = &mut self.client else { panic!("connected above") };
                let event = client.next_event().await;
                self.apply(vec![event]);
            }
        }
        // Events without a seq (the state of a thread) may follow the last numbered one.
        let Some(client) = &mut self.client else { return };
        let rest = client.drain().await;
        self.apply(rest);
    }
}

/// What the commands of a history have created so far.
#[derive(Default)]
struct Created {
    /// Conversation and message id.
    messages: Vec<(String, i64)>,
    /// Users who have a new display name. Each changes it once, since the server delays further changes.
    renamed: Vec<i64>,
    invites: Vec<Value>,
    blocks: Vec<(User, i64)>,
}

/// Runs one random command of a random user, which the server may refuse.
async fn run_random_command(
    server: &Server,
    users: &[User],
    conversations: &[String],
    random: &mut Random,
    created: &mut Created,
) {
    let user = &users[random.below(USERS as u64) as usize];
    let other = &users[random.below(USERS as u64) as usize];
    let is_founder = user.id == users[0].id; // never leaves, so that each conversation keeps a member
    let conversation = &conversations[random.below(conversations.len() as u64) as usize];
    let message = match created.messages.len() as u64 {
        0 => 1,
        len => created.messages[random.below(len) as usize].1,
    };
    let of_message = |more: Value| {
        let mut data = json!({"message_id": message});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let of_member = |more: Value| {
        let mut data = json!({"conversation_id": conversation, "user_id": other.id});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let role = ["admin", "moderator", "member"][random.below(3) as usize];
    let seconds = [0, 1, 3_600][random.below(3) as usize];
    let emoji = ["👍", "❤", ":logo:"][random.below(3) as usize];
    if random.below(20) == 0 && !created.renamed.contains(&user.id) {
        created.renamed.push(user.id);
        let names = json!({"display_name": format!("{} the Great", user.name), "bio": "at last"});
        let answer = server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&names)).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
    let (kind, data) = match random.below(42) {
        0..=8 => {
            let content = format!("number {} for @{} and @room", created.messages.len(), other.name);
            let mut data = json!({"conversation_id": conversation, "content": content});
            let candidates: Vec<i64> =
                created.messages.iter().filter(|(p, _)| p == conversation).map(|(_, id)| *id).collect();
            if !candidates.is_empty() && random.below(2) == 0 {
                data["parent_message_id"] = json!(candidates[random.below(candidates.len() as u64) as usize]);
            }
            ("send_message", data)
        }
        9..=11 => ("edit_message", of_message(json!({"content": format!("edited, @{}", other.name)}))),
        12..=13 => ("delete_message", of_message(json!({}))),
        14..=16 => ("add_reaction", of_message(json!({"emoji": emoji}))),
        17..=18 => ("remove_reaction", of_message(json!({"emoji": emoji}))),
        19..=20 => ("pin_message", of_message(json!({"pinned": random.below(2) == 0}))),
        21 => ("mark_read", json!({"conversation_id": conversation, "seq": random.below(40)})),
        22 => ("set_role", of_member(json!({"role": role}))),
        23 => ("mute_member", of_member(json!({"duration_s": seconds}))),
        24 => (
            "update_conversation",
            json!({"conversation_id": conversation, "description": format!("d{}", random.below(9))}),
        ),
        25 if !is_founder => ("leave_conversation", json!({"conversation_id": conversation})),
        25..=27 => ("join_conversation", json!({"conversation_id": conversation})),
        28 if other.id != users[0].id => ("remove_member", of_member(json!({}))),
        29 if other.id != users[0].id => ("ban_member", of_member(json!({}))),
        28..=30 => ("unban_member", of_member(json!({}))),
        31 => ("transfer_ownership", of_member(json!({}))),
        32 => ("archive_conversation", json!({"conversation_id": conversation, "archived": random.below(4) == 0})),
        33 => ("create_invite", json!({"conversation_id": conversation, "max_uses": 2})),
        34 if !created.invites.is_empty() => {
            ("join_by_invite", created.invites[random.below(created.invites.len() as u64) as usize].clone())
        }
        34..=35 => ("request_to_join", json!({"conversation_id": conversation, "text": "please"})),
        36..=37 => ("decide_join_request", of_member(json!({"accepted": random.below(3) > 0}))),
        38 => ("follow_thread", of_message(json!({"following": random.below(2) == 0}))),
        39 => ("mark_thread_read", of_message(json!({"seq": random.below(60)}))),
        40 if random.below(3) == 0 => ("block_user", json!({"user_id": other.id})),
        40 => ("unblock_user", json!({"user_id": other.id})),
        _ => ("invite_member", of_member(json!({}))),
    };
    match server.call(user, kind, data).await {
        Ok(done) => match kind {
            "send_message" => created.messages.push((conversation.clone(), done["message_id"].as_i64().unwrap())),
            "create_invite" => created.invites.push(json!({"code": done["invite"]["code"]})),
            "block_user" => created.blocks.push((user.clone(), other.id)),
            _ => {}
        },
        Err(problem) => {
            let expected = [
                "forbidden",
                "not_member",
                "not_found",
                "conflict",
                "muted",
                "read_only",
                "banned",
                "blocked",
                "bad_request",
            ];
            assert!(expected.contains(&text(&problem["code"])), "{kind}: {problem}");
        }
    }
}

async fn run_history(server: &Server, number: u64, random: &mut Random) {
    let mut users = Vec::new();
    for _ in 0..USERS {
        users.push(server.register().await);
    }
    let members: Vec<i64> = users[1..].iter().map(|user| user.id).collect();
    let mut conversations = Vec::new();
    for kind in ["public_room", "group", "private_room"] {
        let data = json!({"kind": kind, "name": "a room", "member_ids": members});
        conversations.push(support::id_of(&server.ok(&users[0], "create_conversation", data).await));
    }
    let mut devices: Vec<Device> = (0..USERS * DEVICES_OF_EACH)
        .map(|n| Device {
            user: users[n % USERS].clone(),
            format: Format::ALL[n % 2],
            client: None,
            states: conversations.iter().map(|conversation| (conversation.clone(), (0, State::default()))).collect(),
        })
        .collect();
    let mut created = Created::default();
    let killed_at = (number % 4 == 1).then(|| random.below(COMMANDS));
    for n in 0..COMMANDS {
        run_random_command(server, &users, &conversations, random, &mut created).await;
        let device = &mut devices[random.below((USERS * DEVICES_OF_EACH) as u64) as usize];
        match random.below(4) {
            0 => device.disconnect(random.below(2) == 0).await,
            1 if device.client.is_none() => device.connect(server).await,
            _ => {}
        }
        if killed_at == Some(n) {
            for device in &mut devices {
                device.disconnect(false).await;
            }
            server.kill9();
            server.wait();
            server.start_again();
        }
    }
    // All users join again, since only members can read a log to its end.
    for (user, blocked) in &created.blocks {
        server.ok(user, "unblock_user", json!({"user_id": blocked})).await;
    }
    for conversation in &conversations {
        for user in &users {
            let _ = server
                .call(user, "archive_conversation", json!({"conversation_id": conversation, "archived": false}))
                .await;
        }
        for (moderator, banned) in
            users.iter().flat_map(|moderator| users.iter().map(move |banned| (moderator, banned)))
        {
            let data = json!({"conversation_id": conversation, "user_id": banned.id});
            let _ = server.call(moderator, "unban_member", data).await; // users without the permission are refused
        }
        for user in &users {
            if server.call(user, "join_conversation", json!({"conversation_id": conversation})).await.is_err() {
                for inviter in &users {
                    let invitation = json!({"conversation_id": conversation, "user_id": user.id});
                    if server.call(inviter, "invite_member", invitation).await.is_ok() {
                        break;
                    }
                }
            }
        }
    }
    let announced = "SELECT NOT EXISTS (SELECT FROM users WHERE announced_version < profile_version)";
    wait_until(&server.database().await, announced).await;
    let mut heads = BTreeMap::new();
    for conversation in &conversations {
        heads.insert(conversation.clone(), server.last_seq(&users[0], conversation).await);
    }
    for device in &mut devices {
        device.disconnect(true).await;
        device.read_to_end(server, &heads).await;
        for conversation in &conversations {
            let mut fresh = State::fresh(server, &device.user, conversation).await;
            let (_, built) = device.states.get_mut(conversation).unwrap();
            // A new device knows only the names of members and of senders of messages that still exist.
            built.names.retain(|id, _| fresh.names.contains_key(id));
            // A member who could not write when the name changed is announced with a later change of the profile.
            for id in unannounced(server, conversation).await {
                built.names.remove(&id);
                fresh.names.remove(&id);
            }
            for (id, message) in &fresh.messages {
                assert_eq!(built.messages.get(id), Some(message), "message {id} in {conversation}, history {number}");
            }
            assert_eq!(built, &fresh, "{conversation} as {} sees it, history {number}", device.user.name);
        }
        device.disconnect(true).await;
    }
}

/// Members whose newest profile the conversation has not announced.
async fn unannounced(server: &Server, conversation: &str) -> Vec<i64> {
    let statement = "SELECT m.user_id FROM conversation_members m JOIN users u ON u.id = m.user_id \
                     WHERE m.conversation_id = $1 AND m.profile_version < u.profile_version";
    let number: i64 = conversation.split_once('_').unwrap().1.parse().unwrap();
    let rows = server.database().await.query(statement, &[&number]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn builds_the_same_state_from_events_as_from_history() {
    let server = Server::start(2, &[]);
    let mut random = Random::new();
    for number in 0..from_env("CHAT_TEST_HISTORIES", 6) {
        run_history(&server, number, &mut random).await;
    }
}
