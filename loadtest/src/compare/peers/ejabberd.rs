//! ejabberd: XMPP over WebSocket, rooms (MUC) whose archive (MAM) is in PostgreSQL.
//!
//! The Erlang VM is started directly, because `ejabberdctl` works only on the machine's own installation. There is no
//! cluster, so the VM has no name and starts no port mapper.

use super::ground::{Ground, Missing, Running, required};
use crate::compare::child::{Child, directory_for, run, unprivileged, write_file};
use crate::compare::codec::xmpp::{DOMAIN, ROOMS_DOMAIN};
use crate::compare::places::Places;
use crate::compare::postgres::{self, Postgres};
use crate::setup::account::PASSWORD;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const INSTALL: &str = "loadtest/peers/install.sh ejabberd   (apt-get install ejabberd erlang-p1-pgsql postgresql)";
const SCHEMA: &str = "/usr/share/ejabberd/sql/pg.sql";
const DATABASE: &str = "ejabberd";
/// Asks the Erlang VM for ejabberd's version and for the driver's code.
const PROBE: &str =
    "application:load(ejabberd), V = case application:get_key(ejabberd, vsn) of {ok, S} -> S; _ -> [] end,
    io:format(\"~s ~p\", [V, code:which(pgsql)]), halt().";
/// Connections to PostgreSQL. Rooms are archived independently, so this many commits can share one flush.
const SQL_CONNECTIONS: u32 = 32;

/// Where its parts are.
pub struct EjabberdParts {
    erl: PathBuf,
    libraries: PathBuf,
    schema: String,
    version: String,
}

/// Finds the Erlang VM, ejabberd's code, its PostgreSQL driver, and PostgreSQL.
///
/// # Errors
/// When one of them is not installed.
pub fn find(places: &Places) -> Result<EjabberdParts, Missing> {
    let control = required(places, "ejabberdctl", INSTALL)?;
    let erl = required(places, "erl", INSTALL)?;
    if places.postgres_programs().is_none() {
        return Err(Missing::new("PostgreSQL's programs (initdb, postgres) were not found", INSTALL));
    }
    let script = std::fs::read_to_string(&control)
        .map_err(|error| Missing::new(format!("{} cannot be read: {error}", control.display()), INSTALL))?;
    let libraries = libraries(&script)
        .ok_or_else(|| Missing::new(format!("{} does not say where its code is", control.display()), INSTALL))?;
    let mut ask = Command::new(&erl);
    ask.env("ERL_LIBS", &libraries).args(["-noinput", "-eval", PROBE]);
    let answer = run(ask).map_err(|error| Missing::new(error, INSTALL))?;
    let (version, driver) = answer.split_once(' ').unwrap_or_default();
    if version.is_empty() {
        return Err(Missing::new(format!("there is no ejabberd in {}", libraries.display()), INSTALL));
    }
    if driver == "non_existing" {
        return Err(Missing::new("its driver for PostgreSQL (erlang-p1-pgsql) was not found", INSTALL));
    }
    let schema = std::fs::read_to_string(SCHEMA)
        .map_err(|error| Missing::new(format!("its schema {SCHEMA} cannot be read: {error}"), INSTALL))?;
    Ok(EjabberdParts { erl, version: version.to_owned(), libraries, schema })
}

/// The directory of Erlang libraries that `ejabberdctl` names.
fn libraries(script: &str) -> Option<PathBuf> {
    let line = script.lines().find_map(|line| line.trim().strip_prefix("ERL_LIBS="))?;
    let path = line.trim_matches(|quote| quote == '\'' || quote == '"');
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// Starts PostgreSQL and ejabberd.
///
/// # Errors
/// When one of them does not start.
pub fn start(ground: &mut Ground<'_>) -> Result<Running, String> {
    let parts = find(ground.places)?;
    let owner = unprivileged(&["ejabberd", "nobody"])?;
    let store =
        Postgres::start(ground.places, &ground.directory.join("postgres"), ground.ports.reserve()?, ground.cores)?;
    store.create_database(DATABASE, &parts.schema)?;
    // One user per connection. With plain passwords a log-in costs one look-up instead of 4,096 rounds of SCRAM.
    let users = format!(
        "INSERT INTO users (username, password) SELECT 'u' || n, '{PASSWORD}' FROM generate_series(0, {}) n
         ON CONFLICT DO NOTHING",
        ground.connections
    );
    store.execute(DATABASE, &users)?;

    let address = ground.address()?;
    let (spool, logs) = (ground.directory.join("spool"), ground.directory.join("logs"));
    directory_for(&spool, owner)?;
    directory_for(&logs, owner)?;
    let configuration_path = ground.directory.join("ejabberd.yml");
    write_file(&configuration_path, &configuration(address, &store))?;
    let mut command = Command::new(&parts.erl);
    command
        // As in ejabberdctl: kernel polling, and enough ports for many connections.
        .args(["+K", "true", "+P", "250000"])
        // An idle scheduler sleeps immediately. By default it spins for a while, which the figures would show as work.
        .args(["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"])
        .args(["-noinput", "-mnesia", "dir"])
        .arg(format!("\"{}\"", spool.display()))
        .args(["-s", "ejabberd"])
        .current_dir(&spool)
        .env("HOME", &spool)
        .env("EJABBERD_CONFIG_PATH", &configuration_path)
        .env("EJABBERD_LOG_PATH", logs.join("ejabberd.log"))
        .env("ERL_LIBS", &parts.libraries)
        .env("ERL_MAX_PORTS", "65536")
        .env("ERL_CRASH_DUMP_BYTES", "0");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    let mut server = Child::start("ejabberd", command, &logs_file(ground.directory), ground.cores)?;
    server.wait_until_listening(address)?;
    Ok(Running { address, version: parts.version, workers: None, server, store: Some(store) })
}

fn logs_file(directory: &Path) -> PathBuf {
    directory.join("ejabberd.out")
}

fn configuration(address: SocketAddr, store: &Postgres) -> String {
    format!(
        "hosts: [{DOMAIN}]
loglevel: error
listen:
  - port: {port}
    ip: \"{ip}\"
    module: ejabberd_http
    # The default of 5 lets a crowd that connects at once wait for seconds.
    backlog: 1024
    request_handlers: {{/ws: ejabberd_http_ws}}
# No limit on how fast a client may send: the server is measured, not a limiter.
shaper_rules: {{max_user_sessions: 10000}}
auth_method: sql
auth_password_format: plain
default_db: sql
sql_type: pgsql
sql_server: 127.0.0.1
sql_port: {sql_port}
sql_database: {DATABASE}
sql_username: {user}
sql_password: {password}
sql_pool_size: {SQL_CONNECTIONS}
sql_prepared_statements: true
modules:
  mod_muc:
    host: {ROOMS_DOMAIN}
    max_users: 65536
    max_user_conferences: 65536
    # Archived messages are what MAM is for; rooms keep none in memory besides.
    history_size: 0
    default_room_options:
      persistent: true
      public: false
      mam: true
      max_users: 65536
      # No presence is sent: a room of 1,000 would otherwise begin with a million presences.
      presence_broadcast: []
  mod_mam:
    default: always
    db_type: sql
    compress_xml: false
",
        port = address.port(),
        ip = address.ip(),
        sql_port = store.port,
        user = postgres::USER,
        password = store.password,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_libraries_where_ejabberdctl_names_them() {
        let script = "#!/bin/bash\nERL=/usr/bin/erl\nERL_LIBS='/usr/lib/x86_64-linux-gnu'\n";
        assert_eq!(libraries(script), Some(PathBuf::from("/usr/lib/x86_64-linux-gnu")));
        assert_eq!(libraries("ERL_LIBS=\"/opt/lib\""), Some(PathBuf::from("/opt/lib")));
        assert_eq!(libraries("echo $ERL_LIBS"), None);
    }
}
