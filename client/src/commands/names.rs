//! Resolves names to the server's ids: `lobby` → `room_6`, `@bob` or `bob` → 17.
//!
//! Invariant: an ambiguous name is an error that lists the ids. A message to the wrong conversation cannot be unsent.

use super::pages::all_pages;
use crate::failure::{Failure, Refusal};
use crate::render::list;
use crate::session::Session;
use reqwest::Method;
use serde_json::{Value, json};

/// Whether the text is a conversation id (`dm_4`, `group_5`, `room_6`).
fn is_id(text: &str) -> bool {
    let number = ["dm_", "group_", "room_"].iter().find_map(|kind| text.strip_prefix(kind));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Resolves one of the user's conversations by id or name, or the direct conversation with `@USERNAME`.
pub async fn conversation(session: &Session, text: &str) -> Result<String, Failure> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    if let Some(name) = text.strip_prefix('@') {
        let data = json!({ "kind": "direct", "member_ids": [user(session, name).await?] });
        let answer = session.command("create_conversation", data).await?;
        return answer["conversation"]["id"].as_str().map(str::to_owned).ok_or_else(|| not_found(text));
    }
    pick(text, &all_pages(session, "list_conversations", "conversations", json!({})).await?)
}

/// Resolves a public room by id or name.
pub async fn public_room(session: &Session, text: &str) -> Result<String, Failure> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    pick(text, &all_pages(session, "list_public_rooms", "conversations", json!({ "query": bare(text) })).await?)
}

/// Resolves a user by id or username.
pub async fn user(session: &Session, text: &str) -> Result<i64, Failure> {
    if let Ok(id) = text.parse::<i64>() {
        return Ok(id);
    }
    let name = text.trim_start_matches('@');
    let well_formed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let unknown_user = || {
        let message = format!("there is no user {name:?}");
        Failure::Refused(Refusal { code: "not_found".into(), message, ..Refusal::default() })
    };
    if name.is_empty() || !well_formed {
        return Err(unknown_user());
    }
    let answer = session.request(Method::GET, &format!("/users?query={name}&limit=50"), None).await?;
    let same = |user: &&Value| user["username"].as_str().is_some_and(|other| other.eq_ignore_ascii_case(name));
    list(&answer["users"]).iter().find(same).and_then(|user| user["id"].as_i64()).ok_or_else(unknown_user)
}

fn bare(text: &str) -> &str {
    text.strip_prefix('#').unwrap_or(text)
}

fn not_found(text: &str) -> Failure {
    let message = format!("you have no conversation called {text:?}; see: veza list");
    Failure::Refused(Refusal { code: "not_found".into(), message, ..Refusal::default() })
}

fn pick(text: &str, conversations: &[Value]) -> Result<String, Failure> {
    let wanted = bare(text).to_lowercase();
    let called = conversations.iter().filter(|c| c["name"].as_str().is_some_and(|name| name.to_lowercase() == wanted));
    let ids: Vec<&str> = called.filter_map(|conversation| conversation["id"].as_str()).filter(|id| is_id(id)).collect();
    match ids[..] {
        [] => Err(not_found(text)),
        [id] => Ok(id.to_owned()),
        _ => Err(Failure::Usage(format!("{text:?} could be any of {}; use the id", ids.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_ids_from_names() {
        assert!(is_id("room_6") && is_id("dm_4") && is_id("group_5"));
        for name in ["room_", "room_6a", "room 6", "lobby", "room_-6", "rooms_6"] {
            assert!(!is_id(name), "{name}");
        }
    }

    #[test]
    fn resolves_a_name_only_if_it_is_unambiguous() {
        let all = [
            json!({"id": "room_6", "name": "Lobby"}),
            json!({"id": "room_10", "name": "ops"}),
            json!({"id": "group_5", "name": "OPS"}),
            json!({"id": "group_9", "name": null}),
        ];
        assert_eq!(pick("#lobby", &all), Ok("room_6".to_owned()));
        assert_eq!(pick("nowhere", &all).unwrap_err().status(), 1);
        let both = pick("ops", &all).unwrap_err();
        assert!(both.status() == 2 && both.to_string().contains("room_10, group_5"), "{both}");
    }
}
