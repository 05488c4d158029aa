//! A history for the PostgreSQL floor: the messages that the tables have before anything is measured. It shows whether
//! a commit costs more when there are more of them.
//!
//! The messages come in the order in which they would have been sent, one room after the other. The server's triggers
//! and policies apply to them.

use crate::progress;
use crate::run::Interrupts;
use tokio_postgres::{Client, Error};

/// Message `s` of each room, for each `s` from $3 to $4, by its members in turn. $1 rooms, $2 the members of all of
/// them, $5 members of a room, $6 content.
const INSERT: &str = "INSERT INTO messages (conversation_id, seq, ordinal, sender_id, content, client_message_id) \
    SELECT r.id, s, s, ($2::bigint[])[(r.at - 1) * $5::bigint + 1 + s % $5], $6::text, 'filled-' || r.id || '-' || s \
    FROM generate_series($3::bigint, $4::bigint) AS s, unnest($1::bigint[]) WITH ORDINALITY AS r (id, at)";
const MOVE_HEADS: &str = "UPDATE conversations SET last_seq = $2, last_ordinal = $2 WHERE id = ANY ($1)";
/// Messages of one statement, or one for each room if that is more.
const AT_ONCE: usize = 20_000;
/// One such statement may take so long: a checkpoint can hold it up.
const LONG: &str = "SET statement_timeout = '10min'";

/// The rooms and how they are filled.
pub(super) struct Filling<'a> {
    /// Their ids.
    pub rooms: &'a [i64],
    /// Their members, room by room, as many in each.
    pub members: &'a [i64],
    /// Messages that each receives, numbered from 1.
    pub messages: i64,
    /// The text of all of them.
    pub content: &'a str,
    /// No progress bar.
    pub quiet: bool,
}

impl Filling<'_> {
    /// Fills the rooms, over a connection of the writer.
    ///
    /// # Errors
    /// PostgreSQL's, in the words of `refused`, or the interruption.
    pub async fn run(
        &self,
        client: &Client,
        interrupts: &Interrupts,
        refused: impl Fn(Error) -> String,
    ) -> Result<(), String> {
        client.batch_execute(LONG).await.map_err(&refused)?;
        let insert = client.prepare(INSERT).await.map_err(&refused)?;
        let rooms = self.rooms.len().max(1);
        let (each, room_size) = ((AT_ONCE / rooms).max(1) as i64, (self.members.len() / rooms) as i64);
        let bar = progress::bar(self.quiet, self.messages as u64, "inserting the history");
        let mut from = 1;
        while from <= self.messages {
            interrupts.check()?;
            let upto = (from + each - 1).min(self.messages);
            client
                .execute(&insert, &[&self.rooms, &self.members, &from, &upto, &room_size, &self.content])
                .await
                .map_err(&refused)?;
            from = upto + 1;
            bar.set_position(upto as u64);
        }
        client.execute(MOVE_HEADS, &[&self.rooms, &self.messages]).await.map_err(&refused)?;
        bar.finish_and_clear();
        Ok(())
    }
}
