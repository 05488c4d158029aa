//! A row of the audit trail has the address and the device of the request that caused it, not those of the sign-in: a
//! stolen token shows where it was used.
//!
//! How: the test is a trusted proxy. It signs in as one client and changes something as another one, over HTTP and over
//! WebSockets, with `X-Forwarded-For` and with a PROXY header.

use crate::audit::{Entry, entries_of};
use crate::support::{Client, Format, PASSWORD, Server, User, id_of, text, unique, upgrade};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// A client behind the proxy.
struct Place {
    address: &'static str,
    agent: &'static str,
}

const HOME: Place = Place { address: "198.51.100.7", agent: "Phone/1" };
const ABROAD: Place = Place { address: "203.0.113.9", agent: "Thief/2" };

/// Status and body of a request from there.
async fn send(server: &Server, from: &Place, method: Method, path: &str, token: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().request(method, format!("{}{path}", server.base_url));
    let request = request.header("x-forwarded-for", from.address).header("user-agent", from.agent);
    let response = request.bearer_auth(token).json(&body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

async fn sign_in(server: &Server, from: &Place, user: &User) -> User {
    let body = json!({"login": user.name, "password": PASSWORD});
    let (status, answer) = send(server, from, Method::POST, "/auth/login", "", body).await;
    assert_eq!(status, 200, "{answer}");
    User::from_answer(&answer)
}

#[track_caller]
fn assert_from(entry: &Entry, action: &str, place: &Place) {
    let found = (entry.action.as_str(), entry.address.as_deref(), entry.device.as_deref());
    assert_eq!(found, (action, Some(place.address), Some(place.agent)));
}

#[tokio::test]
async fn rows_name_the_request_that_caused_them() {
    let settings = [("server.trusted_proxies", "127.0.0.1"), ("security.admin_user_ids", "1")];
    let server = Server::start(2, &settings);
    let database = server.database().await;
    let (registered, bob) = (server.register().await, server.register().await);
    assert_eq!(registered.id, 1);
    let ann = sign_in(&server, &HOME, &registered).await;
    let newest = async || entries_of(&database, ann.id).await.remove(0);
    assert_from(&newest().await, "sign_in", &HOME);

    let edit = json!({"bio": "I was here"});
    assert_eq!(send(&server, &ABROAD, Method::PATCH, "/users/me", &ann.token, edit).await.0, 200);
    assert_from(&newest().await, "update_profile", &ABROAD);
    let room = json!({"type": "create_conversation", "data": {"kind": "public_room", "name": unique("room")}});
    let (status, created) = send(&server, &ABROAD, Method::POST, "/api/commands", &ann.token, room).await;
    assert_eq!(status, 200, "{created}");
    assert_from(&newest().await, "create_conversation", &ABROAD);
    assert_eq!(send(&server, &ABROAD, Method::GET, "/admin/audit?limit=1", &ann.token, Value::Null).await.0, 200);
    assert_from(&newest().await, "read_audit", &ABROAD);
    let rules = send(&server, &ABROAD, Method::PUT, "/admin/filter-rules", &ann.token, json!({"rules": []})).await;
    assert_eq!(rules.0, 200, "{}", rules.1);
    assert_from(&newest().await, "replace_filter_rules", &ABROAD);

    // The connection was opened from there; the session is the same.
    let bearer = format!("Bearer {}", ann.token);
    let headers =
        [("authorization", bearer.as_str()), ("x-forwarded-for", ABROAD.address), ("user-agent", ABROAD.agent)];
    let socket = upgrade(&server, "/ws?subscribe=none", &headers, None).await.unwrap();
    let mut client = Client::welcomed(socket, Format::Json).await.unwrap();
    client.ok("block_user", json!({"user_id": bob.id})).await;
    assert_from(&newest().await, "block_user", &ABROAD);
    let here = json!({"conversation_id": id_of(&created)});
    client.ok("archive_conversation", here).await;
    assert_from(&newest().await, "archive_conversation", &ABROAD);
    // A client without a User-Agent has the device of its session.
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", "2001:db8::7")];
    let socket = upgrade(&server, "/ws?subscribe=none", &headers, None).await.unwrap();
    let mut client = Client::welcomed(socket, Format::Json).await.unwrap();
    client.ok("unblock_user", json!({"user_id": bob.id})).await;
    assert_from(&newest().await, "unblock_user", &Place { address: "2001:db8::7", ..HOME });

    let body = json!({"current_password": PASSWORD, "new_password": PASSWORD});
    assert_eq!(send(&server, &ABROAD, Method::POST, "/auth/password", &ann.token, body).await.0, 204);
    assert_from(&newest().await, "change_password", &ABROAD);
    let other = sign_in(&server, &HOME, &registered).await;
    let id = newest().await.session.unwrap();
    let path = format!("/auth/sessions/{id}");
    assert_eq!(send(&server, &ABROAD, Method::DELETE, &path, &ann.token, Value::Null).await.0, 204);
    assert_from(&newest().await, "revoke_session", &ABROAD);
    drop(other);
    let mut tokens = vec![ann.refresh_token.clone()];
    for _ in 0..2 {
        let body = json!({"refresh_token": tokens.last()});
        let (status, answer) = send(&server, &HOME, Method::POST, "/auth/refresh", "", body).await;
        assert_eq!(status, 200, "{answer}");
        tokens.push(text(&answer["refresh_token"]).to_owned());
    }
    let stolen = json!({"refresh_token": tokens[0]});
    assert_eq!(send(&server, &ABROAD, Method::POST, "/auth/refresh", "", stolen).await.1["code"], "refresh_reused");
    assert_from(&newest().await, "revoke_session", &ABROAD);
    let ann = sign_in(&server, &HOME, &registered).await;
    assert_eq!(send(&server, &ABROAD, Method::POST, "/auth/logout-all", &ann.token, Value::Null).await.0, 204);
    assert_from(&newest().await, "sign_out_all", &ABROAD);
}

#[tokio::test]
async fn rows_name_the_client_of_the_proxy_header_of_a_websocket() {
    let settings = [("server.trusted_proxies", "127.0.0.2"), ("server.proxy_protocol", "true")];
    let server = Server::start(2, &settings);
    let database = server.database().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let registered = entries_of(&database, ann.id).await.remove(0);
    assert_eq!(registered.address.as_deref(), Some("127.0.0.1"));

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let client = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let header = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0, client.len() as u8], &client].concat();
    stream.write_all(&header).await.unwrap();
    let mut request = format!("ws://{}/ws?subscribe=none", server.address).into_client_request().unwrap();
    let fields = request.headers_mut();
    fields.insert("authorization", HeaderValue::from_str(&format!("Bearer {}", ann.token)).unwrap());
    fields.insert("user-agent", HeaderValue::from_static(ABROAD.agent));
    // The header of HTTP may be the client's own.
    fields.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.66"));
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut client = Client::welcomed(socket, Format::Json).await.unwrap();
    client.ok("block_user", json!({"user_id": bob.id})).await;
    assert_from(&entries_of(&database, ann.id).await.remove(0), "block_user", &ABROAD);
}
