//! No socket survives the end of its session, not even one that is being admitted at that moment.
//!
//! How: hundreds of upgrades of one user run beside `POST /auth/logout-all`, and beside a change of the password from
//! another session. Each upgrade is either refused, or its socket is closed with 4002.

use crate::support::{Client, Format, PASSWORD, Received, Server, User, code, upgrade};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

/// Upgrades in one round.
const UPGRADES: usize = 120;
/// How long a socket may take to end. The server closes it within a second; a slow machine may take longer.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What becomes of an upgrade: whether a socket was opened. Fails if it stays open.
async fn outcome(server: &Server, user: &User, ticket: Option<String>) -> bool {
    let opened = match &ticket {
        Some(ticket) => {
            let headers = [("sec-websocket-protocol", Format::Json.subprotocol())];
            match upgrade(server, &format!("/ws?ticket={ticket}"), &headers, None).await {
                Ok(socket) => Client::welcomed(socket, Format::Json).await,
                Err(_) => return false,
            }
        }
        None => Client::try_open(server, user, Format::MessagePack, "/ws").await,
    };
    let Ok(mut client) = opened else { return false };
    let ended = tokio::time::timeout(ENDS_WITHIN, client.end()).await;
    match ended.expect("a socket has survived the end of its session") {
        Received::Closed(code, _) => assert_eq!(code, 4002),
        Received::Lost(_) => {}
        Received::Frame(frame) => panic!("{frame}"),
    }
    true
}

#[tokio::test]
async fn closes_sockets_that_are_admitted_while_their_sessions_end() {
    let settings = [("limits.max_connections_per_user", "1000"), ("limits.max_messages_per_minute", "100000")];
    let server = Server::start(2, &settings);
    let owner = server.register().await;
    let mut opened = 0;
    for round in 0..6 {
        let user = server.login(&owner).await;
        let tickets = join_all((0..UPGRADES / 4).map(|_| server.ticket(&user))).await;
        let tickets = tickets.into_iter().map(Some).chain(std::iter::repeat(None)).take(UPGRADES);
        let upgrades = join_all(tickets.enumerate().map(async |(n, ticket)| {
            // Some upgrades are complete when the session ends, some are under way, some begin later.
            tokio::time::sleep(Duration::from_millis(n as u64)).await;
            outcome(&server, &user, ticket).await
        }));
        let ending = async {
            tokio::time::sleep(Duration::from_millis(UPGRADES as u64 / 2)).await;
            if round % 2 == 0 {
                let (status, _) = server.request(Method::POST, "/auth/logout-all", Some(&user.token), None).await;
                assert_eq!(status, 204);
            } else {
                let other = server.login(&owner).await;
                let body = json!({"current_password": PASSWORD, "new_password": PASSWORD});
                let (status, problem) = server.post("/auth/password", Some(&other.token), &body).await;
                assert_eq!(status, 204, "{problem}");
            }
        };
        let (outcomes, ()) = tokio::join!(upgrades, ending);
        opened += outcomes.into_iter().filter(|opened| *opened).count();
        let late = server.call(&user, "ping", json!({})).await.unwrap_err();
        assert_eq!(code(&late), "unauthenticated");
    }
    assert!(opened > 6, "only {opened} sockets were opened before their sessions ended");
}
