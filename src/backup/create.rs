//! Writes a backup: part after part, then the lists, then the manifest.
//!
//! The lists grow in files without a name, so the memory that a backup takes does not depend on what it holds.

use super::BackupFault;
use super::manifest::{
    BackupAbout, Encryption, FORMAT, LIST, ListedPart, Manifest, NAMES, PARTS_MAX, StoredDigest, numbered_path,
};
use super::name::PartName;
use super::place::{NewPlace, PartSink};
use super::seal::{BackupRecipient, PartSeal};
use crate::files::content::{ContentHash, ContentName};
use crate::files::store::ByteStream;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};

/// Bytes that one read takes.
const READ_BYTES: usize = 256 * 1024;

/// A backup that is being written.
pub struct BackupWriter {
    place: NewPlace,
    recipients: Vec<BackupRecipient>,
    list: BufWriter<File>,
    /// Of an encrypted backup.
    names: BufWriter<File>,
    parts: u64,
    bytes: u64,
    shared_bytes: u64,
}

/// What was read for a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartSource {
    /// Bytes.
    pub size: u64,
    /// Their SHA-256, before encryption.
    pub hash: ContentHash,
}

/// The bytes of a reader, read on the thread of the command.
pub fn bytes_of_reader(reader: impl Read + Send + 'static) -> ByteStream {
    let pieces = stream::try_unfold(reader, |mut reader| async move {
        let mut chunk = vec![0; READ_BYTES];
        let read = reader.read(&mut chunk)?;
        chunk.truncate(read);
        Ok((read > 0).then(|| (Bytes::from(chunk), reader)))
    });
    pieces.boxed()
}

impl BackupWriter {
    /// Encrypts for the recipients, if there are any.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(place: NewPlace, recipients: Vec<BackupRecipient>) -> Result<Self, BackupFault> {
        let file = || tempfile::tempfile().map(BufWriter::new);
        let files = file().and_then(|list| Ok((list, file()?)));
        let (list, names) = files.map_err(BackupFault::io("cannot make a temporary file"))?;
        Ok(Self { place, recipients, list, names, parts: 0, bytes: 0, shared_bytes: 0 })
    }

    fn is_sealed(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// Bytes of the parts so far, as they are stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of them that an earlier backup has too.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        self.shared_bytes
    }

    /// Writes a part. Content that is not what its name states does not become one; the caller compares the hash.
    ///
    /// # Errors
    /// Those of the bytes and of the place.
    pub async fn put(&mut self, name: PartName, bytes: ByteStream) -> Result<PartSource, BackupFault> {
        let path = if self.is_sealed() { numbered_path(self.parts) } else { name.to_string() };
        let (source, stored) = self.store(&path, bytes).await?;
        if let PartName::Content(content) = name
            && content.hash != source.hash
        {
            self.remove(&path).await?;
            return Ok(source);
        }
        self.list_part(name, path, stored)?;
        Ok(source)
    }

    /// Gives content of an earlier backup in the same folder a name in this one, if it has this size and is whole.
    /// [`Self::settle_link`] must follow. Returns false if there is none, or if the file system refuses the link; then
    /// the content has to be written.
    ///
    /// # Errors
    /// The system's.
    pub async fn link_earlier(&self, name: ContentName, size: u64) -> Result<bool, BackupFault> {
        if self.is_sealed() {
            return Ok(false);
        }
        let path = PartName::Content(name).to_string();
        let Some(mut part) = self.place.earlier_part(&path) else { return Ok(false) };
        // The link comes first: where it is refused, nothing is read in vain.
        if self.place.share(&part, &path).is_err() {
            return Ok(false);
        }
        // Damage in an earlier backup does not spread: such content is written again.
        let is_whole = hash_of(&mut part).is_ok_and(|found| found == (size, name.hash));
        if !is_whole {
            self.remove(&path).await?;
        }
        Ok(is_whole)
    }

    /// Lists content that [`Self::link_earlier`] has linked, or removes the link if the server's own bytes, which have
    /// this hash, are not that content.
    ///
    /// # Errors
    /// The system's.
    pub async fn settle_link(&mut self, name: ContentName, size: u64, hash: ContentHash) -> Result<(), BackupFault> {
        let part = PartName::Content(name);
        let path = part.to_string();
        if hash != name.hash {
            return self.remove(&path).await;
        }
        self.shared_bytes += size;
        self.list_part(part, path, StoredDigest::new(size, name.hash))
    }

    async fn remove(&self, path: &str) -> Result<(), BackupFault> {
        self.place.remove(path).await.map_err(BackupFault::io(format!("cannot remove {path}")))
    }

    fn list_part(&mut self, name: PartName, path: String, stored: StoredDigest) -> Result<(), BackupFault> {
        let listed = ListedPart { path, size: stored.size, sha256: stored.sha256 };
        let lines = line(&mut self.list, &listed)
            .and_then(|()| if self.is_sealed() { line(&mut self.names, &name.to_string()) } else { Ok(()) });
        lines.map_err(BackupFault::io("cannot write the list of the parts"))?;
        self.parts += 1;
        self.bytes += stored.size;
        if self.parts > PARTS_MAX {
            return Err(BackupFault::Unfit(format!("a backup has at most {PARTS_MAX} parts")));
        }
        Ok(())
    }

    async fn store(&self, path: &str, bytes: ByteStream) -> Result<(PartSource, StoredDigest), BackupFault> {
        let stored = async {
            let mut sink = self.place.part(path)?;
            match self.fill(&mut sink, bytes).await {
                Ok(stored) => sink.finish().await.map(|()| stored),
                Err(error) => {
                    sink.abort().await;
                    Err(error)
                }
            }
        };
        stored.await.map_err(BackupFault::io(format!("cannot write {path}")))
    }

    async fn fill(&self, sink: &mut PartSink, mut bytes: ByteStream) -> io::Result<(PartSource, StoredDigest)> {
        let mut seal = if self.is_sealed() { Some(PartSeal::begin(&self.recipients)?) } else { None };
        let (mut plain, mut stored) = (Hashed::default(), Hashed::default());
        while let Some(chunk) = bytes.next().await.transpose()? {
            plain.add(&chunk);
            let written = match &mut seal {
                Some(seal) => seal.push(&chunk)?,
                None => chunk,
            };
            stored.add(&written);
            sink.write(written).await?;
        }
        if let Some(seal) = seal {
            let written = seal.finish()?;
            stored.add(&written);
            sink.write(written).await?;
        }
        let ((size, hash), (stored_size, stored_hash)) = (plain.finish(), stored.finish());
        Ok((PartSource { size, hash }, StoredDigest::new(stored_size, stored_hash)))
    }

    /// Completes the backup.
    ///
    /// # Errors
    /// Those of the place.
    pub async fn finish(&mut self, created_at: String, about: BackupAbout) -> Result<Manifest, BackupFault> {
        let is_sealed = self.is_sealed();
        let listing = || BackupFault::io("cannot write the list of the parts");
        let names = if is_sealed {
            let first = serde_json::to_vec(&about).map_err(io::Error::from);
            let first = first.map(|first| io::Cursor::new([first, b"\n".to_vec()].concat())).map_err(listing())?;
            let rest = written(&mut self.names).map_err(listing())?;
            Some(self.store(NAMES, bytes_of_reader(first.chain(rest))).await?.1)
        } else {
            None
        };
        let list = written(&mut self.list).map_err(listing())?;
        // The list is readable in every backup, so that its place can be checked.
        self.recipients.clear();
        let (_, list) = self.store(LIST, bytes_of_reader(list)).await?;
        let manifest = Manifest {
            format: FORMAT,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at,
            encryption: if is_sealed { Encryption::Age } else { Encryption::None },
            parts: self.parts,
            bytes: self.bytes,
            list,
            names,
            about: (!is_sealed).then_some(about),
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from).map_err(listing())?;
        self.place.finish(&[text, b"\n".to_vec()].concat()).await?;
        Ok(manifest)
    }

    /// Removes what was written.
    pub async fn discard(self) {
        self.place.discard().await;
    }
}

/// The file behind a writer, at its start.
fn written(writer: &mut BufWriter<File>) -> io::Result<File> {
    writer.flush()?;
    let mut file = writer.get_ref().try_clone()?;
    file.seek(SeekFrom::Start(0)).map(|_| file)
}

fn line(to: &mut BufWriter<File>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}

/// Size and hash of everything that follows.
///
/// # Errors
/// The reader's.
pub(super) fn hash_of(from: &mut impl Read) -> io::Result<(u64, ContentHash)> {
    let (mut hashed, mut chunk) = (Hashed::default(), vec![0; READ_BYTES]);
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(hashed.finish()),
            n => hashed.add(&chunk[..n]),
        }
    }
}

/// The hash of everything that follows.
///
/// # Errors
/// The stream's.
pub async fn hash_of_stream(mut bytes: ByteStream) -> io::Result<ContentHash> {
    let mut hashed = Hashed::default();
    while let Some(chunk) = bytes.next().await.transpose()? {
        hashed.add(&chunk);
    }
    Ok(hashed.finish().1)
}

/// Bytes that were counted and hashed.
#[derive(Default)]
pub(super) struct Hashed {
    hasher: Sha256,
    size: u64,
}

impl Hashed {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(super) fn finish(self) -> (u64, ContentHash) {
        (self.size, ContentHash(self.hasher.finalize().into()))
    }
}
