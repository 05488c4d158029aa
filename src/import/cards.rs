//! The cards that programs attach to messages: "attachments" in Slack and in the props of Mattermost. Here they are
//! text.

use serde_json::Value;

/// Texts of cards that are read.
const CARDS_MAX: usize = 100;

/// The lines of cards, in the markup of their server. Previews of links in a text are left out; where the message has
/// no text, they are what it shares.
pub(super) fn lines_of(cards: &[Value], has_text: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for card in cards.iter().take(CARDS_MAX) {
        let is_preview = card.get("from_url").is_some() || card.get("is_msg_unfurl").is_some();
        if is_preview && has_text {
            continue;
        }
        let field = |name: &str| card.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let before = lines.len();
        lines.extend(field("pretext").map(str::to_owned));
        lines.extend(field("author_name").map(str::to_owned));
        match (field("title"), field("title_link")) {
            (Some(title), Some(link)) => lines.push(format!("{title} {link}")),
            (Some(text), None) | (None, Some(text)) => lines.push(text.to_owned()),
            (None, None) => {}
        }
        lines.extend(field("text").map(str::to_owned));
        for pair in card.get("fields").and_then(Value::as_array).into_iter().flatten() {
            let part = |name: &str| match pair.get(name) {
                Some(Value::String(text)) => text.trim().to_owned(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            let (title, value) = (part("title"), part("value"));
            match (title.is_empty(), value.is_empty()) {
                (true, true) => {}
                (true, false) => lines.push(value),
                (false, true) => lines.push(title),
                (false, false) => lines.push(format!("{title}: {value}")),
            }
        }
        if lines.len() == before {
            lines.extend(field("fallback").map(str::to_owned));
        }
        lines.extend(field("image_url").map(str::to_owned));
        if is_preview {
            lines.extend(field("from_url").map(str::to_owned));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cards_become_lines() {
        let cards = [
            json!({"pretext": "Build", "title": "#7", "title_link": "https://ci.example/7", "text": "passed",
                "fields": [{"title": "time", "value": 3}, {"value": "x"}], "fallback": "never seen"}),
            json!({"fallback": "only this"}),
            json!({"from_url": "https://example.org", "text": "a preview"}),
            json!("no card"),
        ];
        let lines = ["Build", "#7 https://ci.example/7", "passed", "time: 3", "x", "only this"];
        assert_eq!(lines_of(&cards, true), lines);
        assert_eq!(lines_of(&cards, false)[lines.len()..], ["a preview", "https://example.org"]);
    }
}
