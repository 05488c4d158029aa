//! Passwords that few guesses find are refused, and a password is the same on every keyboard.
//!
//! How: users register, sign in and change their password with such passwords.

use crate::support::{PASSWORD, Server, User, code, server, text, unique};
use serde_json::{Value, json};

async fn register(server: &Server, name: &str, password: &str) -> (u16, Value) {
    let display_name = "Annabella Lovelace";
    let email = format!("{name}.bluebird@example.org");
    let body = json!({"username": name, "email": email, "password": password, "display_name": display_name});
    server.post("/auth/register", None, &body).await
}

#[tokio::test]
async fn refuses_passwords_that_few_guesses_find() {
    let server = server().await;
    let name = unique("Secret");
    for (password, reason) in [
        ("aaaaaaaaaaaaaaaa".to_owned(), "easy to guess"),
        ("abcdefgh1234".to_owned(), "easy to guess"),
        ("P@ssw0rd2024".to_owned(), "easy to guess"),
        ("Lovelace2026".to_owned(), "your name or address"),
        ("bluebird12".to_owned(), "your name or address"),
        (format!("{name}1"), "your name or address"),
    ] {
        let (status, problem) = register(server, &name, &password).await;
        assert_eq!((status, code(&problem).as_str()), (400, "bad_request"), "{password}: {problem}");
        let detail = text(&problem["detail"]);
        assert!(detail.starts_with("password: ") && detail.contains(reason), "{password}: {detail}");
    }
    let (status, answer) = register(server, &name, PASSWORD).await;
    assert_eq!(status, 201, "{answer}");
    let user = User::from_answer(&answer);
    for weak in ["abcdefgh1234", "Lovelace2026"] {
        let body = json!({"current_password": PASSWORD, "new_password": weak});
        let (status, problem) = server.post("/auth/password", Some(&user.token), &body).await;
        assert_eq!(status, 400, "{weak}: {problem}");
        assert!(text(&problem["detail"]).starts_with("new_password: "), "{problem}");
    }
}

#[tokio::test]
async fn accepts_a_password_in_every_form_of_its_characters() {
    let server = server().await;
    let name = unique("Accents");
    let (composed, decomposed) = ("Zo\u{eb} horse battery", "Zoe\u{308} horse battery");
    assert_eq!(register(server, &name, decomposed).await.0, 201);
    for password in [composed, decomposed] {
        let (status, answer) = server.post("/auth/login", None, &json!({"login": name, "password": password})).await;
        assert_eq!(status, 200, "{answer}");
    }
}
