//! What looks suspicious in the rows of the audit trail.

use super::finding::{Finding, Suspicion};
use super::windows::Windows;
use crate::ids::UserId;
use serde_json::{Value, json};
use std::time::Duration;

/// People whom one user brings into conversations within [`PERIOD`].
pub const INVITED: usize = 50;
/// Direct conversations that one user opens within [`PERIOD`].
pub const OPENED: usize = 30;
/// The period of both.
pub const PERIOD: Duration = Duration::from_mins(10);
/// A user who received a role with power is new in it for this long.
pub const NEW_IN_ROLE: Duration = Duration::from_mins(10);
/// Users new in such a role that are remembered.
const PROMOTED_MAX: usize = 4_096;

/// A row of the audit trail, without personal fields.
#[derive(Clone, Debug, Default)]
pub struct Act {
    /// Its place in the chain.
    pub position: i64,
    /// Who acted; nobody for the server itself.
    pub user: Option<UserId>,
    /// What was done.
    pub action: String,
    /// The user, message or conversation that it was done to.
    pub target: Option<i64>,
    /// Where.
    pub conversation: Option<i64>,
    /// `before` and `after`.
    pub details: Value,
    /// Its hash, and the hash of the row before it as this row has it.
    pub hashes: [Vec<u8>; 2],
}

/// The detectors that read the trail.
pub(super) struct Trail {
    invitations: Windows<i64>,
    direct: Windows<i64>,
    /// (conversation, user, when) of those new in their role, the oldest first.
    promoted: Vec<(i64, i64, Duration)>,
    /// Position and hash of the last row.
    last: Option<(i64, Vec<u8>)>,
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            invitations: Windows::new(INVITED, PERIOD),
            direct: Windows::new(OPENED, PERIOD),
            promoted: Vec::new(),
            last: None,
        }
    }
}

impl Trail {
    pub(super) fn observe(&mut self, act: &Act, now: Duration) -> Option<Finding> {
        let gap = self.gap(act);
        let [hash, _] = &act.hashes;
        self.last = Some((act.position, hash.clone()));
        gap.or_else(|| self.abuse(act, now))
    }

    /// A row that does not continue the one before it.
    fn gap(&self, act: &Act) -> Option<Finding> {
        let (position, hash) = self.last.as_ref()?;
        let [_, previous] = &act.hashes;
        if act.position == position + 1 && previous == hash {
            return None;
        }
        let details = json!({
            "after_position": position, "position": act.position, "advice": "run chat-server audit verify",
        });
        Some(Finding::new(Suspicion::AuditGap, &position.to_string(), details))
    }

    fn abuse(&mut self, act: &Act, now: Duration) -> Option<Finding> {
        let user = act.user?;
        let minutes = PERIOD.as_secs() / 60;
        match act.action.as_str() {
            "invite_member" => {
                let invited = act.target? as u64;
                self.invited(user, [invited], now)
            }
            "create_conversation" if act.details["after"]["kind"] == "direct" => {
                let opened = act.conversation? as u64;
                self.direct.add(user.0, opened, now).then(|| {
                    let details = json!({ "conversations": OPENED, "within_minutes": minutes });
                    Finding::new(Suspicion::MassDirect, &user.0.to_string(), details).by(Some(user))
                })
            }
            "create_conversation" => {
                let after = &act.details["after"];
                let people = [&after["members"], &after["invited"]].into_iter().filter_map(Value::as_array).flatten();
                let others = people.filter_map(Value::as_i64).filter(|person| *person != user.0);
                self.invited(user, others.map(|member| member as u64), now)
            }
            "settle_file" if act.details["after"]["file_state"] == "infected" => {
                let details = json!({ "file": act.target, "conversation": act.conversation });
                Some(Finding::new(Suspicion::InfectedFile, &user.0.to_string(), details).by(Some(user)))
            }
            // No other picture has a row of this action.
            "refuse_avatar" => {
                let details = json!({ "picture_of_user": act.target });
                Some(Finding::new(Suspicion::InfectedFile, &user.0.to_string(), details).by(Some(user)))
            }
            "set_role" | "transfer_ownership" => self.promotion(act, user, now),
            _ => None,
        }
    }

    fn invited(&mut self, user: UserId, people: impl IntoIterator<Item = u64>, now: Duration) -> Option<Finding> {
        let mut found = false;
        for person in people {
            found |= self.invitations.add(user.0, person, now);
        }
        found.then(|| {
            let details = json!({ "people": INVITED, "within_minutes": PERIOD.as_secs() / 60 });
            Finding::new(Suspicion::MassInvitations, &user.0.to_string(), details).by(Some(user))
        })
    }

    /// Somebody receives a role with power; suspicious if from one who is new in theirs.
    fn promotion(&mut self, act: &Act, user: UserId, now: Duration) -> Option<Finding> {
        let (conversation, member) = (act.conversation?, act.target?);
        self.promoted.retain(|(.., at)| now < *at + NEW_IN_ROLE);
        let role = act.details["after"]["role"].as_str().unwrap_or_default();
        if !["moderator", "admin", "owner"].contains(&role) {
            self.promoted.retain(|(there, who, _)| (*there, *who) != (conversation, member));
            return None;
        }
        let is_new = self.promoted.iter().any(|(there, who, _)| (*there, *who) == (conversation, user.0));
        if self.promoted.len() >= PROMOTED_MAX {
            self.promoted.remove(0);
        }
        self.promoted.push((conversation, member, now));
        is_new.then(|| {
            let details = json!({
                "conversation": conversation, "promoted": member, "role": role,
                "in_own_role_for_less_than_minutes": NEW_IN_ROLE.as_secs() / 60,
            });
            Finding::new(Suspicion::PrivilegeJump, &format!("{} {conversation}", user.0), details).by(Some(user))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// Rows that continue each other.
    fn chained(acts: impl IntoIterator<Item = Act>) -> Vec<Act> {
        let chain = acts.into_iter().enumerate();
        chain
            .map(|(n, act)| Act { position: n as i64 + 1, hashes: [n + 1, n].map(|n| n.to_le_bytes().to_vec()), ..act })
            .collect()
    }

    fn act(user: i64, action: &str, target: i64, details: Value) -> Act {
        let (user, target) = (Some(UserId(user)), Some(target));
        Act { user, action: action.to_owned(), target, conversation: Some(6), details, ..Act::default() }
    }

    #[test]
    fn an_infected_file_is_found_and_another_one_is_not() {
        let mut trail = Trail::default();
        let settled = |state: &str| act(7, "settle_file", 3, json!({ "after": { "file_state": state } }));
        let found = chained([settled("infected"), settled("ready")]);
        let found: Vec<_> = found.iter().map(|act| trail.observe(act, MINUTE)).collect();
        let finding = found[0].as_ref().unwrap();
        assert_eq!((finding.suspicion, finding.user), (Suspicion::InfectedFile, Some(UserId(7))));
        assert_eq!(finding.details["file"], 3);
        assert_eq!(found[1], None);
        let picture = chained([act(7, "refuse_avatar", 7, Value::Null)]).remove(0);
        let finding = Trail::default().observe(&picture, MINUTE).unwrap();
        assert_eq!((finding.suspicion, finding.user), (Suspicion::InfectedFile, Some(UserId(7))));
    }

    fn found(acts: impl IntoIterator<Item = Act>, each: Duration) -> Vec<Finding> {
        let mut trail = Trail::default();
        let acts = chained(acts);
        acts.iter().enumerate().filter_map(|(n, act)| trail.observe(act, each * n as u32)).collect()
    }

    #[test]
    fn fifty_people_in_ten_minutes_are_mass_invitations() {
        let invite = |n: i64| act(1, "invite_member", 100 + n, Value::Null);
        let suspicious = found((0..60).map(invite), Duration::from_secs(1));
        assert_eq!(suspicious.len(), 1);
        assert_eq!((suspicious[0].suspicion, suspicious[0].user), (Suspicion::MassInvitations, Some(UserId(1))));
        assert_eq!(found((0..49).map(invite), Duration::from_secs(1)), [], "a class");
        assert_eq!(found((0..200).map(invite), MINUTE), [], "slowly");
        let same = |_| act(1, "invite_member", 100, Value::Null);
        assert_eq!(found((0..200).map(same), Duration::from_secs(1)), [], "always the same person");
        let members: Vec<i64> = (0..60).collect();
        let group = act(1, "create_conversation", 6, json!({"after": {"kind": "group", "members": members}}));
        assert_eq!(found([group], MINUTE)[0].suspicion, Suspicion::MassInvitations);
    }

    #[test]
    fn thirty_direct_conversations_in_ten_minutes_are_suspicious() {
        let open = |n: i64| Act {
            conversation: Some(n * 4),
            ..act(1, "create_conversation", n * 4, json!({"after": {"kind": "direct", "members": [1, n]}}))
        };
        let suspicious = found((0..40).map(open), Duration::from_secs(5));
        assert_eq!(suspicious.iter().map(|finding| finding.suspicion).collect::<Vec<_>>(), [Suspicion::MassDirect]);
        assert_eq!(found((0..29).map(open), Duration::from_secs(5)), []);
    }

    #[test]
    fn somebody_new_in_a_role_who_promotes_others_is_suspicious() {
        let promote =
            |by, who| act(by, "set_role", who, json!({"before": {"role": "member"}, "after": {"role": "moderator"}}));
        let demote =
            |by, who| act(by, "set_role", who, json!({"before": {"role": "moderator"}, "after": {"role": "member"}}));
        assert_eq!(found([promote(1, 2), promote(1, 3)], MINUTE), [], "an owner's choice");
        let suspicious = found([promote(1, 2), promote(2, 3)], MINUTE);
        assert_eq!((suspicious.len(), suspicious[0].suspicion), (1, Suspicion::PrivilegeJump));
        assert_eq!(found([promote(1, 2), promote(2, 3)], MINUTE * 11), [], "in the role for eleven minutes");
        assert_eq!(found([promote(1, 2), demote(1, 2), promote(2, 3)], MINUTE), []);
        let mut trail = Trail::default();
        for act in chained((0..10_000).map(|n| promote(1, n))) {
            trail.observe(&act, MINUTE);
            assert!(trail.promoted.len() <= PROMOTED_MAX);
        }
    }

    #[test]
    fn a_row_that_does_not_continue_the_last_one_is_a_gap() {
        let rows = || chained((0..4).map(|n| act(1, "pin_message", n, Value::Null)));
        let gaps = |rows: Vec<Act>| {
            let mut trail = Trail::default();
            rows.iter().filter_map(|row| trail.observe(row, MINUTE)).collect::<Vec<_>>()
        };
        assert_eq!(gaps(rows()), []);
        let mut missing = rows();
        missing.remove(1);
        assert_eq!(gaps(missing)[0].suspicion, Suspicion::AuditGap);
        let mut edited = rows();
        edited[2].hashes[0] = vec![99];
        assert_eq!(gaps(edited)[0].details["position"], 4);
    }
}
