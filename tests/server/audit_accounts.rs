//! Every change of an account, of a second factor and of the content filter has its audit row; the table of routes says
//! which, and a route in neither state fails the test.

use super::audit::{count_of, entries_of, number_of};
use crate::support::app_codes::app_code;
use crate::support::source::operations;
use crate::support::{PASSWORD, Server, User, server};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

/// Routes that change something or serve administrators, with the action of the row; empty for those without a row.
const ROUTES: &[(&str, &str)] = &[
    ("POST /auth/register", "register"),
    ("POST /auth/login", "sign_in"),
    ("POST /auth/refresh", ""), // the session stays the same; a reuse is `revoke_session`
    ("POST /auth/logout", "sign_out"),
    ("POST /auth/logout-all", "sign_out_all"),
    ("DELETE /auth/sessions/{id}", "revoke_session"),
    ("POST /auth/password", "change_password"),
    ("POST /auth/2fa/enable", ""), // nothing is in force before the confirmation
    ("POST /auth/2fa/confirm", "enable_two_factor"),
    ("POST /auth/2fa/verify", "sign_in"),
    ("POST /auth/2fa/step-up", "step_up"),
    ("POST /auth/2fa/backup-codes", "renew_backup_codes"),
    ("POST /auth/2fa/disable", "disable_two_factor"),
    ("PATCH /users/me", "update_profile"),
    ("PUT /users/me/avatar", "update_profile"),
    ("DELETE /users/me/avatar", "update_profile"),
    ("POST /ws-ticket", ""),    // opens a connection of the session
    ("POST /api/commands", ""), // as the commands above
    // A file belongs to its messages. What is audited of it is a virus.
    ("POST /files", ""),
    ("POST /files/simple", ""),
    ("POST /files/{id}/link", ""),
    ("POST /files/{id}/shares", "share_file"),
    ("DELETE /files/{id}/shares/{share}", "revoke_share"),
    ("OPTIONS /files", ""),
    ("HEAD /files/{id}", ""),
    ("PATCH /files/{id}", ""),
    ("DELETE /files/{id}", ""),
    ("POST /webhooks", "create_webhook"),
    ("PATCH /webhooks/{id}", "change_webhook"),
    ("DELETE /webhooks/{id}", "delete_webhook"),
    ("POST /webhooks/{id}/rotate", "rotate_webhook_secret"),
    ("POST /webhooks/{id}/replay", "replay_webhook"),
    ("POST /webhooks/{id}/test", ""), // sends no event
    ("POST /bots", "create_bot"),
    ("PATCH /bots/{id}", "change_bot"),
    ("DELETE /bots/{id}", "delete_bot"),
    ("POST /bots/{id}/conversations", "invite_member"),
    ("DELETE /bots/{id}/conversations/{conversation_id}", "leave_conversation"),
    ("POST /bots/{id}/tokens", "create_bot_token"),
    ("DELETE /bots/{id}/tokens/{token_id}", "revoke_bot_token"),
    ("PUT /bots/{id}/commands", "replace_bot_commands"),
    ("POST /bots/{id}/commands/rotate-secret", "rotate_bot_secret"),
    ("POST /incoming-webhooks", "create_incoming_webhook"),
    ("DELETE /incoming-webhooks/{id}", "delete_incoming_webhook"),
    ("POST /incoming-webhooks/{id}/rotate", "rotate_incoming_webhook"),
    ("POST /hooks/in/{token}", ""), // a message
    ("POST /admin/reload", "reload_configuration"),
    ("PUT /admin/filter-rules", "replace_filter_rules"),
    ("PUT /conversations/{id}/filter-rules", "replace_filter_rules"),
    ("POST /moderation/queue/{id}/approve", "decide_held_text"),
    ("POST /moderation/queue/{id}/reject", "decide_held_text"),
    ("GET /admin/filter-rules", ""), // rules, and nobody's data
    ("GET /admin/audit", "read_audit"),
    ("GET /admin/security-events", "read_security_events"),
    ("DELETE /admin/security-events/{id}/responses", "end_response"),
    ("GET /admin/users/{id}/limits", "read_user_limits"),
];

#[tokio::test]
async fn records_every_change_of_accounts() {
    let server = server().await;
    let database = server.database().await;
    let ann = server.register().await;
    let newest = async || entries_of(&database, ann.id).await.remove(0);
    let registered = newest().await;
    assert_eq!((registered.action.as_str(), registered.address.as_deref()), ("register", Some("127.0.0.1")));
    assert_eq!(registered.details.unwrap()["after"]["username"], ann.name.as_str());
    let mut found = BTreeSet::from(["POST /auth/register"]);

    let body = json!({"login": ann.name, "password": PASSWORD, "device_name": "Phone"});
    let phone = User::from_answer(&server.post("/auth/login", None, &body).await.1);
    let signed_in = newest().await;
    assert_eq!((signed_in.action.as_str(), signed_in.device.as_deref()), ("sign_in", Some("Phone")));
    assert_eq!(signed_in.target, (Some("session".to_owned()), signed_in.session));
    found.insert("POST /auth/login");
    let body = json!({"login": ann.name, "password": "not the password"});
    assert_eq!(server.post("/auth/login", None, &body).await.0, 401);
    let renewed = server.post("/auth/refresh", None, &json!({"refresh_token": phone.refresh_token})).await.1;
    server.ticket(&phone).await;
    assert_eq!(newest().await.action, "sign_in", "neither a failure nor a refresh nor a ticket has a row");
    found.extend(["POST /auth/refresh", "POST /ws-ticket", "POST /api/commands"]);

    let edit = json!({"display_name": "Ann B.", "bio": null, "read_receipts": "private"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&phone.token), Some(&edit)).await.0, 200);
    let edited = newest().await;
    let details = json!({"before": {"display_name": ann.name, "receipts_private": false},
                         "after": {"display_name": "Ann B.", "receipts_private": true}});
    assert_eq!((edited.action.as_str(), edited.details.as_ref()), ("update_profile", Some(&details)));
    assert_eq!((edited.session, edited.device.as_deref()), (signed_in.session, Some("Phone")));
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&phone.token), Some(&edit)).await.0, 200);
    assert_eq!(count_of(&database, ann.id).await, 3, "an edit that changes nothing has no row");
    found.insert("PATCH /users/me");

    let other = server.login(&ann).await;
    let session = newest().await.session.unwrap();
    let path = format!("/auth/sessions/{session}");
    assert_eq!(server.request(Method::DELETE, &path, Some(&phone.token), None).await.0, 204);
    let revoked = newest().await;
    assert_eq!((revoked.action.as_str(), revoked.target.1), ("revoke_session", Some(session)));
    assert_eq!((revoked.session, revoked.reason), (signed_in.session, None));
    found.insert("DELETE /auth/sessions/{id}");
    assert_eq!(server.request(Method::POST, "/auth/logout", Some(&other.token), None).await.0, 401, "it is revoked");

    let other = server.login(&ann).await;
    let body = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    assert_eq!(server.post("/auth/password", Some(&phone.token), &body).await.0, 204);
    let changed = newest().await;
    assert_eq!((changed.action.as_str(), changed.session), ("change_password", signed_in.session));
    assert_eq!(changed.details.unwrap()["revoked"].as_array().unwrap().len(), 2, "the first session and the other one");
    found.insert("POST /auth/password");

    // Somebody else uses a refresh token that was spent: its session ends.
    let again = server.post("/auth/refresh", None, &json!({"refresh_token": renewed["refresh_token"]})).await;
    assert_eq!(again.0, 200, "{}", again.1);
    let stolen = server.post("/auth/refresh", None, &json!({"refresh_token": phone.refresh_token})).await;
    assert_eq!(stolen.1["code"], "refresh_reused", "{}", stolen.1);
    let reused = newest().await;
    assert_eq!((reused.action.as_str(), reused.target.1), ("revoke_session", signed_in.session));
    assert_eq!(reused.reason.as_deref(), Some("A spent refresh token was used again."));
    drop(other);

    let body = json!({"login": ann.name, "password": "another horse battery"});
    for (path, action) in [("/auth/logout", "sign_out"), ("/auth/logout-all", "sign_out_all")] {
        let user = User::from_answer(&server.post("/auth/login", None, &body).await.1);
        let session = newest().await.session;
        assert_eq!(server.request(Method::POST, path, Some(&user.token), None).await.0, 204);
        let ended = newest().await;
        assert_eq!((ended.action.as_str(), ended.session), (action, session));
    }
    found.extend(["POST /auth/logout", "POST /auth/logout-all"]);

    // `records_every_change_of_the_second_factor` has those of the second factor.
    found.extend(["POST /auth/2fa/enable", "POST /auth/2fa/confirm", "POST /auth/2fa/verify"]);
    found.extend(["POST /auth/2fa/step-up", "POST /auth/2fa/backup-codes", "POST /auth/2fa/disable"]);
    // `records_rules_and_decisions_of_the_content_filter` has those of the filter.
    found.extend(["PUT /admin/filter-rules", "PUT /conversations/{id}/filter-rules", "GET /admin/filter-rules"]);
    found.extend(["POST /moderation/queue/{id}/approve", "POST /moderation/queue/{id}/reject"]);
    // `shows_the_trail_to_administrators_and_records_each_read` has the last one.
    found.insert("GET /admin/audit");
    found.insert("GET /admin/security-events"); // by security_events.rs
    found.insert("DELETE /admin/security-events/{id}/responses"); // by security_responses.rs
    found.insert("GET /admin/users/{id}/limits"); // by adaptive_limits.rs
    found.insert("POST /admin/reload"); // by reloads.rs
    found.extend(["PUT /users/me/avatar", "DELETE /users/me/avatar"]); // by avatars.rs
    // by webhooks.rs
    found.extend(["POST /webhooks", "PATCH /webhooks/{id}", "DELETE /webhooks/{id}", "POST /webhooks/{id}/test"]);
    found.extend(["POST /webhooks/{id}/rotate", "POST /webhooks/{id}/replay"]);
    // by incoming_webhooks.rs
    found.extend(["POST /incoming-webhooks", "DELETE /incoming-webhooks/{id}", "POST /hooks/in/{token}"]);
    found.insert("POST /incoming-webhooks/{id}/rotate");
    // by bots.rs and bot_commands.rs
    found.extend(["POST /bots", "PATCH /bots/{id}", "DELETE /bots/{id}", "POST /bots/{id}/tokens"]);
    found.extend(["POST /bots/{id}/conversations", "DELETE /bots/{id}/conversations/{conversation_id}"]);
    found.extend(["DELETE /bots/{id}/tokens/{token_id}", "PUT /bots/{id}/commands"]);
    found.insert("POST /bots/{id}/commands/rotate-secret");
    // by file_shares.rs
    found.extend(["POST /files/{id}/shares", "DELETE /files/{id}/shares/{share}"]);
    found.extend(["POST /files", "POST /files/simple", "POST /files/{id}/link", "OPTIONS /files"]);
    found.extend(["HEAD /files/{id}", "PATCH /files/{id}", "DELETE /files/{id}"]); // by files.rs and antivirus.rs
    let is_relevant = |route: &String| !route.starts_with("GET ") || route.contains("/admin/");
    let changing: BTreeSet<String> = operations().into_iter().filter(is_relevant).collect();
    let known: BTreeSet<String> = ROUTES.iter().map(|(route, _)| (*route).to_owned()).collect();
    assert_eq!(known, changing, "each route that changes something is in the table");
    assert_eq!(found, ROUTES.iter().map(|(route, _)| *route).collect(), "routes that the test does not use");
}

#[tokio::test]
async fn records_every_change_of_the_second_factor() {
    let server = server().await;
    let database = server.database().await;
    let ann = server.register().await;
    let actions = async || -> Vec<String> {
        entries_of(&database, ann.id).await.into_iter().rev().map(|entry| entry.action).collect()
    };
    let token = Some(ann.token.as_str());
    let enabled = server.post("/auth/2fa/enable", token, &json!({"password": PASSWORD})).await.1;
    let code = app_code(enabled["secret"].as_str().unwrap(), 0);
    assert_eq!(server.post("/auth/2fa/confirm", token, &json!({"code": "1"})).await.0, 401);
    assert_eq!(actions().await, ["register"], "neither a pending set-up nor a wrong code has a row");
    let confirmed = server.post("/auth/2fa/confirm", token, &json!({"code": code})).await.1;
    let backup = |n: usize| confirmed["backup_codes"][n].as_str().unwrap().to_owned();
    let body = json!({"login": ann.name, "password": PASSWORD});
    let challenge = server.post("/auth/login", None, &body).await.1["challenge"].clone();
    let answer = json!({"challenge": challenge, "backup_code": backup(0)});
    let verified = server.post("/auth/2fa/verify", None, &answer).await;
    assert_eq!(verified.0, 200, "{}", verified.1);
    assert_eq!(server.post("/auth/2fa/step-up", token, &json!({"backup_code": backup(1)})).await.0, 204);
    let change = json!({"password": PASSWORD, "backup_code": backup(2)});
    let renewed = server.post("/auth/2fa/backup-codes", token, &change).await.1;
    let change = json!({"password": PASSWORD, "backup_code": renewed["backup_codes"][0]});
    assert_eq!(server.post("/auth/2fa/disable", token, &change).await.0, 204);
    let expected = ["register", "enable_two_factor", "sign_in", "step_up", "renew_backup_codes", "disable_two_factor"];
    assert_eq!(actions().await, expected);
    let last = entries_of(&database, ann.id).await.remove(0);
    assert_eq!((last.address.as_deref(), last.target), (Some("127.0.0.1"), (Some("user".to_owned()), Some(ann.id))));
}

#[tokio::test]
async fn records_rules_and_decisions_of_the_content_filter() {
    let server = Server::start(1, &[("security.admin_user_ids", "1")]);
    let database = server.database().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let hold = json!({"rules": [
        {"id": "offers", "kind": "keywords", "definition": {"words": ["offer"]}, "action": "hold"}]});
    let token = Some(ann.token.as_str());
    for path in ["/admin/filter-rules".to_owned(), format!("/conversations/{room}/filter-rules")] {
        assert_eq!(server.request(Method::PUT, &path, token, Some(&hold)).await.0, 200);
        let row = entries_of(&database, ann.id).await.remove(0);
        let details = row.details.unwrap();
        let before = details["before"]["rules"].as_array().unwrap().len();
        assert_eq!((row.action.as_str(), before > 0), ("replace_filter_rules", path.contains("admin")));
        assert_eq!(details["after"]["rules"][0]["definition"]["words"], json!(["offer"]), "{details}");
        assert_eq!(row.conversation, path.contains("room").then(|| number_of(&room)));
    }
    let waiting = async |n: usize| -> i64 {
        loop {
            let _ = server.call(&bob, "send_message", json!({"conversation_id": room, "content": "an offer"})).await;
            let queue = server.request(Method::GET, "/moderation/queue", token, None).await.1;
            if let Some(text) = queue["items"].get(n) {
                return text["id"].as_i64().unwrap();
            }
        }
    };
    let ids = [waiting(0).await, waiting(1).await];
    for (id, decision, state) in [(ids[0], "reject", "rejected"), (ids[1], "approve", "approved")] {
        let path = format!("/moderation/queue/{id}/{decision}");
        for _ in 0..2 {
            assert_eq!(server.request(Method::POST, &path, token, None).await.0, 200);
        }
        let row = entries_of(&database, ann.id).await.remove(0);
        assert_eq!((row.action.as_str(), row.target.1), ("decide_held_text", Some(bob.id)));
        assert_eq!(row.details.unwrap()["after"]["state"], state);
    }
    let decisions = entries_of(&database, ann.id).await.iter().filter(|row| row.action == "decide_held_text").count();
    assert_eq!(decisions, 2, "a repeated decision has no row");
}
