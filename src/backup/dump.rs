//! PostgreSQL's own programs: `pg_dump` reads the database of a backup, `pg_restore` writes it.
//!
//! A restored database belongs to `chat_owner`, who also runs the restore. So a dump can do no more than the server's
//! own migrations can, even a dump from a stranger.

use super::BackupFault;
use crate::storage::connect::{Role, Target};
use crate::storage::embedded;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

/// Bytes of what a program writes to its standard error that are kept.
const REASON_BYTES_MAX: u64 = 4_000;
/// How long `pg_dump` waits for a table that a migration has locked.
const LOCK_WAIT_MS: u32 = 60_000;
/// Variables with which libpq would connect elsewhere or otherwise.
const FOREIGN_VARIABLES: &[&str] = &["PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGSSLMODE", "PGTZ", "PGCLIENTENCODING"];

/// Where `pg_dump` and `pg_restore` are.
pub struct DumpPrograms(PathBuf);

/// A part of a dump, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DumpSection {
    /// Tables and their rows.
    Rows,
    /// Indexes, constraints, triggers, and row level security.
    Rules,
}

/// A dump that is being made.
pub struct RunningDump {
    program: &'static str,
    child: Child,
    errors: JoinHandle<String>,
}

fn holds_programs(directory: &Path) -> bool {
    directory.join("pg_dump").is_file() && directory.join("pg_restore").is_file()
}

impl DumpPrograms {
    /// Beside PostgreSQL's server programs, in Debian's directories, or in PATH.
    ///
    /// # Errors
    /// What to install.
    pub fn find() -> Result<Self, BackupFault> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside = embedded::find_programs().ok().filter(|directory| holds_programs(directory));
        let found = beside
            .or_else(|| embedded::newest_of_debian(holds_programs))
            .or_else(|| std::env::split_paths(&path).find(|directory| holds_programs(directory)));
        found.map(Self).ok_or_else(|| {
            BackupFault::Unfit(
                "PostgreSQL's programs pg_dump and pg_restore were not found in PATH or /usr/lib/postgresql: \
                 `apt-get install postgresql-client`, of the server's version or a later one"
                    .to_owned(),
            )
        })
    }

    /// Their folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    fn command(&self, program: &str, environment: Vec<(&'static str, String)>) -> Command {
        let mut command = Command::new(self.0.join(program));
        for name in FOREIGN_VARIABLES {
            command.env_remove(name);
        }
        command.envs(environment).env("LC_ALL", "C").current_dir("/").stderr(Stdio::piped());
        command
    }

    /// Begins to dump a snapshot, as the login of the target.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn dump(&self, target: &Target, snapshot: &str) -> Result<(RunningDump, ChildStdout), BackupFault> {
        let mut command = self.command("pg_dump", target.program_environment(None));
        command.args(["--format=custom", "--no-password", "--snapshot", snapshot]);
        command.arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"));
        RunningDump::start("pg_dump", command)
    }

    /// Begins to print a dump as SQL. No database is involved.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn print(&self, dump: &Path) -> Result<(RunningDump, ChildStdout), BackupFault> {
        let mut command = self.command("pg_restore", Vec::new());
        command.args(["--no-owner", "--no-privileges", "--file=-"]).arg(dump);
        RunningDump::start("pg_restore", command)
    }

    /// Restores a section of a dump as the owner, in one transaction.
    ///
    /// # Errors
    /// PostgreSQL's reason, and the system's.
    pub fn restore(&self, target: &Target, section: DumpSection, mut dump: impl Read) -> Result<(), BackupFault> {
        let sections: &[&str] = match section {
            DumpSection::Rows => &["--section=pre-data", "--section=data"],
            DumpSection::Rules => &["--section=post-data"],
        };
        let environment = target.program_environment(Some(Role::Owner));
        let database = environment.iter().find(|(name, _)| *name == "PGDATABASE").map(|(_, value)| value.clone());
        let mut child = self
            .command("pg_restore", environment)
            .args(["--no-owner", "--no-password", "--exit-on-error", "--single-transaction", "--dbname"])
            .arg(database.unwrap_or_default())
            .args(sections)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(BackupFault::io("cannot start pg_restore"))?;
        let errors = errors_of(&mut child);
        let copied = child.stdin.take().map_or(Ok(0), |mut input| io::copy(&mut dump, &mut input));
        let ended = RunningDump { child, errors, program: "pg_restore" }.finish();
        // It stops reading when it has what it needs, or when it fails.
        match (ended, copied) {
            (Ok(()), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            (Ok(()), Err(error)) => Err(BackupFault::io("cannot read the dump of the database")(error)),
            (ended, _) => ended,
        }
    }
}

impl RunningDump {
    /// Starts a program that reads nothing and writes a dump.
    fn start(program: &'static str, mut command: Command) -> Result<(Self, ChildStdout), BackupFault> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(BackupFault::io(format!("cannot start {program}")))?;
        let output = child.stdout.take().ok_or_else(|| BackupFault::Unfit(format!("{program} has no output")))?;
        let errors = errors_of(&mut child);
        Ok((Self { program, child, errors }, output))
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// Its reason.
    pub fn finish(mut self) -> Result<(), BackupFault> {
        let program = self.program;
        let status = self.child.wait().map_err(BackupFault::io(format!("cannot wait for {program}")))?;
        let reason = self.errors.join().unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let reason = if reason.is_empty() { status.to_string() } else { reason };
        Err(BackupFault::Program { program, reason })
    }

    /// Ends the program.
    pub fn abort(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the standard error, so that the program never waits for a reader.
fn errors_of(child: &mut Child) -> JoinHandle<String> {
    let errors = child.stderr.take();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut errors) = errors {
            let _ = errors.by_ref().take(REASON_BYTES_MAX).read_to_end(&mut kept);
            let _ = io::copy(&mut errors, &mut io::sink());
        }
        String::from_utf8_lossy(&kept).trim().replace('\n', "; ")
    })
}
