//! Changes of a message after it was sent: edits, deletion, threads, pins, reactions, mentions, search.
//!
//! How: two users share a room. One of them has a WebSocket, so that each test compares the ack, the event and what a
//! client reads afterwards. After a deletion, the test searches PostgreSQL's own tables for the deleted text.

use crate::support::{Client, Format, Server, User, code, server, text};
use serde_json::{Value, json};
use std::time::Duration;

async fn send_message(server: &Server, user: &User, room: &str, content: &str, parent: Option<i64>) -> i64 {
    let message = json!({"conversation_id": room, "content": content, "parent_message_id": parent});
    server.ok(user, "send_message", message).await["message_id"].as_i64().unwrap()
}

async fn error_of(server: &Server, user: &User, kind: &str, data: Value) -> String {
    code(&server.call(user, kind, data).await.unwrap_err())
}

#[tokio::test]
async fn replaces_the_text_and_keeps_earlier_versions_on_an_edit() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut observer = Client::all(server, &bob, Format::MessagePack).await;
    let message = send_message(server, &ann, &room, "first", None).await;
    for content in ["second", "third"] {
        let ack = server.ok(&ann, "edit_message", json!({"message_id": message, "content": content})).await;
        let event = observer.event("message_edited").await;
        assert_eq!((&event["message_id"], &event["content"]), (&json!(message), &json!(content)));
        assert_eq!((&event["seq"], &event["edited_at"]), (&ack["seq"], &ack["edited_at"]));
        assert_eq!(event["actor"]["id"], ann.id);
    }
    let edits = server.ok(&bob, "list_edits", json!({"message_id": message})).await;
    let texts: Vec<&str> = edits["edits"].as_array().unwrap().iter().map(|edit| text(&edit["content"])).collect();
    assert_eq!(texts, ["first", "second"]);
    let found = server.history(&bob, &room).await;
    assert_eq!((&found[0]["content"], found[0]["edited_at"].is_string()), (&json!("third"), true));
    for (user, data, expected) in [
        (&bob, json!({"message_id": message, "content": "not my message"}), "forbidden"),
        (&ann, json!({"message_id": message, "content": " "}), "bad_request"),
        (&ann, json!({"message_id": message + 4_000_000, "content": "x"}), "not_found"),
        (&ann, json!({"message_id": message, "content": "x", "conversation_id": "room_2"}), "not_found"),
    ] {
        assert_eq!(error_of(server, user, "edit_message", data).await, expected);
    }
    for n in 2..50 {
        server.ok(&ann, "edit_message", json!({"message_id": message, "content": format!("version {n}")})).await;
    }
    let one_more = json!({"message_id": message, "content": "never done"});
    assert_eq!(error_of(server, &ann, "edit_message", one_more).await, "conflict");
    let eve = server.register().await;
    assert_eq!(error_of(server, &eve, "list_edits", json!({"message_id": message})).await, "not_found");
}

#[tokio::test]
async fn changes_nothing_on_an_edit_to_the_same_text() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut watching = Client::all(server, &bob, Format::Json).await;
    let message = send_message(server, &ann, &room, "first", None).await;
    let to = |content: &str| json!({"message_id": message, "content": content});
    let before = server.history(&bob, &room).await;
    let ack = server.ok(&ann, "edit_message", to("first")).await;
    assert_eq!(ack, json!({"message_id": message, "seq": before[0]["seq"], "edited_at": null}));
    assert_eq!(server.history(&bob, &room).await, before);
    assert_eq!(error_of(server, &bob, "edit_message", to("first")).await, "forbidden");
    let edited = server.ok(&ann, "edit_message", to("second")).await;
    assert_eq!(server.ok(&ann, "edit_message", to("second")).await, edited);
    assert_eq!(
        server.ok(&bob, "list_edits", json!({"message_id": message})).await["edits"].as_array().unwrap().len(),
        1
    );
    send_message(server, &ann, &room, "last", None).await;
    let mut contents = Vec::new();
    while contents.last() != Some(&json!("last")) {
        let event = watching.next_event().await;
        contents.push(event["data"]["content"].clone());
    }
    assert_eq!(contents, ["first", "second", "last"]);
}

#[tokio::test]
async fn refuses_edits_after_the_edit_window() {
    let server = Server::start(1, &[("limits.message_edit_window", "1s")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let message = send_message(&server, &ann, &room, "first", None).await;
    // Edits succeed until the window has passed. Without a window, the bound on edits would refuse with `conflict`.
    for n in 0.. {
        let edit = json!({"message_id": message, "content": format!("version {n}")});
        if let Err(error) = server.call(&ann, "edit_message", edit).await {
            assert_eq!(code(&error), "forbidden");
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn keeps_the_seq_and_removes_the_text_of_a_deleted_message() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut observer = Client::all(&server, &bob, Format::Json).await;
    let question = send_message(&server, &ann, &room, "unmistakableword in the beginning", None).await;
    let reply = send_message(&server, &bob, &room, "unmistakableword in a reply", Some(question)).await;
    server.ok(&ann, "edit_message", json!({"message_id": question, "content": "unmistakableword, edited"})).await;
    server.ok(&ann, "add_reaction", json!({"message_id": question, "emoji": "👍"})).await;
    server.ok(&ann, "pin_message", json!({"message_id": question, "pinned": true})).await;
    server.found_in_time(&ann, "unmistakableword", 2).await;

    let ack = server.ok(&ann, "delete_message", json!({"message_id": question})).await;
    let event = observer.event("message_deleted").await;
    assert_eq!((&event["message_id"], &event["seq"]), (&json!(question), &ack["seq"]));
    let again = server.ok(&ann, "delete_message", json!({"message_id": question})).await;
    assert_eq!(again["seq"], ack["seq"], "deleting again changes nothing");
    server.found_in_time(&ann, "unmistakableword", 1).await;
    server.ok(&bob, "delete_message", json!({"message_id": reply})).await;

    let messages = server.history(&ann, &room).await;
    assert_eq!(messages.len(), 2, "each deleted message keeps its seq");
    for message in &messages {
        assert_eq!((&message["content"], &message["deleted"]), (&json!(""), &json!(true)));
        assert_eq!((&message["reactions"], &message["pinned"]), (&json!([]), &json!(false)));
    }
    for (kind, data) in [
        ("edit_message", json!({"message_id": question, "content": "back"})),
        ("add_reaction", json!({"message_id": question, "emoji": "👍"})),
        ("pin_message", json!({"message_id": question, "pinned": true})),
    ] {
        assert_eq!(error_of(&server, &ann, kind, data).await, "not_found", "{kind}");
    }
    let database = server.database().await;
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    for row in database.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let count = format!("SELECT count(*) FROM \"{table}\" t WHERE t::text LIKE '%unmistakableword%'");
        assert_eq!(database.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 0, "{table}");
    }
}

#[tokio::test]
async fn counts_the_replies_of_a_thread_for_every_member() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut observer = Client::all(server, &bob, Format::Json).await;
    let question = send_message(server, &ann, &room, "a question", None).await;
    let mut replies = Vec::new();
    for n in 1..=5 {
        let parent = replies.last().copied().unwrap_or(question); // a reply to a reply is in the same thread
        replies.push(send_message(server, &bob, &room, &format!("answer {n}"), Some(parent)).await);
        let event = observer.event("thread_updated").await;
        assert_eq!((&event["message_id"], &event["reply_count"]), (&json!(question), &json!(n)));
    }
    let thread = server.ok(&ann, "get_thread", json!({"message_id": replies[2], "limit": 3})).await;
    assert_eq!((&thread["root"]["message_id"], &thread["has_more"]), (&json!(question), &json!(true)));
    assert_eq!(thread["root"]["thread"]["reply_count"], 5);
    let listed = |thread: &Value| -> Vec<i64> {
        thread["messages"].as_array().unwrap().iter().map(|m| m["message_id"].as_i64().unwrap()).collect()
    };
    assert_eq!(listed(&thread), replies[..3]);
    let after = json!({"message_id": question, "after_seq": thread["messages"][2]["seq"]});
    assert_eq!(listed(&server.ok(&ann, "get_thread", after).await), replies[3..]);
    let before = json!({"message_id": question, "before_seq": thread["messages"][2]["seq"], "limit": 1});
    let thread = server.ok(&ann, "get_thread", before).await;
    assert_eq!((listed(&thread), &thread["has_more"]), (vec![replies[1]], &json!(true)));
    assert_eq!(thread["following"], true, "the author of the root follows the thread");
    server.ok(&ann, "follow_thread", json!({"message_id": question, "following": false})).await;
    assert_eq!(server.ok(&ann, "get_thread", json!({"message_id": question})).await["following"], false);

    server.ok(&bob, "delete_message", json!({"message_id": replies[4]})).await;
    let event = observer.event("thread_updated").await;
    assert_eq!(
        (&event["reply_count"], &event["last_reply_at"]),
        (&json!(4), &server.history(&ann, &room).await[4]["created_at"])
    );
    // A message has the same fields in a thread as in the history.
    let history = server.history(&ann, &room).await;
    let thread = server.ok(&ann, "get_thread", json!({"message_id": question})).await;
    assert_eq!(thread["root"], history[0]);
    assert_eq!(thread["messages"].as_array().unwrap()[..], history[1..]);
}

#[tokio::test]
async fn returns_the_current_state_for_repeated_pins_and_reactions() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut observer = Client::all(server, &bob, Format::Json).await;
    let message = send_message(server, &ann, &room, "a message", None).await;
    let like = json!({"message_id": message, "emoji": "👍"});
    let first = server.ok(&ann, "add_reaction", like.clone()).await;
    let again = server.ok(&ann, "add_reaction", like.clone()).await;
    assert_eq!((&first["count"], &again["count"], &again["seq"]), (&json!(1), &json!(1), &first["seq"]));
    assert_eq!(server.ok(&bob, "add_reaction", like.clone()).await["count"], 2);
    assert_eq!(observer.event("reaction_added").await["count"], 1);
    assert_eq!(
        observer.event("reaction_added").await["user"]["id"],
        bob.id,
        "a repeated reaction sends no second event"
    );
    let seen = server.history(&bob, &room).await;
    assert_eq!(seen[0]["reactions"], json!([{"emoji": "👍", "count": 2, "me": true}]));
    let listed = server.ok(&ann, "list_reactions", json!({"message_id": message, "emoji": "👍"})).await;
    assert_eq!(listed["reactions"].as_array().unwrap().len(), 2);
    assert_eq!(server.ok(&bob, "remove_reaction", like.clone()).await["count"], 1);
    assert_eq!(server.ok(&bob, "remove_reaction", like.clone()).await["count"], 1);
    for n in 0..19 {
        server.ok(&ann, "add_reaction", json!({"message_id": message, "emoji": format!(":e{n}:")})).await;
    }
    let one_more = json!({"message_id": message, "emoji": ":e19:"});
    assert_eq!(error_of(server, &ann, "add_reaction", one_more).await, "conflict");
    assert_eq!(
        error_of(server, &ann, "add_reaction", json!({"message_id": message, "emoji": "ab"})).await,
        "bad_request"
    );

    let pin = json!({"message_id": message, "pinned": true});
    let first = server.ok(&ann, "pin_message", pin.clone()).await;
    assert_eq!(server.ok(&ann, "pin_message", pin).await["seq"], first["seq"]);
    let pins = server.ok(&bob, "list_pins", json!({"conversation_id": room})).await;
    assert_eq!(
        (&pins["messages"][0]["message_id"], &pins["messages"][0]["pinned_by"]),
        (&json!(message), &json!(ann.id))
    );
    assert_eq!(
        error_of(server, &bob, "pin_message", json!({"message_id": message, "pinned": false})).await,
        "forbidden"
    );
    for n in 0..50 {
        let other = send_message(server, &ann, &room, &format!("message {n}"), None).await;
        let pin = json!({"message_id": other, "pinned": true});
        if n < 49 {
            server.ok(&ann, "pin_message", pin).await;
        } else {
            assert_eq!(error_of(server, &ann, "pin_message", pin).await, "conflict");
        }
    }
}

#[tokio::test]
async fn notifies_mentioned_members_and_counts_mentions() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob, &eve]).await;
    let count = async |user: &User| {
        let found = server.ok(user, "get_conversation", json!({"conversation_id": room})).await;
        found["conversation"]["mention_count"].as_i64().unwrap()
    };
    // A mention also reaches connections that have no subscription to the room.
    let mut notified = Client::none(server, &bob, Format::MessagePack).await;
    let message = send_message(server, &ann, &room, &format!("look, @{}!", bob.name.to_uppercase()), None).await;
    let event = notified.event("mention").await;
    assert_eq!((&event["message_id"], &event["conversation_id"]), (&json!(message), &json!(room)));
    assert_eq!((count(&bob).await, count(&eve).await, count(&ann).await), (1, 0, 0));
    // No mention: in code, in an address, of a user who does not exist, and @room from a member who is no moderator.
    for content in [
        format!("`@{}`", bob.name),
        format!("```\n@{}\n```", bob.name),
        format!("mail x@{}", bob.name),
        format!("```@{0}``` and `@{0}`", bob.name),
        "@nobody-of-this-name".to_owned(),
    ] {
        send_message(server, &ann, &room, &content, None).await;
    }
    send_message(server, &eve, &room, "@room", None).await;
    assert_eq!(count(&bob).await, 1);
    send_message(server, &ann, &room, "@room, listen", None).await;
    assert_eq!((count(&bob).await, count(&eve).await, count(&ann).await), (2, 1, 0));
    // Text between two code blocks is not code.
    let between = send_message(server, &ann, &room, &format!("```a``` so, @{} ```b```", bob.name), None).await;
    assert_eq!(count(&bob).await, 3);
    server.ok(&ann, "delete_message", json!({"message_id": between})).await;
    // An edit replaces the mentions.
    server.ok(&ann, "edit_message", json!({"message_id": message, "content": format!("no, @{}", eve.name)})).await;
    assert_eq!((count(&bob).await, count(&eve).await), (1, 2));
    let listed = server.ok(&eve, "list_mentions", json!({"limit": 1})).await;
    let next = server.ok(&eve, "list_mentions", json!({"cursor": listed["next_cursor"]})).await;
    assert_eq!(next["messages"][0]["message_id"], message);
    server.ok(&eve, "mark_read", json!({"conversation_id": room, "seq": 1_000})).await;
    assert_eq!(count(&eve).await, 0);
    // A blocked user cannot mention the user who blocked them.
    server.ok(&eve, "block_user", json!({"user_id": ann.id})).await;
    send_message(server, &ann, &room, &format!("@{}?", eve.name), None).await;
    assert_eq!(count(&eve).await, 0);
}

#[tokio::test]
async fn finds_words_without_regard_to_case_accents_and_script() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let other = server.room(&[&ann]).await;
    let contents = [
        "Le café était fermé hier",
        "the COFFEE house reopens tomorrow, see https://example.org/menu",
        "coffee beans and a coffee mill",
        "数据库的性能很重要",
    ];
    for content in contents {
        send_message(server, &ann, &room, content, None).await;
    }
    send_message(server, &ann, &other, "coffee, secretly", None).await;
    server.found_in_time(&bob, "tomorrow", 1).await;
    let search = async |user: &User, data: Value| -> Vec<String> {
        let found = server.ok(user, "search_messages", data).await;
        found["messages"].as_array().unwrap().iter().map(|m| text(&m["content"]).to_owned()).collect()
    };
    server.found_in_time(&bob, "性能", 1).await;
    for (query, expected) in [
        ("cafe", vec![contents[0]]),
        ("CAFÉ hier", vec![contents[0]]),
        ("coffee", vec![contents[2], contents[1]]),
        ("coffee -mill", vec![contents[1]]),
        ("\"coffee mill\"", vec![contents[2]]),
        ("\"mill coffee\"", vec![]),
        ("reop*", vec![contents[1]]),
        ("数据*", vec![contents[3]]),
        ("offee hous", vec![contents[1]]),
        ("nothing of the kind", vec![]),
        ("100%", vec![]),
        ("' OR 1=1 --", vec![]),
        ("* & | ! ( ) :* <->", vec![]),
        ("\u{301}*", vec![]),
        ("coffee or quartz", vec![]),
    ] {
        assert_eq!(search(&bob, json!({"query": query, "conversation_id": room})).await, expected, "{query}");
    }
    let narrowed = |more: Value| {
        let mut data = json!({"query": "coffee", "conversation_id": room});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    assert_eq!(search(&bob, narrowed(json!({"has": "link"}))).await, [contents[1]]);
    assert_eq!(search(&bob, narrowed(json!({"from_user_id": bob.id}))).await, [""; 0]);
    assert_eq!(search(&bob, narrowed(json!({"before": "2020-01-01T00:00:00Z"}))).await, [""; 0]);
    assert_eq!(search(&bob, narrowed(json!({"after": "2020-01-01T00:00:00+02:00"}))).await.len(), 2);
    assert_eq!(search(&bob, json!({"query": "secretly"})).await, [""; 0], "messages of other rooms are not found");
    assert_eq!(search(&ann, json!({"query": "secretly"})).await.len(), 1);
    // One page after the other.
    let first = server.ok(&bob, "search_messages", narrowed(json!({"limit": 1}))).await;
    assert_eq!(first["messages"][0]["highlight"].as_str().unwrap().matches('\u{e000}').count(), 2, "{first}");
    let second =
        server.ok(&bob, "search_messages", narrowed(json!({"limit": 1, "cursor": first["next_cursor"]}))).await;
    assert_eq!((&second["messages"][0]["content"], second.get("next_cursor")), (&json!(contents[1]), None));
    for invalid in [
        json!({"query": ""}),
        json!({"has": "link"}),
        json!({"query": " ", "has": "link", "conversation_id": room}),
        narrowed(json!({"has": "x"})),
        narrowed(json!({"before": "yesterday"})),
        narrowed(json!({"cursor": "x"})),
    ] {
        assert_eq!(error_of(server, &bob, "search_messages", invalid).await, "bad_request");
    }
    assert_eq!(
        error_of(server, &bob, "search_messages", json!({"query": "x", "conversation_id": other})).await,
        "not_found"
    );
}

#[tokio::test]
async fn accepts_one_message_per_interval_in_slow_mode() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    server.ok(&ann, "update_conversation", json!({"conversation_id": room, "slow_mode_s": 3_600})).await;
    let mut client = Client::none(server, &bob, Format::Json).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(client.feed("send_message", json!({"conversation_id": room, "content": format!("{n}")})).await);
    }
    client.flush().await;
    let mut sent = 0;
    for id in ids {
        match client.reply(id).await {
            Ok(_) => sent += 1,
            Err(error) => {
                assert_eq!(error["code"], "slow_mode");
                assert!(error["retry_after_ms"].as_i64().is_some_and(|ms| ms > 0), "{error}");
            }
        }
    }
    assert_eq!(sent, 1, "one of ten messages that arrive together");
    send_message(server, &ann, &room, "moderators", None).await;
    send_message(server, &ann, &room, "are not slowed down", None).await;
}
