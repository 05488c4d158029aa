//! Jobs about files: the check of a complete upload, and the removal of content that nobody needs.
//!
//! `check_file`: the hash, the type, the virus scan, then the content goes into the store and the file is settled through the shard of
//! its conversation, so that its subscribers learn of it. Each step can be repeated, so a crash between them loses
//! nothing.

use super::antivirus::Verdict;
use super::{Files, blocking};
use crate::blobs::{ContentHash, hash, parse_hash};
use crate::error::Refusal;
use crate::files::kind;
use crate::files::state::{FileEvent, FileState};
use crate::ids::FileId;
use crate::storage::files::{Job, UncheckedFile};
use serde_json::json;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

/// Files that one sweep looks at.
const SWEEP_MAX: usize = 1_000;
/// Bytes without a row are removed after this time: nothing writes to them any longer.
const ORPHAN_AGE: Duration = Duration::from_hours(2);

/// What was found in a file.
struct Found {
    hash: ContentHash,
    size: u64,
    media_type: &'static str,
    dimensions: Option<(u32, u32)>,
    /// Why it is refused.
    refused: Option<String>,
}

impl Files {
    /// Does one job.
    ///
    /// # Errors
    /// What went wrong; the job is tried again.
    pub(crate) async fn work_on(&self, job: &Job) -> Result<(), Refusal> {
        let file = || job.subject.parse().map(FileId).map_err(|_| Refusal::bad_request("subject: Must be a number."));
        match job.kind.as_str() {
            "check_file" => self.check(file()?).await,
            "remove_upload" => {
                let (folder, file) = (self.folder().clone(), file()?);
                blocking(move || folder.remove_upload(file)).await
            }
            "remove_blob" => {
                let hash =
                    parse_hash(&job.subject).ok_or_else(|| Refusal::bad_request("subject: Must be a SHA-256."))?;
                let folder = self.folder().clone();
                self.store().remove_content(&hash, blocking(move || folder.remove_blob(&hash))).await
            }
            other => Err(Refusal::bad_request(format!("kind: This version knows no job {other}."))),
        }
    }

    /// What time does to files: uploads that were not continued, files that nobody needs, and bytes without a row, which
    /// a form leaves behind whose client disconnected.
    ///
    /// # Errors
    /// Failures of PostgreSQL and of the disk.
    pub(crate) async fn sweep(&self) -> Result<(), Refusal> {
        if self.store().expire(SWEEP_MAX as i64).await? > 0 {
            self.work_arrived();
        }
        let folder = self.folder().clone();
        let old = blocking(move || folder.old_uploads(ORPHAN_AGE, SWEEP_MAX)).await?;
        let known = self.store().known(&old).await?;
        let folder = self.folder().clone();
        blocking(move || {
            old.into_iter().filter(|file| !known.contains(file)).try_for_each(|file| folder.remove_upload(file))
        })
        .await
    }

    async fn check(&self, file: FileId) -> Result<(), Refusal> {
        let Some(unchecked) = self.store().to_check(file).await? else { return Ok(()) };
        let Some(conversation) = unchecked.conversation else { return Ok(()) };
        let uploader = unchecked.uploader;
        let (folder, allowed) = (self.folder().clone(), self.parts().allowed_types.clone());
        let (content, uploads) = (unchecked.content, folder.clone());
        let mut found = blocking(move || inspect(&folder, file, &unchecked, &allowed)).await?;
        let mut event = if found.refused.is_some() { FileEvent::Refused } else { FileEvent::Clean };
        if event == FileEvent::Clean
            && let Some(antivirus) = self.antivirus()
        {
            let opened = blocking(move || uploads.read(file, content.as_ref())).await?;
            if let Verdict::Virus(name) = antivirus.scan(opened, found.size).await? {
                found.refused = Some(format!("A virus was found: {name}."));
                event = FileEvent::VirusFound;
            }
        }
        let Some(state) = FileState::Scanning.after(event) else { return Ok(()) };
        if state == FileState::Ready {
            let (folder, hash) = (self.folder().clone(), found.hash);
            let place = blocking(move || folder.store(file, &hash));
            self.store().place_content(file, (&found.hash, found.size as i64), place).await?;
        }
        let (width, height) = found.dimensions.unzip();
        let arguments = json!({
            "file_id": file, "state": state, "reason": found.refused, "media_type": found.media_type, "width": width,
            "height": height,
        });
        self.parts().port.settle(uploader, conversation, arguments).await.map(drop)
    }
}

/// Reads all of a file.
fn inspect(
    folder: &crate::blobs::Folder,
    file: FileId,
    unchecked: &UncheckedFile,
    allowed: &[String],
) -> io::Result<Found> {
    let mut opened = folder.read(file, unchecked.content.as_ref())?;
    let size = opened.metadata()?.len();
    let hash = hash(&mut opened)?;
    opened.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    opened.take(kind::HEAD_BYTES as u64).read_to_end(&mut head)?;
    let media_type = kind::found(&head, size <= kind::HEAD_BYTES as u64, &unchecked.name);
    let dimensions = kind::dimensions(media_type, &head);
    let refused = if unchecked.expected.is_some_and(|expected| expected != hash) {
        Some("The content has another SHA-256 than you gave. Upload it again.".to_owned())
    } else {
        kind::check(media_type, &unchecked.name, unchecked.declared_type.as_deref(), allowed)
            .and_then(|()| dimensions.clone().map(drop))
            .err()
    };
    Ok(Found { hash, size, media_type, dimensions: dimensions.unwrap_or_default(), refused })
}
