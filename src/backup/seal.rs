//! Encryption with age: each part is a file of age for the given recipients.

use super::BackupFault;
use age::stream::StreamWriter;
use age::{Decryptor, Encryptor};
use bytes::Bytes;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::str::FromStr;

/// Bytes of a file with identities.
const IDENTITIES_BYTES_MAX: u64 = 64 * 1024;

/// A public key of age, `age1…`.
#[derive(Clone)]
pub struct BackupRecipient(age::x25519::Recipient);

impl FromStr for BackupRecipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|reason| format!("this is no public key of age, age1…: {reason}"))
    }
}

/// The secret keys that open a backup.
pub struct BackupIdentities(Vec<age::x25519::Identity>);

impl BackupIdentities {
    /// Those in a file as `age-keygen` writes it.
    ///
    /// # Errors
    /// The file's, and the line that is none.
    pub fn read(path: &Path) -> Result<Self, BackupFault> {
        let named = |reason: String| BackupFault::Unfit(format!("--identity {}: {reason}", path.display()));
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(IDENTITIES_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| named(error.to_string()))?;
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<_>, BackupFault> = keys
            .map(|(at, line)| line.parse().map_err(|reason| named(format!("line {at} is no identity: {reason}"))))
            .collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err(named("there is no line AGE-SECRET-KEY-1…; age-keygen writes such a file".to_owned()));
        }
        Ok(Self(keys))
    }

    /// The plain bytes of a part.
    ///
    /// # Errors
    /// `PermissionDenied` if no identity fits; `InvalidData` for what is no file of age.
    pub fn open(&self, sealed: impl Read + 'static) -> io::Result<Box<dyn Read>> {
        let decryptor = Decryptor::new_buffered(BufReader::new(sealed));
        let decryptor = decryptor.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let opened = decryptor.decrypt(self.0.iter().map(|key| key as &dyn age::Identity));
        let plain = opened.map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => io::Error::new(
                io::ErrorKind::PermissionDenied,
                "no key of --identity opens it; give the identity of one of the recipients",
            ),
            error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        })?;
        Ok(Box::new(plain))
    }
}

/// What age has written and nobody has taken yet.
#[derive(Clone, Default)]
struct SealedSoFar(Rc<RefCell<Vec<u8>>>);

impl Write for SealedSoFar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A part that is being encrypted.
pub struct PartSeal {
    writer: StreamWriter<SealedSoFar>,
    sealed: SealedSoFar,
}

impl PartSeal {
    /// For these recipients, of whom there is at least one.
    ///
    /// # Errors
    /// Age's.
    pub fn begin(recipients: &[BackupRecipient]) -> io::Result<Self> {
        let recipients = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let sealed = SealedSoFar::default();
        let writer = Encryptor::with_recipients(recipients).map_err(io::Error::other)?.wrap_output(sealed.clone())?;
        Ok(Self { writer, sealed })
    }

    /// Encrypts the next bytes. Returns those that are ready: about as many.
    ///
    /// # Errors
    /// Age's.
    pub fn push(&mut self, plain: &[u8]) -> io::Result<Bytes> {
        self.writer.write_all(plain)?;
        Ok(std::mem::take(&mut *self.sealed.0.borrow_mut()).into())
    }

    /// The last bytes.
    ///
    /// # Errors
    /// Age's.
    pub fn finish(self) -> io::Result<Bytes> {
        self.writer.finish()?;
        Ok(std::mem::take(&mut *self.sealed.0.borrow_mut()).into())
    }
}
