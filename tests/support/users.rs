//! Users and what they ask for over HTTP. Every answer is held to the documents ([`protocol`]).

use super::{PATIENCE, Server, protocol, unique};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The password of every user made here.
pub const PASSWORD: &str = "correct horse battery";

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct User {
    /// Their number.
    pub id: i64,
    /// Their unique name.
    pub name: String,
    /// Access token.
    pub token: String,
    /// Refresh token.
    pub refresh_token: String,
}

/// What `code` gives: the stable code of a refusal.
pub type Code = String;

/// The text in a value.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("text expected: {value}"))
}

/// The stable code of a refusal.
#[track_caller]
pub fn code(refusal: &Value) -> Code {
    text(&refusal["code"]).to_owned()
}

/// The id in a `create_conversation` answer.
#[track_caller]
pub fn id_of(created: &Value) -> String {
    text(&created["conversation"]["id"]).to_owned()
}

impl User {
    /// From an answer of `/auth/…`.
    #[track_caller]
    pub fn from_answer(answer: &Value) -> Self {
        Self {
            id: answer["user"]["id"].as_i64().unwrap_or_else(|| panic!("{answer}")),
            name: text(&answer["user"]["username"]).to_owned(),
            token: text(&answer["access_token"]).to_owned(),
            refresh_token: text(&answer["refresh_token"]).to_owned(),
        }
    }
}

impl Server {
    /// An HTTP request; status and body.
    pub async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let name = method.to_string();
        let mut request =
            reqwest::Client::new().request(method, format!("{}{path}", self.base_url)).timeout(super::PATIENCE);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}\n{}", self.log_tail()));
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        let answer = response.bytes().await.unwrap();
        protocol::saw_answer(&protocol::Exchange {
            method: &name,
            target: path,
            sent: body,
            status,
            content_type: content_type.as_deref(),
            body: Some(&answer),
        });
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// POST with a body.
    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        self.request(reqwest::Method::POST, path, token, Some(body)).await
    }

    /// A new user.
    pub async fn register(&self) -> User {
        self.register_as(&unique("Test")).await
    }

    /// A new user with a name.
    pub async fn register_as(&self, name: &str) -> User {
        let body = json!({"username": name, "email": format!("{name}@example.org"), "password": PASSWORD});
        let (status, answer) = self.post("/auth/register", None, &body).await;
        assert_eq!(status, 201, "{answer}");
        User::from_answer(&answer)
    }

    /// A new session of a user.
    pub async fn login(&self, user: &User) -> User {
        let body = json!({"login": user.name, "password": PASSWORD});
        let (status, answer) = self.post("/auth/login", None, &body).await;
        assert_eq!(status, 200, "{answer}");
        User::from_answer(&answer)
    }

    /// A ticket for `/ws?ticket=`.
    pub async fn ticket(&self, user: &User) -> String {
        let (status, answer) = self.request(reqwest::Method::POST, "/ws-ticket", Some(&user.token), None).await;
        assert_eq!(status, 200, "{answer}");
        text(&answer["ticket"]).to_owned()
    }

    /// One command over HTTP: the ack's data, or the problem.
    pub async fn call(&self, user: &User, kind: &str, data: Value) -> Result<Value, Value> {
        let (status, answer) =
            self.post("/api/commands", Some(&user.token), &json!({"type": kind, "data": data})).await;
        if status == 200 { Ok(answer) } else { Err(answer) }
    }

    /// The same, which must succeed.
    pub async fn ok(&self, user: &User, kind: &str, data: Value) -> Value {
        let shown = format!("{kind} {data}");
        self.call(user, kind, data).await.unwrap_or_else(|problem| panic!("{shown}: {problem}\n{}", self.log_tail()))
    }

    /// A private room of these users; the first one owns it. Its log has one event: its creation.
    pub async fn room(&self, users: &[&User]) -> String {
        let members: Vec<i64> = users[1..].iter().map(|user| user.id).collect();
        let data = json!({"kind": "private_room", "name": unique("room"), "member_ids": members});
        id_of(&self.ok(users[0], "create_conversation", data).await)
    }

    /// All messages of a conversation in the order of their seq, as `user` sees them.
    pub async fn history(&self, user: &User, conversation: &str) -> Vec<Value> {
        let (mut messages, mut after) = (Vec::new(), json!(0));
        loop {
            let data = json!({"conversation_id": conversation, "after_seq": after, "limit": 200});
            let page = self.ok(user, "get_history", data).await;
            messages.extend(page["messages"].as_array().unwrap().iter().cloned());
            if page["has_more"] == false {
                return messages;
            }
            after = messages.last().unwrap()["seq"].clone();
        }
    }

    /// Searches until so many are found: the index is written a moment after the messages.
    pub async fn found_in_time(&self, user: &User, query: &str, many: usize) -> Value {
        let started = Instant::now();
        loop {
            let found = self.ok(user, "search_messages", json!({"query": query})).await;
            if found["messages"].as_array().unwrap().len() == many {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "{query:?}, {many} expected: {found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest seq of a conversation.
    pub async fn last_seq(&self, user: &User, conversation: &str) -> i64 {
        let answer = self.ok(user, "get_conversation", json!({"conversation_id": conversation})).await;
        answer["conversation"]["last_seq"].as_i64().unwrap()
    }
}
