//! The statements about the three roles and their logins.

/// The three roles, where they are missing, each with a login of its own, and what the owner needs of the database.
/// Only what is missing is changed, so an ordinary user can run it after an administrator has.
pub const CREATE_ROLES: &str = "DO $$
    DECLARE r text;
    BEGIN
        FOREACH r IN ARRAY ARRAY['chat_owner', 'chat_app', 'chat_writer'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
                EXECUTE format('CREATE ROLE %I LOGIN', r);
            ELSIF NOT (SELECT rolcanlogin FROM pg_roles WHERE rolname = r) THEN
                EXECUTE format('ALTER ROLE %I LOGIN', r);
            END IF;
            IF NOT has_database_privilege(r, current_database(), 'CONNECT') THEN
                EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), r);
            END IF;
        END LOOP;
        IF NOT has_database_privilege('chat_owner', current_database(), 'CREATE') THEN
            EXECUTE format('GRANT CREATE ON DATABASE %I TO chat_owner', current_database());
        END IF;
        IF NOT has_schema_privilege('chat_owner', 'public', 'CREATE') THEN
            GRANT USAGE, CREATE ON SCHEMA public TO chat_owner;
        END IF;
    END $$";

/// Sets a role's password. `verifier` is what PostgreSQL stores of a password (SCRAM-SHA-256), and has no quotes.
#[must_use]
pub fn set_password(role: &str, verifier: &str) -> String {
    format!("ALTER ROLE {role} PASSWORD '{verifier}'")
}

/// The session's login, its present role, the login's attributes that the server must not have, and whether it or a
/// role that it can become is a superuser or the like.
pub const ATTRIBUTES: &str = "SELECT session_user::text, current_user::text,
        array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
            CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
            CASE WHEN r.rolreplication THEN 'REPLICATION' END], NULL),
        EXISTS (SELECT FROM pg_roles o WHERE pg_has_role(session_user, o.oid, 'MEMBER')
                   AND (o.rolsuper OR o.rolbypassrls OR o.rolcreaterole OR o.rolreplication
                        OR (o.rolname ^@ 'pg_' AND o.rolname <> 'pg_database_owner')))
    FROM pg_roles r WHERE r.rolname = session_user";
/// Whether the session's login may create the three roles and give them their passwords.
pub const MAY_CREATE_ROLES: &str = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = session_user";
/// The other roles that the session's login can become, by itself or through others.
pub const CAN_BECOME: &str = "SELECT o.rolname::text FROM pg_roles o
    WHERE o.rolname NOT IN (session_user, 'pg_database_owner')
        AND pg_has_role(session_user, o.oid, 'MEMBER') ORDER BY 1";

/// What makes the private PostgreSQL's roles and database, one statement a line: its single-user mode reads lines. The
/// second database is for machines without the locale C.UTF-8; where the first exists, it is refused.
pub const BOOTSTRAP: &str = "\
DO $$ DECLARE r text; BEGIN FOREACH r IN ARRAY ARRAY['chat_owner', 'chat_app', 'chat_writer'] LOOP \
IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN EXECUTE format('CREATE ROLE %I', r); END IF; \
EXECUTE format('ALTER ROLE %I LOGIN', r); END LOOP; END $$;
CREATE DATABASE veza_chat OWNER chat_owner ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' TEMPLATE template0;
CREATE DATABASE veza_chat OWNER chat_owner ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
ALTER DATABASE veza_chat OWNER TO chat_owner;
REVOKE ALL ON DATABASE veza_chat FROM PUBLIC;
GRANT CONNECT ON DATABASE veza_chat TO chat_app, chat_writer;
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
";
