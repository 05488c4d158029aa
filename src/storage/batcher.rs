//! Which mutations go into the next statement. Pure.
//!
//! Natural batching: while a statement commits, the next ones gather; when nothing commits, one goes at once. A run is
//! a stretch of the queue that one statement can do: all messages, or all other mutations. Taking stretches, and never
//! reaching past one, keeps the order in which each conversation's owner sent them.

use crate::limits::BATCH_ROWS_MAX;
use crate::mesh::frame::{Change, Mutation};
use std::collections::VecDeque;

/// The mutations of one statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunKind {
    /// `commit_messages`.
    Messages,
    /// `apply_mutations`.
    Others,
}

/// The statement that a mutation needs.
#[must_use]
pub fn kind_of(mutation: &Mutation) -> RunKind {
    match mutation.change {
        Change::Message { .. } => RunKind::Messages,
        Change::Other { .. } => RunKind::Others,
    }
}

/// Takes the longest run from the front of the queue.
pub fn next_run(queue: &mut VecDeque<Box<Mutation>>) -> Option<(RunKind, Vec<Box<Mutation>>)> {
    let kind = kind_of(queue.front()?);
    let len = queue.iter().take(BATCH_ROWS_MAX).take_while(|m| kind_of(m) == kind).count();
    Some((kind, queue.drain(..len).collect()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::{ConversationId, ShardId, UserId};
    use crate::mesh::frame::Token;
    use proptest::prelude::*;
    use std::time::Instant;

    /// A text without anything else.
    pub fn text() -> Change {
        Change::Message {
            content: String::new(),
            message_type: "text",
            parent: None,
            key: String::new(),
            key_is_clients: true,
            files: Vec::new(),
        }
    }

    /// A change by a user in a conversation; the index tells mutations apart.
    pub fn mutation(room: i64, user: i64, index: u32, change: Change) -> Box<Mutation> {
        Box::new(Mutation {
            conversation: ConversationId::from_number(room),
            actor: UserId(user),
            session: None,
            source: None,
            origin: None,
            token: Token { shard: ShardId(0), index },
            owner: ShardId(0),
            received_at: Instant::now(),
            handed_over_at: Instant::now(),
            deadline: Instant::now(),
            answered: false,
            change,
        })
    }

    fn change(is_message: bool) -> Change {
        if is_message {
            text()
        } else {
            Change::Other { kind: "mark_read", mutation_id: 1, arguments: serde_json::Value::Null }
        }
    }

    proptest! {
        #[test]
        fn runs_keep_the_order_and_lose_nothing(kinds in proptest::collection::vec(any::<bool>(), 0..100)) {
            let mutations = kinds.iter().zip(0..).map(|(is_message, index)| mutation(6, 1, index, change(*is_message)));
            let mut queue: VecDeque<_> = mutations.collect();
            let mut seen = Vec::new();
            while let Some((kind, run)) = next_run(&mut queue) {
                prop_assert!(!run.is_empty() && run.len() <= BATCH_ROWS_MAX);
                prop_assert!(run.iter().all(|m| kind_of(m) == kind));
                seen.extend(run.iter().map(|m| m.token.index as usize));
            }
            prop_assert_eq!(seen, (0..kinds.len()).collect::<Vec<_>>());
        }
    }
}
