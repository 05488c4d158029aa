//! A user of the page, who uses its buttons, fields and keys.

use crate::support::browser::Browser;
use crate::support::{PASSWORD, Server, User, unique};
use serde_json::{Value, json};

pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A user with a browser.
pub struct Person {
    /// The username.
    pub name: String,
    /// The browser with the page.
    pub browser: Browser,
}

/// The texts of the messages shown, including the outbox.
const SHOWN: &str = "[...document.querySelectorAll('#messages .message .content')].map((m) => m.innerText.trim())";

impl Person {
    /// Opens the page and signs up with its form.
    pub async fn sign_up(server: &Server, path: &str, name: &str, display_name: &str) -> Self {
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

    /// Opens the page in a new browser and signs in.
    pub async fn sign_in(server: &Server, name: &str, password: &str) -> Self {
        let mut person = Self { name: name.to_owned(), browser: Browser::start().await };
        person.browser.appear(1_280, 800, "light").await;
        person.browser.open(&format!("{}/", server.base_url)).await;
        person.fill("#sign input[name=login]", name).await;
        person.fill("#sign input[name=password]", password).await;
        person.click("#sign button.primary").await;
        person.is_up_to_date(0).await;
        person
    }

    /// Opens a conversation by its address.
    pub async fn go(&mut self, conversation: &str) {
        // The page shows the conversation after the event. What is typed before goes into the field of the former one.
        let shown = format!(
            "new Promise((done) => {{
                const hash = '#/{conversation}';
                if (location.hash === hash) return done();
                addEventListener('hashchange', () => requestAnimationFrame(() => setTimeout(done)), {{ once: true }});
                location.hash = hash;
            }})"
        );
        self.browser.evaluate(&shown).await;
    }

    /// Clicks an element as soon as it exists.
    pub async fn click(&mut self, selector: &str) {
        self.call_when_present(selector, "click").await;
    }

    /// Calls a method of an element as soon as it exists. One step, because the page may replace it at any time.
    pub async fn call_when_present(&mut self, selector: &str, method: &str) {
        let called = format!("((e) => e && (e.{method}(), true))(document.querySelector({}))", quoted(selector));
        self.browser.wait_for(&called).await;
    }

    /// Types a text into a field.
    pub async fn fill(&mut self, selector: &str, text: &str) {
        // A hidden field cannot have the focus, and the text would go to another one.
        let focused = format!(
            "((e) => e && (e.focus(), document.activeElement === e))(document.querySelector({}))",
            quoted(selector)
        );
        self.browser.wait_for(&focused).await;
        self.browser.call("Input.insertText", json!({"text": text})).await;
    }

    pub async fn press(&mut self, key: &str, code: i32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.browser.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Waits until an element shows a text.
    pub async fn reads(&mut self, selector: &str, text: &str) {
        let found = format!("document.querySelector({})?.innerText.includes({})", quoted(selector), quoted(text));
        self.browser.wait_for(&found).await;
    }

    /// Confirms in a dialog that asks before something that cannot be undone.
    pub async fn confirm(&mut self) {
        self.click("dialog button.primary.bad").await;
        self.browser.wait_for("!document.querySelector('dialog')").await;
    }

    pub async fn close_dialog(&mut self) {
        self.click("dialog header button").await;
        self.browser.wait_for("!document.querySelector('dialog')").await;
    }

    /// Writes into the composer and presses Enter.
    pub async fn say(&mut self, text: &str) {
        self.fill("#compose", text).await;
        self.press("Enter", 13).await;
    }

    /// Waits until a stored message is shown exactly once.
    pub async fn sees(&mut self, text: &str) {
        let stored = "[...document.querySelectorAll('#messages .message:not(.pending) .content')]";
        let found = format!("{stored}.filter((m) => m.innerText.includes({})).length === 1", quoted(text));
        self.browser.wait_for(&found).await;
    }

    /// Waits until the page is connected and has caught up after at least `times` reconnects.
    pub async fn is_up_to_date(&mut self, times: u32) {
        let status = "document.getElementById('connection')";
        let live = format!("{status}?.dataset.state === 'live' && Number({status}.dataset.caughtUp) >= {times}");
        self.browser.wait_for(&live).await;
    }

    pub async fn has_noticed_the_cut(&mut self) {
        self.browser.wait_for("document.getElementById('banner').dataset.kind === 'lost'").await;
    }

    pub async fn shown(&mut self) -> Vec<String> {
        let shown = self.browser.evaluate(SHOWN).await;
        shown.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// The same user with another token, for reading from the server directly.
    pub async fn token(&self, server: &Server) -> User {
        let body = json!({"login": self.name, "password": PASSWORD});
        let (status, answer) = server.post("/auth/login", None, &body).await;
        assert_eq!(status, 200, "{answer}");
        User::from_answer(&answer)
    }

    /// Chooses a language in the settings.
    pub async fn speaks(&mut self, language: &str) {
        self.click("#me").await;
        self.click(&format!("#settings [data-value={language}]")).await;
        self.browser.wait_for(&format!("document.documentElement.lang === '{language}'")).await;
        self.click("dialog[open] header button").await; // the dialog before it is still closing
        self.browser.wait_for("!document.querySelector('dialog')").await;
    }

    /// Takes a screenshot; nothing may overflow the page.
    pub async fn picture(&mut self, name: &str, width: u32, height: u32, scheme: &str) {
        self.browser.appear(width, height, scheme).await;
        // Two frames: one to react to the new size, one to draw.
        let frames =
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 300))))";
        self.browser.evaluate(frames).await;
        let overflow = "[document.documentElement, ...document.querySelectorAll('dialog, .panel-body, .lists')]\
                        .map((box) => box.scrollWidth - box.clientWidth).filter((over) => over > 0)";
        assert_eq!(self.browser.evaluate(overflow).await, json!([]), "nothing overflows in {name}");
        self.browser.screenshot(name).await;
    }

    /// Checks that the console has no messages except about failed requests.
    pub fn has_no_complaints(&mut self) {
        let complaints = self.browser.take_complaints();
        let failed = |complaint: &Value| {
            let source = &complaint["entry"]["source"];
            // A failed WebSocket connection is reported as a message of the page.
            source == "network" || complaint["entry"]["text"].as_str().unwrap_or("").contains("WebSocket")
        };
        assert!(complaints.iter().all(failed), "{complaints:?}");
    }
}

/// Ada creates a room; returns its id.
pub async fn create_room(ada: &mut Person, name: &str) -> String {
    ada.click("#new").await;
    ada.fill("#room-name", name).await;
    ada.fill("#room-description", "Where everybody meets").await;
    ada.click("#create").await;
    ada.browser.wait_for(&format!("document.getElementById('title')?.textContent === {}", quoted(name))).await;
    let hash = ada.browser.evaluate("location.hash").await;
    hash.as_str().unwrap().trim_start_matches("#/").to_owned()
}

/// Bob joins a room from the list, or by its address if the server has no list.
pub async fn join_room(bob: &mut Person, room: &str) {
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

pub async fn unread(server: &Server, user: &User, conversation: &str) -> i64 {
    let answer = server.ok(user, "get_conversation", json!({"conversation_id": conversation})).await;
    answer["conversation"]["unread_count"].as_i64().unwrap()
}
