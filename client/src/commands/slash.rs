//! Slash commands of bots: `bot-commands`, and what `send` does with a text that begins with `/`.

use super::conversations::print;
use super::names;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::{list, name};
use crate::session::Session;
use crate::text;
use reqwest::Method;
use serde_json::{Value, json};

/// What a text means.
#[derive(PartialEq, Eq, Debug)]
pub enum Meant<'a> {
    /// A message with this text.
    Message(&'a str),
    /// A command of a bot, and what follows its name.
    Command(&'a str, &'a str),
}

/// `//x` is the message `/x`, and a path such as `/etc/hosts` is a message too.
pub fn parse(content: &str) -> Meant<'_> {
    let Some(rest) = content.strip_prefix('/') else { return Meant::Message(content) };
    if rest.starts_with('/') {
        return Meant::Message(rest);
    }
    let (command, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (name, bot) = command.split_once('@').map_or((command, None), |(name, bot)| (name, Some(bot)));
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let is_bot = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let fits = (1..=32).contains(&name.len()) && name.chars().all(is_name);
    if fits && bot.is_none_or(|bot| (3..=50).contains(&bot.len()) && bot.chars().all(is_bot)) {
        Meant::Command(command, text.trim_start())
    } else {
        Meant::Message(content)
    }
}

/// Runs a command, and prints a private answer. A public one is a message of the bot.
pub async fn run(
    session: &Session,
    output: Output,
    (conversation, parent): (&str, Option<i64>),
    (command, text): (&str, &str),
) -> Result<(), Failure> {
    let mut data = json!({ "conversation_id": conversation, "command": command, "text": text });
    if let Some(parent) = parent {
        data["parent_message_id"] = parent.into();
    }
    let ack = session.command("run_command", data).await?;
    output.result(&ack, || match ack["content"].as_str() {
        Some(content) => text::lines(content).join("\n"),
        None => output.paint().dim(&format!("answered: {}", name(&ack["message_id"]))),
    })
}

/// Lists the commands of a conversation.
pub async fn commands(session: &Session, output: Output, text: &str) -> Result<(), Failure> {
    let id = names::conversation(session, text).await?;
    let answer = session.request(Method::GET, &format!("/conversations/{id}/commands"), None).await?;
    let rows: Vec<Value> = list(&answer["commands"]).to_vec();
    print(output, &rows, &["COMMAND", "BOT", "DESCRIPTION"], "no commands", |command| {
        let usage = command["usage"].as_str().map(|usage| format!(" {}", text::line(usage))).unwrap_or_default();
        vec![
            format!("/{}{usage}", name(&command["name"])),
            name(&command["bot"]["username"]),
            name(&command["description"]),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_begins_a_command_and_two_a_message() {
        assert_eq!(parse("/weather  Lyon tomorrow"), Meant::Command("weather", "Lyon tomorrow"));
        assert_eq!(parse("/weather@sky"), Meant::Command("weather@sky", ""));
        assert_eq!(parse("//weather"), Meant::Message("/weather"));
        for text in ["/etc/hosts", "/", "/ x", "/Weather", "a /weather", "/é", "/x@b"] {
            assert_eq!(parse(text), Meant::Message(text));
        }
    }
}
