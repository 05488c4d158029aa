//! The content of attachments of an export: in its archive, in a folder, or nowhere.

use super::archive::Archive;
use super::fault::ImportFault;
use crate::backup::BackupFault;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The beginnings of places.
const IN_ARCHIVE: &str = "archive:";
const IN_FOLDER: &str = "folder:";

/// What was found of some content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FoundContent {
    /// Where it is, for [`Contents::open_place`].
    pub(super) place: String,
    /// Its bytes.
    pub(super) size: u64,
}

/// Where content of attachments is.
#[derive(Default)]
pub(super) struct Contents {
    archive: Option<Archive>,
    folder: Option<PathBuf>,
}

impl Contents {
    /// The archive of the export, if it is one, and the folder of `--files`.
    pub(super) fn open(archive: Option<&Path>, folder: Option<&Path>) -> Result<Self, ImportFault> {
        let root = folder
            .map(|folder| folder.canonicalize().map_err(BackupFault::io(format!("cannot read {}", folder.display()))));
        Ok(Self { archive: archive.map(Archive::open).transpose()?, folder: root.transpose()? })
    }

    /// The first of some names that there is.
    pub(super) fn find(&self, names: &[String]) -> Option<FoundContent> {
        let archive = self.archive.as_ref();
        let packed = archive.and_then(|archive| names.iter().find_map(|name| archive.find(name)));
        if let Some(entry) = packed {
            return Some(FoundContent { place: format!("{IN_ARCHIVE}{}", entry.name), size: entry.size });
        }
        names.iter().find_map(|name| {
            let size = self.in_folder(name)?.metadata().ok()?.len();
            Some(FoundContent { place: format!("{IN_FOLDER}{name}"), size })
        })
    }

    /// A file of the folder. No name leads out of it, also through links.
    fn in_folder(&self, name: &str) -> Option<PathBuf> {
        let root = self.folder.as_ref()?;
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        let real = root.join(name).canonicalize().ok()?;
        (real.starts_with(root) && real.is_file()).then_some(real)
    }

    /// The content at a place of [`Self::find`]; an error says why there is none.
    pub(super) fn open_place(&mut self, place: &str) -> Result<Box<dyn Read + '_>, String> {
        let gone = || "its content has gone since the import began".to_owned();
        let failed = |error: std::io::Error| format!("its content cannot be read: {error}");
        if let Some(name) = place.strip_prefix(IN_FOLDER) {
            let path = self.in_folder(name).ok_or_else(gone)?;
            return Ok(Box::new(File::open(path).map_err(failed)?));
        }
        let name = place.strip_prefix(IN_ARCHIVE).unwrap_or(place);
        let archive = self.archive.as_mut().ok_or_else(gone)?;
        let entry = archive.find(name).cloned().ok_or_else(gone)?;
        archive.read(&entry).map_err(failed)
    }
}
