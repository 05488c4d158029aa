//! A private PostgreSQL for the peers that store in one. It has the programs and settings of Veza Chat Server's
//! embedded one, so that the comparison is between servers and not between databases.
//!
//! It listens on a unix socket in its own directory, and on a port of 127.0.0.1 with a password for clients that cannot
//! use a unix socket. Its files stay from round to round, like those of the other servers.

use super::child::{Child, directory_for, run, unprivileged, write_file};
use super::places::Places;
use rustix::process::Signal;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The superuser, who owns what the peers create.
pub const USER: &str = "chat";
/// What to do when its programs are missing.
pub const INSTALL: &str = "apt-get install postgresql";

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    directory: PathBuf,
    /// Port on 127.0.0.1, and the number of its unix socket.
    pub port: u16,
    /// For connections over 127.0.0.1.
    pub password: String,
}

impl Postgres {
    /// Starts it with its files in `directory`, which is filled when it is new.
    ///
    /// # Errors
    /// With PostgreSQL's message.
    pub fn start(places: &Places, directory: &Path, port: u16, cores: &[usize]) -> Result<Self, String> {
        let programs = places
            .postgres_programs()
            .ok_or_else(|| format!("PostgreSQL's programs (initdb, postgres) were not found: {INSTALL}"))?;
        let owner = unprivileged(&["postgres", "nobody"]).map_err(|error| format!("PostgreSQL: {error}"))?;
        let data = directory.join("data");
        directory_for(directory, owner)?;
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir("/").env_remove("PGDATA").env("LC_ALL", "C").arg("-D").arg(&data);
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let password_file = directory.join("password");
        if !data.join("PG_VERSION").exists() {
            let password = format!("{:032x}", rand::random::<u128>());
            write_file(&password_file, &password)?;
            let private = std::fs::set_permissions(&password_file, Permissions::from_mode(0o600));
            private.map_err(|error| format!("cannot protect {}: {error}", password_file.display()))?;
            if let Some((user, group)) = owner {
                std::os::unix::fs::chown(&password_file, Some(user), Some(group))
                    .map_err(|error| format!("cannot hand over {}: {error}", password_file.display()))?;
            }
            let mut initdb = command("initdb");
            initdb
                .args(["--username", USER, "--auth-local=trust", "--auth-host=scram-sha-256"])
                .args(["--encoding=UTF8", "--locale=C", "--data-checksums"])
                .arg(format!("--pwfile={}", password_file.display()));
            run(initdb)?;
        }
        let password = std::fs::read_to_string(&password_file)
            .map_err(|error| format!("cannot read {}: {error}", password_file.display()))?;
        let mut postgres = command("postgres");
        postgres
            .arg("-p")
            .arg(port.to_string())
            .arg("-c")
            .arg(format!("unix_socket_directories={}", directory.display()))
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_permissions=0700"])
            .args(["-c", "max_connections=100", "-c", "fsync=on", "-c", "synchronous_commit=on"])
            .args(["-c", "full_page_writes=on", "-c", "max_wal_size=2GB", "-c", "log_min_messages=warning"]);
        let log = directory.join("postgres.log");
        // SIGINT is PostgreSQL's fast shutdown: it ends sessions and writes a checkpoint.
        let mut child = Child::start("PostgreSQL", postgres, &log, cores)?.stopped_with(Signal::INT);
        let address = format!("host={} port={port} user={USER} dbname=postgres", directory.display());
        child.wait_until("ready", || in_runtime(connect(&address)).is_ok())?;
        Ok(Self { child, directory: directory.to_owned(), port, password })
    }

    /// Its main process; all others are its children.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Where to connect through the unix socket, in the form tokio-postgres reads.
    pub fn address(&self, database: &str) -> String {
        format!("host={} port={} user={USER} dbname={database}", self.directory.display(), self.port)
    }

    /// Creates a database and runs `schema` in it, unless it exists.
    ///
    /// # Errors
    /// With PostgreSQL's message.
    pub fn create_database(&self, name: &str, schema: &str) -> Result<(), String> {
        self.block_on(async {
            let server = connect(&self.address("postgres")).await?;
            let found = server
                .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
                .await
                .map_err(|error| describe(&error))?;
            if found.is_some() {
                return Ok(());
            }
            server.batch_execute(&format!("CREATE DATABASE {name}")).await.map_err(|error| describe(&error))?;
            connect(&self.address(name)).await?.batch_execute(schema).await.map_err(|error| describe(&error))
        })
    }

    /// Runs statements in a database.
    ///
    /// # Errors
    /// With PostgreSQL's message.
    pub fn execute(&self, database: &str, statements: &str) -> Result<(), String> {
        self.block_on(async {
            let client = connect(&self.address(database)).await?;
            client.batch_execute(statements).await.map_err(|error| describe(&error))
        })
    }

    fn block_on<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        in_runtime(work).map_err(|error| format!("PostgreSQL in {}: {error}", self.directory.display()))
    }
}

fn in_runtime<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start a runtime: {error}"))?.block_on(work)
}

/// Connects; the connection is driven by a task of the present runtime.
///
/// # Errors
/// With PostgreSQL's message.
pub async fn connect(address: &str) -> Result<tokio_postgres::Client, String> {
    let (client, connection) =
        tokio_postgres::connect(address, tokio_postgres::NoTls).await.map_err(|error| describe(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// An error with its cause, which in tokio-postgres is PostgreSQL's own message.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
