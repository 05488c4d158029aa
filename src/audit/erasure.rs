//! Erasures of people as signed notes: the ledger, which outlives the database, and receipts.
//!
//! A ledger has a line for each erasure that was requested. A server that starts compares it with its database. So a
//! backup that was made before an erasure does not bring the person back. Nothing in it is personal, and a note that
//! this server has not signed erases nobody.

use super::note::{AuditKey, AuditPublicKey, NoteError};
use crate::ids::UserId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::serde::rfc3339;

/// The origin of the notes of a ledger.
const LEDGER: &str = "veza-chat/erasure-ledger";
/// The longest line of a ledger, in bytes.
pub const LEDGER_LINE_MAX: usize = 4_096;

/// An erasure that was requested.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErasureRecord {
    /// 32 hexadecimal digits.
    #[serde(rename = "erasure")]
    pub id: String,
    /// The account.
    #[serde(rename = "user_id")]
    pub user: UserId,
    /// When the account was made. After an older backup was restored, its number can belong to another account.
    #[serde(with = "rfc3339")]
    pub account_created_at: OffsetDateTime,
    /// The person, or an administrator.
    pub requested_by: UserId,
    /// When.
    #[serde(with = "rfc3339")]
    pub requested_at: OffsetDateTime,
}

/// What a receipt states besides the record.
#[derive(Clone, PartialEq, Debug)]
pub struct ErasureFacts {
    /// Rows of each kind that were removed.
    pub counts: Value,
    /// The name of the audit trail.
    pub log_id: String,
    /// The position of its last row, which names the cleared ones.
    pub audit_position: i64,
    /// When everything was done.
    pub completed_at: OffsetDateTime,
}

/// Whether a text has the form of an erasure's id. Another text needs no look-up.
#[must_use]
pub fn is_erasure_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl ErasureRecord {
    /// The line of a ledger, without its end.
    #[must_use]
    pub fn to_line(&self, key: &AuditKey) -> String {
        let note = key.sign_note(LEDGER, &format!("{}\n", json!(self)));
        Value::String(note).to_string()
    }

    /// Reads such a line.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn from_line(line: &str, key: &AuditPublicKey) -> Result<Self, NoteError> {
        let note: String = serde_json::from_str(line).map_err(|_| NoteError::Malformed("it is no JSON string"))?;
        let (origin, lines) = key.open_note(&note)?;
        if origin != LEDGER {
            return Err(NoteError::Malformed("it is a note of another kind"));
        }
        let record: Self =
            serde_json::from_str(lines.trim_end()).map_err(|_| NoteError::Malformed("it states no erasure"))?;
        if is_erasure_id(&record.id) { Ok(record) } else { Err(NoteError::Malformed("its erasure has no id")) }
    }

    /// The signed receipt.
    #[must_use]
    pub fn receipt(&self, facts: &ErasureFacts, key: &AuditKey) -> String {
        let ErasureFacts { counts, log_id, audit_position, completed_at } = facts;
        let mut stated = json!(self);
        stated["completed_at"] =
            completed_at.format(&time::format_description::well_known::Rfc3339).map_or(Value::Null, Value::String);
        stated["removed"] = counts.clone();
        stated["audit_position"] = (*audit_position).into();
        key.sign_note(&format!("veza-chat/erasure/{log_id}"), &format!("{stated}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn record() -> ErasureRecord {
        ErasureRecord {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            user: UserId(17),
            account_created_at: datetime!(2026-01-02 03:04:05.678901 UTC),
            requested_by: UserId(1),
            requested_at: datetime!(2026-02-03 04:05:06 UTC),
        }
    }

    #[test]
    fn reads_its_own_lines_and_no_others() {
        let key = AuditKey::new(&[1; 32]);
        let line = record().to_line(&key);
        assert!(!line.contains('\n') && line.len() < LEDGER_LINE_MAX);
        assert_eq!(ErasureRecord::from_line(&line, &key.public()), Ok(record()));
        let other = AuditKey::new(&[2; 32]);
        assert_eq!(ErasureRecord::from_line(&line, &other.public()), Err(NoteError::UnknownKey));
        assert_eq!(
            ErasureRecord::from_line(&line.replace(":17}", ":18}"), &key.public()),
            Err(NoteError::BadSignature),
            "another account"
        );
        let facts = ErasureFacts {
            counts: json!({ "messages": 3 }),
            log_id: "1".to_owned(),
            audit_position: 9,
            completed_at: datetime!(2026-02-03 04:06:00 UTC),
        };
        let receipt = record().receipt(&facts, &key);
        let (origin, lines) = key.public().open_note(&receipt).unwrap();
        assert_eq!(origin, "veza-chat/erasure/1");
        let stated: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&stated["user_id"], &stated["removed"]["messages"]), (&17.into(), &3.into()));
        let receipt = Value::String(receipt).to_string();
        assert!(ErasureRecord::from_line(&receipt, &key.public()).is_err(), "a receipt is no line of a ledger");
        for line in ["", "{}", "\"\"", "\"a\\n\\nb\""] {
            assert!(ErasureRecord::from_line(line, &key.public()).is_err(), "{line}");
        }
    }
}
