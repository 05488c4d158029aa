//! The audit trail: its key, the task that signs its heads and keeps its partitions, and the commands of
//! `chat-server audit`.

use super::audit_gap;
use super::error::{BootError, system};
use super::output::print;
use super::reach::with_database;
use crate::audit::chain::{ChainCheck, ChainHead, ChainReport, SignedHead};
use crate::audit::note::{AuditKey, AuditPublicKey, Checkpoint};
use crate::audit::origin;
use crate::config::{AuditConfig, Config};
use crate::storage::StorageError;
use crate::storage::audit::AuditTables;
use crate::storage::connect::Target;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Months for which partitions exist in advance.
const MONTHS_AHEAD: i32 = 3;
/// How often partitions are made and dropped.
const PARTITIONS_INTERVAL: Duration = Duration::from_hours(24);
/// After a failure, such as a lock that a long read holds, sooner.
const PARTITIONS_RETRY: Duration = Duration::from_mins(10);
/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Makes and drops partitions. Returns when to do it again.
pub(super) async fn keep_partitions(target: &Target, key: &AuditKey, config: &AuditConfig) -> Instant {
    let kept = try_keep_partitions(target, key, config.retention).await;
    if let Err(error) = &kept {
        tracing::warn!("the partitions of the audit trail are not as they should be; retrying: {error}");
    }
    Instant::now() + if kept.is_ok() { PARTITIONS_INTERVAL } else { PARTITIONS_RETRY }
}

/// Keeps the partitions, from `partitions_due` on, and signs the head of the chain, until the runtime ends.
pub(super) async fn keep(target: Target, key: AuditKey, config: Config, mut partitions_due: Instant) {
    let Config { audit: config, data_dir, .. } = config;
    loop {
        if partitions_due <= Instant::now() {
            partitions_due = keep_partitions(&target, &key, &config).await;
        }
        match sign_head(&target, &key).await {
            Ok(note) => note.into_iter().for_each(|note| audit_gap::keep(&key, &data_dir, &note)),
            Err(error) => tracing::warn!("the end of the audit trail was not signed; retrying: {error}"),
        }
        tokio::time::sleep(config.checkpoint_interval).await;
    }
}

async fn try_keep_partitions(target: &Target, key: &AuditKey, retention: Duration) -> Result<(), StorageError> {
    let mut tables = AuditTables::open(target).await?;
    tables.make_partitions(MONTHS_AHEAD).await?;
    if retention.is_zero() {
        return Ok(());
    }
    let Some(expired) = tables.expired(retention).await? else { return Ok(()) };
    let (log_id, _) = tables.head().await?;
    let note = expired.head.map(|head| key.sign(&Checkpoint { origin: origin(&log_id), head, closing: true }));
    tables.drop_partitions(&expired, note.as_deref()).await?;
    tracing::info!("dropped {} of the audit trail, which are older than audit.retention", expired.names.join(", "));
    Ok(())
}

/// Signs the end of the chain if it has moved. Returns the newest checkpoint.
async fn sign_head(target: &Target, key: &AuditKey) -> Result<Option<String>, StorageError> {
    let tables = AuditTables::open(target).await?;
    let (log_id, head) = tables.head().await?;
    let newest = tables.newest_checkpoint().await?;
    if head.size == 0 || newest.as_ref().is_some_and(|(size, _)| *size >= head.size) {
        return Ok(newest.map(|(_, note)| note));
    }
    let note = key.sign(&Checkpoint { origin: origin(&log_id), head, closing: false });
    tables.keep_checkpoint(head.size, &note).await?;
    Ok(Some(note))
}

/// Signs the end of the chain and prints the newest checkpoint.
///
/// # Errors
/// When there is no database, no key or no row.
pub fn print_checkpoint(config: &Config) -> Result<(), BootError> {
    let key = required_key(config)?;
    let note = with_database(config, async |target| Ok(sign_head(target, &key).await?))?;
    let note = note.ok_or_else(|| BootError::Configuration("the audit trail has no row yet".to_owned()))?;
    print(&note);
    Ok(())
}

/// Prints the key that verifies the checkpoints.
///
/// # Errors
/// When there is no database or no key.
pub fn print_key(config: &Config) -> Result<(), BootError> {
    let key = required_key(config)?;
    let (log_id, _) = with_database(config, async |target| Ok(AuditTables::open(target).await?.head().await?))?;
    print(&format!("{}\n", key.public().to_text(&origin(&log_id))));
    Ok(())
}

fn required_key(config: &Config) -> Result<AuditKey, BootError> {
    super::secret::audit_key(config, false)?.ok_or_else(|| {
        BootError::Configuration(format!(
            "there is no audit_key in {}: the server makes it at its first start",
            config.data_dir.display()
        ))
    })
}

/// What a verification compares the rows with.
struct Known {
    signed: Vec<SignedHead>,
    start: ChainHead,
    /// What is wrong with the checkpoints themselves.
    findings: Vec<String>,
    /// What could not be checked.
    remarks: Vec<String>,
}

/// Verifies the whole chain and prints what it finds.
///
/// # Errors
/// [`BootError::Tampered`] if there is a finding; when the database or a file cannot be read.
pub fn verify_audit(config: &Config, kept: Option<&Path>, key: Option<&str>) -> Result<(), BootError> {
    let public = match key {
        Some(text) => Some(AuditPublicKey::from_text(text).ok_or_else(|| {
            BootError::Configuration("--key: this is not a key that `chat-server audit key` prints".to_owned())
        })?),
        None => super::secret::audit_key(config, false)?.map(|key| key.public()),
    };
    let kept = match kept {
        None => None,
        Some(path) => {
            let note = std::fs::read_to_string(path).map_err(system("cannot read the file of --checkpoint"))?;
            Some((format!("the checkpoint in {}", path.display()), note))
        }
    };
    let (report, remarks) =
        with_database(config, async |target| Ok(verify_chain(target, public.as_ref(), kept.as_ref()).await?))?;
    for remark in remarks {
        print(&format!("{remark}\n"));
    }
    for finding in &report.findings {
        print(&format!("{finding}\n"));
    }
    if report.findings.is_empty() {
        print(&format!("The audit trail is whole: {} rows verified.\n", report.rows));
        return Ok(());
    }
    Err(BootError::Tampered { findings: report.findings.len() as u64 + report.more, rows: report.rows })
}

/// Verifies the whole chain. Returns what it found, and what could not be checked.
pub(super) async fn verify_chain(
    target: &Target,
    public: Option<&AuditPublicKey>,
    kept: Option<&(String, String)>,
) -> Result<(ChainReport, Vec<String>), StorageError> {
    let tables = AuditTables::open(target).await?;
    tables.begin_verification().await?;
    let (log_id, head) = tables.head().await?;
    let known = gather(&tables, &origin(&log_id), public, kept).await?;
    let mut check = ChainCheck::new(known.start, known.signed);
    known.findings.into_iter().for_each(|finding| check.found(finding));
    let mut shown = Instant::now();
    let shows_progress = io::stderr().is_terminal();
    let total = head.size - known.start.size;
    tables
        .each_row(|row| {
            check.row(row);
            if shows_progress && check.rows().is_multiple_of(4_096) && shown.elapsed() >= PROGRESS_INTERVAL {
                shown = Instant::now();
                let _ = write!(io::stderr(), "\r{} of {total} rows verified", check.rows());
            }
        })
        .await?;
    if shows_progress {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    Ok((check.finish(head), known.remarks))
}

/// The checkpoints beside the rows, and the one that was kept elsewhere.
async fn gather(
    tables: &AuditTables,
    origin: &str,
    public: Option<&AuditPublicKey>,
    kept: Option<&(String, String)>,
) -> Result<Known, StorageError> {
    let start = ChainHead { size: 0, root: [0; 32] };
    let mut known = Known { signed: Vec::new(), start, findings: Vec::new(), remarks: Vec::new() };
    let stored = tables.checkpoints().await?;
    let Some(public) = public else {
        if !stored.is_empty() || kept.is_some() {
            let what = "without a key. Give the one that `chat-server audit key` printed with --key.";
            let sentence = format!("The signatures of {} checkpoints cannot be checked {what}", stored.len());
            if kept.is_some() { known.findings.push(sentence) } else { known.remarks.push(sentence) }
        }
        return Ok(known);
    };
    for stored in stored {
        let name = format!("the stored checkpoint of size {}", stored.size);
        match public.open(&stored.note) {
            Ok(checkpoint) if checkpoint.origin != origin => {
                known.findings.push(format!("Position {}: {name} belongs to another audit trail.", stored.size));
            }
            // The columns are not signed.
            Ok(checkpoint) if checkpoint.head.size != stored.size || checkpoint.closing != stored.closing => {
                known.findings.push(format!("Position {}: {name} states another size or kind.", stored.size));
            }
            Ok(checkpoint) if checkpoint.closing => known.start = checkpoint.head,
            Ok(checkpoint) => known.signed.push(SignedHead { head: checkpoint.head, name }),
            Err(error) => known.findings.push(format!("Position {}: {name}: {error}.", stored.size)),
        }
    }
    if let Some((name, note)) = kept {
        match public.open(note) {
            Ok(checkpoint) if checkpoint.origin != origin => known.findings.push(format!(
                "Position {}: {name} belongs to another audit trail: {}.",
                checkpoint.head.size, checkpoint.origin
            )),
            Ok(checkpoint) if checkpoint.head.size < known.start.size => known.remarks.push(format!(
                "{name} covers {} rows. Retention has dropped the first {} rows, so it cannot be compared.",
                checkpoint.head.size, known.start.size
            )),
            Ok(checkpoint) => {
                known.signed.push(SignedHead { head: checkpoint.head, name: name.clone() });
            }
            Err(error) => known.findings.push(format!("{name}: {error}.")),
        }
    }
    Ok(known)
}
