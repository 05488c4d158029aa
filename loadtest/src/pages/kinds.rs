//! The kinds of pages to measure, and the question for each: as a command for the server, and as the statement that
//! answers it, for the floor. Pure except for [`Samples::read`], which reads from the database what one can ask for.

use super::text::{CJK_RARE, PHRASES, WORDS, word};
use super::town::{AWAY, LARGE, READER, SMALL, STRANGER};
use crate::compare::postgres::describe;
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

/// Messages of a page, in all kinds: the server's default.
pub const PAGE: i64 = 50;
/// Places, threads and the like that are asked for in turn.
const SIGHTS: i64 = 500;

/// What there is to ask for.
#[derive(Debug, Default)]
pub struct Samples {
    /// Conversations' numbers, in the order of the town's rooms.
    pub rooms: Vec<i64>,
    /// Users' numbers, by index.
    pub users: Vec<i64>,
    /// The newest number of the large room.
    pub last_seq: i64,
    /// Messages of the large room.
    pub messages: Vec<i64>,
    /// Messages that began a thread there.
    pub threads: Vec<i64>,
    /// The thread with most replies.
    pub endless: i64,
}

const LAST_SEQ: &str = "SELECT last_seq FROM conversations WHERE id = $1";
const SOME_MESSAGES: &str = "SELECT array_agg(id) FROM (SELECT id FROM messages TABLESAMPLE SYSTEM (2) REPEATABLE (1) \
    WHERE conversation_id = $1 LIMIT $2) x";
const SOME_THREADS: &str = "SELECT array_agg(root_message_id) FROM (SELECT root_message_id FROM thread_statistics \
    WHERE conversation_id = $1 ORDER BY root_message_id % 1009, 1 LIMIT $2) x";
const ENDLESS: &str = "SELECT root_message_id FROM thread_statistics ORDER BY reply_count DESC LIMIT 1";

impl Samples {
    /// Reads them, as a superuser.
    ///
    /// # Errors
    /// With PostgreSQL's message.
    pub async fn read(client: &Client, rooms: &[i64], users: &[i64]) -> Result<Self, String> {
        let read = async {
            let large = &rooms[LARGE];
            Ok(Self {
                rooms: rooms.to_vec(),
                users: users.to_vec(),
                last_seq: client.query_one(LAST_SEQ, &[large]).await?.try_get(0)?,
                messages: client.query_one(SOME_MESSAGES, &[large, &SIGHTS]).await?.try_get(0)?,
                threads: client.query_one(SOME_THREADS, &[large, &SIGHTS]).await?.try_get(0)?,
                endless: client.query_one(ENDLESS, &[]).await?.try_get(0)?,
            })
        };
        read.await.map_err(|error: tokio_postgres::Error| format!("reading what was filled: {}", describe(&error)))
    }
}

/// How the floor answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Bare {
    /// `look_up(name, arguments)`, as the server calls it.
    Lookup(&'static str, Value),
    /// The rows of the large room before a number, descending, so many.
    Before(i64, i64),
    /// The rows after a number, ascending.
    After(i64, i64),
    /// Both around a message: half of a page before it, the rest from it on.
    Around(i64),
    /// `sql::LIST_CONVERSATIONS`, as the server sends it.
    Conversations,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who asks, by index.
    pub user: u32,
    /// The command.
    pub command: &'static str,
    /// Its data.
    pub data: Value,
    /// The same for the floor.
    pub bare: Bare,
}

/// A kind of page.
pub struct PageKind {
    /// Its name.
    pub name: &'static str,
    /// One request of it; the number counts them.
    pub ask: fn(&Samples, &mut SmallRng) -> Question,
    /// Asks for the page after the first, whose cursor is fetched before the measurement.
    pub second_page: bool,
}

fn text_id(conversation: i64) -> String {
    // As the server writes it: the two low bits are the kind.
    let kind = ["dm", "group", "room", "room"][(conversation & 3) as usize];
    format!("{kind}_{conversation}")
}

/// A command's data in the form in which the server passes them to PostgreSQL.
pub fn arguments(data: &Value) -> Value {
    let mut arguments = Map::new();
    for (name, value) in data.as_object().into_iter().flatten() {
        match (name.as_str(), value.as_str()) {
            ("conversation_id", Some(id)) => {
                let number = id.split_once('_').and_then(|(_, number)| number.parse::<i64>().ok());
                arguments.insert("conversation".to_owned(), json!(number));
            }
            ("cursor", Some(cursor)) => {
                if let Some((us, id)) = cursor.split_once('.') {
                    arguments.insert("cursor_us".to_owned(), json!(us.parse::<i64>().ok()));
                    arguments.insert("cursor_id".to_owned(), json!(id.parse::<i64>().ok()));
                }
            }
            _ => drop(arguments.insert(name.clone(), value.clone())),
        }
    }
    arguments.entry("limit").or_insert(json!(PAGE));
    Value::Object(arguments)
}

fn lookup(command: &'static str, user: u32, data: Value) -> Question {
    let bare = Bare::Lookup(command, arguments(&data));
    Question { user, command, data, bare }
}

fn history(samples: &Samples, window: (&str, i64), bare: Bare) -> Question {
    let mut data = json!({ "conversation_id": text_id(samples.rooms[LARGE]) });
    if !window.0.is_empty() {
        data[window.0] = json!(window.1);
    }
    Question { user: READER, command: "get_history", data, bare }
}

fn any_of<T: Copy>(of: &[T], random: &mut SmallRng) -> T {
    of[random.random_range(0..of.len())]
}

fn middle(samples: &Samples, random: &mut SmallRng) -> i64 {
    let far = samples.last_seq / 10;
    random.random_range(far..=samples.last_seq - far)
}

/// Who searches, where (nowhere: everywhere), and for what.
fn search(samples: &Samples, user: u32, room: Option<usize>, query: &str) -> Question {
    let mut data = json!({ "query": query });
    if let Some(room) = room {
        data["conversation_id"] = json!(text_id(samples.rooms[room]));
    }
    lookup("search_messages", user, data)
}

fn with(mut question: Question, name: &str, value: Value) -> Question {
    question.data[name] = value;
    lookup(question.command, question.user, question.data)
}

/// In a few dozen of a million messages.
fn rare(random: &mut SmallRng) -> String {
    word(random.random_range(WORDS / 3..WORDS))
}

/// In one or two of a hundred messages.
fn common(random: &mut SmallRng) -> String {
    word(random.random_range(52..90))
}

fn prefix(random: &mut SmallRng) -> String {
    let common = common(random);
    common.chars().take(4).chain(['*']).collect()
}

/// The inside of a word that is neither common nor rare.
fn inside(random: &mut SmallRng) -> String {
    let whole = word(random.random_range(1_000..6_000));
    let length = whole.chars().count();
    whole.chars().skip(1).take(length.saturating_sub(2).max(3)).collect()
}

macro_rules! kinds {
    ($($name:literal: |$samples:pat_param, $random:pat_param| $ask:expr;)*) => {
        &[$(PageKind { name: $name, ask: |$samples, $random| $ask, second_page: false },)*]
    };
}

/// Every kind but those of second pages.
const FIRST_PAGES: &[PageKind] = kinds! {
    "history: newest": |s, _| history(s, ("", 0), Bare::Before(i64::MAX, PAGE + 1));
    "history: before_seq": |s, r| {
        let seq = middle(s, r);
        history(s, ("before_seq", seq), Bare::Before(seq, PAGE + 1))
    };
    "history: after_seq": |s, r| {
        let seq = middle(s, r);
        history(s, ("after_seq", seq), Bare::After(seq, PAGE + 1))
    };
    "history: around_message_id": |s, r| {
        let message = any_of(&s.messages, r);
        history(s, ("around_message_id", message), Bare::Around(message))
    };
    "get_thread": |s, r| lookup("get_thread", READER, json!({ "message_id": any_of(&s.threads, r) }));
    "get_thread: the longest": |s, r| {
        let after = middle(s, r);
        lookup("get_thread", READER, json!({ "message_id": s.endless, "after_seq": after }))
    };
    "list_pins": |s, _| lookup("list_pins", READER, json!({ "conversation_id": text_id(s.rooms[LARGE]) }));
    "list_mentions": |_, _| lookup("list_mentions", READER, json!({}));
    "list_mentions: one conversation":
        |s, _| lookup("list_mentions", READER, json!({ "conversation_id": text_id(s.rooms[LARGE]) }));
    "list_conversations": |_, _| conversations(READER);
    "list_conversations: nothing read": |_, _| conversations(AWAY);
    "search: rare word": |s, r| search(s, READER, None, &rare(r));
    "search: rare word, one room": |s, r| search(s, READER, Some(LARGE), &rare(r));
    "search: common word": |s, r| search(s, READER, None, &common(r));
    "search: common word, one room": |s, r| search(s, READER, Some(LARGE), &common(r));
    "search: common word, small room": |s, r| search(s, READER, Some(SMALL), &common(r));
    "search: common word, few rooms": |s, r| search(s, STRANGER, None, &common(r));
    "search: rare word, few rooms": |s, r| search(s, STRANGER, None, &rare(r));
    "search: commonest word": |s, r| search(s, READER, None, &word(r.random_range(1..6)));
    "search: two common words": |s, r| search(s, READER, None, &format!("{} {}", common(r), common(r)));
    "search: phrase": |s, r| search(s, READER, None, &format!("\"{}\"", any_of(&PHRASES, r)));
    "search: phrase, one room": |s, r| search(s, READER, Some(LARGE), &format!("\"{}\"", any_of(&PHRASES, r)));
    "search: prefix*": |s, r| search(s, READER, None, &prefix(r));
    "search: prefix*, one room": |s, r| search(s, READER, Some(LARGE), &prefix(r));
    "search: substring": |s, r| search(s, READER, None, &inside(r));
    "search: substring, one room": |s, r| search(s, READER, Some(LARGE), &inside(r));
    "search: CJK, two characters": |s, r| search(s, READER, None, any_of(&["電車", "问题", "上海"], r));
    "search: CJK, rare": |s, r| search(s, READER, None, any_of(&CJK_RARE, r));
    "search: CJK, rare, one room": |s, r| search(s, READER, Some(LARGE), any_of(&CJK_RARE, r));
    "search: common word, from_user_id": |s, r| {
        let user = any_of(&s.users[3..], r);
        with(search(s, READER, None, &common(r)), "from_user_id", json!(user))
    };
    "search: rare word, from_user_id": |s, r| {
        let user = any_of(&s.users[3..], r);
        with(search(s, READER, None, &rare(r)), "from_user_id", json!(user))
    };
    "search: common word, has=link": |s, r| with(search(s, READER, None, &common(r)), "has", json!("link"));
    "search: common word, has=link, one room":
        |s, r| with(search(s, READER, Some(LARGE), &common(r)), "has", json!("link"));
    "search: nothing found": |s, r| search(s, READER, None, &format!("zzxq{}", r.random_range(0..1_000_000)));
    "search: nothing found, one room":
        |s, r| search(s, READER, Some(LARGE), &format!("zzxq{}", r.random_range(0..1_000_000)));
};

/// Kinds whose questions are about the page after the first.
const SECOND_PAGES: &[PageKind] = &[
    PageKind {
        name: "search: common word, second page",
        ask: |s, r| search(s, READER, None, &common(r)),
        second_page: true,
    },
    PageKind {
        name: "search: common word, second page, one room",
        ask: |s, r| search(s, READER, Some(LARGE), &common(r)),
        second_page: true,
    },
];

/// Every kind.
pub fn kinds() -> impl Iterator<Item = &'static PageKind> {
    FIRST_PAGES.iter().chain(SECOND_PAGES)
}

/// The question for the page after the one whose answer has this cursor.
pub fn next_page(question: Question, cursor: Value) -> Question {
    with(question, "cursor", cursor)
}

fn conversations(user: u32) -> Question {
    Question { user, command: "list_conversations", data: json!({}), bare: Bare::Conversations }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn derives_the_arguments_that_the_server_derives() {
        let data = json!({"query": "x", "conversation_id": "room_42", "cursor": "17.4", "has": "link"});
        let expected =
            json!({"query": "x", "conversation": 42, "cursor_us": 17, "cursor_id": 4, "has": "link", "limit": 50});
        assert_eq!(arguments(&data), expected);
        assert_eq!(arguments(&json!({"message_id": 3, "limit": 7})), json!({"message_id": 3, "limit": 7}));
    }

    #[test]
    fn gives_every_kind_a_unique_name_and_questions() {
        let samples = Samples {
            rooms: (0..60).map(|n| n * 4 + 2).collect(),
            users: (1..=20).collect(),
            last_seq: 1_000,
            messages: vec![5, 6],
            threads: vec![7],
            endless: 7,
        };
        let mut names: Vec<&str> = Vec::new();
        let mut random = SmallRng::seed_from_u64(1);
        for kind in kinds() {
            for _ in 0..20 {
                let question = (kind.ask)(&samples, &mut random);
                if let Some(query) = question.data.get("query") {
                    assert!(query.as_str().is_some_and(|query| query.chars().count() >= 2), "{}: {query}", kind.name);
                }
            }
            names.push(kind.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
