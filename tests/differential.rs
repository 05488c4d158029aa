//! Whoever was away ends up with the same picture as whoever stayed, and both with what a newcomer reads.
//!
//! How: random histories of commands by five users in a few conversations, while their devices come and go; now and then the
//! server is killed and started again. Each device builds its picture from events alone, from the first one on. At the end
//! it must equal the picture of a fresh device, which reads history, members and pins instead. `CHAT_TEST_HISTORIES` sets how
//! many histories are played, `CHAT_TEST_SEED` repeats one.
#![cfg(feature = "test-db")]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::{Client, Format, Random, Server, User, from_env, text};

const USERS: usize = 5;
const DEVICES_OF_EACH: usize = 3;
const COMMANDS: u64 = 60;

/// A message as everybody should see it.
#[derive(Clone, PartialEq, Debug, Default)]
struct Message {
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
    /// Emoji → how many, and whether the device's user is among them.
    reactions: BTreeMap<String, (i64, bool)>,
    /// Replies, and the time of the newest.
    thread: Option<(i64, String)>,
}

/// A conversation as everybody should see it.
#[derive(Clone, PartialEq, Debug, Default)]
struct Picture {
    messages: BTreeMap<i64, Message>,
    /// Member → role and mute.
    members: BTreeMap<i64, (String, Option<String>)>,
    settings: BTreeMap<&'static str, Value>,
    /// What people are called.
    names: BTreeMap<i64, String>,
}

const SETTINGS: [&str; 6] = ["name", "description", "archived", "owner_id", "slow_mode_s", "member_limit"];

impl Message {
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

impl Picture {
    /// What one event does to it, for the device of user `me`.
    fn apply(&mut self, event: &Value, me: i64) {
        let data = &event["data"];
        for person in ["sender", "actor", "user", "invited_by"] {
            self.meet(&data[person]);
        }
        let user = || data["user"]["id"].as_i64().unwrap();
        let message = data["message_id"].as_i64();
        match text(&event["type"]) {
            "message_created" => drop(self.messages.insert(message.unwrap(), Message::read(data))),
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
                    self.meet(member);
                }
                self.settings = SETTINGS.iter().map(|name| (*name, Value::Null)).collect();
                self.settings.extend([("archived", json!(false)), ("slow_mode_s", json!(0))]);
                self.set(data);
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
            "conversation_updated" => self.set(data),
            "caught_up"
            | "read_updated"
            | "typing"
            | "mention"
            | "lagging"
            | "thread_follow_updated"
            | "join_requested"
            | "join_request_decided" => {}
            other => panic!("an event that this test does not know: {other}: {event}"),
        }
    }

    fn meet(&mut self, person: &Value) {
        if let Some(id) = person["id"].as_i64() {
            self.names.insert(id, text(&person["display_name"]).to_owned());
        }
    }

    fn set(&mut self, data: &Value) {
        for name in SETTINGS {
            if let Some(value) = data.get(name) {
                self.settings.insert(name, value.clone());
            }
        }
    }

    /// What somebody finds who was never there.
    async fn fresh(server: &Server, user: &User, conversation: &str) -> Self {
        let mut picture = Self::default();
        for message in server.history(user, conversation).await {
            picture.messages.insert(message["message_id"].as_i64().unwrap(), Message::read(&message));
            picture.meet(&message["sender"]);
        }
        let place = json!({"conversation_id": conversation, "limit": 200});
        for member in server.ok(user, "list_members", place.clone()).await["members"].as_array().unwrap() {
            let until = member["muted_until"].as_str().map(str::to_owned);
            picture.members.insert(member["id"].as_i64().unwrap(), (text(&member["role"]).to_owned(), until));
            picture.meet(member);
        }
        let found =
            &server.ok(user, "get_conversation", json!({"conversation_id": conversation})).await["conversation"];
        picture.settings = SETTINGS.iter().map(|name| (*name, found[*name].clone())).collect();
        let pinned = server.ok(user, "list_pins", json!({"conversation_id": conversation})).await;
        let listed: BTreeSet<_> =
            pinned["messages"].as_array().unwrap().iter().map(|m| m["message_id"].as_i64().unwrap()).collect();
        let marked = picture.messages.iter().filter(|(_, m)| m.pinned).map(|(id, _)| *id).collect();
        assert_eq!(listed, marked, "list_pins and the messages' own marks");
        // The markers' arithmetic, against counting.
        let all: Vec<Value> = server.history(user, conversation).await;
        let unread = |read: &Value, is_meant: &dyn Fn(&Value) -> bool| {
            let read = read.as_i64().unwrap();
            let counted = |m: &&Value| {
                m["seq"].as_i64().unwrap() > read
                    && m["deleted"] == false
                    && m["message_type"] != "system"
                    && m["sender"]["id"] != user.id
                    && is_meant(m)
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
        picture
    }
}

/// One device: its picture of every conversation, and where it stands in each log.
struct Device {
    user: User,
    format: Format,
    client: Option<Client>,
    pictures: BTreeMap<String, (i64, Picture)>,
}

impl Device {
    async fn connect(&mut self, server: &Server) {
        let mut client = Client::none(server, &self.user, self.format).await;
        let cursors: BTreeMap<_, _> = self.pictures.iter().map(|(place, (seq, _))| (place.clone(), *seq)).collect();
        client.ok("resume", json!({"cursors": cursors})).await;
        self.client = Some(client);
    }

    fn take(&mut self, events: Vec<Value>) {
        for event in events {
            let place = text(&event["data"]["conversation_id"]).to_owned();
            assert_ne!(event["type"], "reset", "{event}");
            let Some((cursor, picture)) = self.pictures.get_mut(&place) else { continue };
            let marks = ["caught_up", "mention", "read_updated", "lagging"];
            let is_mark = marks.contains(&text(&event["type"]));
            if let Some(seq) = event["data"]["seq"].as_i64().filter(|_| !is_mark) {
                assert_eq!(seq, *cursor + 1, "no gap, nothing twice: {event}");
                *cursor = seq;
            }
            picture.apply(&event, self.user.id);
        }
    }

    /// Ends the connection, properly or not.
    async fn cut(&mut self, properly: bool) {
        let Some(mut client) = self.client.take() else { return };
        let events = client.take_events();
        self.take(events);
        if properly {
            client.close().await;
        }
    }

    /// Reads up to the end of every log it can read.
    async fn read_up(&mut self, server: &Server, heads: &BTreeMap<String, i64>) {
        if self.client.is_none() {
            self.connect(server).await;
        }
        for (place, head) in heads {
            while self.pictures.get(place).is_some_and(|(cursor, _)| cursor < head) {
                let Some(client) = &mut self.client else { panic!("connected above") };
                let event = client.next_event().await;
                self.take(vec![event]);
            }
        }
        // What follows from the last of them (a thread's state) comes right after it.
        let Some(client) = &mut self.client else { return };
        let rest = client.drain().await;
        self.take(rest);
    }
}

/// What a history has brought about so far.
#[derive(Default)]
struct Said {
    /// Where, and which.
    messages: Vec<(String, i64)>,
    /// Who goes by another name now: once in a history, since more often is told with a delay.
    renamed: Vec<i64>,
    invites: Vec<Value>,
    blocks: Vec<(User, i64)>,
}

/// One command of a random user's; refusals are part of life.
async fn something(server: &Server, users: &[User], places: &[String], random: &mut Random, said: &mut Said) {
    let user = &users[random.below(USERS as u64) as usize];
    let other = &users[random.below(USERS as u64) as usize];
    let is_founder = user.id == users[0].id; // stays, so that no conversation is left without anybody
    let place = &places[random.below(places.len() as u64) as usize];
    let message = match said.messages.len() as u64 {
        0 => 1,
        len => said.messages[random.below(len) as usize].1,
    };
    let of_message = |more: Value| {
        let mut data = json!({"message_id": message});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let of_member = |more: Value| {
        let mut data = json!({"conversation_id": place, "user_id": other.id});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let role = ["admin", "moderator", "member"][random.below(3) as usize];
    let seconds = [0, 1, 3_600][random.below(3) as usize];
    let emoji = ["👍", "❤", ":logo:"][random.below(3) as usize];
    if random.below(20) == 0 && !said.renamed.contains(&user.id) {
        said.renamed.push(user.id);
        let names = json!({"display_name": format!("{} the Great", user.name), "bio": "at last"});
        let answer = server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&names)).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
    let (kind, data) = match random.below(42) {
        0..=8 => {
            let content = format!("number {} for @{} and @room", said.messages.len(), other.name);
            let mut data = json!({"conversation_id": place, "content": content});
            let in_place: Vec<i64> = said.messages.iter().filter(|(p, _)| p == place).map(|(_, id)| *id).collect();
            if !in_place.is_empty() && random.below(2) == 0 {
                data["parent_message_id"] = json!(in_place[random.below(in_place.len() as u64) as usize]);
            }
            ("send_message", data)
        }
        9..=11 => ("edit_message", of_message(json!({"content": format!("edited, @{}", other.name)}))),
        12..=13 => ("delete_message", of_message(json!({}))),
        14..=16 => ("add_reaction", of_message(json!({"emoji": emoji}))),
        17..=18 => ("remove_reaction", of_message(json!({"emoji": emoji}))),
        19..=20 => ("pin_message", of_message(json!({"pinned": random.below(2) == 0}))),
        21 => ("mark_read", json!({"conversation_id": place, "seq": random.below(40)})),
        22 => ("set_role", of_member(json!({"role": role}))),
        23 => ("mute_member", of_member(json!({"duration_s": seconds}))),
        24 => {
            ("update_conversation", json!({"conversation_id": place, "description": format!("d{}", random.below(9))}))
        }
        25 if !is_founder => ("leave_conversation", json!({"conversation_id": place})),
        25..=27 => ("join_conversation", json!({"conversation_id": place})),
        28 if other.id != users[0].id => ("remove_member", of_member(json!({}))),
        29 if other.id != users[0].id => ("ban_member", of_member(json!({}))),
        28..=30 => ("unban_member", of_member(json!({}))),
        31 => ("transfer_ownership", of_member(json!({}))),
        32 => ("archive_conversation", json!({"conversation_id": place, "archived": random.below(4) == 0})),
        33 => ("create_invite", json!({"conversation_id": place, "max_uses": 2})),
        34 if !said.invites.is_empty() => {
            ("join_by_invite", said.invites[random.below(said.invites.len() as u64) as usize].clone())
        }
        34..=35 => ("request_to_join", json!({"conversation_id": place, "text": "please"})),
        36..=37 => ("decide_join_request", of_member(json!({"accepted": random.below(3) > 0}))),
        38 => ("follow_thread", of_message(json!({"following": random.below(2) == 0}))),
        39 => ("mark_thread_read", of_message(json!({"seq": random.below(60)}))),
        40 if random.below(3) == 0 => ("block_user", json!({"user_id": other.id})),
        40 => ("unblock_user", json!({"user_id": other.id})),
        _ => ("invite_member", of_member(json!({}))),
    };
    match server.call(user, kind, data).await {
        Ok(done) => match kind {
            "send_message" => said.messages.push((place.clone(), done["message_id"].as_i64().unwrap())),
            "create_invite" => said.invites.push(json!({"code": done["invite"]["code"]})),
            "block_user" => said.blocks.push((user.clone(), other.id)),
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

async fn a_history(server: &Server, number: u64, random: &mut Random) {
    let mut users = Vec::new();
    for _ in 0..USERS {
        users.push(server.register().await);
    }
    let everybody: Vec<i64> = users[1..].iter().map(|user| user.id).collect();
    let mut places = Vec::new();
    for kind in ["public_room", "group", "private_room"] {
        let data = json!({"kind": kind, "name": "a room", "member_ids": everybody});
        places.push(support::id_of(&server.ok(&users[0], "create_conversation", data).await));
    }
    let mut devices: Vec<Device> = (0..USERS * DEVICES_OF_EACH)
        .map(|n| Device {
            user: users[n % USERS].clone(),
            format: Format::ALL[n % 2],
            client: None,
            pictures: places.iter().map(|place| (place.clone(), (0, Picture::default()))).collect(),
        })
        .collect();
    let mut said = Said::default();
    let killed_at = (number % 4 == 1).then(|| random.below(COMMANDS));
    for n in 0..COMMANDS {
        something(server, &users, &places, random, &mut said).await;
        let device = &mut devices[random.below((USERS * DEVICES_OF_EACH) as u64) as usize];
        match random.below(4) {
            0 => device.cut(random.below(2) == 0).await,
            1 if device.client.is_none() => device.connect(server).await,
            _ => {}
        }
        if killed_at == Some(n) {
            for device in &mut devices {
                device.cut(false).await;
            }
            server.kill9();
            server.wait();
            server.start_again();
        }
    }
    // Everybody comes back: only members can read a log to its end.
    for (user, blocked) in &said.blocks {
        server.ok(user, "unblock_user", json!({"user_id": blocked})).await;
    }
    for place in &places {
        for user in &users {
            let _ =
                server.call(user, "archive_conversation", json!({"conversation_id": place, "archived": false})).await;
        }
        for (ruler, banned) in users.iter().flat_map(|ruler| users.iter().map(move |banned| (ruler, banned))) {
            let data = json!({"conversation_id": place, "user_id": banned.id});
            let _ = server.call(ruler, "unban_member", data).await; // whoever may, does
        }
        for user in &users {
            if server.call(user, "join_conversation", json!({"conversation_id": place})).await.is_err() {
                for inviter in &users {
                    let invitation = json!({"conversation_id": place, "user_id": user.id});
                    if server.call(inviter, "invite_member", invitation).await.is_ok() {
                        break;
                    }
                }
            }
        }
    }
    let database = server.database().await;
    let untold = "SELECT count(*) FROM users WHERE announced_version < profile_version";
    while database.query_one(untold, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut heads = BTreeMap::new();
    for place in &places {
        heads.insert(place.clone(), server.last_seq(&users[0], place).await);
    }
    for device in &mut devices {
        device.cut(true).await;
        device.read_up(server, &heads).await;
        for place in &places {
            let fresh = Picture::fresh(server, &device.user, place).await;
            let (_, built) = device.pictures.get_mut(place).unwrap();
            // Whoever has neither said anything that is still to be read nor is a member is in nobody's history.
            built.names.retain(|id, _| fresh.names.contains_key(id));
            for (id, message) in &fresh.messages {
                assert_eq!(built.messages.get(id), Some(message), "message {id} in {place}, history {number}");
            }
            assert_eq!(built, &fresh, "{place} as {} sees it, history {number}", device.user.name);
        }
        device.cut(true).await;
    }
}

#[tokio::test]
async fn a_picture_of_events_equals_one_of_history() {
    let server = Server::start(2, &[]);
    let mut random = Random::new();
    for number in 0..from_env("CHAT_TEST_HISTORIES", 6) {
        a_history(&server, number, &mut random).await;
    }
}
