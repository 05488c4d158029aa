//! Reads: each for one user, through that user's row level security, in one pipelined transaction.

use super::{rows, sql};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, Seq, UserId};
use crate::limits::RESUME_CONVERSATIONS_MAX;
use crate::mesh::frame::{Answer, LogPage, Query, ReadRequest};
use crate::mesh::record::{ConversationHead, LogEntry, MessagePage, OpenedSession, Profile, rfc3339};
use deadpool_postgres::{Object, Pool};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Does one read. Every failure is a refusal in the answer.
pub async fn read(pool: &Pool, request: &ReadRequest) -> Answer {
    let deadline = tokio::time::Instant::from_std(request.deadline);
    match tokio::time::timeout_at(deadline, answer(pool, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(refusal)) => Answer::Refused(Box::new(refusal)),
        Err(_) => Answer::Refused(Box::new(Refusal::storage_unavailable())),
    }
}

/// A connection that is given back to the pool only when its transaction is known to have ended.
struct Reader {
    connection: Option<Object>,
    user: String,
}

impl Reader {
    async fn new(pool: &Pool, user: UserId) -> Result<Self, Refusal> {
        let connection = pool.get().await.map_err(|error| {
            tracing::warn!("no connection to PostgreSQL for reading: {error}");
            Refusal::storage_unavailable()
        })?;
        Ok(Self { connection: Some(connection), user: user.0.to_string() })
    }

    /// BEGIN, who reads, the statements, COMMIT: sent together, answered together.
    async fn transaction<const N: usize>(
        &mut self,
        statements: [(&'static str, Parameters<'_>); N],
    ) -> Result<[Vec<Row>; N], Refusal> {
        // Out of `self` while statements are in flight: if this future is dropped, so is the connection.
        let Some(connection) = self.connection.take() else { return Err(Refusal::storage_unavailable()) };
        let connection = Unfinished(Some(connection));
        let Some(client) = &connection.0 else { return Err(Refusal::storage_unavailable()) };
        let failed = |error: tokio_postgres::Error| {
            if let Some(db) = error.as_db_error().filter(|db| db.code().code() == rows::REFUSED) {
                rows::refusal(db)
            } else if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) {
                // The one statement here that writes is the spending of a ticket: somebody was faster.
                Refusal::new(ErrorCode::Conflict, "somebody else used this at the same moment")
            } else if error.as_db_error().is_some() {
                tracing::error!("a read failed in PostgreSQL: {error:?}");
                Refusal::new(ErrorCode::Internal, "the store failed on this read; the server's log has the details")
            } else {
                tracing::warn!("connection to PostgreSQL lost while reading: {error}");
                Refusal::storage_unavailable()
            }
        };
        let set_user = client.prepare_cached(sql::SET_USER).await.map_err(failed)?;
        let mut prepared = Vec::with_capacity(N);
        for (text, _) in &statements {
            prepared.push(client.prepare_cached(text).await.map_err(failed)?);
        }
        let user: [&(dyn ToSql + Sync); 1] = [&self.user];
        // `join_all` polls in order, and a statement is sent when it is first polled: they go out as written here.
        let reads =
            prepared.iter().zip(&statements).map(|(prepared, (_, parameters))| client.query(prepared, parameters));
        let (begun, set, rows, committed) = futures_util::join!(
            client.batch_execute(sql::BEGIN_READ),
            client.query(&set_user, &user),
            futures_util::future::join_all(reads),
            client.batch_execute(sql::COMMIT),
        );
        begun.map_err(failed)?;
        set.map_err(failed)?;
        let mut answers: [Vec<Row>; N] = std::array::from_fn(|_| Vec::new());
        for (answer, result) in answers.iter_mut().zip(rows) {
            *answer = result.map_err(failed)?;
        }
        committed.map_err(failed)?;
        self.connection = connection.finished();
        Ok(answers)
    }
}

/// A connection in the middle of a transaction. Dropped there (a deadline, an error), it is closed and not returned
/// to the pool, where the next read would wait for this one's statements.
struct Unfinished(Option<Object>);

impl Unfinished {
    fn finished(mut self) -> Option<Object> {
        self.0.take()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

async fn answer(pool: &Pool, request: &ReadRequest) -> Result<Answer, Refusal> {
    let mut reader = Reader::new(pool, request.user).await?;
    match &request.query {
        Query::OpenSession { session, ticket, with_conversations } => {
            open_session(&mut reader, session.0, ticket.as_ref(), *with_conversations).await
        }
        Query::ConversationOfMessage(message) => {
            let [found] = reader.transaction([(sql::CONVERSATION_OF_MESSAGE, &[&message.0])]).await?;
            located(&found)
        }
        Query::ConversationOfInvite(code) => {
            let [found] = reader.transaction([(sql::CONVERSATION_OF_INVITE, &[code])]).await?;
            located(&found)
        }
        Query::Lookup { name, arguments } => {
            let [found] = reader.transaction([(sql::LOOK_UP, &[name, arguments])]).await?;
            let row = found.first().ok_or_else(not_found)?;
            Ok(Answer::Data(Box::new(row.try_get(0).map_err(|e| rows::unreadable(&e))?)))
        }
        Query::Heads(conversations) => {
            let numbers: Vec<i64> = conversations.iter().map(|c| c.number()).collect();
            let first = numbers.first().copied().unwrap_or(0);
            let [access, found] = reader.transaction([(sql::ACCESS, &[&first]), (sql::HEADS, &[&numbers])]).await?;
            if numbers.len() == 1 {
                permit(&access)?; // of several, the answer lists those that may be read
            }
            let heads = found.iter().map(|row| {
                let read = || Ok::<(i64, i64), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
                let (number, seq) = read().map_err(|e| rows::unreadable(&e))?;
                Ok((rows::conversation(number)?, Seq(seq)))
            });
            Ok(Answer::Heads(heads.collect::<Result<_, Refusal>>()?))
        }
        Query::Log { conversation, after, limit } => log(&mut reader, *conversation, *after, *limit).await,
        Query::HistoryAfter { conversation, after, limit } => {
            let mut messages = page(&mut reader, sql::MESSAGES_AFTER, *conversation, *after, *limit).await?;
            let has_more = truncate(&mut messages, *limit);
            Ok(Answer::Page(Box::new(MessagePage { messages, has_more })))
        }
        Query::HistoryBefore { conversation, before, limit } => {
            let mut messages = page(&mut reader, sql::MESSAGES_BEFORE, *conversation, *before, *limit).await?;
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
                return Err(Refusal::new(
                    ErrorCode::NotFound,
                    "data.around_message_id: there is no such message in this conversation",
                ));
            };
            let older = limit / 2;
            let mut before = page(&mut reader, sql::MESSAGES_BEFORE, *conversation, Seq(seq), older).await?;
            let more_before = truncate(&mut before, older);
            before.reverse();
            let newer = limit - before.len() as i64;
            let mut after = page(&mut reader, sql::MESSAGES_AFTER, *conversation, Seq(seq - 1), newer).await?;
            let more_after = truncate(&mut after, newer);
            before.append(&mut after);
            Ok(Answer::Page(Box::new(MessagePage { messages: before, has_more: more_before || more_after })))
        }
        Query::Conversations { cursor, limit } => {
            let [found] = reader.transaction([(sql::LIST_CONVERSATIONS, &[cursor, &(limit + 1)])]).await?;
            list(&found, "conversations", *limit)
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
                None => permit(&access).and(Err(not_found())),
            }
        }
        Query::Members { conversation, cursor, limit } => {
            let number = conversation.number();
            let [access, found] = reader
                .transaction([(sql::ACCESS, &[&number]), (sql::LIST_MEMBERS, &[&number, cursor, &(limit + 1)])])
                .await?;
            permit(&access)?;
            list(&found, "members", *limit)
        }
    }
}

fn located(found: &[Row]) -> Result<Answer, Refusal> {
    let number =
        found.first().map(|row| row.try_get::<_, Option<i64>>(0)).transpose().map_err(|e| rows::unreadable(&e))?;
    Ok(Answer::Located(number.flatten().map(rows::conversation).transpose()?))
}

fn not_found() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "data.conversation_id: no such conversation")
}

/// Refuses unless the row of `sql::ACCESS` says that the user is a member.
fn permit(access: &[Row]) -> Result<(), Refusal> {
    match access.first().map(|row| row.try_get::<_, &str>(0)) {
        Some(Ok("member")) => Ok(()),
        Some(Ok("not_member")) => {
            Err(Refusal::new(ErrorCode::NotMember, "you are not a member of this conversation; join it first"))
        }
        Some(Err(error)) => Err(rows::unreadable(&error)),
        Some(Ok(_)) | None => Err(not_found()),
    }
}

/// One more message than asked for tells whether there are more.
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
) -> Result<Vec<crate::mesh::record::MessageRecord>, Refusal> {
    let number = conversation.number();
    let [access, found] =
        reader.transaction([(sql::ACCESS, &[&number]), (statement, &[&number, &seq.0, &(limit + 1)])]).await?;
    permit(&access)?;
    found.iter().map(rows::message).collect()
}

/// Merges the two halves of the change log and cuts at the first gap, which can only be the page's end.
async fn log(reader: &mut Reader, conversation: ConversationId, after: Seq, limit: i64) -> Result<Answer, Refusal> {
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
        tracing::error!("the change log of {conversation} has a gap after seq {}", after.0 + kept as i64);
        return Err(Refusal::new(
            ErrorCode::Internal,
            "the conversation's log is damaged; the server's log has the details",
        ));
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
    session: i64,
    ticket: Option<&(String, i64)>,
    with_conversations: bool,
) -> Result<Answer, Refusal> {
    let most = if with_conversations { RESUME_CONVERSATIONS_MAX as i64 } else { 0 };
    if let Some((id, expires)) = ticket {
        let used =
            || Refusal::new(ErrorCode::Unauthenticated, "this ticket was used already; get a new one from /ws-ticket");
        match reader.transaction([(sql::SPEND_TICKET, &[id, expires])]).await {
            Ok([spent]) if spent.is_empty() => return Err(used()),
            Err(refusal) if refusal.code == ErrorCode::Conflict => return Err(used()),
            outcome => drop(outcome?),
        }
    }
    let [profile, conversations] =
        reader.transaction([(sql::OPEN_SESSION, &[&session]), (sql::WELCOME_CONVERSATIONS, &[&most])]).await?;
    let Some(row) = profile.first() else {
        return Err(Refusal::new(ErrorCode::Unauthenticated, "the session has ended; sign in again"));
    };
    let read_profile = || -> Result<Profile, tokio_postgres::Error> {
        Ok(Profile {
            id: UserId(row.try_get(0)?),
            username: row.try_get(1)?,
            display_name: row.try_get(2)?,
            avatar_url: row.try_get(3)?,
            bio: row.try_get(4)?,
            created_at: rfc3339(row.try_get(5)?),
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
    Ok(Answer::Session(Box::new(OpenedSession {
        profile: read_profile().map_err(|e| rows::unreadable(&e))?,
        session: crate::ids::SessionId(session),
        conversations: conversations.iter().map(head).collect::<Result<_, _>>()?,
    })))
}
