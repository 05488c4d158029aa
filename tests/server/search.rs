//! Search: the server finds the same messages as a simple model, after random sends, edits and deletions.
//!
//! How: three users send random messages of a few words in two conversations; one user is a member of only one of them.
//! Some messages are edited, some deleted. Random queries of every form then run over WebSockets, page by page. The
//! model folds case and accents and compares every message.

use crate::support::{Client, Format, Random, Server, User, from_env, text, wait_until};
use serde_json::{Value, json};

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

/// A message in the model.
#[derive(Clone)]
struct Sent {
    /// In the order of sending.
    number: usize,
    id: i64,
    room: usize,
    author: usize,
    content: String,
}

/// Folds case and accents of the characters in [`WORDS`].
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

/// The folded words of a text; an apostrophe separates words.
fn words(text: &str) -> Vec<String> {
    folded(text).split([' ', '\'']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether `phrase` occurs in `all`, word after word.
fn contains_phrase(all: &[String], phrase: &[String]) -> bool {
    all.windows(phrase.len()).any(|window| window == phrase)
}

/// Whether a query matches a text.
type Matches = Box<dyn Fn(&str) -> bool>;

/// A random query and its meaning in the model.
fn random_query(random: &mut Random) -> (String, Matches) {
    let mut word = || WORDS[random.below(WORDS.len() as u64) as usize];
    let (one, other) = (word(), word());
    let has = |content: &str, wanted: &str| contains_phrase(&words(content), &words(wanted));
    match random.below(6) {
        0 => {
            let part = folded(one);
            let matches = move |content: &str| has(content, one) || folded(content).contains(&part);
            (one.to_owned(), Box::new(matches))
        }
        1 => {
            let both = format!("{one} {other}");
            let part = folded(&both);
            let matches =
                move |content: &str| (has(content, one) && has(content, other)) || folded(content).contains(&part);
            (both, Box::new(matches))
        }
        2 => {
            let phrase = [words(one), words(other)].concat();
            (format!("\"{one} {other}\""), Box::new(move |content: &str| contains_phrase(&words(content), &phrase)))
        }
        3 => (format!("{one} -{other}"), Box::new(move |content: &str| has(content, one) && !has(content, other))),
        4 => {
            let characters: Vec<char> = one.chars().take_while(|c| *c != '\'').collect();
            let beginning: String = characters[..=(random.below(characters.len() as u64) as usize)].iter().collect();
            let start = folded(&beginning);
            let matches = move |content: &str| words(content).iter().any(|word| word.starts_with(&start));
            (format!("{beginning}*"), Box::new(matches))
        }
        _ => {
            // A part of a word: at least two Latin letters, or one character of another script.
            let characters: Vec<char> = one.chars().collect();
            let shortest = if one.chars().any(|c| c as u32 > 0x2000) { 1 } else { 2 };
            let from = random.below((characters.len() - shortest + 1) as u64) as usize;
            let part: String = characters[from..].iter().collect();
            let inside = folded(&part);
            let matches = move |content: &str| has(content, &part.clone()) || folded(content).contains(&inside);
            (characters[from..].iter().collect(), Box::new(matches))
        }
    }
}

async fn wait_until_indexed(server: &Server) {
    let indexed = "SELECT NOT EXISTS (SELECT FROM messages m LEFT JOIN search_progress p USING (conversation_id) \
                   WHERE m.seq > coalesce(p.indexed_seq, 0))";
    wait_until(&server.database().await, indexed).await;
}

fn random_text(random: &mut Random) -> String {
    let count = 1 + random.below(5);
    let words: Vec<&str> = (0..count).map(|_| WORDS[random.below(WORDS.len() as u64) as usize]).collect();
    words.join(" ")
}

#[tokio::test]
async fn finds_the_messages_that_a_full_scan_finds() {
    let server = Server::start(2, &[]);
    let mut random = Random::new();
    let users: [User; 3] = [server.register().await, server.register().await, server.register().await];
    let rooms: [String; 2] = [
        server.room(&[&users[0], &users[1], &users[2]]).await,
        server.room(&[&users[0], &users[1]]).await, // without the third user
    ];
    let mut sent: Vec<Sent> = Vec::new();
    for number in 0..MESSAGES {
        let room = random.below(2) as usize;
        let author = random.below(3 - room as u64) as usize;
        match random.below(8) {
            0 if !sent.is_empty() => {
                let gone = sent.swap_remove(random.below(sent.len() as u64) as usize);
                server.ok(&users[gone.author], "delete_message", json!({"message_id": gone.id})).await;
            }
            1 if !sent.is_empty() => {
                let at = random.below(sent.len() as u64) as usize;
                sent[at].content = random_text(&mut random);
                let edit = json!({"message_id": sent[at].id, "content": sent[at].content});
                server.ok(&users[sent[at].author], "edit_message", edit).await;
            }
            _ => {
                let content = random_text(&mut random);
                let message = json!({"conversation_id": rooms[room], "content": content});
                let id = server.ok(&users[author], "send_message", message).await["message_id"].as_i64().unwrap();
                sent.push(Sent { number, id, room, author, content });
            }
        }
    }
    wait_until_indexed(&server).await;

    // Settings that force each of the three search plans. With so few messages, the first plan would answer every
    // query.
    for (newest, most) in [("5000", "2000"), ("10", "2000"), ("5", "1")] {
        let database = server.database().await;
        let settings = format!(
            "ALTER DATABASE veza_chat SET app.search_newest = '{newest}'; \
             ALTER DATABASE veza_chat SET app.search_most = '{most}'; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'veza chat_app'"
        );
        database.batch_execute(&settings).await.unwrap();
        compare_queries(&server, &users, &rooms, &sent, &mut random).await;
    }
}

/// Runs random queries and compares the results with the model.
async fn compare_queries(server: &Server, users: &[User; 3], rooms: &[String; 2], sent: &[Sent], random: &mut Random) {
    let mut found_total = 0;
    for n in 0..from_env("CHAT_TEST_QUERIES", QUERIES) {
        let reader = random.below(3) as usize;
        let (query, matches) = random_query(random);
        let author = (random.below(4) == 0).then(|| random.below(3) as usize);
        let conversation = (random.below(4) == 0).then(|| random.below(3 - reader.min(1) as u64).min(1) as usize);
        let conversation = conversation.filter(|room| *room == 0 || reader < 2);
        let readable = |message: &&Sent| message.room == 0 || reader < 2;
        let mut expected: Vec<&Sent> = sent
            .iter()
            .filter(readable)
            .filter(|m| {
                matches(&m.content) && author.is_none_or(|a| a == m.author) && conversation.is_none_or(|p| p == m.room)
            })
            .collect();
        expected.sort_by_key(|message| std::cmp::Reverse(message.number));
        let mut client = Client::none(server, &users[reader], Format::ALL[n as usize % 2]).await;
        let limit = 1 + random.below(40);
        let (mut found, mut cursor): (Vec<i64>, Value) = (Vec::new(), Value::Null);
        loop {
            let data = json!({"query": query, "limit": limit, "cursor": cursor,
                "from_user_id": author.map(|a| users[a].id), "conversation_id": conversation.map(|p| &rooms[p])});
            let page = client.ok("search_messages", data).await;
            let messages = page["messages"].as_array().unwrap();
            assert!(messages.len() as u64 <= limit);
            for message in messages {
                found.push(message["message_id"].as_i64().unwrap());
                let known = sent.iter().find(|known| known.id == *found.last().unwrap());
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
        found_total += found.len();
        client.close().await;
    }
    assert!(found_total > 500, "the queries found only {found_total} messages");
}
