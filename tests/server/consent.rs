//! Adding a user to groups and rooms needs their consent, by their setting or beyond a budget.
//!
//! How: users add others on a server with the shipped budget of production, ten strangers an hour.

use crate::support::{Client, Format, Server, User, code, id_of, server, unique};
use chat_server::storage::accounts::Accounts;
use chat_server::storage::connect::Role;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn small_budget() -> Server {
    let settings = [("security.stranger_additions_per_hour", "10"), ("limits.max_messages_per_minute", "6000")];
    Server::start(2, &settings)
}

async fn choose(server: &Server, user: &User, who: &str) {
    let body = json!({"group_invitations": who});
    let (status, own) = server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&body)).await;
    assert_eq!((status, &own["group_invitations"]), (200, &json!(who)));
}

async fn group(server: &Server, by: &User, with: &User) -> Result<Value, Value> {
    let data = json!({"kind": "group", "name": unique("group"), "member_ids": [with.id]});
    server.call(by, "create_conversation", data).await
}

async fn invitations(server: &Server, user: &User) -> Vec<Value> {
    server.ok(user, "list_invitations", json!({})).await["invitations"].as_array().unwrap().clone()
}

async fn memberships(server: &Server, user: &User) -> Vec<String> {
    let page = server.ok(user, "list_conversations", json!({"limit": 200})).await;
    assert_eq!(page.get("next_cursor"), None, "200 conversations or more");
    page["conversations"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn bounds_the_groups_and_invitations_that_strangers_can_cause() {
    let server = small_budget();
    let victim = server.register().await;
    let own = id_of(&server.ok(&victim, "create_conversation", json!({"kind": "group", "name": "my own"})).await);
    server.ok(&victim, "send_message", json!({"conversation_id": own, "content": "mine"})).await;
    let attackers = server.register_many(18).await;
    let answers = join_all(attackers.iter().map(async |attacker| {
        let mut answers = Vec::new();
        for n in 0..20 {
            if n % 2 == 0 {
                answers.push(group(&server, attacker, &victim).await);
            } else {
                let room = server.room(&[attacker]).await;
                let data = json!({"conversation_id": room, "user_id": victim.id});
                answers.push(server.call(attacker, "invite_member", data).await);
            }
        }
        answers
    }))
    .await;
    let refused: Vec<Value> = answers.into_iter().flatten().filter_map(Result::err).collect();
    assert!(refused.len() >= 360 - 10 - 60, "{} of 360 were refused", refused.len());
    let mut limits = BTreeSet::new();
    for problem in &refused {
        assert_eq!(code(problem), "rate_limited");
        assert!(problem["retry_after_ms"].is_u64(), "{problem}");
        limits.insert(problem["details"].to_string());
    }
    let limit = json!({"limiter": "open_invitations", "scope": "recipient", "limit": 50, "window_ms": 0}).to_string();
    assert_eq!(limits, BTreeSet::from([limit]), "each limit of SQL has its own name");
    let of_victim = memberships(&server, &victim).await;
    assert!(of_victim.len() <= 11, "{} memberships", of_victim.len());
    let open = invitations(&server, &victim).await.len();
    // The cap is counted without a lock; each of the committers may be late by one.
    assert!((50..60).contains(&open), "{open} open invitations");
    let welcome = Client::all(&server, &victim, Format::Json).await.welcome;
    assert_eq!(welcome["conversations"][0]["id"], json!(own), "the user's own conversation comes first");
}

#[tokio::test]
async fn invites_users_who_must_decide_and_adds_them_once_they_accept() {
    let server = server().await;
    let users = server.register_many(3).await;
    let [ann, bob, eve] = &users[..] else { unreachable!() };
    choose(server, bob, "nobody").await;
    let mut of_bob = Client::all(server, bob, Format::MessagePack).await;
    let mut second = Client::all(server, bob, Format::Json).await;
    let created = group(server, ann, bob).await.unwrap();
    let first = id_of(&created);
    assert_eq!((&created["invited_user_ids"], &created["conversation"]["member_count"]), (&json!([bob.id]), &json!(1)));
    let received = of_bob.event("invitation_received").await;
    assert_eq!((&received["conversation_id"], &received["invited_by"]["id"]), (&json!(first), &json!(ann.id)));
    let room = server.room(&[ann]).await;
    let add = json!({"conversation_id": room, "user_id": bob.id});
    for _ in 0..2 {
        let answer = server.ok(ann, "invite_member", add.clone()).await;
        assert_eq!(answer, json!({"conversation_id": room, "user_id": bob.id, "pending": true}));
    }
    let listed = invitations(server, bob).await;
    assert_eq!(listed.iter().map(|i| &i["conversation_id"]).collect::<Vec<_>>(), [&json!(room), &json!(first)]);
    assert_eq!((&listed[1]["kind"], &listed[1]["invited_by"]["id"]), (&json!("group"), &json!(ann.id)));
    assert_eq!(of_bob.refused("get_history", json!({"conversation_id": room})).await, "not_found", "no member yet");
    assert_eq!(
        code(&server.call(eve, "accept_invitation", json!({"conversation_id": room})).await.unwrap_err()),
        "not_found"
    );

    let accepted = of_bob.ok("accept_invitation", json!({"conversation_id": room})).await;
    assert_eq!(accepted["conversation"]["role"], "member");
    assert_eq!(second.event("invitation_closed").await["conversation_id"], json!(room));
    let joined = second.event_where("member_joined", |event| event["user"]["id"] == json!(bob.id)).await;
    assert_eq!(joined["invited_by"]["id"], json!(ann.id));
    server.ok(bob, "decline_invitation", json!({"conversation_id": first})).await;
    assert_eq!(second.event("invitation_closed").await["conversation_id"], json!(first));
    assert_eq!(invitations(server, bob).await, [] as [Value; 0]);
    assert_eq!(memberships(server, bob).await, [room]);
    let again = json!({"conversation_id": first});
    assert_eq!(code(&server.call(bob, "accept_invitation", again).await.unwrap_err()), "not_found");
}

#[tokio::test]
async fn ends_invitations_of_senders_who_leave_or_are_blocked() {
    let server = server().await;
    let users = server.register_many(3).await;
    let [ann, bob, eve] = &users[..] else { unreachable!() };
    choose(server, bob, "nobody").await;
    let room = server.room(&[ann, eve]).await;
    let here = json!({"conversation_id": room});
    server.ok(eve, "invite_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    server.ok(bob, "block_user", json!({"user_id": eve.id})).await;
    assert_eq!(invitations(server, bob).await, [] as [Value; 0]);
    assert_eq!(code(&server.call(bob, "accept_invitation", here.clone()).await.unwrap_err()), "blocked");
    server.ok(bob, "unblock_user", json!({"user_id": eve.id})).await;
    assert_eq!(invitations(server, bob).await.len(), 1);
    server.ok(eve, "leave_conversation", here.clone()).await;
    assert_eq!(invitations(server, bob).await, [] as [Value; 0]);
    assert_eq!(code(&server.call(bob, "accept_invitation", here).await.unwrap_err()), "not_found");
}

#[tokio::test]
async fn invitations_that_nobody_can_see_do_not_fill_the_list() {
    let server = server().await;
    let users = server.register_many(5).await;
    let [ann, bob, attackers @ ..] = &users[..] else { unreachable!() };
    choose(server, bob, "nobody").await;
    for attacker in attackers {
        for _ in 0..18 {
            let made = group(server, attacker, bob).await.unwrap();
            let id = json!({"conversation_id": made["conversation"]["id"]});
            server.ok(attacker, "archive_conversation", id).await;
        }
    }
    assert_eq!(invitations(server, bob).await, [] as [Value; 0], "54 that Bob cannot decline");
    assert!(group(server, ann, bob).await.unwrap()["invited_user_ids"].is_array());
    assert_eq!(invitations(server, bob).await.len(), 1);
}

#[tokio::test]
async fn lets_contacts_add_a_user_who_has_written_to_them() {
    let server = small_budget();
    let users = server.register_many(3).await;
    let [ann, bob, eve] = &users[..] else { unreachable!() };
    choose(&server, bob, "contacts").await;
    let direct = json!({"kind": "direct", "member_ids": [bob.id]});
    for user in [ann, eve] {
        let place = id_of(&server.ok(user, "create_conversation", direct.clone()).await);
        server.ok(user, "send_message", json!({"conversation_id": place, "content": "hello"})).await;
        assert!(group(&server, user, bob).await.unwrap()["invited_user_ids"].is_array(), "a message makes no contact");
        if user.id == ann.id {
            server.ok(bob, "send_message", json!({"conversation_id": place, "content": "hi"})).await;
        }
    }
    for _ in 0..12 {
        assert_eq!(group(&server, ann, bob).await.unwrap().get("invited_user_ids"), None);
        assert_eq!(group(&server, eve, bob).await.unwrap()["invited_user_ids"], json!([bob.id]));
    }
    // One answer makes a contact, so contacts have a budget too: 20 an hour.
    let mut invited = 0;
    for _ in 0..12 {
        invited += usize::from(group(&server, ann, bob).await.unwrap().get("invited_user_ids").is_some());
    }
    assert_eq!(invited, 4, "12 + 8 additions at once");
    // Whom a user asks to be admitted by, or joins by themselves, needs no consent.
    choose(&server, bob, "nobody").await;
    let room = server.room(&[eve]).await;
    let made = server.ok(eve, "create_invite", json!({"conversation_id": room})).await;
    server.ok(bob, "join_by_invite", json!({"code": made["invite"]["code"]})).await;
    let (status, _) =
        server.request(Method::PATCH, "/users/me", Some(&bob.token), Some(&json!({"group_invitations": "some"}))).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn sweeps_additions_that_no_budget_counts_any_longer() {
    let server = Server::start(1, &[]);
    let users = server.register_many(2).await;
    let [ann, bob] = &users[..] else { unreachable!() };
    let database = server.database().await;
    let fill = "INSERT INTO stranger_additions (user_id, added_by, created_at) \
                SELECT $1, $2, now() - n * interval '10 minutes' FROM generate_series(0, 11) n";
    database.execute(fill, &[&bob.id, &ann.id]).await.unwrap();
    // Nobody adds this user again: only the periodic job can remove the rows.
    let accounts = Accounts::new(server.target().pool(Role::Writer, 1).unwrap());
    accounts.sweep_expired().await.unwrap();
    let left = database.query_one("SELECT count(*) FROM stranger_additions", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 6, "those of the last hour");
}
