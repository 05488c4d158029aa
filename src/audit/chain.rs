//! Checks a whole chain, row by row in the order of positions.
//!
//! What each check finds: a hash that does not fit its row (an edit), a row that does not follow the one before (a
//! swap, a deletion, an insertion), a gap or a repeat of positions, an end that is not the head's (truncation), a row
//! that a signed head contradicts (a rewrite with new hashes), personal fields that differ from their commitment, and
//! ones that are missing without an erasure.
//!
//! Memory does not grow with the chain, except for the erased positions, kept as ranges until their erasure comes.

use super::ranges::Ranges;
use super::row::AuditRow;
use super::{Hash, hexadecimal};
use serde_json::Value;
use std::collections::VecDeque;

/// The action of the rows that name erased positions.
const ERASURE: &str = "erase_person";
/// Findings that are described. Further ones are counted.
const FINDINGS_MAX: usize = 20;

/// The rows up to `size`, and the hash of the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainHead {
    /// The position of the last row; 0 for none.
    pub size: i64,
    /// The hash of the last row; zeros for none.
    pub root: Hash,
}

/// A head that was signed earlier.
#[derive(Clone, Debug)]
pub struct SignedHead {
    /// What it states.
    pub head: ChainHead,
    /// How a finding names it.
    pub name: String,
}

/// The result.
#[derive(Debug)]
pub struct ChainReport {
    /// Rows that were read.
    pub rows: u64,
    /// One sentence each.
    pub findings: Vec<String>,
    /// Findings beyond these.
    pub more: u64,
}

/// A chain that is being checked.
pub struct ChainCheck {
    rows: u64,
    last: ChainHead,
    last_us: i64,
    signed: VecDeque<SignedHead>,
    /// Positions without personal fields whose erasure has not come yet.
    missing: Ranges,
    findings: Vec<String>,
    more: u64,
}

impl ChainCheck {
    /// A check of the rows after `start`, against signed heads in any order.
    #[must_use]
    pub fn new(start: ChainHead, mut signed: Vec<SignedHead>) -> Self {
        signed.sort_by_key(|signed| signed.head.size);
        let mut check = Self {
            rows: 0,
            last: start,
            last_us: i64::MIN,
            signed: signed.into(),
            missing: Ranges::default(),
            findings: Vec::new(),
            more: 0,
        };
        check.compare_with_signed(start);
        check
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a finding.
    pub fn found(&mut self, sentence: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(sentence);
        } else {
            self.more += 1;
        }
    }

    /// The next row.
    pub fn row(&mut self, row: &AuditRow<'_>) {
        self.rows += 1;
        let (position, expected) = (row.position, self.last.size + 1);
        if position < expected {
            self.found(format!(
                "Position {position}: a row was inserted. The chain was at position {expected} already."
            ));
        } else if position > expected {
            self.found(format!("{} missing: deleted.", positions(expected, position - 1)));
        } else if row.previous_hash != self.last.root {
            self.found(format!(
                "Position {position}: it does not follow position {}. Its previous_hash is {}, the hash there is {}.",
                position - 1,
                short(row.previous_hash),
                short(&self.last.root)
            ));
        }
        let hash = row.hashed();
        if row.hash != hash {
            self.found(format!(
                "Position {position}: the row was changed. Its hash is {}, its fields give {}. One of position, \
                 created_at, user_id, action, target_type, target_id, conversation_id, session_id, commitment and \
                 previous_hash differs.",
                short(row.hash),
                short(&hash)
            ));
        }
        self.check_personal_fields(row);
        if row.created_at_us < self.last_us {
            self.found(format!("Position {position}: it is older than the row before it."));
        }
        self.last_us = row.created_at_us;
        self.last = ChainHead { size: position.max(self.last.size), root: row.hash.try_into().unwrap_or_default() };
        self.compare_with_signed(self.last);
    }

    fn check_personal_fields(&mut self, row: &AuditRow<'_>) {
        let position = row.position;
        match row.committed() {
            None if row.has_personal_fields() => {
                self.found(format!("Position {position}: personal fields were added after the erasure."));
            }
            None => self.missing.push(position),
            Some(committed) if row.commitment != committed => self.found(format!(
                "Position {position}: the personal fields were changed. One of ip_address, device, reason, details and \
                 salt differs from what commitment covers."
            )),
            Some(_) if row.action == ERASURE => self.erase(position, row.details.unwrap_or_default()),
            Some(_) => {}
        }
    }

    fn erase(&mut self, position: i64, details: &str) {
        let details: Value = serde_json::from_str(details).unwrap_or_default();
        for run in details["positions"].as_array().into_iter().flatten() {
            match (run[0].as_i64(), run[1].as_i64()) {
                (Some(first), Some(last)) if last < position => self.missing.remove(first, last),
                _ => self.found(format!("Position {position}: the erasure names positions that do not precede it.")),
            }
        }
    }

    fn compare_with_signed(&mut self, reached: ChainHead) {
        while let Some(signed) = self.signed.front().filter(|signed| signed.head.size <= reached.size) {
            let ChainHead { size, root } = signed.head;
            if size == reached.size && root != reached.root {
                let sentence = format!(
                    "Position {size}: {} states the hash {}, the row has {}. Rows up to here were rewritten.",
                    signed.name,
                    short(&root),
                    short(&reached.root)
                );
                self.found(sentence);
            }
            self.signed.pop_front();
        }
    }

    /// The end of the rows. `head` is what `audit_head` states.
    #[must_use]
    pub fn finish(mut self, head: ChainHead) -> ChainReport {
        let ChainHead { size, root } = self.last;
        if head.size > size {
            let cut_off = positions(size + 1, head.size);
            self.found(format!("{cut_off} missing: the end of the chain was cut off."));
        } else if head.size < size {
            self.found(format!("Position {size}: audit_head states that the chain ends at position {}.", head.size));
        } else if head.root != root {
            self.found(format!("Position {size}: audit_head states another hash, {}.", short(&head.root)));
        }
        for signed in std::mem::take(&mut self.signed) {
            let covered = signed.head.size;
            self.found(format!(
                "Position {covered}: {} covers it, but the chain ends at position {size}. Its end was cut off.",
                signed.name
            ));
        }
        for (first, last) in std::mem::take(&mut self.missing).iter() {
            let erased = positions(first, last);
            self.found(format!("{erased} without personal fields, and no erasure names this."));
        }
        ChainReport { rows: self.rows, findings: self.findings, more: self.more }
    }
}

fn positions(first: i64, last: i64) -> String {
    if first == last { format!("Position {first} is") } else { format!("Positions {first} to {last} are") }
}

fn short(hash: &[u8]) -> String {
    format!("{}…", hexadecimal(&hash[..hash.len().min(6)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: i64 = 12;

    /// A row with its own memory.
    #[derive(Clone, PartialEq)]
    struct Owned {
        position: i64,
        user: i64,
        device: Option<String>,
        details: Option<String>,
        salt: Option<Vec<u8>>,
        commitment: Hash,
        previous: Hash,
        hash: Hash,
    }

    impl Owned {
        fn row(&self) -> AuditRow<'_> {
            AuditRow {
                position: self.position,
                user_id: Some(self.user),
                action: if self.details.is_some() { ERASURE } else { "sign_in" },
                device: self.device.as_deref(),
                details: self.details.as_deref(),
                salt: self.salt.as_deref(),
                commitment: &self.commitment,
                previous_hash: &self.previous,
                hash: &self.hash,
                ..AuditRow::default()
            }
        }
    }

    /// Makes hashes as PostgreSQL does. Returns the head.
    fn link(rows: &mut [Owned]) -> ChainHead {
        let mut head = ChainHead { size: 0, root: [0; 32] };
        for row in rows {
            row.previous = head.root;
            row.commitment = row.row().committed().unwrap_or(row.commitment);
            row.hash = row.row().hashed();
            head = ChainHead { size: row.position, root: row.hash };
        }
        head
    }

    fn chain() -> (Vec<Owned>, ChainHead) {
        let zeros = [0; 32];
        let row = |position| Owned {
            position,
            user: position,
            device: Some(format!("device {position}")),
            details: None,
            salt: Some(vec![position as u8]),
            commitment: zeros,
            previous: zeros,
            hash: zeros,
        };
        let mut rows: Vec<Owned> = (1..=ROWS).map(row).collect();
        let head = link(&mut rows);
        (rows, head)
    }

    fn findings(rows: &[Owned], head: ChainHead, signed: Vec<SignedHead>) -> Vec<String> {
        let mut check = ChainCheck::new(ChainHead { size: 0, root: [0; 32] }, signed);
        for row in rows {
            check.row(&row.row());
        }
        check.finish(head).findings
    }

    #[test]
    fn finds_every_change_at_every_position() {
        let (rows, head) = chain();
        assert_eq!(findings(&rows, head, Vec::new()), Vec::<String>::new());
        let signed = || vec![SignedHead { head, name: "the checkpoint".to_owned() }];
        for at in 0..rows.len() {
            type Change = fn(&mut Vec<Owned>, usize);
            let changes: [(&str, Change); 8] = [
                ("an edit", |rows, at| rows[at].user += 1),
                ("another device", |rows, at| rows[at].device = Some("other".to_owned())),
                ("missing fields", |rows, at| (rows[at].device, rows[at].salt) = (None, None)),
                ("a deletion", |rows, at| drop(rows.remove(at))),
                ("a repetition", |rows, at| rows.insert(at, rows[at].clone())),
                ("a swap", |rows, at| {
                    let other = (at + 1) % rows.len();
                    (rows[at].user, rows[other].user) = (rows[other].user, rows[at].user);
                }),
                ("a truncation", |rows, at| rows.truncate(at)),
                ("an edit with a new hash", |rows, at| {
                    rows[at].user += 1;
                    rows[at].hash = rows[at].row().hashed();
                }),
            ];
            for (what, change) in changes {
                let mut tampered = rows.clone();
                change(&mut tampered, at);
                assert!(!findings(&tampered, head, Vec::new()).is_empty(), "{what} at {at}");
            }
            // All hashes are made anew: only a signed head tells.
            let mut rewritten = rows.clone();
            rewritten[at].user += 1;
            let new_head = link(&mut rewritten);
            assert!(findings(&rewritten, new_head, Vec::new()).is_empty());
            assert_eq!(findings(&rewritten, new_head, signed()).len(), 1, "a rewrite at {at}");
            let shorter = &rows[..at];
            let end = shorter
                .last()
                .map_or(ChainHead { size: 0, root: [0; 32] }, |row| ChainHead { size: row.position, root: row.hash });
            assert!(findings(shorter, end, Vec::new()).is_empty());
            assert_eq!(findings(shorter, end, signed()).len(), 1, "a truncation with its head at {at}");
        }
    }

    #[test]
    fn accepts_missing_fields_at_named_positions_only() {
        let (mut rows, _) = chain();
        rows.last_mut().unwrap().details = Some(r#"{"positions":[[2,3],[5,5]]}"#.to_owned());
        let head = link(&mut rows);
        for erased in [1, 2, 4] {
            (rows[erased].device, rows[erased].salt) = (None, None);
        }
        assert_eq!(findings(&rows, head, Vec::new()), Vec::<String>::new());
        (rows[5].device, rows[5].salt) = (None, None);
        assert_eq!(
            findings(&rows, head, Vec::new()),
            ["Position 6 is without personal fields, and no erasure names this."]
        );
    }
}
