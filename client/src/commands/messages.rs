//! `send`, `history`, `edit`, `delete`, `react`, `pin`, `search`, `command`.

use super::slash::{self, Meant};
use super::{files, names};
use crate::cli::{History, Search, Send};
use crate::failure::Failure;
use crate::output::{Output, print};
use crate::render::{Transcript, list, name};
use crate::retry;
use crate::session::Session;
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};
use std::time::Duration;

/// Most messages in one answer of `get_history`.
const PAGE: i64 = 200;
/// More than any server accepts; ends an endless input.
const STDIN_BYTES_MAX: u64 = 1024 * 1024;
/// The server marks the matches of a search with these.
const MATCH: [char; 2] = ['\u{e000}', '\u{e001}'];

/// Sends a message. Retries use the same key, so it is stored once.
pub async fn send(session: &Session, output: Output, options: Send) -> Result<(), Failure> {
    let has_files = !options.file.is_empty();
    let content =
        if has_files && options.text.is_empty() { String::new() } else { text_or_stdin(output, &options.text)? };
    let patience = Duration::from_secs(options.retry_for);
    let notice = |failure: &Failure, wait: Duration| {
        output.note(&format!("{failure}; trying again in {:.1} s", wait.as_secs_f64()));
    };
    let conversation =
        retry::insist(patience, async || names::conversation(session, &options.conversation).await, notice).await?;
    // Standard input is never a command: programs write there.
    let is_typed = !has_files && !options.text.is_empty() && options.text != ["-"];
    let content = match slash::parse(&content) {
        Meant::Command(command, text) if is_typed => {
            return slash::run(session, output, (&conversation, options.reply_to), (command, text)).await;
        }
        Meant::Message(text) if is_typed => text.to_owned(),
        Meant::Command(..) | Meant::Message(_) => content,
    };
    let key = options.key.unwrap_or_else(|| format!("veza-{:032x}", rand::random::<u128>()));
    let mut data = json!({ "conversation_id": conversation, "content": content, "client_message_id": key });
    let uploaded = files::upload_all(session, output, &conversation, &options.file, patience).await?;
    if has_files {
        data["attachments"] = uploaded.iter().map(|(id, _)| *id).collect();
    }
    if let Some(parent) = options.reply_to {
        data["parent_message_id"] = parent.into();
    }
    let ack = retry::insist(patience, async || session.command("send_message", data.clone()).await, notice).await?;
    for (_, key) in &uploaded {
        session.profile().forget_upload(key);
    }
    output.result(&ack, || {
        let before = if ack["duplicate"] == true { "already sent: " } else { "sent: " };
        output.paint().dim(&format!("{before}{}", name(&ack["message_id"])))
    })
}

/// Shows messages, oldest first.
pub async fn history(session: &Session, output: Output, options: &History) -> Result<(), Failure> {
    let conversation = names::conversation(session, &options.conversation).await?;
    let mut transcript = Transcript::new(output.paint());
    let mut show = |message: &Value| output.result(message, || transcript.message(message));
    if !options.all {
        return newest(session, &conversation, options.before, options.limit).await?.iter().try_for_each(show);
    }
    let mut after = 0;
    loop {
        let query = json!({ "conversation_id": conversation, "after_seq": after, "limit": PAGE });
        let page = session.command("get_history", query).await?;
        for message in list(&page["messages"]) {
            let Some(seq) = message["seq"].as_i64().filter(|seq| options.before.is_none_or(|before| *seq < before))
            else {
                return Ok(());
            };
            show(message)?;
            after = seq;
        }
        if page["has_more"] != true || list(&page["messages"]).is_empty() {
            return Ok(());
        }
    }
}

/// Reads the newest `limit` messages before a seq, oldest first.
async fn newest(
    session: &Session,
    conversation: &str,
    mut before: Option<i64>,
    limit: i64,
) -> Result<Vec<Value>, Failure> {
    let mut pages = Vec::new();
    let mut missing = limit;
    while missing > 0 {
        let mut query = json!({ "conversation_id": conversation, "limit": missing.min(PAGE) });
        if let Some(before) = before {
            query["before_seq"] = before.into();
        }
        let page = session.command("get_history", query).await?;
        let messages = list(&page["messages"]).to_vec();
        before = messages.first().and_then(|message| message["seq"].as_i64());
        missing -= messages.len() as i64;
        pages.push(messages);
        if page["has_more"] != true || before.is_none() {
            break;
        }
    }
    Ok(pages.into_iter().rev().flatten().collect())
}

/// Edits a message.
pub async fn edit(session: &Session, output: Output, message_id: i64, arguments: &[String]) -> Result<(), Failure> {
    let content = text_or_stdin(output, arguments)?;
    let ack = session.command("edit_message", json!({ "message_id": message_id, "content": content })).await?;
    output.result(&ack, || output.paint().dim(&format!("edited: {message_id}")))
}

/// Deletes a message.
pub async fn delete(session: &Session, output: Output, message_id: i64) -> Result<(), Failure> {
    let ack = session.command("delete_message", json!({ "message_id": message_id })).await?;
    output.result(&ack, || output.paint().dim(&format!("deleted: {message_id}")))
}

/// Adds or removes a reaction.
pub async fn react(
    session: &Session,
    output: Output,
    message_id: i64,
    emoji: &str,
    remove: bool,
) -> Result<(), Failure> {
    let kind = if remove { "remove_reaction" } else { "add_reaction" };
    let ack = session.command(kind, json!({ "message_id": message_id, "emoji": emoji })).await?;
    output.result(&ack, || format!("{} {}", name(&ack["emoji"]), name(&ack["count"])))
}

/// Pins or unpins a message.
pub async fn pin(session: &Session, output: Output, message_id: i64, pinned: bool) -> Result<(), Failure> {
    let ack = session.command("pin_message", json!({ "message_id": message_id, "pinned": pinned })).await?;
    let word = if pinned { "pinned" } else { "unpinned" };
    output.result(&ack, || output.paint().dim(&format!("{word}: {message_id}")))
}

/// Answers of the server that one search asks for. Each can be short: the server ends it when it has compared enough
/// messages.
const SEARCH_PAGES_MAX: usize = 50;

/// Searches messages; the results are in the server's order, newest first.
pub async fn search(session: &Session, output: Output, options: &Search) -> Result<(), Failure> {
    let mut data = json!({ "query": options.query, "limit": options.limit });
    if let Some(conversation) = &options.conversation {
        data["conversation_id"] = names::conversation(session, conversation).await?.into();
    }
    if let Some(user) = &options.from {
        data["from_user_id"] = names::user(session, user).await?.into();
    }
    let (mut found, mut cursor) = (Vec::new(), Value::Null);
    for _ in 0..SEARCH_PAGES_MAX {
        if !cursor.is_null() {
            data["cursor"] = cursor;
        }
        data["limit"] = json!(options.limit - found.len() as i64);
        let answer = session.command("search_messages", data.clone()).await?;
        found.extend(list(&answer["messages"]).iter().cloned());
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() || found.len() as i64 >= options.limit {
            break;
        }
    }
    if found.is_empty() && !output.is_json() {
        output.note(if cursor.is_null() { "nothing found" } else { "nothing found in the newest messages" });
    }
    let paint = output.paint();
    let mut transcript = Transcript::new(paint);
    found.iter().try_for_each(|message| {
        output.result(message, || {
            let text = message["highlight"].as_str().or(message["content"].as_str()).unwrap_or_default();
            let line = transcript.message_with(message, text);
            // Colours come last: earlier, their escape sequences would be sanitized like those of other people.
            let line = highlighted(&line, |text| paint.bold(text));
            format!("{line} {}", paint.dim(&name(&message["conversation_id"])))
        })
    })
}

/// Sends any command and prints its answer as JSON.
pub async fn raw(session: &Session, kind: &str, data: &str) -> Result<(), Failure> {
    let data = if data == "-" { stdin()? } else { data.to_owned() };
    let data: Value =
        serde_json::from_str(&data).map_err(|error| Failure::Usage(format!("the data is not JSON: {error}")))?;
    let answer = session.command(kind, data).await?;
    print(&crate::text::json(&answer))
}

/// Applies `paint` to the text between the marks of a match, and removes the marks.
fn highlighted(line: &str, paint: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(MATCH[0]) {
        out.push_str(before);
        let (matched, after) = after.split_once(MATCH[1]).unwrap_or((after, ""));
        out.push_str(&paint(matched));
        rest = after;
    }
    out.push_str(rest);
    out.replace(MATCH, "")
}

fn text_or_stdin(output: Output, arguments: &[String]) -> Result<String, Failure> {
    let given = match arguments {
        [] => stdin_of(output)?,
        [dash] if dash == "-" => stdin_of(output)?,
        words => words.join(" "),
    };
    let text = given.strip_suffix('\n').unwrap_or(&given);
    if text.trim().is_empty() {
        return Err(Failure::Usage("the text is empty".to_owned()));
    }
    Ok(text.to_owned())
}

fn stdin_of(output: Output) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        output.note("type the text, then Ctrl-D:");
    }
    stdin()
}

fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(STDIN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::Usage(format!("standard input: {error}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highlights_matches_and_removes_the_marks() {
        let mark = |text: &str| format!("<{text}>");
        assert_eq!(highlighted("a \u{e000}b\u{e001} c \u{e000}d\u{e001}", mark), "a <b> c <d>");
        assert_eq!(highlighted("\u{e001}a \u{e000}b", mark), "a <b>");
        assert_eq!(highlighted("plain", mark), "plain");
    }
}
