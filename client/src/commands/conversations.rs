//! `list`, `rooms`, `create`, `join`, `invitations`, `accept`, `decline`, `leave`, `members`, `read`.

use super::names;
use super::pages::all_pages;
use crate::cli::Create;
use crate::failure::{Failure, Refusal};
use crate::output::{self, Output};
use crate::render::{name, table, when};
use crate::retry;
use crate::session::Session;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a read marker waits for its rate limit.
const MARK_PATIENCE: Duration = Duration::from_secs(15);

/// Lists the user's conversations.
pub async fn list_mine(session: &Session, output: Output) -> Result<(), Failure> {
    let rows = all_pages(session, "list_conversations", "conversations", json!({})).await?;
    let headings = ["ID", "NAME", "KIND", "UNREAD", "MENTIONS", "LAST MESSAGE"];
    print(output, &rows, &headings, "no conversations yet; start with: veza create NAME, or veza join ROOM", |c| {
        let cells = [&c["id"], &c["name"], &c["kind"], &c["unread_count"], &c["mention_count"]];
        cells.into_iter().map(name).chain([when(&c["last_message_at"])]).collect()
    })
}

/// Lists public rooms.
pub async fn rooms(session: &Session, output: Output, query: Option<&str>) -> Result<(), Failure> {
    let data = query.map_or_else(|| json!({}), |query| json!({ "query": query }));
    let rows = all_pages(session, "list_public_rooms", "conversations", data).await.map_err(no_list)?;
    let headings = ["ID", "NAME", "MEMBERS", "DESCRIPTION"];
    print(output, &rows, &headings, "no public rooms", |room| {
        [&room["id"], &room["name"], &room["member_count"], &room["description"]].map(name).to_vec()
    })
}

/// Creates a conversation.
pub async fn create(session: &Session, output: Output, options: Create) -> Result<(), Failure> {
    let data = if let Some(user) = &options.direct {
        json!({ "kind": "direct", "member_ids": [names::user(session, user).await?] })
    } else {
        let mut members = Vec::new();
        for user in &options.member {
            members.push(names::user(session, user).await?);
        }
        let kind = options.kind.as_str();
        let mut data = json!({ "kind": kind, "name": options.name, "member_ids": members });
        if let Some(description) = options.description {
            data["description"] = description.into();
        }
        data
    };
    let answer = session.command("create_conversation", data).await?;
    let conversation = &answer["conversation"];
    output.result(conversation, || name(&conversation["id"]))
}

/// Joins a public room.
pub async fn join(session: &Session, output: Output, text: &str) -> Result<(), Failure> {
    let id = names::public_room(session, text).await.map_err(no_list)?;
    let answer = session.command("join_conversation", json!({ "conversation_id": id })).await?;
    let conversation = &answer["conversation"];
    output.result(conversation, || format!("joined {} ({})", name(&conversation["name"]), name(&conversation["id"])))
}

/// Lists the user's open invitations.
pub async fn invitations(session: &Session, output: Output) -> Result<(), Failure> {
    let answer = session.command("list_invitations", json!({})).await?;
    let rows = answer["invitations"].as_array().cloned().unwrap_or_default();
    print(output, &rows, &["ID", "NAME", "KIND", "FROM", "SINCE"], "no open invitations", |invitation| {
        let cells = [&invitation["conversation_id"], &invitation["name"], &invitation["kind"]];
        let from = [&invitation["invited_by"]["username"]];
        cells.into_iter().chain(from).map(name).chain([when(&invitation["created_at"])]).collect()
    })
}

/// Accepts an invitation.
pub async fn accept(session: &Session, output: Output, id: &str) -> Result<(), Failure> {
    let answer = session.command("accept_invitation", json!({ "conversation_id": id })).await?;
    let conversation = &answer["conversation"];
    output.result(conversation, || format!("joined {} ({})", name(&conversation["name"]), name(&conversation["id"])))
}

/// Declines an invitation.
pub async fn decline(session: &Session, output: Output, id: &str) -> Result<(), Failure> {
    let answer = session.command("decline_invitation", json!({ "conversation_id": id })).await?;
    output.result(&answer, || format!("declined {id}"))
}

/// Leaves a conversation.
pub async fn leave(session: &Session, output: Output, text: &str) -> Result<(), Failure> {
    let id = names::conversation(session, text).await?;
    let answer = session.command("leave_conversation", json!({ "conversation_id": id })).await?;
    let conversation = &answer["conversation"];
    output.result(conversation, || format!("left {} ({id})", name(&conversation["name"])))
}

/// Lists the members.
pub async fn members(session: &Session, output: Output, text: &str) -> Result<(), Failure> {
    let id = names::conversation(session, text).await?;
    let rows = all_pages(session, "list_members", "members", json!({ "conversation_id": id })).await?;
    print(output, &rows, &["USER", "USERNAME", "NAME", "ROLE", "SINCE"], "no members", |member| {
        let cells = [&member["id"], &member["username"], &member["display_name"], &member["role"]];
        let mut cells: Vec<String> = cells.into_iter().map(name).chain([when(&member["joined_at"])]).collect();
        if member["bot"] == true {
            cells[3].push_str(" BOT");
        }
        cells
    })
}

/// Marks the conversation as read.
pub async fn read(session: &Session, output: Output, text: &str) -> Result<(), Failure> {
    let id = names::conversation(session, text).await?;
    let answer = session.command("get_conversation", json!({ "conversation_id": id })).await?;
    let seq = &answer["conversation"]["last_seq"];
    let data = json!({ "conversation_id": id, "seq": seq });
    let mark = async || session.command("mark_read", data.clone()).await;
    let ack = retry::insist_while(retry::transient_or_limited, MARK_PATIENCE, mark, |_, _| {}).await?;
    output.result(&ack, || format!("read up to {}", name(&ack["read_seq"])))
}

pub(super) fn print(
    output: Output,
    rows: &[Value],
    headings: &[&str],
    none: &str,
    cells: impl Fn(&Value) -> Vec<String>,
) -> Result<(), Failure> {
    if output.is_json() {
        return rows.iter().try_for_each(|row| output.result(row, String::new));
    }
    if rows.is_empty() {
        output.note(none);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    output::print(&table(output.paint(), headings, &rows))
}

/// Older servers have no list of public rooms.
fn no_list(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(Refusal { code, .. }) if code == "unknown_command" => {
            let message =
                "this server has no list of public rooms; ask a member for the room's id, then: veza join room_N";
            Failure::Refused(Refusal { code, message: message.to_owned(), ..Refusal::default() })
        }
        other => other,
    }
}
