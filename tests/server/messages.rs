//! Messages: an acknowledged message is durable and has a `seq`. All members receive the same messages in the same
//! order, once. A send can be repeated with the same `client_message_id`; the message is stored once.
//!
//! How: many senders and readers use both formats on one, two and four shards, so that a conversation, its senders and
//! its readers live on different shards. Each client checks that its own stream has no gap (`support::Log`); then all
//! streams are compared.

use crate::support;
use crate::support::{Client, Format, Log, Random, Received, Server, User, keys, server, shards, text, unique};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SENDERS: usize = 8;
const MESSAGES_PER_SENDER: usize = 200;
/// Unanswered commands per connection; the server allows more.
const WINDOW: usize = 50;
/// The content of the last message in each room.
const LAST_MESSAGE: &str = "that was all";

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

async fn room_of_two(server: &Server) -> (User, User, String) {
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    (ann, bob, room)
}

fn message(room: &str, content: &str) -> Value {
    json!({"conversation_id": room, "content": content})
}

#[tokio::test]
async fn sends_the_ack_before_the_event_and_the_event_to_all_members() {
    let server = server().await;
    let (ann, bob, room) = room_of_two(server).await;
    for (round, format) in Format::ALL.into_iter().enumerate() {
        let mut sender = Client::all(server, &ann, format).await;
        let mut phone = Client::all(server, &ann, format.other()).await;
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
        assert_eq!(phone.event("message_created").await, *message, "the sender's other connection");
        let mut expected = message.clone();
        expected.as_object_mut().unwrap().remove("client_message_id");
        let received = reader.event("message_created").await;
        assert_eq!(received, expected, "other members do not see the sender's client_message_id");
        assert_eq!(keys(&received), MESSAGE_KEYS);
        assert_eq!((&received["content"], &received["message_type"]), (&json!(content), &json!("text")));
        assert_eq!(received["sender"], json!({"id": ann.id, "username": ann.name, "display_name": ann.name}));
        let time = text(&received["created_at"]);
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
    let history_of_ann = server.history(&ann, &room).await;
    let history_of_bob = server.history(&bob, &room).await;
    assert_eq!(history_of_ann.iter().map(|m| text(&m["client_message_id"])).collect::<Vec<_>>(), ["key 0", "key 1"]);
    assert!(history_of_bob.iter().all(|message| keys(message) == MESSAGE_KEYS), "{history_of_bob:?}");
}

/// The messages that one client has received: (room, seq) → content.
type Stream = BTreeMap<(String, i64), String>;

/// Reads until the last message of every room has arrived.
async fn receive_all(client: &mut Client, rooms: &[String]) -> Stream {
    let mut log = Log::after(rooms.iter().map(|room| (room.as_str(), 1)));
    let (mut stream, mut finished) = (Stream::new(), 0);
    while finished < rooms.len() {
        let event = client.next_event().await;
        if log.record(&event) {
            let data = &event["data"];
            let content = text(&data["content"]).to_owned();
            finished += usize::from(content == LAST_MESSAGE);
            stream.insert((text(&data["conversation_id"]).to_owned(), data["seq"].as_i64().unwrap()), content);
        }
    }
    stream
}

/// Sends to the rooms in turn, with at most [`WINDOW`] unanswered commands. Returns the acknowledged messages.
async fn send_all(client: &mut Client, number: usize, rooms: &[String]) -> Stream {
    let mut acked = Stream::new();
    let mut waiting = std::collections::VecDeque::new();
    for n in 0..MESSAGES_PER_SENDER {
        let room = &rooms[(n + number) % rooms.len()];
        let content = format!("{number}: {n}");
        let data = json!({"conversation_id": room, "content": content, "client_message_id": content});
        waiting.push_back((client.send("send_message", data).await, content));
        while waiting.len() > if n + 1 == MESSAGES_PER_SENDER { 0 } else { WINDOW } {
            let (id, content) = waiting.pop_front().unwrap();
            let ack = client.reply(id).await.unwrap_or_else(|error| panic!("{content}: {error}"));
            assert_eq!(ack["duplicate"], false);
            acked.insert((text(&ack["conversation_id"]).to_owned(), ack["seq"].as_i64().unwrap()), content);
        }
    }
    acked
}

async fn check_order_for_all_members(workers: usize) {
    let server = shards(workers).await;
    let users = server.register_many(SENDERS).await;
    let members: Vec<&User> = users.iter().collect();
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(server.room(&members).await);
    }
    let format = |n: usize| Format::ALL[n % 2];
    let mut senders = join_all(users.iter().enumerate().map(|(n, user)| Client::all(server, user, format(n)))).await;
    let mut readers =
        join_all(users.iter().enumerate().map(|(n, user)| Client::all(server, user, format(n + 1)))).await;

    let rooms = &rooms;
    let sending = async {
        let acked = join_all(senders.iter_mut().enumerate().map(|(n, client)| send_all(client, n, rooms))).await;
        for room in rooms {
            server.ok(&users[0], "send_message", message(room, LAST_MESSAGE)).await;
        }
        acked
    };
    let receiving = join_all(readers.iter_mut().map(|client| receive_all(client, rooms)));
    let (acked, received) = tokio::join!(sending, receiving);

    let first = &received[0];
    assert_eq!(first.len(), SENDERS * MESSAGES_PER_SENDER + rooms.len());
    assert!(received.iter().all(|stream| stream == first), "two readers received different orders");
    for (client, acked) in senders.iter_mut().zip(&acked) {
        assert!(acked.iter().all(|(place, content)| first.get(place) == Some(content)), "an ack has another seq");
        assert_eq!(receive_all(client, rooms).await, *first, "a sender received another order");
    }
    for number in 0..SENDERS {
        for room in rooms {
            let number_of =
                |content: &str| content.strip_prefix(&format!("{number}: ")).and_then(|n| n.parse::<u32>().ok());
            let order: Vec<u32> =
                first.iter().filter(|((r, _), _)| r == room).filter_map(|(_, content)| number_of(content)).collect();
            assert!(order.is_sorted(), "messages of one sender keep their order: {order:?}");
        }
    }
    for room in rooms {
        let stored = server.history(&users[1], room).await;
        let delivered = first.iter().filter(|((r, _), _)| r == room);
        assert!(
            stored
                .iter()
                .map(|m| (m["seq"].as_i64().unwrap(), text(&m["content"])))
                .eq(delivered.map(|((_, seq), content)| (*seq, content.as_str())))
        );
    }
}

#[tokio::test]
async fn delivers_one_order_to_all_members_on_one_shard() {
    check_order_for_all_members(1).await;
}

#[tokio::test]
async fn delivers_one_order_to_all_members_on_two_shards() {
    check_order_for_all_members(2).await;
}

#[tokio::test]
async fn delivers_one_order_to_all_members_on_four_shards() {
    check_order_for_all_members(4).await;
}

#[tokio::test]
async fn accepts_a_client_message_id_again_after_a_refused_send() {
    let server = shards(2).await;
    let (ann, _bob, room) = room_of_two(server).await;
    let mut client = Client::none(server, &ann, Format::Json).await;
    for round in 0..20 {
        let key = format!("key {round}");
        let valid = json!({"conversation_id": room, "content": "x", "client_message_id": key});
        let mut invalid = valid.clone();
        invalid["parent_message_id"] = json!(9_000_000_000_i64);
        // Both are sent without waiting for a reply, so that one batch often contains both.
        let refused = client.send("send_message", invalid).await;
        let stored = client.send("send_message", valid).await;
        assert_eq!(client.reply(refused).await.unwrap_err()["code"], "not_found");
        assert_eq!(client.reply(stored).await.unwrap()["duplicate"], false);
    }
}

#[tokio::test]
async fn stores_a_client_message_id_once() {
    let server = shards(4).await;
    let (ann, bob, room) = room_of_two(server).await;
    let mut reader = Client::all(server, &bob, Format::Json).await;
    let mut one = Client::none(server, &ann, Format::Json).await;
    let mut two = Client::none(server, &ann, Format::MessagePack).await;
    let rounds = 30;
    let mut acks = Vec::new();
    for round in 0..rounds {
        let key = format!("round {round}");
        let data = json!({"conversation_id": room, "content": key, "client_message_id": key});
        // Twice on one connection without waiting, once on another connection, once over HTTP.
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
    assert_eq!(one.ok("send_message", again.clone()).await, expected, "a repeat gets the result of the first send");
    assert_eq!(
        server.ok(&bob, "send_message", again.clone()).await["duplicate"],
        false,
        "a client_message_id belongs to its sender"
    );
    let other = server.room(&[&ann]).await;
    let elsewhere = json!({"conversation_id": other, "content": "x", "client_message_id": "round 0"});
    assert_eq!(one.ok("send_message", elsewhere).await["duplicate"], false, "and to one conversation");
    let without_id = message(&room, "the same text");
    let (a, b) = (one.ok("send_message", without_id.clone()).await, one.ok("send_message", without_id).await);
    assert_ne!(a["message_id"], b["message_id"], "without a client_message_id every send stores a message");
}

#[tokio::test]
async fn adds_a_reply_to_a_reply_to_the_thread_of_the_root() {
    let server = server().await;
    let (ann, bob, room) = room_of_two(server).await;
    let mut client = Client::all(server, &ann, Format::Json).await;
    let first = client.ok("send_message", message(&room, "root")).await["message_id"].clone();
    let reply = |parent: &Value, content: &str| {
        let mut data = message(&room, content);
        data["parent_message_id"] = parent.clone();
        data
    };
    let second = client.ok("send_message", reply(&first, "first")).await["message_id"].clone();
    let third = server.ok(&bob, "send_message", reply(&second, "to a reply")).await;
    let mut log = Log::after([(room.as_str(), 1)]);
    let received = client.follow(&mut log, &room, 4).await;
    assert_eq!(received[1]["parent_message_id"], first);
    assert_eq!(received[2]["parent_message_id"], first, "a reply to a reply belongs to the thread's root");
    let stored = server.history(&bob, &room).await;
    assert_eq!(stored[0]["thread"], json!({"reply_count": 2, "last_reply_at": third["created_at"]}));
    assert_eq!((stored[1].get("thread"), &stored[2]["parent_message_id"]), (None, &first));
}

#[tokio::test]
async fn counts_a_mention_of_a_member_until_it_is_read() {
    let server = server().await;
    let (ann, bob, room) = room_of_two(server).await;
    let stranger = server.register().await;
    let mut mentioned = Client::all(server, &bob, Format::Json).await;
    let content = format!("@{} hello! Mail me@{} or @{}", bob.name.to_uppercase(), bob.name, stranger.name);
    let sent = server.ok(&ann, "send_message", message(&room, &content)).await;
    let message = mentioned.event("message_created").await;
    assert_eq!(
        message["mentions"],
        json!([bob.id]),
        "mentions ignore case, count only members, and are not part of an address"
    );
    let conversation = server.ok(&bob, "get_conversation", json!({"conversation_id": room})).await;
    assert_eq!(conversation["conversation"]["mention_count"], 1);
    assert_eq!(server.history(&ann, &room).await[0]["mentions"], json!([bob.id]));
    let marked = json!({"conversation_id": room, "seq": sent["seq"]});
    server.ok(&bob, "mark_read", marked).await;
    let conversation = server.ok(&bob, "get_conversation", json!({"conversation_id": room})).await;
    assert_eq!(conversation["conversation"]["mention_count"], 0);
}

#[tokio::test]
async fn reads_history_backward_forward_and_around_a_message() {
    let server = server().await;
    let (ann, bob, room) = room_of_two(server).await;
    let mut client = Client::none(server, &ann, Format::MessagePack).await;
    let mut ids = Vec::new();
    for n in 2..=31 {
        ids.push(client.ok("send_message", message(&room, &n.to_string())).await["message_id"].clone());
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
async fn counts_messages_of_others_after_the_read_marker_as_unread() {
    let server = server().await;
    let (ann, bob, room) = room_of_two(server).await;
    for sender in [&ann, &bob, &ann, &bob, &ann] {
        server.ok(sender, "send_message", message(&room, "x")).await;
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
async fn refuses_reads_and_sends_of_users_who_are_not_members() {
    let server = server().await;
    let (ann, _, room) = room_of_two(server).await;
    server.ok(&ann, "send_message", message(&room, "secret")).await;
    let public = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("p")})).await;
    let public = support::id_of(&public);
    let eve = server.register().await;
    let mut eve = Client::all(server, &eve, Format::Json).await;
    // Whether a private room exists is not told.
    for (room, refusal) in [(&room, "not_found"), (&public, "not_member")] {
        assert_eq!(eve.refused("send_message", message(room, "hi")).await, refusal);
        for command in ["get_history", "list_members", "subscribe"] {
            assert_eq!(eve.refused(command, json!({"conversation_id": room})).await, refusal, "{command}");
        }
        let after = json!({"conversation_id": room, "after_seq": 0});
        assert_eq!(eve.refused("subscribe", after).await, refusal);
    }
    let _ = eve.command("resume", json!({"cursors": {(room.clone()): 0, public: 0}})).await;
    server.ok(&ann, "send_message", message(&room, "still secret")).await;
    let received = eve.drain().await;
    assert!(received.iter().all(|event| event["type"] != "message_created"), "{received:?}");
}

#[tokio::test]
async fn delivers_messages_of_every_size_up_to_the_limit() {
    let server = server().await;
    let (ann, bob, room) = room_of_two(server).await;
    let mut reader = Client::all(server, &bob, Format::MessagePack).await;
    let mut random = Random::new();
    for length in [1, 125, 126, 127, 4_000] {
        let content: String = (0..length).map(|_| ['a', 'é', '漢', '👋'][random.below(4) as usize]).collect();
        for sender in Format::ALL {
            // The longest client_message_id that is allowed, another one for each send.
            let key = format!("{:k>64}", format!("{sender:?}-{length}"));
            let data = json!({"conversation_id": room, "content": content, "client_message_id": key});
            Client::none(server, &ann, sender).await.ok("send_message", data).await;
            assert_eq!(reader.event("message_created").await["content"], content, "{length} characters, {sender:?}");
        }
    }
}

#[tokio::test]
async fn shares_a_users_rate_limit_between_connections() {
    let server = Server::start(2, &[("limits.max_messages_per_minute", "5")]);
    let (ann, bob, room) = room_of_two(&server).await;
    let mut one = Client::none(&server, &ann, Format::Json).await;
    let mut two = Client::none(&server, &ann, Format::MessagePack).await;
    let mut refusals = Vec::new();
    for n in 0..4 {
        for client in [&mut one, &mut two] {
            refusals.extend(client.command("send_message", message(&room, &n.to_string())).await.err());
        }
    }
    assert!((1..=3).contains(&refusals.len()), "five of eight: {refusals:?}");
    for refusal in &refusals {
        assert_eq!(refusal["code"], "rate_limited", "{refusal}");
        assert!((1..=60_000).contains(&refusal["retry_after_ms"].as_i64().unwrap()), "{refusal}");
    }
    server.ok(&bob, "send_message", message(&room, "another user has a rate limit of their own")).await;
    one.ok("ping", json!({})).await;
    assert_eq!(server.history(&bob, &room).await.len(), 8 - refusals.len() + 1);
}
