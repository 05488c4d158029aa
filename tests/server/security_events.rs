//! Suspicious activity becomes a row, a metric and an answer of GET /admin/security-events, within a second or two.

use crate::support::{PASSWORD, PATIENCE, Server, User};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Instant;

/// The events that an administrator sees.
pub(super) async fn events(server: &Server, admin: &User, query: &str) -> Vec<Value> {
    let path = format!("/admin/security-events{query}");
    let (status, page) = server.request(Method::GET, &path, Some(&admin.token), None).await;
    assert_eq!(status, 200, "{page}");
    page["events"].as_array().unwrap().clone()
}

/// Waits for events of a type.
pub(super) async fn found(server: &Server, admin: &User, event_type: &str) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let events = events(server, admin, &format!("?event_type={event_type}&limit=5")).await;
        if !events.is_empty() {
            return events;
        }
        assert!(started.elapsed() < PATIENCE, "no {event_type}: {}", server.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn wrong_password(server: &Server, login: &str) -> u16 {
    let body = json!({"login": login, "password": "certainly not this one"});
    server.request(Method::POST, "/auth/login", None, Some(&body)).await.0
}

#[tokio::test]
async fn finds_guessing_and_stuffing_and_tells_administrators_only() {
    let server = Server::start(2, &[("security.admin_user_ids", "1")]);
    let (ann, bob) = (server.register().await, server.register().await);
    assert_eq!(ann.id, 1);
    // Somebody mistypes a few times: nothing is found.
    for _ in 0..3 {
        wrong_password(&server, &bob.name).await;
    }
    // One password for many accounts.
    for n in 0..25 {
        assert_eq!(wrong_password(&server, &format!("nobody-{n}")).await, 401);
    }
    let stuffing = found(&server, &ann, "credential_stuffing").await;
    assert_eq!(stuffing.len(), 1, "{stuffing:?}");
    assert_eq!((&stuffing[0]["severity"], &stuffing[0]["ip_address"]), (&json!("critical"), &json!("127.0.0.1")));
    assert_eq!(events(&server, &ann, "?event_type=password_guessing").await, [] as [Value; 0]);

    // The query of the operators' handbook, as it stands.
    let query = "SELECT * FROM security_events WHERE severity = 'critical' \
                 AND created_at > NOW() - INTERVAL '24 hours'";
    let rows = server.database().await.query(query, &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, String>("event_type"), "credential_stuffing");
    let page = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
    let counted = "chat_server_security_events_total{severity=\"critical\",type=\"credential_stuffing\"} 1";
    assert!(page.contains(counted), "{page}");
    assert!(server.log().contains("suspicious activity"), "{}", server.log_tail());

    for (token, expected) in [(Some(bob.token.as_str()), (403, "forbidden")), (None, (401, "unauthenticated"))] {
        let (status, answer) = server.request(Method::GET, "/admin/security-events", token, None).await;
        assert_eq!((status, answer["code"].as_str()), (expected.0, Some(expected.1)), "{answer}");
    }
    for wrong in ["limit=0", "limit=101", "severity=bad", "event_type=anything", "from=yesterday", "user=ann"] {
        let path = format!("/admin/security-events?{wrong}");
        let (status, answer) = server.request(Method::GET, &path, Some(&ann.token), None).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad_request")), "{wrong}: {answer}");
    }
    let path = "/admin/audit?action=read_security_events&limit=1";
    let (_, reads) = server.request(Method::GET, path, Some(&ann.token), None).await;
    assert_eq!(reads["entries"][0]["user_id"], ann.id, "each read is in the audit trail: {reads}");
}

#[tokio::test]
async fn finds_what_the_audit_trail_shows_and_counts_one_attack_once() {
    let server = Server::start(2, &[("security.admin_user_ids", "1")]);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    // A new administrator promotes a friend.
    let room = server.room(&[&ann, &bob, &eve]).await;
    let promote = |user: &User, role: &str| json!({"conversation_id": room, "user_id": user.id, "role": role});
    server.ok(&ann, "set_role", promote(&bob, "admin")).await;
    server.ok(&bob, "set_role", promote(&eve, "moderator")).await;
    let jumps = found(&server, &ann, "privilege_jump").await;
    assert_eq!((&jumps[0]["user_id"], &jumps[0]["details"]["promoted"]), (&json!(bob.id), &json!(eve.id)));
    assert_eq!((&jumps[0]["severity"], &jumps[0]["occurrences"]), (&json!("warning"), &json!(1)));

    // A stolen refresh token comes back, twice.
    let body = json!({"login": bob.name, "password": PASSWORD});
    let (_, signed_in) = server.post("/auth/login", None, &body).await;
    let thief = signed_in["refresh_token"].as_str().unwrap().to_owned();
    let refresh = |token: &str| json!({"refresh_token": token});
    let mut tokens = vec![thief];
    for _ in 0..2 {
        let body = refresh(tokens.last().unwrap());
        let (status, answer) = server.request(Method::POST, "/auth/refresh", None, Some(&body)).await;
        assert_eq!(status, 200, "{answer}");
        tokens.push(answer["refresh_token"].as_str().unwrap().to_owned());
    }
    for _ in 0..2 {
        let (status, answer) = server.request(Method::POST, "/auth/refresh", None, Some(&refresh(&tokens[0]))).await;
        assert_eq!((status, answer["code"].as_str()), (401, Some("refresh_reused")), "{answer}");
        // Within one look it is one finding.
        assert_eq!(found(&server, &ann, "refresh_token_reuse").await.len(), 1);
    }
    let started = Instant::now();
    loop {
        let reuse = found(&server, &ann, "refresh_token_reuse").await;
        assert_eq!(reuse.len(), 1, "one attack is one row: {reuse:?}");
        if reuse[0]["occurrences"] == 2 {
            assert_eq!((&reuse[0]["user_id"], &reuse[0]["severity"]), (&json!(bob.id), &json!("critical")));
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{reuse:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    // Somebody with the superuser's rights removes a row before the detectors see it.
    server.kill9();
    let database = server.database().await;
    let tamper = "SET session_replication_role = replica; \
                  UPDATE security_progress SET position = (SELECT max(position) - 3 FROM audit_logs); \
                  DELETE FROM audit_logs WHERE position = (SELECT max(position) - 1 FROM audit_logs)";
    database.batch_execute(tamper).await.unwrap();
    server.start_again();
    let ann = server.login(&ann).await;
    let gap = found(&server, &ann, "audit_gap").await;
    assert_eq!(gap[0]["severity"], "critical");
}

#[tokio::test]
async fn finds_rows_that_were_removed_while_the_server_was_down() {
    let settings = [("security.admin_user_ids", "1"), ("audit.checkpoint_interval", "1s")];
    let server = Server::start(1, &settings);
    let ann = server.register().await;
    for _ in 0..3 {
        server.login(&ann).await;
    }
    let kept = server.data_dir.join("audit_checkpoint");
    let database = server.database().await;
    let signed = async |size: i64| {
        let started = Instant::now();
        let line = format!("\n{size}\n");
        while !std::fs::read_to_string(&kept).is_ok_and(|note| note.contains(&line)) {
            assert!(started.elapsed() < PATIENCE, "{}", server.log_tail());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    signed(4).await;
    drop(database);
    // An ordinary restart finds nothing.
    server.kill9();
    server.start_again();
    let ann = server.login(&ann).await;
    signed(5).await;
    let nothing: [Value; 0] = [];
    assert_eq!(events(&server, &ann, "").await, nothing);

    // Somebody with the superuser's rights removes the last rows, so that the rest is a whole chain without an end, and
    // everything else that the database knows about them.
    server.kill9();
    let tamper = "SET session_replication_role = replica;
        DELETE FROM audit_logs WHERE position > 2;
        DELETE FROM audit_checkpoints;
        UPDATE audit_head SET (position, hash) = (SELECT position, hash FROM audit_logs WHERE position = 2);
        UPDATE security_progress SET position = 2";
    server.database().await.batch_execute(tamper).await.unwrap();
    server.start_again();
    let ann = server.login(&ann).await;
    let gap = found(&server, &ann, "audit_gap").await;
    assert_eq!((gap.len(), &gap[0]["severity"]), (1, &json!("critical")), "{gap:?}");
    let reason = gap[0]["details"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("the server signed ") && reason.ends_with(" and finds 2"), "{reason}");
    let broken = server.data_dir.join("audit_checkpoint.broken");
    let verified = server.run(&["audit", "verify", "--checkpoint", broken.to_str().unwrap()]);
    assert!(!verified.status.success(), "the kept checkpoint shows the gap too");
}
