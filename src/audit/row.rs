//! The canonical form of a row and its hashes.

use super::Hash;
use sha2::{Digest, Sha256};

/// The first field of what a row's hash covers.
const ROW_VERSION: &str = "veza-audit-v1";
/// The first field of what a commitment covers.
const PERSONAL_VERSION: &str = "veza-audit-personal-v1";

/// A row of `audit_logs`. Texts borrow from the row of the driver.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // the columns are described in docs/audit.md
pub struct AuditRow<'a> {
    pub position: i64,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    pub user_id: Option<i64>,
    pub action: &'a str,
    pub target_type: Option<&'a str>,
    pub target_id: Option<i64>,
    pub conversation_id: Option<i64>,
    pub session_id: Option<i64>,
    pub ip_address: Option<&'a str>,
    pub device: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// As PostgreSQL prints the `jsonb`.
    pub details: Option<&'a str>,
    pub salt: Option<&'a [u8]>,
    pub commitment: &'a [u8],
    pub previous_hash: &'a [u8],
    pub hash: &'a [u8],
}

/// The bytes that a hash covers: each field is `LENGTH:TEXT`, or `-` if it is absent. They are hashed at once, because
/// a verification of a million rows is mostly this.
struct Canonical(Vec<u8>);

impl Canonical {
    /// Enough for nearly every row.
    const BYTES: usize = 512;

    fn new(version: &str) -> Self {
        Self(Vec::with_capacity(Self::BYTES)).text(Some(version))
    }

    fn length(&mut self, bytes: usize) {
        self.0.extend_from_slice(decimal(bytes as u64, &mut [0; 20]));
        self.0.push(b':');
    }

    fn text(mut self, field: Option<&str>) -> Self {
        match field {
            Some(text) => {
                self.length(text.len());
                self.0.extend_from_slice(text.as_bytes());
            }
            None => self.0.push(b'-'),
        }
        self
    }

    fn number(mut self, field: Option<i64>) -> Self {
        let Some(number) = field else { return self.text(None) };
        let mut digits = [0; 20];
        let digits = decimal(number.unsigned_abs(), &mut digits);
        self.length(digits.len() + usize::from(number < 0));
        if number < 0 {
            self.0.push(b'-');
        }
        self.0.extend_from_slice(digits);
        self
    }

    fn bytes(mut self, field: &[u8]) -> Self {
        self.length(field.len() * 2);
        self.0.extend(field.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
        self
    }

    fn finish(self) -> Hash {
        Sha256::digest(&self.0).into()
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

impl AuditRow<'_> {
    /// The commitment to the personal fields; `None` if they were erased.
    #[must_use]
    pub fn committed(&self) -> Option<Hash> {
        let canonical = Canonical::new(PERSONAL_VERSION).bytes(self.salt?).text(self.ip_address).text(self.device);
        Some(canonical.text(self.reason).text(self.details).finish())
    }

    /// Whether any personal field is there.
    #[must_use]
    pub fn has_personal_fields(&self) -> bool {
        [self.ip_address, self.device, self.reason, self.details].iter().any(Option::is_some)
    }

    /// The hash that the row should have.
    #[must_use]
    pub fn hashed(&self) -> Hash {
        Canonical::new(ROW_VERSION)
            .number(Some(self.position))
            .number(Some(self.created_at_us))
            .number(self.user_id)
            .text(Some(self.action))
            .text(self.target_type)
            .number(self.target_id)
            .number(self.conversation_id)
            .number(self.session_id)
            .bytes(self.commitment)
            .bytes(self.previous_hash)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_fields_never_give_the_same_hash() {
        let hash = |device, reason| {
            let row = AuditRow { salt: Some(&[1]), device, reason, ..AuditRow::default() };
            row.committed().unwrap()
        };
        let all = [
            hash(None, None),
            hash(Some(""), None),
            hash(None, Some("")),
            hash(Some("ab"), Some("c")),
            hash(Some("a"), Some("bc")),
            hash(Some("-"), None),
            hash(Some("1:a"), None),
        ];
        let distinct: std::collections::BTreeSet<Hash> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(AuditRow::default().committed(), None);
    }

    #[test]
    fn numbers_have_their_sign_and_length() {
        for (number, text) in [(0, "1:0"), (-7, "2:-7"), (4_711, "4:4711"), (i64::MIN, "20:-9223372036854775808")] {
            assert_eq!(Canonical(Vec::new()).number(Some(number)).0, text.as_bytes());
        }
        assert_eq!(Canonical(Vec::new()).number(None).bytes(&[1, 0xab]).0, b"-4:01ab");
    }

    #[test]
    fn numbers_are_decimal() {
        for (number, text) in [(0, "0"), (9, "9"), (10, "10"), (u64::MAX, "18446744073709551615")] {
            assert_eq!(decimal(number, &mut [0; 20]), text.as_bytes());
        }
    }
}
