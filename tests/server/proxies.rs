//! Reverse proxies: only those in `server.trusted_proxies` name the client's address.
//!
//! How: the test is the proxy. A sign-in records the client's address, and `GET /auth/sessions` shows it.

use crate::support::{PASSWORD, Server, User, server};
use serde_json::{Value, json};

/// The address that the server records for a sign-in with these headers.
async fn recorded(server: &Server, user: &User, headers: &[(&str, &str)]) -> String {
    let client = reqwest::Client::new();
    let login = json!({"login": user.name, "password": PASSWORD});
    let mut request = client.post(format!("{}/auth/login", server.base_url)).json(&login);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let (status, sessions) = server.request(reqwest::Method::GET, "/auth/sessions", Some(token), None).await;
    assert_eq!(status, 200, "{sessions}");
    let all = sessions["sessions"].as_array().or(sessions.as_array()).expect("sessions");
    let current = all.iter().find(|session| session["current"] == true).expect("the session of the request");
    current["ip"].as_str().unwrap().to_owned()
}

const CLAIMS: [(&str, &str); 2] = [("x-forwarded-for", "198.51.100.1, 203.0.113.9"), ("forwarded", "for=192.0.2.66")];

#[tokio::test]
async fn ignores_the_headers_of_untrusted_peers() {
    let ann = server().await.register().await;
    assert_eq!(recorded(server().await, &ann, &CLAIMS).await, "127.0.0.1");
    let server = Server::start(1, &[("server.trusted_proxies", "10.0.0.0/8,127.0.0.2")]);
    let ann = server.register().await;
    assert_eq!(recorded(&server, &ann, &CLAIMS).await, "127.0.0.1");
}

#[tokio::test]
async fn believes_the_last_untrusted_address_of_trusted_proxies() {
    let server = Server::start(1, &[("server.trusted_proxies", "10.0.0.0/8,127.0.0.1")]);
    let ann = server.register().await;
    for (value, address) in [
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("nonsense", "127.0.0.1"),
    ] {
        let headers = [("x-forwarded-for", value), CLAIMS[1]];
        assert_eq!(recorded(&server, &ann, &headers).await, address, "{value}");
    }
    assert_eq!(recorded(&server, &ann, &CLAIMS[1..]).await, "127.0.0.1", "this proxy does not write Forwarded");
}

#[tokio::test]
async fn reads_the_forwarded_header_if_the_proxies_write_it() {
    let settings = [("server.trusted_proxies", "127.0.0.1"), ("server.forwarded_header", "forwarded")];
    let server = Server::start(1, &settings);
    let ann = server.register().await;
    assert_eq!(recorded(&server, &ann, &CLAIMS).await, "192.0.2.66");
}
