//! Where `security.captcha_verify_url` is set, a registration brings a solved captcha.
//!
//! How: a small HTTP server stands for the captcha service (`support::captcha`). It answers as a sound one does, and
//! then in every way in which one can fail: nobody may get in meanwhile.

use crate::support::captcha::{CaptchaService, Manner, SITE_KEY, SOLVED};
use crate::support::{PASSWORD, Server, code, text, unique};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

fn start(service: &CaptchaService) -> Server {
    let settings = service.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Server::start(1, &settings)
}

async fn register(server: &Server, captcha: Option<&str>) -> (u16, Value) {
    let name = unique("Person");
    let email = format!("{name}@example.org");
    let account = json!({"username": name, "email": email, "password": PASSWORD, "captcha": captcha});
    server.post("/auth/register", None, &account).await
}

#[tokio::test]
async fn registers_who_has_solved_the_captcha() {
    let service = CaptchaService::start().await;
    let server = start(&service);
    let (status, challenge) = server.request(Method::GET, "/auth/register/challenge", None, None).await;
    let widget = json!({"site_key": SITE_KEY, "script_url": format!("{}/api.js?render=explicit", service.url)});
    assert_eq!((status, &challenge["captcha"]), (200, &widget));
    let too_long = "x".repeat(9_000);
    for captcha in [None, Some(""), Some(too_long.as_str())] {
        let (status, problem) = register(&server, captcha).await;
        assert_eq!((status, code(&problem).as_str()), (400, "bad_request"), "{problem}");
        assert!(text(&problem["detail"]).starts_with("captcha: "), "{problem}");
    }
    assert_eq!(service.take_forms(), Vec::<String>::new(), "the service is not asked about these");
    let (status, problem) = register(&server, Some("unsolved")).await;
    assert_eq!((status, code(&problem).as_str()), (400, "bad_request"), "{problem}");
    assert_eq!(register(&server, Some(SOLVED)).await.0, 201);
    let sent = "secret=a+secret+of+the+captcha&response=";
    let forms = [format!("{sent}unsolved&remoteip=127.0.0.1"), format!("{sent}solved+%26+correct&remoteip=127.0.0.1")];
    assert_eq!(service.take_forms(), forms);
}

#[tokio::test]
async fn leaves_checks_to_others_while_one_network_waits_for_the_service() {
    let service = CaptchaService::start().await;
    let settings = service.settings();
    let mut settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    settings.push(("server.trusted_proxies", "127.0.0.1"));
    let server = Server::start(1, &settings);
    let register_from = async |address: &str| {
        let name = unique("Person");
        let email = format!("{name}@example.org");
        let account = json!({"username": name, "email": email, "password": PASSWORD, "captcha": SOLVED});
        let request = reqwest::Client::new().post(format!("{}/auth/register", server.base_url)).json(&account);
        let answer = request.header("x-forwarded-for", address).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    service.be(Manner::Silent);
    let addresses: Vec<String> = (1..=8).map(|host| format!("2001:db8::{host}")).collect();
    let answers = join_all(addresses.iter().map(|address| register_from(address))).await;
    let (refused, asked): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 429);
    assert!(!refused.is_empty() && !asked.is_empty(), "{refused:?} {asked:?}");
    for (status, problem) in asked {
        assert_eq!((status, code(&problem).as_str()), (503, "captcha_unavailable"), "{problem}");
    }
    for (_, problem) in refused {
        let details = json!({"limiter": "captchas", "scope": "address", "limit": 4, "window_ms": 0});
        assert_eq!((&problem["details"], &problem["retry_after_ms"]), (&details, &json!(2_000)), "{problem}");
    }
    service.be(Manner::Sound);
    assert_eq!(register_from("2001:db8::1").await.0, 201, "the places are free again");
    assert_eq!(register_from("203.0.113.9").await.0, 201);
}

#[tokio::test]
async fn registers_nobody_while_the_service_gives_no_verdict() {
    let service = CaptchaService::start().await;
    let server = start(&service);
    let manners = [
        Manner::Broken,
        Manner::Redirect,
        Manner::Garbage,
        Manner::Endless,
        Manner::Closing,
        Manner::Silent,
        Manner::Estranged,
    ];
    for manner in manners {
        service.be(manner);
        let (status, problem) = register(&server, Some(SOLVED)).await;
        assert_eq!((status, code(&problem).as_str()), (503, "captcha_unavailable"), "{manner:?}: {problem}");
        assert!(problem["retry_after_ms"].is_u64(), "{problem}");
        assert!(!service.take_forms().contains(&"redirected".to_owned()), "no redirect is followed");
        service.be(Manner::Sound);
        assert_eq!(register(&server, Some(SOLVED)).await.0, 201, "after {manner:?}");
    }
    service.stop().await;
    let (status, problem) = register(&server, Some(SOLVED)).await;
    assert_eq!((status, code(&problem).as_str()), (503, "captcha_unavailable"), "{problem}");
}
