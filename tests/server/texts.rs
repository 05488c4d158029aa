//! Texts: one rule defines which characters messages, names, descriptions and statuses may contain.
//!
//! How: the tests send each kind of forbidden text in each field. The unit tests of `text` cover single characters.

use crate::support::{Client, Format, code, id_of, server, text};
use serde_json::{Value, json};

const INVISIBLE: [&str; 3] = ["\u{200b}", "\u{3164}", "\u{2800}"];
const CONTROL: [&str; 2] = ["a\u{1b}[2Jb", "a\u{7}b"];
const DIRECTION: [&str; 4] = ["a\u{202e}b", "\u{202c} x \u{202e} y", "\u{202e} a \u{2069}", "\u{2066} a \u{202c}"];

#[track_caller]
fn assert_refused(refusal: &Value, field: &str, expected: &str, written: &str) {
    let message = text(&refusal["message"]);
    assert_eq!(code(refusal), expected, "{written:?}: {message}");
    assert!(message.starts_with(&format!("data.{field}: ")), "{written:?}: {message}");
}

/// Sends a command with a text that one of its fields may not have.
async fn assert_refuses(client: &mut Client, command: (&str, Value), field: &str, expected: &str, written: &str) {
    let refusal = client.command(command.0, command.1).await.expect_err("hidden text");
    assert_refused(&refusal, field, expected, written);
}

#[tokio::test]
async fn refuses_hidden_text_in_every_field() {
    let server = server().await;
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    for format in Format::ALL {
        let mut client = Client::none(server, &ann, format).await;
        let create =
            |name: &str, description: &str| json!({"kind": "private_room", "name": name, "description": description});
        for bad in CONTROL.into_iter().chain(DIRECTION) {
            let content = json!({"conversation_id": room, "content": bad});
            assert_refuses(&mut client, ("send_message", content), "content", "content_rejected", bad).await;
            assert_refuses(&mut client, ("create_conversation", create(bad, "")), "name", "bad_request", bad).await;
            assert_refuses(
                &mut client,
                ("create_conversation", create("lobby", bad)),
                "description",
                "bad_request",
                bad,
            )
            .await;
            let update = json!({"conversation_id": room, "name": bad});
            assert_refuses(&mut client, ("update_conversation", update), "name", "bad_request", bad).await;
            let status = json!({"status": "away", "status_text": bad});
            assert_refuses(&mut client, ("set_presence", status), "status_text", "bad_request", bad).await;
        }
        for bad in INVISIBLE {
            let content = json!({"conversation_id": room, "content": bad});
            assert_refuses(&mut client, ("send_message", content), "content", "bad_request", bad).await;
            assert_refuses(&mut client, ("create_conversation", create(bad, "")), "name", "bad_request", bad).await;
            let status = json!({"status": "away", "status_text": bad});
            assert_refuses(&mut client, ("set_presence", status), "status_text", "bad_request", bad).await;
        }
        assert_refuses(&mut client, ("create_conversation", create("a\nb", "")), "name", "bad_request", "a line break")
            .await;
        let created = client.ok("create_conversation", create("שלום \u{202b}x\u{202c}", "two\nlines")).await;
        let renamed = json!({"conversation_id": id_of(&created), "name": "👩‍👩‍👧 \u{2067}y\u{2069}"});
        client.ok("update_conversation", renamed).await;
        client.ok("set_presence", json!({"status": "online", "status_text": ""})).await;
    }
}
