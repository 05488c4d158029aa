//! A transaction that holds the end of the audit trail does not hold up the server: what needs a row is refused soon
//! and clearly, everything else goes on, and nothing is half done.
//!
//! How: an operator's session locks the row of `audit_head` and does not end. The test then does what is audited and
//! what is not, over HTTP and over a WebSocket.

use crate::support::{Client, Format, PASSWORD, Server, code, text};
use reqwest::Method;
use serde_json::{Value, json};

#[track_caller]
fn assert_busy(problem: &Value, detail: &Value) {
    assert_eq!(code(problem), "storage_unavailable", "{problem}");
    assert!(problem["retry_after_ms"].is_u64(), "{problem}");
    assert!(text(detail).starts_with("The audit trail is locked"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_audited_changes_soon_and_lets_messages_go_on() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut client = Client::none(&server, &ann, Format::Json).await;
    let database = server.database().await;
    let counts = async || {
        let query = "SELECT (SELECT position FROM audit_head), (SELECT count(*) FROM audit_logs), \
                     (SELECT count(*) FROM sessions), (SELECT count(*) FROM users WHERE bio IS NOT NULL), \
                     (SELECT count(*) FROM conversation_bans), (SELECT count(*) FROM users)";
        let row = database.query_one(query, &[]).await.unwrap();
        (0..6).map(|n| row.get::<_, i64>(n)).collect::<Vec<_>>()
    };
    let (before, last_seq) = (counts().await, server.last_seq(&ann, &room).await);
    let operator = server.database().await;
    operator.batch_execute("BEGIN; SELECT FROM audit_head FOR UPDATE").await.unwrap();

    let sign_in = json!({"login": bob.name, "password": PASSWORD});
    let new = json!({"username": "Newcomer", "email": "new@example.org", "password": PASSWORD});
    let bio = json!({"bio": "not now"});
    let (login, registration, profile) = tokio::join!(
        server.post("/auth/login", None, &sign_in),
        server.post("/auth/register", None, &new),
        server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&bio)),
    );
    for (status, problem) in [login, registration, profile] {
        assert_eq!(status, 503, "{problem}");
        assert_busy(&problem, &problem["detail"]);
    }
    // Audited changes and others in turn, so that they meet in one batch.
    let ban = json!({"conversation_id": room, "user_id": bob.id});
    for n in 0..6 {
        let mut sent = Vec::new();
        for (kind, data) in [
            ("ban_member", ban.clone()),
            ("send_message", json!({"conversation_id": room, "content": n.to_string()})),
            ("mark_read", json!({"conversation_id": room, "seq": 1})),
        ] {
            sent.push((kind, client.send(kind, data).await));
        }
        for (kind, id) in sent {
            match client.reply(id).await {
                Err(refusal) if kind == "ban_member" => assert_busy(&refusal, &refusal["message"]),
                reply => assert!(reply.is_ok() && kind != "ban_member", "{kind}: {reply:?}"),
            }
        }
    }
    assert_eq!(server.last_seq(&ann, &room).await, last_seq + 6, "the messages are there");
    assert_eq!(counts().await, before, "nothing is half done");

    operator.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(server.post("/auth/login", None, &sign_in).await.0, 200);
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&bio)).await.0, 200);
    let started = std::time::Instant::now();
    while let Err(problem) = server.call(&ann, "ban_member", ban.clone()).await {
        assert_busy(&problem, &problem["detail"]);
        assert!(started.elapsed() < crate::support::PATIENCE, "{problem}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let after: Vec<i64> = before.iter().zip([3, 3, 1, 1, 1, 0]).map(|(before, more)| before + more).collect();
    assert_eq!(counts().await, after);
    let output = server.run(&["audit", "verify"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
