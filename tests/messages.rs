//! Messages: acknowledged means durable and numbered; everybody sees the same numbers in the same order, once; sending
//! again with the same `client_message_id` is harmless.
//!
//! How: many senders and readers in both formats, on one, two and four shards, so that conversation, sender and reader
//! live on different ones; every client checks its own stream by arithmetic (`support::Log`) and all streams are compared.
#![cfg(feature = "test-db")]

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{Client, Format, Log, Random, Received, Server, User, keys, server, shards, text, unique};

const SENDERS: usize = 8;
const MESSAGES_PER_SENDER: usize = 200;
/// Fewer than a connection may have in flight.
const WINDOW: usize = 50;
const LAST_WORDS: &str = "that was all";

const MESSAGE_KEYS: [&str; 14] = [
    "attachments",
    "content",
    "conversation_id",
    "created_at",
    "deleted",
    "edited_at",
    "mentions",
    "message_id",
    "message_type",
    "parent_message_id",
    "pinned",
    "reactions",
    "sender",
    "seq",
];

async fn two_in_a_room(server: &Server) -> (User, User, String) {
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    (ann, bob, room)
}

fn say(room: &str, content: &str) -> Value {
    json!({"conversation_id": room, "content": content})
}

#[tokio::test]
async fn the_ack_comes_first_and_the_event_reaches_everybody() {
    let server = server().await;
    let (ann, bob, room) = two_in_a_room(server).await;
    for (round, format) in Format::ALL.into_iter().enumerate() {
        let mut sender = Client::all(server, &ann, format).await;
        let mut telephone = Client::all(server, &ann, format.other()).await;
        let mut reader = Client::all(server, &bob, format).await;
        let content = "Grüße 👋 \"quoted\" <b>\n\tnext line";
        let data = json!({"conversation_id": room, "content": content, "client_message_id": format!("key {round}")});
        sender.send("send_message", data).await;
        let Received::Frame(ack) = sender.receive().await else { panic!("no ack") };
        let Received::Frame(event) = sender.receive().await else { panic!("no event") };
        assert_eq!((&ack["type"], &event["type"]), (&json!("ack"), &json!("message_created")), "{ack} {event}");
        let (ack, message) = (&ack["data"], &event["data"]);
        assert_eq!(keys(ack), ["conversation_id", "created_at", "duplicate", "message_id", "seq"]);
        assert_eq!((&ack["seq"], &ack["duplicate"]), (&json!(2 + round), &json!(false)));
        for key in ["message_id", "conversation_id", "seq", "created_at"] {
            assert_eq!(ack[key], message[key], "{key}");
        }
        assert_eq!(message["client_message_id"], format!("key {round}"));
        assert_eq!(telephone.event("message_created").await, *message, "the sender's other connection");
        let mut others = message.clone();
        others.as_object_mut().unwrap().remove("client_message_id");
        let received = reader.event("message_created").await;
        assert_eq!(received, others, "somebody else does not see the sender's key");
        assert_eq!(keys(&received), MESSAGE_KEYS);
        assert_eq!((&received["content"], &received["message_type"]), (&json!(content), &json!("text")));
        assert_eq!(received["sender"], json!({"id": ann.id, "username": ann.name, "display_name": ann.name}));
        let time = text(&received["created_at"]);
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
    let by_ann = server.history(&ann, &room).await;
    let by_bob = server.history(&bob, &room).await;
    assert_eq!(by_ann.iter().map(|m| text(&m["client_message_id"])).collect::<Vec<_>>(), ["key 0", "key 1"]);
    assert!(by_bob.iter().all(|message| keys(message) == MESSAGE_KEYS), "{by_bob:?}");
}

/// What one client has seen: per room, seq → text.
type Seen = BTreeMap<(String, i64), String>;

/// Reads until the last words were said in every room.
async fn listen(client: &mut Client, rooms: &[String]) -> Seen {
    let mut log = Log::after(rooms.iter().map(|room| (room.as_str(), 1)));
    let (mut seen, mut over) = (Seen::new(), 0);
    while over < rooms.len() {
        let event = client.next_event().await;
        if log.saw(&event) {
            let data = &event["data"];
            let content = text(&data["content"]).to_owned();
            over += usize::from(content == LAST_WORDS);
            seen.insert((text(&data["conversation_id"]).to_owned(), data["seq"].as_i64().unwrap()), content);
        }
    }
    seen
}

/// Sends to rooms by turns with a window of unanswered ones; what was acknowledged.
async fn talk(client: &mut Client, number: usize, rooms: &[String]) -> Seen {
    let mut acked = Seen::new();
    let mut waiting = std::collections::VecDeque::new();
    for n in 0..MESSAGES_PER_SENDER {
        let room = &rooms[(n + number) % rooms.len()];
        let content = format!("{number}: {n}");
        let data = json!({"conversation_id": room, "content": content, "client_message_id": content});
        waiting.push_back((client.send("send_message", data).await, content));
        while waiting.len() > if n + 1 == MESSAGES_PER_SENDER { 0 } else { WINDOW } {
            let (id, content) = waiting.pop_front().unwrap();
            let ack = client.reply(id).await.unwrap_or_else(|refusal| panic!("{content}: {refusal}"));
            assert_eq!(ack["duplicate"], false);
            acked.insert((text(&ack["conversation_id"]).to_owned(), ack["seq"].as_i64().unwrap()), content);
        }
    }
    acked
}

async fn everybody_sees_one_order(workers: usize) {
    let server = shards(workers).await;
    let users = join_all((0..SENDERS).map(|_| server.register())).await;
    let members: Vec<&User> = users.iter().collect();
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(server.room(&members).await);
    }
    let format = |n: usize| Format::ALL[n % 2];
    let mut talkers = join_all(users.iter().enumerate().map(|(n, user)| Client::all(server, user, format(n)))).await;
    let mut listeners =
        join_all(users.iter().enumerate().map(|(n, user)| Client::all(server, user, format(n + 1)))).await;

    let rooms = &rooms;
    let talked = async {
        let acked = join_all(talkers.iter_mut().enumerate().map(|(n, client)| talk(client, n, rooms))).await;
        for room in rooms {
            server.ok(&users[0], "send_message", say(room, LAST_WORDS)).await;
        }
        acked
    };
    let listened = join_all(listeners.iter_mut().map(|client| listen(client, rooms)));
    let (acked, listened) = tokio::join!(talked, listened);

    let first = &listened[0];
    assert_eq!(first.len(), SENDERS * MESSAGES_PER_SENDER + rooms.len());
    assert!(listened.iter().all(|seen| seen == first), "two readers saw different orders");
    for (client, acked) in talkers.iter_mut().zip(&acked) {
        assert!(acked.iter().all(|(place, content)| first.get(place) == Some(content)), "an ack names another place");
        assert_eq!(listen(client, rooms).await, *first, "a sender saw another order");
    }
    for number in 0..SENDERS {
        for room in rooms {
            let of_one =
                |content: &str| content.strip_prefix(&format!("{number}: ")).and_then(|n| n.parse::<u32>().ok());
            let order: Vec<u32> =
                first.iter().filter(|((r, _), _)| r == room).filter_map(|(_, content)| of_one(content)).collect();
            assert!(order.is_sorted(), "one sender's messages in one room keep the order they were sent in: {order:?}");
        }
    }
    for room in rooms {
        let stored = server.history(&users[1], room).await;
        let seen = first.iter().filter(|((r, _), _)| r == room);
        assert!(
            stored
                .iter()
                .map(|m| (m["seq"].as_i64().unwrap(), text(&m["content"])))
                .eq(seen.map(|((_, seq), content)| (*seq, content.as_str())))
        );
    }
}

#[tokio::test]
async fn everybody_sees_one_order_on_one_shard() {
    everybody_sees_one_order(1).await;
}

#[tokio::test]
async fn everybody_sees_one_order_on_two_shards() {
    everybody_sees_one_order(2).await;
}

#[tokio::test]
async fn everybody_sees_one_order_on_four_shards() {
    everybody_sees_one_order(4).await;
}

#[tokio::test]
async fn a_refused_send_does_not_stand_in_the_way_of_the_same_key() {
    let server = shards(2).await;
    let (ann, _bob, room) = two_in_a_room(server).await;
    let mut client = Client::none(server, &ann, Format::Json).await;
    for round in 0..20 {
        let key = format!("key {round}");
        let send = |parent: Option<i64>| json!({"conversation_id": room, "content": "x", "client_message_id": key, "parent_message_id": parent});
        // Without waiting, so that both are in one batch as often as not.
        let refused = client.send("send_message", send(Some(9_000_000_000))).await;
        let stored = client.send("send_message", send(None)).await;
        assert_eq!(client.reply(refused).await.unwrap_err()["code"], "not_found");
        assert_eq!(client.reply(stored).await.unwrap()["duplicate"], false);
    }
}

#[tokio::test]
async fn a_client_message_id_is_stored_once_however_often_it_is_sent() {
    let server = shards(4).await;
    let (ann, bob, room) = two_in_a_room(server).await;
    let mut reader = Client::all(server, &bob, Format::Json).await;
    let mut one = Client::none(server, &ann, Format::Json).await;
    let mut two = Client::none(server, &ann, Format::MessagePack).await;
    let rounds = 30;
    let mut acks = Vec::new();
    for round in 0..rounds {
        let key = format!("round {round}");
        let data = json!({"conversation_id": room, "content": key, "client_message_id": key});
        // Twice on one connection without waiting, once on another, once over HTTP.
        let first = one.send("send_message", data.clone()).await;
        let second = one.send("send_message", data.clone()).await;
        let (third, fourth) = tokio::join!(two.ok("send_message", data.clone()), server.ok(&ann, "send_message", data));
        let mut answers = vec![one.reply(first).await.unwrap(), one.reply(second).await.unwrap(), third, fourth];
        assert_eq!(answers.iter().filter(|ack| ack["duplicate"] == false).count(), 1, "{answers:?}");
        for ack in &mut answers {
            ack["duplicate"] = json!(false);
        }
        assert!(answers.iter().all(|ack| *ack == answers[0]), "{answers:?}");
        assert_eq!(answers[0]["seq"], 2 + round);
        acks.push(answers.remove(0));
    }
    let mut log = Log::after([(room.as_str(), 1)]);
    assert_eq!(reader.follow(&mut log, &room, 1 + rounds).await.len() as i64, rounds);
    let again = json!({"conversation_id": room, "content": "another text", "client_message_id": "round 0"});
    let mut expected = acks[0].clone();
    expected["duplicate"] = json!(true);
    assert_eq!(one.ok("send_message", again.clone()).await, expected, "the first result, whatever comes later");
    assert_eq!(server.ok(&bob, "send_message", again.clone()).await["duplicate"], false, "a key is its sender's own");
    let other = server.room(&[&ann]).await;
    let elsewhere = json!({"conversation_id": other, "content": "x", "client_message_id": "round 0"});
    assert_eq!(one.ok("send_message", elsewhere).await["duplicate"], false, "and of one conversation");
    let keyless = say(&room, "the same text");
    let (a, b) = (one.ok("send_message", keyless.clone()).await, one.ok("send_message", keyless).await);
    assert_ne!(a["message_id"], b["message_id"], "without a key every send is a message");
}

#[tokio::test]
async fn replies_form_a_thread_at_its_root() {
    let server = server().await;
    let (ann, bob, room) = two_in_a_room(server).await;
    let mut client = Client::all(server, &ann, Format::Json).await;
    let first = client.ok("send_message", say(&room, "root")).await["message_id"].clone();
    let reply = |parent: &Value, content: &str| json!({"conversation_id": room, "content": content, "parent_message_id": parent});
    let second = client.ok("send_message", reply(&first, "first")).await["message_id"].clone();
    let third = server.ok(&bob, "send_message", reply(&second, "to a reply")).await;
    let mut log = Log::after([(room.as_str(), 1)]);
    let seen = client.follow(&mut log, &room, 4).await;
    assert_eq!(seen[1]["parent_message_id"], first);
    assert_eq!(seen[2]["parent_message_id"], first, "a reply to a reply belongs to the thread's root");
    let stored = server.history(&bob, &room).await;
    assert_eq!(stored[0]["thread"], json!({"reply_count": 2, "last_reply_at": third["created_at"]}));
    assert_eq!((stored[1].get("thread"), &stored[2]["parent_message_id"]), (None, &first));
}

#[tokio::test]
async fn who_is_mentioned_is_told() {
    let server = server().await;
    let (ann, bob, room) = two_in_a_room(server).await;
    let stranger = server.register().await;
    let mut mentioned = Client::all(server, &bob, Format::Json).await;
    let content = format!("@{} hello! Mail me@{} or @{}", bob.name.to_uppercase(), bob.name, stranger.name);
    let sent = server.ok(&ann, "send_message", say(&room, &content)).await;
    let message = mentioned.event("message_created").await;
    assert_eq!(message["mentions"], json!([bob.id]), "without case; only members; an address is no mention");
    let conversation = server.ok(&bob, "get_conversation", json!({"conversation_id": room})).await;
    assert_eq!(conversation["conversation"]["mention_count"], 1);
    assert_eq!(server.history(&ann, &room).await[0]["mentions"], json!([bob.id]));
    let marked = json!({"conversation_id": room, "seq": sent["seq"]});
    server.ok(&bob, "mark_read", marked).await;
    let conversation = server.ok(&bob, "get_conversation", json!({"conversation_id": room})).await;
    assert_eq!(conversation["conversation"]["mention_count"], 0);
}

#[tokio::test]
async fn a_history_is_read_in_both_directions_and_around_a_message() {
    let server = server().await;
    let (ann, bob, room) = two_in_a_room(server).await;
    let mut client = Client::none(server, &ann, Format::MessagePack).await;
    let mut ids = Vec::new();
    for n in 2..=31 {
        ids.push(client.ok("send_message", say(&room, &n.to_string())).await["message_id"].clone());
    }
    let mut reader = Client::none(server, &bob, Format::Json).await;
    let cases = [
        (json!({}), 2..32, false),
        (json!({"limit": 10}), 22..32, true),
        (json!({"before_seq": 22, "limit": 10}), 12..22, true),
        (json!({"before_seq": 12, "limit": 10}), 2..12, false),
        (json!({"before_seq": 12, "limit": 9}), 3..12, true),
        (json!({"after_seq": 0, "limit": 10}), 2..12, true),
        (json!({"after_seq": 21, "limit": 10}), 22..32, false),
        (json!({"after_seq": 31}), 0..0, false),
        (json!({"before_seq": 2}), 0..0, false),
        (json!({"after_seq": 9_000}), 0..0, false),
        (json!({"around_message_id": ids[14], "limit": 10}), 11..21, true),
        (json!({"around_message_id": ids[29], "limit": 200}), 2..32, false),
        (json!({"around_message_id": ids[0], "limit": 1}), 2..3, true),
    ];
    for (mut data, expected, has_more) in cases {
        data["conversation_id"] = json!(room);
        let page = reader.ok("get_history", data.clone()).await;
        let seqs: Vec<i64> = page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_i64().unwrap()).collect();
        assert_eq!((seqs, &page["has_more"]), (expected.collect(), &json!(has_more)), "{data}");
    }
}

#[tokio::test]
async fn unread_is_what_others_wrote_after_the_marker() {
    let server = server().await;
    let (ann, bob, room) = two_in_a_room(server).await;
    for sender in [&ann, &bob, &ann, &bob, &ann] {
        server.ok(sender, "send_message", say(&room, "x")).await;
    }
    let unread = async |user: &User| {
        let list = server.ok(user, "list_conversations", json!({})).await;
        list["conversations"][0]["unread_count"].as_i64().unwrap()
    };
    assert_eq!((unread(&ann).await, unread(&bob).await), (2, 3));
    server.ok(&bob, "mark_read", json!({"conversation_id": room, "seq": 4})).await;
    assert_eq!((unread(&ann).await, unread(&bob).await), (2, 1));
}

#[tokio::test]
async fn an_outsider_neither_writes_nor_reads() {
    let server = server().await;
    let (ann, _, room) = two_in_a_room(server).await;
    server.ok(&ann, "send_message", say(&room, "secret")).await;
    let public = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("p")})).await;
    let public = support::id_of(&public);
    let eve = server.register().await;
    let mut eve = Client::all(server, &eve, Format::Json).await;
    for room in [&room, &public] {
        assert_eq!(eve.refused("send_message", say(room, "hi")).await, "not_member");
        for command in ["get_history", "list_members", "subscribe"] {
            assert_eq!(eve.refused(command, json!({"conversation_id": room})).await, "not_member", "{command}");
        }
        let after = json!({"conversation_id": room, "after_seq": 0});
        assert_eq!(eve.refused("subscribe", after).await, "not_member");
    }
    let _ = eve.command("resume", json!({"cursors": {(room.clone()): 0, public: 0}})).await;
    server.ok(&ann, "send_message", say(&room, "still secret")).await;
    let heard = eve.drain().await;
    assert!(heard.iter().all(|event| event["type"] != "message_created"), "{heard:?}");
}

#[tokio::test]
async fn a_message_of_the_largest_size_arrives_whole() {
    let server = server().await;
    let (ann, bob, room) = two_in_a_room(server).await;
    let mut reader = Client::all(server, &bob, Format::MessagePack).await;
    let mut random = Random::new();
    for length in [1, 125, 126, 127, 4_000] {
        let content: String = (0..length).map(|_| ['a', 'é', '漢', '👋'][random.below(4) as usize]).collect();
        let key = "k".repeat(64);
        let data = json!({"conversation_id": room, "content": content, "client_message_id": format!("{length:0>64}")});
        assert_eq!(key.len(), 64);
        for sender in Format::ALL {
            Client::none(server, &ann, sender).await.ok("send_message", data.clone()).await;
        }
        assert_eq!(reader.event("message_created").await["content"], content);
    }
}

#[tokio::test]
async fn a_budget_is_the_users_on_all_connections() {
    let server = Server::start(2, &[("limits.max_messages_per_minute", "5")]);
    let (ann, bob, room) = two_in_a_room(&server).await;
    let mut one = Client::none(&server, &ann, Format::Json).await;
    let mut two = Client::none(&server, &ann, Format::MessagePack).await;
    let mut refusals = Vec::new();
    for n in 0..4 {
        for client in [&mut one, &mut two] {
            refusals.extend(client.command("send_message", say(&room, &n.to_string())).await.err());
        }
    }
    assert!((1..=3).contains(&refusals.len()), "five of eight: {refusals:?}");
    for refusal in &refusals {
        assert_eq!(refusal["code"], "rate_limited", "{refusal}");
        assert!((1..=60_000).contains(&refusal["retry_after_ms"].as_i64().unwrap()), "{refusal}");
    }
    server.ok(&bob, "send_message", say(&room, "somebody else's budget is another one")).await;
    one.ok("ping", json!({})).await;
    assert_eq!(server.history(&bob, &room).await.len(), 8 - refusals.len() + 1);
}
