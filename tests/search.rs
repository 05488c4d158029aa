//! A search finds what a naive model finds, whatever was written, edited and deleted.
//!
//! How: three people write random messages of a few words, in two conversations that not all of them are in; some are edited,
//! some deleted. Random queries of every form are then asked over WebSockets, page by page, and compared with a model that
//! folds case and accents and looks at every message.
#![cfg(feature = "test-db")]

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::{Client, Format, Random, Server, User, from_env, text};

const WORDS: [&str; 21] = [
    "café",
    "Café",
    "cafe",
    "cafeteria",
    "décaféiné",
    "naïve",
    "NAIVE",
    "élan",
    "server",
    "serveur",
    "Straße",
    "or",
    "not",
    "Привет",
    "ПРИВЕТЫ",
    "Ἑλλάς",
    "日本",
    "日本東京",
    "東京タワー",
    "x86",
    "l'été",
];
const MESSAGES: usize = 160;
const QUERIES: u64 = 150;

/// A message as the model has it.
#[derive(Clone)]
struct Said {
    /// One after the other.
    number: usize,
    id: i64,
    room: usize,
    author: usize,
    content: String,
}

/// Without case and accents, as far as these words need it.
fn folded(text: &str) -> String {
    let plain = |c: char| match c {
        'é' | 'É' => "e".to_owned(),
        'ï' => "i".to_owned(),
        'ß' => "ss".to_owned(),
        'Ἑ' => "ε".to_owned(),
        'ά' => "α".to_owned(),
        other => other.to_lowercase().to_string(),
    };
    text.chars().map(plain).collect()
}

/// The words of a text: an apostrophe parts two.
fn words(text: &str) -> Vec<String> {
    folded(text).split([' ', '\'']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether one stands in the other, word after word.
fn follows(all: &[String], phrase: &[String]) -> bool {
    all.windows(phrase.len()).any(|window| window == phrase)
}

/// Whether a query finds a text.
type Finds = Box<dyn Fn(&str) -> bool>;

/// A query, and what it finds.
fn query(random: &mut Random) -> (String, Finds) {
    let mut word = || WORDS[random.below(WORDS.len() as u64) as usize];
    let (one, other) = (word(), word());
    let has = |content: &str, wanted: &str| follows(&words(content), &words(wanted));
    match random.below(6) {
        0 => {
            let part = folded(one);
            let finds = move |content: &str| has(content, one) || folded(content).contains(&part);
            (one.to_owned(), Box::new(finds))
        }
        1 => {
            let both = format!("{one} {other}");
            let part = folded(&both);
            let finds =
                move |content: &str| (has(content, one) && has(content, other)) || folded(content).contains(&part);
            (both, Box::new(finds))
        }
        2 => {
            let phrase = [words(one), words(other)].concat();
            (format!("\"{one} {other}\""), Box::new(move |content: &str| follows(&words(content), &phrase)))
        }
        3 => (format!("{one} -{other}"), Box::new(move |content: &str| has(content, one) && !has(content, other))),
        4 => {
            let characters: Vec<char> = one.chars().take_while(|c| *c != '\'').collect();
            let beginning: String = characters[..=(random.below(characters.len() as u64) as usize)].iter().collect();
            let start = folded(&beginning);
            let finds = move |content: &str| words(content).iter().any(|word| word.starts_with(&start));
            (format!("{beginning}*"), Box::new(finds))
        }
        _ => {
            // A part of a word: two letters of Latin, or one of another script.
            let characters: Vec<char> = one.chars().collect();
            let shortest = if one.chars().any(|c| c as u32 > 0x2000) { 1 } else { 2 };
            let from = random.below((characters.len() - shortest + 1) as u64) as usize;
            let part: String = characters[from..].iter().collect();
            let inside = folded(&part);
            let finds = move |content: &str| has(content, &part.clone()) || folded(content).contains(&inside);
            (characters[from..].iter().collect(), Box::new(finds))
        }
    }
}

async fn indexed(server: &Server) {
    let database = server.database().await;
    let behind = "SELECT count(*) FROM messages m LEFT JOIN search_progress p USING (conversation_id) \
                  WHERE m.seq > coalesce(p.indexed_seq, 0)";
    while database.query_one(behind, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn phrase(random: &mut Random) -> String {
    let count = 1 + random.below(5);
    let words: Vec<&str> = (0..count).map(|_| WORDS[random.below(WORDS.len() as u64) as usize]).collect();
    words.join(" ")
}

#[tokio::test]
async fn a_search_finds_what_looking_at_every_message_finds() {
    let server = Server::start(2, &[]);
    let mut random = Random::new();
    let people: [User; 3] = [server.register().await, server.register().await, server.register().await];
    let rooms: [String; 2] = [
        server.room(&[&people[0], &people[1], &people[2]]).await,
        server.room(&[&people[0], &people[1]]).await, // the third is not in it
    ];
    let mut said: Vec<Said> = Vec::new();
    for number in 0..MESSAGES {
        let room = random.below(2) as usize;
        let author = random.below(3 - room as u64) as usize;
        match random.below(8) {
            0 if !said.is_empty() => {
                let gone = said.swap_remove(random.below(said.len() as u64) as usize);
                server.ok(&people[gone.author], "delete_message", json!({"message_id": gone.id})).await;
            }
            1 if !said.is_empty() => {
                let at = random.below(said.len() as u64) as usize;
                said[at].content = phrase(&mut random);
                let edit = json!({"message_id": said[at].id, "content": said[at].content});
                server.ok(&people[said[at].author], "edit_message", edit).await;
            }
            _ => {
                let content = phrase(&mut random);
                let message = json!({"conversation_id": rooms[room], "content": content});
                let id = server.ok(&people[author], "send_message", message).await["message_id"].as_i64().unwrap();
                said.push(Said { number, id, room, author, content });
            }
        }
    }
    indexed(&server).await;

    // The three ways of finding, each made to be the one: with so few messages the first would do for everything.
    for (newest, most) in [("5000", "2000"), ("10", "2000"), ("5", "1")] {
        let database = server.database().await;
        let settings = format!(
            "ALTER DATABASE veza_chat SET app.search_newest = '{newest}'; ALTER DATABASE veza_chat SET app.search_most = '{most}'; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'veza chat_app'"
        );
        database.batch_execute(&settings).await.unwrap();
        ask(&server, &people, &rooms, &said, &mut random).await;
    }
}

/// Asks random questions and compares the answers with the model's.
async fn ask(server: &Server, people: &[User; 3], rooms: &[String; 2], said: &[Said], random: &mut Random) {
    let mut found_in_all = 0;
    for n in 0..from_env("CHAT_TEST_QUERIES", QUERIES) {
        let reader = random.below(3) as usize;
        let (query, finds) = query(random);
        let author = (random.below(4) == 0).then(|| random.below(3) as usize);
        let place = (random.below(4) == 0).then(|| random.below(3 - reader.min(1) as u64).min(1) as usize);
        let place = place.filter(|room| *room == 0 || reader < 2);
        let readable = |message: &&Said| message.room == 0 || reader < 2;
        let mut expected: Vec<&Said> = said
            .iter()
            .filter(readable)
            .filter(|m| finds(&m.content) && author.is_none_or(|a| a == m.author) && place.is_none_or(|p| p == m.room))
            .collect();
        expected.sort_by_key(|message| std::cmp::Reverse(message.number));
        let mut client = Client::none(server, &people[reader], Format::ALL[n as usize % 2]).await;
        let limit = 1 + random.below(40);
        let (mut found, mut cursor): (Vec<i64>, Value) = (Vec::new(), Value::Null);
        loop {
            let data = json!({"query": query, "limit": limit, "cursor": cursor,
                "from_user_id": author.map(|a| people[a].id), "conversation_id": place.map(|p| &rooms[p])});
            let page = client.ok("search_messages", data).await;
            let messages = page["messages"].as_array().unwrap();
            assert!(messages.len() as u64 <= limit);
            for message in messages {
                found.push(message["message_id"].as_i64().unwrap());
                let known = said.iter().find(|known| known.id == *found.last().unwrap());
                assert_eq!(Some(text(&message["content"])), known.map(|known| known.content.as_str()), "{query}");
            }
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        let wanted: Vec<i64> = expected.iter().map(|message| message.id).collect();
        let texts: Vec<&str> = expected.iter().map(|message| message.content.as_str()).collect();
        assert_eq!(found, wanted, "{query:?} by {reader}, expected {texts:?}");
        found_in_all += found.len();
        client.close().await;
    }
    assert!(found_in_all > 500, "{found_in_all}: queries that find nothing prove nothing");
}
