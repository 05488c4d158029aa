//! `chat-server import`: data of other chat servers, while no server runs.

use super::backup::{GuardedPostgres, refuse_unfinished_restore};
use super::error::{BootError, system};
use super::files::store;
use super::output::{ProgressLine, in_megabytes, print};
use super::reach::{prepare, reached, runtime};
use super::secret::database_passwords;
use crate::config::Config;
use crate::files::store::disk::{Disk, DiskThreads};
use crate::import::report::ImportReport;
use crate::import::{ImportOptions, ImportStage, OldFiles, OldServer, has_content, import};
use crate::storage::StorageError;
use crate::storage::connect::Target;
use crate::storage::embedded;
use crate::storage::server_lock::ServerLock;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two log lines about the progress, where there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Characters of the bar.
const BAR_CHARS: u64 = 30;

/// What `import` is given.
pub struct ImportCommand {
    /// What the dump is of.
    pub server: OldServer,
    /// The dump.
    pub dump: PathBuf,
    /// The name of its database.
    pub source: String,
    /// Whether to write nothing.
    pub is_dry_run: bool,
    /// The folder with the files of the old server.
    pub files: Option<PathBuf>,
    /// The file for the report.
    pub report: Option<PathBuf>,
    /// Whether to begin without a question.
    pub yes: bool,
}

/// Imports a dump of another server, and prints what became of its rows.
///
/// # Errors
/// When a server runs, the dump cannot be read, PostgreSQL refuses something, or the result is not as planned.
pub fn import_dump(config: &Config, options: &ImportCommand) -> Result<(), BootError> {
    refuse_unfinished_restore(config)?;
    check_source(&options.source)?;
    // Before anything starts: a wrong path is the commonest mistake.
    std::fs::metadata(&options.dump).map_err(system("cannot read the dump"))?;
    if !options.yes && !options.is_dry_run && !confirmed()? {
        return Err(BootError::Configuration("the import was not confirmed; nothing was changed".to_owned()));
    }
    let threads = DiskThreads::new().map_err(system("cannot start threads for files"))?;
    let report_file = options.report.as_deref().map(create_report).transpose()?;
    let report = match (&config.database.url, embedded::running(&config.data_dir)) {
        (Some(url), _) => {
            let target = Target::from_url(url.expose(), database_passwords(config)?)?;
            import_into(config, &target, options, threads.disk())?
        }
        (None, Some(running)) => import_into(config, &running.target(), options, threads.disk())?,
        (None, None) if options.is_dry_run && !embedded::is_initialised(&config.data_dir) => {
            let scratch = tempfile::tempdir().map_err(system("cannot make a temporary folder"))?;
            let postgres = GuardedPostgres::start(scratch.path(), Some(scratch.path().to_owned()))?;
            runtime(1)?.block_on(prepare(&postgres.target()?, true))?;
            import_into(config, &postgres.target()?, options, threads.disk())?
        }
        (None, None) => {
            std::fs::create_dir_all(&config.data_dir).map_err(system("cannot make data_dir"))?;
            let postgres = GuardedPostgres::start(&config.data_dir, None)?;
            import_into(config, &postgres.target()?, options, threads.disk())?
        }
    };
    if let Some(mut file) = report_file {
        let written = serde_json::to_writer_pretty(&mut file, &report.json()).map_err(io::Error::from);
        written.and_then(|()| file.sync_all()).map_err(system("cannot write the report"))?;
    }
    print(&report.text());
    conclude(&report)
}

fn conclude(report: &ImportReport) -> Result<(), BootError> {
    let differing = report.differing_tables();
    if !differing.is_empty() {
        return Err(BootError::Broken(format!(
            "these tables differ from the plan after the import: {}; restore a backup and report this",
            differing.join(", ")
        )));
    }
    let sentence = match (report.is_dry_run, report.imported()) {
        (true, rows) => format!("Dry run: {rows} rows would be imported. Nothing was changed."),
        (false, 0) => "Nothing was left to import.".to_owned(),
        (false, rows) => format!("Imported and verified: {rows} rows. Start the server."),
    };
    print(&format!("\n{sentence}\n"));
    Ok(())
}

fn check_source(source: &str) -> Result<(), BootError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=20).contains(&source.len()) && source.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(BootError::Configuration(
        "--source: a name has at most 20 letters, digits, hyphens, underscores and dots".to_owned(),
    ))
}

/// Asks at a terminal. Where nobody can answer, nobody is asked.
fn confirmed() -> Result<bool, BootError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    let ask = "An import cannot be undone. Is there a backup, or is the server new? Type yes to begin: ";
    let _ = io::stderr().write_all(ask.as_bytes());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(system("cannot read the answer"))?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// The report has names and addresses, so others may not read it.
fn create_report(path: &Path) -> Result<std::fs::File, BootError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.map_err(system("cannot write the file of --report"))
}

fn import_into(
    config: &Config,
    target: &Target,
    options: &ImportCommand,
    disk: Disk,
) -> Result<ImportReport, BootError> {
    let runtime = runtime(2)?;
    let mut given = ImportOptions {
        server: options.server,
        dump: options.dump.clone(),
        source: options.source.clone(),
        is_dry_run: options.is_dry_run,
        files: None,
    };
    if let Some(from) = &options.files {
        std::fs::read_dir(from).map_err(system("cannot read the folder of --files"))?;
    }
    if options.files.is_some() || has_content(options.server, &options.dump)? {
        let (from, to) = (options.files.clone(), store(config, disk)?.folder());
        given.files = Some(OldFiles { from, to, bytes_max: config.limits.max_file_size });
    }
    let imported = runtime.block_on(async {
        let name = format!("veza import, process {}", std::process::id());
        let lock = match ServerLock::acquire(target, &name, false).await {
            Err(StorageError::InUse(holder)) => {
                return Err(BootError::Configuration(format!(
                    "a server uses this database ({holder}). Stop it first: an import needs the database for itself"
                )));
            }
            lock => reached(target, lock)?,
        };
        prepare(target, config.database.auto_migrate && !options.is_dry_run).await?;
        let mut progress = ShownProgress::new();
        let report = import(target, &given, |stage| progress.show(stage)).await;
        progress.line.clear();
        drop(lock);
        Ok(report?)
    });
    drop(runtime);
    imported
}

/// A bar at a terminal, log lines elsewhere.
struct ShownProgress {
    line: ProgressLine,
    is_terminal: bool,
    logged: Option<Instant>,
}

impl ShownProgress {
    fn new() -> Self {
        Self { line: ProgressLine::new(), is_terminal: io::stderr().is_terminal(), logged: None }
    }

    fn show(&mut self, stage: ImportStage) {
        if self.is_terminal {
            self.line.show(|| shown(stage));
        } else if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            tracing::info!("import: {}", shown(stage));
        }
    }
}

fn bar(done: u64, all: u64) -> String {
    let all = all.max(1);
    let filled = (done.min(all) * BAR_CHARS / all) as usize;
    let percent = done.min(all) * 100 / all;
    format!("[{}{}] {percent:>3} %", "#".repeat(filled), ".".repeat(BAR_CHARS as usize - filled))
}

fn shown(stage: ImportStage) -> String {
    match stage {
        ImportStage::Reading(bytes, Some(all)) => format!("{} reading, {}", bar(bytes, all), in_megabytes(bytes)),
        ImportStage::Reading(bytes, None) => format!("reading, {}", in_megabytes(bytes)),
        ImportStage::Planning(step, steps, about) => format!("{} planning: {about}", bar(step as u64, steps as u64)),
        ImportStage::Accounts => "writing users and conversations".to_owned(),
        ImportStage::Messages(done, all) => format!("{} {done} of {all} messages", bar(done, all)),
        ImportStage::Files(done, all) => format!("{} {done} of {all} files", bar(done, all)),
        ImportStage::Verifying => "verifying".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_never_longer_than_it_is() {
        assert_eq!(bar(0, 0), format!("[{}]   0 %", ".".repeat(30)));
        assert_eq!(bar(1, 2), format!("[{}{}]  50 %", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(9, 3), format!("[{}] 100 %", "#".repeat(30)));
    }
}
