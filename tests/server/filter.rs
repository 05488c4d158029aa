//! The content filter: each kind of rule and each action, exemptions, dry runs, edits, bounds, the moderators' queue.
//!
//! How: a server of its own, whose first user is an administrator. Each test sets rules of its own conversation, so
//! that the tests can run at the same time; one test changes the rules of a server that it does not share.

use crate::support::{Client, Format, PATIENCE, Server, User, code, id_of, text, unique};
use chat_server::chat::filter::compiled::{Context, Field, Rules};
use chat_server::chat::filter::tally::Tallies;
use chat_server::chat::filter::{FilterRuleSet, rule::FilterRule};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

struct Filtered {
    server: Server,
    admin: User,
}

/// The server of these tests, and its administrator.
async fn filtered() -> &'static Filtered {
    static FILTERED: OnceCell<Filtered> = OnceCell::const_new();
    FILTERED
        .get_or_init(|| async {
            let server = Server::start(2, &[("security.admin_user_ids", "1")]);
            let admin = server.register().await;
            assert_eq!(admin.id, 1, "the first user of a new server");
            Filtered { server, admin }
        })
        .await
}

pub async fn put(server: &Server, user: &User, target: &str, rules: &Value) -> (u16, Value) {
    server.request(Method::PUT, target, Some(&user.token), Some(&json!({"rules": rules}))).await
}

pub fn message(room: &str, content: &str) -> Value {
    json!({"conversation_id": room, "content": content})
}

/// Sets the rules of a conversation, and waits until they apply: `matched` is a text that they refuse.
pub async fn set_rules(server: &Server, owner: &User, room: &str, rules: Value) {
    let mut all = rules.as_array().unwrap().clone();
    let mark = unique("mark");
    all.push(json!({"id": "mark", "kind": "keywords", "definition": {"words": [mark]}, "action": "refuse"}));
    let (status, answer) = put(server, owner, &format!("/conversations/{room}/filter-rules"), &json!(all)).await;
    assert_eq!(status, 200, "{answer}");
    wait_for_rule(server, owner, room, &mark).await;
}

/// Waits until a text is refused. Each of these messages is a part of no test.
pub async fn wait_for_rule(server: &Server, user: &User, room: &str, content: &str) {
    let started = Instant::now();
    while server.call(user, "send_message", message(room, content)).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "the rules do not apply");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a literal at each call")]
fn rule(id: &str, kind: &str, definition: Value, action: &str) -> Value {
    json!({"id": id, "kind": kind, "definition": definition, "action": action})
}

pub fn words(id: &str, word: &str, action: &str) -> Value {
    rule(id, "keywords", json!({"words": [word]}), action)
}

#[track_caller]
pub fn assert_filtered(refused: &Result<Value, Value>, rule: &str, held: bool) {
    let refusal = refused.as_ref().expect_err("the rule must refuse it");
    assert_eq!(code(refusal), "filtered", "{refusal}");
    let details = if held { json!({"rule": rule, "held": true}) } else { json!({"rule": rule}) };
    assert_eq!(refusal["details"], details, "{refusal}");
    let message = refusal.get("message").or_else(|| refusal.get("detail")).map(text).unwrap_or_default();
    assert!(message.contains(rule), "{message}");
}

#[tokio::test]
async fn refuses_what_a_rule_of_each_kind_matches_and_nothing_else() {
    let server = &filtered().await.server;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let rules = json!([
        rule("words", "keywords", json!({"words": ["casino"], "leet": true}), "refuse"),
        rule("pattern", "regex", json!({"pattern": r"\bcall \d{3}-\d{4}"}), "refuse"),
        rule("domains", "links", json!({"block": ["evil.example"]}), "refuse"),
        rule("mentions", "mentions", json!({"max": 3}), "refuse"),
        rule("repeats", "repeats", json!({"count": 3, "within_s": 60}), "refuse"),
        rule("capitals", "capitals", json!({"percent": 80, "min_letters": 20}), "refuse"),
        rule("zalgo", "zalgo", json!({"marks_max": 3}), "refuse"),
        rule("invisible", "invisible", json!({"overrides": true}), "refuse"),
    ]);
    set_rules(server, &ann, &room, rules).await;
    for format in Format::ALL {
        let mut client = Client::none(server, &bob, format).await;
        for (content, rule) in [
            ("my \u{200b}C\u{e1}s1n0 is open", "words"),
            ("Call 555-1234 now", "pattern"),
            ("see https://www.evil.example/x", "domains"),
            ("@ann1 @bob2 @cid3 @dan4", "mentions"),
            ("THIS IS SHOUTED AT EVERYBODY", "capitals"),
            ("z\u{301}\u{302}\u{303}\u{304}", "zalgo"),
            ("a\u{202d}b\u{202c}", "invisible"),
        ] {
            let refused = client.command("send_message", message(&room, content)).await;
            assert_filtered(&refused, rule, false);
        }
        for content in ["a casinoesque call", "@ann1 and @bob2", "<script>alert(1)</script>", "OK", "café"] {
            client.ok("send_message", message(&room, content)).await;
        }
    }
    // The memory belongs to the user, not to the connection.
    let repeated = unique("come and see my wonderful shop");
    for format in Format::ALL {
        Client::none(server, &bob, format).await.ok("send_message", message(&room, &repeated)).await;
    }
    let again = Client::none(server, &bob, Format::Json).await.command("send_message", message(&room, &repeated)).await;
    assert_filtered(&again, "repeats", false);
    server.ok(&ann, "send_message", message(&room, &repeated)).await;
    let other_room = server.room(&[&bob]).await;
    server.ok(&bob, "send_message", message(&other_room, "casino")).await;
}

#[tokio::test]
async fn checks_edits_and_the_names_of_conversations() {
    let server = &filtered().await.server;
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    set_rules(server, &ann, &room, json!([words("words", "forbidden", "refuse")])).await;
    let sent = server.ok(&ann, "send_message", message(&room, "fine")).await;
    let edit = |content: &str| json!({"message_id": sent["message_id"], "content": content});
    assert_filtered(&server.call(&ann, "edit_message", edit("now forbidden")).await, "words", false);
    server.ok(&ann, "edit_message", edit("still fine")).await;
    let history = server.history(&ann, &room).await;
    assert!(history.iter().any(|message| message["content"] == "still fine"), "{history:?}");
    for field in ["name", "description"] {
        let update = json!({"conversation_id": room, field: "a forbidden text"});
        assert_filtered(&server.call(&ann, "update_conversation", update).await, "words", false);
    }
    server.ok(&ann, "update_conversation", json!({"conversation_id": room, "name": "allowed"})).await;
}

#[tokio::test]
async fn exempts_roles_and_counts_dry_runs_only() {
    let server = &filtered().await.server;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let exempting = json!({"id": "members", "kind": "keywords", "definition": {"words": ["link"]}, "action": "refuse",
        "exempt_from": "moderator"});
    let mut dry = words("dry", "dryword", "refuse");
    dry["dry_run"] = json!(true);
    let mut off = words("off", "offword", "refuse");
    off["enabled"] = json!(false);
    set_rules(server, &ann, &room, json!([exempting, dry, off])).await;
    assert_filtered(&server.call(&bob, "send_message", message(&room, "a link")).await, "members", false);
    server.ok(&ann, "send_message", message(&room, "a link")).await;
    server.ok(&bob, "send_message", message(&room, "dryword and offword")).await;
    server.ok(&ann, "set_role", json!({"conversation_id": room, "user_id": bob.id, "role": "moderator"})).await;
    server.ok(&bob, "send_message", message(&room, "a link")).await;
    let metrics = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
    for action in ["refuse", "dry_run"] {
        let line = format!(r#"chat_server_filter_matches_total{{action="{action}",rule="conversation"}}"#);
        let other = format!(r#"chat_server_filter_matches_total{{rule="conversation",action="{action}"}}"#);
        let found = metrics.lines().find(|shown| shown.starts_with(&line) || shown.starts_with(&other));
        assert!(found.is_some_and(|line| !line.ends_with(" 0")), "{action}: {found:?}");
    }
}

#[tokio::test]
async fn slows_and_mutes_authors() {
    let server = &filtered().await.server;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob, &eve]).await;
    let mut mute = words("mute", "muteword", "mute");
    mute["mute_s"] = json!(300);
    set_rules(server, &ann, &room, json!([words("slow", "slowword", "slow"), mute])).await;
    let mut anns = Client::all(server, &ann, Format::Json).await;
    for (user, word, seconds) in [(&bob, "slow", 30), (&eve, "mute", 300)] {
        let refused = server.call(user, "send_message", message(&room, &format!("a {word}word"))).await;
        assert_filtered(&refused, word, false);
        assert_eq!(refused.unwrap_err()["retry_after_ms"], seconds * 1_000);
        let refused = server.call(user, "send_message", message(&room, "hello")).await.unwrap_err();
        assert_eq!(code(&refused), "muted");
        let event = anns.event("member_updated").await;
        assert_eq!(event["data"]["user"]["id"].as_i64().or(event["user"]["id"].as_i64()), Some(user.id), "{event}");
        // The server mutes them, and not they themselves.
        let path = format!("/admin/audit?action=filter_text&target=user:{}", user.id);
        let (_, audit) = server.request(Method::GET, &path, Some(&filtered().await.admin.token), None).await;
        let row = &audit["entries"][0];
        assert_eq!((&row["user_id"], &row["session_id"], &row["reason"]), (&Value::Null, &Value::Null, &json!(word)));
        assert_eq!((&row["target"]["id"], &row["ip_address"]), (&json!(user.id), &Value::Null), "{row}");
        assert!(row["details"]["after"]["muted_until"].is_string(), "{row}");
    }
}

pub async fn queue(server: &Server, user: &User, room: &str) -> (u16, Value) {
    let target = format!("/moderation/queue?conversation_id={room}");
    server.request(Method::GET, &target, Some(&user.token), None).await
}

pub async fn decide(server: &Server, user: &User, item: &Value, decision: &str) -> (u16, Value) {
    let target = format!("/moderation/queue/{}/{decision}", item["id"]);
    server.request(Method::POST, &target, Some(&user.token), None).await
}

pub fn items(answer: &(u16, Value)) -> Vec<Value> {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn sends_a_held_message_once_when_a_moderator_approves_it() {
    let server = &filtered().await.server;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    set_rules(server, &ann, &room, json!([words("hold", "offer", "hold")])).await;
    let mut anns = Client::all(server, &ann, Format::Json).await;
    let offer = json!({"conversation_id": room, "content": "an offer", "client_message_id": "offer-1"});
    for _ in 0..2 {
        assert_filtered(&server.call(&bob, "send_message", offer.clone()).await, "hold", true);
    }
    for outsider in [&bob, &eve] {
        assert_eq!(queue(server, outsider, &room).await.0, if outsider.id == bob.id { 403 } else { 404 });
    }
    let held = items(&queue(server, &ann, &room).await);
    assert_eq!(held.len(), 1, "sent twice, held once: {held:?}");
    let item = &held[0];
    let shown = (&item["content"], &item["rule"], &item["state"], &item["sender"]["id"]);
    assert_eq!(shown, (&json!("an offer"), &json!("hold"), &json!("held"), &json!(bob.id)));
    for outsider in [&bob, &eve] {
        assert_eq!(decide(server, outsider, item, "approve").await.0, 404, "only moderators decide");
    }
    assert!(server.history(&ann, &room).await.iter().all(|message| message["content"] != "an offer"));

    let (first, second) = tokio::join!(decide(server, &ann, item, "approve"), decide(server, &ann, item, "approve"));
    assert_eq!((first.0, second.0), (200, 200), "{first:?} {second:?}");
    let event = anns.event("message_created").await;
    assert!(event.to_string().contains("an offer"), "{event}");
    let sent: Vec<Value> =
        server.history(&ann, &room).await.into_iter().filter(|message| message["content"] == "an offer").collect();
    assert_eq!(sent.len(), 1, "approved twice, sent once");
    assert_eq!(sent[0]["sender"]["id"], bob.id);
    let repeated = server.ok(&bob, "send_message", offer).await;
    assert_eq!((&repeated["duplicate"], &repeated["message_id"]), (&json!(true), &sent[0]["message_id"]));
    assert_eq!(decide(server, &ann, item, "reject").await.0, 409, "it was sent");
    assert!(items(&queue(server, &ann, &room).await).is_empty());
}

#[tokio::test]
async fn rejects_held_texts_and_lists_flagged_ones() {
    let server = &filtered().await.server;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let rules = json!([words("hold", "offer", "hold"), words("flag", "odd", "flag")]);
    set_rules(server, &ann, &room, rules).await;
    let offer = json!({"conversation_id": room, "content": "an offer", "client_message_id": "offer-2"});
    assert_filtered(&server.call(&bob, "send_message", offer.clone()).await, "hold", true);
    let sent = server.ok(&bob, "send_message", message(&room, "an odd text")).await;
    let edit = json!({"message_id": sent["message_id"], "content": "an edited offer"});
    assert_filtered(&server.call(&bob, "edit_message", edit).await, "hold", true);
    let listed = items(&queue(server, &ann, &room).await);
    let states: Vec<_> = listed.iter().map(|item| (text(&item["state"]), &item["message_id"])).collect();
    assert_eq!(states, [("held", &Value::Null), ("flagged", &sent["message_id"]), ("held", &sent["message_id"])]);
    assert_eq!(decide(server, &ann, &listed[0], "reject").await.0, 200);
    assert_eq!(decide(server, &ann, &listed[0], "approve").await.0, 409);
    assert_filtered(&server.call(&bob, "send_message", offer).await, "hold", false);
    assert_eq!(decide(server, &ann, &listed[1], "reject").await.0, 200, "it is only taken off the list");
    assert_eq!(decide(server, &ann, &listed[2], "approve").await.0, 200);
    let history = server.history(&ann, &room).await;
    let own: Vec<_> = history.iter().filter(|message| message["sender"]["id"] == bob.id).collect();
    assert_eq!(own.last().unwrap()["content"], "an edited offer", "{own:?}");
    assert!(items(&queue(server, &ann, &room).await).is_empty());
}

#[tokio::test]
async fn refuses_rules_beyond_their_bounds_and_rules_of_others() {
    let Filtered { server, admin } = filtered().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let target = format!("/conversations/{room}/filter-rules");
    let many: Vec<Value> = (0..21).map(|n| words(&format!("r{n}"), "word", "flag")).collect();
    for (rules, reason) in [
        (json!([rule("bomb", "regex", json!({"pattern": "(a{1000}){1000}"}), "flag")]), "larger than"),
        (json!([rule("look", "regex", json!({"pattern": "(?<=a)b"}), "flag")]), "look-around"),
        (json!(many), "At most 20 rules"),
        (json!([rule("kind", "poetry", json!({}), "flag")]), "poetry"),
        (json!([words("action", "word", "explode")]), "explode"),
        (json!([words("twice", "a", "flag"), words("twice", "b", "flag")]), "Another rule"),
    ] {
        let (status, problem) = put(server, &ann, &target, &rules).await;
        assert_eq!((status, code(&problem).as_str()), (400, "bad_request"), "{problem}");
        assert!(text(&problem["detail"]).contains(reason), "{problem}");
    }
    let rules = json!([words("words", "word", "flag")]);
    assert_eq!(put(server, &bob, &target, &rules).await.0, 403);
    assert_eq!(put(server, &eve, &target, &rules).await.0, 404);
    assert_eq!(put(server, &ann, "/admin/filter-rules", &rules).await.0, 403);
    assert_eq!(server.request(Method::GET, "/admin/filter-rules", Some(&ann.token), None).await.0, 403);
    assert_eq!(server.request(Method::GET, "/admin/filter-rules", Some(&admin.token), None).await.0, 200);
}

#[tokio::test]
async fn rules_of_the_server_apply_everywhere_and_to_names_after_a_reload() {
    let server = &Server::start(2, &[("security.admin_user_ids", "1")]);
    let (admin, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&bob]).await;
    let database = server.database().await;
    let mut rules =
        server.request(Method::GET, "/admin/filter-rules", Some(&admin.token), None).await.1["rules"].clone();
    rules.as_array_mut().unwrap().push(words("hold", "offer", "hold"));
    rules.as_array_mut().unwrap().push(words("words", "forbidden", "refuse"));
    assert_eq!(put(server, &admin, "/admin/filter-rules", &rules).await.0, 200);
    wait_for_rule(server, &bob, &room, "forbidden").await;
    assert_filtered(&server.call(&bob, "send_message", message(&room, "forbidden")).await, "words", false);
    let create = json!({"kind": "public_room", "name": "a forbidden room"});
    assert_filtered(&server.call(&bob, "create_conversation", create).await, "words", false);
    for (body, rule) in [
        (json!({"display_name": "forbidden"}), "words"),
        (json!({"display_name": "аdmin"}), "lookalike-names"),
        (json!({"bio": "forbidden"}), "words"),
    ] {
        let (status, problem) = server.request(Method::PATCH, "/users/me", Some(&bob.token), Some(&body)).await;
        assert_eq!(status, 422, "{problem}");
        assert_filtered(&Err(problem), rule, false);
    }
    let account = json!({"username": "Adm1n", "email": "adm1n@example.org", "password": "correct horse battery"});
    let (status, problem) = server.post("/auth/register", None, &account).await;
    assert_eq!((status, code(&problem).as_str()), (422, "filtered"), "{problem}");
    // Administrators decide about what a rule of the server holds, in conversations that they are not in.
    assert_filtered(&server.call(&bob, "send_message", message(&room, "an offer")).await, "hold", true);
    let held = items(&server.request(Method::GET, "/moderation/queue", Some(&admin.token), None).await);
    assert_eq!(decide(server, &admin, &held[0], "approve").await.0, 200);
    let hits: i64 = database
        .query_one("SELECT count(*) FROM filter_hits WHERE user_id = $1 AND action = 'refuse'", &[&bob.id])
        .await
        .unwrap()
        .get(0);
    assert!(hits >= 5, "each refusal is recorded: {hits}");
    // A change by another server on the same database applies too.
    database.batch_execute("DELETE FROM filter_rules WHERE id = 'words'").await.unwrap();
    let started = Instant::now();
    while server.call(&bob, "send_message", message(&room, "forbidden")).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the rules do not apply");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.kill9();
    server.start_again();
    assert_filtered(&server.call(&bob, "send_message", message(&room, "another offer")).await, "hold", true);
}

#[tokio::test]
async fn filters_nothing_where_it_is_switched_off() {
    let settings = [("security.admin_user_ids", "1"), ("security.content_filtering", "false")];
    let server = &Server::start(1, &settings);
    let admin = server.register().await;
    let room = server.room(&[&admin]).await;
    let rules = json!([words("words", "forbidden", "refuse")]);
    assert_eq!(put(server, &admin, "/admin/filter-rules", &rules).await.0, 200);
    for content in ["forbidden", "@a1 forbidden"] {
        server.ok(&admin, "send_message", message(&room, content)).await;
    }
    assert_eq!(id_of(&server.ok(&admin, "get_conversation", json!({"conversation_id": room})).await), room);
}

/// Every text of `tests/data/ordinary_texts`.
fn ordinary_texts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ordinary_texts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut texts = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "jsonl")) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(file).unwrap().lines() {
            texts.push((name.clone(), serde_json::from_str(line).unwrap()));
        }
    }
    texts
}

#[tokio::test]
async fn the_rules_of_a_new_server_refuse_no_ordinary_text() {
    let server = Server::start(1, &[("security.admin_user_ids", "1")]);
    let admin = server.register().await;
    let answer = server.request(Method::GET, "/admin/filter-rules", Some(&admin.token), None).await.1;
    let mut rules: Vec<FilterRule> = serde_json::from_value(answer["rules"].clone()).unwrap();
    assert!(rules.len() >= 5, "{answer}");
    for rule in &mut rules {
        rule.enabled = true;
    }
    let compiled = Rules::compile(&rules, None, &Tallies::default()).unwrap();
    let set = FilterRuleSet { server: Arc::new(compiled), ..FilterRuleSet::default() };
    let texts = ordinary_texts();
    assert!(texts.len() >= 5_000, "{}", texts.len());
    for (kind, text) in &texts {
        let context = Context { field: Field::Message, conversation: None, memory: None, now_s: 0 };
        let hits: Vec<String> = set.check(text, &context).hits.iter().map(|hit| hit.id.clone()).collect();
        assert_eq!(hits, Vec::<String>::new(), "{kind}: {text}");
    }
    // A sample of them through the server.
    let room = server.room(&[&admin]).await;
    for (_, content) in texts.iter().step_by(50) {
        server.ok(&admin, "send_message", message(&room, content)).await;
    }
}
