//! Attacks on signing in: floods, guesses, mass registrations. Beside each of them, everybody else signs in.
//!
//! How: Linux accepts connections from any address of 127.0.0.0/8, so each client chooses the address it comes from.

use crate::support::{PASSWORD, Server, User, protocol, unique};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A server with the limits of the default configuration, and more `settings`.
fn start(settings: &[(&str, &str)]) -> Server {
    let shipped = [("security.sign_ins_per_minute", "60"), ("security.registrations_per_minute", "60")];
    Server::start(1, &[&shipped, settings].concat())
}

/// Sends a POST from an address. Returns the status and the body.
async fn post_from(server: &Server, from: Ipv4Addr, path: &str, body: &Value) -> (u16, Value) {
    let client = reqwest::Client::builder().local_address(Some(from.into())).build().unwrap();
    let request = client.post(format!("{}{path}", server.base_url)).timeout(crate::support::PATIENCE).json(body);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let retry_after = response.headers().get("retry-after").cloned();
    let answer = response.bytes().await.unwrap();
    protocol::assert_answer(&protocol::Exchange {
        method: "POST",
        target: path,
        sent: Some(body),
        status,
        content_type: content_type.as_deref(),
        body: Some(&answer),
    });
    assert!(status != 429 || retry_after.is_some(), "a refusal says when to try again");
    (status, serde_json::from_slice(&answer).unwrap())
}

async fn log_in(server: &Server, from: Ipv4Addr, login: &str, password: &str) -> (u16, Value) {
    post_from(server, from, "/auth/login", &json!({"login": login, "password": password})).await
}

async fn register_from(server: &Server, from: Ipv4Addr) -> (u16, Value) {
    let name = unique("Test");
    let body = json!({"username": name, "email": format!("{name}@example.org"), "password": PASSWORD});
    post_from(server, from, "/auth/register", &body).await
}

fn address(c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, c, d)
}

#[tokio::test]
async fn signs_users_in_beside_a_flood_of_sign_ins_from_one_address() {
    let server = start(&[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let attacker = address(9, 1);
    let flood = join_all((0..400).map(|n| {
        let (server, login) = (&server, if n % 2 == 0 { ann.name.clone() } else { format!("nobody{n}") });
        async move { log_in(server, attacker, &login, "a wrong password").await.0 }
    }));
    let victims = async {
        // An address that nobody has signed in from before.
        for n in 0..5 {
            let (status, answer) = log_in(&server, address(1, n), &bob.name, PASSWORD).await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    let (statuses, ()) = tokio::join!(flood, victims);
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    let hashed = statuses.iter().filter(|status| **status == 401).count();
    assert!((1..=60).contains(&hashed), "{hashed} passwords were checked");
}

#[tokio::test]
async fn slows_guesses_down_without_locking_the_owner_out() {
    let server = start(&[("security.sign_ins_per_minute", "1000")]);
    let ann = server.register().await;
    let home = address(0, 1);
    let guess = async |from, login: String| {
        let (status, answer) = log_in(&server, from, &login, "a wrong password").await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    for login in [ann.name.clone(), unique("nobody")] {
        let answers = join_all((0..30).map(|_| guess(address(9, 1), login.clone()))).await;
        let wrong = answers.iter().filter(|(status, _)| *status == 401).count();
        assert_eq!(wrong, 5, "the same for an account that does not exist: {answers:?}");
        assert!(answers.iter().all(|(status, code)| *status == 401 || code == "account_locked"), "{answers:?}");
    }
    let many = join_all((0..60).map(|n| guess(address(10 + n, 1), ann.name.clone()))).await;
    let wrong = many.iter().filter(|(status, _)| *status == 401).count();
    assert!(wrong < 20, "{wrong} guesses from 60 addresses");
    // Each guess doubles the wait of strangers. A wait of a few seconds does not end before the next request comes.
    for n in 0.. {
        let (status, answer) = log_in(&server, address(100 + n, 1), &ann.name, "a wrong password").await;
        assert!([401, 429].contains(&status) && n < 60, "{answer}");
        match answer["retry_after_ms"].as_u64() {
            Some(wait_ms) if wait_ms > 3_000 => break,
            wait_ms => tokio::time::sleep(Duration::from_millis(wait_ms.unwrap_or_default())).await,
        }
    }
    let (status, answer) = log_in(&server, address(200, 1), &ann.name, PASSWORD).await;
    assert_eq!((status, &answer["code"]), (429, &json!("account_locked")), "{answer}");
    assert!(answer["retry_after_ms"].as_u64().unwrap() <= 60_000, "{answer}");
    for _ in 0..3 {
        let (status, answer) = log_in(&server, home, &ann.name, PASSWORD).await;
        assert_eq!(status, 200, "the owner signs in from where she registered: {answer}");
    }
}

#[tokio::test]
async fn bounds_registrations_from_one_address() {
    let server = start(&[("security.registrations_per_minute", "3")]);
    let statuses = join_all((0..20).map(|_| register_from(&server, address(9, 1)))).await;
    assert_eq!(statuses.iter().filter(|(status, _)| *status == 201).count(), 3);
    let (_, refused) = statuses.into_iter().find(|(status, _)| *status == 429).unwrap();
    let details = json!({"limiter": "registrations", "scope": "address", "limit": 3, "window_ms": 60_000});
    assert_eq!((&refused["code"], &refused["details"]), (&json!("rate_limited"), &details));
    assert_eq!(register_from(&server, address(1, 1)).await.0, 201, "other addresses are not affected");
    let of_subnet = join_all((2..40).map(|n| register_from(&server, address(9, n)))).await;
    let created = of_subnet.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(created, 9, "a subnet may register four times as many as an address");
}

#[tokio::test]
async fn bounds_guesses_of_the_current_password() {
    let server = start(&[]);
    let ann = server.register().await;
    let change = async |ann: &User| {
        let body = json!({"current_password": "a wrong password", "new_password": "another harbour 7 evening"});
        server.post("/auth/password", Some(&ann.token), &body).await.0
    };
    let statuses = join_all((0..20).map(|_| change(&ann))).await;
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 5, "{statuses:?}");
    assert!(statuses.iter().all(|status| [403, 429].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn signs_in_over_ipv6_an_account_that_was_registered_over_ipv4() {
    let server = start(&[("server.trusted_proxies", "127.0.0.1")]);
    let post = async |client: &str, path: &str, body: Value| {
        let request = reqwest::Client::new().post(format!("{}{path}", server.base_url)).json(&body);
        request.header("x-forwarded-for", client).send().await.unwrap().status().as_u16()
    };
    let name = unique("Test");
    let account = json!({"username": name, "email": format!("{name}@example.org"), "password": PASSWORD});
    assert_eq!(post("192.0.2.1", "/auth/register", account).await, 201);
    for client in ["2001:db8::1", "192.0.2.1", "2001:db8::2", "198.51.100.7"] {
        let credentials = json!({"login": name, "password": PASSWORD});
        assert_eq!(post(client, "/auth/login", credentials).await, 200, "from {client}");
    }
}

#[tokio::test]
async fn the_limits_do_not_tell_which_address_belongs_to_a_name() {
    let server = start(&[("security.sign_ins_per_minute", "1000")]);
    let ann = server.register().await;
    for _ in 0..10 {
        log_in(&server, address(9, 1), &ann.name, "a wrong password").await;
    }
    let (status, _) = log_in(&server, address(9, 1), &format!("{}@example.org", ann.name), "a wrong password").await;
    assert_eq!(status, 401, "as for any address that has not been tried");
}
