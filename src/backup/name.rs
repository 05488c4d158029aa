//! What a part of a backup holds. Its name is also its path in a backup that is not encrypted.

use crate::files::content::ContentName;
use crate::ids::FileId;
use std::fmt;

/// A key in `data_dir`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyFile {
    /// Signs tokens; the passwords of the database logins are derived from it.
    JwtSecret,
    /// The keys that sign tokens after a rotation.
    SigningKeys,
    /// Encrypts two-factor secrets.
    EncryptionKey,
    /// Signs the audit trail.
    AuditKey,
}

impl KeyFile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::JwtSecret, Self::SigningKeys, Self::EncryptionKey, Self::AuditKey];

    /// Its name in `data_dir`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::JwtSecret => "jwt_secret",
            Self::SigningKeys => "jwt_keys",
            Self::EncryptionKey => "encryption_key",
            Self::AuditKey => "audit_key",
        }
    }
}

/// The folder of content.
pub const FILES: &str = "files";

/// What a part holds. Displayed as its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PartName {
    /// The database, as `pg_dump --format=custom` writes it.
    Database,
    /// A key of `data_dir`.
    Key(KeyFile),
    /// The durable bytes of an upload that is not checked yet.
    Upload(FileId),
    /// Content of files and pictures of users.
    Content(ContentName),
}

impl PartName {
    /// The name of this text: exactly a name that is displayed, so nothing that leads out of a folder.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = match text.split_once('/') {
            None => (text == "database.dump").then_some(Self::Database),
            Some(("keys", name)) => KeyFile::ALL.into_iter().find(|key| key.file() == name).map(Self::Key),
            Some(("uploads", number)) => number.parse().ok().filter(|id| *id > 0).map(|id| Self::Upload(FileId(id))),
            Some((FILES, rest)) => rest.rsplit('/').next().and_then(ContentName::parse).map(Self::Content),
            Some(_) => None,
        };
        name.filter(|name| name.to_string() == text)
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database => f.write_str("database.dump"),
            Self::Key(key) => write!(f, "keys/{}", key.file()),
            Self::Upload(file) => write!(f, "uploads/{}", file.0),
            Self::Content(name) => {
                let name = name.to_string();
                write!(f, "{FILES}/{}/{name}", &name[..2])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::content::ContentHash;

    #[test]
    fn reads_the_names_that_it_writes_and_no_other_path() {
        let content = ContentName { hash: ContentHash([0xab; 32]), number: 3 };
        let names = [PartName::Database, PartName::Upload(FileId(7)), PartName::Content(content)];
        for name in names.into_iter().chain(KeyFile::ALL.map(PartName::Key)) {
            assert_eq!(PartName::parse(&name.to_string()), Some(name));
        }
        let hash = "ab".repeat(32);
        for bad in [
            "",
            "/etc/passwd",
            "../database.dump",
            "keys/../audit_key",
            "keys/other",
            "uploads/07",
            "uploads/-1",
            "uploads/../7",
            "database.dump/",
            &format!("files/{hash}.3"),
            &format!("files/cd/{hash}.3"),
            &format!("files/../{hash}.3"),
            &format!("files/ab//{hash}.3"),
            &format!("files/AB/{}.3", hash.to_uppercase()),
        ] {
            assert_eq!(PartName::parse(bad), None, "{bad}");
        }
    }
}
