//! The ports through which the control plane reaches the rest of the server.

use super::shutdown::State;
use crate::chat::filter::FilterRuleSet;
use crate::control::Notices;
use crate::control::announcer::AnnouncePort;
use crate::control::commands::{CommandFuture, CommandPort};
use crate::control::data_rights::RightsPort;
use crate::control::extract::Caller;
use crate::control::files::FilesPort;
use crate::control::filter::FilterPort;
use crate::control::health::{Check, HealthPort};
use crate::control::observed::Observed;
use crate::control::user_limits::LimitsPort;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, ShardId, UserId};
use crate::mesh::asked::{Announcement, Approval, ApprovedText, HttpCommand, HttpReply, LimitsQuestion};
use crate::mesh::bot_grant::BotGrant;
use crate::mesh::frame::ControlFrame;
use crate::mesh::lane::{CONTROL_FRAMES, Mesh};
use crate::mesh::live::LiveSettings;
use crate::mesh::standing::MarkedUsers;
use crate::storage::health::StorageHealth;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A command over HTTP is given up after this long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(12);
/// A shard counts as stalled when it has not read its clock for this long. An idle shard reads it every 100 ms, a busy
/// one more often.
const SHARD_STALLED: Duration = Duration::from_secs(10);
/// Pause before a full control lane is tried again.
const LANE_PAUSE: Duration = Duration::from_millis(5);

/// Commands go to the user's shard.
pub(super) struct Commands {
    mesh: Arc<Mesh>,
    runtime: Handle,
}

impl Commands {
    pub(super) fn new(mesh: Arc<Mesh>, runtime: Handle) -> Self {
        Self { mesh, runtime }
    }
}

impl CommandPort for Commands {
    fn execute(&self, caller: Caller, grant: Option<Arc<BotGrant>>, body: Bytes) -> CommandFuture {
        self.ask(caller.user, |reply| {
            let Caller { user, session, source } = caller;
            ControlFrame::Command(Box::new(HttpCommand { user, session, grant, source, body: body.to_vec(), reply }))
        })
    }
}

impl AnnouncePort for Commands {
    fn announce(&self, user: UserId, conversation: ConversationId) -> CommandFuture {
        self.announce_as(user, conversation, "announce_profile", json!({}))
    }
}

impl FilterPort for Commands {
    fn publish(&self, rules: Arc<FilterRuleSet>) {
        self.tell_all(|| ControlFrame::FilterRules(Arc::clone(&rules)));
    }

    fn send_approved(&self, author: UserId, conversation: ConversationId, text: ApprovedText) -> CommandFuture {
        self.ask(author, |reply| ControlFrame::SendApproved(Box::new(Approval { author, conversation, text, reply })))
    }

    fn announce_rejection(&self, author: UserId, conversation: ConversationId, held: i64) -> CommandFuture {
        self.announce_as(author, conversation, "announce_rejection", json!({ "held_id": held }))
    }
}

impl FilesPort for Commands {
    fn settle(&self, uploader: UserId, conversation: ConversationId, arguments: Value) -> CommandFuture {
        self.announce_as(uploader, conversation, "settle_file", arguments)
    }
}

impl RightsPort for Commands {
    fn submit(
        &self,
        user: UserId,
        conversation: ConversationId,
        kind: &'static str,
        arguments: Value,
    ) -> CommandFuture {
        self.announce_as(user, conversation, kind, arguments)
    }
}

impl LimitsPort for Commands {
    fn mark(&self, marked: Arc<MarkedUsers>) {
        self.tell_all(|| ControlFrame::MarkedUsers(Arc::clone(&marked)));
    }

    fn explain(&self, user: UserId, created_at: i64) -> CommandFuture {
        self.ask(user, |reply| ControlFrame::ExplainLimits(Box::new(LimitsQuestion { user, created_at, reply })))
    }
}

impl Commands {
    /// Gives every shard these settings. What is asked over HTTP afterwards is judged by them.
    pub(super) async fn replace_settings(&self, live: &Arc<LiveSettings>) {
        for shard in self.mesh.placement.all() {
            send_in_time(Arc::clone(&self.mesh), shard, ControlFrame::Live(Arc::clone(live))).await;
        }
    }

    /// Sends a frame to every shard.
    fn tell_all(&self, frame: impl Fn() -> ControlFrame) {
        for shard in self.mesh.placement.all() {
            self.runtime.spawn(send_in_time(Arc::clone(&self.mesh), shard, frame()));
        }
    }

    /// Submits a mutation of the server's own.
    fn announce_as(
        &self,
        user: UserId,
        conversation: ConversationId,
        kind: &'static str,
        arguments: Value,
    ) -> CommandFuture {
        self.ask(user, |reply| {
            ControlFrame::Announce(Box::new(Announcement { user, conversation, kind, arguments, reply }))
        })
    }

    /// Sends a frame to the user's shard, and waits for the reply.
    fn ask(&self, user: UserId, frame: impl FnOnce(HttpReply) -> ControlFrame) -> CommandFuture {
        let shard = self.mesh.placement.of_user(user);
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |result| {
            let _ = reply.send(result); // the client has disconnected
        });
        let sent = self.mesh.control(shard).try_push(frame(reply)).is_ok();
        self.mesh.bell(shard).ring();
        Box::pin(async move {
            if !sent {
                return Err(Refusal::overloaded("commands over HTTP", ("http_commands", "server", CONTROL_FRAMES)));
            }
            match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
                Ok(Ok(result)) => result.map(Bytes::from),
                Ok(Err(_)) | Err(_) => Err(Refusal::new(
                    ErrorCode::DeadlineExceeded,
                    "No reply came in time. The command may have been carried out: check before you send it again.",
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

    /// The first shard that is stalled, and for how long.
    fn stalled_shard(&self) -> Option<(usize, Duration)> {
        self.observed.silences().enumerate().find(|(_, silence)| *silence > SHARD_STALLED)
    }
}

impl HealthPort for Health {
    fn checks(&self) -> Vec<Check> {
        let draining = self.state.is_draining();
        let storage = self.storage.problem(Instant::now());
        let stalled = self.stalled_shard();
        vec![
            Check {
                name: "shards",
                ok: stalled.is_none(),
                reason: stalled.map(|(shard, silence)| format!("shard {shard} has been stalled for {silence:.1?}")),
            },
            Check {
                name: "accepting",
                ok: !draining,
                reason: draining.then(|| "the server is shutting down".to_owned()),
            },
            Check { name: "storage", ok: storage.is_none(), reason: storage },
        ]
    }
}

/// Revocations go to every shard. A full lane is retried: a revocation must not be lost.
pub(super) fn notices(mesh: Arc<Mesh>, runtime: Handle) -> Notices {
    Arc::new(move |sessions| {
        for shard in mesh.placement.all() {
            let frame = ControlFrame::SessionsRevoked(Arc::clone(&sessions));
            runtime.spawn(send_in_time(Arc::clone(&mesh), shard, frame));
        }
    })
}

/// Sends a frame that must not be lost: a full lane is tried again until it has room.
async fn send_in_time(mesh: Arc<Mesh>, shard: ShardId, mut frame: ControlFrame) {
    while let Err(back) = mesh.control(shard).try_push(frame) {
        frame = back;
        tokio::time::sleep(LANE_PAUSE).await;
    }
    mesh.bell(shard).ring();
}
