//! Renders messages and events as lines for people. Pure.
//!
//! Invariant: every value that becomes text goes through `text`, or is a number. The only escape sequences in the
//! result are those of `paint`.

use crate::clock::Moment;
use crate::paint::Paint;
use crate::text;
use serde_json::Value;
use std::fmt::Write as _;

/// Indents continuation lines to the sender of the first line.
const INDENT: &str = "      ";

/// Renders a conversation in order; a new day gets a line of its own.
pub struct Transcript {
    paint: Paint,
    day: String,
}

impl Transcript {
    /// Creates an empty transcript.
    pub fn new(paint: Paint) -> Self {
        Self { paint, day: String::new() }
    }

    /// Renders a message.
    pub fn message(&mut self, message: &Value) -> String {
        self.message_with(message, &text_of(&message["content"]))
    }

    /// Renders a message with another text, such as a highlighted search result.
    pub fn message_with(&mut self, message: &Value, content: &str) -> String {
        let paint = self.paint;
        let mut out = self.stamp(&message["created_at"]);
        if message["system"].is_object() {
            out.push_str(&paint.dim("· "));
            out.push_str(&report(paint, &message["system"]));
            return out;
        }
        let _ = write!(out, "{} ", person(paint, &message["sender"])); // writing into a String cannot fail
        if let Some(parent) = message["parent_message_id"].as_i64() {
            let _ = write!(out, "{} ", paint.dim(&format!("↪ {parent}")));
        }
        if message["deleted"] == true {
            out.push_str(&paint.dim("(deleted)"));
        } else {
            out.push_str(&body(content));
        }
        let is_bare = content.is_empty() && message["deleted"] != true;

        for (there, word) in [(!message["edited_at"].is_null(), "(edited)"), (message["pinned"] == true, "(pinned)")] {
            if there && message["deleted"] != true {
                let _ = write!(out, " {}", paint.dim(word));
            }
        }
        for reaction in list(&message["reactions"]) {
            let mine = if reaction["me"] == true { "*" } else { "" };
            let shown = format!("[{} {}{mine}]", name(&reaction["emoji"]), number(&reaction["count"]));
            let _ = write!(out, " {}", paint.dim(&shown));
        }
        out.push_str(&files(paint, &message["attachments"], is_bare));
        let _ = write!(out, "  {}", paint.dim(&number(&message["message_id"])));
        out
    }

    /// Renders an event of the conversation; `None` when it needs no line.
    pub fn event(&mut self, kind: &str, data: &Value) -> Option<String> {
        if kind == "message_created" {
            return Some(self.message(data));
        }
        let paint = self.paint;
        let text = self.describe(kind, data)?;
        let at = if data["created_at"].is_null() { &data["decided_at"] } else { &data["created_at"] };
        let mut out = self.stamp(at);
        out.push_str(&paint.dim("· "));
        out.push_str(&text);
        Some(out)
    }

    fn describe(&self, kind: &str, data: &Value) -> Option<String> {
        let paint = self.paint;
        let id = paint.dim(&number(&data["message_id"]));
        let user = person(paint, &data["user"]);
        let by = |verb: &str| match &data["actor"] {
            Value::Null => verb.to_owned(),
            actor => format!("{} {verb}", person(paint, actor)),
        };
        Some(match kind {
            "message_edited" => {
                let content = text_of(&data["content"]);
                let files = files(paint, &data["attachments"], content.is_empty());
                format!("{} {}{files}  {id}", by("edited:"), body(&content))
            }
            "message_deleted" => format!("{}  {id}", by("deleted a message")),
            "file_updated" if data["file"].is_object() => file(&data["file"]),
            "file_updated" => format!("file {} is gone", number(&data["file_id"])),
            "message_pinned" => {
                let verb = if data["pinned"] == true { "pinned a message" } else { "unpinned a message" };
                format!("{}  {id}", by(verb))
            }
            "reaction_added" | "reaction_removed" => {
                let verb = if kind == "reaction_added" { "reacted" } else { "removed the reaction" };
                format!("{user} {verb} {} ({})  {id}", name(&data["emoji"]), number(&data["count"]))
            }
            "message_rejected" => {
                let what = if data["message_id"].is_null() { "message" } else { "edit" };
                let (rule, content) = (name(&data["details"]["rule"]), name(&data["content"]));
                format!("A moderator rejected your {what}, which the rule {rule} held: {content}")
            }
            // A system message reports it.
            "member_joined" | "member_left" => return None,
            "member_updated" if data["profile"].is_object() => {
                format!("{user} is now shown as {}", name(&data["profile"]["display_name"]))
            }
            "member_updated" => match (data["role"].as_str(), data["muted_until"].as_str()) {
                (Some(role), _) => format!("{user} is now {}", text::line(role)),
                (None, Some(until)) => format!("{user} is muted until {}", text::line(until)),
                (None, None) => format!("{user} was updated"),
            },
            "conversation_created" => format!("{} {}", by("created the conversation"), name(&data["name"])),
            "conversation_updated" if data["archived"] == true => by("archived the conversation"),
            "conversation_updated" => {
                let changed = data
                    .as_object()?
                    .iter()
                    .filter(|(key, _)| !["conversation_id", "seq", "created_at", "actor"].contains(&key.as_str()));
                let changed = changed.map(|(key, value)| format!("{} {}", text::line(key), name(value)));
                format!("{} {}", by("changed the conversation:"), changed.collect::<Vec<_>>().join(", "))
            }
            other => format!("{} (this client is older than the server)", text::line(other)),
        })
    }

    /// `HH:MM `, after a line for the day if the day has changed.
    fn stamp(&mut self, created_at: &Value) -> String {
        let Some(Moment { day, time }) = created_at.as_str().and_then(Moment::parse) else {
            return format!("{} ", self.paint.dim("--:--"));
        };
        let mut out = String::new();
        if day != self.day {
            let _ = writeln!(out, "{}", self.paint.dim(&format!("── {day} ──")));
            self.day = day;
        }
        let _ = write!(out, "{} ", self.paint.dim(&time));
        out
    }
}

/// Renders a table; each column is as wide as its widest cell.
pub fn table(paint: Paint, headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let row = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    std::iter::once(paint.dim(&row(&headings)))
        .chain(rows.iter().map(|cells| row(cells)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The day and time of a timestamp, or a dash.
pub fn when(value: &Value) -> String {
    value.as_str().and_then(Moment::parse).map_or_else(|| "-".to_owned(), |at| format!("{} {}", at.day, at.time))
}

/// Text or a number on one line; a dash for null.
pub fn name(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text::line(text),
        other => text::json(other),
    }
}

/// The items of a list; empty if the value is not a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The files of a message after its text. A message of files alone has no text before them.
fn files(paint: Paint, attachments: &Value, is_bare: bool) -> String {
    let shown: Vec<_> = list(attachments).iter().map(|one| paint.dim(&format!("[{}]", file(one)))).collect();
    let space = if is_bare || shown.is_empty() { "" } else { " " };
    format!("{space}{}", shown.join(" "))
}

/// A file: its number, name and size, or why it cannot be downloaded.
fn file(file: &Value) -> String {
    let about = match file["state"].as_str().unwrap_or("ready") {
        "ready" => file["size"].as_u64().map_or_else(|| "size unknown".to_owned(), bytes),
        "uploading" => "still being uploaded".to_owned(),
        "scanning" => "being checked".to_owned(),
        "infected" => "a virus was found in it".to_owned(),
        "failed" => "refused by the check".to_owned(),
        "expired" => "no longer available".to_owned(),
        other => text::line(other),
    };
    format!("file {} {}, {about}", number(&file["file_id"]), name(&file["name"]))
}

/// A size in bytes for people.
pub fn bytes(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1_000.0 && unit < 3 {
        size /= 1_000.0;
        unit += 1;
    }
    let unit_name = ["bytes", "kB", "MB", "GB"][unit];
    if unit == 0 { format!("{bytes} {unit_name}") } else { format!("{size:.1} {unit_name}") }
}

fn number(value: &Value) -> String {
    value.as_i64().map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn body(content: &str) -> String {
    text::lines(content).join(&format!("\n{INDENT}"))
}

/// The text of a system message.
fn report(paint: Paint, system: &Value) -> String {
    let kind = name(&system["kind"]);
    let user = person(paint, &system["user"]);
    match &system["actor"] {
        Value::Null => format!("{user} {kind}"),
        actor => format!("{} {kind} {user}", person(paint, actor)),
    }
}

/// The username, because display names are not unique.
fn person(paint: Paint, user: &Value) -> String {
    let name = user["username"].as_str().unwrap_or("someone");
    let shown = paint.person(name, &text::line(name));
    if user["role"] == "bot" { format!("{shown} {}", paint.dim("BOT")) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TIME: &str = "2026-11-26T01:46:30.123Z";

    fn message(content: &str) -> Value {
        json!({"message_id": 17, "seq": 2, "sender": {"id": 1, "username": "ada"}, "content": content,
               "parent_message_id": null, "edited_at": null, "deleted": false, "pinned": false, "reactions": [],
               "attachments": [], "created_at": TIME})
    }

    fn shown(message: &Value) -> String {
        let text = Transcript::new(Paint::plain()).message(message);
        text.split_once('\n').map(|(_, rest)| rest[6..].to_owned()).unwrap()
    }

    #[test]
    fn shows_edits_pins_reactions_and_deletion() {
        assert_eq!(shown(&message("Hello\nyou")), "ada Hello\n      you  17");
        let mut lively = message("Hi");
        lively["parent_message_id"] = json!(12);
        lively["edited_at"] = json!(TIME);
        lively["pinned"] = json!(true);
        lively["reactions"] =
            json!([{"emoji": "👍", "count": 2, "me": true}, {"emoji": "🎉", "count": 1, "me": false}]);
        assert_eq!(shown(&lively), "ada ↪ 12 Hi (edited) (pinned) [👍 2*] [🎉 1]  17");
        lively["deleted"] = json!(true);
        assert!(shown(&lively).starts_with("ada ↪ 12 (deleted) ["), "{}", shown(&lively));
    }

    #[test]
    fn shows_files_with_their_numbers_and_states() {
        let mut sent = message("");
        sent["attachments"] = json!([{"file_id": 5, "name": "a b.pdf", "size": 1_234_567, "state": "ready"},
            {"file_id": 6, "name": "x.zip", "size": 9, "state": "infected"}]);
        assert_eq!(shown(&sent), "ada [file 5 a b.pdf, 1.2 MB] [file 6 x.zip, a virus was found in it]  17");
        sent["content"] = json!("Look");
        assert!(shown(&sent).starts_with("ada Look [file 5"), "{}", shown(&sent));
        let mut transcript = Transcript::new(Paint::plain());
        let left = &sent["attachments"][0];
        let edited = json!({"created_at": TIME, "message_id": 17, "content": "", "attachments": [left],
                            "actor": {"id": 1, "username": "ada"}});
        let edited = transcript.event("message_edited", &edited).unwrap();
        assert!(edited.ends_with("ada edited: [file 5 a b.pdf, 1.2 MB]  17"), "{edited}");
        let data =
            json!({"created_at": TIME, "file_id": 5, "file": {"file_id": 5, "name": "a", "size": 9, "state": "ready"}});
        assert!(transcript.event("file_updated", &data).unwrap().ends_with("· file 5 a, 9 bytes"));
        let gone = json!({"created_at": TIME, "file_id": 5});
        assert!(transcript.event("file_updated", &gone).unwrap().ends_with("· file 5 is gone"));
    }

    #[test]
    fn reports_each_membership_change_once() {
        let mut joined = message("Ada joined");
        joined["system"] = json!({"kind": "joined", "user": {"id": 1, "username": "ada"}, "actor": null});
        assert_eq!(shown(&joined), "· ada joined");
        joined["system"] =
            json!({"kind": "removed", "user": {"id": 1, "username": "ada"}, "actor": {"id": 2, "username": "bob"}});
        assert_eq!(shown(&joined), "· bob removed ada");
        for kind in ["member_joined", "member_left"] {
            assert_eq!(Transcript::new(Paint::plain()).event(kind, &json!({"created_at": TIME})), None);
        }
    }

    #[test]
    fn reports_a_rejected_text_to_its_author() {
        let rejected = |message_id: Value| {
            let data = json!({"content": "an\noffer", "details": {"rule": "offers"}, "message_id": message_id,
                              "decided_at": TIME});
            Transcript::new(Paint::plain()).event("message_rejected", &data).unwrap()
        };
        let message = rejected(Value::Null);
        assert!(
            message.ends_with("A moderator rejected your message, which the rule offers held: an␊offer"),
            "{message}"
        );
        assert!(message.starts_with("── "), "it has a time: {message}");
        assert!(rejected(json!(7)).contains("rejected your edit, "));
    }

    #[test]
    fn announces_each_day_once() {
        let mut transcript = Transcript::new(Paint::plain());
        assert!(transcript.message(&message("a")).starts_with("── "));
        assert!(!transcript.message(&message("b")).contains("──"));
    }

    #[test]
    fn events_cannot_control_the_terminal() {
        let evil = "\u{1b}]0;title\u{7}\u{9b}2J\r\n\u{202e}";
        let user = json!({"id": 1, "username": evil, "display_name": evil});
        let data = json!({"message_id": 1, "content": evil, "emoji": evil, "name": evil, "description": evil,
            evil: evil,
                          "reason": evil, "role": evil, "count": 1, "pinned": evil, "archived": evil, "actor": user,
                          "user": user, "invited_by": user, "sender": user, "created_at": evil,
                          "reactions": [{"emoji": evil, "count": evil}], "attachments": [{"name": evil, "state": evil}],
                          "file": {"name": evil, "state": evil}});
        let mut system = message(evil);
        system["system"] = json!({"kind": evil, "user": user, "actor": user});
        let text = shown(&system);
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        let kinds = [
            "message_created",
            "message_edited",
            "message_deleted",
            "message_pinned",
            "file_updated",
            "reaction_added",
            "reaction_removed",
            "member_updated",
            "conversation_created",
            "conversation_updated",
            evil,
        ];
        for kind in kinds {
            let text = Transcript::new(Paint::plain()).event(kind, &data).unwrap();
            let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.chars().any(hostile), "{kind:?}: {text:?}");
            if !kind.starts_with("message_") {
                assert!(!text.contains('\n'), "{kind:?}: {text:?}");
            }
        }
    }

    #[test]
    fn aligns_the_columns_of_a_table() {
        let rows = [vec!["room_6".into(), "lobby".into()], vec!["dm_4".into(), "b".into()]];
        assert_eq!(table(Paint::plain(), &["ID", "NAME"], &rows), "ID      NAME\nroom_6  lobby\ndm_4    b");
    }
}
