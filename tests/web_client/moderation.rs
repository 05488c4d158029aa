//! The moderators' queue: a message that the content filter holds, and what its author sees.

use crate::files::start;
use crate::person::{Person, create_room, join_room};
use crate::support::unique;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moderator_sends_and_rejects_held_messages_in_the_panel() {
    let server = start();
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(&server, "", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "market").await;
    join_room(&mut bob, &room).await;
    let owner = ada.token(&server).await;
    let mark = unique("mark");
    let rules = json!({"rules": [
        {"id": "offers", "kind": "keywords", "definition": {"words": ["offer"]}, "action": "hold"},
        {"id": "mark", "kind": "keywords", "definition": {"words": [mark]}, "action": "refuse"},
    ]});
    let target = format!("/conversations/{room}/filter-rules");
    assert_eq!(server.request(Method::PUT, &target, Some(&owner.token), Some(&rules)).await.0, 200);
    let probe = json!({"conversation_id": room, "content": mark});
    while server.call(&owner, "send_message", probe.clone()).await.is_ok() {} // until the rules apply

    bob.say("an offer to all").await;
    bob.reads("#messages .message.pending", "A moderator decides").await;
    bob.say("another offer").await;
    bob.browser.wait_for("document.querySelectorAll('#messages .message.pending.failed').length === 2").await;
    bob.browser.wait_for("!document.querySelector('#show-held')").await;
    ada.click("#show-details").await;
    ada.click("#show-held").await;
    ada.reads("#held [data-held]", "an offer to all").await;
    ada.reads("#held", "another offer").await;
    ada.reads("#held", "Held by the rule offers").await;
    ada.picture("web-held.png", 1_280, 800, "light").await;
    ada.picture("web-held-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.click("#held [data-held] [data-do=approve]").await;
    bob.sees("an offer to all").await;
    ada.browser.wait_for("document.querySelectorAll('#held [data-held]').length === 1").await;
    ada.click("#held [data-held] [data-do=reject]").await;
    ada.reads("#held", "Nothing is waiting").await;
    bob.reads("#messages .message.pending", "A moderator rejected this message").await;
    bob.browser.wait_for("document.getElementById('toasts').innerText.includes('your message: another offer')").await;
    ada.sees("an offer to all").await;
    let shown = ada.shown().await;
    assert!(!shown.iter().any(|text| text.contains("another offer")), "{shown:?}");

    // A held message keeps its files, also when its author no longer wants to see it.
    bob.attaches("[made.text('prices.txt', 20)]").await;
    bob.has_uploaded(1).await;
    bob.say("a third offer").await;
    bob.browser.wait_for("document.querySelectorAll('#messages .message.pending.failed').length === 2").await;
    bob.reads("#messages .message.pending:last-of-type", "A moderator decides").await;
    let discard = "[...document.querySelectorAll('#messages .message.pending')].at(-1).querySelectorAll('.link')[1]";
    bob.browser.evaluate(&format!("{discard}.click()")).await;
    bob.browser.wait_for("document.querySelectorAll('#messages .message.pending').length === 1").await;
    ada.click("#held-again").await;
    ada.reads("#held [data-held] .file-card", "prices.txt").await;
    ada.picture("web-held-files.png", 1_280, 800, "light").await;
    ada.click("#held [data-held] [data-do=approve]").await;
    ada.sees("a third offer").await;
    ada.reads("#messages .file-card[data-state=ready]", "prices.txt").await;
    for person in [&mut ada, &mut bob] {
        person.has_no_complaints();
    }
}
