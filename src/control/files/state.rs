//! What the requests and the jobs of files share.

use super::antivirus::Antivirus;
use super::pace::Pace;
use super::refusals::with_reason;
use super::turns::WriteTurns;
use crate::address::ClientNetwork;
use crate::control::metrics::Metrics;
use crate::control::ports::FilesPort;
use crate::control::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::files::link::LinkKey;
use crate::files::reason::FileReason;
use crate::files::store::Store;
use crate::ids::{FileId, UserId};
use crate::limits::Feature;
use crate::mesh::quota::{Quota, QuotaPlace, QuotaRefusal};
use crate::storage::file_shares::ShareStore;
use crate::storage::files::{FileQuotas, FileStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Examinations of media at the same time; each may take 1 GiB.
const EXAMINATIONS_MAX: usize = 2;

/// Downloads of one user under way, from all devices.
const DOWNLOADS_MAX: usize = 24;
const TOO_MANY_OF_USER: QuotaRefusal = QuotaRefusal {
    limiter: "downloads",
    scope: "user",
    detail: "Too many of your downloads are under way. Wait for one of them.",
    retry_ms: 1_000,
};
/// Pictures of users that arrive or are checked at the same time, of everybody. Each holds 256 KB.
const AVATARS_MAX: usize = 64;
const TOO_MANY_AVATARS_OF_USER: QuotaRefusal = QuotaRefusal {
    limiter: "avatars_running",
    scope: "user",
    detail: "Another picture of yours is being uploaded. Wait for it.",
    retry_ms: 1_000,
};
/// Downloads by public links from one network at the same time.
const PUBLIC_DOWNLOADS_MAX: usize = 16;
const TOO_MANY_OF_NETWORK: QuotaRefusal = QuotaRefusal {
    limiter: "public_downloads",
    scope: "address",
    detail: "Too many downloads from this network are under way. Wait for one of them.",
    retry_ms: 1_000,
};

/// What [`Files`] needs.
pub struct FileParts {
    /// The rows.
    pub rows: FileStore,
    /// The public links.
    pub shares: ShareStore,
    /// `files.public_links`.
    pub has_public_links: bool,
    /// The bytes.
    pub store: Store,
    /// The shards.
    pub port: Arc<dyn FilesPort>,
    /// Counts what files become.
    pub metrics: Metrics,
    /// How much may be uploaded.
    pub quotas: FileQuotas,
    /// Bytes a second of all uploads; any number with 0.
    pub upload_rate: u64,
    /// Bytes in one file.
    pub size_max: u64,
    /// Types that are accepted.
    pub allowed_types: Vec<String>,
    /// The virus scanner; none if files are not scanned.
    pub antivirus: Option<Antivirus>,
    /// Whether the uploader can still read a picture as it came, where readers get a copy without places.
    pub keeps_originals: bool,
    /// This program, which examines media in a process of its own.
    pub program: PathBuf,
    /// Signs links.
    pub links: LinkKey,
    /// Whether other servers share the database. Each has the uploads that it received.
    pub is_shared: bool,
    /// `features.file_uploads`.
    pub is_on: bool,
}

/// The files of the control plane; cloning shares them.
#[derive(Clone)]
pub struct Files(Arc<FilesInner>);

struct FilesInner {
    parts: FileParts,
    turns: WriteTurns,
    pace: Pace,
    downloads: Quota<UserId>,
    examinations: Semaphore,
    avatars: Arc<Semaphore>,
    avatars_of_user: Quota<UserId>,
    public_downloads: Quota<ClientNetwork>,
    /// Counts the signs that there may be a job.
    work: watch::Sender<u64>,
}

impl Files {
    /// Nobody uploads yet.
    #[must_use]
    pub fn new(parts: FileParts) -> Self {
        Self(Arc::new(FilesInner {
            pace: Pace::new(parts.upload_rate),
            parts,
            turns: WriteTurns::default(),
            downloads: Quota::new(DOWNLOADS_MAX),
            examinations: Semaphore::new(EXAMINATIONS_MAX),
            avatars: Arc::new(Semaphore::new(AVATARS_MAX)),
            avatars_of_user: Quota::new(1),
            public_downloads: Quota::new(PUBLIC_DOWNLOADS_MAX),
            work: watch::Sender::new(0),
        }))
    }

    pub(super) fn parts(&self) -> &FileParts {
        &self.0.parts
    }

    pub(super) fn rows(&self) -> &FileStore {
        &self.0.parts.rows
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.parts.store
    }

    /// How fast all uploads together may arrive.
    pub(super) fn pace(&self) -> &Pace {
        &self.0.pace
    }

    pub(super) fn turns(&self) -> &WriteTurns {
        &self.0.turns
    }

    pub(super) fn program(&self) -> &Path {
        &self.0.parts.program
    }

    pub(super) fn shares(&self) -> &ShareStore {
        &self.0.parts.shares
    }

    /// A place among the downloads of a user.
    pub(in super::super) fn admit_download(&self, user: UserId) -> Result<QuotaPlace<UserId>, Refusal> {
        self.0.downloads.admit_or(user, &TOO_MANY_OF_USER)
    }

    /// A place among the downloads by public links from a network.
    pub(super) fn admit_public(&self, network: ClientNetwork) -> Result<QuotaPlace<ClientNetwork>, Refusal> {
        self.0.public_downloads.admit_or(network, &TOO_MANY_OF_NETWORK)
    }

    /// A place among the pictures of users that arrive or are checked.
    pub(super) fn admit_avatar(&self, user: UserId) -> Result<(OwnedSemaphorePermit, QuotaPlace<UserId>), Refusal> {
        let Ok(place) = Arc::clone(&self.0.avatars).try_acquire_owned() else {
            return Err(Refusal::overloaded("pictures", ("avatars_running", "server", AVATARS_MAX)).retry_after(1_000));
        };
        Ok((place, self.0.avatars_of_user.admit_or(user, &TOO_MANY_AVATARS_OF_USER)?))
    }

    /// The places for examinations of media.
    pub(super) fn examinations(&self) -> &Semaphore {
        &self.0.examinations
    }

    /// The virus scanner.
    pub(in crate::control) fn antivirus(&self) -> Option<&Antivirus> {
        self.0.parts.antivirus.as_ref()
    }

    /// Asks the virus scanner whether it can be trusted, so that /health/ready knows before the first file comes.
    pub async fn probe_scanner(self) {
        if let Some(antivirus) = self.antivirus()
            && let Err(reason) = antivirus.probe(self.store().disk()).await
        {
            crate::faults::error_limited!(reason, "files wait for their virus scan: start clamd, or see files.clamd");
        }
    }

    /// Refuses uploads when the feature is off.
    pub(super) fn may_upload(&self) -> Result<(), Problem> {
        if self.0.parts.is_on {
            return Ok(());
        }
        let detail = format!("This feature is switched off on this server ({}).", Feature::FileUploads.key());
        Err(with_reason(ErrorCode::Forbidden, detail, FileReason::UploadsOff).into())
    }

    /// All bytes of an upload are durable. They are checked next.
    pub(super) async fn finish(&self, file: FileId, size: u64) -> Result<(), Refusal> {
        self.rows().finish(file, size, &self.parts().quotas).await?;
        self.work_arrived();
        Ok(())
    }

    /// The upload of a form was cut off. If this fails, the upload expires.
    pub(super) async fn remove_unfinished(&self, user: UserId, file: FileId) -> Result<(), Refusal> {
        self.rows().remove(user, file).await?;
        self.work_arrived();
        Ok(())
    }

    /// There may be a job.
    pub(in crate::control) fn work_arrived(&self) {
        self.0.work.send_modify(|signs| *signs += 1);
    }

    /// Notified when there may be a job.
    pub(super) fn work_signs(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }
}
