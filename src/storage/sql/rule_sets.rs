//! Every statement about rule sets and table migrations. They run as `chat_owner`.

/// One process at a time migrates a database, until its connection ends. Waits for the other one, a minute at most.
pub const LOCK_MIGRATION: &str =
    "SET lock_timeout = '1min'; SELECT pg_advisory_lock(hashtext('chat_server.migrate')); RESET lock_timeout";
/// Whether migrations were applied to this database, and whether it has rule sets.
pub const HAS_HISTORY: &str = "SELECT to_regclass('public.refinery_schema_history') IS NOT NULL, \
    to_regclass('public.rule_sets') IS NOT NULL";
/// The applied table migrations.
pub const HISTORY: &str = "SELECT version, name, checksum FROM public.refinery_schema_history ORDER BY version";
/// Whether the three roles exist.
pub const ROLES_EXIST: &str =
    "SELECT count(*) = 3 FROM pg_roles WHERE rolname IN ('chat_owner', 'chat_app', 'chat_writer')";

/// One process at a time installs or drops sets of a database, until its transaction ends.
pub const LOCK_RULE_SETS: &str = "SELECT pg_advisory_xact_lock(hashtext('chat_server.rule_sets'))";
/// $1 milliseconds, as text: a statement that waits longer for a table fails.
pub const SET_LOCK_TIMEOUT: &str = "SELECT set_config('lock_timeout', $1, true)";
/// $1 name → whether it is installed.
pub const IS_INSTALLED: &str = "SELECT EXISTS (SELECT FROM public.rule_sets WHERE name = $1)";
/// $1 name, $2 version of the server, $3 digests of the files.
pub const INSERT_RULE_SET: &str = "INSERT INTO public.rule_sets (name, version, files) VALUES ($1, $2, $3)";
/// $1 name → a row when it is installed.
pub const TOUCH_RULE_SET: &str = "UPDATE public.rule_sets SET last_used_at = now() WHERE name = $1";
/// $1 own name, $2 seconds → the other sets that no process has used for this long.
pub const UNUSED_RULE_SETS: &str = "SELECT name FROM public.rule_sets \
    WHERE name <> $1 AND last_used_at < now() - make_interval(secs => $2) ORDER BY last_used_at, name";
/// $1 name, $2 seconds → a row when it is still unused.
pub const DELETE_RULE_SET: &str =
    "DELETE FROM public.rule_sets WHERE name = $1 AND last_used_at < now() - make_interval(secs => $2)";
/// The newest installed set: name, version, digests of the files, and when it was installed.
pub const NEWEST_RULE_SET: &str = "SELECT name, version, files, \
    to_char(installed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"') FROM public.rule_sets \
    ORDER BY installed_at DESC, name LIMIT 1";
/// Bodies are checked from here on.
pub const CHECK_BODIES: &str = "SELECT set_config('check_function_bodies', 'on', true)";
/// $1 schema, $2 name → checks the body of a function in SQL.
pub const CHECK_SQL_BODY: &str = "SELECT fmgr_sql_validator(p.oid)::text \
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang \
    WHERE p.pronamespace = to_regnamespace($1) AND p.proname = $2 AND l.lanname = 'sql'";
/// $1 schema, $2 name → checks the body of a function in PL/pgSQL.
pub const CHECK_PLPGSQL_BODY: &str = "SELECT plpgsql_validator(p.oid)::text \
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang \
    WHERE p.pronamespace = to_regnamespace($1) AND p.proname = $2 AND l.lanname = 'plpgsql'";

/// Makes the schema of a set. Its functions are for the server's two roles; a name is safe as it stands.
#[must_use]
pub fn create_schema(name: &str) -> String {
    format!(
        "CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO chat_app, chat_writer; \
         SET LOCAL search_path = {name}, public, pg_temp; SET LOCAL check_function_bodies = off"
    )
}

/// Drops the schema of a set, and its triggers with it. Locks their tables.
#[must_use]
pub fn drop_schema(name: &str) -> String {
    format!("DROP SCHEMA {name} CASCADE")
}
