//! Search: filters are typed, completed and chosen by keyboard, in both languages; invalid filters become hints.

use crate::person::{Person, create_room, join_room, quoted};
use crate::support::{id_of, server, unique};
use serde_json::json;

const RESULTS: &str = "[...document.querySelectorAll('#results .found p')].map((found) => found.innerText)";

impl Person {
    /// Replaces the text of the search field.
    async fn looks_for(&mut self, text: &str) {
        self.call_when_present("#search", "select").await;
        self.fill("#search", text).await;
    }

    async fn finds(&mut self, expected: &[&str]) {
        let expected = quoted(&json!(expected).to_string());
        self.browser.wait_for(&format!("JSON.stringify({RESULTS}) === {expected}")).await;
    }

    /// Waits for a hint; with a hint there are no results.
    async fn shows_hint(&mut self, hint: &str) {
        let shown = format!("document.getElementById('search-hint').innerText.includes({})", quoted(hint));
        self.browser.wait_for(&format!("{shown} && !document.querySelector('#results .found')")).await;
    }

    async fn has_typed(&mut self, text: &str) {
        self.browser.wait_for(&format!("document.getElementById('search').value === {}", quoted(text))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_narrow_a_search_and_invalid_filters_become_hints() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "?format=json", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "workshop").await;
    join_room(&mut bob, &room).await;
    let (ada_user, bob_user) = (ada.token(server).await, bob.token(server).await);
    let pantry = json!({"kind": "public_room", "name": "pantry shelf"});
    let pantry = id_of(&server.ok(&ada_user, "create_conversation", pantry).await);
    // Today in the time zone of the page. If the day ends during the test, no message is older than it either.
    let day = "((d) => [d.getFullYear(), d.getMonth() + 1, d.getDate()].join('-'))(new Date())";
    let today = ada.browser.evaluate(day).await.as_str().unwrap().to_owned();
    for (user, place, content) in [
        (&ada_user, &pantry, "tea on a shelf"),
        (&bob_user, &room, "tea with milk"),
        (&ada_user, &room, "tea without"),
        (&bob_user, &room, "tea of https://example.org/leaves"),
    ] {
        server.ok(user, "send_message", json!({"conversation_id": place, "content": content})).await;
    }
    ada.sees("leaves").await;
    // The index lags behind the messages.
    server.found_in_time(&ada_user, "tea", 4).await;
    ada.click("#show-search").await;
    ada.looks_for("tea -milk").await;
    ada.finds(&["tea of https://example.org/leaves", "tea without"]).await;

    // The filter is chosen with its button, its value with the keyboard.
    ada.looks_for("tea").await;
    ada.click("#search-filters [data-filter=from]").await;
    ada.has_typed("tea from:").await;
    ada.fill("#search", "mart").await;
    ada.browser.wait_for("document.querySelector('#search-options li')?.innerText.includes('Bob Martin')").await;
    ada.browser.wait_for("!document.querySelector('#search-hint.warning')").await; // the value is still being typed
    ada.picture("web-search-complete.png", 1_280, 800, "light").await;
    ada.picture("web-search-complete-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.press("Enter", 13).await;
    ada.has_typed(&format!("tea from:{} ", bob.name)).await;
    ada.finds(&["tea of https://example.org/leaves", "tea with milk"]).await;
    ada.fill("#search", "has:").await;
    ada.browser.wait_for("document.querySelectorAll('#search-options li').length === 3").await;
    ada.press("ArrowDown", 40).await;
    ada.press("ArrowUp", 38).await;
    ada.press("Tab", 9).await;
    ada.has_typed(&format!("tea from:{} has:link ", bob.name)).await;
    ada.finds(&["tea of https://example.org/leaves"]).await;
    ada.picture("web-search-filters.png", 1_280, 800, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;

    // Another room, the user, dates.
    ada.looks_for("tea in:pan").await;
    ada.browser.wait_for("document.querySelector('#search-options li')?.innerText.includes('pantry shelf')").await;
    ada.press("Escape", 27).await;
    ada.browser.wait_for("document.getElementById('search-options').hidden").await;
    ada.shows_hint("You aren't in a conversation called “pan”").await;
    ada.looks_for("tea in:\"pantry shelf\" from:me").await;
    ada.finds(&["tea on a shelf"]).await;
    ada.looks_for(&format!("tea before:{today} in:workshop")).await;
    ada.browser.wait_for("document.getElementById('results').innerText.includes('No results')").await;
    ada.looks_for("tea after:2026-01-01 before:9999-12-31 from:me").await;
    ada.finds(&["tea without"]).await;

    // Invalid filters.
    ada.looks_for("from:me has:link").await;
    ada.shows_hint("Add a word").await;
    ada.looks_for("tea on:2026-02-30 has:video from:nobody-at-all").await;
    for hint in ["“2026-02-30” isn't a date", "“video”", "No one is called “nobody-at-all”"] {
        ada.shows_hint(hint).await;
    }
    ada.picture("web-search-hints.png", 1_280, 800, "light").await;
    ada.picture("web-search-hints-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    // The server knows a user whom this page has never seen.
    let carol = server.register_as(&unique("carol")).await;
    ada.looks_for(&format!("tea from:{}", carol.name)).await;
    ada.browser.wait_for("document.getElementById('results').innerText.includes('No results')").await;
    ada.browser.wait_for("!document.querySelector('#search-hint.warning')").await;

    // The server compares three messages in one search, and the page continues by itself.
    for n in 0..30 {
        server.ok(&bob_user, "send_message", json!({"conversation_id": room, "content": format!("leaf {n}")})).await;
    }
    server.found_in_time(&ada_user, "leaf", 30).await;
    let few = "ALTER DATABASE veza_chat SET app.search_newest = 1; ALTER DATABASE veza_chat SET app.search_most = 1; \
               ALTER DATABASE veza_chat SET app.search_scan = 3; \
               SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'veza chat_app'";
    server.database().await.batch_execute(few).await.unwrap();
    ada.looks_for("tea from:me").await;
    ada.finds(&["tea without"]).await;

    // In French, with filters of both languages.
    ada.speaks("fr").await;
    ada.browser.wait_for("document.querySelector('#search-filters [data-filter=after]')?.innerText === 'après:'").await;
    ada.looks_for("tea de:moi dans:workshop").await;
    ada.finds(&["tea without"]).await;
    ada.looks_for("tea from:me apres:2026-13-01").await;
    ada.shows_hint("« 2026-13-01 » n’est pas une date").await;
    ada.picture("web-search-french-phone.png", 360, 740, "light").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}
