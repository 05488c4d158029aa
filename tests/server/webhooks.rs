//! Webhooks: signed, repeated until they arrive, in order when asked, and only what their owner may read, to where the
//! operator allows.
//!
//! How: a receiver in this process ([`Receiver`]) keeps every request and answers as its path says. Pauses that would
//! take minutes are shortened in the database.

use crate::support::receiver::{Delivered, Receiver};
use crate::support::{Client, Format, Server, User, code, server, text, wait_until};
use chat_server::hooks::signature;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// The server of this module, which allows receivers on this machine.
fn hooked() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let allowed = ("webhooks.allowed_networks", "127.0.0.0/8");
        Server::start(1, &[("features.webhooks", "true"), allowed, ("webhooks.timeout", "2s")])
    })
}

async fn call(server: &Server, user: &User, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    server.request(method, path, Some(&user.token), body.as_ref()).await
}

/// Creates a webhook, which must be accepted.
async fn create(server: &Server, user: &User, webhook: Value) -> Value {
    let (status, created) = call(server, user, Method::POST, "/webhooks", Some(webhook)).await;
    assert_eq!(status, 201, "{created}");
    created
}

async fn show(server: &Server, user: &User, webhook: &Value) -> Value {
    call(server, user, Method::GET, &format!("/webhooks/{}", webhook["id"]), None).await.1
}

async fn deliveries(server: &Server, user: &User, webhook: &Value, query: &str) -> Vec<Value> {
    let path = format!("/webhooks/{}/deliveries?limit=200{query}", webhook["id"]);
    let (status, page) = call(server, user, Method::GET, &path, None).await;
    assert_eq!(status, 200, "{page}");
    page["deliveries"].as_array().unwrap().clone()
}

async fn say(server: &Server, user: &User, room: &str, content: &str) -> Value {
    server.ok(user, "send_message", json!({"conversation_id": room, "content": content})).await
}

/// Whether a request has the signature of this secret, and how many it has.
fn signed_by(delivered: &Delivered, secret: &Value) -> (bool, usize) {
    use base64::Engine as _;
    let key = text(secret).strip_prefix("whsec_").unwrap();
    let key = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    let expected = signature::sign([key.as_slice()], &delivered.id, delivered.timestamp, &delivered.body);
    let signatures: Vec<&str> = delivered.signature.split(' ').collect();
    (signatures.contains(&expected.as_str()), signatures.len())
}

/// Fails unless the audit trail has these actions about a webhook, in this order.
async fn audited(server: &Server, webhook: &Value, actions: &[&str]) {
    let sql = "SELECT action FROM audit_logs WHERE target_type = 'webhook' AND target_id = $1 ORDER BY position";
    let rows = server.database().await.query(sql, &[&webhook["id"].as_i64()]).await.unwrap();
    let found: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, actions);
}

fn seqs(received: &[Delivered]) -> Vec<i64> {
    received.iter().map(|delivered| delivered.json()["data"]["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn delivers_every_event_of_a_conversation_with_a_signature() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    say(server, &ann, &room, "before the webhook").await;
    let webhook = create(server, &ann, json!({"url": receiver.at("/ok"), "conversation_id": room})).await;
    assert_eq!((&webhook["active"], &webhook["events"]), (&json!(true), &json!([])));
    assert!(show(server, &ann, &webhook).await.get("secret").is_none(), "shown once");

    let mut client = Client::all(server, &bob, Format::Json).await;
    let sent = server
        .ok(&bob, "send_message", json!({"conversation_id": room, "content": "Grüße 👋", "client_message_id": "mine"}))
        .await;
    let message = &sent["message_id"];
    server.ok(&ann, "add_reaction", json!({"message_id": message, "emoji": "🎉"})).await;
    server.ok(&bob, "edit_message", json!({"message_id": message, "content": "edited"})).await;
    server.ok(&ann, "pin_message", json!({"message_id": message, "pinned": true})).await;
    server.ok(&bob, "leave_conversation", json!({"conversation_id": room})).await;
    let last = server.last_seq(&ann, &room).await;
    let first = sent["seq"].as_i64().unwrap();
    let arrived = receiver
        .received_when("/ok", |received| {
            seqs(received).into_iter().collect::<BTreeSet<_>>().len() as i64 > last - first
        })
        .await;
    assert_eq!(seqs(&arrived).into_iter().collect::<BTreeSet<_>>(), (first..=last).collect(), "no earlier one");
    for delivered in &arrived {
        let body = delivered.json();
        assert_eq!(signed_by(delivered, &webhook["secret"]), (true, 1));
        assert_eq!(delivered.id, format!("evt_{room}_{}", body["data"]["seq"]));
        assert_eq!(body["data"]["conversation_id"], json!(room));
        assert!(body["data"].get("client_message_id").is_none(), "only for its sender: {body}");
    }
    // The event of a reaction is the one that clients receive.
    let event = client.event("reaction_added").await;
    let reaction = arrived.iter().map(Delivered::json).find(|body| body["type"] == "reaction_added").unwrap();
    assert_eq!(reaction["data"], event);
    let kinds: BTreeSet<String> = arrived.iter().map(|delivered| text(&delivered.json()["type"]).to_owned()).collect();
    for kind in ["message_created", "message_edited", "message_pinned", "reaction_added", "member_left"] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }
    let database = server.database().await;
    let settled = format!(
        "SELECT count(*) = {} FROM webhook_deliveries WHERE webhook_id = {} AND state = 'delivered'",
        last - first + 1,
        webhook["id"]
    );
    wait_until(&database, &settled).await;
    let logged = deliveries(server, &ann, &webhook, "&state=delivered").await;
    assert_eq!((&logged[0]["attempts"], &logged[0]["log"][0]["status"]), (&json!(1), &json!(204)), "{}", logged[0]);
    audited(server, &webhook, &["create_webhook"]).await;
}

#[tokio::test]
async fn a_webhook_of_a_user_follows_all_conversations_of_that_user_and_asks_for_some_events() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let (ann, bob) = (server.register().await, server.register().await);
    let old = server.room(&[&ann, &bob]).await;
    let webhook = create(server, &ann, json!({"url": receiver.at("/ok"), "events": ["message_created"]})).await;
    assert_eq!(webhook["conversation_id"], Value::Null);
    say(server, &bob, &old, "in the old room").await;
    let direct = server.ok(&bob, "create_conversation", json!({"kind": "direct", "member_ids": [ann.id]})).await;
    let direct = text(&direct["conversation"]["id"]).to_owned();
    let sent = say(server, &bob, &direct, "in a new conversation").await;
    server.ok(&ann, "add_reaction", json!({"message_id": sent["message_id"], "emoji": "🎉"})).await;
    let others = server.room(&[&bob]).await;
    say(server, &bob, &others, "not for her").await;
    say(server, &bob, &old, "the last one").await;
    let contents = |delivered: &[Delivered]| {
        let contents = delivered.iter().map(|delivered| text(&delivered.json()["data"]["content"]).to_owned());
        contents.collect::<BTreeSet<_>>()
    };
    let expected = BTreeSet::from(["in a new conversation", "in the old room", "the last one"].map(str::to_owned));
    let arrived = receiver.received_when("/ok", |received| contents(received).is_superset(&expected)).await;
    assert!(arrived.iter().all(|delivered| delivered.json()["type"] == "message_created"));
    assert!(!contents(&arrived).contains("not for her"));
}

#[tokio::test]
async fn repeats_failed_deliveries_with_their_id_and_not_before_the_receiver_wants() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    for path in ["/flaky/1/503", "/later/8"] {
        create(server, &ann, json!({"url": receiver.at(path), "conversation_id": room})).await;
    }
    say(server, &ann, &room, "hello").await;
    receiver.received_many("/later/8", 1).await;
    let second = say(server, &ann, &room, "the receiver wants nothing now").await;
    for (path, pause_s) in [("/flaky/1/503", 5), ("/later/8", 8)] {
        let of_second = |all: &[Delivered]| seqs(all).contains(&second["seq"].as_i64().unwrap());
        let repeated = |all: &[Delivered]| all.iter().skip(1).any(|one| one.id == all[0].id);
        let arrived = receiver.received_when(path, |all| repeated(all) && of_second(all)).await;
        if path == "/later/8" {
            let first = arrived.iter().find(|one| one.json()["data"]["seq"] == second["seq"]).unwrap();
            assert!(first.timestamp >= arrived[0].timestamp + 8, "the whole webhook waits");
        }
        let arrived: Vec<&Delivered> = arrived.iter().filter(|one| one.id == arrived[0].id).collect();
        let [first, second] = &arrived[..] else { panic!("{arrived:?}") };
        assert_eq!((&first.id, &first.body), (&second.id, &second.body));
        assert!(second.timestamp >= first.timestamp + pause_s, "{path}: {} {}", first.timestamp, second.timestamp);
        assert_ne!(first.signature, second.signature, "it covers the time");
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_410_disables_the_webhook() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let [redirected, gone] =
        ["/redirect", "/status/410"].map(|path| json!({"url": receiver.at(path), "conversation_id": room}));
    let (redirected, gone) = (create(server, &ann, redirected).await, create(server, &ann, gone).await);
    say(server, &ann, &room, "hello").await;
    let database = server.database().await;
    wait_until(&database, &format!("SELECT disabled_at IS NOT NULL FROM webhooks WHERE id = {}", gone["id"])).await;
    let shown = show(server, &ann, &gone).await;
    assert_eq!((&shown["active"], text(&shown["disabled_reason"])), (&json!(false), "the receiver answered 410 Gone"));
    say(server, &ann, &room, "nobody wants this").await;
    wait_until(&database, &format!("SELECT failures > 0 FROM webhooks WHERE id = {}", redirected["id"])).await;
    let logged = deliveries(server, &ann, &redirected, "&state=pending").await;
    assert!(text(&logged[0]["log"][0]["error"]).contains("302"), "{}", logged[0]);
    assert_eq!(receiver.received("/ok/redirected").len(), 0);
    let gone_path = format!("/webhooks/{}", gone["id"]);
    let (status, _) =
        call(server, &ann, Method::POST, &format!("{gone_path}/replay"), Some(json!({"from": "2026-01-01T00:00:00Z"})))
            .await;
    assert_eq!(status, 409);
    // Enabled again, it goes on where it stopped.
    let change = json!({"active": true, "url": receiver.at("/ok/back")});
    let (status, shown) = call(server, &ann, Method::PATCH, &gone_path, Some(change)).await;
    assert_eq!((status, &shown["active"]), (200, &json!(true)), "{shown}");
    let arrived = receiver.received_many("/ok/back", 2).await;
    let contents: BTreeSet<String> =
        arrived.iter().map(|delivered| text(&delivered.json()["data"]["content"]).to_owned()).collect();
    assert_eq!(contents, BTreeSet::from(["hello", "nobody wants this"].map(str::to_owned)));
    assert_eq!(receiver.received("/status/410").len(), 1, "nothing was sent while it was disabled");
}

#[tokio::test]
async fn an_ordered_webhook_receives_each_conversation_in_the_order_of_seq() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let (ann, bob) = (server.register().await, server.register().await);
    let rooms = [server.room(&[&ann, &bob]).await, server.room(&[&ann, &bob]).await];
    // The first event of each room fails, so it comes at least five seconds after its first attempt.
    let webhook =
        create(server, &ann, json!({"url": receiver.at("/switch"), "ordered": true, "events": ["message_created"]}))
            .await;
    receiver.answer_with(500);
    for n in 0..20 {
        for room in &rooms {
            say(server, &bob, room, &n.to_string()).await;
        }
    }
    let failed = receiver.received_many("/switch", 2).await;
    let contents: BTreeSet<String> = failed.iter().map(|one| text(&one.json()["data"]["content"]).to_owned()).collect();
    assert_eq!(contents, BTreeSet::from(["0".to_owned()]), "the others wait for the first one of their conversation");
    // Nor does the job run meanwhile: it is due when the first one is.
    let database = server.database().await;
    let waits = format!(
        "SELECT next_at > now() + interval '1 s' AND leased_until IS NULL FROM jobs \
         WHERE kind = 'send_webhooks' AND subject = '{}'",
        webhook["id"]
    );
    wait_until(&database, &waits).await;
    receiver.answer_with(204);
    let delivered = format!(
        "SELECT count(*) = 40 FROM webhook_deliveries WHERE webhook_id = {} AND state = 'delivered'",
        webhook["id"]
    );
    wait_until(&database, &delivered).await;
    let arrived = receiver.received("/switch");
    for room in &rooms {
        let of_room: Vec<Delivered> =
            arrived.iter().filter(|delivered| delivered.json()["data"]["conversation_id"] == **room).cloned().collect();
        let mut order = seqs(&of_room);
        order.dedup();
        assert!(order.is_sorted() && order.len() == 20, "{order:?}");
    }
}

#[tokio::test]
async fn a_failing_receiver_is_paused_and_gets_everything_when_it_is_back() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let webhook = create(server, &ann, json!({"url": receiver.at("/switch"), "conversation_id": room})).await;
    receiver.answer_with(500);
    for n in 0..40 {
        say(server, &ann, &room, &n.to_string()).await;
    }
    let database = server.database().await;
    let id = webhook["id"].as_i64().unwrap();
    wait_until(&database, &format!("SELECT paused_until > now() FROM webhooks WHERE id = {id}")).await;
    let attempts = receiver.received("/switch").len();
    // Five failures, and what was in flight with the fifth.
    assert!((5..=8).contains(&attempts), "{attempts}");
    let shown = show(server, &ann, &webhook).await;
    assert!(shown["paused_until"].is_string() && shown["failures"].as_i64() >= Some(5), "{shown}");

    // The pause ends. A probe that fails doubles it; one that succeeds ends it.
    let end_pause = || async {
        let sql = format!(
            "BEGIN; UPDATE webhook_deliveries SET next_at = now() WHERE webhook_id = {id} AND state = 'pending'; \
             UPDATE webhooks SET paused_until = now() WHERE id = {id}; \
             UPDATE jobs SET next_at = now() WHERE kind = 'send_webhooks' AND subject = '{id}'; COMMIT"
        );
        database.batch_execute(&sql).await.unwrap();
    };
    end_pause().await;
    receiver.received_many("/switch", attempts + 1).await;
    wait_until(
        &database,
        &format!("SELECT paused_until - last_failure_at >= interval '59 s' FROM webhooks WHERE id = {id}"),
    )
    .await;
    assert_eq!(receiver.received("/switch").len(), attempts + 1, "one probe");
    // A receiver that has failed for four days gets no delivery of that time any more.
    let old =
        "UPDATE webhook_deliveries SET queued_at = now() - interval '5 days' WHERE webhook_id = $1 AND seq % 2 = 0";
    database.execute(old, &[&id]).await.unwrap();
    end_pause().await;
    let given_up = format!("SELECT count(*) = 20 FROM webhook_deliveries WHERE webhook_id = {id} AND state = 'dead'");
    wait_until(&database, &given_up).await;
    receiver.answer_with(204);
    end_pause().await;
    let delivered =
        format!("SELECT count(*) = 20 FROM webhook_deliveries WHERE webhook_id = {id} AND state = 'delivered'");
    wait_until(&database, &delivered).await;
    let shown = show(server, &ann, &webhook).await;
    assert_eq!((&shown["failures"], &shown["paused_until"]), (&json!(0), &Value::Null), "{shown}");
}

#[tokio::test]
async fn a_delivery_is_given_up_after_ten_attempts() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let webhook = create(server, &ann, json!({"url": receiver.at("/status/500"), "conversation_id": room})).await;
    say(server, &ann, &room, "hello").await;
    receiver.received_many("/status/500", 1).await;
    let database = server.database().await;
    let id = webhook["id"].as_i64().unwrap();
    wait_until(&database, &format!("SELECT attempts = 1 FROM webhook_deliveries WHERE webhook_id = {id}")).await;
    let sql = "UPDATE webhook_deliveries SET attempts = 9, next_at = now() WHERE webhook_id = $1";
    database.execute(sql, &[&id]).await.unwrap();
    wait_until(&database, &format!("SELECT state = 'dead' FROM webhook_deliveries WHERE webhook_id = {id}")).await;
    let dead = deliveries(server, &ann, &webhook, "&state=dead").await;
    assert_eq!((&dead[0]["attempts"], &dead[0]["next_at"]), (&json!(10), &Value::Null), "{}", dead[0]);
    // It can be sent again.
    let path = format!("/webhooks/{id}/replay");
    let from = dead[0]["created_at"].clone();
    let (status, replayed) = call(server, &ann, Method::POST, &path, Some(json!({"from": from}))).await;
    assert_eq!((status, &replayed["queued"]), (202, &json!(1)), "{replayed}");
    receiver.received_many("/status/500", 3).await;
}

#[tokio::test]
async fn receivers_that_never_answer_do_not_hold_up_others() {
    // No attempt times out during the test, so what holds a place holds it to the end.
    let settings =
        [("features.webhooks", "true"), ("webhooks.allowed_networks", "127.0.0.0/8"), ("webhooks.timeout", "1min")];
    let (server, receiver) = (Server::start(1, &settings), Receiver::start().await);
    let users = server.register_many(7).await;
    let members: Vec<&User> = users.iter().collect();
    let room = server.room(&members).await;
    let (well, hung) = users.split_last().unwrap();
    for (n, user) in hung.iter().enumerate() {
        create(&server, user, json!({"url": receiver.at(&format!("/hang/{n}"))})).await;
    }
    // A user cannot hold all places with many webhooks.
    for n in 0..15 {
        create(&server, &hung[0], json!({"url": receiver.at(&format!("/hang/more-{n}"))})).await;
    }
    say(&server, well, &room, "for those that do not answer").await;
    for n in 0..hung.len() {
        receiver.received_many(&format!("/hang/{n}"), 1).await;
    }
    create(&server, well, json!({"url": receiver.at("/ok"), "events": ["message_created"]})).await;
    for n in 0..50 {
        say(&server, well, &room, &n.to_string()).await;
    }
    let arrived = receiver.received_many("/ok", 50).await;
    assert_eq!(seqs(&arrived).into_iter().collect::<BTreeSet<_>>().len(), 50);
    for n in 1..hung.len() {
        assert!(receiver.received(&format!("/hang/{n}")).len() <= 4, "four requests at a time");
    }
}

#[tokio::test]
async fn sends_to_permitted_addresses_only() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let ann = server.register().await;
    let port = receiver.url.rsplit(':').next().unwrap();
    for url in [
        "http://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://0x0a000001/",
        "http://1.1.1.1/",
        "ftp://127.0.0.1/",
        "https://user:secret@example.org/",
        "hooks",
        "",
    ] {
        let (status, problem) = call(server, &ann, Method::POST, "/webhooks", Some(json!({"url": url}))).await;
        assert_eq!((status, code(&problem).as_str()), (400, "bad_request"), "{url}: {problem}");
        assert!(text(&problem["detail"]).starts_with("url: "), "{problem}");
    }
    // A name is judged by its addresses when it is used.
    let webhook = create(server, &ann, json!({"url": "https://veza-no-such-name.invalid/"})).await;
    let path = format!("/webhooks/{}/test", webhook["id"]);
    let (_, outcome) = call(server, &ann, Method::POST, &path, None).await;
    assert!(text(&outcome["error"]).contains("no address"), "{outcome}");
    // Without allowed networks, this machine is refused.
    let strict = Server::start(1, &[("features.webhooks", "true")]);
    let bob = strict.register().await;
    let (status, problem) =
        call(&strict, &bob, Method::POST, "/webhooks", Some(json!({"url": receiver.at("/ok")}))).await;
    assert_eq!(status, 400, "{problem}");
    let webhook = create(&strict, &bob, json!({"url": format!("https://localhost:{port}/ok")})).await;
    let (_, outcome) = call(&strict, &bob, Method::POST, &format!("/webhooks/{}/test", webhook["id"]), None).await;
    assert!(text(&outcome["error"]).contains("not public"), "{outcome}");
    assert_eq!(receiver.received("/ok").len(), 0);
}

#[tokio::test]
async fn deliveries_verify_after_the_keys_were_rotated() {
    let (old, new) =
        ("old:b2xkIGtleSBvZiB0aGlydHktdHdvIGJ5dGVzIC4uLi4=", "new:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let keys = "security.encryption_keys";
    let allowed = ("webhooks.allowed_networks", "127.0.0.0/8");
    let (server, receiver) =
        (Server::start(1, &[("features.webhooks", "true"), allowed, (keys, old)]), Receiver::start().await);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let hook = json!({"url": receiver.at("/ok"), "conversation_id": room, "events": ["message_created"]});
    let webhook = create(&server, &ann, hook).await;
    // A slash command is signed with a secret of its bot.
    let bot = json!({"username": "rotated-bot", "display_name": "Bot"});
    let (_, bot) = call(&server, &ann, Method::POST, "/bots", Some(bot)).await;
    let path = format!("/bots/{}/conversations", bot["user_id"]);
    assert_eq!(call(&server, &ann, Method::POST, &path, Some(json!({"conversation_id": room}))).await.0, 204);
    let commands = json!({"commands": [{"name": "x", "description": "x", "url": receiver.at("/answer/private")}]});
    let path = format!("/bots/{}/commands", bot["user_id"]);
    let (status, registered) = call(&server, &ann, Method::PUT, &path, Some(commands)).await;
    assert_eq!(status, 200, "{registered}");

    let rotated = server.rotate_keys(&[(keys, &format!("{new},{old}"))]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    server.sigterm();
    server.wait();
    server.start_again_with(&[(keys, new)]);
    say(&server, &ann, &room, "after the rotation").await;
    let arrived = receiver.received_many("/ok", 1).await.remove(0);
    assert_eq!(signed_by(&arrived, &webhook["secret"]), (true, 1));
    server.ok(&ann, "run_command", json!({"conversation_id": room, "command": "x", "text": "1"})).await;
    let asked = receiver.received_many("/answer/private", 1).await.remove(0);
    assert_eq!(signed_by(&asked, &registered["secret"]), (true, 1));
    assert!(!server.log().contains("is not in security.encryption_keys"));
}

#[tokio::test]
async fn only_owners_and_administrators_manage_webhooks() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let new = json!({"url": receiver.at("/ok"), "conversation_id": room});
    let (status, _) = call(server, &bob, Method::POST, "/webhooks", Some(new.clone())).await;
    assert_eq!(status, 403, "a member");
    let (status, _) = call(server, &eve, Method::POST, "/webhooks", Some(new.clone())).await;
    assert!(status == 403 || status == 404, "an outsider: {status}");
    server.ok(&ann, "set_role", json!({"conversation_id": room, "user_id": bob.id, "role": "admin"})).await;
    let webhook = create(server, &bob, new).await;
    let path = format!("/webhooks/{}", webhook["id"]);
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}/deliveries")),
        (Method::POST, format!("{path}/rotate")),
        (Method::POST, format!("{path}/test")),
        (Method::DELETE, path.clone()),
    ] {
        assert_eq!(call(server, &eve, method.clone(), &path, None).await.0, 404, "{method} {path}");
    }
    let (_, listed) = call(server, &eve, Method::GET, &format!("/webhooks?conversation_id={room}"), None).await;
    assert_eq!(listed["webhooks"], json!([]));
    // The owner of the room sees it and can disable it. The address and the secret stay bob's.
    let (_, listed) = call(server, &ann, Method::GET, &format!("/webhooks?conversation_id={room}"), None).await;
    assert_eq!(listed["webhooks"][0]["id"], webhook["id"]);
    assert_eq!(listed["webhooks"][0]["url"], receiver.url.as_str(), "the path can hold a token");
    assert_eq!(show(server, &bob, &webhook).await["url"], receiver.at("/ok"));
    for (method, path, body) in [
        (Method::POST, format!("{path}/rotate"), None),
        (Method::POST, format!("{path}/test"), None),
        (Method::POST, format!("{path}/replay"), Some(json!({"from": "2026-01-01T00:00:00Z"}))),
        (Method::PATCH, path.clone(), Some(json!({"url": receiver.at("/ok/elsewhere")}))),
        (Method::PATCH, path.clone(), Some(json!({"events": []}))),
        (Method::PATCH, path.clone(), Some(json!({"active": true}))),
    ] {
        assert_eq!(call(server, &ann, method.clone(), &path, body).await.0, 403, "{method} {path}");
    }
    assert_eq!(call(server, &ann, Method::PATCH, &path, Some(json!({"active": false}))).await.0, 200);
    assert_eq!(show(server, &bob, &webhook).await["disabled_reason"], "switched off");
    assert_eq!(call(server, &ann, Method::DELETE, &path, None).await.0, 204);
    assert_eq!(call(server, &bob, Method::GET, &path, None).await.0, 404);
    audited(server, &webhook, &["create_webhook", "change_webhook", "delete_webhook"]).await;
    // There can be twenty.
    for _ in 0..20 {
        create(server, &bob, json!({"url": receiver.at("/ok")})).await;
    }
    let (status, problem) =
        call(server, &bob, Method::POST, "/webhooks", Some(json!({"url": receiver.at("/ok")}))).await;
    assert_eq!(status, 409, "{problem}");
}

#[tokio::test]
async fn webhooks_are_off_unless_switched_on() {
    let server = server().await;
    let ann = server.register().await;
    for (method, path) in [(Method::POST, "/webhooks"), (Method::GET, "/webhooks")] {
        let body = (method == Method::POST).then(|| json!({"url": "https://example.org/"}));
        let (status, problem) = call(server, &ann, method, path, body).await;
        assert_eq!((status, code(&problem).as_str()), (403, "forbidden"), "{problem}");
    }
}

#[tokio::test]
async fn sends_nothing_that_its_owner_may_not_read_or_that_was_deleted() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let webhook = create(server, &bob, json!({"url": receiver.at("/switch"), "events": ["message_created"]})).await;
    receiver.answer_with(500);
    let secret = say(server, &ann, &room, "a secret").await;
    receiver.received_many("/switch", 1).await;
    server.ok(&ann, "delete_message", json!({"message_id": secret["message_id"]})).await;
    let database = server.database().await;
    receiver.answer_with(204);
    let again = "UPDATE webhook_deliveries SET next_at = now() WHERE webhook_id = $1 AND state = 'pending'";
    database.execute(again, &[&webhook["id"].as_i64()]).await.unwrap();
    let of_first =
        |delivered: &[Delivered]| delivered.iter().filter(|one| one.json()["data"]["seq"] == secret["seq"]).count();
    let arrived = receiver.received_when("/switch", |received| of_first(received) >= 2).await;
    let repeated = arrived.last().unwrap().json();
    assert_eq!((&repeated["data"]["content"], &repeated["data"]["deleted"]), (&json!(""), &json!(true)), "{repeated}");

    // A delivery that waits when its owner is removed is given up.
    receiver.answer_with(500);
    let waiting = say(server, &ann, &room, "just before").await;
    receiver
        .received_when("/switch", |received| received.iter().any(|one| one.json()["data"]["seq"] == waiting["seq"]))
        .await;
    server.ok(&ann, "remove_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    say(server, &ann, &room, "without bob").await;
    receiver.answer_with(204);
    let id = webhook["id"].as_i64().unwrap();
    wait_until(&database, &format!("SELECT bool_and(attempts > 0) FROM webhook_deliveries WHERE webhook_id = {id}"))
        .await;
    database.execute(again, &[&id]).await.unwrap();
    wait_until(
        &database,
        &format!("SELECT count(*) = 1 FROM webhook_deliveries WHERE webhook_id = {id} AND state = 'withdrawn'"),
    )
    .await;
    let contents: Vec<Value> =
        receiver.received("/switch").iter().map(|one| one.json()["data"]["content"].clone()).collect();
    assert!(!contents.contains(&json!("without bob")), "{contents:?}");
}

#[tokio::test]
async fn replays_a_part_of_the_log_and_rotates_its_secret() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let first = say(server, &ann, &room, "one").await["seq"].as_i64().unwrap();
    say(server, &ann, &room, "two").await;
    let webhook = create(server, &ann, json!({"url": receiver.at("/ok"), "conversation_id": room})).await;
    let path = format!("/webhooks/{}", webhook["id"]);
    let (status, rotated) = call(server, &ann, Method::POST, &format!("{path}/rotate"), None).await;
    assert_eq!(status, 200, "{rotated}");
    assert_ne!(rotated["secret"], webhook["secret"]);
    let (_, outcome) = call(server, &ann, Method::POST, &format!("{path}/test"), None).await;
    assert_eq!((&outcome["delivered"], &outcome["status"]), (&json!(true), &json!(204)), "{outcome}");
    let test = receiver.received_many("/ok", 1).await.remove(0);
    assert_eq!(test.json()["type"], "webhook_test");
    for secret in [&webhook["secret"], &rotated["secret"]] {
        assert_eq!(signed_by(&test, secret), (true, 2));
    }
    let range = json!({"conversation_id": room, "from_seq": first, "to_seq": first + 9});
    let (status, replayed) = call(server, &ann, Method::POST, &format!("{path}/replay"), Some(range.clone())).await;
    assert_eq!((status, &replayed["queued"]), (202, &json!(2)), "{replayed}");
    let arrived = receiver.received_many("/ok", 3).await;
    assert_eq!(seqs(&arrived[1..]).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([first, first + 1]));
    audited(server, &webhook, &["create_webhook", "rotate_webhook_secret", "replay_webhook"]).await;
    let database = server.database().await;
    let expire = "UPDATE webhooks SET previous_until = now() WHERE id = $1";
    database.execute(expire, &[&webhook["id"].as_i64()]).await.unwrap();
    call(server, &ann, Method::POST, &format!("{path}/test"), None).await;
    let test = receiver.received_many("/ok", 4).await.remove(3);
    assert_eq!((signed_by(&test, &rotated["secret"]), signed_by(&test, &webhook["secret"]).0), ((true, 1), false));
}
