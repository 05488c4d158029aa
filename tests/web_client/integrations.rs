//! Webhooks in the web client: created, tested, followed and replayed in the dialog, which refuses in the user's words
//! and can be used with the keyboard alone.
//!
//! How: the receiver ([`Receiver`]) and the posting program are real. The secret and the addresses are those that the
//! page shows. Pauses that would take minutes are set in the database.

use crate::people::two_in_a_room;
use crate::person::{Person, create_room, quoted};
use crate::support::receiver::{Delivered, Receiver};
use crate::support::{Server, server, text, wait_until};
use base64::Engine as _;
use chat_server::hooks::signature;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// The dialog in front.
pub(crate) const FRONT: &str = "dialog[open]:last-of-type";

/// The server of this module, which allows receivers on this machine.
fn hooked() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let allowed = ("webhooks.allowed_networks", "127.0.0.0/8");
        Server::start(2, &[("features.webhooks", "true"), allowed, ("webhooks.timeout", "2s")])
    })
}

/// Lists what has no name in the open dialogs: screen readers would read only "button" or "edit".
const NAMELESS: &str = "[...document.querySelectorAll('dialog :is(button, input, select, textarea)')]
    .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.hidden))
    .map((e) => e.outerHTML)";

/// Ids that several elements have: a label would name the wrong element.
const TWICE: &str = "[...document.querySelectorAll('dialog [id]')].map(({id}) => id)
    .filter((id) => document.querySelectorAll(`#${CSS.escape(id)}`).length > 1)";

impl Person {
    /// Opens the integrations of the open conversation.
    pub(crate) async fn integrations_here(&mut self) {
        if self.browser.evaluate("!document.getElementById('integrations-here')").await == true {
            self.click("#show-details").await;
        }
        self.click("#integrations-here").await;
        self.is_ready("outgoing-list").await;
    }

    /// Waits until a list has been read.
    pub(crate) async fn is_ready(&mut self, list: &str) {
        self.browser.wait_for(&format!("document.getElementById('{list}')?.dataset.ready")).await;
    }

    /// Sets a field that may have a text already.
    pub(crate) async fn overwrite(&mut self, selector: &str, text: &str) {
        self.call_when_present(selector, "select").await;
        self.fill(selector, text).await;
    }

    /// Chooses an option of a field.
    pub(crate) async fn choose(&mut self, selector: &str, value: &str) {
        let chosen = format!(
            "((e) => e && (e.value = {0}, e.dispatchEvent(new Event('change')), e.value === {0}))\
             (document.querySelector({1}))",
            quoted(value),
            quoted(selector)
        );
        self.browser.wait_for(&chosen).await;
    }

    /// The value of a field as soon as it exists.
    pub(crate) async fn value(&mut self, selector: &str) -> String {
        let field = format!("document.querySelector({})", quoted(selector));
        self.browser.wait_for(&format!("{field}?.value")).await;
        text(&self.browser.evaluate(&format!("{field}.value")).await).to_owned()
    }

    /// Submits the form and waits until the field that it refuses is marked with a text, and has the focus.
    pub(crate) async fn is_refused(&mut self, form: &str, field: &str, expected: &str) {
        self.click(&format!("#{form} [type=submit]")).await;
        let marked = format!(
            "((e) => e && e.contains(document.activeElement) && \
             document.getElementById(e.getAttribute('aria-describedby').split(' ')[0]).innerText.includes({}))\
             (document.querySelector('#{form} [name={field}][aria-invalid=true]'))",
            quoted(expected)
        );
        self.browser.wait_for(&marked).await;
    }

    /// Shows a view in light and dark, on a phone, and at 200 % of a small screen.
    pub(crate) async fn pictures(&mut self, name: &str) {
        self.picture(&format!("{name}.png"), 1_280, 800, "light").await;
        self.picture(&format!("{name}-dark.png"), 1_280, 800, "dark").await;
        self.picture(&format!("{name}-phone.png"), 400, 800, "light").await;
        self.picture(&format!("{name}-zoomed.png"), 640, 400, "light").await;
        self.browser.appear(1_280, 800, "light").await;
        assert_eq!(self.browser.evaluate(NAMELESS).await, json!([]), "everything has a name in {name}");
        assert_eq!(self.browser.evaluate(TWICE).await, json!([]), "every id is unique in {name}");
    }

    /// Closes the dialog in front, and waits until the dialog behind it is in front.
    pub(crate) async fn escape(&mut self) {
        let before = self.dialogs().await;
        self.press("Escape", 27).await;
        self.browser.wait_for(&format!("document.querySelectorAll('dialog').length === {}", before - 1)).await;
    }

    /// Presses Enter so that a button reacts.
    async fn enter(&mut self) {
        let key =
            json!({"type": "keyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
        self.browser.call("Input.dispatchKeyEvent", key).await;
    }

    pub(crate) async fn dialogs(&mut self) -> i64 {
        self.browser.evaluate("document.querySelectorAll('dialog').length").await.as_i64().unwrap()
    }

    pub(crate) async fn has_focus(&mut self, selector: &str) {
        self.browser.wait_for(&format!("document.activeElement?.matches({})", quoted(selector))).await;
    }

    /// Creates a webhook in the open dialog. Returns its secret; the dialog of the webhook is open.
    async fn creates_webhook(&mut self, url: &str) -> String {
        self.click("#new-outgoing:not([hidden])").await;
        self.fill("#hook-url", url).await;
        self.click("#hook-form [type=submit]").await;
        let secret = self.value("#hook-secret").await;
        self.click("#done").await;
        self.browser.wait_for("document.querySelector('#hook dl')").await;
        secret
    }
}

/// Whether a request has the signature of a secret as the page shows it.
fn is_signed(delivered: &Delivered, secret: &str) -> bool {
    let key = base64::engine::general_purpose::STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let expected = signature::sign([key.as_slice()], &delivered.id, delivered.timestamp, &delivered.body);
    delivered.signature.split(' ').any(|one| one == expected)
}

fn of_kind(all: &[Delivered], kind: &str) -> Vec<Delivered> {
    all.iter().filter(|one| one.json()["type"] == kind).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_created_tested_followed_and_replayed() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "builds").await;
    ada.integrations_here().await;
    ada.reads("#outgoing-list", "No webhooks yet").await;
    ada.pictures("web-webhooks-empty").await;

    // A refusal is shown at its field, in the user's words.
    ada.click("#new-outgoing").await;
    ada.fill("#hook-url", "http://10.0.0.1/hooks").await;
    ada.is_refused("hook-form", "url", "This address isn't on the internet").await;
    ada.pictures("web-webhook-refused").await;
    ada.overwrite("#hook-url", "https://ada:secret@example.org/hooks").await;
    ada.is_refused("hook-form", "url", "must not have a user name or password").await;
    ada.click("#hook-all").await;
    ada.is_refused("hook-form", "events", "Choose at least one event").await;
    ada.click("#hook-form input[value=message_created]").await;
    ada.overwrite("#hook-url", &receiver.at("/ok/builds")).await;
    ada.pictures("web-webhook-form").await;
    ada.click("#hook-form [type=submit]").await;
    let secret = ada.value("#hook-secret").await;
    ada.has_focus("#hook-secret").await;
    ada.pictures("web-webhook-secret").await;
    ada.click("#done").await;
    ada.reads("#hook .facts", "Message sent").await;
    assert_eq!(ada.browser.evaluate("document.getElementById('hook-secret')").await, Value::Null, "shown once");

    ada.click("#hook [data-do=test]").await;
    ada.reads("#test-outcome[data-state=delivered]", "The receiver accepted the test: it answered 204").await;
    let tests = receiver.received_many("/ok/builds", 1).await;
    assert_eq!((tests.len(), is_signed(&tests[0], &secret)), (1, true));
    ada.pictures("web-webhook").await;

    // A message is in the log of deliveries by itself.
    ada.click("#hook-deliveries").await;
    ada.reads("#deliveries", "Nothing was sent yet").await;
    ada.escape().await;
    ada.escape().await;
    ada.say("the build is green").await;
    ada.sees("the build is green").await;
    ada.integrations_here().await;
    ada.reads("#outgoing-list .state[data-state=on]", "On").await;
    ada.click("#outgoing-list [data-do=manage]").await;
    ada.click("#hook-deliveries").await;
    ada.reads("#deliveries [data-delivery=delivered]", "Message sent").await;
    let sent = of_kind(&receiver.received("/ok/builds"), "message_created");
    assert_eq!((sent.len(), is_signed(&sent[0], &secret)), (1, true));
    assert_eq!(sent[0].json()["data"]["content"], "the build is green");
    ada.click("#deliveries summary").await;
    ada.reads("#deliveries .attempts", "Answered 204").await;
    ada.pictures("web-webhook-deliveries").await;

    // Sent again: one delivery, and a range of numbers.
    ada.click("#deliveries [data-do=again]").await;
    ada.reads("#toasts", "1 event will be sent again").await;
    receiver.received_when("/ok/builds", |all| of_kind(all, "message_created").len() == 2).await;
    ada.click("#hook-again").await;
    ada.pictures("web-webhook-again").await;
    ada.click("#replay-by-log").await;
    ada.fill("#replay-from_seq", "9").await;
    ada.fill("#replay-to_seq", "2").await;
    ada.is_refused("replay", "from_seq", "Choose a range of at most 10,000 numbers").await;
    ada.pictures("web-webhook-again-refused").await;
    ada.overwrite("#replay-from_seq", "1").await;
    ada.overwrite("#replay-to_seq", "10").await;
    ada.click("#replay [type=submit]").await;
    let all = receiver.received_when("/ok/builds", |all| of_kind(all, "message_created").len() == 3).await;
    let ids: BTreeSet<String> = of_kind(&all, "message_created").into_iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), 1, "they keep their id: {ids:?}");
    ada.is_ready("deliveries").await;

    // The new secret and the old secret both sign. Then the webhook is switched off, and deleted.
    ada.click("#hook-overview").await;
    ada.click("#hook [data-do=rotate]").await;
    ada.click(&format!("{FRONT} .primary.bad")).await;
    let rotated = ada.value("#hook-secret").await;
    ada.click("#done").await;
    ada.reads("#hook .facts", "Old secret valid until").await;
    ada.click("#hook [data-do=test]").await;
    ada.reads("#test-outcome[data-state=delivered]", "204").await;
    let tests = of_kind(&receiver.received("/ok/builds"), "webhook_test");
    let last = tests.last().unwrap();
    assert!(rotated != secret && is_signed(last, &rotated) && is_signed(last, &secret), "{}", last.signature);
    ada.click("#hook [data-do=toggle]").await;
    ada.reads("#hook .state[data-state=off]", "Off").await;
    ada.has_focus("#hook [data-do=toggle]").await;
    ada.click("#hook-again").await;
    ada.click("#replay [type=submit]").await;
    ada.reads("#replay .error:not([hidden])", "The webhook is off. Switch it on first.").await;
    ada.click("#hook-overview").await;
    ada.click("#hook [data-do=delete]").await;
    ada.reads(FRONT, "its log of deliveries is deleted").await;
    ada.click(&format!("{FRONT} .primary.bad")).await;
    ada.reads("#outgoing-list", "No webhooks yet").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_receiver_is_seen_and_what_was_given_up_is_sent_again() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "builds").await;
    receiver.answer_with(500);
    ada.integrations_here().await;
    ada.creates_webhook(&receiver.at("/switch")).await;
    ada.click("#hook [data-do=test]").await;
    ada.reads("#test-outcome[data-state=dead]", "The receiver refused the test: it answered 500").await;
    let user = ada.token(server).await;
    for n in 0..3 {
        server.ok(&user, "send_message", json!({"conversation_id": room, "content": format!("build {n}")})).await;
    }
    ada.click("#hook-deliveries").await;
    ada.reads("#deliveries [data-delivery=pending] .error", "Answered 500").await;
    ada.click("#deliveries > :last-child summary").await;
    ada.reads("#deliveries", "Next attempt:").await;
    ada.pictures("web-webhook-failing").await;

    // The breaker would pause it after five failures, which take hours: the database is changed instead.
    let database = server.database().await;
    let of_ada = format!("owner_id = {}", user.id);
    wait_until(&database, &format!("SELECT failures >= 1 FROM webhooks WHERE {of_ada}")).await;
    let pause = format!(
        "UPDATE webhooks SET version = version + 1, failures = 5, paused_until = now() + interval '10 min' \
         WHERE {of_ada}"
    );
    database.batch_execute(&pause).await.unwrap();
    ada.escape().await;
    ada.reads("#outgoing-list .state[data-state=paused]", "Paused until").await;
    ada.pictures("web-webhook-paused").await;

    // Given up: the filter finds them, and all are sent again at once.
    let give_up = format!(
        "UPDATE webhook_deliveries SET state = 'dead', settled_at = now() \
         WHERE webhook_id = (SELECT id FROM webhooks WHERE {of_ada})"
    );
    database.batch_execute(&give_up).await.unwrap();
    ada.click("#outgoing-list [data-do=manage]").await;
    ada.click("#hook-deliveries").await;
    ada.choose("#delivery-state", "withdrawn").await;
    ada.reads("#deliveries", "No deliveries in this state").await;
    ada.choose("#delivery-state", "dead").await;
    ada.browser.wait_for("document.querySelectorAll('#deliveries [data-delivery=dead]').length >= 3").await;
    ada.pictures("web-webhook-given-up").await;
    receiver.answer_with(204);
    let before = receiver.received("/switch").len();
    ada.click("#all-again:not([hidden])").await;
    ada.reads("#toasts", "3 events will be sent again").await;
    ada.click("#hook-overview").await;
    ada.reads("#hook .state[data-state=paused]", "Paused until").await;
    ada.pictures("web-webhook-paused-overview").await;
    ada.click("#hook [data-do=resume]").await;
    ada.reads("#hook .state[data-state=on]", "On").await;
    receiver.received_many("/switch", before + 3).await;
    ada.click("#hook-deliveries").await;
    ada.browser.wait_for("document.querySelectorAll('#deliveries [data-delivery=delivered]').length >= 3").await;
    ada.has_no_complaints();
}

/// The words of a line for a shell that quotes with `'` only.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (at, part) in line.split('\'').enumerate() {
        let pieces: Vec<&str> = if at % 2 == 1 { vec![part] } else { part.split(' ').collect() };
        for (nth, piece) in pieces.into_iter().enumerate() {
            if nth > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words
}

/// Does what a line that the page shows does with curl. Returns the status and the answer.
async fn curl(line: &str) -> (u16, Value) {
    let words = shell_words(line);
    let [program, url, header, field, data, body] = &words[..] else { panic!("{words:?}") };
    assert_eq!((program.as_str(), header.as_str(), data.as_str()), ("curl", "-H", "-d"), "{line}");
    let (name, value) = field.split_once(": ").unwrap();
    let request = reqwest::Client::new().post(url).header(name, value).body(body.clone());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_posts_with_the_line_that_the_page_shows_until_the_address_ends() {
    let server = hooked();
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    // From the user's menu: without a room, there is nowhere to post.
    ada.click("#me").await;
    ada.click("#my-integrations").await;
    ada.click("#integrations-incoming").await;
    ada.reads("#incoming-list", "No incoming webhooks yet").await;
    ada.click("#new-incoming:not([hidden])").await;
    ada.reads(FRONT, "Create a room first").await;
    ada.escape().await;
    ada.pictures("web-incoming-empty").await;
    ada.escape().await;
    let room = create_room(&mut ada, "builds").await;
    ada.click("#me").await;
    ada.click("#my-integrations").await;
    ada.click("#integrations-incoming").await;
    ada.click("#new-incoming:not([hidden])").await;
    ada.fill("#incoming-name", "\u{200b}").await;
    ada.is_refused("incoming-form", "name", "nothing visible").await;
    ada.overwrite("#incoming-name", "Build server").await;
    ada.choose("#incoming-conversation", &room).await;
    ada.pictures("web-incoming-form").await;
    ada.click("#incoming-form [type=submit]").await;
    let (url, line) = (ada.value("#incoming-url").await, ada.value("#incoming-curl").await);
    assert!(url.starts_with(&format!("{}/hooks/in/", server.base_url)) && line.contains(&url), "{url} {line}");
    ada.pictures("web-incoming-address").await;
    ada.click("#done").await;
    ada.reads("#incoming-list", "Build server").await;
    let (status, answer) = curl(&line).await;
    assert_eq!(status, 200, "{answer}");
    ada.sees("Hello from curl").await;
    ada.pictures("web-incoming").await;

    ada.click("#incoming-list [data-do=rotate]").await;
    ada.click(&format!("{FRONT} .primary.bad")).await;
    let rotated = ada.value("#incoming-curl").await;
    ada.click("#done").await;
    ada.reads("#incoming-list", "last used").await;
    assert_eq!((curl(&line).await.0, curl(&rotated).await.0), (404, 200));
    ada.click("#incoming-list [data-do=delete]").await;
    ada.reads(FRONT, "its bot leaves the conversation").await;
    ada.click(&format!("{FRONT} .primary.bad")).await;
    ada.reads("#incoming-list", "No incoming webhooks yet").await;
    assert_eq!(curl(&rotated).await.0, 404);
    ada.escape().await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_see_what_their_role_allows() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let (mut ada, mut bob, ada_user, bob_user, room) = two_in_a_room(server).await;
    ada.integrations_here().await;
    ada.creates_webhook(&receiver.at("/ok/token-of-ada")).await;
    ada.escape().await;
    ada.escape().await;
    bob.integrations_here().await;
    bob.reads("#outgoing-list", "Only the owner and the admins").await;
    bob.pictures("web-webhooks-member").await;
    assert_eq!(bob.browser.evaluate("document.getElementById('new-outgoing').hidden").await, true);
    bob.click("#integrations-incoming").await;
    bob.reads("#incoming-list", "Only the owner and the admins").await;
    bob.escape().await;

    // An admin sees where it goes, not the whole address, and can only switch it off or delete it.
    let role = json!({"conversation_id": room, "user_id": bob_user.id, "role": "admin"});
    server.ok(&ada_user, "set_role", role).await;
    bob.reads("#members", "admin").await;
    bob.integrations_here().await;
    bob.reads("#outgoing-list", "by Ada Lovelace").await;
    bob.click("#outgoing-list [data-do=manage]").await;
    bob.reads("#hook", "Only its owner can change it").await;
    let shown = bob.browser.evaluate("document.getElementById('hook').innerText").await;
    assert!(!text(&shown).contains("token-of-ada"), "{shown}");
    let buttons = "[...document.querySelectorAll('#hook [data-do]')].map((button) => button.dataset.do)";
    assert_eq!(bob.browser.evaluate(buttons).await, json!(["toggle", "delete"]));
    bob.pictures("web-webhook-of-another").await;
    bob.click("#hook [data-do=toggle]").await;
    bob.browser.wait_for("document.querySelector('#hook .state[data-state=off]')").await;
    assert_eq!(bob.browser.evaluate(buttons).await, json!(["delete"]), "only the owner can switch it on");
    ada.integrations_here().await;
    ada.reads("#outgoing-list .state[data-state=off]", "Off").await;
    for person in [&mut ada, &mut bob] {
        person.has_no_complaints();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_alone_opens_moves_and_closes() {
    let (server, receiver) = (hooked(), Receiver::start().await);
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "builds").await;
    ada.click("#show-details").await;
    ada.call_when_present("#integrations-here", "focus").await;
    ada.enter().await;
    ada.has_focus("#integrations-outgoing").await;
    ada.press("ArrowRight", 39).await;
    ada.has_focus("#integrations-incoming[aria-selected=true]").await;
    ada.press("ArrowLeft", 37).await;
    ada.is_ready("outgoing-list").await;
    ada.creates_webhook(&receiver.at("/ok")).await;
    ada.escape().await;

    // Escape closes the dialog in front, and the focus is where it was.
    ada.call_when_present("#outgoing-list [data-do=manage]", "focus").await;
    ada.enter().await;
    ada.browser.wait_for("document.querySelector('#hook dl')").await;
    ada.has_focus("#hook-overview").await;
    // Tab stays in the dialog: the page behind it never has the focus.
    for _ in 0..12 {
        ada.press("Tab", 9).await;
        let inside = "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))";
        assert_eq!(ada.browser.evaluate(inside).await, true);
    }
    ada.escape().await;
    ada.has_focus("#outgoing-list [data-do=manage]").await;
    ada.escape().await;
    assert_eq!(ada.dialogs().await, 0);
    ada.has_focus("#integrations-here").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_webhooks_is_explained() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "builds").await;
    ada.integrations_here().await;
    ada.reads("#outgoing-list", "Webhooks are switched off on this server.").await;
    ada.pictures("web-webhooks-off").await;
    assert_eq!(ada.browser.evaluate("document.getElementById('new-outgoing').hidden").await, true);
    ada.click("#integrations-incoming").await;
    ada.reads("#incoming-list", "Webhooks are switched off on this server.").await;
    ada.escape().await;
    ada.speaks("fr").await;
    ada.integrations_here().await;
    ada.reads("#outgoing-list", "Les webhooks sont désactivés sur ce serveur.").await;
    ada.has_no_complaints();
}
