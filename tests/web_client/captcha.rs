//! A server that asks for a captcha: the page for new accounts shows the widget, and loads nothing else.

use crate::person::Person;
use crate::support::captcha::CaptchaService;
use crate::support::{PASSWORD, browser::Browser};
use crate::support::{Server, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_up_with_the_widget_of_a_captcha() {
    let service = CaptchaService::start().await;
    let settings = service.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let server = Server::start(1, &settings);
    let mut ada = Person { name: unique("ada"), browser: Browser::start().await };
    ada.browser.appear(1_280, 800, "light").await;
    ada.browser.open(&format!("{}/", server.base_url)).await;
    ada.browser.wait_for("document.getElementById('sign-switch')").await;
    ada.click("#sign-switch").await;
    let (name, email) = (ada.name.clone(), format!("{}@example.org", ada.name));
    for (field, value) in [("username", name.as_str()), ("email", &email), ("password", PASSWORD)] {
        ada.fill(&format!("#sign input[name={field}]"), value).await;
    }
    ada.reads("#captcha", "solve site-key-1").await;
    // Not solved: the server refuses, and the form keeps what was typed and has a new widget.
    ada.click("#sign button.primary").await;
    ada.reads("#sign-error", "Captcha: Registrations need a solved captcha").await;
    ada.reads("#captcha", "solve site-key-1").await;
    ada.click("#captcha button").await;
    ada.click("#sign button.primary").await;
    ada.is_up_to_date(0).await;
    // The page may load scripts and frames of that origin, and of no other.
    let answer = reqwest::get(format!("{}/", server.base_url)).await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let of = |name: &str| policy.split("; ").find(|part| part.starts_with(name)).map(str::to_owned);
    assert_eq!(of("script-src"), Some(format!("script-src 'self' {}", service.url)), "{policy}");
    assert_eq!(of("frame-src"), Some(format!("frame-src {}", service.url)), "{policy}");
}
