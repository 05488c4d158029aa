//! The advisory lock that reserves a database for one server.
//!
//! Both numbers are arbitrary, but they must never change: servers of different versions have to meet at the same lock.

/// Whether this session holds the lock for itself alone from now on.
pub const TRY_ALONE: &str = "SELECT pg_try_advisory_lock(1986361953, 1)";

/// Whether this session holds the lock together with other servers from now on.
pub const TRY_SHARED: &str = "SELECT pg_try_advisory_lock_shared(1986361953, 1)";

/// The names of the sessions that hold the lock, oldest first. A name that the login role may not see is left out.
pub const HOLDERS: &str = "
SELECT a.application_name
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 1986361953 AND l.objid = 1 AND l.objsubid = 2
   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
   AND a.application_name <> '' AND a.pid <> pg_backend_pid()
 ORDER BY a.backend_start
 LIMIT 5";
