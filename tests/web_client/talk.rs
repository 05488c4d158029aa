//! Messages: across a killed server, with all message actions, and through a long history.

use crate::person::{Person, create_room, join_room, unread};
use crate::support::{self, PATIENCE, Server, code, server, unique};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_once_and_in_order_across_a_killed_server() {
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
    // Typing is not sent for every key, so Bob goes on typing.
    while ada.browser.evaluate(types).await != true {
        assert!(began.elapsed() < PATIENCE, "Ada does not see that Bob is typing");
        bob.browser.evaluate("document.getElementById('compose').dispatchEvent(new Event('input'))").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // The server is killed. Messages written meanwhile wait, and arrive once.
    server.kill9();
    ada.has_noticed_the_cut().await;
    bob.has_noticed_the_cut().await;
    ada.say("written while the server was dead").await;
    ada.browser.wait_for("document.querySelector('#messages .message.pending')").await;
    ada.picture("web-cut.png", 1_280, 800, "light").await;
    // Bob's page cannot connect until Ada has sent more, which it misses.
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

    // Both pages show the stored messages once and in order.
    let reader = ada.token(&server).await;
    let mut stored = server.history(&reader, &room).await;
    stored.retain(|message| message["message_type"] == "text"); // without system messages
    let plain = |text: &str| text.replace(['*', '`'], "");
    let stored: Vec<String> = stored.iter().map(|message| plain(message["content"].as_str().unwrap())).collect();
    assert_eq!(stored.len(), 7, "{stored:?}");
    assert_eq!((ada.shown().await, bob.shown().await), (stored.clone(), stored));

    // Another conversation counts unread messages and mentions.
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
        assert!(began.elapsed() < PATIENCE, "the server does not learn what was read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // The settings switch the page to French.
    ada.click("#me").await;
    ada.click("#settings [data-value=fr]").await;
    ada.browser.wait_for("document.getElementById('connection').textContent === 'À jour'").await;
    ada.press("Escape", 27).await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_message_actions_to_the_other_user() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "workshop").await;
    join_room(&mut bob, &room).await;
    ada.say("Shall we meet on Thursday?").await;
    bob.sees("Shall we meet").await;
    let user = ada.token(server).await;
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

    // The up arrow in an empty composer edits the last message.
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

    let reader = ada.token(server).await;
    server.found_in_time(&reader, "friday", 2).await;
    ada.click("#show-search").await;
    ada.fill("#search", "friday").await;
    ada.browser.wait_for("document.querySelectorAll('#results mark').length >= 2").await;
    ada.picture("web-search.png", 1_280, 800, "dark").await;

    ada.say("to be removed").await;
    bob.sees("to be removed").await;
    // A message has a delete button as soon as it is stored.
    let button = "[...document.querySelectorAll('#messages .message [data-do=delete]')]\
                  .find(button => button.closest('.message').innerText.includes('to be removed'))";
    ada.browser.wait_for(&format!("((e) => e && (e.click(), true))({button})")).await;
    ada.click("dialog button.primary.bad").await;
    bob.browser.wait_for("document.querySelector('#messages .message.deleted')").await;
    bob.browser.wait_for("!document.getElementById('messages').innerText.includes('to be removed')").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_reading_position_when_switching_rooms() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "archive").await;
    let user = ada.token(server).await;
    for n in 0..120 {
        let content = format!("line {n}");
        server.ok(&user, "send_message", json!({"conversation_id": room, "content": content})).await;
    }
    ada.sees("line 119").await;
    let other = create_room(&mut ada, "elsewhere").await;
    ada.go(&room).await;
    ada.sees("line 119").await;
    // Scroll to the beginning, where no more pages are loaded, then down a little.
    let scroller = "document.querySelector('.scroller')";
    ada.browser.wait_for(&format!("({scroller}.scrollTop = 0, document.querySelector('#messages .beginning'))")).await;
    ada.browser.evaluate(&format!("void ({scroller}.scrollTop = 500)")).await;
    let first = "((top) => [...document.querySelectorAll('#messages .message')]\
                 .find((row) => row.getBoundingClientRect().bottom > top)?.innerText)\
                 (document.querySelector('.scroller').getBoundingClientRect().top)";
    // The last page may still be moving the rows: the position counts once it stays.
    let moved = format!("(before => (globalThis.before = {first}) === before)(globalThis.before)");
    ada.browser.wait_for(&format!("!{first}.includes('line 0') && {moved}")).await;
    let before = ada.browser.evaluate(first).await;
    ada.go(&other).await;
    ada.reads("#title", "elsewhere").await;
    ada.go(&room).await;
    ada.reads("#title", "archive").await;
    ada.browser.wait_for(&format!("{first} === {}", crate::person::quoted(before.as_str().unwrap()))).await;

    // The same on a phone, which shows either the list or the conversation.
    ada.browser.appear(375, 667, "light").await;
    ada.browser.evaluate(&format!("void ({scroller}.scrollTop = 700)")).await;
    ada.browser.wait_for(&format!("{scroller}.scrollTop === 700")).await;
    let before = ada.browser.evaluate(first).await;
    ada.click("#back").await;
    ada.browser.wait_for("document.getElementById('frame').dataset.open === 'false'").await;
    ada.click(&format!("#rooms a[href='#/{room}']")).await;
    ada.browser.wait_for(&format!("{first} === {}", crate::person::quoted(before.as_str().unwrap()))).await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_older_messages_while_scrolling_and_a_reload_keeps_the_session() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "archive").await;
    let user = ada.token(server).await;
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

    // The keyboard moves between messages and opens the help.
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
