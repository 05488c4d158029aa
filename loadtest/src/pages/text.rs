//! Invented messages: words of a Zipf distribution, some of them French, some messages in Chinese or Japanese, some
//! with a link. Pure: the same seed gives the same texts.
//!
//! The cost of a search depends on how often its words occur and how many different words there are. The frequency of
//! the word at rank r is that of rank 1 divided by r, as in real languages. So there are words that are in most
//! messages and words that are in a few dozen of a million, and their frequency is known in advance.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;

/// Different words.
pub const WORDS: usize = 60_000;
/// Words of a message: 1 to this, short ones more often.
const LENGTH_MAX: u32 = 48;
/// Of 1,000 messages, those in a script without spaces.
const CJK_PER_MILLE: u32 = 30;
/// Of 1,000 messages, those with a link.
const LINKS_PER_MILLE: u32 = 40;
/// Of 1,000 messages, those with one of [`PHRASES`].
const PHRASES_PER_MILLE: u32 = 20;

/// The most frequent words, the first most of all.
const COMMON: [&str; 96] = [
    "the",
    "to",
    "and",
    "de",
    "is",
    "la",
    "in",
    "we",
    "it",
    "le",
    "for",
    "on",
    "et",
    "that",
    "this",
    "les",
    "with",
    "be",
    "you",
    "not",
    "à",
    "have",
    "are",
    "at",
    "des",
    "can",
    "if",
    "so",
    "est",
    "but",
    "from",
    "will",
    "un",
    "there",
    "project",
    "was",
    "meeting",
    "pour",
    "one",
    "should",
    "server",
    "today",
    "pas",
    "just",
    "que",
    "time",
    "works",
    "please",
    "déjà",
    "review",
    "build",
    "merge",
    "test",
    "être",
    "branch",
    "deploy",
    "thanks",
    "même",
    "question",
    "release",
    "après",
    "customer",
    "error",
    "réunion",
    "design",
    "update",
    "problème",
    "version",
    "request",
    "élève",
    "team",
    "report",
    "where",
    "network",
    "général",
    "index",
    "message",
    "très",
    "budget",
    "schedule",
    "où",
    "holiday",
    "coffee",
    "français",
    "printer",
    "invoice",
    "garçon",
    "contract",
    "février",
    "window",
    "naïve",
    "harbour",
    "hôpital",
    "lantern",
    "cœur",
    "journey",
];

/// Words that people write one after the other.
pub const PHRASES: [&str; 4] = ["release notes", "code review", "mise à jour", "next steering committee"];

/// Characters that form messages without spaces.
const CJK: [&str; 24] = [
    "会議",
    "明日",
    "今天",
    "我们",
    "你好",
    "世界",
    "项目",
    "東京",
    "大阪",
    "電車",
    "时间",
    "问题",
    "服务器",
    "測試",
    "已经",
    "完成",
    "資料",
    "ありがとう",
    "お願いします",
    "これは",
    "でした",
    "北京",
    "上海",
    "发布",
];
/// In few of those messages.
pub const CJK_RARE: [&str; 3] = ["灯塔维修", "神戸港", "彗星觀測"];

// A consonant, a vowel, what may close a syllable, a consonant, a vowel: however they are joined, they can be told
// apart.
const ONSETS: [&str; 20] =
    ["b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "q", "r", "s", "t", "v", "w", "x", "z"];
const VOWELS: [&str; 10] = ["a", "e", "i", "o", "u", "ai", "é", "ou", "oi", "è"];
const CODAS: [&str; 10] = ["", "n", "r", "l", "s", "t", "nd", "x", "m", "ck"];

/// The word at a rank from 1 on: one of [`COMMON`], or one that sounds like a word and is no other rank's.
pub fn word(rank: usize) -> String {
    if let Some(common) = COMMON.get(rank - 1) {
        return (*common).to_owned();
    }
    // A number in a mixed base, whose digits are parts of syllables. The factor has no common divisor with the number
    // of such words, so neighbouring ranks do not begin alike and no two are the same.
    let syllables = [&ONSETS[..], &VOWELS, &CODAS, &ONSETS, &VOWELS];
    let mut number = rank * 7_919 % syllables.iter().map(|parts| parts.len()).product::<usize>();
    let mut word = String::new();
    for parts in syllables {
        word.push_str(parts[number % parts.len()]);
        number /= parts.len();
    }
    word
}

/// Writes messages.
pub struct Writer {
    random: SmallRng,
    words: Vec<String>,
    /// Up to each rank, how much of all words those are.
    shares: Vec<f64>,
}

impl Writer {
    /// A writer of the texts of this seed.
    pub fn new(seed: u64) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=WORDS)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        for share in &mut shares {
            *share /= sum;
        }
        Self { random: SmallRng::seed_from_u64(seed), words: (1..=WORDS).map(word).collect(), shares }
    }

    fn one_in(&mut self, per_mille: u32) -> bool {
        self.random.random_range(0..1000) < per_mille
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.random_range(0..of.len())]
    }

    /// One message.
    pub fn message(&mut self) -> String {
        if self.one_in(CJK_PER_MILLE) {
            return self.without_spaces();
        }
        // The smaller of two even draws: short messages are more frequent.
        let length = self.random.random_range(1..=LENGTH_MAX).min(self.random.random_range(1..=LENGTH_MAX));
        let mut text = String::with_capacity(length as usize * 7);
        for n in 0..length {
            if n > 0 {
                text.push(' ');
            }
            let share: f64 = self.random.random();
            let rank = self.shares.partition_point(|upto| *upto < share).min(WORDS - 1);
            text.push_str(&self.words[rank]);
        }
        if self.one_in(PHRASES_PER_MILLE) {
            let phrase = self.pick(&PHRASES);
            // Writing into a String cannot fail.
            let _ = write!(text, " {phrase}");
        }
        if self.one_in(LINKS_PER_MILLE) {
            let page = &self.words[self.random.random_range(0..2_000)];
            let _ = write!(text, " https://example.org/{page}?id={}", self.random.random_range(0..100_000));
        }
        text
    }

    fn without_spaces(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.random.random_range(2..12) {
            text.push_str(self.pick(&CJK));
        }
        if self.one_in(3) {
            text.push_str(self.pick(&CJK_RARE));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn gives_every_rank_its_own_word() {
        let words: HashSet<String> = (1..=WORDS).map(word).collect();
        assert_eq!(words.len(), WORDS);
        assert!(words.iter().all(|word| word.chars().all(char::is_alphabetic)), "each is one word to a search");
    }

    #[test]
    fn writes_the_same_text_for_the_same_seed() {
        let texts = |seed| {
            let mut writer = Writer::new(seed);
            (0..200).map(|_| writer.message()).collect::<Vec<_>>()
        };
        assert_eq!(texts(1), texts(1));
        assert_ne!(texts(1), texts(2));
    }

    #[test]
    fn writes_words_with_their_frequencies() {
        let mut writer = Writer::new(3);
        let texts: Vec<String> = (0..20_000).map(|_| writer.message()).collect();
        let with = |wanted: &str| texts.iter().filter(|text| text.split(' ').any(|word| word == wanted)).count();
        let (first, fiftieth, last) = (with(&word(1)), with(&word(50)), with(&word(WORDS - 1)));
        assert!(first > 8_000 && (300..1_200).contains(&fiftieth) && last < 10, "{first} {fiftieth} {last}");
        let having = |part: &str| texts.iter().filter(|text| text.contains(part)).count();
        assert!((500..1_100).contains(&having("https://")), "{}", having("https://"));
        assert!((50..150).contains(&having("release notes")), "{}", having("release notes"));
        assert!((30..400).contains(&having("你好")), "{}", having("你好"));
        assert!(texts.iter().all(|text| (1..=4_000).contains(&text.chars().count())));
    }
}
