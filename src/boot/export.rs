//! `chat-server export`: the whole server in the format of another one, while it runs.

use super::error::{BootError, system};
use super::files::store;
use super::output::{ProgressLine, print};
use super::reach::with_whole_database;
use super::secret::database_passwords;
use crate::config::{Config, SecretUrl};
use crate::export::{ExportFault, ExportOptions, Output, OutputFormat, export_mattermost, is_team_name};
use crate::files::store::disk::DiskThreads;
use crate::storage::accounts::Accounts;
use crate::storage::connect::{Role, Target};
use crate::storage::export::ExportSession;
use crate::storage::migrate as migrations;
use std::path::PathBuf;

/// What `export mattermost` is given.
pub struct ExportCommand {
    /// The zip or the file of lines.
    pub to: PathBuf,
    /// The name of the team.
    pub team: String,
    /// Whether attachments are exported.
    pub has_files: bool,
    /// A file with the URL of a login that reads every row.
    pub database_url_file: Option<PathBuf>,
}

/// Exports everything in Mattermost's bulk format, and prints what the export has.
///
/// # Errors
/// When something cannot be read or written. There is no export then.
pub fn export_to_mattermost(config: &Config, options: &ExportCommand) -> Result<(), BootError> {
    let format = match options.to.extension().and_then(|extension| extension.to_str()) {
        Some("zip") => OutputFormat::Zip,
        Some("jsonl") => OutputFormat::Lines,
        _ => {
            return Err(BootError::Configuration("the name of the export must end with .zip or .jsonl".to_owned()));
        }
    };
    if !is_team_name(&options.team) {
        return Err(BootError::Configuration(
            "--team: the name of a team has 2 to 64 lower-case letters, digits and hyphens, and does not begin with a \
             word of Mattermost's own addresses"
                .to_owned(),
        ));
    }
    Output::require_free(&options.to, format).map_err(system("cannot write the export"))?;
    let url = options.database_url_file.as_deref().map(super::backup::read_url).transpose()?;
    let threads = DiskThreads::new().map_err(system("cannot start threads for files"))?;
    let store = store(config, threads.disk())?;
    // Of the server's own login, because the one that reads every row may not write.
    let writer_target = match config.database.url.as_ref().map(SecretUrl::expose).or(url.as_deref()) {
        Some(url) => Some(Target::from_url(url, database_passwords(config)?)?),
        None => None,
    };
    let given = ExportOptions { team: options.team.clone(), has_files: options.has_files };
    let report = with_whole_database(config, url.as_deref(), async |target| {
        let writer_target = writer_target.as_ref().unwrap_or(target);
        migrations::require_migrated(writer_target).await?;
        let accounts = Accounts::new(writer_target.pool(Role::Writer, 1)?);
        let to = options.to.display().to_string();
        accounts.record_export(&to, "mattermost", options.has_files).await.map_err(BootError::Refused)?;
        let session = ExportSession::open(target).await?;
        let mut output = Output::begin(&options.to, format).map_err(system("cannot write the export"))?;
        let mut line = ProgressLine::new();
        let shown = |messages| line.show(|| format!("{messages} messages"));
        let exported = export_mattermost(&session, &store, &given, &mut output, shown).await;
        line.clear();
        match exported {
            Ok(report) => {
                output.finish().map_err(system("cannot write the export"))?;
                Ok(report)
            }
            Err(fault) => {
                output.discard();
                Err(BootError::from(fault))
            }
        }
    })?;
    print(&report.text());
    print(&format!("\n{}\n", options.to.display()));
    Ok(())
}

impl From<ExportFault> for BootError {
    fn from(fault: ExportFault) -> Self {
        match fault {
            ExportFault::Storage(error) => error.into(),
            ExportFault::Output(error) => system("cannot write the export")(error),
        }
    }
}
