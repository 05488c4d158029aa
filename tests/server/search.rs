//! Search: the server finds the same messages as a simple model, after random sends, edits and deletions.
//!
//! How: three users send random messages of a few words in two conversations; one user is a member of only one of them.
//! Some messages are edited, some deleted. Random queries of every form then run over WebSockets, page by page. The
//! model folds case and accents and compares every message.

use crate::support::{Client, Format, PATIENCE, Random, Server, User, from_env, text, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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
    let nobody = server.register().await; // in no conversation
    assert_eq!(server.ok(&nobody, "search_messages", json!({"query": "x86"})).await, json!({"messages": []}));

    // Settings that force each way of the search. With so few messages, the first one would answer every query.
    let database = server.database().await;
    // As if the users' conversations were few among many, which takes another way than if they were most.
    let few_of_many = "ALTER TABLE message_search_0 SET (autovacuum_enabled = off); \
         UPDATE pg_class SET reltuples = 1000000 WHERE relname = 'message_search_0'";
    let slow_index = "CREATE OR REPLACE FUNCTION matching_messages(p_words tsquery, p_like text, p_most bigint) \
         RETURNS SETOF message_search LANGUAGE sql AS 'SELECT m FROM pg_sleep(10), message_search m'";
    for (newest, most, scan, scan_bytes, change, ends_early) in [
        (5_000, 2_000, 20_000, 4_000_000, "", false),
        (10, 2_000, 20_000, 4_000_000, "", false),
        (5, 1, 30, 4_000_000, "", true),
        (10, 1, 30, 4_000_000, few_of_many, true),
        (5, 1, 20_000, 100, "", true),
        (5, 2_000, 30, 4_000_000, slow_index, true),
    ] {
        database.batch_execute(change).await.unwrap();
        let settings = format!(
            "ALTER DATABASE veza_chat SET app.search_newest = '{newest}'; \
             ALTER DATABASE veza_chat SET app.search_most = '{most}'; \
             ALTER DATABASE veza_chat SET app.search_scan = '{scan}'; \
             ALTER DATABASE veza_chat SET app.search_scan_bytes = '{scan_bytes}'; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'veza chat_app'"
        );
        database.batch_execute(&settings).await.unwrap();
        let early = compare_queries(&server, &users, &rooms, &sent, &mut random).await;
        assert_eq!(early > 0, ends_early, "{early} short pages had a cursor: {settings}");
    }
}

/// Runs random queries and compares the results with the model. Returns the number of pages that were not full and had
/// a cursor.
async fn compare_queries(
    server: &Server,
    users: &[User; 3],
    rooms: &[String; 2],
    sent: &[Sent],
    random: &mut Random,
) -> usize {
    let (mut found_total, mut early) = (0, 0);
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
            early += usize::from((messages.len() as u64) < limit);
        }
        let wanted: Vec<i64> = expected.iter().map(|message| message.id).collect();
        let texts: Vec<&str> = expected.iter().map(|message| message.content.as_str()).collect();
        assert_eq!(found, wanted, "{query:?} by {reader}, expected {texts:?}");
        found_total += found.len();
        client.close().await;
    }
    assert!(found_total > 500, "the queries found only {found_total} messages");
    early
}

/// The value of a metric without labels.
async fn metric(server: &Server, name: &str) -> f64 {
    let page = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {page}")).parse().unwrap()
}

/// Waits until a metric has a value that fits.
async fn wait_for_metric(server: &Server, name: &str, fits: impl Fn(f64) -> bool) {
    let started = Instant::now();
    loop {
        let value = metric(server, name).await;
        if fits(value) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{name} is {value}\n{}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A trigger that fails for texts of the index that match.
fn failing_index(code: &str, pattern: &str) -> String {
    format!(
        "CREATE FUNCTION fail_index() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.text LIKE '{pattern}' THEN RAISE EXCEPTION 'cannot index' USING ERRCODE = '{code}'; END IF; \
             RETURN NEW; END $$; \
         CREATE TRIGGER fail_index BEFORE INSERT ON message_search FOR EACH ROW EXECUTE FUNCTION fail_index();"
    )
}

#[tokio::test]
async fn shows_the_age_of_the_oldest_unindexed_message_after_a_restart() {
    const LAG: &str = "chat_server_search_lag_seconds";
    let server = Server::start(1, &[]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut client = Client::none(&server, &ann, Format::Json).await;
    for n in 0..5 {
        client.ok("send_message", json!({"conversation_id": room, "content": format!("waiting {n}")})).await;
    }
    wait_until_indexed(&server).await;
    wait_for_metric(&server, LAG, |lag| lag < 1e-9).await;
    server.kill9(); // its PostgreSQL stays
    let mut database = server.database().await;
    let age = "DELETE FROM message_search; UPDATE search_progress SET indexed_seq = 0; \
               SET session_replication_role = replica; \
               UPDATE messages SET created_at = now() - interval '2 hours' + seq * interval '1 minute'";
    database.batch_execute(age).await.unwrap();
    // The indexer waits for this row until it has shown what is missing.
    let lock = database.transaction().await.unwrap();
    lock.batch_execute("SELECT FROM search_progress FOR UPDATE").await.unwrap();
    server.start_again();
    wait_for_metric(&server, LAG, |lag| (6_900.0..7_300.0).contains(&lag)).await;
    lock.rollback().await.unwrap();
    wait_until_indexed(&server).await;
    wait_for_metric(&server, LAG, |lag| lag < 1e-9).await;
    server.found_in_time(&ann, "waiting", 5).await;
}

#[tokio::test]
async fn passes_over_a_message_that_breaks_the_index_and_indexes_the_others() {
    let server = Server::start(1, &[]);
    let ann = server.register().await;
    let rooms = [server.room(&[&ann]).await, server.room(&[&ann]).await];
    let database = server.database().await;
    // XX002: index_corrupted.
    database.batch_execute(&failing_index("XX002", "%poison%")).await.unwrap();
    let mut client = Client::none(&server, &ann, Format::Json).await;
    let send = |room: &str, content: &str| json!({"conversation_id": room, "content": content});
    client.ok("send_message", send(&rooms[0], "poison needle")).await;
    client.ok("send_message", send(&rooms[0], "needle in the same room")).await;
    client.ok("send_message", send(&rooms[1], "needle in the other room")).await;
    server.found_in_time(&ann, "needle", 2).await;
    wait_until_indexed(&server).await;
    wait_for_metric(&server, "chat_server_search_passed_over_total", |count| (count - 1.0).abs() < 1e-9).await;
    assert!(server.log().contains("cannot be indexed and will not be found"), "{}", server.log_tail());
}

#[tokio::test]
async fn passes_no_message_over_while_the_index_takes_no_writes() {
    let server = Server::start(1, &[]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let database = server.database().await;
    // 53100: disk_full.
    database.batch_execute(&failing_index("53100", "%")).await.unwrap();
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "needle"})).await;
    // The first attempt, three at the message alone, one at passing it over, and one more.
    let started = Instant::now();
    while server.log().matches("cannot write the search index").count() < 6 {
        assert!(started.elapsed() < PATIENCE, "{}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    database.batch_execute("DROP TRIGGER fail_index ON message_search").await.unwrap();
    server.found_in_time(&ann, "needle", 1).await;
    assert!(metric(&server, "chat_server_search_passed_over_total").await < 1e-9);
}
