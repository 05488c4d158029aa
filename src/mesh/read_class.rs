//! Classes of reads: what the I/O shard schedules apart, and what a read costs its user's budget.

use super::frame::Query;

/// A class of reads. Each has its own queue and its own share of the connections, see `storage::read_queue`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadClass {
    /// Admissions, subscriptions and replays: what a client needs before it sees anything.
    CatchUp,
    /// Pages of histories, threads, members and conversations.
    Page,
    /// Full-text searches, which cost many times more than a page.
    Search,
    /// Lists that only moderators read.
    Administration,
}

impl ReadClass {
    /// Every class, in index order.
    pub const ALL: [Self; 4] = [Self::CatchUp, Self::Page, Self::Search, Self::Administration];

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CatchUp => "reads_catch_up",
            Self::Page => "reads_page",
            Self::Search => "reads_search",
            Self::Administration => "reads_administration",
        }
    }
}

/// What a search costs its user's budget of reads; a page costs 1.
pub const SEARCH_COST: u32 = 10;
/// Conversations whose heads cost as much as one page.
pub const HEADS_PER_READ: usize = 50;

impl Query {
    /// The class that it waits in.
    #[must_use]
    pub fn class(&self) -> ReadClass {
        match self {
            // A change of a message waits for its conversation's id, as a subscription waits for the newest seq.
            Self::OpenSession { .. }
            | Self::Head(_)
            | Self::Heads(_)
            | Self::Typing(_)
            | Self::Log { .. }
            | Self::ConversationOfMessage(_)
            | Self::ConversationOfInvite(_) => ReadClass::CatchUp,
            Self::HistoryBefore { .. }
            | Self::HistoryAfter { .. }
            | Self::HistoryAround { .. }
            | Self::Conversations { .. }
            | Self::Conversation(_)
            | Self::Members { .. } => ReadClass::Page,
            Self::Lookup { name, .. } => match *name {
                "search_messages" => ReadClass::Search,
                "list_bans" | "list_invites" | "list_join_requests" => ReadClass::Administration,
                _ => ReadClass::Page,
            },
        }
    }

    /// Whether a command asks for it. Otherwise the server does, once per connection: to admit it, or to replay to it.
    #[must_use]
    pub fn is_commanded(&self) -> bool {
        !matches!(self, Self::OpenSession { .. } | Self::Log { .. })
    }

    /// What it costs the budget of the user who asks for it.
    #[must_use]
    pub fn cost(&self) -> u32 {
        match self {
            Self::Heads(conversations) => 1 + (conversations.len() / HEADS_PER_READ) as u32,
            _ if self.class() == ReadClass::Search => SEARCH_COST,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_its_own_index() {
        assert!(ReadClass::ALL.iter().enumerate().all(|(at, class)| *class as usize == at));
    }

    #[test]
    fn a_search_costs_more_than_a_page() {
        let lookup = |name| Query::Lookup { name, arguments: serde_json::Value::Null };
        assert_eq!((lookup("search_messages").cost(), lookup("get_thread").cost()), (SEARCH_COST, 1));
        assert_eq!(lookup("search_messages").class(), ReadClass::Search);
        assert_eq!(lookup("list_bans").class(), ReadClass::Administration);
        let heads = |n| Query::Heads(vec![crate::ids::ConversationId::from_number(6).unwrap(); n]);
        assert_eq!((heads(1).cost(), heads(1_000).cost()), (1, 21));
    }
}
