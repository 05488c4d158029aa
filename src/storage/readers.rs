//! Reads: each for one user, through that user's row level security, in one pipelined transaction.

use super::read_connection::{Failure, Reader};
use super::{rows, sql};
use crate::error::{ErrorCode, NO_SUCH_CONVERSATION, Refusal};
use crate::faults::error_limited;
use crate::ids::{ConversationId, Seq, SessionId, UserId};
use crate::limits::{
    SEARCH_BY_INDEX_MS_MAX, SEARCH_RUN_MS_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX, WELCOME_HEADS_BYTES_MAX,
};
use crate::mesh::bot_grant::BotGrant;
use crate::mesh::frame::{Answer, LogPage, Query};
use crate::mesh::record::{ConversationHead, LogEntry, MessagePage, OpenedSession, Profile, UserRole, rfc3339};
use serde_json::{Value, json};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio_postgres::Row;

/// A user who does not exist: ids begin with 1.
pub const NOBODY: UserId = UserId(0);
const SEARCH: &str = "search_messages";

/// Reads that use every statement and the largest functions, for warming a connection up.
#[must_use]
pub fn of_each_kind() -> Vec<Query> {
    let lookup = |name, arguments| Query::Lookup { name, arguments };
    let mut queries = vec![
        Query::OpenSession {
            session: SessionId(0),
            bot_token: None,
            ticket: None,
            with_conversations: true,
            needs_factor: false,
        },
        Query::Conversations { cursor: 0, limit: 1 },
        lookup(SEARCH, json!({ "query": "\"a b\"", "limit": 1 })),
        lookup("get_thread", json!({ "message": 0, "limit": 1 })),
        lookup("list_threads", json!({ "limit": 1 })),
        lookup("list_mentions", json!({ "limit": 1 })),
    ];
    if let Some(conversation) = ConversationId::from_number(6) {
        queries.extend([
            Query::Heads(vec![conversation]),
            Query::Head(conversation),
            Query::Typing(conversation),
            Query::Log { conversation, after: Seq(0), limit: 1 },
            Query::HistoryAfter { conversation, after: Seq(0), limit: 1 },
            Query::HistoryBefore { conversation, before: Seq(1), limit: 1 },
            Query::Conversation(conversation),
            Query::Members { conversation, cursor: 0, limit: 1 },
        ]);
    }
    queries
}

/// Answers one read, on one connection.
///
/// # Errors
/// [`Failure`]; the caller decides whether to try again.
pub async fn answer(reader: &mut Reader, query: &Query) -> Result<Answer, Failure> {
    match query {
        Query::OpenSession { session, bot_token, ticket, with_conversations, needs_factor } => {
            let token = bot_token.as_ref().map(|hash| hash.as_slice());
            open_session(reader, (session.0, token), ticket.as_ref(), *with_conversations, *needs_factor).await
        }
        Query::ConversationOfMessage(message) => {
            let [found] = reader.transaction([(sql::CONVERSATION_OF_MESSAGE, &[&message.0])]).await?;
            Ok(located(&found)?)
        }
        Query::ConversationOfInvite(code) => {
            let [found] = reader.transaction([(sql::CONVERSATION_OF_INVITE, &[code])]).await?;
            Ok(located(&found)?)
        }
        Query::Lookup { name: SEARCH, arguments } => search(reader, arguments).await,
        Query::Lookup { name, arguments } => look_up(reader, name, arguments).await,
        Query::Heads(conversations) => {
            let numbers: Vec<i64> = conversations.iter().map(|c| c.number()).collect();
            let [found] = reader.transaction([(sql::HEADS, &[&numbers])]).await?;
            Ok(heads(&found)?)
        }
        Query::Head(conversation) => {
            let number = conversation.number();
            let numbers = [number];
            let [access, found] =
                reader.transaction([(sql::ACCESS, &[&number]), (sql::HEADS, &[&numbers.as_slice()])]).await?;
            permit(&access)?;
            Ok(heads(&found)?)
        }
        Query::Typing(conversation) => {
            let arguments = json!({ "conversation": conversation.number() });
            look_up(reader, "typing", &arguments).await
        }
        Query::Log { conversation, after, limit } => log(reader, *conversation, *after, *limit).await,
        Query::HistoryAfter { conversation, after, limit } => {
            let mut messages = page(reader, sql::MESSAGES_AFTER, *conversation, *after, *limit).await?;
            let has_more = truncate(&mut messages, *limit);
            Ok(Answer::Page(Box::new(MessagePage { messages, has_more })))
        }
        Query::HistoryBefore { conversation, before, limit } => {
            let mut messages = page(reader, sql::MESSAGES_BEFORE, *conversation, *before, *limit).await?;
            let has_more = truncate(&mut messages, *limit);
            messages.reverse();
            Ok(Answer::Page(Box::new(MessagePage { messages, has_more })))
        }
        Query::HistoryAround { conversation, message, limit } => {
            let number = conversation.number();
            let [access, found] =
                reader.transaction([(sql::ACCESS, &[&number]), (sql::SEQ_OF_MESSAGE, &[&number, &message.0])]).await?;
            permit(&access)?;
            let seq =
                found.first().map(|row| row.try_get::<_, i64>(0)).transpose().map_err(|e| rows::unreadable(&e))?;
            let Some(seq) = seq else {
                let message = "data.around_message_id: There is no such message in this conversation.";
                return Err(Refusal::new(ErrorCode::NotFound, message).into());
            };
            let older = limit / 2;
            let mut before = page(reader, sql::MESSAGES_BEFORE, *conversation, Seq(seq), older).await?;
            let more_before = truncate(&mut before, older);
            before.reverse();
            let newer = limit - before.len() as i64;
            let mut after = page(reader, sql::MESSAGES_AFTER, *conversation, Seq(seq - 1), newer).await?;
            let more_after = truncate(&mut after, newer);
            before.append(&mut after);
            Ok(Answer::Page(Box::new(MessagePage { messages: before, has_more: more_before || more_after })))
        }
        Query::Conversations { cursor, limit } => {
            let [found] = reader.transaction([(sql::LIST_CONVERSATIONS, &[cursor, &(limit + 1)])]).await?;
            Ok(list(&found, "conversations", *limit)?)
        }
        Query::Conversation(conversation) => {
            let number = conversation.number();
            let [access, found] =
                reader.transaction([(sql::ACCESS, &[&number]), (sql::GET_CONVERSATION, &[&number])]).await?;
            match found.first() {
                Some(row) => {
                    let conversation: Value = row.try_get(0).map_err(|e| rows::unreadable(&e))?;
                    Ok(Answer::Data(Box::new(json!({ "conversation": conversation }))))
                }
                None => Ok(permit(&access).and(Err(not_found()))?),
            }
        }
        Query::Members { conversation, cursor, limit } => {
            let number = conversation.number();
            let [access, found] = reader
                .transaction([(sql::ACCESS, &[&number]), (sql::LIST_MEMBERS, &[&number, cursor, &(limit + 1)])])
                .await?;
            permit(&access)?;
            Ok(list(&found, "members", *limit)?)
        }
    }
}

/// `read_<name>` in PostgreSQL.
async fn look_up(reader: &mut Reader, name: &'static str, arguments: &Value) -> Result<Answer, Failure> {
    let [found] = reader.transaction([(sql::LOOK_UP, &[&name, arguments])]).await?;
    let row = found.first().ok_or_else(not_found)?;
    Ok(Answer::Data(Box::new(row.try_get(0).map_err(|e| rows::unreadable(&e))?)))
}

/// A search. Nobody knows before how long the inverted indexes take, so they have a limit. Without them the search
/// compares a bounded number of messages and then ends its page, which can be short or empty and has a cursor.
async fn search(reader: &mut Reader, arguments: &Value) -> Result<Answer, Failure> {
    reader.limit_statements(SEARCH_BY_INDEX_MS_MAX);
    match look_up(reader, SEARCH, arguments).await {
        Err(Failure::OutOfTime) => {
            reader.limit_statements(SEARCH_RUN_MS_MAX);
            let mut without_indexes = arguments.clone();
            if let Value::Object(given) = &mut without_indexes {
                given.insert("by_index".to_owned(), Value::Bool(false));
            }
            look_up(reader, SEARCH, &without_indexes).await
        }
        answer => answer,
    }
}

fn heads(found: &[Row]) -> Result<Answer, Refusal> {
    let heads = found.iter().map(|row| {
        let read = || Ok::<(i64, i64), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
        let (number, seq) = read().map_err(|e| rows::unreadable(&e))?;
        Ok((rows::conversation(number)?, Seq(seq)))
    });
    Ok(Answer::Heads(heads.collect::<Result<_, Refusal>>()?))
}

fn located(found: &[Row]) -> Result<Answer, Refusal> {
    let number =
        found.first().map(|row| row.try_get::<_, Option<i64>>(0)).transpose().map_err(|e| rows::unreadable(&e))?;
    Ok(Answer::Located(number.flatten().map(rows::conversation).transpose()?))
}

fn not_found() -> Refusal {
    Refusal::new(ErrorCode::NotFound, NO_SUCH_CONVERSATION)
}

/// Refuses unless the row of `sql::ACCESS` says that the user is a member.
fn permit(access: &[Row]) -> Result<(), Refusal> {
    match access.first().map(|row| row.try_get::<_, &str>(0)) {
        Some(Ok("member")) => Ok(()),
        Some(Ok("not_member")) => {
            Err(Refusal::new(ErrorCode::NotMember, "You are not a member of this conversation. Join it first."))
        }
        Some(Err(error)) => Err(rows::unreadable(&error)),
        Some(Ok(_)) | None => Err(not_found()),
    }
}

/// The queries ask for one message more than the page has, which shows whether there are more.
fn truncate<T>(rows: &mut Vec<T>, limit: i64) -> bool {
    let more = rows.len() as i64 > limit;
    rows.truncate(limit.max(0) as usize);
    more
}

async fn page(
    reader: &mut Reader,
    statement: &'static str,
    conversation: ConversationId,
    seq: Seq,
    limit: i64,
) -> Result<Vec<crate::mesh::record::MessageRecord>, Failure> {
    let number = conversation.number();
    let [access, found] =
        reader.transaction([(sql::ACCESS, &[&number]), (statement, &[&number, &seq.0, &(limit + 1)])]).await?;
    permit(&access)?;
    Ok(found.iter().map(rows::message).collect::<Result<_, Refusal>>()?)
}

/// Merges the two halves of the change log and cuts at the first gap, which can only be the page's end.
async fn log(reader: &mut Reader, conversation: ConversationId, after: Seq, limit: i64) -> Result<Answer, Failure> {
    let number = conversation.number();
    let [access, messages, events] = reader
        .transaction([
            (sql::ACCESS, &[&number]),
            (sql::MESSAGES_AFTER, &[&number, &after.0, &limit]),
            (sql::EVENTS_AFTER, &[&number, &after.0, &limit]),
        ])
        .await?;
    permit(&access)?;
    let mut entries = Vec::with_capacity(messages.len() + events.len());
    for row in &messages {
        entries.push(LogEntry::Message(Box::new(rows::message(row)?)));
    }
    for row in &events {
        entries.push(LogEntry::Event(rows::event(row)?));
    }
    entries.sort_unstable_by_key(LogEntry::seq);
    let found = entries.len();
    let complete = (found as i64) < limit;
    entries.truncate(limit.max(0) as usize);
    let contiguous = entries.iter().scan(after, |last, entry| {
        *last = last.next();
        Some(*last == entry.seq())
    });
    let kept = contiguous.take_while(|fits| *fits).count();
    if kept < entries.len() {
        error_limited!("the change log of {conversation} has a gap after seq {}", after.0 + kept as i64);
        let message = "The conversation's log is damaged. The server's log has the details.";
        return Err(Refusal::new(ErrorCode::Internal, message).into());
    }
    Ok(Answer::Log(Box::new(LogPage { entries, complete })))
}

/// Rows of (number, JSON): a page with the cursor of the next one.
fn list(found: &[Row], name: &str, limit: i64) -> Result<Answer, Refusal> {
    let mut values = Vec::with_capacity(found.len());
    let mut last = 0i64;
    for row in found.iter().take(limit.max(0) as usize) {
        let read = || Ok::<(i64, Value), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
        let (number, value) = read().map_err(|e| rows::unreadable(&e))?;
        last = number;
        values.push(value);
    }
    let mut data = serde_json::Map::new();
    data.insert(name.to_owned(), Value::Array(values));
    if found.len() as i64 > limit {
        data.insert("next_cursor".to_owned(), Value::from(last));
    }
    Ok(Answer::Data(Box::new(Value::Object(data))))
}

async fn open_session(
    reader: &mut Reader,
    (session, bot_token): (i64, Option<&[u8]>),
    ticket: Option<&(String, i64)>,
    with_conversations: bool,
    needs_factor: bool,
) -> Result<Answer, Failure> {
    // One more than a connection can subscribe to, which shows that there are more.
    let limit = if with_conversations { SUBSCRIPTIONS_PER_CONNECTION_MAX as i64 } else { 0 };
    let most = limit + i64::from(with_conversations);
    if let Some((id, expires)) = ticket {
        let used = || {
            Refusal::new(
                ErrorCode::Unauthenticated,
                "This ticket was used already. Get a new one from POST /ws-ticket.",
            )
        };
        match reader.transaction([(sql::SPEND_TICKET, &[id, expires])]).await {
            Ok([spent]) if spent.is_empty() => return Err(used().into()),
            Err(Failure::Refused(refusal)) if refusal.code == ErrorCode::Conflict => return Err(used().into()),
            outcome => drop(outcome?),
        }
    }
    if let Some(hash) = &bot_token {
        // The time is for its owner only: an error here is one of the look-up below, too, or none that matters.
        drop(reader.transaction([(sql::NOTE_BOT_TOKEN, &[hash])]).await);
    }
    let [profile, conversations] = reader
        .transaction([(sql::OPEN_SESSION, &[&session, &bot_token]), (sql::WELCOME_CONVERSATIONS, &[&most])])
        .await?;
    let Some(row) = profile.first() else {
        return Err(Refusal::new(ErrorCode::Unauthenticated, "The session has ended. Sign in again.").into());
    };
    let token = opened_token(row).map_err(|e| rows::unreadable(&e))?;
    if needs_factor && token.grant.is_none() && !row.try_get::<_, bool>(6).map_err(|e| rows::unreadable(&e))? {
        return Err(Refusal::two_factor_required().into());
    }
    let read_profile = || -> Result<Profile, tokio_postgres::Error> {
        Ok(Profile {
            id: UserId(row.try_get(0)?),
            username: row.try_get(1)?,
            display_name: row.try_get(2)?,
            avatar_url: row.try_get(3)?,
            bio: row.try_get(4)?,
            created_at: rfc3339(row.try_get(5)?),
            role: UserRole::of(row.try_get(8)?),
        })
    };
    let head = |row: &Row| -> Result<ConversationHead, Refusal> {
        let number = row.try_get(0).map_err(|e| rows::unreadable(&e))?;
        let id = rows::conversation(number)?;
        let read = || -> Result<ConversationHead, tokio_postgres::Error> {
            Ok(ConversationHead {
                id,
                kind: row.try_get(1)?,
                name: row.try_get(2)?,
                last_seq: Seq(row.try_get(3)?),
                read_seq: Seq(row.try_get(4)?),
                role: row.try_get(5)?,
            })
        };
        read().map_err(|e| rows::unreadable(&e))
    };
    let mut listed = conversations.iter().map(head).collect::<Result<Vec<_>, _>>()?;
    let has_more = bound_heads(&mut listed, limit as usize);
    let created_at: OffsetDateTime = row.try_get(5).map_err(|e| rows::unreadable(&e))?;
    Ok(Answer::Session(Box::new(OpenedSession {
        user_created_at: created_at.unix_timestamp(),
        profile: read_profile().map_err(|e| rows::unreadable(&e))?,
        session: SessionId(row.try_get(7).map_err(|e| rows::unreadable(&e))?),
        grant: token.grant,
        expires_seconds: token.expires_seconds,
        conversations: listed,
        has_more_conversations: has_more,
    })))
}

/// What belongs to the session of a bot only.
#[derive(Default)]
struct OpenedToken {
    grant: Option<Arc<BotGrant>>,
    expires_seconds: Option<i64>,
}

fn opened_token(row: &Row) -> Result<OpenedToken, tokio_postgres::Error> {
    let scopes: Option<Vec<String>> = row.try_get(9)?;
    let Some(scopes) = scopes else { return Ok(OpenedToken::default()) };
    let conversations: Vec<i64> = row.try_get(10)?;
    let conversations = conversations.into_iter().filter_map(ConversationId::from_number).collect();
    let grant = Some(Arc::new(BotGrant::new(&scopes, conversations)));
    Ok(OpenedToken { grant, expires_seconds: row.try_get(11)? })
}

/// Counts what is written to it.
struct ByteCount(usize);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Cuts the heads to what one `welcome` carries: `most` of them, and [`WELCOME_HEADS_BYTES_MAX`]. Returns whether any
/// were cut off.
fn bound_heads(heads: &mut Vec<ConversationHead>, most: usize) -> bool {
    let mut bytes = ByteCount(0);
    let fitting = heads.iter().take_while(|head| {
        let written = serde_json::to_writer(&mut bytes, head);
        bytes.0 += 1; // the comma
        written.is_ok() && bytes.0 < WELCOME_HEADS_BYTES_MAX
    });
    let kept = fitting.count().min(most);
    let has_more = kept < heads.len();
    heads.truncate(kept);
    has_more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_carries_the_newest_heads_that_fit() {
        let head = |name: String| ConversationHead {
            id: ConversationId::from_number(9_007_199_254_740_986).unwrap(),
            kind: "private_room".to_owned(),
            name: Some(name),
            last_seq: Seq(crate::ids::MAX_SAFE_INTEGER),
            read_seq: Seq(crate::ids::MAX_SAFE_INTEGER),
            role: "moderator".to_owned(),
        };
        let bytes = |heads: &[ConversationHead]| serde_json::to_string(heads).unwrap().len();
        let most = SUBSCRIPTIONS_PER_CONNECTION_MAX;
        for (name, given, fewest, has_more) in [
            ("a room".to_owned(), 3, 3, false),
            ("a room".to_owned(), most + 1, most, true),
            ("🌳".repeat(100), 1_000, 1_000, false),
            ("🌳".repeat(100), most, 2_500, true),
            ("\u{1b}".repeat(100), most, 2_000, true),
        ] {
            let mut heads = vec![head(name.clone()); given];
            assert_eq!(bound_heads(&mut heads, most), has_more, "{given} of {name:?}");
            assert!((fewest..=most).contains(&heads.len()), "{given} of {name:?}: {} heads", heads.len());
            assert!(bytes(&heads) <= WELCOME_HEADS_BYTES_MAX, "{given} of {name:?}: {} bytes", bytes(&heads));
        }
    }
}
