//! Faults that a test can plant in the running code, to show that the simulation would find them.
//!
//! Each variant is a fault that this server once had, or that a check of the simulation is there to find. In a release
//! build nothing can be planted: [`is_planted`] is a constant, and the compiler removes what depends on it. The
//! simulation's tests plant one after the other and fail unless a seed finds each.

/// A fault that once was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A revocation between a socket's look-up and its arrival is forgotten: the socket stays open.
    ForgetRevocations,
    /// Presence is watched by an old read, although one of the two users has blocked the other meanwhile.
    WatchByAnOldRead,
    /// An offline user's watchers are forgotten when many users are connected.
    ForgetWatchers,
    /// The heartbeat check ends the time that a peer has for the close handshake.
    LingerCutShort,
    /// A failed `subscribe` does not release its command slot.
    KeepTheSlot,
    /// A membership that was lost while the conversations were read is not applied.
    ForgetMemberships,
    /// A subscriber whose user has left still receives what is not in the log: typing and read markers.
    SignalAfterADeparture,
    /// Typing in a direct conversation is published without a look at blocks.
    TypeWithoutAsking,
    /// A block does not stop typing signals that were permitted before it.
    TypeAfterABlock,
    /// A block ends no watch of presence.
    WatchAfterABlock,
    /// A departure leads to no re-check of the watches.
    WatchAfterADeparture,
    /// `get_presence` is answered by a read that is older than a block or a departure.
    AnswerByAnOldRead,
    /// A subscriber is moved to the event that says that its user has joined, although it follows the conversation.
    SkipToTheJoin,
    /// Mutations are sent although there is no room for their outcomes.
    CommitWithoutRoom,
    /// Reads are sent although there is no room for their results.
    ReadWithoutRoom,
    /// A text that matches a rule is sent although PostgreSQL could not decide about it.
    SendUndecidedTexts,
    /// In a cluster, a departure does not travel with its event, so other nodes learn it later.
    PartFromDepartures,
    /// In a cluster, the newest event that PostgreSQL has is not compared with what was published.
    IgnoreHeads,
    /// In a cluster, what users have spent on other nodes is not charged.
    IgnoreSpent,
    /// Changes are accepted although they would have to wait too long for those before them.
    AcceptBeyondMeans,
    /// Senders whose messages were accepted under an old access epoch count as known under the new one.
    KeepSendersOfAnOldEpoch,
    /// Messages that the short form has committed are not counted for the ordinals of the next ones.
    RepeatOrdinals,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 22] = [
        Self::ForgetRevocations,
        Self::WatchByAnOldRead,
        Self::ForgetWatchers,
        Self::LingerCutShort,
        Self::KeepTheSlot,
        Self::ForgetMemberships,
        Self::SignalAfterADeparture,
        Self::TypeWithoutAsking,
        Self::TypeAfterABlock,
        Self::WatchAfterABlock,
        Self::WatchAfterADeparture,
        Self::AnswerByAnOldRead,
        Self::SkipToTheJoin,
        Self::CommitWithoutRoom,
        Self::ReadWithoutRoom,
        Self::SendUndecidedTexts,
        Self::PartFromDepartures,
        Self::IgnoreHeads,
        Self::IgnoreSpent,
        Self::AcceptBeyondMeans,
        Self::KeepSendersOfAnOldEpoch,
        Self::RepeatOrdinals,
    ];
}

#[cfg(debug_assertions)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in this thread, or none.
#[cfg(debug_assertions)]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether the fault is planted in this thread.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Whether the fault is planted in this thread: never in a release build.
#[cfg(not(debug_assertions))]
#[must_use]
#[inline]
pub fn is_planted(_: Fault) -> bool {
    false
}
