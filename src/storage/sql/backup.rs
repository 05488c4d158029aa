//! The statements of backups. Those of `create` run as a login that reads every row; those of `restore` as the owner,
//! except for [`EXPIRE_UPLOADS`].

/// Whether the session's login reads every row of every table, whatever the policies say.
pub const READS_ALL: &str = "SELECT r.rolsuper OR (r.rolbypassrls AND pg_has_role(r.oid, 'pg_read_all_data', 'USAGE')) \
    FROM pg_roles r WHERE r.rolname = session_user";
/// A backup takes as long as its data needs.
pub const NO_TIME_LIMITS: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET idle_session_timeout = 0";
/// Until the session ends, `commit/claim_job.sql` takes no removal of content. Both numbers must never change: servers
/// of different versions have to meet at the same lock.
pub const HOLD_CONTENT: &str = "SELECT pg_advisory_lock_shared(1986361953, 2)";
/// Ends the hold. Whether there was one.
pub const RELEASE_CONTENT: &str = "SELECT pg_advisory_unlock_shared(1986361953, 2)";
/// One snapshot for everything that follows.
pub const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// The name by which `pg_dump` reads the same snapshot.
pub const EXPORT_SNAPSHOT: &str = "SELECT pg_export_snapshot()";
/// The end of the session's transaction.
pub const END_SNAPSHOT: &str = "COMMIT";
/// PostgreSQL's version, the newest table migration, the end of the audit trail and its newest checkpoint.
pub const FACTS: &str = "SELECT current_setting('server_version'), \
        (SELECT max(version) FROM public.refinery_schema_history), h.log_id::text, h.position, h.hash, \
        (SELECT note FROM public.audit_checkpoints ORDER BY size DESC, closing LIMIT 1) \
    FROM public.audit_head h";
/// The tables, each with the statement that counts its rows. Partitions count with their table.
pub const TABLES: &str = "SELECT c.relname::text, format('SELECT count(*) FROM %I.%I', n.nspname, c.relname) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1";
/// The first table that an empty database does not have.
pub const FIRST_TABLE: &str = "SELECT format('%I.%I', n.nspname, c.relname) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
      AND n.nspname !~ '^pg_(toast|temp)' ORDER BY 1 LIMIT 1";
/// $1 the last file of the page before, $2 most files → the uploads that are not checked yet, and their durable bytes.
pub const UPLOADS: &str = "SELECT id, received FROM files \
    WHERE id > $1 AND received > 0 AND state IN ('uploading', 'scanning') ORDER BY id LIMIT $2";
/// $1 files → ends those that are not complete, as `commit/expire_files.sql` does.
pub const EXPIRE_UPLOADS: &str = "UPDATE files SET state = 'expired', expires_at = now() + interval '7 days' \
    WHERE id = ANY ($1) AND state = 'uploading'";
