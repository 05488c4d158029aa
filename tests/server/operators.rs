//! What only operators see, and the fields that every response carries.
//!
//! How: each test starts a server with the settings of an installation and asks over its ports.

use crate::support::{Raw, Server, server};
use chat_server::wire::response_fields::RESPONSE_FIELDS;
use serde_json::Value;
use std::net::SocketAddr;

const TOKEN: &str = "a token for programs, 32 bytes or more";

/// Status and body of a GET.
async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
    let mut request = reqwest::Client::new().get(format!("http://{address}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    // The stream of the dashboard is endless.
    let body = if path == "/dashboard/events" { String::new() } else { response.text().await.unwrap() };
    (status, body)
}

fn has_reasons(health: &str) -> bool {
    let health: Value = serde_json::from_str(health).unwrap();
    assert_eq!(health["status"], "ok");
    health.get("checks").is_some()
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn serves_operators_on_a_listener_of_their_own() {
    for environment in ["production", "development"] {
        let internal = free_address();
        let settings = [
            ("server.environment", environment),
            ("server.internal_addr", &internal.to_string()),
            ("server.metrics_token", TOKEN),
        ];
        let server = Server::start(1, &settings);
        for path in ["/metrics", "/dashboard", "/dashboard/page.js", "/dashboard/events"] {
            assert_eq!(get(server.address, path, Some(TOKEN)).await.0, 404, "{environment} {path}");
            assert_eq!(get(internal, path, None).await.0, 200, "{environment} {path}");
        }
        for path in ["/users/me", "/", "/auth/login"] {
            assert_eq!(get(internal, path, None).await.0, 404, "{environment} {path}");
        }
        for path in ["/health", "/health/ready"] {
            let (status, health) = get(internal, path, None).await;
            assert!(status == 200 && has_reasons(&health), "{health}");
        }
    }
}

#[tokio::test]
async fn shows_metrics_and_reasons_to_operators_only_outside_development() {
    let settings =
        [("server.environment", "production"), ("server.metrics_token", TOKEN), ("security.admin_user_ids", "1")];
    let server = Server::start(1, &settings);
    let (admin, other) = (server.register().await, server.register().await);
    assert_eq!(admin.id, 1, "the first user of a new server");
    for (token, metrics, is_operator) in [
        (None, 401, false),
        (Some(&TOKEN[1..]), 401, false),
        (Some(other.token.as_str()), 403, false),
        (Some(admin.token.as_str()), 200, true),
        (Some(TOKEN), 200, true),
    ] {
        assert_eq!(get(server.address, "/metrics", token).await.0, metrics, "{token:?}");
        assert_eq!(get(server.address, "/dashboard/events", token).await.0, metrics, "{token:?}");
        for path in ["/health", "/health/ready"] {
            let (status, health) = get(server.address, path, token).await;
            assert_eq!((status, has_reasons(&health)), (200, is_operator), "{token:?}: {health}");
        }
    }
    assert_eq!(get(server.address, "/health/live", None).await, (200, r#"{"status":"ok"}"#.to_owned()));
}

#[tokio::test]
async fn shows_no_reasons_to_a_revoked_administrator_or_one_without_the_required_factor() {
    let settings = [("server.environment", "production"), ("security.admin_user_ids", "1")];
    let server = Server::start(1, &settings);
    let admin = server.register().await;
    let health = async |token: &str| get(server.address, "/health/ready", Some(token)).await;
    assert!(has_reasons(&health(&admin.token).await.1));
    assert_eq!(server.request(reqwest::Method::POST, "/auth/logout", Some(&admin.token), None).await.0, 204);
    let (status, revoked) = health(&admin.token).await;
    assert_eq!((status, has_reasons(&revoked)), (200, false), "the token is valid, the session is not: {revoked}");

    let settings = [&settings[..], &[("security.two_factor_required", "admin")]].concat();
    let server = Server::start(1, &settings);
    let admin = server.register().await;
    let (status, not_enrolled) = get(server.address, "/health/ready", Some(&admin.token)).await;
    assert_eq!((status, has_reasons(&not_enrolled)), (200, false), "{not_enrolled}");
}

#[tokio::test]
async fn protects_every_response_from_framing_sniffing_and_storing() {
    let server = server().await;
    let ann = server.register().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let upgrade = Raw::upgrade_head(&ann, "veza.v1.json");
    for (request, is_page) in [
        (get("/"), true),
        (get("/web/main.js"), true),
        (get("/dashboard"), true),
        (get("/dashboard/page.js"), false),
        (get("/metrics"), false),
        (get("/health"), false),
        (get("/users/me"), false),
        (get("/nowhere"), false),
        // A shard answers these.
        (get("/").replace("Host: test\r\n", ""), false),
        (upgrade.replace("Bearer ", "Bearer x"), false),
        (upgrade.replacen("\r\n", "\r\nOrigin: null\r\n", 1), false),
    ] {
        let mut raw = Raw::connect(server).await;
        raw.write(request.as_bytes()).await.unwrap();
        let head = raw.head().await;
        for (name, value) in RESPONSE_FIELDS {
            let fields = head.lines().filter_map(|line| line.split_once(": "));
            let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            let (first, second) = (found.next().unwrap_or_default(), found.next());
            assert_eq!(second, None, "{name} of {request}\n{head}");
            let own_policy = is_page && name == "content-security-policy" && first.contains("frame-ancestors 'none'");
            assert!(first == value || own_policy, "{name} of {request}\n{head}");
        }
    }
}
