//! Public links to files: off unless switched on, bounded, audited, and gone with whatever they depend on.

use crate::support::{Server, User, wait_until};
use serde_json::{Value, json};

pub(super) async fn share(server: &Server, user: &User, file: i64, given: Value) -> (u16, Value) {
    let fields = [("content-type", "application/json")];
    let path = format!("/files/{file}/shares");
    let response = server.send(user, "POST", &path, &fields, given.to_string().into_bytes()).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn status(server: &Server, link: &Value) -> u16 {
    reqwest::get(format!("{}{}", server.base_url, link["url"].as_str().unwrap())).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_public_link_ends_with_its_time_its_maker_and_its_file() {
    let server = Server::start(1, &[("features.file_uploads", "true"), ("files.public_links", "true")]);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let (file, _) = server.upload(&ann, &room, "plan #1.txt", b"a plan").await;
    assert_eq!(share(&server, &bob, file, json!({})).await.0, 404, "no message has it");
    let message = json!({"conversation_id": room, "attachments": [file]});
    let sent = server.ok(&ann, "send_message", message).await["message_id"].clone();
    for given in [json!({"expires_in_s": 59}), json!({"expires_in_s": 7_776_001}), json!({"other": 1})] {
        assert_eq!(share(&server, &ann, file, given).await.0, 400);
    }
    assert_eq!(share(&server, &eve, file, json!({})).await.0, 404);

    let (_, by_ann) = share(&server, &ann, file, json!({})).await;
    let (_, by_bob) = share(&server, &bob, file, json!({"expires_in_s": 60})).await;
    let read = reqwest::get(format!("{}{}", server.base_url, by_bob["url"].as_str().unwrap())).await.unwrap();
    assert_eq!(read.headers()["x-content-type-options"], "nosniff");
    assert_eq!(read.bytes().await.unwrap(), "a plan");
    let wrong = json!({"url": by_ann["url"].as_str().unwrap().replacen("/shared/", "/shared/x", 1)});
    assert_eq!(status(&server, &wrong).await, 404);
    let listed = server.send(&bob, "GET", &format!("/files/{file}/shares"), &[], vec![]).await;
    let listed: Value = listed.json().await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(by_ann["url"].as_str().unwrap().split('/').nth(2).unwrap()), "no token");

    // Its maker revokes it, or a moderator; nobody else.
    let revoke = async |user: &User, link: &Value| {
        let path = format!("/files/{file}/shares/{}", link["id"]);
        server.send(user, "DELETE", &path, &[], vec![]).await.status().as_u16()
    };
    assert_eq!(revoke(&bob, &by_ann).await, 404);
    assert_eq!(revoke(&eve, &by_ann).await, 404);
    assert_eq!(revoke(&ann, &by_bob).await, 204);
    assert_eq!((status(&server, &by_bob).await, status(&server, &by_ann).await), (404, 200));
    let database = server.database().await;
    let rows = "SELECT count(*) FROM audit_logs WHERE target_type = 'file' AND target_id = $1 AND action = $2 \
                AND ip_address IS NOT NULL AND conversation_id IS NOT NULL";
    for (action, expected) in [("share_file", 2), ("revoke_share", 1)] {
        let found: i64 = database.query_one(rows, &[&file, &action]).await.unwrap().get(0);
        assert_eq!(found, expected, "{action}");
    }

    // It ends with its maker's access, and with the message.
    let (_, again) = share(&server, &bob, file, json!({})).await;
    server.ok(&ann, "remove_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    assert_eq!(status(&server, &again).await, 404);
    database
        .execute("UPDATE file_shares SET expires_at = now() WHERE id = $1", &[&by_ann["id"].as_i64()])
        .await
        .unwrap();
    assert_eq!(status(&server, &by_ann).await, 404, "expired");
    let mut links = Vec::new();
    loop {
        match share(&server, &ann, file, json!({})).await {
            (201, link) => links.push(link),
            (code, refused) => break assert_eq!(code, 409, "{refused}"),
        }
    }
    assert!((8..=10).contains(&links.len()), "{}", links.len());
    assert_eq!(status(&server, &links[0]).await, 200);
    server.ok(&ann, "delete_message", json!({"message_id": sent})).await;
    assert_eq!(status(&server, &links[0]).await, 404);
    wait_until(&database, "SELECT count(*) = 0 FROM file_shares").await;
}

#[tokio::test]
async fn nothing_is_shared_where_nobody_has_switched_it_on() {
    let server = Server::start(1, &[("features.file_uploads", "true")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (file, _) = server.upload(&ann, &room, "a.txt", b"text").await;
    let (code, refused) = share(&server, &ann, file, json!({})).await;
    assert!(code == 403 && refused["detail"].as_str().unwrap().contains("files.public_links"), "{refused}");
}
