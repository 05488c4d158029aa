//! `manifest.json`, and the lists that it has the checksums of.
//!
//! - `manifest.json` is always readable. Of an encrypted backup it says when and by which version it was made, and
//!   nothing of its content.
//! - `list.jsonl` has a line for each part: path, size and SHA-256 of what is stored. So the place can be checked
//!   without an identity, also by other programs.
//! - `names.jsonl.age` is only in an encrypted backup, where the paths are numbers: first [`BackupAbout`], then the
//!   name of each part, in the order of the list.

use super::BackupFault;
use crate::files::content::ContentHash;
use crate::storage::backup::RowCounts;
use serde::{Deserialize, Serialize};

/// The version of this form.
pub const FORMAT: u32 = 1;
/// The file that makes a folder a backup.
pub const MANIFEST: &str = "manifest.json";
/// The list of the parts.
pub const LIST: &str = "list.jsonl";
/// The names of the parts of an encrypted backup.
pub const NAMES: &str = "names.jsonl.age";
/// Bytes of a manifest.
pub const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of a line of a list.
pub const LINE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the first line of the names.
pub const ABOUT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Parts of a backup: each takes about 150 bytes of memory when a backup is verified.
pub const PARTS_MAX: u64 = 20_000_000;
/// Lost files that a backup names.
pub const LOST_NAMED_MAX: usize = 1_000;

/// How the parts are encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Not at all.
    None,
    /// Each is a file of age (<https://age-encryption.org/v1>).
    Age,
}

/// Size and checksum of what is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDigest {
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl StoredDigest {
    /// Of so many bytes.
    #[must_use]
    pub fn new(size: u64, hash: ContentHash) -> Self {
        Self { size, sha256: hash.to_string() }
    }
}

/// `manifest.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of chat-server that made it.
    pub server_version: String,
    /// When its snapshot was taken (RFC 3339).
    pub created_at: String,
    /// How the parts are encrypted.
    pub encryption: Encryption,
    /// The number of parts.
    pub parts: u64,
    /// Bytes of all parts, as they are stored.
    pub bytes: u64,
    /// Of [`LIST`].
    pub list: StoredDigest,
    /// Of [`NAMES`], in an encrypted backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<StoredDigest>,
    /// What it is a backup of. In an encrypted backup it is encrypted too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<BackupAbout>,
}

/// What a backup is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupAbout {
    /// The machine and address of the server.
    pub node: String,
    /// The version of PostgreSQL.
    pub postgres_version: String,
    /// The newest table migration.
    pub migration: i32,
    /// Table → its rows.
    pub tables: RowCounts,
    /// The end of the audit trail.
    pub audit: AuditEnd,
    /// Where the content of files was: `folder` or `s3`.
    pub store: String,
    /// The number of contents, and of the unfinished uploads whose bytes are here.
    pub files: u64,
    /// Unfinished uploads.
    pub uploads: u64,
    /// Settings that were not in `data_dir`: they are not in the backup, and the restored server needs the same.
    pub outside: Vec<String>,
    /// What the server had lost already: at most [`LOST_NAMED_MAX`] contents.
    pub lost: Vec<String>,
}

/// The end of the audit trail in the snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEnd {
    /// The id of the trail.
    pub log_id: String,
    /// The position of its last row.
    pub size: i64,
    /// The hash of that row, hexadecimal.
    pub root: String,
    /// The newest signed checkpoint.
    pub checkpoint: Option<String>,
}

/// A line of [`LIST`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedPart {
    /// Its path.
    pub path: String,
    /// Bytes that are stored.
    pub size: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
}

/// The path of a part of an encrypted backup.
#[must_use]
pub fn numbered_path(number: u64) -> String {
    format!("parts/{:04}/{number:010}.age", number / 10_000)
}

impl Manifest {
    /// Reads it, and refuses what this version cannot read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, BackupFault> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let malformed = |error: serde_json::Error| {
            BackupFault::damaged(MANIFEST, format!("this is no manifest of a backup ({error}); use another backup"))
        };
        let FormatOnly { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(BackupFault::damaged(
                MANIFEST,
                format!(
                    "format {format} is of another version of chat-server, and this one reads {FORMAT}; use \
                     that version"
                ),
            ));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        let is_sealed = manifest.encryption == Encryption::Age;
        if manifest.parts > PARTS_MAX || manifest.names.is_some() != is_sealed || manifest.about.is_some() == is_sealed
        {
            return Err(BackupFault::damaged(MANIFEST, "its fields contradict each other; use another backup"));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_manifests_of_other_versions_and_contradictions() {
        let digest = r#"{"size":1,"sha256":"00"}"#;
        let head = r#""server_version":"1","created_at":"2026-11-29T00:00:00Z","parts":1,"bytes":1"#;
        let refused = |text: String| Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        let other = refused(format!(r#"{{"format":2,"new":true,{head}}}"#));
        assert!(other.contains("format 2 is of another version"), "{other}");
        let sealed = format!(r#"{{"format":1,{head},"encryption":"age","list":{digest},"names":{digest}}}"#);
        assert_eq!(Manifest::parse(sealed.as_bytes()).unwrap().encryption, Encryption::Age);
        for wrong in [sealed.replace("\"age\"", "\"none\""), sealed.replace("\"parts\":1", "\"parts\":99999999999")] {
            assert!(refused(wrong).contains("contradict"));
        }
        assert!(refused("[]".to_owned()).contains("no manifest"));
        assert!(refused(sealed.replace("\"bytes\"", "\"bites\"")).contains("no manifest"));
    }
}
