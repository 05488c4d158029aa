//! An import from its beginning to its end.
//!
//! 1. The dump is read into staging tables, all of it. A fault ends the import here.
//! 2. The plan says what becomes of each row. A dry run ends here.
//! 3. Users, conversations, and batches of messages are written, each in a transaction.
//! 4. What the tables have is compared with the plan, and the import is recorded.

use super::fault::ImportFault;
use super::files::take_files;
use super::options::{ImportOptions, ImportStage};
use super::reading::{ReadProgress, read, size_of};
use super::report::ImportReport;
use super::staged::{DumpCounts, StagedLines};
use crate::auth::password::DUMMY_HASH;
use crate::storage::connect::Target;
use crate::storage::import::ImportSession;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

/// Chunks of lines that wait for PostgreSQL. Each has some megabytes.
const WAITING_CHUNKS: usize = 2;

/// Imports a dump of another server. `shown` learns how far it is.
///
/// # Errors
/// [`ImportFault`]. After [`ImportFault::Dump`] and [`ImportFault::Export`] nothing was changed. After others the same
/// command goes on.
pub async fn import(
    target: &Target,
    options: &ImportOptions,
    mut shown: impl FnMut(ImportStage),
) -> Result<ImportReport, ImportFault> {
    let started_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let mut session = ImportSession::open(target, &options.source).await?;
    let read = match stage(&session, options, &mut shown).await {
        Ok(read) => read,
        Err(fault) => {
            session.close().await?;
            return Err(fault);
        }
    };
    let (mut step, steps) = (0, ImportSession::steps());
    session
        .plan(|about| {
            step += 1;
            shown(ImportStage::Planning(step, steps, about));
        })
        .await?;
    let (known, strangers) = session.known_users().await?;
    if strangers * 2 > known {
        session.close().await?;
        return Err(ImportFault::Unfit(format!(
            "the dump is of another database than the one that was imported as {}: of {known} users with the same ids, \
             {strangers} are others. Give it another name with --source",
            options.source
        )));
    }
    let mut report = ImportReport {
        server: Some(options.server),
        source: options.source.clone(),
        is_dry_run: options.is_dry_run,
        read,
        counts: session.counts().await?,
        ..ImportReport::default()
    };
    if options.is_dry_run {
        take_files(&mut session, options, &mut report, &mut shown).await?;
        [report.rejected, report.changed] = session.remarks().await?;
        session.close().await?;
        return Ok(report);
    }
    shown(ImportStage::Accounts);
    session.write_users(DUMMY_HASH).await?;
    let (batches, messages) = session.write_conversations().await?;
    let mut written = 0;
    for batch in 0..batches {
        shown(ImportStage::Messages(written, messages as u64));
        written += session.write_messages(batch).await?;
    }
    take_files(&mut session, options, &mut report, &mut shown).await?;
    shown(ImportStage::Verifying);
    [report.rejected, report.changed] = session.remarks().await?;
    let (tables, gaps) = session.verify().await?;
    report.tables = tables;
    if let Some(conversation) = gaps.first() {
        return Err(ImportFault::Unfit(format!(
            "the log of conversation {conversation} has a gap after the import; restore a backup and report this"
        )));
    }
    session.finish(&started_at, &report.summary(), report.imported() > 0).await?;
    session.close().await?;
    Ok(report)
}

/// Reads the dump into the staging tables.
async fn stage(
    session: &ImportSession,
    options: &ImportOptions,
    shown: &mut impl FnMut(ImportStage),
) -> Result<DumpCounts, ImportFault> {
    let size = size_of(options)?;
    let (give, mut take) = mpsc::channel::<StagedLines>(WAITING_CHUNKS);
    let progress = ReadProgress::default();
    let (given, counted) = (options.clone(), progress.clone());
    let reading = tokio::task::spawn_blocking(move || read(&given, &counted, &give));
    let mut staged = Ok(());
    while let Some(StagedLines { table, columns, lines }) = take.recv().await {
        shown(ImportStage::Reading(progress.bytes(), size));
        staged = session.stage(table, &columns, lines.into()).await;
        if staged.is_err() {
            break;
        }
    }
    drop(take);
    let read = reading.await.unwrap_or_else(|error| Err(ImportFault::Unfit(format!("the reader ended: {error}"))));
    staged?;
    read
}
