//! Users and their HTTP requests. Every answer is checked against the documents ([`protocol`]).

use super::{PATIENCE, Server, protocol, unique};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The password of every user that [`Server::register`] creates.
pub const PASSWORD: &str = "correct horse battery";

/// A user with a session.
#[derive(Clone, Debug)]
pub struct User {
    /// User id.
    pub id: i64,
    /// Username.
    pub name: String,
    /// Access token.
    pub token: String,
    /// Refresh token.
    pub refresh_token: String,
}

/// A stable error code.
pub type Code = String;

/// The string in a value.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string: {value}"))
}

/// The stable code of an error.
#[track_caller]
pub fn code(error: &Value) -> Code {
    text(&error["code"]).to_owned()
}

/// The conversation id in an answer of `create_conversation`.
#[track_caller]
pub fn id_of(created: &Value) -> String {
    text(&created["conversation"]["id"]).to_owned()
}

impl User {
    /// Reads an answer of `/auth/register` or `/auth/login`.
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
    /// Sends an HTTP request. Returns status and body.
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
        protocol::assert_answer(&protocol::Exchange {
            method: &name,
            target: path,
            sent: body,
            status,
            content_type: content_type.as_deref(),
            body: Some(&answer),
        });
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// Sends a POST request. Returns status and body.
    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        self.request(reqwest::Method::POST, path, token, Some(body)).await
    }

    /// Registers a user.
    pub async fn register(&self) -> User {
        self.register_as(&unique("Test")).await
    }

    /// Registers users, a few at a time: each registration hashes a password and has a deadline.
    pub async fn register_many(&self, count: usize) -> Vec<User> {
        stream::iter(0..count).map(|_| self.register()).buffered(4).collect().await
    }

    /// Registers a user with this name.
    pub async fn register_as(&self, name: &str) -> User {
        let body = json!({"username": name, "email": format!("{name}@example.org"), "password": PASSWORD});
        let (status, answer) = self.post("/auth/register", None, &body).await;
        assert_eq!(status, 201, "{answer}");
        User::from_answer(&answer)
    }

    /// Opens a new session of a user.
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

    /// Runs a command over HTTP. Returns the data of the ack, or the problem.
    pub async fn call(&self, user: &User, kind: &str, data: Value) -> Result<Value, Value> {
        let (status, answer) =
            self.post("/api/commands", Some(&user.token), &json!({"type": kind, "data": data})).await;
        if status == 200 { Ok(answer) } else { Err(answer) }
    }

    /// Runs a command over HTTP that must succeed.
    pub async fn ok(&self, user: &User, kind: &str, data: Value) -> Value {
        let shown = format!("{kind} {data}");
        self.call(user, kind, data).await.unwrap_or_else(|problem| panic!("{shown}: {problem}\n{}", self.log_tail()))
    }

    /// Creates a private room of these users; the first one owns it. Its log has one event, its creation.
    pub async fn room(&self, users: &[&User]) -> String {
        let members: Vec<i64> = users[1..].iter().map(|user| user.id).collect();
        let data = json!({"kind": "private_room", "name": unique("room"), "member_ids": members});
        id_of(&self.ok(users[0], "create_conversation", data).await)
    }

    /// All messages of a conversation by seq, as `user` reads them.
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

    /// Repeats a search until it finds this many messages, since the server indexes messages after it commits them.
    pub async fn found_in_time(&self, user: &User, query: &str, many: usize) -> Value {
        let started = Instant::now();
        loop {
            let found = self.ok(user, "search_messages", json!({"query": query})).await;
            if found["messages"].as_array().unwrap().len() == many {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "{query:?} must find {many}: {found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest seq of a conversation.
    pub async fn last_seq(&self, user: &User, conversation: &str) -> i64 {
        let answer = self.ok(user, "get_conversation", json!({"conversation_id": conversation})).await;
        answer["conversation"]["last_seq"].as_i64().unwrap()
    }
}
