//! Signed heads of a chain: the C2SP forms [signed-note](https://c2sp.org/signed-note) and
//! [tlog-checkpoint](https://c2sp.org/tlog-checkpoint), with Ed25519.
//!
//! ```text
//! veza-chat/audit/LOG_ID          origin, and the name of the key
//! 4711                            size: the position of the last row
//! BASE64                          root: the hash of that row
//! closing                         only if the rows up to here were dropped by retention
//!
//! — veza-chat/audit/LOG_ID BASE64(key id, signature)
//! ```
//!
//! The root is the head of a hash chain and not of a Merkle tree, so a verifier needs the rows.

use super::chain::ChainHead;
use super::{Hash, hexadecimal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Ed25519, in signed-note.
const ALGORITHM: u8 = 1;
const CLOSING: &str = "closing";

/// What a checkpoint states.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The chain that it belongs to.
    pub origin: String,
    /// The rows that it covers.
    pub head: ChainHead,
    /// Retention dropped these rows.
    pub closing: bool,
}

/// Why a text is no checkpoint of this key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// It has another form.
    #[error("this is not a checkpoint: {0}")]
    Malformed(&'static str),
    /// Another key signed it.
    #[error("no signature of it is by the key of this audit trail")]
    UnknownKey,
    /// The signature does not fit the text.
    #[error("its signature does not fit: the text was changed, or somebody without the key signed it")]
    BadSignature,
}

/// The key that signs checkpoints.
#[derive(Clone)]
pub struct AuditKey(SigningKey);

impl AuditKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The signed text of a checkpoint.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let Checkpoint { origin, head, closing } = checkpoint;
        let extension = if *closing { "closing\n" } else { "" };
        self.sign_note(origin, &format!("{}\n{}\n{extension}", head.size, STANDARD.encode(head.root)))
    }

    /// A signed note of these lines; `origin` is its first line and the name of the key.
    #[must_use]
    pub fn sign_note(&self, origin: &str, lines: &str) -> String {
        let body = format!("{origin}\n{lines}");
        let signature = self.0.sign(body.as_bytes());
        let mut signed = self.public().id(origin).to_vec();
        signed.extend_from_slice(&signature.to_bytes());
        format!("{body}\n— {origin} {}\n", STANDARD.encode(signed))
    }

    /// The key that verifies them.
    #[must_use]
    pub fn public(&self) -> AuditPublicKey {
        AuditPublicKey(self.0.verifying_key())
    }
}

/// The key that verifies checkpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditPublicKey(VerifyingKey);

impl AuditPublicKey {
    /// The key as text: `NAME+ID+BASE64`, a verifier key of signed-note.
    #[must_use]
    pub fn to_text(&self, origin: &str) -> String {
        let id = hexadecimal(&self.id(origin));
        let mut key = vec![ALGORITHM];
        key.extend_from_slice(self.0.as_bytes());
        format!("{origin}+{id}+{}", STANDARD.encode(key))
    }

    /// Reads such a text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, STANDARD.decode(parts.next()?).ok()?);
        let key = VerifyingKey::from_bytes(key.strip_prefix(&[ALGORITHM])?.try_into().ok()?).ok()?;
        let key = Self(key);
        (key.to_text(name).split('+').nth(1) == Some(id)).then_some(key)
    }

    fn id(&self, name: &str) -> [u8; 4] {
        let digest = Sha256::new().chain_update(name).chain_update([b'\n', ALGORITHM]).chain_update(self.0.as_bytes());
        let digest: Hash = digest.finalize().into();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// Reads a checkpoint and verifies its signature.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let (origin, lines) = split(note)?;
        let checkpoint = parse(&format!("{origin}\n{lines}"))?;
        self.open_note(note)?;
        Ok(checkpoint)
    }

    /// Verifies the signature of any note. Returns its origin, and the lines behind it.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open_note(&self, note: &str) -> Result<(String, String), NoteError> {
        let (origin, lines) = split(note)?;
        let id = self.id(&origin);
        let signatures = note.split_once("\n\n").map_or("", |(_, signatures)| signatures);
        let of_key = signatures.lines().find_map(|line| {
            let (name, signed) = line.strip_prefix("— ")?.split_once(' ')?;
            let signed = STANDARD.decode(signed).ok()?;
            let signature = signed.strip_prefix(&id)?;
            (name == origin).then(|| Signature::from_slice(signature).ok())
        });
        let signature = of_key.ok_or(NoteError::UnknownKey)?.ok_or(NoteError::BadSignature)?;
        let body = format!("{origin}\n{lines}");
        self.0.verify_strict(body.as_bytes(), &signature).map_err(|_| NoteError::BadSignature)?;
        Ok((origin, lines))
    }
}

/// The first line of a note, and the other ones with their ends.
fn split(note: &str) -> Result<(String, String), NoteError> {
    let (body, _) = note.split_once("\n\n").ok_or(NoteError::Malformed("it has no empty line"))?;
    let (origin, lines) = body.split_once('\n').unwrap_or((body, ""));
    Ok((origin.to_owned(), if lines.is_empty() { String::new() } else { format!("{lines}\n") }))
}

fn parse(body: &str) -> Result<Checkpoint, NoteError> {
    let mut lines = body.lines();
    let (origin, size, root) = (lines.next(), lines.next(), lines.next());
    let origin = origin.filter(|origin| !origin.is_empty()).ok_or(NoteError::Malformed("it has no origin"))?;
    let size = size.and_then(|size| size.parse().ok()).ok_or(NoteError::Malformed("its second line is no size"))?;
    let root = root.and_then(|root| STANDARD.decode(root).ok()?.try_into().ok());
    let root = root.ok_or(NoteError::Malformed("its third line is no SHA-256 in base64"))?;
    let closing = lines.any(|line| line == CLOSING);
    Ok(Checkpoint { origin: origin.to_owned(), head: ChainHead { size, root }, closing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "veza-chat/audit/1".to_owned(),
            head: ChainHead { size: 7, root: [9; 32] },
            closing: false,
        }
    }

    #[test]
    fn opens_what_it_signed_and_nothing_else() {
        let key = AuditKey::new(&[1; 32]);
        let public = key.public();
        for closing in [false, true] {
            let checkpoint = Checkpoint { closing, ..checkpoint() };
            let note = key.sign(&checkpoint);
            assert_eq!(public.open(&note), Ok(checkpoint));
            assert_eq!(AuditKey::new(&[2; 32]).public().open(&note), Err(NoteError::UnknownKey));
            for (from, to) in [("\n7\n", "\n8\n"), ("audit/1\n", "audit/1\n"), ("CQkJ", "CQkK")] {
                let changed = note.replacen(from, to, 1);
                assert_eq!(public.open(&changed).is_err(), changed != note, "{changed}");
            }
            assert!(public.open(&note.replace("\n\n", "\nclosing\n\n")).is_err());
        }
        assert!(matches!(public.open("text"), Err(NoteError::Malformed(_))));
    }

    #[test]
    fn a_key_survives_its_text_form() {
        let public = AuditKey::new(&[3; 32]).public();
        let text = public.to_text("veza-chat/audit/1");
        assert_eq!(AuditPublicKey::from_text(&text), Some(public));
        assert_eq!(AuditPublicKey::from_text(&text.replace("audit/1", "audit/2")), None, "the id covers the name");
        assert_eq!(AuditPublicKey::from_text("veza"), None);
    }

    /// The key of Go's checksum database, which others made.
    #[test]
    fn key_ids_are_those_of_the_specification() {
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        assert_eq!(AuditPublicKey::from_text(text).unwrap().to_text("sum.golang.org"), text);
    }
}
