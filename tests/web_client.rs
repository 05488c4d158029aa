//! The web client: its pure modules under Node.js, and the whole of it in Chromium, with two people and a server that is
//! killed in the middle of their talk.
//!
//! How: the pages are used by their buttons, fields and keys; what they show is read from their documents and compared
//! with what the server has stored. Pictures are left in target/artifacts/ for people to look at. Anything on a console
//! but a request that failed while the server was away is a failure.
#![cfg(feature = "test-db")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::browser::{Browser, find};
use support::{PASSWORD, PATIENCE, Server, User, code, unique};

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn the_pure_modules_hold_what_they_promise() {
    let node = find(&["node", "nodejs"]).expect("no Node.js in PATH; type: scripts/install-test-clients.sh");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let output = Command::new(node).arg("--test").args(files).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}

/// Somebody in front of a browser.
struct Person {
    name: String,
    browser: Browser,
}

/// The texts of the messages shown, those on their way too.
const SHOWN: &str = "[...document.querySelectorAll('#messages .message .content')].map((m) => m.innerText.trim())";

impl Person {
    /// Opens the page and signs up by its form.
    async fn sign_up(server: &Server, path: &str, name: &str, display_name: &str) -> Self {
        let mut person = Self { name: unique(name), browser: Browser::start().await };
        person.browser.appear(1_280, 800, "light").await;
        person.browser.open(&format!("{}/{path}", server.base_url)).await;
        person.browser.wait_for("document.getElementById('sign-switch')").await;
        person.click("#sign-switch").await;
        let email = format!("{}@example.org", person.name);
        let name = person.name.clone();
        for (field, value) in
            [("username", name.as_str()), ("display_name", display_name), ("email", &email), ("password", PASSWORD)]
        {
            person.fill(&format!("#sign input[name={field}]"), value).await;
        }
        person.click("#sign button.primary").await;
        person.is_up_to_date(0).await;
        person
    }

    async fn click(&mut self, selector: &str) {
        self.once_there(selector, "click").await;
    }

    /// Calls a method of an element as soon as it is there: in one step, since the page may draw it anew at any time.
    async fn once_there(&mut self, selector: &str, method: &str) {
        let called = format!("((e) => e && (e.{method}(), true))(document.querySelector({}))", quoted(selector));
        self.browser.wait_for(&called).await;
    }

    /// Types a text into a field.
    async fn fill(&mut self, selector: &str, text: &str) {
        self.once_there(selector, "focus").await;
        self.browser.call("Input.insertText", json!({"text": text})).await;
    }

    async fn press(&mut self, key: &str, code: i32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.browser.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Writes into the composer and presses Enter.
    async fn say(&mut self, text: &str) {
        self.fill("#compose", text).await;
        self.press("Enter", 13).await;
    }

    /// Waits until a message is shown once, stored.
    async fn sees(&mut self, text: &str) {
        let stored = "[...document.querySelectorAll('#messages .message:not(.pending) .content')]";
        let found = format!("{stored}.filter((m) => m.innerText.includes({})).length === 1", quoted(text));
        self.browser.wait_for(&found).await;
    }

    /// Waits until the page says that everything missed has come, at least `times` times since it was opened.
    async fn is_up_to_date(&mut self, times: u32) {
        let status = "document.getElementById('connection')";
        let live = format!("{status}?.dataset.state === 'live' && Number({status}.dataset.caughtUp) >= {times}");
        self.browser.wait_for(&live).await;
    }

    async fn has_noticed_the_cut(&mut self) {
        self.browser.wait_for("document.getElementById('banner').dataset.kind === 'lost'").await;
    }

    async fn shown(&mut self) -> Vec<String> {
        let shown = self.browser.evaluate(SHOWN).await;
        shown.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// The same person with a token of their own, for looking at what the server has.
    async fn token(&self, server: &Server) -> User {
        let body = json!({"login": self.name, "password": PASSWORD});
        let (status, answer) = server.post("/auth/login", None, &body).await;
        assert_eq!(status, 200, "{answer}");
        User::from_answer(&answer)
    }

    /// A picture; nothing may stick out of the page.
    async fn picture(&mut self, name: &str, width: u32, height: u32, scheme: &str) {
        self.browser.appear(width, height, scheme).await;
        // Two frames: one for what the change of size asks for, one until it is drawn.
        let frames =
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 300))))";
        self.browser.evaluate(frames).await;
        let overflow = self.browser.evaluate("document.documentElement.scrollWidth - innerWidth").await;
        assert_eq!(overflow, 0, "nothing sticks out in {name}");
        self.browser.screenshot(name).await;
    }

    /// No complaint but of requests that failed.
    fn has_no_complaints(&mut self) {
        let complaints = self.browser.take_complaints();
        let failed = |complaint: &Value| {
            let source = &complaint["entry"]["source"];
            // A WebSocket that cannot connect is reported as the page's own words.
            source == "network" || complaint["entry"]["text"].as_str().unwrap_or("").contains("WebSocket")
        };
        assert!(complaints.iter().all(failed), "{complaints:?}");
    }
}

/// Ada makes a room; its id.
async fn create_room(ada: &mut Person, name: &str) -> String {
    ada.click("#new").await;
    ada.fill("#room-name", name).await;
    ada.fill("#room-description", "Where everybody meets").await;
    ada.click("#create").await;
    ada.browser.wait_for("document.getElementById('title')").await;
    let hash = ada.browser.evaluate("location.hash").await;
    hash.as_str().unwrap().trim_start_matches("#/").to_owned()
}

/// Bob finds the room and joins it: in the list, or by its address where the server has no list.
async fn join_room(bob: &mut Person, room: &str) {
    bob.click("#discover").await;
    bob.browser.wait_for("document.getElementById('public-rooms')?.dataset.ready").await;
    let listed = format!("document.querySelector('[data-room={room}]')");
    if bob.browser.evaluate(&format!("Boolean({listed})")).await == true {
        bob.browser.evaluate(&format!("{listed}.click()")).await;
    } else {
        bob.fill("#room-by-address", room).await;
        bob.click("#join-by-address").await;
    }
    bob.browser.wait_for(&format!("location.hash === '#/{room}' && document.getElementById('title')")).await;
    bob.browser.wait_for("!document.querySelector('dialog')").await;
}

async fn unread(server: &Server, user: &User, conversation: &str) -> i64 {
    let answer = server.ok(user, "get_conversation", json!({"conversation_id": conversation})).await;
    answer["conversation"]["unread_count"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_talk_through_a_server_that_is_killed() {
    let server = Server::start(2, &[]);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    ada.picture("web-empty.png", 1_280, 800, "light").await;
    let mut bob = Person::sign_up(&server, "?format=json", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "lobby").await;
    join_room(&mut bob, &room).await;

    ada.say("Hello, *Bob*: **welcome** to `lobby`").await;
    bob.sees("Hello, Bob: welcome to lobby").await;
    let mention = format!("@{} thank you! https://example.org <b>not bold</b>", ada.name);
    bob.say(&mention).await;
    ada.sees("not bold").await;
    let marked = "document.querySelector('#messages .mention.me') && document.querySelector('#messages a[href]') \
                  && !document.querySelector('#messages b')";
    ada.browser.wait_for(marked).await;
    bob.fill("#compose", "I was about to s").await;
    let types = "document.getElementById('typing').textContent.includes('Bob Martin')";
    let began = Instant::now();
    // Not every key is told to the others: somebody goes on typing.
    while ada.browser.evaluate(types).await != true {
        assert!(began.elapsed() < PATIENCE, "nobody sees that Bob types");
        bob.browser.evaluate("document.getElementById('compose').dispatchEvent(new Event('input'))").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // The cut. What is written meanwhile waits, and arrives once.
    server.kill9();
    ada.has_noticed_the_cut().await;
    bob.has_noticed_the_cut().await;
    ada.say("written while the server was dead").await;
    ada.browser.wait_for("document.querySelector('#messages .message.pending')").await;
    ada.picture("web-cut.png", 1_280, 800, "light").await;
    // Bob's page cannot get in until Ada has said more: this is what it will have missed.
    bob.browser.call("Network.enable", json!({})).await;
    bob.browser.call("Network.setBlockedURLs", json!({"urls": ["*ws-ticket*"]})).await;
    server.start_again();
    ada.is_up_to_date(1).await;
    ada.sees("written while the server was dead").await;
    for n in 1..=3 {
        ada.say(&format!("missed, {n}")).await;
        ada.sees(&format!("missed, {n}")).await;
    }
    bob.browser.call("Network.setBlockedURLs", json!({"urls": []})).await;
    bob.is_up_to_date(1).await;
    let status = bob.browser.evaluate("document.getElementById('connection').textContent").await;
    assert_eq!(status, "Up to date");
    for text in ["written while the server was dead", "missed, 1", "missed, 2", "missed, 3"] {
        bob.sees(text).await;
    }
    bob.browser.wait_for("document.getElementById('compose').value === 'I was about to s'").await;
    bob.press("Enter", 13).await;
    ada.sees("I was about to s").await;

    // Both show what is stored, once, in its order.
    let reader = ada.token(&server).await;
    let stored = server.history(&reader, &room).await;
    let plain = |text: &str| text.replace(['*', '`'], "");
    let stored: Vec<String> = stored.iter().map(|message| plain(message["content"].as_str().unwrap())).collect();
    assert_eq!(stored.len(), 7, "{stored:?}");
    assert_eq!((ada.shown().await, bob.shown().await), (stored.clone(), stored));

    // Another conversation counts what is new, and who is meant.
    let carol = server.register_as(&unique("carol")).await;
    let dm = json!({"kind": "direct", "member_ids": [reader.id]});
    let dm = support::id_of(&server.ok(&carol, "create_conversation", dm).await);
    for n in 0..2 {
        let text = format!("psst {n} @{}", ada.name);
        server.ok(&carol, "send_message", json!({"conversation_id": dm, "content": text})).await;
    }
    ada.browser
        .wait_for(&format!("document.querySelector('#direct a[href=\"#/{dm}\"] .badge')?.textContent === '@2'"))
        .await;
    ada.browser.wait_for("document.title.startsWith('(1) ')").await;

    ada.picture("web-desktop.png", 1_280, 800, "light").await;
    ada.picture("web-desktop-dark.png", 1_280, 800, "dark").await;
    ada.picture("web-phone.png", 390, 780, "light").await;
    ada.picture("web-phone-dark.png", 390, 780, "dark").await;
    ada.click("#back").await;
    ada.browser.wait_for("document.getElementById('frame').dataset.open === 'false'").await;
    ada.picture("web-phone-list.png", 390, 780, "light").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.click(&format!("#direct a[href=\"#/{dm}\"]")).await;
    ada.browser.wait_for("document.querySelector('#messages .divider')").await;
    ada.browser.wait_for("!document.querySelector('#direct .badge:not(:empty)')").await;
    let began = Instant::now();
    while unread(&server, &reader, &dm).await != 0 {
        assert!(began.elapsed() < PATIENCE, "the server is not told what was read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // French, from the settings; the page is the same otherwise.
    ada.click("#me").await;
    ada.click("#settings [data-value=fr]").await;
    ada.browser.wait_for("document.getElementById('connection').textContent === 'À jour'").await;
    ada.press("Escape", 27).await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_does_to_messages_the_other_sees_and_what_the_server_lacks_is_not_offered() {
    let server = Server::start(2, &[]);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(&server, "", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "workshop").await;
    join_room(&mut bob, &room).await;
    ada.say("Shall we meet on Thursday?").await;
    bob.sees("Shall we meet").await;
    let user = ada.token(&server).await;
    let known = async |command: &str, data: Value| {
        server.call(&user, command, data).await.err().is_none_or(|problem| code(&problem) != "unknown_command")
    };
    if !known("list_pins", json!({"conversation_id": room})).await {
        let offered =
            "document.querySelector('#messages [data-do=edit], #messages [data-do=pin], #show-pins:not([hidden])')";
        ada.browser.wait_for(&format!("!{offered}")).await;
        return;
    }

    if known("get_presence", json!({"user_ids": [user.id]})).await {
        ada.click("#show-details").await;
        ada.browser.wait_for("document.querySelectorAll('#members .presence.online').length === 2").await;
        bob.click("#me").await;
        bob.click("#settings [data-value=busy]").await;
        ada.browser.wait_for("document.querySelector('#members .presence.busy')").await;
        bob.press("Escape", 27).await;
        ada.click("#close-panel").await;
    }

    // Up, in the empty composer, edits what one said last.
    ada.browser.wait_for("document.querySelector('#messages [data-do=edit]')").await;
    ada.press("ArrowUp", 38).await;
    ada.browser.wait_for("document.getElementById('compose').value.includes('Thursday')").await;
    ada.browser.evaluate("document.getElementById('compose').select()").await;
    ada.say("Shall we meet on Friday?").await;
    bob.sees("Friday").await;
    bob.browser.wait_for("document.querySelector('#messages .edited')").await;

    bob.click("#messages .tools .emoji").await;
    ada.browser.wait_for("document.querySelector('#messages .reaction[aria-pressed=false]')").await;
    ada.click("#messages .reaction").await;
    bob.browser.wait_for("document.querySelector('#messages .reaction span')?.textContent === '2'").await;
    ada.click("#messages [data-do=pin]").await;
    bob.click("#show-pins").await;
    bob.browser.wait_for("document.querySelector('#panel .found')?.innerText.includes('Friday')").await;

    bob.click("#messages [data-do=thread]").await;
    bob.fill("#reply", "Friday is fine").await;
    bob.press("Enter", 13).await;
    ada.browser.wait_for("document.querySelector('#messages .thread-line')").await;
    ada.click("#messages .thread-line").await;
    ada.browser.wait_for("document.querySelector('#panel')?.innerText.includes('Friday is fine')").await;
    bob.picture("web-thread.png", 1_280, 800, "light").await;
    bob.picture("web-thread-phone-dark.png", 390, 780, "dark").await;

    ada.click("#show-search").await;
    ada.fill("#search", "friday").await;
    ada.browser.wait_for("document.querySelectorAll('#results mark').length >= 2").await;
    ada.picture("web-search.png", 1_280, 800, "dark").await;

    ada.say("to be removed").await;
    bob.sees("to be removed").await;
    // Its own button, which is there once its sender knows that it was stored.
    let button = "[...document.querySelectorAll('#messages [data-do=delete]')]\
                  .find(button => button.closest('.message').innerText.includes('to be removed'))";
    ada.browser.wait_for(&format!("((e) => e && (e.click(), true))({button})")).await;
    ada.click("dialog button.primary.bad").await;
    bob.browser.wait_for("document.querySelector('#messages .message.deleted')").await;
    bob.browser.wait_for("!document.getElementById('messages').innerText.includes('to be removed')").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_is_read_as_one_goes_up_and_a_reload_keeps_the_session() {
    let server = Server::start(2, &[]);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "archive").await;
    let user = ada.token(&server).await;
    for n in 0..180 {
        let content = format!("line {n}");
        server.ok(&user, "send_message", json!({"conversation_id": room, "content": content})).await;
    }
    ada.sees("line 179").await;
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    ada.sees("line 179").await;
    let scroller = "document.querySelector('.scroller')";
    let first = "document.querySelector('#messages .beginning')";
    let up = format!("({scroller}.scrollTop = 0, Boolean({first}))");
    ada.browser.wait_for(&up).await;
    let expected: Vec<String> = (0..180).map(|n| format!("line {n}")).collect();
    assert_eq!(ada.shown().await, expected);

    // The keyboard: through the messages, to another conversation, help.
    ada.browser.evaluate(&format!("{scroller}.focus()")).await;
    ada.press("ArrowUp", 38).await;
    ada.press("ArrowUp", 38).await;
    ada.browser.wait_for("document.activeElement.innerText.includes('line 178')").await;
    ada.press("?", 191).await;
    ada.browser.wait_for("document.querySelector('dialog kbd')").await;
    ada.press("Escape", 27).await;
    ada.browser.wait_for("!document.querySelector('dialog')").await;
    ada.has_no_complaints();
}
