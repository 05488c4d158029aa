//! Floods over HTTP, all from one address that no ordinary user has.
//!
//! Each flood is paced: so many requests at once, again and again. Requests that are late are not left out. The paces
//! are those of attacks that once shut ordinary users out.

use super::counts::Counts;
use crate::setup::account::Account;
use crate::setup::api::Target;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The attacker's address. Its /24 is not one of the ordinary users', because limits count subnets too.
pub(super) const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 200, 0, 1));
/// Before a request of a connection that broke is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// A kind of request that floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestFlood {
    SignIns,
    Registrations,
    Refresh,
    Profile,
    BadJson,
    UnknownRoutes,
    Additions,
}

/// So many requests begin at once, every so often, and so many can be under way.
#[derive(Clone, Copy)]
struct Rhythm {
    at_once: u32,
    every: Duration,
    in_flight: usize,
}

/// Who floods, and whom it is about.
pub(super) struct Parties<'a> {
    /// Accounts of the attacker.
    pub(super) flooders: &'a [Account],
    /// Accounts of the attacker that add a person to groups.
    pub(super) adders: &'a [Account],
    /// The ordinary users.
    pub(super) victims: &'a [Account],
    /// Distinguishes the registrations of one phase from those of another.
    pub(super) seed: u32,
}

/// One request.
struct Ask<'a> {
    method: Method,
    path: String,
    token: Option<&'a str>,
    body: Option<String>,
}

impl RequestFlood {
    pub(super) const ALL: [Self; 7] = [
        Self::SignIns,
        Self::Registrations,
        Self::Refresh,
        Self::Profile,
        Self::BadJson,
        Self::UnknownRoutes,
        Self::Additions,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SignIns => "sign_ins",
            Self::Registrations => "registrations",
            Self::Refresh => "refresh",
            Self::Profile => "profile",
            Self::BadJson => "bad_json",
            Self::UnknownRoutes => "unknown_routes",
            Self::Additions => "additions",
        }
    }

    fn rhythm(self) -> Rhythm {
        let steady = |per_10_ms| Rhythm { at_once: per_10_ms, every: Duration::from_millis(10), in_flight: 64 };
        match self {
            // 400 at once, every second.
            Self::SignIns => Rhythm { at_once: 400, every: Duration::from_secs(1), in_flight: 400 },
            Self::Registrations => Rhythm { at_once: 100, every: Duration::from_secs(1), in_flight: 100 },
            // 400 per second.
            Self::Refresh => steady(4),
            // 2,100 per second.
            Self::Profile => steady(21),
            Self::BadJson | Self::UnknownRoutes => steady(20),
            // 1,000 groups per second.
            Self::Additions => steady(10),
        }
    }

    fn ask<'a>(self, number: u64, parties: &Parties<'a>) -> Ask<'a> {
        let post = |path: &str, token, body: Value| Ask {
            method: Method::POST,
            path: path.to_owned(),
            token,
            body: Some(body.to_string()),
        };
        let one_of = |accounts: &'a [Account]| &accounts[number as usize % accounts.len().max(1)];
        let seed = parties.seed;
        match self {
            Self::SignIns => {
                let wrong = json!({ "login": one_of(parties.victims).username, "password": format!("wrong-{number}") });
                post("/auth/login", None, wrong)
            }
            Self::Registrations => {
                let name = format!("flood{seed:08x}-{number}");
                let email = format!("{name}@loadtest.example");
                let account = json!({ "username": name, "email": email, "password": crate::setup::account::PASSWORD });
                post("/auth/register", None, account)
            }
            Self::Refresh => post("/auth/refresh", None, json!({ "refresh_token": format!("{number:043}") })),
            Self::Profile => Ask {
                method: Method::PATCH,
                path: "/users/me".to_owned(),
                token: Some(&one_of(parties.flooders).token),
                body: Some(json!({ "display_name": format!("Flood {number}") }).to_string()),
            },
            Self::BadJson if number.is_multiple_of(2) => {
                Ask { body: Some("{\"login\":".to_owned()), ..post("/auth/login", None, Value::Null) }
            }
            Self::BadJson => {
                let token = Some(one_of(parties.flooders).token.as_str());
                Ask { body: Some("{\"type\":".to_owned()), ..post("/api/commands", token, Value::Null) }
            }
            Self::UnknownRoutes => {
                Ask { method: Method::GET, path: format!("/no/such/route/{number}"), token: None, body: None }
            }
            Self::Additions => {
                let member_ids = parties.victims.first().map(|victim| victim.id);
                let group = json!({ "kind": "group", "name": format!("spam {seed:08x} {number}"),
                                    "member_ids": Vec::from_iter(member_ids) });
                let command = json!({ "type": "create_conversation", "data": group });
                post("/api/commands", Some(&one_of(parties.adders).token), command)
            }
        }
    }
}

/// Floods until it is over.
pub(super) async fn flood(target: &Target, kind: RequestFlood, parties: &Parties<'_>, counts: &Counts) {
    let http = match reqwest::Client::builder().no_proxy().local_address(ATTACKER).build() {
        Ok(http) => http,
        Err(error) => return counts.lost(format!("no HTTP client: {error}")),
    };
    let (rhythm, next, began) = (kind.rhythm(), AtomicU64::new(0), Instant::now());
    let work = async || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let planned = began + rhythm.every * (number / u64::from(rhythm.at_once)) as u32;
            tokio::time::sleep_until(planned.into()).await;
            match send(&http, target, kind.ask(number, parties)).await {
                Ok(status) if is_refusal(status) => counts.refused(1),
                Ok(_) => counts.answered(1),
                Err(reason) => {
                    counts.lost(reason);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    let all = futures_util::future::join_all((0..rhythm.in_flight).map(|_| work()));
    tokio::select! {
        () = counts.over() => {}
        _ = all => {}
    }
}

/// Whether a limit refused a request. Every other answer cost the server its work.
pub(super) fn is_refusal(status: u16) -> bool {
    let refusals = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::REQUEST_TIMEOUT];
    refusals.iter().any(|refusal| refusal.as_u16() == status)
}

async fn send(http: &reqwest::Client, target: &Target, ask: Ask<'_>) -> Result<u16, String> {
    let mut request = http.request(ask.method, format!("{target}{}", ask.path));
    if let Some(token) = ask.token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = ask.body {
        request = request.header("content-type", "application/json").body(body);
    }
    let response = request.send().await.map_err(|error| crate::setup::api::root_cause(&error))?;
    let status = response.status().as_u16();
    // Read, so that the connection serves the next request too.
    response.bytes().await.map_err(|error| crate::setup::api::root_cause(&error))?;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn account(n: u64) -> Account {
        Account { id: n, username: format!("user-{n}"), token: format!("token-{n}") }
    }

    #[tokio::test]
    async fn floods_from_the_attackers_address_and_counts_what_was_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (counts, asked_for) = (Counts::default(), Mutex::new(Vec::new()));
        let serve = async {
            // Each connection carries one request. The third one ends the flood.
            for status in ["401 Unauthorized", "429 Too Many Requests", "503 Service Unavailable"] {
                let (mut socket, peer) = listener.accept().await.unwrap();
                let mut head = [0; 4_096];
                let length = socket.read(&mut head).await.unwrap();
                asked_for.lock().unwrap().push((peer.ip(), String::from_utf8_lossy(&head[..length]).into_owned()));
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
            while counts.asked().refused < 2 {
                tokio::task::yield_now().await;
            }
            counts.end();
        };
        let (flooders, victims) = ([account(1)], [account(7)]);
        let parties = Parties { flooders: &flooders, adders: &flooders, victims: &victims, seed: 1 };
        tokio::join!(serve, flood(&target, RequestFlood::SignIns, &parties, &counts));
        let asked = counts.asked();
        assert_eq!((asked.answered, asked.refused), (1, 2));
        for (ip, request) in asked_for.lock().unwrap().iter() {
            assert_eq!(*ip, ATTACKER);
            assert!(request.starts_with("POST /auth/login ") && request.contains("user-7"), "{request}");
        }
    }

    #[test]
    fn each_flood_asks_for_what_its_name_says() {
        let (flooders, adders, victims) = ([account(1)], [account(2), account(3)], [account(7)]);
        let parties = Parties { flooders: &flooders, adders: &adders, victims: &victims, seed: 9 };
        let of = |kind: RequestFlood, number| kind.ask(number, &parties);
        let profile = of(RequestFlood::Profile, 5);
        assert_eq!((profile.method.as_str(), profile.path.as_str()), ("PATCH", "/users/me"));
        let added = of(RequestFlood::Additions, 1);
        assert_eq!(added.token, Some("token-3"));
        assert!(added.body.is_some_and(|body| body.contains("\"member_ids\":[7]")));
        for number in 0..2 {
            let bad = of(RequestFlood::BadJson, number).body.unwrap();
            assert!(serde_json::from_str::<Value>(&bad).is_err());
        }
        let names: Vec<String> = (0..2).map(|n| of(RequestFlood::Registrations, n).body.unwrap()).collect();
        assert_ne!(names[0], names[1]);
    }
}
