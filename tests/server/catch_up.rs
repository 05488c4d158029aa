//! Catching up: a client that sends its cursor receives exactly the events that it missed, in order, then `caught_up`,
//! then live events. There is no gap and no repetition, however often it reconnects and while others send. The server
//! sends a slow reader `lagging` or closes it; the reader loses no event, and other clients are not affected.
//!
//! How: `support::Log` checks that each stream has no gap. Cursors are random (`CHAT_TEST_SEED` repeats a run).

use crate::support::{Client, Format, Log, Random, Received, Server, User, code, shards, text};
use chat_server::limits::{SLOW_CONSUMER_GRACE_MS, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// Unanswered commands per connection; the server allows more.
const WINDOW: usize = 200;

/// Sends `count` messages of `bytes` bytes as fast as they are acknowledged. Returns the last seq.
async fn flood(server: &Server, user: &User, room: &str, count: usize, bytes: usize) -> i64 {
    let mut client = Client::none(server, user, Format::MessagePack).await;
    let content = "x".repeat(bytes);
    let mut waiting = VecDeque::new();
    let mut last = 0;
    for n in 1..=count {
        waiting.push_back(client.feed("send_message", json!({"conversation_id": room, "content": content})).await);
        if waiting.len() >= WINDOW || n == count {
            client.flush().await;
            while waiting.len() > if n == count { 0 } else { WINDOW / 2 } {
                let ack = client.reply(waiting.pop_front().unwrap()).await.unwrap();
                last = last.max(ack["seq"].as_i64().unwrap());
            }
        }
    }
    last
}

async fn room_of_two(server: &Server) -> (User, User, String) {
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    (ann, bob, room)
}

/// Reads up to the `caught_up` of a conversation. Returns its seq.
async fn caught_up(client: &mut Client, log: &mut Log, room: &str) -> i64 {
    loop {
        let event = client.next_event().await;
        let here = event["data"]["conversation_id"] == room;
        match text(&event["type"]) {
            "caught_up" if here => {
                let seq = event["data"]["seq"].as_i64().unwrap();
                assert_eq!(seq, log.last(room), "caught_up has the seq of the last replayed event");
                return seq;
            }
            "reset" => panic!("reset of a client that is within the replay limit: {event}"),
            _ => {
                log.record(&event);
            }
        }
    }
}

#[tokio::test]
async fn replays_missed_events_and_then_delivers_live_ones_after_subscribe() {
    let server = shards(4).await;
    let (ann, bob, room) = room_of_two(server).await;
    let eve = server.register().await;
    flood(server, &ann, &room, 450, 20).await;
    server.ok(&ann, "invite_member", json!({"conversation_id": room, "user_id": eve.id})).await;
    server.ok(&eve, "leave_conversation", json!({"conversation_id": room})).await;
    let last = 455; // an invitation and a leave are two events each
    assert_eq!(server.last_seq(&ann, &room).await, last);
    for format in Format::ALL {
        for after in [0, 1, 2, 199, 200, 201, 450, 451, 452, 453, 454, 455] {
            let mut client = Client::none(server, &bob, format).await;
            let mut log = Log::after([(room.as_str(), after)]);
            let ack = client.ok("subscribe", json!({"conversation_id": room, "after_seq": after})).await;
            assert_eq!(ack["last_seq"], last, "{format:?} after {after}");
            assert_eq!(caught_up(&mut client, &mut log, &room).await, last, "{format:?} after {after}");
            client.close().await;
        }
    }
    let mut client = Client::none(server, &bob, Format::Json).await;
    let mut log = Log::after([(room.as_str(), last)]);
    assert_eq!(client.ok("subscribe", json!({"conversation_id": room})).await["last_seq"], last);
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "live"})).await;
    assert_eq!(
        client.follow(&mut log, &room, last + 1).await[0]["content"],
        "live",
        "without a cursor: live events only"
    );
    client.ok("unsubscribe", json!({"conversation_id": room})).await;
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "not delivered"})).await;
    let received = client.drain().await;
    assert!(received.is_empty(), "{received:?}");
}

#[tokio::test]
async fn replays_the_events_of_the_live_stream() {
    let server = shards(2).await;
    let (ann, bob, room) = room_of_two(server).await;
    let eve = server.register().await;
    let mut live = Client::all(server, &bob, Format::Json).await;
    let mut own = Client::all(server, &ann, Format::Json).await;
    let invitation = json!({"conversation_id": room, "user_id": eve.id});
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "a", "client_message_id": "k"})).await;
    server.ok(&ann, "invite_member", invitation).await;
    server.ok(&eve, "send_message", json!({"conversation_id": room, "content": format!("@{}", bob.name)})).await;
    server.ok(&eve, "leave_conversation", json!({"conversation_id": room})).await;
    server.ok(&ann, "leave_conversation", json!({"conversation_id": room})).await;
    for (user, live, last) in [(&bob, &mut live, 11), (&ann, &mut own, 9)] {
        let mut log = Log::after([(room.as_str(), 1)]);
        let mut events = Vec::new();
        while log.last(&room) < last {
            let event = live.next_event().await;
            if log.record(&event) {
                events.push(event);
            }
        }
        if user.id == ann.id {
            continue; // a former member cannot read the log; the live stream was checked above
        }
        let mut again = Client::none(server, user, Format::MessagePack).await;
        again.ok("subscribe", json!({"conversation_id": room, "after_seq": 1})).await;
        for expected in &events {
            assert_eq!(again.next_event().await, *expected);
        }
        assert_eq!(again.next_event().await["type"], "caught_up");
    }
}

#[tokio::test]
async fn resumes_many_conversations_with_one_command() {
    let server = shards(4).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let mut random = Random::new();
    let mut rooms = BTreeMap::new();
    for _ in 0..12 {
        let room = server.room(&[&ann, &bob]).await;
        let last = flood(server, &ann, &room, 1 + random.below(250) as usize, 20).await;
        rooms.insert(room, last);
    }
    let mut client = Client::none(server, &bob, Format::Json).await;
    let mut log = Log::after(rooms.iter().map(|(room, last)| (room.as_str(), random.below(*last as u64 + 1) as i64)));
    client.ok("resume", json!({"cursors": log.cursors()})).await;
    let mut waiting = rooms.clone();
    while !waiting.is_empty() {
        let event = client.next_event().await;
        if event["type"] == "caught_up" {
            let room = text(&event["data"]["conversation_id"]);
            assert_eq!(
                waiting.remove(room),
                event["data"]["seq"].as_i64(),
                "one caught_up per conversation, after its last event: {room}"
            );
            assert_eq!(log.last(room), rooms[room]);
        } else {
            log.record(&event);
        }
    }
    for (room, last) in &rooms {
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "now"})).await;
        client.follow(&mut log, room, last + 1).await;
    }
}

/// Rooms of two users, written by SQL: `$3` of them.
const MANY_ROOMS: &str = "
WITH made AS (
    INSERT INTO conversations (id, kind, name, owner_id, last_seq)
    SELECT nextval('conversation_numbers') * 4 + 2, 'private_room', 'room ' || n, $1, 1
      FROM generate_series(1, $3::bigint) n
    RETURNING id
)
INSERT INTO conversation_members (conversation_id, user_id, role, joined_seq)
SELECT id, $1, 'owner'::member_role, 1 FROM made UNION ALL SELECT id, $2, 'member', 1 FROM made";

#[tokio::test]
async fn lists_and_subscribes_ten_thousand_conversations_in_a_welcome() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let database = server.database().await;
    let mut rooms = 0;
    for (more, listed, has_more) in [(2_500i64, 2_500, None), (8_000, SUBSCRIPTIONS_PER_CONNECTION_MAX, Some(true))] {
        database.execute(MANY_ROOMS, &[&ann.id, &bob.id, &more]).await.unwrap();
        rooms += more;
        let mut client = Client::all(&server, &bob, Format::Json).await;
        let conversations = client.welcome["conversations"].as_array().unwrap();
        let ids: BTreeSet<&str> = conversations.iter().map(|head| text(&head["id"])).collect();
        assert_eq!((conversations.len(), ids.len()), (listed, listed), "of {rooms} conversations");
        assert_eq!(client.welcome.get("has_more_conversations").and_then(Value::as_bool), has_more);
        let last = text(&conversations.last().unwrap()["id"]).to_owned();
        server.ok(&ann, "send_message", json!({"conversation_id": last, "content": "hello"})).await;
        let event = client.event("message_created").await;
        assert_eq!((&event["conversation_id"], &event["seq"]), (&json!(last), &json!(2)));
    }
}

#[tokio::test]
async fn reports_a_new_conversation_that_a_full_connection_cannot_subscribe_to() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let most = SUBSCRIPTIONS_PER_CONNECTION_MAX as i64;
    server.database().await.execute(MANY_ROOMS, &[&ann.id, &bob.id, &most]).await.unwrap();
    for format in Format::ALL {
        let mut client = Client::all(&server, &bob, format).await;
        let heads = client.welcome["conversations"].as_array().unwrap();
        assert_eq!(heads.len(), SUBSCRIPTIONS_PER_CONNECTION_MAX);
        let given_up = text(&heads[0]["id"]).to_owned();
        let invited = server.room(&[&ann]).await;
        server.ok(&ann, "invite_member", json!({"conversation_id": invited, "user_id": bob.id})).await;
        let added = server.room(&[&ann, &bob]).await;
        // In any order: the rooms have different owner shards.
        let mut waiting = BTreeSet::from([invited.as_str(), added.as_str()]);
        while !waiting.is_empty() {
            let refusal = client.event("error").await;
            assert_eq!(code(&refusal), "conflict", "{refusal}");
            waiting.remove(text(&refusal["details"]["conversation_id"]));
        }
        // With room for one more, the client can subscribe to it.
        let subscribe = json!({"conversation_id": invited, "after_seq": 0});
        assert_eq!(client.refused("subscribe", subscribe.clone()).await, "conflict");
        client.ok("unsubscribe", json!({"conversation_id": given_up})).await;
        client.ok("subscribe", subscribe).await;
        server.ok(&ann, "send_message", json!({"conversation_id": invited, "content": "welcome"})).await;
        client.event_where("message_created", |message| message["content"] == "welcome").await;
        for room in [&invited, &added] {
            server.ok(&bob, "leave_conversation", json!({"conversation_id": room})).await;
        }
        client.close().await;
    }
}

#[tokio::test]
async fn resumes_beside_conversations_that_the_user_may_not_see() {
    let server = shards(4).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let (room, left) = (server.room(&[&ann, &bob]).await, server.room(&[&ann, &bob]).await);
    server.ok(&bob, "leave_conversation", json!({"conversation_id": left})).await;
    let mut client = Client::none(server, &bob, Format::MessagePack).await;
    let unknown = ["room_9007199254740990", "room_1", "dm_7", "lobby", ""];
    for gone in unknown.into_iter().chain([left.as_str()]) {
        let answer = client.ok("resume", json!({"cursors": {gone: 1}})).await;
        assert_eq!(answer, json!({"conversations": {}, "not_member": [gone]}));
    }
    let mut cursors: BTreeMap<&str, i64> = unknown.into_iter().map(|id| (id, 3)).collect();
    cursors.insert(&room, 1);
    let answer = client.ok("resume", json!({"cursors": cursors})).await;
    assert_eq!(answer["conversations"].as_object().unwrap().keys().collect::<Vec<_>>(), [&room]);
    let mut refused: Vec<&str> = answer["not_member"].as_array().unwrap().iter().map(text).collect();
    let mut expected = unknown;
    refused.sort_unstable();
    expected.sort_unstable();
    assert_eq!(refused, expected);
    assert_eq!(client.ok("resume", json!({"cursors": {}})).await, json!({"conversations": {}, "not_member": []}));
    assert_eq!(client.refused("subscribe", json!({"conversation_id": left})).await, "not_found");
}

#[tokio::test]
async fn continues_a_replay_with_live_events_without_gap_or_repetition() {
    let server = shards(4).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let rooms = [server.room(&[&ann, &bob]).await, server.room(&[&ann, &bob]).await];
    let (finished, sent) = (AtomicBool::new(false), AtomicI64::new(1));
    let senders = async {
        for _ in 0..20 {
            let floods = rooms.iter().map(|room| flood(server, &ann, room, 150, 100));
            let lasts = join_all(floods).await;
            sent.store(lasts[0].min(lasts[1]), Ordering::Release);
        }
        finished.store(true, Ordering::Release);
    };
    let reconnect = async |format: Format, mut random: Random| {
        let mut rounds = 0;
        while !finished.load(Ordering::Acquire) {
            let known = sent.load(Ordering::Acquire);
            let behind = random.below(400.min(known as u64 + 1)) as i64;
            let mut log = Log::after(rooms.iter().map(|room| (room.as_str(), known - behind)));
            let mut client = Client::none(server, &bob, format).await;
            client.ok("resume", json!({"cursors": log.cursors()})).await;
            let mut announced = 0;
            let until = known + random.below(200) as i64;
            while announced < 2 || rooms.iter().any(|room| log.last(room) < until.min(sent.load(Ordering::Acquire))) {
                let event = client.next_event().await;
                assert_ne!(event["type"], "reset");
                announced += usize::from(event["type"] == "caught_up");
                log.record(&event);
            }
            rounds += 1;
            client.close().await;
        }
        rounds
    };
    let reconnects = async {
        tokio::join!(
            reconnect(Format::Json, Random::new()),
            reconnect(Format::MessagePack, Random::new()),
            reconnect(Format::Json, Random::new())
        )
    };
    let ((), rounds) = tokio::join!(senders, reconnects);
    println!("resumed {rounds:?} times under load");
    assert!(rounds.0 > 0 && rounds.1 > 0 && rounds.2 > 0, "{rounds:?}");
    for room in &rooms {
        let seqs: Vec<i64> = server.history(&bob, room).await.iter().map(|m| m["seq"].as_i64().unwrap()).collect();
        assert!(seqs.into_iter().eq(2..=3_001));
    }
}

#[tokio::test]
async fn replays_again_when_a_client_subscribes_with_another_cursor() {
    let server = shards(2).await;
    let (ann, bob, room) = room_of_two(server).await;
    let last = flood(server, &ann, &room, 300, 20).await;
    let mut client = Client::none(server, &bob, Format::Json).await;
    let mut random = Random::new();
    for _ in 0..20 {
        let after = random.below(last as u64 + 1) as i64;
        let mut log = Log::after([(room.as_str(), after)]);
        let subscribe = json!({"conversation_id": room, "after_seq": after});
        client.ok("subscribe", subscribe).await;
        assert_eq!(caught_up(&mut client, &mut log, &room).await, last);
    }
}

#[tokio::test]
async fn resets_clients_that_missed_more_than_the_replay_limit() {
    let server = shards(2).await;
    let (ann, bob, room) = room_of_two(server).await;
    flood(server, &ann, &room, 10_050, 8).await;
    for (format, after) in [(Format::Json, 0), (Format::MessagePack, 40)] {
        let last = server.last_seq(&bob, &room).await;
        let mut client = Client::none(server, &bob, format).await;
        let ack = client.ok("subscribe", json!({"conversation_id": room, "after_seq": after})).await;
        assert_eq!(ack["last_seq"], last);
        let reset = client.next_event().await;
        assert_eq!(reset, json!({"type": "reset", "data": {"conversation_id": room, "last_seq": last}}));
        let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "on"})).await;
        let live = client.event("message_created").await;
        assert_eq!(live["seq"], sent["seq"], "live events follow the seq of the reset");
    }
    let mut near = Client::none(server, &bob, Format::MessagePack).await;
    let last = server.last_seq(&bob, &room).await;
    let mut log = Log::after([(room.as_str(), last - 10_000)]);
    near.ok("subscribe", json!({"conversation_id": room, "after_seq": last - 10_000})).await;
    assert_eq!(caught_up(&mut near, &mut log, &room).await, last, "ten thousand events are replayed");
    let beyond = json!({"conversation_id": room, "after_seq": 1_000_000});
    let mut client = Client::none(server, &bob, Format::Json).await;
    client.ok("subscribe", beyond).await;
    assert_eq!(client.next_event().await["type"], "reset", "a cursor beyond the end of the log");
}

/// What the server did to a slow client.
#[derive(Default, Debug)]
struct Outcome {
    lagged: bool,
    closed: bool,
}

/// Reads everything that the server sent to a slow client, up to `last` or the end of the connection.
async fn read_backlog(client: &mut Client, log: &mut Log, room: &str, last: i64) -> Outcome {
    let mut outcome = Outcome::default();
    while log.last(room) < last && !outcome.closed {
        match client.receive().await {
            Received::Frame(event) => {
                if event["type"] == "lagging" {
                    assert_eq!(event["data"], json!({"conversation_id": room, "seq": log.last(room)}));
                    outcome.lagged = true;
                }
                log.record(&event);
            }
            Received::Closed(code, _) => {
                assert_eq!(code, 4003);
                outcome.closed = true;
            }
            // The server may reset a connection whose peer does not read the close frame.
            Received::Lost(_) => outcome.closed = true,
        }
    }
    outcome
}

#[tokio::test]
async fn loses_no_event_of_a_slow_reader_and_delays_no_other_client() {
    let server = shards(4).await;
    let (ann, bob, room) = room_of_two(server).await;
    let eve = server.register().await;
    server.ok(&ann, "invite_member", json!({"conversation_id": room, "user_id": eve.id})).await;
    for format in Format::ALL {
        let start = server.last_seq(&ann, &room).await;
        let mut slow = Client::slow(server, &bob, format, 4_096).await;
        let mut fast = Client::all(server, &eve, format).await;
        let mut fast_log = Log::after([(room.as_str(), start)]);
        let last = start + 5_000;
        let (sent, ()) = tokio::join!(flood(server, &ann, &room, 5_000, 1_024), async {
            let messages = fast.follow(&mut fast_log, &room, last).await;
            assert_eq!(messages.len(), 5_000, "a client that reads has received everything");
        });
        assert_eq!(sent, last);

        let mut log = Log::after([(room.as_str(), start)]);
        // The first slow client reads again at once, the second one after the grace period.
        if format == Format::MessagePack {
            tokio::time::sleep(Duration::from_millis(SLOW_CONSUMER_GRACE_MS + 2_000)).await;
        }
        let outcome = read_backlog(&mut slow, &mut log, &room, last).await;
        println!("{format:?}: the slow reader received {} of 5000, {outcome:?}", log.last(&room) - start);
        assert!(outcome.lagged || outcome.closed, "neither lagging nor closed: the client was not slow");
        if outcome.closed {
            let mut again = Client::none(server, &bob, format).await;
            again.ok("resume", json!({"cursors": log.cursors()})).await;
            again.follow(&mut log, &room, last).await;
        }
        let event: Value = json!({"conversation_id": room, "content": "one more"});
        server.ok(&ann, "send_message", event).await;
        fast.follow(&mut fast_log, &room, last + 1).await;
    }
}
