//! What a program posts to an incoming webhook, as a message: `text` or `content`, or what Slack's incoming webhooks
//! take (`text`, `attachments`, `blocks`).
//!
//! Slack's markup becomes the text that people read: `<https://example.org|a link>` → `a link (https://example.org)`,
//! `<!here>` and `<!channel>` → `@here`, `&amp;` → `&`. Attachments and blocks become lines of text.
//!
//! Invariant: the work is linear in the bytes of the body, which the HTTP layer bounds.

use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;

/// Attachments and blocks that are read.
const PARTS_MAX: usize = 50;

/// The body of a request. Unknown fields are ignored, because programs send more than this server uses.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Posted {
    text: Option<String>,
    content: Option<String>,
    attachments: Vec<SlackAttachment>,
    blocks: Vec<Value>,
    thread: Option<Value>,
    thread_ts: Option<Value>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct SlackAttachment {
    pretext: Option<String>,
    title: Option<String>,
    title_link: Option<String>,
    text: Option<String>,
    fallback: Option<String>,
    fields: Vec<SlackField>,
    image_url: Option<String>,
    footer: Option<String>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct SlackField {
    title: Option<String>,
    value: Option<Value>,
}

/// Why a body is no message. The texts are for the person who wrote the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PostError {
    /// It has no text at all.
    #[error("text: The message is empty. Send `text`, `content`, `attachments` or `blocks`.")]
    Empty,
    /// Its thread is no message.
    #[error("thread: Must be the id of a message, such as 345.")]
    Thread,
}

impl Posted {
    /// The text of the message.
    ///
    /// # Errors
    /// [`PostError::Empty`].
    pub fn message(&self) -> Result<String, PostError> {
        let mut lines = Vec::new();
        if let Some(content) = &self.content {
            lines.push(content.clone());
        } else if let Some(text) = &self.text {
            lines.push(plain(text));
        }
        // Slack shows `text` only in notifications if there are blocks.
        if lines.iter().all(|line| line.trim().is_empty()) {
            lines.extend(self.blocks.iter().take(PARTS_MAX).flat_map(block_lines));
        }
        lines.extend(self.attachments.iter().take(PARTS_MAX).flat_map(SlackAttachment::lines));
        lines.retain(|line| !line.trim().is_empty());
        if lines.is_empty() { Err(PostError::Empty) } else { Ok(lines.join("\n")) }
    }

    /// The message whose thread it belongs to.
    ///
    /// # Errors
    /// [`PostError::Thread`].
    pub fn thread(&self) -> Result<Option<i64>, PostError> {
        let Some(given) = self.thread.as_ref().or(self.thread_ts.as_ref()).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let number = given.as_i64().or_else(|| given.as_str().and_then(|text| text.parse().ok()));
        number.filter(|number| *number > 0).map(Some).ok_or(PostError::Thread)
    }
}

impl SlackAttachment {
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.pretext.iter().map(|text| plain(text)).collect();
        match (&self.title, &self.title_link) {
            (Some(title), Some(link)) => lines.push(format!("{} ({link})", plain(title))),
            (Some(title), None) => lines.push(plain(title)),
            (None, Some(link)) => lines.push(link.clone()),
            (None, None) => {}
        }
        lines.extend(self.text.iter().map(|text| plain(text)));
        for SlackField { title, value } in self.fields.iter().take(PARTS_MAX) {
            let value = match value {
                Some(Value::String(text)) => plain(text),
                Some(other) if !other.is_null() => other.to_string(),
                _ => String::new(),
            };
            lines.push(match title {
                Some(title) if !title.is_empty() => format!("{}: {value}", plain(title)),
                _ => value,
            });
        }
        lines.extend(self.image_url.clone());
        lines.extend(self.footer.iter().map(|text| plain(text)));
        if lines.iter().all(|line| line.trim().is_empty()) {
            lines.extend(self.fallback.iter().map(|text| plain(text)));
        }
        lines
    }
}

/// The texts of a block: header, section with its fields, and context.
fn block_lines(block: &Value) -> Vec<String> {
    let text_of = |value: &Value| value["text"].as_str().map(plain);
    let all_of =
        |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().filter_map(text_of).collect() };
    let mut lines: Vec<String> = text_of(&block["text"]).into_iter().collect();
    lines.extend(all_of(&block["fields"]));
    let context = all_of(&block["elements"]);
    if !context.is_empty() {
        lines.push(context.join(" "));
    }
    lines
}

/// Slack's markup as text.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        plain.push_str(&rest[..start]);
        let inside = &rest[start + 1..];
        let Some(end) = inside.find(['<', '>']).filter(|end| inside[*end..].starts_with('>')) else {
            plain.push('<');
            rest = inside;
            continue;
        };
        let (target, label) = inside[..end].split_once('|').map_or((&inside[..end], None), |(a, b)| (a, Some(b)));
        match target {
            "!here" => plain.push_str("@here"),
            "!channel" | "!everyone" => plain.push_str("@room"),
            _ if target.starts_with(['@', '#', '!']) => plain.push_str(label.unwrap_or(target)),
            _ if target.contains(':') => {
                // Writing to a text cannot fail.
                let _ = match label {
                    Some(label) if label != target => write!(plain, "{label} ({target})"),
                    _ => write!(plain, "{target}"),
                };
            }
            _ => {
                let _ = write!(plain, "<{}>", &inside[..end]);
            }
        }
        rest = &inside[end + 1..];
    }
    plain.push_str(rest);
    plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(body: Value) -> Result<String, PostError> {
        serde_json::from_value::<Posted>(body).unwrap().message()
    }

    #[test]
    fn content_is_taken_as_it_is_and_text_as_slack_writes_it() {
        let text = "a < b &amp; <https://x.org/?a=1|the page> <https://y.org> <!here> <@U1|ann> <b> &lt;i&gt; <";
        let shown = "a < b & the page (https://x.org/?a=1) https://y.org @here ann <b> <i> <";
        assert_eq!(message(json!({ "text": text })).unwrap(), shown);
        assert_eq!(message(json!({ "content": text, "text": "other" })).unwrap(), text);
        assert_eq!(plain("<mailto:a@b.org|a@b.org> <!channel> <#C1> <>"), "a@b.org (mailto:a@b.org) @room #C1 <>");
        assert_eq!(plain(&"<".repeat(50_000)).len(), 50_000);
    }

    #[test]
    fn attachments_and_blocks_become_lines() {
        let body = json!({"text": "Build 7", "username": "ci", "icon_emoji": ":x:", "attachments": [
            {"color": "#f00", "pretext": "It <https://ci.org/7|failed>", "title": "main",
             "title_link": "https://ci.org", "text": "2 tests", "fallback": "not shown",
             "fields": [{"title": "Took", "value": 5, "short": true}, {"value": "alone"}], "footer": "ci"},
            {"fallback": "only this"}]});
        let lines =
            "Build 7\nIt failed (https://ci.org/7)\nmain (https://ci.org)\n2 tests\nTook: 5\nalone\nci\nonly this";
        assert_eq!(message(body).unwrap(), lines);
        let blocks = json!({"blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "Release"}}, {"type": "divider"},
            {"type": "section", "text": {"type": "mrkdwn", "text": "out <https://x.org|now>"},
             "fields": [{"text": "a"}]},
            {"type": "context", "elements": [{"text": "by"}, {"text": "ann"}, {"type": "image"}]}, 7]});
        assert_eq!(message(blocks).unwrap(), "Release\nout now (https://x.org)\na\nby ann");
    }

    #[test]
    fn a_thread_is_a_number_or_its_text() {
        let thread = |body: Value| serde_json::from_value::<Posted>(body).unwrap().thread();
        assert_eq!(thread(json!({"thread": 5})), Ok(Some(5)));
        assert_eq!(thread(json!({"thread_ts": "17"})), Ok(Some(17)));
        assert_eq!((thread(json!({})), thread(json!({"thread": null}))), (Ok(None), Ok(None)));
        for bad in [json!("1355517523.000005"), json!(-1), json!(0), json!(1.5), json!([1])] {
            assert_eq!(thread(json!({ "thread": bad })), Err(PostError::Thread), "{bad}");
        }
        for empty in [json!({}), json!({"text": " \n"}), json!({"attachments": [{}], "blocks": [{}]})] {
            assert_eq!(message(empty), Err(PostError::Empty));
        }
    }
}
