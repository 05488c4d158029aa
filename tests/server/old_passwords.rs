//! Passwords that older versions hashed with bcrypt.
//!
//! How: the tests put hashes into the table of credentials, as a migration of old data does.

use crate::support::{PASSWORD, Server, User, code, server};
use serde_json::json;
use std::time::{Duration, Instant};

async fn stored_hash(server: &Server, user: &User) -> String {
    let text = format!("SELECT password_hash FROM credentials WHERE user_id = {}", user.id);
    server.database().await.query_one(&text, &[]).await.unwrap().get(0)
}

/// A user with this password hash.
async fn user_of(server: &Server, hash: &str) -> User {
    let user = server.register().await;
    let text = format!("UPDATE credentials SET password_hash = '{hash}' WHERE user_id = {}", user.id);
    server.database().await.batch_execute(&text).await.unwrap();
    user
}

#[tokio::test]
async fn an_old_hash_works_once_and_becomes_a_new_one() {
    let server = server().await;
    for prefix in ["$2a$", "$2b$", "$2y$"] {
        let old = bcrypt::hash(PASSWORD, 6).unwrap().replacen("$2b$", prefix, 1);
        let user = user_of(server, &old).await;
        let body = json!({"login": user.name, "password": "a wrong password"});
        let (status, answer) = server.post("/auth/login", None, &body).await;
        assert_eq!((status, code(&answer).as_str()), (401, "unauthenticated"));
        assert_eq!(stored_hash(server, &user).await, old);
        // Several devices at once: one rehashes, and all sign in.
        let signed_in = futures_util::future::join_all((0..4).map(|_| server.login(&user))).await;
        assert_eq!(signed_in.len(), 4);
        assert!(stored_hash(server, &user).await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        server.login(&user).await;
    }
}

#[tokio::test]
async fn an_old_hash_that_costs_too_much_is_refused_and_logged() {
    let server = Server::start(1, &[("security.bcrypt_cost", "8")]);
    let allowed = user_of(&server, &bcrypt::hash(PASSWORD, 8).unwrap()).await;
    server.login(&allowed).await;
    // A hash of cost 31 would take a core for days.
    let costly = bcrypt::hash(PASSWORD, 4).unwrap().replacen("$04$", "$31$", 1);
    let user = user_of(&server, &costly).await;
    let body = json!({"login": user.name, "password": PASSWORD});
    let answer = tokio::time::timeout(Duration::from_mins(1), server.post("/auth/login", None, &body)).await;
    let (status, answer) = answer.expect("nothing is computed");
    assert_eq!((status, code(&answer).as_str()), (401, "unauthenticated"));
    let log = server.log();
    assert!(log.contains("raise security.bcrypt_cost to 31"), "{log}");
}

/// A wait of the server cannot be shorter than it is meant to be, so that this holds on every machine.
#[tokio::test]
async fn a_wrong_password_takes_the_same_steps_for_every_account() {
    let server = Server::start(1, &[("security.bcrypt_cost", "12")]);
    let new = server.register().await;
    let wrong = async |login: &str| {
        let began = Instant::now();
        let body = json!({"login": login, "password": "a wrong password"});
        let (status, answer) = server.post("/auth/login", None, &body).await;
        (status, answer, began.elapsed())
    };
    let unknown = wrong("Nobody").await;
    let old = user_of(&server, &bcrypt::hash(PASSWORD, 6).unwrap()).await;
    for login in ["Nobody", "no name at all \u{0}", &new.name, &old.name] {
        let (status, answer, took) = wrong(login).await;
        assert_eq!((status, &answer), (401, &unknown.1), "{login}");
        assert!(took >= Duration::from_secs(1), "{login} was answered after {took:?}");
    }
    server.login(&old).await; // its hash is a new one from here on, and the last old one is gone
    let has_old = "SELECT EXISTS (SELECT FROM credentials WHERE password_hash LIKE '$2%')";
    assert!(!server.database().await.query_one(has_old, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(wrong(&old.name).await.1, unknown.1);
}
