//! The statements of jobs. The account pool runs them as `chat_writer`.

/// $1 kinds, $2 users whose jobs are not taken, $3 seconds of the lease → a job.
pub const CLAIM: &str = "SELECT id, kind, subject, attempts, next_at, owner_id FROM claim_job($1, $2, $3)";
/// Ends all leases.
pub const END_LEASES: &str = "UPDATE jobs SET leased_until = NULL WHERE leased_until IS NOT NULL";
/// $1 job, $2 its attempts, $3 seconds of the lease.
pub const RENEW: &str =
    "UPDATE jobs SET leased_until = now() + make_interval(secs => $3) WHERE id = $1 AND attempts = $2 RETURNING id";
/// $1 job, $2 its attempts, $3 when it was due.
pub const FINISH: &str = "SELECT finish_job($1, $2, $3)";
/// $1 job, $2 its attempts, $3 when it was due, $4 seconds until it goes on. Its attempts name the lease, so they only
/// grow.
pub const GO_ON: &str = "UPDATE jobs SET leased_until = NULL, last_error = NULL, \
    next_at = CASE WHEN next_at = $3 THEN now() + make_interval(secs => $4) ELSE next_at END \
    WHERE id = $1 AND attempts = $2";
/// $1 job, $2 its attempts, $3 seconds until the next attempt, $4 what went wrong.
pub const FAILED: &str = "UPDATE jobs SET leased_until = NULL, next_at = now() + make_interval(secs => $3), \
    last_error = left($4, 500) WHERE id = $1 AND attempts = $2";
