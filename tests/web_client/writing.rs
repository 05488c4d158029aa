//! Writing: the composer on a phone, drafts, texts that are too long, messages across a reload, and no network.
//!
//! How: as in the other files here. The browser itself reloads the page and switches the network off, so the page
//! notices both as it would on a device.

use crate::person::{Person, create_room};
use crate::support::server;
use serde_json::{Value, json};

const VALUE: &str = "document.getElementById('compose').value";

impl Person {
    async fn reload(&mut self) {
        self.browser.call("Page.reload", json!({})).await;
        self.is_up_to_date(0).await;
    }

    /// Waits until the field holds a text.
    async fn holds(&mut self, field: &str, text: &str) {
        let text = crate::person::quoted(text);
        self.browser.wait_for(&format!("document.getElementById('{field}')?.value === {text}")).await;
    }

    async fn sets_offline(&mut self, offline: bool) {
        let network = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.browser.call("Network.emulateNetworkConditions", network).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_a_message_once_after_a_reload_in_another_room() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let first = create_room(&mut ada, "first").await;
    let second = create_room(&mut ada, "second").await;
    ada.go(&first).await;
    ada.say("said once").await;
    ada.sees("said once").await;
    ada.go(&second).await;
    ada.reload().await;
    ada.go(&first).await;
    ada.sees("said once").await;
    // A message that was left in the outbox would be sent again before this one.
    ada.say("and this").await;
    ada.sees("and this").await;
    assert_eq!(ada.shown().await, ["said once", "and this"]);
    ada.browser.wait_for("JSON.parse(sessionStorage.getItem('veza.outbox')).messages.length === 0").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_the_composer_on_a_phone() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "pocket").await;
    ada.go("").await;
    for (width, height) in [(375, 667), (360, 740)] {
        ada.browser.appear(width, height, "light").await;
        ada.reload().await;
        ada.click(&format!("#rooms a[href='#/{room}']")).await;
        let visible = "((box) => box.height >= 30 && box.width > 100 && box.bottom <= innerHeight)\
                       (document.getElementById('compose').getBoundingClientRect())";
        ada.browser.wait_for(visible).await;
        ada.say(&format!("from {width} pixels")).await;
        ada.sees(&format!("from {width} pixels")).await;
        ada.picture(&format!("web-compose-{width}.png"), width, height, "dark").await;
        ada.click("#back").await;
    }
    // The height follows the width: on a phone, the same text needs more lines.
    ada.browser.appear(1_280, 800, "light").await;
    ada.go(&room).await;
    ada.fill("#compose", &"a wide line ".repeat(10)).await;
    let height = "document.getElementById('compose').getBoundingClientRect().height";
    let wide = ada.browser.evaluate(height).await.as_f64().unwrap();
    ada.browser.appear(360, 740, "light").await;
    ada.browser.wait_for(&format!("{height} > {wide}")).await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_drafts_per_conversation_and_thread() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let first = create_room(&mut ada, "first").await;
    ada.say("the root").await;
    ada.sees("the root").await;
    ada.fill("#compose", "half a thought").await;
    ada.click("#messages [data-do=thread]").await;
    ada.fill("#reply", "half a reply").await;
    let second = create_room(&mut ada, "second").await;
    ada.holds("compose", "").await;
    ada.fill("#compose", "something else").await;
    ada.browser
        .wait_for(&format!("document.querySelector('#rooms a[href=\"#/{first}\"] .icon + .name + .icon')"))
        .await;

    ada.go(&first).await;
    ada.holds("compose", "half a thought").await;
    // Editing a message, cancelled or saved, leaves the draft as it was.
    ada.click("#messages [data-do=edit]").await;
    ada.holds("compose", "the root").await;
    ada.press("Escape", 27).await;
    ada.holds("compose", "half a thought").await;
    ada.click("#messages [data-do=edit]").await;
    ada.holds("compose", "the root").await;
    ada.fill("#compose", " of it all").await;
    ada.press("Enter", 13).await;
    ada.sees("the root of it all").await;
    ada.holds("compose", "half a thought").await;

    ada.reload().await;
    ada.holds("compose", "half a thought").await;
    ada.click("#messages [data-do=thread]").await;
    ada.holds("reply", "half a reply").await;
    ada.go(&second).await;
    ada.holds("compose", "something else").await;
    ada.fill("#compose", "").await;
    ada.press("Enter", 13).await;
    ada.sees("something else").await;
    ada.reload().await;
    ada.holds("compose", "").await;

    // Signing out leaves no drafts on the device.
    let kept = "Object.keys(localStorage).filter((key) => key.startsWith('veza.draft.')).length";
    assert_eq!(ada.browser.evaluate(kept).await, 2);
    ada.click("#me").await;
    ada.click("#sign-out").await;
    ada.browser.wait_for("document.getElementById('sign')").await;
    assert_eq!(ada.browser.evaluate(kept).await, 0);
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_to_send_a_text_that_is_too_long_and_counts_the_excess() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "essays").await;
    // The limit is 4,000 characters. An emoji is one character, but two units of a JavaScript string.
    ada.fill("#compose", &"🎉".repeat(4_000)).await;
    ada.browser.wait_for("document.querySelector('.composer .count').textContent === '0'").await;
    ada.browser.wait_for("!document.getElementById('send').disabled").await;
    ada.fill("#compose", &"x".repeat(1_000)).await;
    ada.reads("#compose-too-long", "1,000 characters over the limit of 4,000").await;
    assert_eq!(ada.browser.evaluate(&format!("[...{VALUE}].length")).await, 5_000);
    assert_eq!(ada.browser.evaluate("document.getElementById('send').disabled").await, true);
    ada.press("Enter", 13).await;
    ada.picture("web-too-long.png", 1_280, 800, "light").await;
    ada.picture("web-too-long-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    assert_eq!(ada.browser.evaluate(&format!("[...{VALUE}].length")).await, 5_000);
    assert_eq!(ada.shown().await, Vec::<String>::new());

    // After shortening, the whole text is sent.
    let shorten = "((field) => { field.value = [...field.value].slice(0, 4000).join(''); \
                   field.dispatchEvent(new Event('input')); })(document.getElementById('compose'))";
    ada.browser.evaluate(shorten).await;
    ada.browser.wait_for("document.getElementById('compose-too-long').textContent === ''").await;
    ada.fill("#compose", "").await;
    ada.press("Enter", 13).await;
    ada.sees("🎉🎉").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_offline_without_a_network_and_sends_when_it_is_back() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "tunnel").await;
    ada.browser.call("Network.enable", json!({})).await;
    let status: Value = ada.browser.evaluate("document.getElementById('connection').textContent").await;
    assert_eq!(status, "Up to date");
    ada.sets_offline(true).await;
    ada.reads("#connection", "Offline").await;
    ada.reads("#banner", "offline").await;
    ada.say("written in the tunnel").await;
    ada.browser.wait_for("document.querySelector('#messages .message.pending')").await;
    ada.picture("web-offline.png", 1_280, 800, "light").await;
    ada.picture("web-offline-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.sets_offline(false).await;
    ada.is_up_to_date(1).await;
    ada.sees("written in the tunnel").await;
    ada.reads("#connection", "Up to date").await;
    ada.has_no_complaints();
}
