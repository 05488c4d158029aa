//! An outsider cannot learn whether a private conversation, or a message in it, exists: every command answers as if it
//! did not.
//!
//! How: Eve sends every command twice, about a conversation of Ann and Bob and about one that does not exist. The two
//! answers must be the same, code and message, once the ids in them are replaced.

use crate::support::{Client, Format, Server, User, code, id_of, server, text, unique};
use chat_server::wire::command::Command;
use serde_json::{Value, json};

/// No message and no user has this id.
const UNKNOWN_ID: i64 = 9_007_199_254_740_991;

/// A conversation, a message in it, and a user.
struct Target {
    conversation: String,
    message: Value,
    user: Value,
}

/// The forms of a command that name a conversation or a message; none if it cannot name one. A command that is missing
/// here fails the test.
fn forms(command: &str, target: &Target) -> Vec<Value> {
    let Target { conversation, message, user } = target;
    let here = |more: Value| {
        let mut data = json!({"conversation_id": conversation});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let of_message = |more: Value| {
        let mut data = here(more);
        data["message_id"] = message.clone();
        let mut alone = data.clone();
        alone.as_object_mut().unwrap().remove("conversation_id");
        vec![data, alone]
    };
    match command {
        "send_message" => {
            vec![here(json!({"content": "x"})), here(json!({"content": "x", "parent_message_id": message}))]
        }
        "edit_message" => of_message(json!({"content": "x"})),
        "delete_message" => of_message(json!({})),
        "pin_message" => of_message(json!({"pinned": true})),
        "add_reaction" | "remove_reaction" => of_message(json!({"emoji": "👍"})),
        "follow_thread" => of_message(json!({"following": true})),
        "mark_thread_read" => of_message(json!({"seq": 1})),
        "get_thread" | "list_edits" | "list_reactions" => of_message(json!({})),
        "get_history" => {
            vec![here(json!({})), here(json!({"after_seq": 0})), here(json!({"around_message_id": message}))]
        }
        "get_conversation"
        | "list_members"
        | "list_pins"
        | "list_bans"
        | "list_invites"
        | "list_join_requests"
        | "list_threads"
        | "list_mentions"
        | "join_conversation"
        | "leave_conversation"
        | "create_invite"
        | "typing"
        | "request_to_join"
        | "cancel_join_request"
        | "unsubscribe"
        | "accept_invitation"
        | "decline_invitation" => vec![here(json!({}))],
        "search_messages" => vec![here(json!({"query": "secret"}))],
        "subscribe" => vec![here(json!({})), here(json!({"after_seq": 0}))],
        "resume" => vec![json!({"cursors": {conversation: 0}})],
        "mark_read" => vec![here(json!({"seq": 1}))],
        "invite_member" | "remove_member" | "transfer_ownership" | "mute_member" | "ban_member" | "unban_member" => {
            vec![here(json!({"user_id": user}))]
        }
        "run_command" => vec![here(json!({"command": "help", "text": "x"}))],
        "set_role" => vec![here(json!({"user_id": user, "role": "member"}))],
        "decide_join_request" => vec![here(json!({"user_id": user, "accepted": true}))],
        "update_conversation" => vec![here(json!({"name": "x"})), here(json!({"slow_mode_s": 5}))],
        "archive_conversation" => vec![here(json!({"archived": true}))],
        "revoke_invite" => vec![here(json!({"code": "AAAAAAAAAAAAAAAAAAAAAA"}))],
        // They name no conversation and no message.
        "create_conversation"
        | "list_conversations"
        | "list_public_rooms"
        | "set_presence"
        | "get_presence"
        | "block_user"
        | "unblock_user"
        | "list_blocks"
        | "list_invitations"
        | "answer_command"
        | "ping" => Vec::new(),
        // A code is all that its bearer needs to know; see below.
        "join_by_invite" => Vec::new(),
        other => panic!("the command {other} is missing in this table"),
    }
}

/// Both answers of a command over HTTP, and over a WebSocket where it needs one, with the ids replaced.
async fn answers(
    server: &Server,
    client: &mut Client,
    user: &User,
    kind: &str,
    data: &Value,
    target: &Target,
) -> String {
    let over_socket = match kind {
        "typing" => Value::Null, // it has no answer
        _ => client.command(kind, data.clone()).await.unwrap_or_else(|refusal| json!([refusal])),
    };
    let over_http = server.call(user, kind, data.clone()).await.unwrap_or_else(|problem| json!([problem]));
    let shown = json!([over_socket, over_http]).to_string();
    shown.replace(&target.conversation, "CONVERSATION").replace(&target.message.to_string(), "MESSAGE")
}

#[tokio::test]
async fn answers_outsiders_as_if_the_conversation_did_not_exist() {
    let server = server().await;
    let users = server.register_many(2).await;
    let [ann, bob] = &users[..] else { unreachable!() };
    for (kind, unknown) in [
        ("private_room", "room_9007199254740990"),
        ("group", "group_9007199254740989"),
        ("direct", "dm_4503599627370492"),
    ] {
        let eve = server.register().await;
        let mut client = Client::none(server, &eve, Format::Json).await;
        let mut data = json!({"kind": kind, "member_ids": [bob.id]});
        if kind != "direct" {
            data["name"] = json!(unique("secret"));
        }
        let conversation = id_of(&server.ok(ann, "create_conversation", data).await);
        let sent = json!({"conversation_id": conversation, "content": "a secret"});
        let message = server.ok(ann, "send_message", sent).await["message_id"].clone();
        let known = Target { conversation, message, user: json!(bob.id) };
        let unknown = Target { conversation: unknown.into(), message: json!(UNKNOWN_ID), user: json!(bob.id) };
        let mut refused = 0;
        for command in Command::NAMES {
            for (of_known, of_unknown) in forms(command, &known).iter().zip(&forms(command, &unknown)) {
                let first = answers(server, &mut client, &eve, command, of_known, &known).await;
                let second = answers(server, &mut client, &eve, command, of_unknown, &unknown).await;
                assert_eq!(first, second, "{command} in a {kind}: {of_known}");
                refused += usize::from(first.contains("not_found"));
            }
        }
        assert!(refused > 40, "only {refused} refusals");
        assert_eq!(server.last_seq(ann, &known.conversation).await, 2, "nothing was changed");
    }
}

#[tokio::test]
async fn a_request_to_join_does_not_tell_whether_the_room_exists() {
    let server = server().await;
    let users = server.register_many(2).await;
    let [ann, eve] = &users[..] else { unreachable!() };
    let private = async |name: &str| {
        let data = json!({"kind": "private_room", "name": unique(name)});
        id_of(&server.ok(ann, "create_conversation", data).await)
    };
    let (known, archived) = (private("known").await, private("archived").await);
    server.ok(ann, "archive_conversation", json!({"conversation_id": archived})).await;
    let rooms = [known.as_str(), archived.as_str(), "room_9007199254740990"];

    let mut requester = Client::none(server, eve, Format::Json).await;
    let mut observer = Client::none(server, eve, Format::Json).await;
    let mut seen = Vec::new();
    for room in rooms {
        let mut answers = Vec::new();
        // The user asks twice, lists the requests, and withdraws twice. A second connection shows which events come.
        for (kind, text) in [
            ("request_to_join", Some("please")),
            ("request_to_join", Some("pretty please")),
            ("list_join_requests", None),
            ("cancel_join_request", None),
            ("list_join_requests", None),
            ("cancel_join_request", None),
        ] {
            let mut data = json!({});
            if kind != "list_join_requests" {
                data["conversation_id"] = json!(room);
            }
            if let Some(text) = text {
                data["text"] = json!(text);
            }
            let mut answer = requester.command(kind, data).await;
            let listed =
                answer.as_mut().ok().and_then(|answer| answer.get_mut("requests")?.get_mut(0)?.as_object_mut());
            if let Some(listed) = listed {
                assert_eq!(listed["text"], "pretty please");
                listed.remove("created_at");
            }
            answers.push(format!("{kind}: {answer:?}"));
            if kind == "cancel_join_request" {
                answers.push(observer.event("join_request_decided").await.to_string());
            }
        }
        seen.push(answers.join("\n").replace(room, "ROOM"));
    }
    assert_eq!(seen[0], seen[1], "an archived room");
    assert_eq!(seen[0], seen[2], "no room");
    assert!(seen[0].contains("pretty please") && !seen[0].contains("not_found"), "{}", seen[0]);

    // A request that no room has received counts as one that a room has.
    let database = server.database().await;
    let fill = "INSERT INTO unheard_requests SELECT $1, 4 * n + 2, NULL FROM generate_series(1000000, 1000098) n";
    database.execute(fill, &[&eve.id]).await.unwrap();
    requester.ok("request_to_join", json!({"conversation_id": rooms[2]})).await;
    for room in [rooms[0], "room_9007199254740986"] {
        assert_eq!(requester.refused("request_to_join", json!({"conversation_id": room})).await, "conflict", "{room}");
    }
    // The moderators have received what was for them only.
    let listed = server.ok(ann, "list_join_requests", json!({"conversation_id": known})).await;
    assert_eq!(listed["requests"], json!([]));
}

#[tokio::test]
async fn answers_for_an_ended_invitation_as_if_it_did_not_exist() {
    let server = server().await;
    let users = server.register_many(3).await;
    let [ann, bob, eve] = &users[..] else { unreachable!() };
    let room = server.room(&[ann]).await;
    let once = json!({"conversation_id": room, "max_uses": 1});
    let made = server.ok(ann, "create_invite", once).await;
    let used = json!({"code": made["invite"]["code"]});
    server.ok(bob, "join_by_invite", used.clone()).await;
    let unknown = json!({"code": "AAAAAAAAAAAAAAAAAAAAAA"});
    let first = server.call(eve, "join_by_invite", used).await.unwrap_err();
    let second = server.call(eve, "join_by_invite", unknown).await.unwrap_err();
    assert_eq!((code(&first), text(&first["detail"])), (code(&second), text(&second["detail"])));
}
