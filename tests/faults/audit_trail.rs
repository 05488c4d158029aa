//! The audit trail has no gap and no change without its row, whatever is killed while many write.
//!
//! How: eight tasks change accounts and rooms until the server is killed. After the next start, the chain is verified,
//! and every change that PostgreSQL has is compared with the rows of the trail.

use crate::support::{Server, unique};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn has_one_row_per_change_after_kills_under_concurrent_writers() {
    let server = Server::start(2, &[("audit.checkpoint_interval", "1s")]);
    for round in 0..3 {
        let users = server.register_many(8).await;
        let writers: Vec<_> = users
            .into_iter()
            .map(|user| {
                let address = server.base_url.clone();
                tokio::spawn(async move {
                    let client = reqwest::Client::new();
                    // Until a request fails, because the server was killed.
                    loop {
                        let room = json!({"type": "create_conversation",
                            "data": {"kind": "public_room", "name": unique("room")}});
                        let login = json!({"login": user.name, "password": crate::support::PASSWORD});
                        let profile = json!({"bio": unique("bio")});
                        let requests = [
                            client.post(format!("{address}/api/commands")).json(&room),
                            client.patch(format!("{address}/users/me")).json(&profile),
                            client.post(format!("{address}/auth/login")).json(&login),
                        ];
                        for request in requests {
                            if request.bearer_auth(&user.token).send().await.is_err() {
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        let database = server.database().await;
        // Enough has happened when some of these rows are there; the kill then comes at any point of the work.
        let enough =
            format!("SELECT count(*) >= {} FROM audit_logs WHERE action = 'create_conversation'", 40 * (round + 1));
        crate::support::wait_until(&database, &enough).await;
        server.kill9();
        for writer in writers {
            writer.await.unwrap();
        }
        server.start_again();
    }
    let database = server.database().await;
    let compared = "SELECT (SELECT count(*) FROM audit_logs) = (SELECT position FROM audit_head)
           AND (SELECT max(position) FROM audit_logs) = (SELECT position FROM audit_head)
           AND (SELECT count(*) FROM audit_logs WHERE action = 'create_conversation')
               = (SELECT count(*) FROM conversations)
           AND (SELECT count(*) FROM audit_logs WHERE action = 'register') = (SELECT count(*) FROM users)
           AND (SELECT count(*) FROM audit_logs WHERE action IN ('register', 'sign_in'))
               = (SELECT count(*) FROM sessions)
           AND (SELECT count(*) FROM audit_logs WHERE action = 'update_profile')
               = (SELECT sum(profile_version) FROM users)";
    assert!(database.query_one(compared, &[]).await.unwrap().get::<_, bool>(0), "{}", server.log_tail());
    let output = server.run(&["audit", "verify"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
