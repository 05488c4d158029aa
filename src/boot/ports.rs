//! The control plane's ways into the rest of the server.

use super::shutdown::State;
use crate::control::Notices;
use crate::control::announcer::AnnouncePort;
use crate::control::commands::{CommandFuture, CommandPort};
use crate::control::extract::Caller;
use crate::control::health::{Check, HealthPort};
use crate::control::observed::Observed;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, SessionId, ShardId, UserId};
use crate::mesh::frame::{Announcement, ControlFrame, HttpCommand, HttpReply};
use crate::mesh::lane::Mesh;
use crate::storage::inlet::StorageHealth;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A command over HTTP that has no answer by then.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(12);
/// A shard that has not looked at its clock for this long serves nobody; it does so every 100 ms when idle, and many
/// times more when busy.
const SHARD_STALLED: Duration = Duration::from_secs(10);
/// Pause before a shard whose control lane is full is tried again.
const LANE_PAUSE: Duration = Duration::from_millis(5);

/// Commands go to the user's shard.
pub(super) struct Commands {
    mesh: Arc<Mesh>,
}

impl Commands {
    pub(super) fn new(mesh: Arc<Mesh>) -> Self {
        Self { mesh }
    }
}

impl CommandPort for Commands {
    fn execute(&self, caller: Caller, body: Bytes) -> CommandFuture {
        self.ask(caller.user, |reply| {
            ControlFrame::Command(Box::new(HttpCommand { user: caller.user, body: body.to_vec(), reply }))
        })
    }
}

impl AnnouncePort for Commands {
    fn announce(&self, user: UserId, conversation: ConversationId) -> CommandFuture {
        self.ask(user, |reply| ControlFrame::Announce(Box::new(Announcement { user, conversation, reply })))
    }
}

impl Commands {
    /// Sends a frame with a place for the answer to the user's shard.
    fn ask(&self, user: UserId, frame: impl FnOnce(HttpReply) -> ControlFrame) -> CommandFuture {
        let shard = self.mesh.placement.of_user(user);
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |result| {
            let _ = reply.send(result); // nobody listens any more: the client has gone
        });
        let sent = self.mesh.control(shard).try_push(frame(reply)).is_ok();
        self.mesh.bell(shard).ring();
        Box::pin(async move {
            if !sent {
                return Err(Refusal::overloaded("commands over HTTP"));
            }
            match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
                Ok(Ok(result)) => result.map(Bytes::from),
                Ok(Err(_)) | Err(_) => Err(Refusal::new(
                    ErrorCode::DeadlineExceeded,
                    "there was no answer in time; it is not known whether the command was carried out",
                )),
            }
        })
    }
}

/// What `/health` reports.
pub(super) struct Health {
    state: Arc<State>,
    storage: StorageHealth,
    observed: Observed,
}

impl Health {
    pub(super) fn new(state: Arc<State>, storage: StorageHealth, observed: Observed) -> Self {
        Self { state, storage, observed }
    }

    /// The first shard that has stood still, and for how long.
    fn stalled_shard(&self) -> Option<(usize, Duration)> {
        self.observed.silences().enumerate().find(|(_, silence)| *silence > SHARD_STALLED)
    }
}

impl HealthPort for Health {
    fn checks(&self) -> Vec<Check> {
        let draining = self.state.is_draining();
        let healthy = self.storage.is_healthy();
        let stalled = self.stalled_shard();
        vec![
            Check {
                name: "shards",
                ok: stalled.is_none(),
                reason: stalled.map(|(shard, silence)| format!("shard {shard} has not turned for {silence:.1?}")),
            },
            Check {
                name: "accepting",
                ok: !draining,
                reason: draining.then(|| "the server is shutting down".to_owned()),
            },
            Check {
                name: "storage",
                ok: healthy,
                reason: (!healthy).then(|| "PostgreSQL cannot be reached; connecting again".to_owned()),
            },
        ]
    }
}

/// Revocations go to every shard. A full lane is retried: a revocation must not be lost.
pub(super) fn notices(mesh: Arc<Mesh>, runtime: Handle) -> Notices {
    Arc::new(move |sessions| {
        for shard in mesh.placement.all() {
            runtime.spawn(send_revocation(Arc::clone(&mesh), shard, Arc::clone(&sessions)));
        }
    })
}

async fn send_revocation(mesh: Arc<Mesh>, shard: ShardId, sessions: Arc<[SessionId]>) {
    let mut frame = ControlFrame::SessionsRevoked(sessions);
    while let Err(back) = mesh.control(shard).try_push(frame) {
        frame = back;
        tokio::time::sleep(LANE_PAUSE).await;
    }
    mesh.bell(shard).ring();
}
