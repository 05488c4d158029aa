//! Each database role logs in by itself, and no statement leads from one to another or to more.

use super::starting::{database_url, free_address, refusal};
use crate::support::{Client, Format, Server};
use chat_server::storage::connect::{Role, connect};
use serde_json::json;
use tokio_postgres::Client as Database;

/// Statements that try to become somebody else, to run a program, or to reach a file.
const ATTACKS: &[&str] = &[
    "SET SESSION AUTHORIZATION veza",
    "SET ROLE veza",
    "SET ROLE pg_execute_server_program",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/veza-attack'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT lo_import('/etc/hostname')",
    "CREATE EXTENSION file_fdw",
    "CREATE EXTENSION dblink",
    "CREATE FUNCTION attack() RETURNS void LANGUAGE c AS '/tmp/attack.so'",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE ROLE attack SUPERUSER",
    "ALTER SYSTEM SET archive_command = 'true'",
    "UPDATE pg_authid SET rolsuper = true",
    "ALTER DATABASE veza_chat SET session_preload_libraries = '/tmp/attack.so'",
];

/// Runs statements that each must be refused for want of a right.
async fn must_refuse(session: &Database, attacks: impl IntoIterator<Item = &str>) {
    for attack in attacks {
        let error = session.batch_execute(attack).await.expect_err(attack);
        let code = error.code().unwrap_or_else(|| panic!("{attack}: {error}")).code();
        // 42501: a right is missing; 0A000, 22023: not possible; 58P01: the extension is not installed here.
        assert!(["42501", "0A000", "22023", "58P01"].contains(&code), "{attack}: {error:?}");
    }
}

async fn text(session: &Database, query: &str) -> String {
    session.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn no_login_of_the_server_can_become_more() {
    let server = Server::start(2, &[]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut client = Client::none(&server, &ann, Format::Json).await;
    client.ok("send_message", json!({"conversation_id": room, "content": "one of each kind"})).await;
    client.ok("get_history", json!({"conversation_id": room})).await;
    for role in Role::ALL {
        let session = connect(&server.target().config(role)).await.unwrap();
        must_refuse(&session, ATTACKS.iter().copied()).await;
        for reset in ["SET ROLE NONE", "RESET ROLE", "RESET SESSION AUTHORIZATION", "RESET ALL", "DISCARD ALL"] {
            session.batch_execute(reset).await.unwrap();
            assert_eq!(text(&session, "SELECT session_user || ' ' || current_user").await, [role.name(); 2].join(" "));
        }
        if role != Role::Owner {
            let others = Role::ALL.into_iter().filter(|other| *other != role);
            let steps: Vec<String> = others.map(|other| format!("SET ROLE {}", other.name())).collect();
            must_refuse(&session, steps.iter().map(String::as_str)).await;
            // Temporary tables could stand in for those of functions.
            must_refuse(&session, ["CREATE TEMPORARY TABLE users (id bigint)", "CREATE TABLE public.t (id int)"]).await;
        }
    }
    // No connection of the server belongs to the superuser.
    let database = server.database().await;
    let logins = "SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_activity \
                  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert_eq!(text(&database, logins).await, "chat_app chat_owner chat_writer");
    // Functions that run with their owner's rights are not for everybody, and look into temporary tables last.
    let open = "SELECT coalesce(string_agg(p.oid::regprocedure::text, ', '), '') FROM pg_proc p \
                WHERE p.prosecdef AND (has_function_privilege('public', p.oid, 'EXECUTE') \
                    OR NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c ~ '^search_path=.*pg_temp\"?$'))";
    assert_eq!(text(&database, open).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_an_external_database_with_four_ordinary_logins() {
    // The first server provides PostgreSQL. PostgreSQL asks for passwords for the database of the second server.
    let host = Server::start(1, &[]);
    let database = host.database().await;
    for statement in [
        "CREATE ROLE chat_installer LOGIN PASSWORD 'installer-password'",
        "ALTER ROLE chat_owner PASSWORD 'owner-password'",
        "ALTER ROLE chat_app PASSWORD 'app-password'",
        "ALTER ROLE chat_writer PASSWORD 'writer-password'",
        "CREATE DATABASE second OWNER chat_owner ENCODING 'UTF8' TEMPLATE template0",
        "REVOKE ALL ON DATABASE second FROM PUBLIC",
        "GRANT CONNECT ON DATABASE second TO chat_installer, chat_app, chat_writer",
    ] {
        database.batch_execute(statement).await.unwrap();
    }
    let rules = host.data_dir.join("postgres/pg_hba.conf");
    let by_peer = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("local second all scram-sha-256\n{by_peer}")).unwrap();
    database.batch_execute("SELECT pg_reload_conf()").await.unwrap();

    let url = database_url(&host).replace("veza@", "chat_installer:installer-password@").replace("veza_chat", "second");
    let settings = |writer| {
        [
            ("database.url", url.as_str()),
            ("database.owner_password", "owner-password"),
            ("database.app_password", "app-password"),
            ("database.writer_password", writer),
        ]
    };
    {
        let server = Server::start(1, &settings("writer-password"));
        let ann = server.register().await;
        let room = server.room(&[&ann]).await;
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "by four logins"})).await;
        server.found_in_time(&ann, "logins", 1).await;
    }
    let error = refusal(free_address(), None, &settings("another-password"));
    assert!(error.contains("chat_writer") && error.contains("database.writer_password"), "{error}");
    assert!(!error.contains("another-password"), "{error}");

    // Without passwords the server derives them, which takes an installer that may create roles.
    let alone = [("database.url", url.as_str())];
    let error = refusal(free_address(), None, &alone);
    assert!(error.contains("chat_owner") && error.contains("Database logins"), "{error}");
    database.batch_execute("ALTER ROLE chat_installer CREATEROLE").await.unwrap();
    {
        let server = Server::start(1, &alone);
        server.register().await;
    }

    // A login that can become more.
    for (more, less, named) in [
        ("GRANT chat_writer TO chat_app", "REVOKE chat_writer FROM chat_app", "chat_app can become chat_writer"),
        ("GRANT pg_read_all_data TO chat_app", "REVOKE pg_read_all_data FROM chat_app", "pg_read_all_data"),
        ("GRANT veza TO chat_owner", "REVOKE veza FROM chat_owner", "chat_owner can become"),
        ("ALTER ROLE chat_writer CREATEROLE", "ALTER ROLE chat_writer NOCREATEROLE", "chat_writer NOCREATEROLE"),
        ("ALTER ROLE chat_app BYPASSRLS", "ALTER ROLE chat_app NOBYPASSRLS", "chat_app NOBYPASSRLS"),
    ] {
        database.batch_execute(more).await.unwrap();
        let settings = settings("writer-password");
        let error = refusal(free_address(), None, &[settings[0]]);
        assert!(error.contains(named), "{more}: {error}");
        database.batch_execute(less).await.unwrap();
    }
}

#[tokio::test]
async fn a_private_postgresql_of_an_earlier_version_gets_its_logins() {
    let server = Server::start(1, &[]);
    let ann = server.register().await;
    let earlier = "ALTER ROLE chat_app NOLOGIN; ALTER ROLE chat_writer NOLOGIN; ALTER ROLE chat_owner NOLOGIN; \
                   ALTER DATABASE veza_chat OWNER TO veza";
    server.database().await.batch_execute(earlier).await.unwrap();
    server.kill9(); // its PostgreSQL stays
    let directory = server.data_dir.join("postgres");
    std::fs::write(directory.join("pg_hba.conf"), "local all all trust\n").unwrap();
    std::fs::remove_file(directory.join("veza-logins-1")).unwrap();
    server.start_again();
    assert_eq!(server.login(&ann).await.id, ann.id);
}
