//! Two-factor authentication in the web client: set-up, sign-in, a fresh code for dangerous actions, and recovery.
//!
//! How: the tests read the key that the page shows, and compute codes from it.

use crate::person::Person;
use crate::support::app_codes::{app_code, early_in_a_step};
use crate::support::browser::Browser;
use crate::support::{PASSWORD, Server, server, unique};

/// The open dialog in front.
const FRONT: &str = "dialog[open]:last-of-type";

impl Person {
    async fn security(&mut self) {
        self.click("#me").await;
        self.click("#account-open").await;
        self.click("#account-security").await;
    }

    /// Fills fields of the dialog in front and submits it.
    async fn submit(&mut self, fields: &[(&str, &str)]) {
        for (name, value) in fields {
            self.fill(&format!("{FRONT} input[name={name}]"), value).await;
        }
        self.click(&format!("{FRONT} button.primary[type=submit]")).await;
    }

    /// Sets it up in the dialog that asks for the password. Returns the key and the backup codes.
    async fn set_up(&mut self) -> (String, Vec<String>) {
        self.submit(&[("password", PASSWORD)]).await;
        self.browser.wait_for("document.querySelector('.qr svg path')?.getBoundingClientRect().width > 100").await;
        let secret = self.browser.evaluate("document.getElementById('secret').textContent").await;
        let secret = secret.as_str().unwrap().replace(' ', "");
        self.picture("two-factor-set-up.png", 1_280, 800, "light").await;
        self.picture("two-factor-set-up-phone.png", 390, 844, "dark").await;
        self.submit(&[("code", &app_code(&secret, -1))]).await;
        (secret, self.backup_codes().await)
    }

    async fn backup_codes(&mut self) -> Vec<String> {
        self.browser.wait_for("document.querySelectorAll('#backup-codes li').length === 10").await;
        let codes = self.browser.evaluate("[...document.querySelectorAll('#backup-codes li')].map((c) => c.innerText)");
        let codes =
            codes.await.as_array().unwrap().iter().map(|code| code.as_str().unwrap().trim().to_owned()).collect();
        self.click("#codes-done").await;
        codes
    }
}

/// Opens the page in a new browser and gives the password.
async fn enter_password(server: &Server, name: &str) -> Person {
    let mut person = Person { name: name.to_owned(), browser: Browser::start().await };
    person.browser.appear(1_280, 800, "light").await;
    person.browser.open(&format!("{}/", server.base_url)).await;
    person.fill("#sign input[name=login]", name).await;
    person.fill("#sign input[name=password]", PASSWORD).await;
    person.click("#sign button.primary").await;
    person
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_sets_it_up_signs_in_recovers_and_turns_it_off() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    early_in_a_step().await;
    ada.security().await;
    ada.click("#two-factor-on").await;
    let (secret, codes) = ada.set_up().await;
    ada.reads("#codes-left", "10 backup codes left.").await;

    // Signing in: a wrong code, the right one, a backup code.
    let mut phone = enter_password(server, &ada.name).await;
    phone.fill("#sign input[name=totp_code]", "000 000").await;
    phone.click("#sign button.primary").await;
    phone.reads("#sign-error", "wrong or was already used").await;
    phone.fill("#sign input[name=totp_code]", &app_code(&secret, 0)).await;
    phone.click("#sign button.primary").await;
    phone.is_up_to_date(0).await;
    let mut laptop = enter_password(server, &ada.name).await;
    laptop.click("#sign .code-swap").await;
    laptop.fill("#sign input[name=backup_code]", &codes[0]).await;
    laptop.click("#sign button.primary").await;
    laptop.is_up_to_date(0).await;

    // A dangerous action asks for a code when the last one is old.
    let database = server.database().await;
    database.batch_execute("UPDATE sessions SET factor_at = factor_at - interval '6 minutes'").await.unwrap();
    laptop.security().await;
    laptop.browser.wait_for("document.querySelectorAll('#sessions li').length === 3").await;
    laptop.click("#sessions [data-revoke]").await;
    laptop.browser.wait_for("document.getElementById('step-up')").await;
    laptop.submit(&[("code", &app_code(&secret, 1))]).await;
    laptop.browser.wait_for("document.querySelectorAll('#sessions li').length === 2").await;

    // Few backup codes are left. New ones replace them.
    let used = "DELETE FROM backup_codes WHERE code_hash IN (SELECT code_hash FROM backup_codes LIMIT 7)";
    database.batch_execute(used).await.unwrap();
    laptop.click("#account-profile").await;
    laptop.click("#account-security").await;
    laptop.reads("#codes-left.error", "2 backup codes left.").await;
    database.batch_execute("UPDATE two_factor SET last_step = 0").await.unwrap();
    laptop.click("#new-codes").await;
    laptop.submit(&[("password", PASSWORD), ("code", &app_code(&secret, 0))]).await;
    let codes = laptop.backup_codes().await;
    laptop.reads("#codes-left", "10 backup codes left.").await;

    laptop.click("#two-factor-off").await;
    laptop.click(&format!("{FRONT} .code-swap")).await;
    laptop.submit(&[("password", PASSWORD), ("backup_code", &codes[0])]).await;
    laptop.browser.wait_for("document.getElementById('two-factor-on')").await;
    for person in [&mut ada, &mut phone, &mut laptop] {
        person.has_no_complaints();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_must_have_it_is_led_through_the_set_up() {
    let server = Server::start(2, &[("security.two_factor_required", "member")]);
    let user = server.register_as(&unique("ada")).await;
    early_in_a_step().await;
    let mut ada = enter_password(&server, &user.name).await;
    ada.reads(FRONT, "This server requires two-factor authentication").await;
    ada.set_up().await;
    ada.is_up_to_date(0).await;
    ada.security().await;
    ada.reads("#codes-left", "10 backup codes left.").await;
    assert_eq!(ada.browser.evaluate("document.getElementById('two-factor-off')").await, serde_json::Value::Null);
    ada.has_no_complaints();
}
