//! docs/asyncapi.yaml and docs/openapi.yaml against the source: what the server knows is documented, and what is
//! documented it knows (or soon will: `support::source::NOT_YET`).
//!
//! How: commands, codes and routes are compared with the source's own lists. That `support::protocol`, which judges what
//! the other tests see, does refuse what is not documented is shown with altered copies of good frames and answers.

mod support;

use chat_server::error::{Disposition, ErrorCode};
use chat_server::wire::command::Command;
use chat_server::wire::ws::close::CloseCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::protocol::{Exchange, documents};
use support::source::{NOT_YET, ROUTES_NOT_YET, documented_route, fields, operations, routes, routes_in, source};

/// Every close code; that none is missing here is checked against the source.
const CLOSE_CODES: [CloseCode; 14] = [
    CloseCode::Normal,
    CloseCode::GoingAway,
    CloseCode::Protocol,
    CloseCode::Unsupported,
    CloseCode::InvalidPayload,
    CloseCode::Policy,
    CloseCode::TooBig,
    CloseCode::Internal,
    CloseCode::TokenExpired,
    CloseCode::SessionRevoked,
    CloseCode::TooSlow,
    CloseCode::TooManyConnections,
    CloseCode::RateLimited,
    CloseCode::HeartbeatTimeout,
];

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

#[test]
fn every_schema_compiles() {
    documents().compile_everything();
}

/// Objects whose properties are listed while others are let through, by their place.
fn open_objects(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let closed = map.get("additionalProperties").is_some_and(|more| *more == false);
            // Beside `allOf`, what is referred to closes it.
            let is_schema = map.get("properties").is_some_and(Value::is_object) && !place.ends_with("/properties");
            if is_schema && !closed && !map.contains_key("allOf") {
                found.push(place.to_owned());
            }
            for (key, value) in map {
                open_objects(value, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| open_objects(item, place, found)),
        _ => {}
    }
}

#[test]
fn no_object_lets_undocumented_fields_through() {
    let mut found = Vec::new();
    open_objects(&documents().asyncapi["components"], "asyncapi", &mut found);
    open_objects(&documents().openapi["components"], "openapi", &mut found);
    open_objects(&documents().openapi["paths"], "openapi/paths", &mut found);
    assert_eq!(found, Vec::<String>::new());
    open_objects(&json!({"properties": {"a": {"type": "object", "properties": {}}}}), "", &mut found);
    assert_eq!(found.len(), 2, "it finds them: {found:?}");
}

#[test]
fn commands_are_the_servers_commands() {
    let known: BTreeSet<&str> = Command::NAMES.into_iter().collect();
    let documented = documents().commands();
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "the server knows commands that docs/asyncapi.yaml does not describe: {missing:?}");
    let ahead: BTreeSet<&str> = documented.difference(&known).copied().collect();
    assert_eq!(ahead, NOT_YET.iter().copied().collect(), "described and not known to the server, and NOT_YET");
}

#[test]
fn error_codes_are_the_servers_error_codes() {
    let documents = documents();
    let documented = fields(&documents.asyncapi["x-error-codes"], "x-error-codes");
    let all: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(documented.keys().map(String::as_str).collect::<BTreeSet<_>>(), all);
    assert_eq!(texts(&documents.asyncapi["components"]["schemas"]["Refusal"]["properties"]["code"]["enum"]), all);
    let responses = &documents.openapi["paths"]["/api/commands"]["post"]["responses"];
    for code in ErrorCode::ALL {
        let disposition = match code.disposition() {
            Disposition::Retry => "retry",
            Disposition::Reconnect => "reconnect",
            Disposition::Final => "final",
        };
        let entry = &documented[code.as_str()];
        let expected = (json!(code.http_status()), json!(disposition));
        assert_eq!((&entry["status"], &entry["disposition"]), (&expected.0, &expected.1), "{code}");
        assert!(entry["summary"].as_str().is_some_and(|text| !text.is_empty()), "{code}");
        // Every command works over HTTP, so every code can be its answer.
        let problem = json!({"type": "about:blank", "title": "T", "status": code.http_status(), "detail": "d",
            "code": code.as_str(), "retry_after_ms": 1});
        let judged = documents.judge_answer(&answer("POST", "/api/commands", code.http_status(), &problem.to_string()));
        assert_eq!(judged, Ok(()), "{code} as the answer of POST /api/commands");
        assert!(!responses[code.http_status().to_string()].is_null(), "{code}");
    }
}

#[test]
fn close_codes_are_the_servers_close_codes() {
    let documents = documents();
    let text = std::fs::read_to_string(source("wire/ws/close.rs")).unwrap();
    let assigned = text.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok());
    let in_source: BTreeSet<u16> = assigned.collect();
    assert_eq!(in_source, CLOSE_CODES.iter().map(|code| code.number()).collect(), "CLOSE_CODES has them all");
    let documented = fields(&documents.asyncapi["x-close-codes"], "x-close-codes");
    assert_eq!(documented.keys().map(|key| key.parse().unwrap()).collect::<BTreeSet<u16>>(), in_source);
    for code in CLOSE_CODES {
        let reason: Value = serde_json::from_str(&code.reason(7)).unwrap();
        assert_eq!(documents.judge_close(code.number(), &reason), Ok(()));
        assert!(documented[&code.number().to_string()]["summary"].is_string(), "{code:?}");
    }
}

#[test]
fn routes_are_the_routers_routes() {
    let routes = routes();
    assert!(routes.contains("PATCH /users/me") && routes.contains("GET /dashboard/page.css"), "{routes:?}");
    let missing: Vec<_> = routes.iter().filter(|route| documented_route(route).is_none()).collect();
    assert!(missing.is_empty(), "routes that docs/openapi.yaml does not describe: {missing:?}");
    let served: BTreeSet<String> = routes.iter().filter_map(|route| documented_route(route)).collect();
    let ahead: BTreeSet<String> = operations().difference(&served).cloned().collect();
    assert_eq!(ahead, ROUTES_NOT_YET.iter().map(|route| (*route).to_owned()).collect(), "described and not served");
}

#[test]
fn routes_are_found_however_they_are_written() {
    let text = "r.route(\"/a\", get(x).patch(y))\n.route(\n    \"/b/{id}\",\n    delete(budget(z)),\n)\
                .route(\"/c\", asset(\"t\", f()))\n#[cfg(test)]\n.route(\"/d\", get(x))";
    assert_eq!(routes_in(text), ["GET /a", "PATCH /a", "DELETE /b/{id}", "GET /c"]);
}

fn answer<'a>(method: &'a str, target: &'a str, status: u16, body: &'a str) -> Exchange<'a> {
    let content_type = Some(if status < 400 { "application/json" } else { "application/problem+json" });
    Exchange { method, target, sent: None, status, content_type, body: Some(body.as_bytes()) }
}

/// `value` with what `change` does to it.
fn altered(value: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut altered = value.clone();
    change(&mut altered);
    altered
}

#[track_caller]
fn refused(judged: Result<(), String>, because: &str) {
    let words = judged.expect_err("undocumented, and accepted");
    assert!(words.contains(because), "{because:?} is not said: {words}");
}

#[test]
fn a_frame_that_is_not_documented_is_refused() {
    let documents = documents();
    let event = json!({"type": "read_updated", "data": {"conversation_id": "room_6", "user_id": 1, "read_seq": 3}});
    let frame = |change: &dyn Fn(&mut Value)| documents.judge_frame(&altered(&event, change), None);
    assert_eq!(frame(&|_| ()), Ok(()));
    refused(frame(&|event| event["data"]["extra"] = json!(1)), "extra");
    refused(frame(&|event| event["extra"] = json!(1)), "extra");
    refused(frame(&|event| event["id"] = json!(1)), "id");
    refused(frame(&|event| drop(event["data"].as_object_mut().unwrap().remove("read_seq"))), "read_seq");
    refused(frame(&|event| drop(event.as_object_mut().unwrap().remove("data"))), "data");
    refused(frame(&|event| event["data"]["user_id"] = json!("1")), "/data/user_id");
    refused(frame(&|event| event["data"]["user_id"] = json!(9_007_199_254_740_992_i64)), "/data/user_id");
    refused(frame(&|event| event["data"]["conversation_id"] = json!("lobby")), "/data/conversation_id");
    refused(frame(&|event| event["type"] = json!("read_upgraded")), "read_upgraded");
    refused(frame(&|event| drop(event.as_object_mut().unwrap().remove("type"))), "type");

    let head = json!({"id": "room_6", "kind": "group", "name": null, "last_seq": 1, "read_seq": 0, "role": "owner"});
    let welcome = json!({"type": "welcome", "data": {"session_id": 1, "server_time": "2026-01-02T03:04:05.678Z",
        "features": {"message_reactions": true, "pinned_messages": true, "user_mentions": true, "message_threads": true},
        "user": {"id": 1, "username": "ann", "display_name": "Ann", "avatar_url": null, "bio": null,
            "created_at": "2026-01-02T03:04:05.678Z"},
        "heartbeat_ms": 25_000, "limits": {"max_message_length": 1, "max_frame_bytes": 1, "max_connections_per_user": 1,
            "max_messages_per_minute": 1, "max_file_size": 1, "message_edit_window_s": 0}, "conversations": [head]}});
    let frame = |change: &dyn Fn(&mut Value)| documents.judge_frame(&altered(&welcome, change), None);
    assert_eq!(frame(&|_| ()), Ok(()));
    refused(frame(&|event| event["data"]["conversations"][0]["kind"] = json!("channel")), "/data/conversations/0/kind");
    refused(frame(&|event| event["data"]["conversations"][0]["topic"] = json!("x")), "topic");
    refused(frame(&|event| event["data"]["limits"]["extra"] = json!(1)), "extra");
    refused(frame(&|event| event["data"]["server_time"] = json!("2026-01-02T03:04:05Z")), "/data/server_time");
}

#[test]
fn a_reply_that_is_not_documented_is_refused() {
    let documents = documents();
    let ack = json!({"type": "ack", "id": 1, "data": {"message_id": 1, "conversation_id": "dm_4", "seq": 2,
        "created_at": "2026-01-02T03:04:05.678Z", "duplicate": false}});
    assert_eq!(documents.judge_frame(&ack, Some("send_message")), Ok(()));
    assert_eq!(documents.judge_frame(&ack, None), Ok(()), "some command has such an ack");
    refused(documents.judge_frame(&ack, Some("join_conversation")), "conversation");
    refused(documents.judge_frame(&ack, Some("typing")), "typing has no ack");
    refused(documents.judge_frame(&ack, Some("shout")), "shout");
    let extra = altered(&ack, |ack| ack["data"]["extra"] = json!(1));
    refused(documents.judge_frame(&extra, Some("send_message")), "extra");
    refused(documents.judge_frame(&extra, None), "no command");

    let error = json!({"type": "error", "id": "a", "data": {"code": "muted", "message": "words", "retry_after_ms": 5}});
    let frame = |change: &dyn Fn(&mut Value)| documents.judge_frame(&altered(&error, change), Some("send_message"));
    assert_eq!(frame(&|_| ()), Ok(()));
    refused(frame(&|error| error["data"]["code"] = json!("tired")), "tired");
    refused(frame(&|error| error["data"]["message"] = json!("")), "/data/message");
    refused(frame(&|error| error["data"]["retry_after_ms"] = json!(-1)), "/data/retry_after_ms");
    refused(frame(&|error| error["data"]["extra"] = json!(1)), "extra");

    let command = json!({"type": "mark_read", "id": 1, "data": {"conversation_id": "dm_4", "seq": 2}});
    let judged = |change: &dyn Fn(&mut Value)| documents.judge_command(&altered(&command, change));
    assert_eq!(judged(&|_| ()), Ok(()));
    refused(judged(&|command| command["data"]["extra"] = json!(1)), "extra");
    refused(judged(&|command| drop(command["data"].as_object_mut().unwrap().remove("seq"))), "seq");
    refused(judged(&|command| drop(command.as_object_mut().unwrap().remove("data"))), "data");
    refused(judged(&|command| command["type"] = json!("shout")), "shout");
}

#[test]
fn a_close_frame_that_is_not_documented_is_refused() {
    let documents = documents();
    let reason = json!({"code": "token_expired", "reconnect": true, "retry_after_ms": 0});
    assert_eq!(documents.judge_close(4001, &reason), Ok(()));
    refused(documents.judge_close(4000, &reason), "no such close code");
    refused(documents.judge_close(4002, &reason), "code");
    refused(documents.judge_close(4001, &altered(&reason, |reason| reason["reconnect"] = json!(false))), "reconnect");
    refused(documents.judge_close(4001, &altered(&reason, |reason| reason["extra"] = json!(1))), "extra");
    refused(documents.judge_close(4001, &json!("bye")), "object");
}

#[test]
fn an_answer_that_is_not_documented_is_refused() {
    let documents = documents();
    let user = json!({"id": 1, "username": "ann", "display_name": "Ann", "avatar_url": null, "bio": null,
        "created_at": "2026-01-02T03:04:05.678Z"});
    let own = altered(&user, |user| user["read_receipts"] = json!("public"));
    let judged = |method: &str, target: &str, status: u16, body: &Value| {
        documents.judge_answer(&answer(method, target, status, &body.to_string()))
    };
    let problem = |status: u16, code: &str| json!({"type": "about:blank", "title": "T", "status": status, "detail": "d", "code": code});
    assert_eq!(judged("GET", "/users/me", 200, &own), Ok(()));
    refused(judged("GET", "/users/7", 200, &own), "read_receipts");
    assert_eq!(judged("GET", "/users/7", 200, &user), Ok(()));
    assert_eq!(judged("GET", "/users/7", 404, &problem(404, "not_found")), Ok(()));
    assert_eq!(judged("GET", "/users?query=a&limit=3", 200, &json!({"users": [user]})), Ok(()));
    assert_eq!(judged("GET", "/nowhere", 404, &problem(404, "not_found")), Ok(()));
    assert_eq!(judged("BREW", "/users/me", 405, &problem(405, "method_not_allowed")), Ok(()));
    assert_eq!(judged("GET", "/users/me", 431, &problem(431, "too_large")), Ok(()), "before routing");

    refused(judged("GET", "/users/me", 200, &altered(&own, |user| user["email"] = json!("a@b"))), "email");
    let nameless = altered(&own, |user| drop(user.as_object_mut().unwrap().remove("username")));
    refused(judged("GET", "/users/me", 200, &nameless), "username");
    refused(judged("GET", "/users/me", 202, &user), "the status 202");
    refused(judged("GET", "/users/me", 409, &problem(409, "conflict")), "the status 409");
    refused(judged("GET", "/users/me", 401, &problem(401, "tired")), "unauthenticated");
    refused(judged("GET", "/users/me", 401, &problem(403, "unauthenticated")), "/status");
    refused(judged("GET", "/users/me", 404, &altered(&problem(404, "not_found"), |p| p["hint"] = json!(1))), "hint");
    refused(judged("DELETE", "/users/me", 200, &user), "the status 200");
    refused(judged("GET", "/nowhere", 200, &user), "the status 200");
    refused(judged("GET", "/dashboard/secret.js", 200, &user), "the status 200");
    refused(judged("GET", "/users?query=a&deep=1", 200, &json!({"users": []})), "deep");
    refused(judged("POST", "/auth/logout", 204, &user), "a body is not described");

    let text = user.to_string();
    let mut exchange = answer("GET", "/users/me", 200, &text);
    exchange.content_type = Some("text/html");
    refused(documents.judge_answer(&exchange), "text/html");

    let sent = json!({"login": "ann", "password": "x", "extra": 1});
    let signed_in = json!({"user": user, "access_token": "a", "refresh_token": "r", "token_type": "Bearer",
        "expires_in": 1})
    .to_string();
    let mut exchange = answer("POST", "/auth/login", 200, &signed_in);
    assert_eq!(documents.judge_answer(&exchange), Ok(()));
    exchange.sent = Some(&sent);
    refused(documents.judge_answer(&exchange), "extra");

    let sent = json!({"type": "ping"});
    let mut exchange = answer("POST", "/api/commands", 200, r#"{"server_time":"2026-01-02T03:04:05.678Z"}"#);
    exchange.sent = Some(&sent);
    assert_eq!(documents.judge_answer(&exchange), Ok(()));
    exchange.body = Some(b"{}");
    refused(documents.judge_answer(&exchange), "server_time");
}
