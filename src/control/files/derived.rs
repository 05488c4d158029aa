//! What is made of pictures, sound and film: smaller pictures, a copy without places and serial numbers, sizes and
//! durations. A process of its own makes it ([`media_worker`]); this looks after that process and its folder.

use super::refusals::disk_refusal;
use super::state::Files;
use crate::control::media_worker::{self, Examination, Unexaminable};
use crate::error::{ErrorCode, Refusal};
use crate::faults::{error_limited, warn_limited};
use crate::files::content::ContentHash;
use crate::files::media::{MediaReport, MediaVariant};
use crate::files::store::disk::Disk;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Attempts of a check after which the process that could not work is the file's fault: some hours. Each attempt can
/// cost half a minute of a core. Nothing else that fails in a check fails the file: what is away for long comes back.
const ATTEMPTS_MAX: i32 = 30;

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
    pub(super) folder: Option<TempDir>,
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
    /// Examines a file of this type. `None` if it cannot be read. `attempts`: of its check, this one included.
    ///
    /// # Errors
    /// The disk's; `storage_unavailable` if the process could not work.
    pub(super) async fn examined(
        &self,
        media_type: &'static str,
        opened: File,
        attempts: i32,
    ) -> Result<Option<Made>, Refusal> {
        match self.made_of(media_type, opened, Examination::File).await? {
            Ok(made) => Ok(Some(made)),
            Err(error) => unexamined(&error, media_type, attempts),
        }
    }

    /// What the media worker makes of a file of this type.
    ///
    /// # Errors
    /// The disk's; the inner one if the worker has made nothing.
    pub(super) async fn made_of(
        &self,
        media_type: &'static str,
        mut opened: File,
        wanted: Examination,
    ) -> Result<Result<Made, Unexaminable>, Refusal> {
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
        match media_worker::examine(self.program(), opened, media_type, work.path(), wanted).await {
            Ok(report) => {
                let made = disk.run(move || made(report, work)).await;
                made.map(Ok).map_err(|error| disk_refusal(&error))
            }
            Err(error) => {
                Made { folder: Some(work), ..Made::default() }.forget(disk).await;
                Ok(Err(error))
            }
        }
    }
}

/// What follows when there is no report.
fn unexamined(error: &Unexaminable, media_type: &str, attempts: i32) -> Result<Option<Made>, Refusal> {
    match error {
        Unexaminable::Machine(reason) if attempts < ATTEMPTS_MAX => {
            error_limited!(reason, media_type, "a file waits for its examination");
            // Without a time of its own, so that the pauses grow.
            let message = format!("The file waits for its examination: {reason}");
            Err(Refusal::new(ErrorCode::StorageUnavailable, message))
        }
        error => {
            tracing::info!(%error, media_type, attempts, "a file cannot be examined");
            Ok(None)
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::media_worker::WorkerEnd;

    #[test]
    fn a_busy_machine_is_the_fault_of_the_file_only_after_many_attempts() {
        let busy = Unexaminable::Machine("not ready".to_owned());
        for attempts in [1, ATTEMPTS_MAX - 1] {
            let refusal = unexamined(&busy, "image/png", attempts).err().unwrap();
            assert_eq!((refusal.code, refusal.retry_after_ms), (ErrorCode::StorageUnavailable, None));
        }
        assert!(unexamined(&busy, "image/png", ATTEMPTS_MAX).unwrap().is_none());
        let damaged = Unexaminable::File { ended: WorkerEnd::Exited(1), reason: "damaged".to_owned() };
        assert!(unexamined(&damaged, "image/png", 1).unwrap().is_none());
    }
}
