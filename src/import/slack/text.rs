//! The markup of Slack and ours.
//!
//! | Slack | here |
//! |---|---|
//! | `<@U1>` | a mention |
//! | `<!here>`, `<!channel>`, `<!everyone>` | `@here`, `@room` |
//! | `<#C1\|name>` | `#name` |
//! | `<https://…\|label>` | `[label](https://…)`, or the address alone |
//! | `*bold*`, `_italic_`, `~struck~` | `**bold**`, `*italic*`, `~~struck~~` |
//! | `&amp;`, `&lt;`, `&gt;` | `&`, `<`, `>` |
//!
//! Code keeps its markers. Pure, and linear in the length of the text.

use crate::import::written::{MarkedText, code_end};
use serde_json::Value;
use std::fmt::Write as _;

/// Bytes between the markers of emphasis. They bound the search for the second one.
const EMPHASIS_BYTES_MAX: usize = 300;
/// Bytes of a reference in angle brackets.
const REFERENCE_BYTES_MAX: usize = 16_000;
/// Bytes of blocks that become text.
const BLOCK_BYTES_MAX: usize = 1_000_000;

/// What references mean.
pub(super) trait SlackNames {
    /// The number of a user, and a name for one that is not imported.
    fn user(&self, id: &str) -> (i64, String);
    /// The name of a channel.
    fn channel(&self, id: &str) -> Option<String>;
}

/// The text of a message.
pub(super) fn written(text: &str, names: &impl SlackNames) -> MarkedText {
    let mut out = MarkedText::default();
    let bytes = text.as_bytes();
    // Where emphasis ends that has begun, and with what.
    let mut open: Vec<(usize, &str)> = Vec::new();
    // What is before `from` is written.
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        let next = match bytes[at] {
            b'`' => {
                push_plain(&mut out, &text[from..at]);
                let end = code_end(text, at);
                push_code(&mut out, &text[at..end]);
                end
            }
            b'<' => match reference_end(text, at) {
                Some(end) => {
                    push_plain(&mut out, &text[from..at]);
                    push_reference(&mut out, &text[at + 1..end], names);
                    end + 1
                }
                None => {
                    at += 1;
                    continue;
                }
            },
            marker @ (b'*' | b'_' | b'~') => {
                let ours = match marker {
                    b'*' => "**",
                    b'_' => "*",
                    _ => "~~",
                };
                if open.last().is_some_and(|(end, _)| *end == at) {
                    open.pop();
                } else if let Some(end) = emphasis_end(bytes, at, open.last().map(|(end, _)| *end)) {
                    open.push((end, ours));
                } else {
                    at += 1;
                    continue;
                }
                push_plain(&mut out, &text[from..at]);
                out.push_str(ours);
                at + 1
            }
            _ => {
                at += 1;
                continue;
            }
        };
        (from, at) = (next, next);
    }
    push_plain(&mut out, &text[from..]);
    out
}

/// Text with its entities replaced.
fn decoded(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn push_plain(out: &mut MarkedText, text: &str) {
    out.push_str(&decoded(text));
}

/// Code. References in it are addresses that Slack has found there.
fn push_code(out: &mut MarkedText, code: &str) {
    let mut rest = code;
    while let Some(at) = rest.find('<') {
        let Some(end) = reference_end(rest, at) else { break };
        push_plain(out, &rest[..at]);
        let inner = &rest[at + 1..end];
        let (target, label) = inner.split_once('|').map_or((inner, None), |(target, label)| (target, Some(label)));
        push_plain(out, label.unwrap_or(target));
        rest = &rest[end + 1..];
    }
    push_plain(out, rest);
}

/// Where a reference ends: at the next bracket, which must be the closing one. So each byte is looked at once.
fn reference_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.get(at + 1).is_none_or(|byte| matches!(byte, b' ' | b'>' | b'\n')) {
        return None;
    }
    let length = bytes[at + 1..].iter().take(REFERENCE_BYTES_MAX).position(|byte| matches!(byte, b'<' | b'>'))?;
    let end = at + 1 + length;
    (bytes[end] == b'>').then_some(end)
}

/// Where emphasis ends that begins here: on the same line, around something that is neither a space nor part of a
/// word.
fn emphasis_end(bytes: &[u8], at: usize, within: Option<usize>) -> Option<usize> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80;
    let marker = bytes[at];
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t');
    if at > 0 && (is_word(bytes[at - 1]) || bytes[at - 1] == marker) {
        return None;
    }
    if bytes.get(at + 1).is_none_or(|next| is_space(*next) || *next == marker || *next == b'\n') {
        return None;
    }
    let last = within.unwrap_or(bytes.len()).min(at + EMPHASIS_BYTES_MAX);
    let mut end = at + 1;
    while end < last {
        match bytes[end] {
            b'\n' | b'`' => return None,
            b'<' => end += bytes[end..last].iter().position(|byte| *byte == b'>').unwrap_or(0),
            byte if byte == marker
                && !is_space(bytes[end - 1])
                && bytes.get(end + 1).is_none_or(|next| !is_word(*next) && *next != marker) =>
            {
                return Some(end);
            }
            _ => {}
        }
        end += 1;
    }
    None
}

fn push_reference(out: &mut MarkedText, inner: &str, names: &impl SlackNames) {
    let (target, label) = inner.split_once('|').map_or((inner, None), |(target, label)| (target, Some(label)));
    let label = label.map(decoded).filter(|label| !label.is_empty());
    if let Some(id) = target.strip_prefix('@') {
        let (user, name) = names.user(id);
        return out.push_mention(user, label.as_deref().map_or(&*name, |label| label.trim_start_matches('@')));
    }
    if let Some(id) = target.strip_prefix('#') {
        let name = label.or_else(|| names.channel(id)).unwrap_or_else(|| id.to_owned());
        return out.push_str(&format!("#{}", name.trim_start_matches('#')));
    }
    if let Some(command) = target.strip_prefix('!') {
        let name = command.split('^').next().unwrap_or_default();
        return match name {
            "here" => out.push_str("@here"),
            "channel" | "everyone" | "group" => out.push_str("@room"),
            _ => out.push_str(&label.unwrap_or_else(|| format!("@{name}"))),
        };
    }
    let target = decoded(target);
    let Some(label) = label else { return out.push_str(target.trim_start_matches("mailto:")) };
    let bare = target.split_once("://").map_or(target.as_str(), |(_, rest)| rest).trim_end_matches('/');
    if target.starts_with("mailto:") || target.starts_with("tel:") {
        out.push_str(&label);
    } else if label == target || label.trim_end_matches('/') == bare {
        out.push_str(&target);
    } else {
        out.push_str(&format!("[{label}]({target})"));
    }
}

/// The text of blocks, in Slack's markup: for messages of programs that have no other text.
pub(super) fn of_blocks(blocks: &Value) -> String {
    let mut text = String::new();
    gather(blocks, &mut text);
    text.trim().to_owned()
}

fn encoded(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn push(text: &mut String, given: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = text.write_fmt(given);
}

fn gather(value: &Value, text: &mut String) {
    if text.len() > BLOCK_BYTES_MAX {
        return;
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| gather(value, text)),
        Value::Object(fields) => {
            let field = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
            match field("type") {
                "text" | "plain_text" => text.push_str(&encoded(field("text"))),
                "mrkdwn" => text.push_str(field("text")),
                "link" if field("text").is_empty() => push(text, format_args!("<{}>", field("url"))),
                "link" => push(text, format_args!("<{}|{}>", field("url"), encoded(field("text")))),
                "user" => push(text, format_args!("<@{}>", field("user_id"))),
                "channel" => push(text, format_args!("<#{}>", field("channel_id"))),
                "broadcast" => push(text, format_args!("<!{}>", field("range"))),
                "emoji" => push(text, format_args!(":{}:", field("name"))),
                kind => {
                    for name in ["text", "title", "fields", "elements"] {
                        if let Some(inner) = fields.get(name).filter(|inner| !inner.is_string()) {
                            gather(inner, text);
                        }
                    }
                    // These stand on lines of their own.
                    let is_line = kind.starts_with("rich_text_") || matches!(kind, "section" | "header" | "context");
                    if is_line && !text.is_empty() && !text.ends_with('\n') {
                        text.push('\n');
                    }
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct KnownNames;

    impl SlackNames for KnownNames {
        fn user(&self, id: &str) -> (i64, String) {
            (i64::from(id == "U1"), id.to_owned())
        }
        fn channel(&self, id: &str) -> Option<String> {
            (id == "C1").then(|| "general".to_owned())
        }
    }

    #[test]
    fn markup_becomes_ours() {
        for (given, ours) in [
            ("a &amp;lt; &lt;b&gt; &amp;", "a &lt; <b> &"),
            ("hi <@U1>, <@U2|bob>!", "hi \x02, \x02!"),
            ("<!here> <!channel> <!everyone|everyone>", "@here @room @room"),
            ("<!subteam^S1|@team> <!subteam^S1> <!date^1700^{date}|14 Nov>", "@team @subteam 14 Nov"),
            ("<#C1|general> <#C1> <#C9|>", "#general #general #C9"),
            ("<https://example.org/?a=1&amp;b=2>", "https://example.org/?a=1&b=2"),
            ("<https://example.org|the &lt;page&gt;>", "[the <page>](https://example.org)"),
            ("<https://example.org/|example.org>", "https://example.org/"),
            ("<mailto:a@example.org|a@example.org>", "a@example.org"),
            ("*bold* _it_ ~no~ *a b*.", "**bold** *it* ~~no~~ **a b**."),
            ("2 * 3 * 4, snake_case_name, a*b*c, **x**", "2 * 3 * 4, snake_case_name, a*b*c, **x**"),
            ("*_both_*", "***both***"),
            ("*<https://a.example/b*c|x>*", "**[x](https://a.example/b*c)**"),
            ("`*a* &lt; <http://x.example>`", "`*a* < http://x.example`"),
            ("```\n*a* <@U1>\n``` *b*", "```\n*a* @U1\n``` **b**"),
            ("1 < 2, <> < a>", "1 < 2, <> < a>"),
            ("*open", "*open"),
            ("&gt; quoted\n*é*", "> quoted\n**é**"),
        ] {
            assert_eq!(written(given, &KnownNames).content, ours, "{given}");
        }
        assert_eq!(written("<@U1> <@U2|bob>", &KnownNames).mentions, ["1/U1", "0/bob"]);
    }

    #[test]
    fn hostile_markup_takes_linear_time() {
        for text in ["*a ".repeat(300_000), "<".repeat(1_000_000), "`".repeat(1_000_000), "<@".repeat(300_000)] {
            assert!(written(&text, &KnownNames).content.len() >= text.len() / 2);
        }
    }

    #[test]
    fn blocks_become_text() {
        let blocks = json!([
            {"type": "header", "text": {"type": "plain_text", "text": "Alert & more"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "*disk* is full"}},
            {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [
                {"type": "text", "text": "ask "}, {"type": "user", "user_id": "U1"}, {"type": "emoji", "name": "wave"},
                {"type": "link", "url": "https://a.example"}]}]}]);
        let text = of_blocks(&blocks);
        assert_eq!(text, "Alert &amp; more\n*disk* is full\nask <@U1>:wave:<https://a.example>");
    }
}
