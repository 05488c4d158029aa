//! Reads a backup. Everything in it may be damaged, or made by a stranger.
//!
//! 1. [`OpenBackup::open`] reads the manifest. The list of the parts must have the size and checksum that it states.
//! 2. [`OpenBackup::check`] reads every part and compares its checksum. Only then is anything of it used.
//!
//! Each path is compared with the one that the part's name or number must have. So no text of the backup is used as a
//! path.

use super::BackupFault;
use super::create::hash_of;
use super::manifest::{
    ABOUT_BYTES_MAX, BackupAbout, Encryption, LINE_BYTES_MAX, LIST, ListedPart, MANIFEST, MANIFEST_BYTES_MAX, Manifest,
    NAMES, StoredDigest, numbered_path,
};
use super::name::{KeyFile, PartName};
use super::place::OpenPlace;
use super::seal::BackupIdentities;
use crate::files::content::ContentName;
use crate::ids::FileId;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};

const OTHER: &str = "this is not what was written; use another backup";

/// A backup whose manifest and list have been read.
pub struct OpenBackup {
    place: OpenPlace,
    identities: Option<BackupIdentities>,
    /// Its manifest.
    pub manifest: Manifest,
    /// What it is of; `None` if it is encrypted and there is no identity.
    pub about: Option<BackupAbout>,
    list: File,
}

/// A part of a backup.
#[derive(Clone, Copy, Debug)]
pub struct OpenPart {
    number: u64,
    /// Bytes that are stored.
    pub size: u64,
    /// What it holds; `None` if the backup is encrypted and there is no identity.
    pub name: Option<PartName>,
}

/// What is in a backup, and whole.
#[derive(Default)]
pub struct Inventory {
    /// The dump.
    pub database: Option<OpenPart>,
    /// The keys.
    pub keys: Vec<(KeyFile, OpenPart)>,
    /// Unfinished uploads.
    pub uploads: HashMap<FileId, OpenPart>,
    /// Contents.
    pub contents: HashMap<ContentName, OpenPart>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Parts that are not as they were written, except for contents.
    pub broken: u64,
    /// Contents that are not as they were written.
    pub broken_contents: u64,
}

impl OpenBackup {
    /// Reads manifest and list.
    ///
    /// # Errors
    /// What is wrong with them. An encrypted backup needs `identities`, unless only its checksums are wanted.
    pub async fn open(place: OpenPlace, identities: Option<BackupIdentities>) -> Result<Self, BackupFault> {
        let mut text = Vec::new();
        let file = place.open(MANIFEST).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BackupFault::damaged(
                MANIFEST,
                "it is missing, so this is no complete backup: give the folder that `backup create` printed",
            ),
            _ => BackupFault::io(format!("cannot read {MANIFEST}"))(error),
        })?;
        let read = file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(BackupFault::io(format!("cannot read {MANIFEST}")))?;
        if text.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(BackupFault::damaged(MANIFEST, OTHER));
        }
        let manifest = Manifest::parse(&text)?;
        let list = verified(&place, LIST, &manifest.list).await?;
        let mut backup = Self { place, identities, about: manifest.about.clone(), manifest, list };
        if let Some(mut names) = backup.names().await? {
            backup.about = Some(read_about(&mut names)?);
        }
        Ok(backup)
    }

    /// The names of an encrypted backup, if there is an identity. They begin with what it is of.
    async fn names(&self) -> Result<Option<BufReader<Box<dyn Read>>>, BackupFault> {
        let (Some(digest), Some(identities)) = (&self.manifest.names, &self.identities) else { return Ok(None) };
        let sealed = verified(&self.place, NAMES, digest).await?;
        let plain = identities.open(sealed).map_err(BackupFault::io(format!("cannot decrypt {NAMES}")))?;
        Ok(Some(BufReader::new(plain)))
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.manifest.encryption == Encryption::Age
    }

    /// Reads every part and compares it with its checksum. `found` receives a sentence for each that is not as it was
    /// written, and `progress` the parts and bytes so far.
    ///
    /// # Errors
    /// A list that is malformed. Parts that are missing or damaged are findings.
    pub async fn check(
        &self,
        mut found: impl FnMut(String),
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Inventory, BackupFault> {
        let mut inventory = Inventory::default();
        let mut names = self.names().await?;
        if let Some(names) = &mut names {
            read_about(names)?;
        }
        let list = self.list.try_clone().and_then(|mut list| list.seek(SeekFrom::Start(0)).map(|_| list));
        let mut list = BufReader::new(list.map_err(BackupFault::io(format!("cannot read {LIST}")))?);
        for number in 0..self.manifest.parts {
            let (part, digest) = self.next_part(number, &mut list, names.as_mut())?;
            progress(number, inventory.bytes);
            inventory.bytes += part.size;
            let fault = self.fault_of(&part, &digest).await;
            if let Some(fault) = &fault {
                found(format!("{}: {fault}.", self.path(&part)));
            }
            inventory.add(part, &self.path(&part), fault.is_none())?;
        }
        if line(&mut list, LIST, LINE_BYTES_MAX)?.is_some() {
            return Err(BackupFault::damaged(LIST, "it has more lines than the manifest states; use another backup"));
        }
        if self.about.is_some() && inventory.database.is_none() && inventory.broken == 0 {
            return Err(BackupFault::damaged(LIST, "no part of it is a database; use another backup"));
        }
        Ok(inventory)
    }

    fn next_part(
        &self,
        number: u64,
        list: &mut impl BufRead,
        names: Option<&mut BufReader<Box<dyn Read>>>,
    ) -> Result<(OpenPart, StoredDigest), BackupFault> {
        let at = number + 1;
        let malformed = |file: &str| BackupFault::damaged(format!("{file}, line {at}"), OTHER);
        let text = line(list, LIST, LINE_BYTES_MAX)?.ok_or_else(|| malformed(LIST))?;
        let ListedPart { path, size, sha256 } = serde_json::from_slice(&text).map_err(|_| malformed(LIST))?;
        let expected_path = if self.is_sealed() {
            numbered_path(number)
        } else {
            PartName::parse(&path).ok_or_else(|| strange_path(&path, at))?.to_string()
        };
        if path != expected_path {
            return Err(strange_path(&path, at));
        }
        let name = match names {
            None if self.is_sealed() => None,
            None => PartName::parse(&path),
            Some(names) => {
                // With the line's number, and nothing of the text: it may be of a stranger.
                let text = line(names, NAMES, LINE_BYTES_MAX)?.ok_or_else(|| malformed(NAMES))?;
                let name: String = serde_json::from_slice(&text).map_err(|_| malformed(NAMES))?;
                Some(PartName::parse(&name).ok_or_else(|| strange_path(&name, at))?)
            }
        };
        Ok((OpenPart { number, size, name }, StoredDigest { size, sha256 }))
    }

    fn path(&self, part: &OpenPart) -> String {
        match part.name {
            Some(name) if !self.is_sealed() => name.to_string(),
            _ => numbered_path(part.number),
        }
    }

    /// What is wrong with a part.
    async fn fault_of(&self, part: &OpenPart, digest: &StoredDigest) -> Option<String> {
        if let Err(error) = verified(&self.place, &self.path(part), digest).await {
            return Some(match error {
                BackupFault::Damaged { reason, .. } => reason,
                BackupFault::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    "it is missing".to_owned()
                }
                error => error.to_string(),
            });
        }
        let Some(PartName::Content(name)) = part.name else { return None };
        let has_its_hash = if self.is_sealed() {
            match self.read(part).await.and_then(|mut plain| hash_of(&mut plain)) {
                Ok((_, hash)) => hash == name.hash,
                Err(error) => return Some(error.to_string()),
            }
        } else {
            digest.sha256 == name.hash.to_string()
        };
        (!has_its_hash).then(|| "it is not the content that its name states".to_owned())
    }

    /// The bytes of a part, decrypted. Whether they are those that were written, [`Self::check`] has found out.
    ///
    /// # Errors
    /// The system's, the bucket's, and those of age.
    pub async fn read(&self, part: &OpenPart) -> io::Result<Box<dyn Read>> {
        let file = self.place.open(&self.path(part)).await?;
        match (&self.identities, self.is_sealed()) {
            (Some(identities), true) => identities.open(file),
            (None, true) => Err(io::Error::other("it is encrypted; give --identity")),
            (_, false) => Ok(Box::new(file)),
        }
    }
}

impl Inventory {
    fn add(&mut self, part: OpenPart, path: &str, is_whole: bool) -> Result<(), BackupFault> {
        if !is_whole {
            match part.name {
                Some(PartName::Content(_)) => self.broken_contents += 1,
                _ => self.broken += 1,
            }
            return Ok(());
        }
        let is_second = match part.name {
            None => false,
            Some(PartName::Database) => self.database.replace(part).is_some(),
            Some(PartName::Key(key)) => {
                let is_second = self.keys.iter().any(|(known, _)| *known == key);
                self.keys.push((key, part));
                is_second
            }
            Some(PartName::Upload(file)) => self.uploads.insert(file, part).is_some(),
            Some(PartName::Content(name)) => self.contents.insert(name, part).is_some(),
        };
        if is_second {
            return Err(BackupFault::damaged(
                LIST,
                format!("{path} is a part for the second time; use another backup"),
            ));
        }
        Ok(())
    }
}

/// The text may be of a stranger, and long.
fn strange_path(path: &str, line: u64) -> BackupFault {
    let shown: String = path.chars().take(100).collect();
    BackupFault::damaged(
        format!("{LIST}, line {line}"),
        format!("{shown:?} is no name of a part, so nothing of this backup is used; use another backup"),
    )
}

/// A file of the backup, at its start, after its size and checksum have been compared.
async fn verified(place: &OpenPlace, path: &str, digest: &StoredDigest) -> Result<File, BackupFault> {
    let reading = || BackupFault::io(format!("cannot read {path}"));
    let mut file = place.open(path).await.map_err(reading())?;
    let size = file.metadata().map_err(reading())?.len();
    if size != digest.size {
        return Err(BackupFault::damaged(path, format!("it has {size} bytes instead of {}", digest.size)));
    }
    let (_, hash) = hash_of(&mut file).map_err(reading())?;
    if hash.to_string() != digest.sha256 {
        return Err(BackupFault::damaged(path, "its SHA-256 is another one than when it was written"));
    }
    file.seek(SeekFrom::Start(0)).map_err(reading())?;
    Ok(file)
}

fn read_about(names: &mut impl BufRead) -> Result<BackupAbout, BackupFault> {
    let text = line(names, NAMES, ABOUT_BYTES_MAX)?.unwrap_or_default();
    serde_json::from_slice(&text).map_err(|_| BackupFault::damaged(NAMES, OTHER))
}

/// The next line, without its end; `None` after the last one.
fn line(from: &mut impl BufRead, file: &str, most: usize) -> Result<Option<Vec<u8>>, BackupFault> {
    let mut text = Vec::new();
    let read = from.take(most as u64 + 1).read_until(b'\n', &mut text);
    read.map_err(BackupFault::io(format!("cannot read {file}")))?;
    match text.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(text)),
        Some(_) => Err(BackupFault::damaged(file, OTHER)),
    }
}
