//! The change log for the server's own work, such as webhooks: read through the row policies of the user for whom the
//! work is done, on a connection apart from those of the shards.
//!
//! A few connections bound what such work costs: as many pages at a time, whatever waits.

use super::StorageError;
use super::connect::{Role, Target};
use super::health::StorageHealth;
use super::read_connection::{self, Failure, Reader};
use super::readers;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, Seq, UserId};
use crate::limits::READ_DEADLINE_MS;
use crate::mesh::frame::{Answer, LogPage, Query};
use deadpool_postgres::Pool;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Connections.
pub const CONNECTIONS: usize = 2;

/// Reads logs; cloning it is cheap.
#[derive(Clone)]
pub struct LogReader {
    pool: Pool,
    health: StorageHealth,
}

impl LogReader {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`StorageError::Pool`].
    pub fn new(target: &Target, health: StorageHealth) -> Result<Self, StorageError> {
        Ok(Self { pool: target.pool(Role::App, CONNECTIONS)?, health })
    }

    /// A page of the log of a conversation after a position, as `user` may see it.
    ///
    /// # Errors
    /// `not_member` and `not_found` if the user may not; `storage_unavailable`.
    pub async fn page(
        &self,
        user: UserId,
        conversation: ConversationId,
        after: Seq,
        limit: i64,
    ) -> Result<LogPage, Refusal> {
        let deadline = Instant::now() + Duration::from_millis(READ_DEADLINE_MS);
        let query = Query::Log { conversation, after, limit };
        let read = async {
            let mut reader = Reader::new(&self.pool, &self.health, user, deadline).await?;
            readers::answer(&mut reader, &query).await
        };
        match timeout_at(deadline, read).await {
            Ok(Ok(Answer::Log(page))) => Ok(*page),
            Ok(Err(Failure::Refused(refusal))) => Err(refusal),
            Ok(Err(Failure::Lost | Failure::TooManyConnections)) => Err(Refusal::storage_unavailable()),
            Ok(Err(Failure::OutOfTime)) | Err(_) => Err(read_connection::too_slow()),
            Ok(Ok(_)) => Err(Refusal::new(ErrorCode::Internal, "The store gave another answer than a log.")),
        }
    }
}
