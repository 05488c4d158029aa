//! Jobs about files: the check of a complete upload, and the removal of content that nobody needs.
//!
//! `check_file`: the hash, the type, the virus scan, the examination of media, then the content goes into the store and
//! the file is settled through the shard of its conversation, so that its subscribers learn of it. Each step can be
//! repeated, so a crash between them loses nothing.

use super::antivirus::ScanVerdict;
use super::derived::{Made, MadeCopy};
use super::refusals::disk_refusal;
use super::state::Files;
use crate::control::jobs::{JobEnd, JobWorker};
use crate::error::{ErrorCode, Refusal};
use crate::files::content::{ContentHash, ContentName};
use crate::files::reason::{FileFailure, FileReason};
use crate::files::state::{FileEvent, FileState};
use crate::files::{kind, media};
use crate::ids::FileId;
use crate::storage::files::{NewVariant, UncheckedFile};
use crate::storage::jobs::Job;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::time::Duration;
use tokio::sync::watch;

/// Files that one sweep looks at.
const SWEEP_MAX: usize = 200;
/// Bytes without a row are removed after this time: nothing writes to them any longer.
const ORPHAN_AGE: Duration = Duration::from_hours(2);

/// Bytes at the start of a file that say what it is, and of a picture how large it is.
const START_BYTES: u64 = 1024 * 1024;

/// Characters of the name of a virus.
const VIRUS_CHARS_MAX: usize = 200;

/// The variant that only the uploader may read.
const ORIGINAL: &str = "original";

/// What was found in a file.
struct Inspected {
    hash: ContentHash,
    size: u64,
    media_type: &'static str,
    dimensions: Option<(u32, u32)>,
    refused: Option<FileFailure>,
}

/// Content of a file: its SHA-256 and its bytes.
type Content = (ContentHash, u64);

/// What goes into the store.
#[derive(Clone, Copy)]
enum Kept<'a> {
    /// The upload becomes content.
    Upload(Content),
    /// The upload stays until the file is settled: another attempt of this check needs it.
    CopyOfUpload(Content),
    /// A file of the work folder.
    Made(&'a MadeCopy),
}

impl JobWorker for Files {
    fn work(&self) -> watch::Receiver<u64> {
        self.work_signs()
    }

    async fn work_on(&self, job: &Job) -> Result<JobEnd, Refusal> {
        self.do_job(job).await.map(|()| JobEnd::Done)
    }

    async fn sweep(&self) -> Result<(), Refusal> {
        self.remove_old().await
    }
}

impl Files {
    async fn do_job(&self, job: &Job) -> Result<(), Refusal> {
        let wrong = |what: &str| Refusal::bad_request(format!("subject: Must be {what}."));
        let file = || job.subject.parse().map(FileId).map_err(|_| wrong("a number"));
        match job.kind.as_str() {
            "check_file" => self.check(file()?, job.attempts).await,
            "remove_upload" => self.store().remove_upload(file()?).await.map_err(|error| disk_refusal(&error)),
            "release_content" => {
                let hash = ContentHash::parse(&job.subject).ok_or_else(|| wrong("a SHA-256"))?;
                self.rows().release_content(&hash).await?;
                self.work_arrived();
                Ok(())
            }
            "remove_blob" => {
                let name = ContentName::parse(&job.subject).ok_or_else(|| wrong("a name of content"))?;
                self.store().remove_content(name).await.map_err(|error| disk_refusal(&error))
            }
            other => Err(Refusal::bad_request(format!("kind: This version knows no job {other}."))),
        }
    }

    /// What time does to files: uploads that were not continued, files that nobody needs, and bytes without a row,
    /// which a crash can leave behind.
    async fn remove_old(&self) -> Result<(), Refusal> {
        if self.rows().expire(SWEEP_MAX as i64).await? > 0 {
            self.work_arrived();
        }
        let (folder, disk) = (self.store().folder(), self.store().disk());
        let old = disk.run(move || {
            folder.remove_old_work(ORPHAN_AGE)?;
            folder.old_uploads(ORPHAN_AGE)
        });
        let old = old.await.map_err(|error| disk_refusal(&error))?;
        for some in old.chunks(SWEEP_MAX) {
            let known = self.rows().known(some).await?;
            for file in some.iter().filter(|file| !known.contains(file)) {
                self.store().remove_upload(*file).await.map_err(|error| disk_refusal(&error))?;
            }
        }
        Ok(())
    }

    async fn check(&self, file: FileId, attempts: i32) -> Result<(), Refusal> {
        let Some(unchecked) = self.rows().to_check(file).await? else { return Ok(()) };
        let (uploader, conversation) = (unchecked.uploader, unchecked.conversation);
        let mut verdict = self.verdict(unchecked, attempts).await?;
        let port = &self.parts().port;
        let state = loop {
            let Some(settling) = verdict else { return Ok(()) };
            let state = settling["state"].as_str().and_then(FileState::parse);
            match port.settle(uploader, conversation, settling).await {
                Ok(_) => break state,
                // What was found cannot be stored, and never will.
                Err(refusal) if refusal.code == ErrorCode::BadRequest && state != Some(FileState::Failed) => {
                    let failure = FileFailure::new(FileReason::Implausible, "Its properties make no sense.");
                    verdict = refused(file, FileEvent::Refused, &failure, None);
                }
                Err(refusal) => return Err(refusal),
            }
        };
        if let Some(state) = state {
            self.parts().metrics.file_checked(state);
        }
        self.work_arrived(); // what it leaves is to be removed
        Ok(())
    }

    /// What the file becomes, after its content was stored; `None` if it is gone.
    async fn verdict(&self, unchecked: UncheckedFile, attempts: i32) -> Result<Option<Value>, Refusal> {
        let file = unchecked.file;
        if let Some(antivirus) = self.antivirus() {
            // Before all of the file is read: it may have to wait for its scan.
            antivirus.require(self.store().disk()).await?;
        }
        let Some(opened) = self.opened(&unchecked).await? else {
            if self.parts().is_shared {
                let message = "Another server has the bytes of this upload.";
                return Err(Refusal::new(ErrorCode::StorageUnavailable, message));
            }
            let sentence = "The server has lost the bytes of this file. Upload it again.";
            let failure = FileFailure::new(FileReason::BytesLost, sentence);
            return Ok(refused(file, FileEvent::Refused, &failure, None));
        };
        let allowed = self.parts().allowed_types.clone();
        let inspected = self.store().disk().run(move || {
            let (scanned, media_copy) = (opened.try_clone()?, opened.try_clone()?);
            Ok((inspect(opened, &unchecked, &allowed)?, scanned, media_copy))
        });
        let (found, scanned, media_copy) = inspected.await.map_err(|error| disk_refusal(&error))?;
        let media_type = Some(found.media_type);
        if let Some(failure) = found.refused {
            return Ok(refused(file, FileEvent::Refused, &failure, media_type));
        }
        if let Some(antivirus) = self.antivirus() {
            match antivirus.scan(self.store().disk(), scanned, found.size).await? {
                ScanVerdict::Clean => {}
                ScanVerdict::Virus(name) => {
                    let name: String = name.chars().take(VIRUS_CHARS_MAX).collect();
                    let failure = FileFailure::new(FileReason::VirusFound, format!("A virus was found: {name}."));
                    return Ok(refused(file, FileEvent::VirusFound, &failure.with("virus", name), media_type));
                }
                ScanVerdict::Unscannable(why) => {
                    let failure = FileFailure::new(FileReason::Unscannable, format!("It cannot be scanned: {why}."));
                    return Ok(refused(file, FileEvent::Refused, &failure, media_type));
                }
            }
        }
        let made = if media::is_examined(found.media_type) {
            match self.examined(found.media_type, media_copy, attempts).await? {
                Some(made) => made,
                // Sound and film are served as they came, so nobody has to be able to read them.
                None if !found.media_type.starts_with("image/") => Made::default(),
                None => {
                    let sentence = "The picture cannot be read. Save it again with another program.";
                    let failure = FileFailure::new(FileReason::UnreadablePicture, sentence);
                    return Ok(refused(file, FileEvent::Refused, &failure, media_type));
                }
            }
        } else {
            Made::default()
        };
        let kept = self.keep(file, &found, &made).await;
        let (report, served_size) = (made.report.clone(), made.served.as_ref().map(|served| served.size));
        made.forget(self.store().disk()).await;
        if !kept? {
            return Ok(None);
        }
        let dimensions = report.width.zip(report.height).or(found.dimensions);
        let dimensions = dimensions.filter(|(width, height)| (*width).max(*height) <= kind::SIDE_MAX as u32);
        let (width, height) = dimensions.unzip();
        let state = FileState::Scanning.after(FileEvent::Clean);
        Ok(Some(json!({
            "file_id": file, "state": state, "media_type": media_type, "size": served_size, "width": width,
            "height": height, "duration": report.duration_s, "blurhash": report.blurhash, "animated": report.animated,
        })))
    }

    /// Puts everything that belongs to a file into the store. Returns whether the file is still there.
    async fn keep(&self, file: FileId, found: &Inspected, made: &Made) -> Result<bool, Refusal> {
        for (variant, copy) in &made.variants {
            let about = NewVariant {
                kind: variant.kind.as_str(),
                media_type: &variant.media_type,
                dimensions: Some((variant.width, variant.height)),
            };
            if !self.store_as(file, Kept::Made(copy), Some(about)).await? {
                return Ok(false);
            }
        }
        let own = (found.hash, found.size);
        let Some(served) = &made.served else { return self.store_as(file, Kept::Upload(own), None).await };
        if self.parts().keeps_originals {
            let about = NewVariant { kind: ORIGINAL, media_type: found.media_type, dimensions: found.dimensions };
            if !self.store_as(file, Kept::CopyOfUpload(own), Some(about)).await? {
                return Ok(false);
            }
        }
        self.store_as(file, Kept::Made(served), None).await
    }

    /// Names content for a file, as what its readers get or as a variant, and stores it under that name. Returns
    /// whether the file is still there.
    async fn store_as(&self, file: FileId, kept: Kept<'_>, about: Option<NewVariant<'_>>) -> Result<bool, Refusal> {
        let content = match kept {
            Kept::Upload(content) | Kept::CopyOfUpload(content) => content,
            Kept::Made(copy) => (copy.hash, copy.size),
        };
        let Some(name) = self.rows().name_content(file, content, about).await? else { return Ok(false) };
        let stored = match kept {
            Kept::Upload(_) => self.store().take_upload(file, name).await,
            Kept::CopyOfUpload(_) => self.store().copy_upload(file, name).await,
            Kept::Made(copy) => self.store().take(copy.path.clone(), name).await,
        };
        stored.map_err(|error| disk_refusal(&error))?;
        self.forget_unless_named(name).await.map(|()| true)
    }

    /// The file was removed while its content was stored, and the removal of that name may have come before it.
    async fn forget_unless_named(&self, name: ContentName) -> Result<(), Refusal> {
        if self.rows().is_named(&name).await? {
            return Ok(());
        }
        self.store().remove_content(name).await.map_err(|error| disk_refusal(&error))
    }

    /// The bytes to check: the upload, or the content that it became when an earlier check was cut short.
    async fn opened(&self, unchecked: &UncheckedFile) -> Result<Option<File>, Refusal> {
        let (folder, file) = (self.store().folder(), unchecked.file);
        let opened = match self.store().disk().run(move || folder.read_upload(file)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Another process may have stored it since the row was read.
                let named = match unchecked.content {
                    None => self.rows().to_check(file).await?.and_then(|unchecked| unchecked.content),
                    named => named,
                };
                match named {
                    Some(name) => self.store().open(name).await,
                    None => Err(error),
                }
            }
            opened => opened,
        };
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk_refusal(&error)),
        }
    }
}

/// The arguments that settle a file that is not accepted.
fn refused(file: FileId, event: FileEvent, failure: &FileFailure, media_type: Option<&str>) -> Option<Value> {
    let state = FileState::Scanning.after(event)?;
    Some(json!({"file_id": file, "state": state, "reason": failure.sentence, "failure": failure.details(),
        "media_type": media_type}))
}

/// Reads all of a file.
fn inspect(mut opened: File, unchecked: &UncheckedFile, allowed: &[String]) -> io::Result<Inspected> {
    let size = opened.metadata()?.len();
    let hash = ContentHash::of(&mut opened)?;
    // No more: a hostile picture could have its reader go through all of it.
    let mut start = Vec::new();
    opened.rewind()?;
    (&mut opened).take(START_BYTES).read_to_end(&mut start)?;
    let head = &start[..start.len().min(kind::HEAD_BYTES)];
    let media_type = kind::found(head, size == head.len() as u64, &unchecked.name);
    let dimensions = kind::dimensions(media_type, &mut Cursor::new(&start));
    let refused = if size != unchecked.size {
        // Nothing writes to a complete upload.
        Some(FileFailure::new(FileReason::BytesLost, "The server has other bytes than you sent. Upload it again."))
    } else if unchecked.expected.is_some_and(|expected| expected != hash) {
        let sentence = "The content has another SHA-256 than you gave. Upload it again.";
        Some(FileFailure::new(FileReason::WrongHash, sentence))
    } else {
        kind::check(media_type, &unchecked.name, unchecked.declared_type.as_deref(), allowed)
            .and_then(|()| dimensions.clone().map(drop))
            .err()
    };
    Ok(Inspected { hash, size, media_type, dimensions: dimensions.unwrap_or_default(), refused })
}
