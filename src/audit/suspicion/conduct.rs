//! What looks suspicious in what users read and write. Pure.
//!
//! Filter evasion has two forms. Somebody whose texts are refused again and again keeps trying; or a variant of a
//! refused text gets through. Only texts that rules of the server refuse come here, so no administrator of a
//! conversation can make somebody look suspicious with rules that refuse everything.

use super::finding::{Finding, Suspicion};
use super::windows::{Sums, Windows};
use crate::ids::UserId;
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Different people whom one user mentions within [`PERIOD`].
pub const MENTIONED: usize = 50;
/// Messages of one user that mention a whole conversation within [`PERIOD`].
pub const MENTIONED_ALL: usize = 10;
/// What one user reads within [`PERIOD`], in pages; a search counts as ten.
pub const READS: u64 = 3_000;
/// Different texts of one user that are refused within [`PERIOD`].
pub const REFUSED: usize = 10;
/// After so many refused texts, a variant of one that gets through is suspicious.
pub const REFUSED_BEFORE_VARIANT: usize = 3;
/// The period of all of them.
pub const PERIOD: Duration = Duration::from_mins(10);
/// How much two texts must have in common, in percent of their pairs of letters.
const LIKENESS_PERCENT: usize = 70;
/// Letters of a text that are compared.
const LETTERS_MAX: usize = 200;
/// Authors of refused texts who are remembered.
const AUTHORS_MAX: usize = 4_096;

/// The detectors of reads and texts.
pub(super) struct Conduct {
    mentioned: Windows<i64>,
    mentioned_all: Windows<i64>,
    reads: Sums<i64>,
    refused: HashMap<i64, Refusals>,
}

/// Texts of one author that the filter refused.
#[derive(Default)]
struct Refusals {
    /// At most [`REFUSED`], the oldest first.
    texts: VecDeque<(Duration, Letters)>,
    /// Until then nothing new is found.
    found_until: Duration,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            mentioned: Windows::new(MENTIONED, PERIOD),
            mentioned_all: Windows::new(MENTIONED_ALL, PERIOD),
            reads: Sums::new(READS, PERIOD),
            refused: HashMap::new(),
        }
    }
}

fn found(suspicion: Suspicion, user: UserId, details: serde_json::Value) -> Finding {
    Finding::new(suspicion, &user.0.to_string(), details).by(Some(user))
}

fn minutes() -> u64 {
    PERIOD.as_secs() / 60
}

impl Conduct {
    pub(super) fn mentioned(&mut self, author: UserId, people: &[UserId], now: Duration) -> Option<Finding> {
        let mut reached = false;
        for person in people.iter().filter(|person| **person != author) {
            reached |= self.mentioned.add(author.0, person.0 as u64, now);
        }
        let details = json!({ "people": MENTIONED, "within_minutes": minutes() });
        reached.then(|| found(Suspicion::MassMentions, author, details))
    }

    pub(super) fn mentioned_all(&mut self, author: UserId, message: u64, now: Duration) -> Option<Finding> {
        let details = json!({ "mentions_of_all": MENTIONED_ALL, "within_minutes": minutes() });
        self.mentioned_all.add(author.0, message, now).then(|| found(Suspicion::MassMentions, author, details))
    }

    pub(super) fn read(&mut self, user: UserId, cost: u32, now: Duration) -> Option<Finding> {
        let details = || json!({ "pages": READS, "within_minutes": minutes() });
        self.reads.add(user.0, u64::from(cost), now).then(|| found(Suspicion::MassReading, user, details()))
    }

    pub(super) fn refused(&mut self, author: UserId, text: &str, now: Duration) -> Option<Finding> {
        if self.refused.len() >= AUTHORS_MAX && !self.refused.contains_key(&author.0) {
            self.forget(now);
            if self.refused.len() >= AUTHORS_MAX {
                self.refused.retain(|_, refusals| refusals.texts.len() > 1); // an attacker has more
            }
            if self.refused.len() >= AUTHORS_MAX {
                return None;
            }
        }
        let refusals = self.refused.entry(author.0).or_default();
        refusals.forget(now);
        let letters = Letters::of(text);
        // A client that repeats its text does not look for a variant.
        if refusals.texts.iter().any(|(_, known)| *known == letters) {
            return None;
        }
        if refusals.texts.len() >= REFUSED {
            refusals.texts.pop_front();
        }
        refusals.texts.push_back((now, letters));
        if refusals.texts.len() < REFUSED || now < refusals.found_until {
            return None;
        }
        refusals.found_until = now + PERIOD;
        let details = json!({ "refused_texts": REFUSED, "within_minutes": minutes() });
        Some(found(Suspicion::FilterEvasion, author, details))
    }

    pub(super) fn passed(&mut self, author: UserId, text: &str, now: Duration) -> Option<Finding> {
        let refusals = self.refused.get_mut(&author.0)?;
        refusals.forget(now);
        if refusals.texts.len() < REFUSED_BEFORE_VARIANT || now < refusals.found_until {
            return None;
        }
        let letters = Letters::of(text);
        if !refusals.texts.iter().any(|(_, refused)| letters.is_variant_of(refused)) {
            return None;
        }
        refusals.found_until = now + PERIOD;
        let details =
            json!({ "refused_texts": refusals.texts.len(), "a_variant_passed": true, "within_minutes": minutes() });
        Some(found(Suspicion::FilterEvasion, author, details))
    }

    /// Whether no author of a refused text is remembered.
    pub(super) fn suspects_nobody(&mut self, now: Duration) -> bool {
        self.forget(now);
        self.refused.is_empty()
    }

    fn forget(&mut self, now: Duration) {
        self.refused.retain(|_, refusals| {
            refusals.forget(now);
            !refusals.texts.is_empty()
        });
    }
}

impl Refusals {
    fn forget(&mut self, now: Duration) {
        while self.texts.front().is_some_and(|(at, _)| now >= *at + PERIOD) {
            self.texts.pop_front();
        }
    }
}

/// The letters and digits of a text, in lower case.
#[derive(PartialEq, Eq)]
struct Letters(Vec<char>);

impl Letters {
    fn of(text: &str) -> Self {
        let letters = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
        Self(letters.take(LETTERS_MAX).collect())
    }

    /// Whether it could be the refused text in disguise: most pairs of neighbours are the same, and nothing was left
    /// out. Somebody who removes the refused words writes less.
    fn is_variant_of(&self, refused: &Self) -> bool {
        if self.0.len() * 10 < refused.0.len() * 9 || refused.0.len() < 4 {
            return false;
        }
        let mut left: HashMap<(char, char), usize> = HashMap::new();
        for pair in refused.0.windows(2) {
            *left.entry((pair[0], pair[1])).or_default() += 1;
        }
        let common = self.0.windows(2).filter(|pair| match left.get_mut(&(pair[0], pair[1])) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        });
        // Sørensen and Dice: twice the common pairs, of all pairs.
        let all = self.0.len() + refused.0.len() - 2;
        common.count() * 200 >= all * LIKENESS_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: UserId = UserId(7);

    fn minute(n: u64) -> Duration {
        Duration::from_mins(n)
    }

    #[test]
    fn fifty_people_mentioned_in_ten_minutes_are_suspicious() {
        let mut conduct = Conduct::default();
        let people = |from: i64, to: i64| (from..to).map(UserId).collect::<Vec<_>>();
        assert_eq!(conduct.mentioned(ANN, &people(100, 149), minute(0)), None);
        assert_eq!(conduct.mentioned(ANN, &people(100, 149), minute(1)), None, "the same people");
        assert_eq!(conduct.mentioned(ANN, &[ANN], minute(1)), None, "herself");
        assert_eq!(conduct.mentioned(UserId(8), &people(149, 150), minute(1)), None, "somebody else");
        let finding = conduct.mentioned(ANN, &people(149, 160), minute(9)).unwrap();
        assert_eq!((finding.suspicion, finding.user), (Suspicion::MassMentions, Some(ANN)));
        assert_eq!(conduct.mentioned(ANN, &people(200, 300), minute(9)), None, "found already");
        for n in 0..20 {
            let some = people(n * 30, n * 30 + 30);
            assert_eq!(conduct.mentioned(UserId(9), &some, minute(10 * n as u64)), None, "30 in ten minutes");
        }
    }

    #[test]
    fn ten_mentions_of_whole_conversations_are_suspicious() {
        let mut conduct = Conduct::default();
        assert!((0..9).all(|n| conduct.mentioned_all(ANN, n, minute(n)).is_none()));
        assert_eq!(conduct.mentioned_all(ANN, 9, minute(9)).unwrap().suspicion, Suspicion::MassMentions);
        assert!((0..50).all(|n| conduct.mentioned_all(UserId(8), n, minute(n * 2)).is_none()), "an announcer");
    }

    #[test]
    fn reading_far_more_than_a_person_can_is_suspicious() {
        let mut conduct = Conduct::default();
        assert!((0..2_999).all(|_| conduct.read(ANN, 1, minute(1)).is_none()));
        let finding = conduct.read(ANN, 10, minute(2)).unwrap();
        assert_eq!((finding.suspicion, finding.details["pages"].as_u64()), (Suspicion::MassReading, Some(READS)));
        // Four pages a second, for an hour.
        assert!((0..14_400).all(|n| conduct.read(UserId(8), 1, Duration::from_millis(n * 250)).is_none()));
    }

    #[test]
    fn an_author_who_keeps_trying_evades_the_filter() {
        let mut conduct = Conduct::default();
        let mut texts = (0..REFUSED).map(|n| format!("buy pills number {n}"));
        assert!(texts.by_ref().take(REFUSED - 1).all(|text| conduct.refused(ANN, &text, minute(0)).is_none()));
        assert_eq!(conduct.refused(ANN, "BUY pills, number 0!", minute(1)), None, "the same letters");
        let finding = conduct.refused(ANN, &texts.next().unwrap(), minute(1)).unwrap();
        assert_eq!((finding.suspicion, finding.user), (Suspicion::FilterEvasion, Some(ANN)));
        assert_eq!(conduct.refused(ANN, "yet another one", minute(2)), None, "found already");
        // Somebody who swears now and then.
        for n in 0..100 {
            assert_eq!(conduct.refused(UserId(8), &format!("damn {n}"), minute(n * 2)), None, "five in ten minutes");
        }
    }

    #[test]
    fn a_variant_that_gets_through_evades_the_filter() {
        let refused = ["buy cheap pills here", "buy cheap p-i-l-l-s here now", "get cheap pills there"];
        let after = |passed: &str, at: u64| {
            let mut conduct = Conduct::default();
            for text in refused {
                assert_eq!(conduct.refused(ANN, text, minute(0)), None);
            }
            conduct.passed(ANN, passed, minute(at))
        };
        assert_eq!(after("buy cheap p1lls here", 1).unwrap().details["a_variant_passed"], true);
        assert_eq!(after("buy cheap here", 1), None, "without the refused word");
        assert_eq!(after("sorry, I did not know that this word is refused", 1), None, "another text");
        assert_eq!(after("buy cheap p1lls here", 10), None, "ten minutes later");
        let mut conduct = Conduct::default();
        assert_eq!(conduct.refused(ANN, refused[0], minute(0)), None);
        assert_eq!(conduct.refused(ANN, refused[1], minute(0)), None);
        assert_eq!(conduct.passed(ANN, "buy cheap p1lls here", minute(0)), None, "after two refused texts");
        assert_eq!(conduct.passed(UserId(8), "buy cheap p1lls here", minute(0)), None, "somebody else");
    }

    #[test]
    fn remembers_a_bounded_number_of_authors() {
        let mut conduct = Conduct::default();
        assert_eq!(conduct.refused(ANN, "one text", minute(0)), None);
        assert_eq!(conduct.refused(ANN, "another text", minute(0)), None);
        for n in 100..100 + 2 * AUTHORS_MAX as i64 {
            assert_eq!(conduct.refused(UserId(n), "a text", minute(0)), None);
            assert!(conduct.refused.len() <= AUTHORS_MAX);
        }
        assert_eq!(conduct.refused[&ANN.0].texts.len(), 2, "the one under suspicion is still known");
        assert!(!conduct.suspects_nobody(minute(9)) && conduct.suspects_nobody(minute(10)));
    }
}
