//! Mattermost's bulk format as its documentation and the checks of its importer describe it: the order of lines, fields
//! that must be there, their types, and their lengths.

use super::text;
use regex::Regex;
use serde_json::Value;
use std::collections::HashSet;

/// The order in which lines must come.
const ORDER: [&str; 8] = ["version", "emoji", "team", "channel", "user", "post", "direct_channel", "direct_post"];
/// Milliseconds, of which none is 0.
type Millis = i64;

#[derive(Default)]
struct Known {
    team: String,
    channels: HashSet<String>,
    users: HashSet<String>,
}

fn matches(pattern: &str, value: &Value) -> bool {
    Regex::new(pattern).unwrap().is_match(text(value))
}

fn chars(value: &Value) -> usize {
    text(value).chars().count()
}

fn time(value: &Value) -> Millis {
    value.as_i64().unwrap_or_else(|| panic!("no time: {value}"))
}

/// Checks all lines of an export. Panics with the line that Mattermost would refuse.
pub fn check(lines: &[Value]) {
    let mut known = Known::default();
    let mut last = 0;
    for (n, line) in lines.iter().enumerate() {
        let kind = text(&line["type"]);
        let place = ORDER.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("{n}: {line}"));
        assert!(place >= last && (n == 0) == (kind == "version"), "the order of line {n}: {line}");
        last = place;
        let object = &line[kind];
        match kind {
            "version" => assert_eq!(line["version"], 1, "{line}"),
            "team" => check_team(object, &mut known),
            "channel" => check_channel(object, &mut known),
            "user" => check_user(object, &mut known),
            "post" => {
                assert_eq!(text(&object["team"]), known.team, "{line}");
                assert!(known.channels.contains(text(&object["channel"])), "{line}");
                check_post(object, 0, &known);
            }
            "direct_channel" => check_members(&object["members"], &known),
            _ => {
                check_members(&object["channel_members"], &known);
                check_post(object, 0, &known);
            }
        }
    }
}

fn check_team(team: &Value, known: &mut Known) {
    assert!(matches("^[a-z0-9]+([a-z0-9-]+|(__)?)[a-z0-9]+$", &team["name"]) && chars(&team["name"]) <= 64, "{team}");
    assert!((1..=64).contains(&chars(&team["display_name"])) && matches("^[OI]$", &team["type"]), "{team}");
    text(&team["name"]).clone_into(&mut known.team);
}

fn check_channel(channel: &Value, known: &mut Known) {
    assert_eq!(text(&channel["team"]), known.team, "{channel}");
    let is_name = matches("^[a-z0-9]+([a-z0-9_-]+|(__)?)[a-z0-9]*$", &channel["name"]);
    assert!(is_name && (1..=64).contains(&chars(&channel["name"])), "{channel}");
    assert!((1..=64).contains(&chars(&channel["display_name"])) && matches("^[OP]$", &channel["type"]), "{channel}");
    assert!(chars(&channel["header"]) <= 1_024 && chars(&channel["purpose"]) <= 250, "{channel}");
    assert!(known.channels.insert(text(&channel["name"]).to_owned()), "twice: {channel}");
}

fn check_user(user: &Value, known: &mut Known) {
    let is_name = matches("^[a-z][a-z0-9._-]*$", &user["username"]) && (1..=64).contains(&chars(&user["username"]));
    assert!(is_name && !["all", "channel", "matterbot", "system"].contains(&text(&user["username"])), "{user}");
    let email = text(&user["email"]);
    assert!(email.contains('@') && email == email.to_lowercase() && email.len() <= 128, "{user}");
    assert!(chars(&user["nickname"]) <= 64 && chars(&user["position"]) <= 128, "{user}");
    assert!(user["roles"] == "system_user" && user["delete_at"].is_i64() && user["auth_service"] == "", "{user}");
    for team in user["teams"].as_array().unwrap() {
        assert!(text(&team["name"]) == known.team && team["roles"] == "team_user", "{user}");
        for channel in team["channels"].as_array().unwrap() {
            assert!(known.channels.contains(text(&channel["name"])), "{channel}");
            assert!(matches("^channel_user( channel_admin)?$", &channel["roles"]), "{channel}");
            assert!(channel["last_viewed_at"].is_i64(), "{channel}");
        }
    }
    assert!(known.users.insert(text(&user["username"]).to_owned()), "twice: {user}");
}

fn check_members(members: &Value, known: &Known) {
    let members = members.as_array().unwrap();
    assert!((2..=8).contains(&members.len()), "{members:?}");
    assert!(members.iter().all(|member| known.users.contains(text(member))), "{members:?}");
}

fn check_post(post: &Value, parent_at: Millis, known: &Known) {
    assert!(known.users.contains(text(&post["user"])), "{post}");
    assert!(post["props"].is_object() && chars(&post["message"]) <= 16_383, "{post}");
    let at = time(&post["create_at"]);
    let edited = time(&post["edit_at"]);
    assert!(at > 0 && at >= parent_at && (edited == 0 || edited >= at), "{post}");
    for reaction in post["reactions"].as_array().unwrap() {
        assert!(known.users.contains(text(&reaction["user"])) && time(&reaction["create_at"]) >= at, "{post}");
        let is_name = matches("^[a-zA-Z0-9+_-]+$", &reaction["emoji_name"]) && chars(&reaction["emoji_name"]) <= 64;
        assert!(is_name, "{reaction}");
    }
    for attachment in post["attachments"].as_array().unwrap() {
        assert!(!text(&attachment["path"]).split('/').any(|part| part == ".." || part.is_empty()), "{attachment}");
    }
    for reply in post["replies"].as_array().into_iter().flatten() {
        check_post(reply, at, known);
    }
}
