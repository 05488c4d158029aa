//! Whether the trail that a starting server finds is the one that it knew before. Pure.

use super::finding::{Finding, Suspicion};
use crate::audit::Hash;
use crate::audit::chain::ChainHead;
use serde_json::json;

/// What a starting server finds in the trail.
#[derive(Clone, Copy, Debug)]
pub struct TrailFound<'a> {
    /// The chain as checkpoints name it.
    pub origin: &'a str,
    /// Its end.
    pub head: ChainHead,
    /// The hash of the last row, if the row is there.
    pub last_root: Option<Hash>,
    /// The hash of the row up to which the checkpoint reaches, if the row is there.
    pub known_root: Option<Hash>,
    /// Retention has dropped the rows up to this position.
    pub dropped_to: i64,
}

/// Compares the trail with the last head that the server signed, and the chain that it belonged to.
#[must_use]
pub fn gap_at_start(known: Option<(&str, ChainHead)>, found: &TrailFound<'_>) -> Option<Finding> {
    let is_dropped = |position: i64| position <= found.dropped_to;
    let end = found.head;
    let reason = match known {
        Some((origin, _)) if origin != found.origin => {
            format!("the server signed {origin}, and finds {}", found.origin)
        }
        Some((_, head)) if end.size < head.size => {
            format!("the server signed {} rows, and finds {}", head.size, end.size)
        }
        Some((_, head)) if !is_dropped(head.size) && found.known_root != Some(head.root) => {
            format!("the row at position {} is not the one that the server signed", head.size)
        }
        _ if end.size > 0 && !is_dropped(end.size) && found.last_root != Some(end.root) => {
            format!("the last row, at position {}, is not the one that the end of the chain names", end.size)
        }
        _ => return None,
    };
    let size = known.map_or(end.size, |(_, head)| head.size);
    let details = json!({ "at_start": true, "reason": reason, "advice": "run chat-server audit verify" });
    Some(Finding::new(Suspicion::AuditGap, &format!("start {size}"), details))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIL: &str = "veza-chat/audit/1";

    fn head(size: i64, root: u8) -> ChainHead {
        ChainHead { size, root: [root; 32] }
    }

    fn found(head: ChainHead, known_root: Option<u8>) -> TrailFound<'static> {
        TrailFound {
            origin: TRAIL,
            head,
            last_root: Some(head.root),
            known_root: known_root.map(|root| [root; 32]),
            dropped_to: 0,
        }
    }

    fn reason(known: Option<(&str, ChainHead)>, found: &TrailFound<'_>) -> Option<String> {
        gap_at_start(known, found).map(|finding| finding.details["reason"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_trail_that_has_only_grown_has_no_gap() {
        let empty = TrailFound { last_root: None, ..found(ChainHead { size: 0, root: [0; 32] }, None) };
        assert_eq!(reason(None, &empty), None, "a new server");
        assert_eq!(reason(None, &found(head(9, 9), None)), None, "nothing was signed yet");
        assert_eq!(reason(Some((TRAIL, head(5, 5))), &found(head(5, 5), Some(5))), None);
        assert_eq!(reason(Some((TRAIL, head(5, 5))), &found(head(9, 9), Some(5))), None);
        let dropped = TrailFound { dropped_to: 6, ..found(head(9, 9), None) };
        assert_eq!(reason(Some((TRAIL, head(5, 5))), &dropped), None, "retention");
        let all_dropped = TrailFound { dropped_to: 9, last_root: None, ..found(head(9, 9), None) };
        assert_eq!(reason(Some((TRAIL, head(5, 5))), &all_dropped), None);
    }

    #[test]
    fn a_trail_that_is_not_the_signed_one_has_a_gap() {
        let known = Some((TRAIL, head(5, 5)));
        for (found, part) in [
            (found(head(4, 4), None), "signed 5 rows, and finds 4"),
            (found(head(5, 6), Some(6)), "position 5 is not the one that the server signed"),
            (found(head(9, 9), Some(6)), "position 5 is not the one that the server signed"),
            (found(head(9, 9), None), "position 5 is not the one that the server signed"),
            (TrailFound { last_root: None, ..found(head(9, 9), Some(5)) }, "the last row, at position 9"),
            (TrailFound { origin: "veza-chat/audit/2", ..found(head(9, 9), Some(5)) }, "finds veza-chat/audit/2"),
        ] {
            let reason = reason(known, &found).unwrap_or_default();
            assert!(reason.contains(part), "{reason:?} lacks {part:?}");
        }
        let finding = gap_at_start(known, &found(head(4, 4), None)).unwrap();
        assert_eq!((finding.suspicion, finding.key.as_str()), (Suspicion::AuditGap, "audit_gap start 5"));
    }
}
