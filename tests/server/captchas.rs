//! Where `security.captcha_verify_url` is set, a registration brings a solved captcha.
//!
//! How: a small HTTP server stands for the captcha service (`support::captcha`). It answers as a sound one does, and
//! then in every way in which one can fail: nobody may get in meanwhile.

use crate::support::captcha::{CaptchaService, Manner, SITE_KEY, SOLVED};
use crate::support::{PASSWORD, Server, code, text, unique};
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
