//! What is made of pictures, sound and film: smaller pictures, a copy without places and serial numbers, sizes and
//! durations. A process of its own makes it ([`media_worker`]); this looks after that process and its folder.

use super::refusals::disk_refusal;
use super::state::Files;
use crate::control::media_worker::{self, Unexaminable};
use crate::error::{ErrorCode, Refusal};
use crate::faults::{error_limited, warn_limited};
use crate::files::content::ContentHash;
use crate::files::media::{MediaReport, MediaVariant};
use crate::files::store::disk::Disk;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file in the work folder.
pub(super) struct MadeCopy {
    pub(super) path: PathBuf,
    pub(super) hash: ContentHash,
    pub(super) size: u64,
}

/// What was made. Nothing of most files.
#[derive(Default)]
pub(super) struct Made {
    pub(super) report: MediaReport,
    pub(super) variants: Vec<(MediaVariant, MadeCopy)>,
    /// What readers get instead of the upload.
    pub(super) served: Option<MadeCopy>,
    folder: Option<TempDir>,
}

impl Made {
    /// Removes the work folder, with what was not taken from it.
    pub(super) async fn forget(self, disk: &Disk) {
        let removed = disk.run(move || self.folder.map_or(Ok(()), TempDir::close)).await;
        if let Err(error) = removed {
            warn_limited!(%error, "a folder below data_dir/files/work was left; it goes in some hours");
        }
    }
}

impl Files {
    /// Examines a file of this type. `None` if it cannot be read.
    ///
    /// # Errors
    /// The disk's; `storage_unavailable` if the process could not work.
    pub(super) async fn examined(&self, media_type: &'static str, mut opened: File) -> Result<Option<Made>, Refusal> {
        let _place = self.examinations().acquire().await; // never closed
        let (folder, disk) = (self.store().folder(), self.store().disk());
        let prepared = disk.run(move || {
            // What is made can be as large as the file.
            folder.require_room(opened.metadata()?.len())?;
            opened.rewind()?;
            Ok((folder.work_folder()?, opened))
        });
        let prepared = prepared.await;
        let (work, opened) = prepared.map_err(|error| disk_refusal(&error))?;
        let report = match media_worker::examine(self.program(), opened, media_type, work.path()).await {
            Ok(report) => report,
            Err(error @ Unexaminable::File { .. }) => {
                tracing::info!(%error, media_type, "a file cannot be examined");
                Made { folder: Some(work), ..Made::default() }.forget(disk).await;
                return Ok(None);
            }
            Err(Unexaminable::Machine(reason)) => {
                error_limited!(reason, media_type, "a file waits for its examination");
                Made { folder: Some(work), ..Made::default() }.forget(disk).await;
                let message = format!("The file waits for its examination: {reason}");
                // Without a time of its own, so that the pauses grow.
                return Err(Refusal::new(ErrorCode::StorageUnavailable, message));
            }
        };
        let made = disk.run(move || made(report, work)).await;
        made.map(Some).map_err(|error| disk_refusal(&error))
    }
}

fn made(report: MediaReport, folder: TempDir) -> io::Result<Made> {
    let variants = report.variants.iter().map(|variant| Ok((variant.clone(), copy(folder.path(), &variant.file)?)));
    let variants = variants.collect::<io::Result<_>>()?;
    let served = report.served.as_ref().map(|served| copy(folder.path(), &served.file)).transpose()?;
    Ok(Made { variants, served, report, folder: Some(folder) })
}

fn copy(folder: &Path, name: &str) -> io::Result<MadeCopy> {
    let path = folder.join(name);
    let mut opened = File::open(&path)?;
    Ok(MadeCopy { size: opened.metadata()?.len(), hash: ContentHash::of(&mut opened)?, path })
}
