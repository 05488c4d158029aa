//! What happens to a message after it was sent, over the wire: edits, deletion, threads, pins, reactions, mentions, search.
//!
//! How: two people in a room, one at a WebSocket, so that acks, events and what is read afterwards can be held against each
//! other. What a deletion leaves behind is looked for in PostgreSQL's own tables.
#![cfg(feature = "test-db")]

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::{Client, Format, Server, User, code, server, text};

async fn say(server: &Server, user: &User, room: &str, content: &str, parent: Option<i64>) -> i64 {
    let message = json!({"conversation_id": room, "content": content, "parent_message_id": parent});
    server.ok(user, "send_message", message).await["message_id"].as_i64().unwrap()
}

async fn refused(server: &Server, user: &User, kind: &str, data: Value) -> String {
    code(&server.call(user, kind, data).await.unwrap_err())
}

#[tokio::test]
async fn an_edit_replaces_the_text_and_keeps_what_was_there() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut watching = Client::all(server, &bob, Format::MessagePack).await;
    let message = say(server, &ann, &room, "first", None).await;
    for content in ["second", "third"] {
        let ack = server.ok(&ann, "edit_message", json!({"message_id": message, "content": content})).await;
        let event = watching.event("message_edited").await;
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
        (&bob, json!({"message_id": message, "content": "mine now"}), "forbidden"),
        (&ann, json!({"message_id": message, "content": " "}), "bad_request"),
        (&ann, json!({"message_id": message + 4_000_000, "content": "x"}), "not_found"),
        (&ann, json!({"message_id": message, "content": "x", "conversation_id": "room_2"}), "not_found"),
    ] {
        assert_eq!(refused(server, user, "edit_message", data).await, expected);
    }
    for n in 2..50 {
        server.ok(&ann, "edit_message", json!({"message_id": message, "content": format!("version {n}")})).await;
    }
    let one_more = json!({"message_id": message, "content": "never done"});
    assert_eq!(refused(server, &ann, "edit_message", one_more).await, "conflict");
    let eve = server.register().await;
    assert_eq!(refused(server, &eve, "list_edits", json!({"message_id": message})).await, "not_found");
}

#[tokio::test]
async fn an_edit_to_the_same_text_changes_nothing() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut watching = Client::all(server, &bob, Format::Json).await;
    let message = say(server, &ann, &room, "first", None).await;
    let to = |content: &str| json!({"message_id": message, "content": content});
    let before = server.history(&bob, &room).await;
    let ack = server.ok(&ann, "edit_message", to("first")).await;
    assert_eq!(ack, json!({"message_id": message, "seq": before[0]["seq"], "edited_at": null}));
    assert_eq!(server.history(&bob, &room).await, before);
    assert_eq!(refused(server, &bob, "edit_message", to("first")).await, "forbidden");
    let edited = server.ok(&ann, "edit_message", to("second")).await;
    assert_eq!(server.ok(&ann, "edit_message", to("second")).await, edited);
    assert_eq!(
        server.ok(&bob, "list_edits", json!({"message_id": message})).await["edits"].as_array().unwrap().len(),
        1
    );
    say(server, &ann, &room, "last", None).await;
    let mut told = Vec::new();
    while told.last() != Some(&json!("last")) {
        let event = watching.next_event().await;
        told.push(event["data"]["content"].clone());
    }
    assert_eq!(told, ["first", "second", "last"]);
}

#[tokio::test]
async fn the_window_for_edits_closes() {
    let server = Server::start(1, &[("limits.message_edit_window", "1s")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let message = say(&server, &ann, &room, "hasty", None).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let late = json!({"message_id": message, "content": "considered"});
    assert_eq!(refused(&server, &ann, "edit_message", late).await, "forbidden");
}

#[tokio::test]
async fn a_deleted_message_leaves_its_place_and_nothing_of_its_text() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut watching = Client::all(&server, &bob, Format::Json).await;
    let question = say(&server, &ann, &room, "unmistakableword in the beginning", None).await;
    let reply = say(&server, &bob, &room, "unmistakableword in a reply", Some(question)).await;
    server.ok(&ann, "edit_message", json!({"message_id": question, "content": "unmistakableword, edited"})).await;
    server.ok(&ann, "add_reaction", json!({"message_id": question, "emoji": "👍"})).await;
    server.ok(&ann, "pin_message", json!({"message_id": question, "pinned": true})).await;
    server.found_in_time(&ann, "unmistakableword", 2).await;

    let ack = server.ok(&ann, "delete_message", json!({"message_id": question})).await;
    let event = watching.event("message_deleted").await;
    assert_eq!((&event["message_id"], &event["seq"]), (&json!(question), &ack["seq"]));
    let again = server.ok(&ann, "delete_message", json!({"message_id": question})).await;
    assert_eq!(again["seq"], ack["seq"], "nothing happened since");
    server.found_in_time(&ann, "unmistakableword", 1).await;
    server.ok(&bob, "delete_message", json!({"message_id": reply})).await;

    let messages = server.history(&ann, &room).await;
    assert_eq!(messages.len(), 2, "the places stay");
    for message in &messages {
        assert_eq!((&message["content"], &message["deleted"]), (&json!(""), &json!(true)));
        assert_eq!((&message["reactions"], &message["pinned"]), (&json!([]), &json!(false)));
    }
    for (kind, data) in [
        ("edit_message", json!({"message_id": question, "content": "back"})),
        ("add_reaction", json!({"message_id": question, "emoji": "👍"})),
        ("pin_message", json!({"message_id": question, "pinned": true})),
    ] {
        assert_eq!(refused(&server, &ann, kind, data).await, "not_found", "{kind}");
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
async fn a_thread_counts_its_replies_for_everybody() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut watching = Client::all(server, &bob, Format::Json).await;
    let question = say(server, &ann, &room, "a question", None).await;
    let mut replies = Vec::new();
    for n in 1..=5 {
        let parent = replies.last().copied().unwrap_or(question); // a reply to a reply belongs to the same thread
        replies.push(say(server, &bob, &room, &format!("answer {n}"), Some(parent)).await);
        let event = watching.event("thread_updated").await;
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
    assert_eq!(thread["following"], true, "whoever began it follows it");
    server.ok(&ann, "follow_thread", json!({"message_id": question, "following": false})).await;
    assert_eq!(server.ok(&ann, "get_thread", json!({"message_id": question})).await["following"], false);

    server.ok(&bob, "delete_message", json!({"message_id": replies[4]})).await;
    let event = watching.event("thread_updated").await;
    assert_eq!(
        (&event["reply_count"], &event["last_reply_at"]),
        (&json!(4), &server.history(&ann, &room).await[4]["created_at"])
    );
    // A message in a list is what it is in the history.
    let history = server.history(&ann, &room).await;
    let thread = server.ok(&ann, "get_thread", json!({"message_id": question})).await;
    assert_eq!(thread["root"], history[0]);
    assert_eq!(thread["messages"].as_array().unwrap()[..], history[1..]);
}

#[tokio::test]
async fn pins_and_reactions_say_what_is_and_not_what_was_done() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut watching = Client::all(server, &bob, Format::Json).await;
    let message = say(server, &ann, &room, "a thing", None).await;
    let like = json!({"message_id": message, "emoji": "👍"});
    let first = server.ok(&ann, "add_reaction", like.clone()).await;
    let again = server.ok(&ann, "add_reaction", like.clone()).await;
    assert_eq!((&first["count"], &again["count"], &again["seq"]), (&json!(1), &json!(1), &first["seq"]));
    assert_eq!(server.ok(&bob, "add_reaction", like.clone()).await["count"], 2);
    assert_eq!(watching.event("reaction_added").await["count"], 1);
    assert_eq!(watching.event("reaction_added").await["user"]["id"], bob.id, "and not a second one of the first");
    let seen = server.history(&bob, &room).await;
    assert_eq!(seen[0]["reactions"], json!([{"emoji": "👍", "count": 2, "me": true}]));
    let who = server.ok(&ann, "list_reactions", json!({"message_id": message, "emoji": "👍"})).await;
    assert_eq!(who["reactions"].as_array().unwrap().len(), 2);
    assert_eq!(server.ok(&bob, "remove_reaction", like.clone()).await["count"], 1);
    assert_eq!(server.ok(&bob, "remove_reaction", like.clone()).await["count"], 1);
    for n in 0..19 {
        server.ok(&ann, "add_reaction", json!({"message_id": message, "emoji": format!(":e{n}:")})).await;
    }
    let one_more = json!({"message_id": message, "emoji": ":e19:"});
    assert_eq!(refused(server, &ann, "add_reaction", one_more).await, "conflict");
    assert_eq!(
        refused(server, &ann, "add_reaction", json!({"message_id": message, "emoji": "ab"})).await,
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
        refused(server, &bob, "pin_message", json!({"message_id": message, "pinned": false})).await,
        "forbidden"
    );
    for n in 0..50 {
        let other = say(server, &ann, &room, &format!("thing {n}"), None).await;
        let pin = json!({"message_id": other, "pinned": true});
        if n < 49 {
            server.ok(&ann, "pin_message", pin).await;
        } else {
            assert_eq!(refused(server, &ann, "pin_message", pin).await, "conflict");
        }
    }
}

#[tokio::test]
async fn a_mention_reaches_the_one_it_names_and_counts() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob, &eve]).await;
    let count = async |user: &User| {
        let found = server.ok(user, "get_conversation", json!({"conversation_id": room})).await;
        found["conversation"]["mention_count"].as_i64().unwrap()
    };
    // The connection need not be subscribed to the room.
    let mut away = Client::none(server, &bob, Format::MessagePack).await;
    let message = say(server, &ann, &room, &format!("look, @{}!", bob.name.to_uppercase()), None).await;
    let event = away.event("mention").await;
    assert_eq!((&event["message_id"], &event["conversation_id"]), (&json!(message), &json!(room)));
    assert_eq!((count(&bob).await, count(&eve).await, count(&ann).await), (1, 0, 0));
    // No mentions: in code, in an address, of somebody who is not there, and @room of one who is no moderator.
    for content in [
        format!("`@{}`", bob.name),
        format!("```\n@{}\n```", bob.name),
        format!("mail x@{}", bob.name),
        format!("```@{0}``` and `@{0}`", bob.name),
        "@nobody-of-this-name".to_owned(),
    ] {
        say(server, &ann, &room, &content, None).await;
    }
    say(server, &eve, &room, "@room", None).await;
    assert_eq!(count(&bob).await, 1);
    say(server, &ann, &room, "@room, listen", None).await;
    assert_eq!((count(&bob).await, count(&eve).await, count(&ann).await), (2, 1, 0));
    // Between two blocks is not in one.
    let between = say(server, &ann, &room, &format!("```a``` so, @{} ```b```", bob.name), None).await;
    assert_eq!(count(&bob).await, 3);
    server.ok(&ann, "delete_message", json!({"message_id": between})).await;
    // An edit says anew who is meant.
    server.ok(&ann, "edit_message", json!({"message_id": message, "content": format!("no, @{}", eve.name)})).await;
    assert_eq!((count(&bob).await, count(&eve).await), (1, 2));
    let listed = server.ok(&eve, "list_mentions", json!({"limit": 1})).await;
    let next = server.ok(&eve, "list_mentions", json!({"cursor": listed["next_cursor"]})).await;
    assert_eq!(next["messages"][0]["message_id"], message);
    server.ok(&eve, "mark_read", json!({"conversation_id": room, "seq": 1_000})).await;
    assert_eq!(count(&eve).await, 0);
    // Who wants nothing of somebody is not mentioned by them either.
    server.ok(&eve, "block_user", json!({"user_id": ann.id})).await;
    say(server, &ann, &room, &format!("@{}?", eve.name), None).await;
    assert_eq!(count(&eve).await, 0);
}

#[tokio::test]
async fn a_search_finds_words_however_they_are_written() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let other = server.room(&[&ann]).await;
    let said = [
        "Le café était fermé hier",
        "the COFFEE house reopens tomorrow, see https://example.org/menu",
        "coffee beans and a coffee mill",
        "数据库的性能很重要",
    ];
    for content in said {
        say(server, &ann, &room, content, None).await;
    }
    say(server, &ann, &other, "coffee, secretly", None).await;
    server.found_in_time(&bob, "tomorrow", 1).await;
    let search = async |user: &User, data: Value| -> Vec<String> {
        let found = server.ok(user, "search_messages", data).await;
        found["messages"].as_array().unwrap().iter().map(|m| text(&m["content"]).to_owned()).collect()
    };
    server.found_in_time(&bob, "性能", 1).await;
    for (query, expected) in [
        ("cafe", vec![said[0]]),
        ("CAFÉ hier", vec![said[0]]),
        ("coffee", vec![said[2], said[1]]),
        ("coffee -mill", vec![said[1]]),
        ("\"coffee mill\"", vec![said[2]]),
        ("\"mill coffee\"", vec![]),
        ("reop*", vec![said[1]]),
        ("数据*", vec![said[3]]),
        ("offee hous", vec![said[1]]),
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
    assert_eq!(search(&bob, narrowed(json!({"has": "link"}))).await, [said[1]]);
    assert_eq!(search(&bob, narrowed(json!({"from_user_id": bob.id}))).await, [""; 0]);
    assert_eq!(search(&bob, narrowed(json!({"before": "2020-01-01T00:00:00Z"}))).await, [""; 0]);
    assert_eq!(search(&bob, narrowed(json!({"after": "2020-01-01T00:00:00+02:00"}))).await.len(), 2);
    assert_eq!(search(&bob, json!({"query": "secretly"})).await, [""; 0], "what others say elsewhere is theirs");
    assert_eq!(search(&ann, json!({"query": "secretly"})).await.len(), 1);
    // Page by page.
    let first = server.ok(&bob, "search_messages", narrowed(json!({"limit": 1}))).await;
    assert_eq!(first["messages"][0]["highlight"].as_str().unwrap().matches('\u{e000}').count(), 2, "{first}");
    let second =
        server.ok(&bob, "search_messages", narrowed(json!({"limit": 1, "cursor": first["next_cursor"]}))).await;
    assert_eq!((&second["messages"][0]["content"], second.get("next_cursor")), (&json!(said[1]), None));
    for wrong in [
        json!({"query": ""}),
        narrowed(json!({"has": "x"})),
        narrowed(json!({"before": "yesterday"})),
        narrowed(json!({"cursor": "x"})),
    ] {
        assert_eq!(refused(server, &bob, "search_messages", wrong).await, "bad_request");
    }
    assert_eq!(
        refused(server, &bob, "search_messages", json!({"query": "x", "conversation_id": other})).await,
        "not_member"
    );
}

#[tokio::test]
async fn slow_mode_lets_one_message_through_at_a_time() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    server.ok(&ann, "update_conversation", json!({"conversation_id": room, "slow_mode_s": 3_600})).await;
    let mut client = Client::none(server, &bob, Format::Json).await;
    let mut asked = Vec::new();
    for n in 0..10 {
        asked.push(client.feed("send_message", json!({"conversation_id": room, "content": format!("{n}")})).await);
    }
    client.flush().await;
    let mut sent = 0;
    for id in asked {
        match client.reply(id).await {
            Ok(_) => sent += 1,
            Err(refusal) => {
                assert_eq!(refusal["code"], "slow_mode");
                assert!(refusal["retry_after_ms"].as_i64().is_some_and(|ms| ms > 0), "{refusal}");
            }
        }
    }
    assert_eq!(sent, 1, "also of those that arrive together");
    say(server, &ann, &room, "moderators", None).await;
    say(server, &ann, &room, "are not slowed down", None).await;
}
