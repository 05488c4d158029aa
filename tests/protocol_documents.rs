//! docs/asyncapi.yaml and docs/openapi.yaml describe the protocol of the server, and nothing that the server does not
//! have, except what `support::source::NOT_YET` lists.
//!
//! How: the tests compare commands, codes and routes with the lists in the source. Altered copies of valid frames and
//! answers show that `support::protocol`, which checks the traffic of the other tests, refuses what is not documented.

mod support;

use chat_server::chat::filter::written::{EVERYWHERE, WRITTEN_TEXTS};
use chat_server::error::{Disposition, ErrorCode};
use chat_server::wire::command::Command;
use chat_server::wire::ws::close::CloseCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::protocol::{Exchange, documents};
use support::source::{NOT_YET, ROUTES_NOT_YET, documented_route, fields, operations, routes, routes_in, source};

/// Every close code. A test compares the list with the source.
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
fn compiles_every_schema() {
    documents().compile_everything();
}

/// Finds schemas of objects that allow properties that are not listed.
fn open_objects(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let closed = map.get("additionalProperties").is_some_and(|more| *more == false);
            // With `allOf`, the referenced schema forbids other properties.
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
fn allows_no_undocumented_fields_in_any_object() {
    let mut found = Vec::new();
    open_objects(&documents().asyncapi["components"], "asyncapi", &mut found);
    open_objects(&documents().openapi["components"], "openapi", &mut found);
    open_objects(&documents().openapi["paths"], "openapi/paths", &mut found);
    assert_eq!(found, Vec::<String>::new());
    open_objects(&json!({"properties": {"a": {"type": "object", "properties": {}}}}), "", &mut found);
    assert_eq!(found.len(), 2, "the search finds open objects: {found:?}");
}

#[test]
fn documents_the_commands_of_the_server() {
    let known: BTreeSet<&str> = Command::NAMES.into_iter().collect();
    let documented = documents().commands();
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/asyncapi.yaml does not describe these commands: {missing:?}");
    let ahead: BTreeSet<&str> = documented.difference(&known).copied().collect();
    assert_eq!(ahead, NOT_YET.iter().copied().collect(), "commands that only the document has must be in NOT_YET");
}

#[test]
fn documents_the_error_codes_of_the_server() {
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
        // Every command works over HTTP, so an answer can have any error code.
        let problem = json!({"type": "about:blank", "title": "T", "status": code.http_status(), "detail": "d",
            "code": code.as_str(), "retry_after_ms": 1});
        let checked =
            documents.check_answer(&answer("POST", "/api/commands", code.http_status(), &problem.to_string()));
        assert_eq!(checked, Ok(()), "{code} as the answer of POST /api/commands");
        assert!(!responses[code.http_status().to_string()].is_null(), "{code}");
    }
}

#[test]
fn documents_the_close_codes_of_the_server() {
    let documents = documents();
    let text = std::fs::read_to_string(source("wire/ws/close.rs")).unwrap();
    let assigned = text.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok());
    let in_source: BTreeSet<u16> = assigned.collect();
    assert_eq!(in_source, CLOSE_CODES.iter().map(|code| code.number()).collect(), "CLOSE_CODES must list all of them");
    let documented = fields(&documents.asyncapi["x-close-codes"], "x-close-codes");
    assert_eq!(documented.keys().map(|key| key.parse().unwrap()).collect::<BTreeSet<u16>>(), in_source);
    for code in CLOSE_CODES {
        let reason: Value = serde_json::from_str(&code.reason(7)).unwrap();
        assert_eq!(documents.check_close(code.number(), &reason), Ok(()));
        assert!(documented[&code.number().to_string()]["summary"].is_string(), "{code:?}");
    }
}

#[test]
fn documents_the_routes_of_the_router() {
    let routes = routes();
    assert!(routes.contains("PATCH /users/me") && routes.contains("GET /dashboard/page.css"), "{routes:?}");
    let missing: Vec<_> = routes.iter().filter(|route| documented_route(route).is_none()).collect();
    assert!(missing.is_empty(), "docs/openapi.yaml does not describe these routes: {missing:?}");
    let served: BTreeSet<String> = routes.iter().filter_map(|route| documented_route(route)).collect();
    let ahead: BTreeSet<String> = operations().difference(&served).cloned().collect();
    assert_eq!(
        ahead,
        ROUTES_NOT_YET.iter().map(|route| (*route).to_owned()).collect(),
        "routes that only the document has must be in ROUTES_NOT_YET"
    );
}

#[test]
fn finds_routes_in_every_form_of_the_source() {
    let text = "r.route(\"/a\", get(x).patch(y))\n.route(\n    \"/b/{id}\",\n    delete(budget(z)),\n)\
                .route(\"/c\", asset(\"t\", f()))\n#[cfg(test)]\n.route(\"/d\", get(x))";
    assert_eq!(routes_in(text), ["GET /a", "PATCH /a", "DELETE /b/{id}", "GET /c"]);
}

/// Whether a schema accepts free text somewhere: no choice, and no time.
fn has_text(schema: &Value, root: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return has_text(root.pointer(reference.trim_start_matches('#')).expect("a schema"), root);
    }
    let is_text =
        schema["type"] == "string" || schema["type"].as_array().is_some_and(|of| of.contains(&json!("string")));
    let is_free = ["enum", "const"].iter().all(|key| schema[key].is_null()) && schema["format"] != "date-time";
    let list = |key: &str| schema[key].as_array().map_or(&[][..], Vec::as_slice);
    let properties = schema["properties"].as_object().into_iter().flat_map(|fields| fields.values());
    let inner = properties.chain(list("oneOf")).chain(list("anyOf")).chain(list("allOf")).chain(schema.get("items"));
    (is_text && is_free) || inner.into_iter().any(|schema| has_text(schema, root))
}

/// The fields with free text that a schema of an object has.
fn text_fields(schema: &Value, root: &Value) -> BTreeSet<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return text_fields(root.pointer(reference.trim_start_matches('#')).expect("a schema"), root);
    }
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields.filter(|(_, schema)| has_text(schema, root)).map(|(name, _)| name.clone()).collect()
}

/// Every field with free text: the command or the route, and the field.
fn documented_texts() -> BTreeSet<(String, String)> {
    let (commands, routes) = (&documents().asyncapi, &documents().openapi);
    let mut texts = BTreeSet::new();
    for name in Command::NAMES {
        let data = &commands["components"]["messages"][name]["payload"]["properties"]["data"];
        texts.extend(text_fields(data, commands).into_iter().map(|field| (name.to_owned(), field)));
    }
    for (path, item) in fields(&routes["paths"], "paths") {
        for (method, operation) in fields(item, path) {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let route = format!("{} {path}", method.to_uppercase());
            texts.extend(text_fields(body, routes).into_iter().map(|field| (route.clone(), field)));
        }
    }
    texts
}

#[test]
fn every_text_that_users_write_is_in_the_table_of_the_content_filter() {
    let documented = documented_texts();
    assert!(documented.contains(&("set_presence".to_owned(), "status_text".to_owned())), "{documented:?}");
    let is_listed = |source: &str, field: &str| {
        WRITTEN_TEXTS.iter().any(|text| [source, EVERYWHERE].contains(&text.source) && text.field == field)
    };
    let missing: Vec<_> = documented.iter().filter(|(source, field)| !is_listed(source, field)).collect();
    assert!(missing.is_empty(), "src/chat/filter/written.rs must list these texts: {missing:?}");
    for text in WRITTEN_TEXTS {
        let is_it = |(source, field): &(String, String)| {
            [source.as_str(), EVERYWHERE].contains(&text.source) && field == text.field
        };
        assert!(documented.iter().any(is_it), "there is no such text: {text:?}");
    }
    // Texts that clients show are read by these functions, also those that no document has.
    for file in ["mod", "changes", "lookups", "fields"] {
        let code = std::fs::read_to_string(source(&format!("wire/command/{file}.rs"))).unwrap();
        for call in ["data.name(\"", "data.written_text(\"", "data.bounded_text(\""] {
            for field in code.split(call).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(WRITTEN_TEXTS.iter().any(|text| text.field == field), "{file}.rs reads the text {field}");
            }
        }
    }
}

fn answer<'a>(method: &'a str, target: &'a str, status: u16, body: &'a str) -> Exchange<'a> {
    let content_type = Some(if status < 400 { "application/json" } else { "application/problem+json" });
    Exchange { method, target, sent: None, status, content_type, body: Some(body.as_bytes()) }
}

fn problem(status: u16, code: &str) -> Value {
    json!({"type": "about:blank", "title": "T", "status": status, "detail": "d", "code": code})
}

/// A changed copy of `value`.
fn altered(value: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut altered = value.clone();
    change(&mut altered);
    altered
}

#[track_caller]
fn assert_error(checked: Result<(), String>, part: &str) {
    let error = checked.expect_err("accepted although it is not documented");
    assert!(error.contains(part), "the error does not contain {part:?}: {error}");
}

#[test]
fn refuses_frames_that_are_not_documented() {
    let documents = documents();
    let event = json!({"type": "read_updated", "data": {"conversation_id": "room_6", "user_id": 1, "read_seq": 3}});
    let frame = |change: &dyn Fn(&mut Value)| documents.check_frame(&altered(&event, change), None);
    assert_eq!(frame(&|_| ()), Ok(()));
    assert_error(frame(&|event| event["data"]["extra"] = json!(1)), "extra");
    assert_error(frame(&|event| event["extra"] = json!(1)), "extra");
    assert_error(frame(&|event| event["id"] = json!(1)), "id");
    assert_error(frame(&|event| drop(event["data"].as_object_mut().unwrap().remove("read_seq"))), "read_seq");
    assert_error(frame(&|event| drop(event.as_object_mut().unwrap().remove("data"))), "data");
    assert_error(frame(&|event| event["data"]["user_id"] = json!("1")), "/data/user_id");
    assert_error(frame(&|event| event["data"]["user_id"] = json!(9_007_199_254_740_992_i64)), "/data/user_id");
    assert_error(frame(&|event| event["data"]["conversation_id"] = json!("lobby")), "/data/conversation_id");
    assert_error(frame(&|event| event["type"] = json!("read_upgraded")), "read_upgraded");
    assert_error(frame(&|event| drop(event.as_object_mut().unwrap().remove("type"))), "type");

    let head = json!({"id": "room_6", "kind": "group", "name": null, "last_seq": 1, "read_seq": 0, "role": "owner"});
    let welcome = json!({"type": "welcome", "data": {"session_id": 1, "server_time": "2026-01-02T03:04:05.678Z",
        "features": {"message_reactions": true, "pinned_messages": true, "user_mentions": true,
            "message_threads": true, "file_uploads": true, "files_scanned": false},
        "user": {"id": 1, "username": "ann", "display_name": "Ann", "avatar_url": null, "bio": null,
            "created_at": "2026-01-02T03:04:05.678Z"},
        "heartbeat_ms": 25_000, "limits": {"max_message_length": 1, "max_frame_bytes": 1, "max_connections_per_user": 1,
            "max_messages_per_minute": 1, "max_file_size": 1, "message_edit_window_s": 0}, "conversations": [head]}});
    let frame = |change: &dyn Fn(&mut Value)| documents.check_frame(&altered(&welcome, change), None);
    assert_eq!(frame(&|_| ()), Ok(()));
    assert_error(
        frame(&|event| event["data"]["conversations"][0]["kind"] = json!("channel")),
        "/data/conversations/0/kind",
    );
    assert_error(frame(&|event| event["data"]["conversations"][0]["topic"] = json!("x")), "topic");
    assert_error(frame(&|event| event["data"]["limits"]["extra"] = json!(1)), "extra");
    assert_error(frame(&|event| event["data"]["server_time"] = json!("2026-01-02T03:04:05Z")), "/data/server_time");
}

#[test]
fn refuses_replies_that_are_not_documented() {
    let documents = documents();
    let ack = json!({"type": "ack", "id": 1, "data": {"message_id": 1, "conversation_id": "dm_4", "seq": 2,
        "created_at": "2026-01-02T03:04:05.678Z", "duplicate": false}});
    assert_eq!(documents.check_frame(&ack, Some("send_message")), Ok(()));
    assert_eq!(documents.check_frame(&ack, None), Ok(()), "some command has such an ack");
    assert_error(documents.check_frame(&ack, Some("join_conversation")), "conversation");
    assert_error(documents.check_frame(&ack, Some("typing")), "typing has no ack");
    assert_error(documents.check_frame(&ack, Some("shout")), "shout");
    let extra = altered(&ack, |ack| ack["data"]["extra"] = json!(1));
    assert_error(documents.check_frame(&extra, Some("send_message")), "extra");
    assert_error(documents.check_frame(&extra, None), "no command");

    let error = json!({"type": "error", "id": "a", "data": {"code": "muted", "message": "text", "retry_after_ms": 5}});
    let frame = |change: &dyn Fn(&mut Value)| documents.check_frame(&altered(&error, change), Some("send_message"));
    assert_eq!(frame(&|_| ()), Ok(()));
    assert_error(frame(&|error| error["data"]["code"] = json!("tired")), "tired");
    assert_error(frame(&|error| error["data"]["message"] = json!("")), "/data/message");
    assert_error(frame(&|error| error["data"]["retry_after_ms"] = json!(-1)), "/data/retry_after_ms");
    assert_error(frame(&|error| error["data"]["extra"] = json!(1)), "extra");

    let command = json!({"type": "mark_read", "id": 1, "data": {"conversation_id": "dm_4", "seq": 2}});
    let checked = |change: &dyn Fn(&mut Value)| documents.check_command(&altered(&command, change));
    assert_eq!(checked(&|_| ()), Ok(()));
    assert_error(checked(&|command| command["data"]["extra"] = json!(1)), "extra");
    assert_error(checked(&|command| drop(command["data"].as_object_mut().unwrap().remove("seq"))), "seq");
    assert_error(checked(&|command| drop(command.as_object_mut().unwrap().remove("data"))), "data");
    assert_error(checked(&|command| command["type"] = json!("shout")), "shout");
}

#[test]
fn refuses_close_frames_that_are_not_documented() {
    let documents = documents();
    let reason = json!({"code": "token_expired", "reconnect": true, "retry_after_ms": 0});
    assert_eq!(documents.check_close(4001, &reason), Ok(()));
    assert_error(documents.check_close(4000, &reason), "no such close code");
    assert_error(documents.check_close(4002, &reason), "code");
    assert_error(
        documents.check_close(4001, &altered(&reason, |reason| reason["reconnect"] = json!(false))),
        "reconnect",
    );
    assert_error(documents.check_close(4001, &altered(&reason, |reason| reason["extra"] = json!(1))), "extra");
    assert_error(documents.check_close(4001, &json!("bye")), "object");
}

#[test]
fn refuses_answers_that_are_not_documented() {
    let documents = documents();
    let user = json!({"id": 1, "username": "ann", "display_name": "Ann", "avatar_url": null, "bio": null,
        "created_at": "2026-01-02T03:04:05.678Z"});
    let own = altered(&user, |user| {
        user["read_receipts"] = json!("public");
        user["group_invitations"] = json!("everyone");
    });
    let checked = |method: &str, target: &str, status: u16, body: &Value| {
        documents.check_answer(&answer(method, target, status, &body.to_string()))
    };
    assert_eq!(checked("GET", "/users/me", 200, &own), Ok(()));
    assert_error(checked("GET", "/users/7", 200, &own), "read_receipts");
    assert_eq!(checked("GET", "/users/7", 200, &user), Ok(()));
    assert_eq!(checked("GET", "/users/7", 404, &problem(404, "not_found")), Ok(()));
    assert_eq!(checked("GET", "/users?query=a&limit=3", 200, &json!({"users": [user]})), Ok(()));
    assert_eq!(checked("GET", "/nowhere", 404, &problem(404, "not_found")), Ok(()));
    assert_eq!(checked("BREW", "/users/me", 405, &problem(405, "method_not_allowed")), Ok(()));
    assert_eq!(checked("GET", "/users/me", 431, &problem(431, "too_large")), Ok(()), "before routing");

    assert_error(checked("GET", "/users/me", 200, &altered(&own, |user| user["email"] = json!("a@b"))), "email");
    let nameless = altered(&own, |user| drop(user.as_object_mut().unwrap().remove("username")));
    assert_error(checked("GET", "/users/me", 200, &nameless), "username");
    assert_error(checked("GET", "/users/me", 202, &user), "the status 202");
    assert_error(checked("GET", "/users/me", 409, &problem(409, "conflict")), "the status 409");
    assert_error(checked("GET", "/users/me", 401, &problem(401, "tired")), "unauthenticated");
    assert_error(checked("GET", "/users/me", 401, &problem(403, "unauthenticated")), "/status");
    assert_error(
        checked("GET", "/users/me", 404, &altered(&problem(404, "not_found"), |p| p["hint"] = json!(1))),
        "hint",
    );
    assert_error(checked("DELETE", "/users/me", 200, &user), "the status 200");
    assert_error(checked("GET", "/nowhere", 200, &user), "the status 200");
    assert_error(checked("GET", "/dashboard/secret.js", 200, &user), "the status 200");
    assert_error(checked("GET", "/users?query=a&deep=1", 200, &json!({"users": []})), "deep");
    assert_error(checked("POST", "/auth/logout", 204, &user), "a body is not described");

    let text = user.to_string();
    let mut exchange = answer("GET", "/users/me", 200, &text);
    exchange.content_type = Some("text/html");
    assert_error(documents.check_answer(&exchange), "text/html");

    let sent = json!({"login": "ann", "password": "x", "extra": 1});
    let session = json!({"user": user, "access_token": "a", "refresh_token": "r", "token_type": "Bearer",
        "expires_in": 1})
    .to_string();
    let mut exchange = answer("POST", "/auth/login", 200, &session);
    assert_eq!(documents.check_answer(&exchange), Ok(()));
    exchange.sent = Some(&sent);
    assert_error(documents.check_answer(&exchange), "extra");

    let sent = json!({"type": "ping"});
    let mut exchange = answer("POST", "/api/commands", 200, r#"{"server_time":"2026-01-02T03:04:05.678Z"}"#);
    exchange.sent = Some(&sent);
    assert_eq!(documents.check_answer(&exchange), Ok(()));
    exchange.body = Some(b"{}");
    assert_error(documents.check_answer(&exchange), "server_time");
}
