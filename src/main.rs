//! The `chat-server` binary: reads the arguments, runs a command, and returns an exit code.
//!
//! Exit codes: 0 success, 1 failure while running, 2 invalid arguments or configuration.

use chat_server::boot::{self, logging};
use chat_server::config::{Config, ConfigErrors, Sources};
use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const RUNTIME_FAILURE: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  chat-server                                    run the server with ./config and the environment
  chat-server --config /etc/chat-server.toml     add a file that overrides those in ./config
  chat-server check-config                       print every value in force and its origin
  chat-server doctor                             whether the machine and the services are as the server needs them
  chat-server health                             whether the running server is ready; exit code 1 if not
  chat-server migrate --plan                     what the migration would change; changes nothing
  chat-server migrate                            apply it and exit
  chat-server audit verify                       whether the audit trail is as it was written
  chat-server files check                        whether all content of files is there
  chat-server keys rotate                        a new key for access tokens; reload the server after it
  chat-server backup create --to /var/backups    database, files and keys, while the server runs
  chat-server export mattermost --help           take everything to Mattermost
  chat-server import --help                      bring the data of Slack, Mattermost or an older Veza over
  chat-server rotate-keys --help                 how to change the key that encrypts stored secrets
  CHAT_SERVER__SERVER__BIND_ADDR=0.0.0.0:80 chat-server serve

Configuration layers, the lowest first: built-in defaults, config/default.toml, config/{environment}.toml,
--config FILE, environment variables CHAT_SERVER__SECTION__KEY.

Exit codes: 0 success, 1 failure while running, 2 invalid arguments or configuration.";

const KEYS_EXAMPLES: &str = "\
Examples:
  chat-server keys rotate && systemctl reload chat-server        a new key signs; tokens of the old one stay valid
  chat-server keys rotate --now && systemctl reload chat-server  somebody else may know the key: every client refreshes
  chat-server keys list                                          which keys sign and verify

The keys are kept in data_dir/jwt_keys. Run this as the server's user and with its configuration. Servers that share a
database have their keys in security.jwt_keys; for them the command prints a new key and the steps.";

const ROTATE_EXAMPLES: &str = "\
To change the key:
  1. Put the new key first in security.encryption_keys, before the old ones, and restart the server.
     Several servers: first add it as the last key on all of them, and move it to the front after that.
  2. chat-server rotate-keys
  3. Remove the old keys and restart the server.

Examples:
  openssl rand -base64 32                        a new key; give it an id: 2026-12:BASE64
  CHAT_SERVER__SECURITY__ENCRYPTION_KEYS=2026-12:NEW,2026-06:OLD chat-server rotate-keys

The server may run meanwhile. It is safe to run this again. A key that the server made itself is in
data_dir/encryption_key; it stays valid after you configure others, until you delete that file.";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  chat-server migrate --plan                     table migrations to apply, rules that differ, rule sets to drop
  chat-server migrate                            apply them
  CHAT_SERVER__DATABASE__URL=postgres://chat@db/chat chat-server migrate --plan

Without database.url this is about the private PostgreSQL in data_dir; it is started when it does not run. A server
applies the same at its start, unless database.auto_migrate is false.";

const AUDIT_EXAMPLES: &str = "\
Examples:
  chat-server audit checkpoint > 2026-11-29.checkpoint       sign the end; keep the file on another machine
  chat-server audit verify                                   the chain, and the checkpoints beside it
  chat-server audit verify --checkpoint 2026-11-29.checkpoint
                                                             also finds a rewrite of everything
  chat-server audit key                                      the public key, for --key

Without database.url this is about the private PostgreSQL in data_dir, whether the server runs or not.
docs/audit.md describes the chain and how to verify it by other means.";

const FILES_EXAMPLES: &str = "\
Examples:
  chat-server files check                        every file's content is there, with its size, and nothing else is
  chat-server files check --deep                 also read all of it and compare its SHA-256
  chat-server files check --repair               also remove what nothing needs

Unfinished uploads are checked too: their files must have the bytes that the server acknowledged.

The server may run meanwhile. Content that is missing or damaged can only come from a backup; the files that have it
are named.";

const BACKUP_EXAMPLES: &str = "\
Examples:
  chat-server backup create --to /var/backups/chat
                                                 database, files and keys; prints the folder of the new backup
  chat-server backup create --to /var/backups/chat --recipient age1…
                                                 encrypted; age-keygen makes the key, which stays elsewhere
  chat-server backup create --to s3://my-backups/chat
                                                 in a bucket, with the access key of files.s3_access_key_id
  chat-server backup verify /var/backups/chat/2026-11-29T031500Z
                                                 whether it could be restored; changes nothing
  chat-server backup restore /var/backups/chat/2026-11-29T031500Z
                                                 into an empty data_dir, and verifies the result

The server may run during create and verify. Restore needs an empty data_dir, and with database.url an empty database.
Settings and secrets of the configuration are not in a backup: keep them too. docs/operations.md has the drill.

Exit codes: 0 success, 1 failure or finding, 2 invalid arguments or configuration.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  pg_dump --format=custom veza_chat_old > old.dump
                                                 on the old machine; a plain dump works too
  chat-server import veza-legacy --dry-run --report report.json old.dump
                                                 what would be imported, rejected and changed; changes nothing
  chat-server import veza-legacy --report report.json old.dump
                                                 import it; run it again if it was cut short
  chat-server import veza-legacy --source lyon lyon.dump
                                                 a second old database; its ids are remembered apart

Stop the server first. Nothing of a dump is executed. A second run with the same dump changes nothing. Users sign in
with their old passwords. docs/migration.md says what becomes of each table.

Exit codes: 0 imported, 1 failure, 2 invalid arguments or configuration.";

const MATTERMOST_EXAMPLES: &str = "\
Examples:
  mmctl export create && mmctl export download NAME_export.zip
                                                 on the old machine: everything, with attachments
  chat-server import mattermost --dry-run --report report.json NAME_export.zip
                                                 what would be imported, rejected and changed; changes nothing
  chat-server import mattermost --report report.json NAME_export.zip
                                                 import it; run it again if it was cut short
  chat-server import mattermost --files /srv/mattermost/data export.jsonl
                                                 the bulk format alone; attachments are in a folder

Stop the server first. A second run with the same export changes nothing. Nobody can sign in until an operator sets a
password: an export has none. docs/migration-mattermost.md says what becomes of each line.

Exit codes: 0 imported, 1 failure, 2 invalid arguments or configuration.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  chat-server export mattermost --files export.zip
                                                 everything, with attachments
  chat-server export mattermost --team acme export.jsonl
                                                 the lines alone, into the team acme
  mmctl import upload export.zip && mmctl import process UPLOAD_ID_export.zip
                                                 on the new machine

The server may run meanwhile: everything is of one moment. docs/export-mattermost.md says what Mattermost has no place
for, and the report counts it.

Exit codes: 0 exported, 1 failure, 2 invalid arguments or configuration.";

const SLACK_EXAMPLES: &str = "\
Examples:
  chat-server import slack --dry-run --report report.json export.zip
                                                 what would be imported, rejected and changed; changes nothing
  chat-server import slack --report report.json export.zip
                                                 import it; run it again if it was cut short
  chat-server import slack --files downloads export.zip
                                                 with files that were downloaded: downloads/FILE_ID/NAME

Stop the server first. A second run with the same export changes nothing. Nobody can sign in until an operator sets a
password: an export has none. docs/migration-slack.md says what becomes of each file.

Exit codes: 0 imported, 1 failure, 2 invalid arguments or configuration.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  chat-server doctor                             one line for each check: ok, warning or fault, and what to do
  chat-server doctor --json | jq -r 'select(.severity != \"ok\") | .check'
                                                 the names of the checks that found something
  chat-server --config /etc/chat-server/chat-server.toml doctor
                                                 with the configuration of a service; run it as the service's user

Nothing is changed, and the server may run meanwhile. Each check ends within 5 seconds. The private PostgreSQL is
examined if it runs, and never started. docs/operations.md describes the checks.

Exit codes: 0 no fault (there may be warnings), 1 a fault, 2 invalid arguments or configuration.";

const HEALTH_EXAMPLES: &str = "\
Examples:
  chat-server health                             ask the server of this configuration, on this machine
  chat-server health --url http://127.0.0.1:9464/health/live
                                                 ask another address; reads no configuration
  until chat-server health; do sleep 1; done     wait until the server is ready

Asks server.internal_addr, whose answer has the reasons, or server.bind_addr if it is not set. The answer must come
within 4 seconds. The Dockerfile uses this as its HEALTHCHECK.

Exit codes: 0 ready, 1 not ready or no answer, 2 invalid arguments or configuration.";

/// A self-hosted chat server with one core per shard and everything in PostgreSQL.
#[derive(Parser)]
#[command(name = "chat-server", version, after_help = EXAMPLES)]
struct Arguments {
    /// A configuration file that overrides those in ./config.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server. This is the default command.
    Serve,
    /// Bring the database to this version and exit: tables, and the rule set.
    #[command(after_help = MIGRATE_EXAMPLES)]
    Migrate {
        /// Print what would change, and change nothing.
        #[arg(long)]
        plan: bool,
    },
    /// The audit trail: sign its end, or verify all of it.
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit {
        #[command(subcommand)]
        action: AuditAction,
    },
    /// Files: whether the store has what the tables say.
    #[command(after_help = FILES_EXAMPLES)]
    Files {
        #[command(subcommand)]
        action: FilesAction,
    },
    /// The keys that sign access tokens: list them, or make a new one.
    #[command(after_help = KEYS_EXAMPLES)]
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Backups of the whole server: make one, verify it, restore it.
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        #[command(subcommand)]
        action: BackupAction,
    },
    /// Bring data of another chat server over, while this server is stopped.
    Import {
        #[command(subcommand)]
        from: ImportSource,
    },
    /// Write everything in the format of another chat server, while this server runs.
    Export {
        #[command(subcommand)]
        to: ExportTarget,
    },
    /// Encrypt the stored secrets of two-factor authentication and of webhooks with the first of the configured keys.
    #[command(after_help = ROTATE_EXAMPLES)]
    RotateKeys,
    /// Examine the machine and the services that the configuration names, and change nothing.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor {
        /// Print one JSON object a line: check, severity, found, advice.
        #[arg(long)]
        json: bool,
    },
    /// Ask the running server whether it is ready.
    #[command(after_help = HEALTH_EXAMPLES)]
    Health {
        /// The address to ask instead of the configured one.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Print the effective configuration with masked secrets, or all its problems.
    CheckConfig,
    /// Examine the picture, sound or film at the standard input. The server starts this; it needs no configuration.
    #[command(hide = true)]
    ExamineMedia {
        /// What the file is, such as image/png.
        #[arg(long = "type", value_name = "TYPE")]
        media_type: String,
        /// The folder for thumbnails.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Make the picture of a user, and nothing else.
        #[arg(long)]
        avatar: bool,
    },
}

#[derive(Subcommand)]
enum AuditAction {
    /// Sign the end of the audit trail, and print it for keeping elsewhere.
    Checkpoint,
    /// Print the public key of the checkpoints.
    Key,
    /// Verify every row. Exit code 1 if the audit trail was changed.
    Verify {
        /// A checkpoint that was kept elsewhere. Without one, a rewrite of everything cannot be noticed.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// What `audit key` printed; for a machine without the server's files.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
}

#[derive(Subcommand)]
enum KeysAction {
    /// Print the ids of the keys, and what each is used for.
    List,
    /// Make a new key, which signs from the next reload on. Nobody is signed out.
    Rotate {
        /// Take every other key out of use at once: somebody else may know one. Clients refresh their tokens.
        #[arg(long)]
        now: bool,
    },
}

#[derive(Subcommand)]
enum FilesAction {
    /// Compare the store with the tables. Exit code 1 if content is missing or damaged, or if no file needs it.
    Check {
        /// Read all content and compare its SHA-256. Without it, names and sizes are compared.
        #[arg(long)]
        deep: bool,
        /// Remove content that no file needs, and correct what users' files are counted as.
        #[arg(long)]
        repair: bool,
    },
}

#[derive(Subcommand)]
enum BackupAction {
    /// Make a backup, while the server runs or not. Exit code 1 if content was lost already, and if there is no backup.
    Create {
        /// The folder of the backups, or the address of a bucket as in the examples.
        #[arg(long, value_name = "PLACE")]
        to: boot::BackupPlace,
        /// Its name there. Without one, the time in UTC.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Encrypt it for this public key of age. Give it again for further ones.
        #[arg(long, value_name = "KEY")]
        recipient: Vec<boot::BackupRecipient>,
        /// A file with the URL of a login that reads every row. Without it, the login of database.url.
        #[arg(long, value_name = "FILE")]
        database_url_file: Option<PathBuf>,
    },
    /// Read a backup, restore its database into a temporary folder and compare. Exit code 1 if anything is wrong.
    Verify {
        /// The folder of one backup, or its address in a bucket.
        #[arg(value_name = "BACKUP")]
        backup: boot::BackupPlace,
        /// The secret key of an encrypted backup, as age-keygen writes it.
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// Compare the checksums only. This needs neither PostgreSQL nor an identity.
        #[arg(long)]
        checksums: bool,
        /// Where the temporary folder is made. It needs room for the database.
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
    /// Restore a backup into the empty place of the configuration, and verify it. Exit code 1 if anything is missing.
    Restore {
        /// The folder of one backup, or its address in a bucket.
        #[arg(value_name = "BACKUP")]
        backup: boot::BackupPlace,
        /// The secret key of an encrypted backup, as age-keygen writes it.
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// If contents of files are damaged, restore everything else.
        #[arg(long)]
        without_damaged_files: bool,
        /// A further ledger of erasures, as the file erasures.jsonl of the lost server. The one in the folder of the
        /// backups is used anyway. Can be given more than once.
        #[arg(long, value_name = "FILE")]
        erasures: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ImportSource {
    /// A dump of the database of an older Veza server: plain, custom, tar or a folder.
    #[command(after_help = IMPORT_EXAMPLES)]
    VezaLegacy {
        /// The dump.
        #[arg(value_name = "DUMP")]
        dump: PathBuf,
        #[command(flatten)]
        how: ImportArguments,
    },
    /// The export of a Slack workspace: a zip, or the folder that it makes.
    #[command(after_help = SLACK_EXAMPLES)]
    Slack {
        /// The export.
        #[arg(value_name = "EXPORT")]
        dump: PathBuf,
        #[command(flatten)]
        how: ImportArguments,
    },
    /// An export of Mattermost in its bulk format: a file of lines, or a zip or folder with attachments.
    #[command(after_help = MATTERMOST_EXAMPLES)]
    Mattermost {
        /// The export.
        #[arg(value_name = "EXPORT")]
        dump: PathBuf,
        #[command(flatten)]
        how: ImportArguments,
    },
}

#[derive(Subcommand)]
enum ExportTarget {
    /// Mattermost's bulk format.
    #[command(after_help = EXPORT_EXAMPLES)]
    Mattermost {
        /// A zip, or a file of lines: NAME.zip or NAME.jsonl, which must not exist. It has personal data.
        #[arg(value_name = "OUT")]
        out: PathBuf,
        /// The name of the team that gets everything: lower-case letters, digits, hyphens.
        #[arg(long, value_name = "NAME", default_value = "veza")]
        team: String,
        /// Export attachments too: into the zip, or into the folder `data` beside the file.
        #[arg(long)]
        files: bool,
        /// A file with the URL of a login that reads every row. Without it, the login of database.url.
        #[arg(long, value_name = "FILE")]
        database_url_file: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct ImportArguments {
    /// Print what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// The folder with the files of the old server, if the dump does not have them.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Write all rejected and changed rows to a file, as JSON. It has personal data.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The name of the old server, if there are several of a kind: at most 20 letters, digits, hyphens. It is that of
    /// the command if you give none.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Begin without asking at a terminal.
    #[arg(long)]
    yes: bool,
}

impl ImportSource {
    fn into_command(self) -> boot::ImportCommand {
        let (server, name, dump, how) = match self {
            Self::VezaLegacy { dump, how } => (boot::OldServer::Veza, "veza-legacy", dump, how),
            Self::Slack { dump, how } => (boot::OldServer::Slack, "slack", dump, how),
            Self::Mattermost { dump, how } => (boot::OldServer::Mattermost, "mattermost", dump, how),
        };
        boot::ImportCommand {
            server,
            dump,
            source: how.source.unwrap_or_else(|| name.to_owned()),
            is_dry_run: how.dry_run,
            files: how.files,
            report: how.report,
            yes: how.yes,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::ExamineMedia { media_type, out, avatar }) = &arguments.command {
        return boot::examine_media(media_type, out, *avatar);
    }
    if let Some(Command::Health { url: Some(url) }) = &arguments.command {
        return ask_health(url);
    }
    let sources = Sources::of_process(arguments.config.as_deref());
    let loaded = match sources.load() {
        Ok(loaded) => loaded,
        Err(errors) => return refuse_configuration(&errors),
    };
    match arguments.command.unwrap_or(Command::Serve) {
        Command::CheckConfig => {
            // Not print!, which panics when the reader of a pipe closes it.
            let _ = std::io::stdout().write_all(loaded.to_toml().as_bytes());
            for warning in loaded.config.warnings() {
                eprintln!("warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Command::Doctor { json } => match boot::diagnose(&loaded.config, json) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(RUNTIME_FAILURE),
            Err(error) => {
                eprintln!("chat-server: {error}");
                ExitCode::from(RUNTIME_FAILURE)
            }
        },
        Command::Health { url } => ask_health(&url.unwrap_or_else(|| boot::health_url(&loaded.config))),
        // It has ended above.
        Command::ExamineMedia { .. } => ExitCode::SUCCESS,
        Command::Serve => run(&loaded.config, |config, log| boot::serve(config, sources, log)),
        Command::Keys { action: KeysAction::List } => run(&loaded.config, |config, _| boot::list_signing_keys(config)),
        Command::Keys { action: KeysAction::Rotate { now } } => {
            run(&loaded.config, |config, _| boot::rotate_signing_keys(config, now))
        }
        Command::RotateKeys => run(&loaded.config, |config, _| boot::rotate_keys(config)),
        Command::Migrate { plan: false } => run(&loaded.config, |config, _| boot::migrate(config)),
        Command::Migrate { plan: true } => run(&loaded.config, |config, _| boot::plan_migration(config)),
        Command::Files { action: FilesAction::Check { deep, repair } } => {
            run(&loaded.config, |config, _| boot::check_files(config, boot::FileCheckOptions { deep, repair }))
        }
        Command::Backup { action } => run(&loaded.config, |config, _| match action {
            BackupAction::Create { to, name, recipient: recipients, database_url_file } => {
                boot::create_backup(config, boot::CreateBackupOptions { to, name, recipients, database_url_file })
            }
            BackupAction::Verify { backup, identity, checksums, scratch } => {
                boot::verify_backup(config, &boot::VerifyBackupOptions { backup, identity, checksums, scratch })
            }
            BackupAction::Restore { backup, identity, without_damaged_files, erasures } => {
                let options = boot::RestoreBackupOptions { backup, identity, without_damaged_files, erasures };
                boot::restore_backup(config, &options)
            }
        }),
        Command::Import { from } => {
            let options = from.into_command();
            run(&loaded.config, |config, _| boot::import_dump(config, &options))
        }
        Command::Export { to: ExportTarget::Mattermost { out: to, team, files: has_files, database_url_file } } => {
            let options = boot::ExportCommand { to, team, has_files, database_url_file };
            run(&loaded.config, |config, _| boot::export_to_mattermost(config, &options))
        }
        Command::Audit { action } => run(&loaded.config, |config, _| match &action {
            AuditAction::Checkpoint => boot::print_checkpoint(config),
            AuditAction::Key => boot::print_key(config),
            AuditAction::Verify { checkpoint, key } => {
                boot::verify_audit(config, checkpoint.as_deref(), key.as_deref())
            }
        }),
    }
}

/// Without a log: it may be a file of the running server.
fn ask_health(url: &str) -> ExitCode {
    match boot::check_health(url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat-server: {error}");
            ExitCode::from(RUNTIME_FAILURE)
        }
    }
}

fn run(config: &Config, job: impl FnOnce(&Config, &logging::LoggingGuard) -> Result<(), boot::BootError>) -> ExitCode {
    // Held to the end, also when a stop is cut short: dropping it writes the lines that still wait.
    let log = match logging::init(&config.logging) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("chat-server: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    match job(config, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            // Once on the terminal: the log is there already, unless it goes to a file or leaves errors out.
            if config.logging.file.is_some() || !tracing::enabled!(tracing::Level::ERROR) {
                eprintln!("chat-server: {error}");
            }
            ExitCode::from(RUNTIME_FAILURE)
        }
    }
}

fn refuse_configuration(errors: &ConfigErrors) -> ExitCode {
    eprintln!("chat-server: {errors}");
    eprintln!("Correct these and start again. `chat-server check-config` checks without starting the server.");
    ExitCode::from(BAD_CONFIGURATION)
}
