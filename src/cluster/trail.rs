//! Reads from the audit trail what other nodes did to memberships, blocks and sessions.
//!
//! The trail has a row for each of them, numbered without gaps in the order of the commits. So a node that reads on
//! from a position misses nothing, whatever happened to Redis, to PostgreSQL or to itself meanwhile. A row says that
//! something has changed; PostgreSQL is asked for the present state, so a row that is read late or twice does no harm.

use super::envelope;
use super::followed::CHUNK;
use super::shared::ClusterShared;
use crate::audit::suspicion::Act;
use crate::ids::{ConversationId, SessionId, UserId};
use crate::mesh::nodes::FromNodes;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks: a revocation is known everywhere within a second.
const INTERVAL: Duration = Duration::from_millis(300);
/// Before a frame that did not fit into a lane is passed again.
const RETRY: Duration = Duration::from_millis(5);

/// Acts that can revoke sessions of their user or of their target.
const REVOKING: [&str; 9] = [
    "sign_out",
    "sign_out_all",
    "revoke_session",
    "change_password",
    "enable_two_factor",
    "disable_two_factor",
    "respond_to_event",
    "revoke_bot_token",
    "delete_bot",
];

/// Acts after which their user, their target, or those that they name may be members or not.
const JOINING_OR_LEAVING: [&str; 9] = [
    "create_conversation",
    "join_conversation",
    "join_by_invite",
    "leave_conversation",
    "invite_member",
    "accept_invitation",
    "decide_join_request",
    "remove_member",
    "ban_member",
];

/// What a part of the trail is about.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    memberships: BTreeSet<(ConversationId, UserId)>,
    blocks: Vec<(UserId, UserId)>,
    signed_out: BTreeSet<UserId>,
}

impl News {
    fn of(acts: &[Act]) -> Self {
        let mut news = Self::default();
        for act in acts {
            news.add(act);
        }
        news
    }

    fn add(&mut self, act: &Act) {
        let (user, target) = (act.user, act.target.map(UserId));
        if REVOKING.contains(&act.action.as_str()) {
            self.signed_out.extend(user.into_iter().chain(target));
        }
        if act.action == "block_user"
            && let (Some(user), Some(target)) = (user, target)
        {
            self.blocks.push((user, target));
        }
        if JOINING_OR_LEAVING.contains(&act.action.as_str())
            && let Some(conversation) = act.conversation.and_then(ConversationId::from_number)
        {
            let after = &act.details["after"];
            let named = [&after["members"], &after["invited"]].into_iter().filter_map(Value::as_array).flatten();
            let named = named.filter_map(Value::as_i64).map(UserId);
            let people = user.into_iter().chain(target).chain(named);
            self.memberships.extend(people.map(|person| (conversation, person)));
        }
    }
}

/// Reads the trail from this position on, for as long as the server runs.
pub(super) async fn run(shared: Arc<ClusterShared>, mut position: i64) {
    loop {
        let is_end = match look(&shared, position).await {
            Some((now_at, is_end)) => {
                position = now_at;
                is_end
            }
            None => true,
        };
        if is_end {
            sleep(INTERVAL).await;
        }
    }
}

/// Reads what is new, and passes it on. Returns the new position, and whether it is the end; none if PostgreSQL did not
/// answer.
async fn look(shared: &ClusterShared, after: i64) -> Option<(i64, bool)> {
    let (acts, are_all) = shared.store.trail(after).await.ok()?;
    let Some(last) = acts.last() else { return Some((after, true)) };
    let news = News::of(&acts);
    if !news.signed_out.is_empty() {
        let users: Vec<UserId> = news.signed_out.into_iter().collect();
        let sessions = shared.store.revoked_sessions(&users).await.ok()?;
        if !sessions.is_empty() {
            publish_revoked(shared, &sessions);
            (shared.revoked)(sessions.into());
        }
    }
    let memberships: Vec<_> = news.memberships.into_iter().collect();
    for some in memberships.chunks(CHUNK) {
        for change in shared.store.memberships(some).await.ok()? {
            pass(shared, || FromNodes::Membership(change)).await;
        }
    }
    for (one, other) in news.blocks {
        pass(shared, || FromNodes::Blocked(one, other)).await;
    }
    Some((last.position, are_all))
}

/// Tells nodes that cannot read the trail: without it, they would send events to these sessions until PostgreSQL is
/// there again. Nobody waits for Redis.
fn publish_revoked(shared: &ClusterShared, sessions: &[SessionId]) {
    let Some((_, connection)) = shared.connection() else { return };
    // Redis is behind if there is no room. Then the link ends soon, and those nodes wait for the trail.
    let Ok(room) = Arc::clone(&shared.revocations).try_acquire_owned() else { return };
    let messages = sessions.chunks(CHUNK).filter_map(|some| envelope::revoked(shared.node, some));
    let messages = messages.map(|message| (shared.channels.all(), message)).collect();
    tokio::spawn(async move {
        let _ = connection.publish(messages).await; // the link notices what is wrong
        drop(room);
    });
}

/// Passes on what must not be lost.
async fn pass(shared: &ClusterShared, frame: impl Fn() -> FromNodes) {
    while !shared.to_shards.pass(frame()) {
        sleep(RETRY).await; // a shard that got it already gets it again, which does no harm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn act(action: &str, user: i64, target: Option<i64>, conversation: Option<i64>, details: Value) -> Act {
        let user = Some(UserId(user));
        Act { position: 1, user, action: action.to_owned(), target, conversation, details, hashes: Default::default() }
    }

    #[test]
    fn finds_everybody_whom_a_row_may_concern() {
        let room = ConversationId::from_number(6).unwrap();
        let news = News::of(&[
            act("invite_member", 1, Some(2), Some(6), Value::Null),
            act("create_conversation", 1, None, Some(6), json!({ "after": { "members": [1, 3], "invited": [4] } })),
            act("block_user", 5, Some(6), None, Value::Null),
            act("revoke_session", 7, Some(70), None, Value::Null),
            act("update_conversation", 8, None, Some(6), Value::Null),
        ]);
        let members: Vec<i64> = news.memberships.iter().map(|(_, user)| user.0).collect();
        assert_eq!(members, [1, 2, 3, 4]);
        assert!(news.memberships.iter().all(|(conversation, _)| *conversation == room));
        assert_eq!(news.blocks, [(UserId(5), UserId(6))]);
        assert_eq!(news.signed_out, BTreeSet::from([UserId(7), UserId(70)]));
    }
}
