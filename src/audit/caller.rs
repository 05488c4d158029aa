//! Who causes a row of the audit trail.

use crate::address::RequestSource;
use crate::ids::{SessionId, UserId};
use std::sync::Arc;

/// The user of a request, from its access token; the session was active a moment ago.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// Where the request came from. It can be another place than that of the sign-in, as with a stolen token.
    pub source: Arc<RequestSource>,
}
