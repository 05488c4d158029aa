//! Accounts over HTTP: registration, login, sessions, refresh tokens, profiles and user search, also with stolen
//! tokens.
//!
//! How: each test creates its own users on a shared server.

use crate::support;
use crate::support::protocol;
use crate::support::{Server, code};
use chat_server::address::RequestSource;
use chat_server::auth::random_token;
use chat_server::storage::accounts::Accounts;
use chat_server::storage::accounts::rotation::{RefreshExchange, Rotation};
use chat_server::storage::connect::Role;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

const PASSWORD: &str = "correct horse battery";

struct Api {
    client: Client,
    base_url: String,
}

struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Api {
    async fn new() -> Self {
        let server = support::server().await;
        Self { client: Client::new(), base_url: server.base_url.clone() }
    }

    async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let name = method.to_string();
        let mut request = self.client.request(method, format!("{}{path}", self.base_url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = response.bytes().await.unwrap();
        protocol::assert_answer(&protocol::Exchange {
            method: &name,
            target: path,
            sent: body.as_ref(),
            status: status.as_u16(),
            content_type: headers.get("content-type").map(|value| value.to_str().unwrap()),
            body: Some(&answer),
        });
        Answer { status, headers, body: serde_json::from_slice(&answer).unwrap_or(Value::Null) }
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, Some(token), None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, None, Some(body)).await
    }

    async fn login(&self, login: &str, password: &str) -> Answer {
        self.post("/auth/login", json!({"login": login, "password": password})).await
    }

    async fn refresh(&self, token: &Value) -> Answer {
        self.post("/auth/refresh", json!({"refresh_token": token})).await
    }

    /// Registers a user. Returns the username and the answer.
    async fn register(&self) -> (String, Value) {
        let username = new_username();
        let email = format!("{username}@example.org");
        let body = json!({"username": username, "email": email, "password": PASSWORD});
        let answer = self.post("/auth/register", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        (username, answer.body)
    }
}

impl Answer {
    #[track_caller]
    fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
    }
}

fn new_username() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    format!("Test_{:x}_{}", now & 0xffff_ffff_ffff, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn returns_the_user_and_tokens_after_registration() {
    let api = Api::new().await;
    let (username, body) = api.register().await;
    assert_eq!(body["token_type"], "Bearer");
    assert!(body["expires_in"].as_i64().unwrap() > 0);
    let user = body["user"].as_object().unwrap();
    let mut keys: Vec<_> = user.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["avatar_url", "bio", "created_at", "display_name", "id", "username"]);
    assert_eq!((&user["username"], &user["display_name"]), (&json!(username), &json!(username)));
    let created_at = text(&user["created_at"]);
    assert!(created_at.len() == 24 && created_at.ends_with('Z') && &created_at[19..20] == ".", "{created_at}");
    let me = api.get("/users/me", text(&body["access_token"])).await;
    let mut own = body["user"].clone();
    own["read_receipts"] = json!("public");
    own["group_invitations"] = json!("everyone");
    assert_eq!((me.status.as_u16(), &me.body), (200, &own));
    assert_eq!(me.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn refuses_usernames_and_emails_that_differ_only_in_case() {
    let api = Api::new().await;
    let (username, _) = api.register().await;
    let upper = username.to_uppercase();
    let taken = json!({"username": upper, "email": format!("other-{username}@example.org"), "password": PASSWORD});
    let answer = api.post("/auth/register", taken).await;
    answer.assert_problem(409, "conflict");
    assert!(text(&answer.body["detail"]).starts_with("username: "));
    let taken = json!({"username": new_username(), "email": format!("{upper}@EXAMPLE.org"), "password": PASSWORD});
    let answer = api.post("/auth/register", taken).await;
    answer.assert_problem(409, "conflict");
    assert!(text(&answer.body["detail"]).starts_with("email: "));
    for login in [upper.clone(), format!("{upper}@example.ORG")] {
        assert_eq!(api.login(&login, PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn accepts_one_of_concurrent_registrations_of_a_username() {
    let api = Api::new().await;
    let username = new_username();
    let attempts = (0..4).map(|n| {
        let email = format!("{n}-{username}@example.org");
        api.post("/auth/register", json!({"username": username, "email": email, "password": PASSWORD}))
    });
    let mut statuses: Vec<_> =
        futures_util::future::join_all(attempts).await.iter().map(|a| a.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
}

#[tokio::test]
async fn answers_unknown_users_and_wrong_passwords_alike() {
    let server = support::Server::start(2, &[]);
    let api = Api { client: Client::new(), base_url: server.base_url.clone() };
    let (username, _) = api.register().await;
    let wrong = api.login(&username, "wrong horse battery").await;
    let unknown = api.login(&new_username(), "wrong horse battery").await;
    wrong.assert_problem(401, "unauthenticated");
    assert_eq!((wrong.status, &wrong.body), (unknown.status, &unknown.body));
    for odd in ["", "\0", "nobody\0@example.org", &"x".repeat(300)] {
        assert_eq!(api.login(odd, PASSWORD).await.body, wrong.body, "{odd:?}");
    }
    // The answers also cost the same: the server hashes a password for unknown users too. CPU time instead of elapsed
    // time, since other processes do not change it; the server is the test's own.
    let mut ticks = [0, 0];
    for (ticks, login) in ticks.iter_mut().zip([&username, "unknown-username"]) {
        let before = server.cpu_ticks();
        for _ in 0..20 {
            api.login(login, "wrong horse battery").await;
        }
        *ticks = server.cpu_ticks() - before;
    }
    let [known, unknown] = ticks;
    assert!(known < 2 * unknown && unknown < 2 * known, "known: {known} ticks, unknown: {unknown} ticks");
}

/// Makes the used refresh tokens of a session older than the grace period.
async fn age_refresh_tokens(session: &Value) {
    let database = support::server().await.database().await;
    let user = session["user"]["id"].as_i64().unwrap();
    let aged =
        "UPDATE refresh_tokens SET spent_at = spent_at - interval '31 s' WHERE user_id = $1 AND spent_at IS NOT NULL";
    assert!(database.execute(aged, &[&user]).await.unwrap() > 0);
}

#[tokio::test]
async fn ends_the_session_when_a_refresh_token_is_reused_after_the_grace() {
    let api = Api::new().await;
    let (_, first) = api.register().await;
    let second = api.refresh(&first["refresh_token"]).await;
    assert_eq!(second.status, 200, "{}", second.body);
    assert_ne!(second.body["refresh_token"], first["refresh_token"]);
    assert_eq!(api.get("/users/me", text(&second.body["access_token"])).await.status, 200);
    age_refresh_tokens(&first).await;
    api.refresh(&first["refresh_token"]).await.assert_problem(401, "refresh_reused");
    api.refresh(&second.body["refresh_token"]).await.assert_problem(401, "refresh_invalid");
    for tokens in [&first, &second.body] {
        api.get("/users/me", text(&tokens["access_token"])).await.assert_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn repeats_a_lost_answer_to_a_refresh() {
    let api = Api::new().await;
    let (_, first) = api.register().await;
    let lost = api.refresh(&first["refresh_token"]).await;
    let again = api.refresh(&first["refresh_token"]).await;
    assert_eq!((lost.status.as_u16(), again.status.as_u16()), (200, 200), "{}", again.body);
    assert_eq!(lost.body["refresh_token"], again.body["refresh_token"], "the same successor");
    assert_eq!(api.get("/users/me", text(&again.body["access_token"])).await.status, 200);
    assert_eq!(api.refresh(&again.body["refresh_token"]).await.status, 200, "the session goes on");
}

#[tokio::test]
async fn answers_parallel_refreshes_with_one_successor() {
    let api = Api::new().await;
    let (_, first) = api.register().await;
    let answers = futures_util::future::join_all((0..8).map(|_| api.refresh(&first["refresh_token"]))).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["refresh_token"], answers[0].body["refresh_token"]);
        assert_eq!(api.get("/users/me", text(&answer.body["access_token"])).await.status, 200);
    }
    let sessions = api.get("/auth/sessions", text(&answers[0].body["access_token"])).await.body;
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(api.refresh(&answers[7].body["refresh_token"]).await.status, 200);
}

#[tokio::test]
async fn ends_the_session_when_the_successor_was_used_too() {
    let api = Api::new().await;
    let (_, first) = api.register().await;
    let second = api.refresh(&first["refresh_token"]).await.body;
    let third = api.refresh(&second["refresh_token"]).await.body;
    assert_eq!(api.refresh(&second["refresh_token"]).await.body["refresh_token"], third["refresh_token"]);
    api.refresh(&first["refresh_token"]).await.assert_problem(401, "refresh_reused");
    api.refresh(&third["refresh_token"]).await.assert_problem(401, "refresh_invalid");
    api.get("/users/me", text(&third["access_token"])).await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn grants_no_grace_to_revoked_sessions() {
    let api = Api::new().await;
    let (_, first) = api.register().await;
    let second = api.refresh(&first["refresh_token"]).await.body;
    api.call(Method::POST, "/auth/logout", Some(text(&second["access_token"])), None).await;
    api.refresh(&first["refresh_token"]).await.assert_problem(401, "refresh_invalid");
}

#[tokio::test]
async fn keeps_other_sessions_when_a_refresh_token_is_reused() {
    let api = Api::new().await;
    let (username, first) = api.register().await;
    let other = api.login(&username, PASSWORD).await.body;
    api.refresh(&first["refresh_token"]).await;
    age_refresh_tokens(&first).await;
    api.refresh(&first["refresh_token"]).await.assert_problem(401, "refresh_reused");
    assert_eq!(api.refresh(&other["refresh_token"]).await.status, 200);
}

#[tokio::test]
async fn refuses_tokens_that_the_server_did_not_issue() {
    let api = Api::new().await;
    for token in ["", "x", &"x".repeat(43), &"x".repeat(5_000)] {
        api.refresh(&json!(token)).await.assert_problem(401, "refresh_invalid");
    }
    let refused = api.get("/users/me", "a.b.c").await;
    refused.assert_problem(401, "unauthenticated");
    assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
}

#[tokio::test]
async fn ends_one_session_on_logout_and_all_on_logout_all() {
    let api = Api::new().await;
    let (username, first) = api.register().await;
    let second = api.login(&username, PASSWORD).await.body;
    let third = api.login(&username, PASSWORD).await.body;
    let logout = |path: &'static str, tokens: &Value| {
        let token = text(&tokens["access_token"]).to_owned();
        let api = &api;
        async move { api.call(Method::POST, path, Some(&token), None).await.status.as_u16() }
    };
    assert_eq!(logout("/auth/logout", &first).await, 204);
    assert_eq!(logout("/auth/logout", &first).await, 401);
    api.refresh(&first["refresh_token"]).await.assert_problem(401, "refresh_invalid");
    assert_eq!(api.get("/users/me", text(&second["access_token"])).await.status, 200);
    assert_eq!(logout("/auth/logout-all", &second).await, 204);
    for tokens in [&second, &third] {
        assert_eq!(api.get("/users/me", text(&tokens["access_token"])).await.status, 401);
    }
}

#[tokio::test]
async fn lists_own_sessions_and_revokes_no_others() {
    let api = Api::new().await;
    let (username, first) = api.register().await;
    let body = json!({"login": username, "password": PASSWORD, "device_name": "phone"});
    let second = api.post("/auth/login", body).await.body;
    let (_, stranger) = api.register().await;
    let token = text(&second["access_token"]);
    let list = api.get("/auth/sessions", token).await.body;
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let current = sessions.iter().find(|session| session["current"] == true).unwrap();
    assert_eq!(current["device_name"], "phone");
    assert!(!text(&current["ip"]).is_empty() && text(&current["last_used_at"]).ends_with('Z'));
    let other = sessions.iter().find(|session| session["current"] == false).unwrap();
    let path = format!("/auth/sessions/{}", other["id"]);
    let (api, path) = (&api, &path);
    let delete = |token| async move { api.call(Method::DELETE, path, Some(token), None).await.status };
    assert_eq!(delete(text(&stranger["access_token"])).await, 404);
    assert_eq!(api.get("/users/me", text(&first["access_token"])).await.status, 200);
    assert_eq!(delete(token).await, 204);
    assert_eq!(delete(token).await, 404);
    assert_eq!(api.get("/users/me", text(&first["access_token"])).await.status, 401);
    assert_eq!(api.get("/auth/sessions", token).await.body["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn ends_other_sessions_on_a_password_change() {
    let api = Api::new().await;
    let (username, first) = api.register().await;
    let second = api.login(&username, PASSWORD).await.body;
    let token = text(&first["access_token"]);
    let change = |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        api.call(Method::POST, "/auth/password", Some(token), Some(body))
    };
    change("wrong horse battery", "another horse battery").await.assert_problem(403, "forbidden");
    change(PASSWORD, "short").await.assert_problem(400, "bad_request");
    assert_eq!(change(PASSWORD, "another horse battery").await.status, 204);
    assert_eq!(api.get("/users/me", token).await.status, 200);
    assert_eq!(api.get("/users/me", text(&second["access_token"])).await.status, 401);
    api.login(&username, PASSWORD).await.assert_problem(401, "unauthenticated");
    assert_eq!(api.login(&username, "another horse battery").await.status, 200);
}

#[tokio::test]
async fn reads_edits_and_finds_profiles() {
    let api = Api::new().await;
    let (username, ann) = api.register().await;
    let (_, bob) = api.register().await;
    let token = text(&ann["access_token"]);
    let edit = |body: Value| api.call(Method::PATCH, "/users/me", Some(token), Some(body));
    let both = json!({"display_name": " Änn 100% ", "avatar_url": "https://example.org/a.png",
        "bio": " I read.\nA lot. ", "read_receipts": "private"});
    let mut edited = edit(both).await;
    assert_eq!(edited.status, 200, "{}", edited.body);
    assert_eq!(edited.body["display_name"], "Änn 100%");
    let read_by_bob = api.get(&format!("/users/{}", ann["user"]["id"]), text(&bob["access_token"])).await;
    assert_eq!((&edited.body["bio"], &edited.body["read_receipts"]), (&json!("I read.\nA lot."), &json!("private")));
    edited.body.as_object_mut().unwrap().remove("read_receipts");
    edited.body.as_object_mut().unwrap().remove("group_invitations");
    assert_eq!(read_by_bob.body, edited.body, "other users do not see the setting for read receipts");
    assert_eq!(edit(json!({"bio": null})).await.body["bio"], Value::Null);
    assert_eq!(edit(json!({"avatar_url": null})).await.body["avatar_url"], Value::Null);
    assert_eq!(edit(json!({})).await.body["display_name"], "Änn 100%");
    for bad in [
        json!({"display_name": ""}),
        json!({"display_name": "a\u{0}b"}),
        json!({"avatar_url": "javascript:alert(1)"}),
        json!({"display_name": 7}),
        json!({"bio": "x".repeat(501)}),
        json!({"bio": ""}),
        json!({"read_receipts": "some"}),
    ] {
        edit(bad).await.assert_problem(400, "bad_request");
    }
    api.get("/users/9007199254740991", token).await.assert_problem(404, "not_found");
    api.get("/users/abc", token).await.assert_problem(400, "bad_request");

    let (api, ann) = (&api, &ann);
    let search = |query: String| async move {
        let answer = api.get(&format!("/users?query={query}"), token).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let users = answer.body["users"].as_array().unwrap().clone();
        users.into_iter().filter(|user| user["id"] == ann["user"]["id"]).count()
    };
    assert_eq!(search(username.to_lowercase()).await, 1);
    assert_eq!(
        search("%C3%84NN%20100%25".into()).await,
        1,
        "a display name without regard to ASCII case, in every locale"
    );
    assert_eq!(search("annette".into()).await, 0);
    assert_eq!(edit(json!({"display_name": "Ådne Ångström-Østby"})).await.status, 200);
    for found in ["angs", "Adne%20ang", "%C3%98stby", "-ang", "ostby"] {
        assert_eq!(search(found.into()).await, 1, "{found}: prefixes of words, without accents");
    }
    assert_eq!(search("ngstr".into()).await, 0);
    assert_eq!(edit(json!({"display_name": "Жанна Ω.Ψ. 山田太郎"})).await.status, 200);
    for found in ["Жан", "Жанна", "山田", "Ω.Ψ", "жаннА", "Жанна%20山"] {
        assert_eq!(search(found.into()).await, 1, "{found}: in any script");
    }
    assert_eq!(search("%25".into()).await, 0, "% is not a wildcard");
    assert_eq!(search(username.replace('_', "%25")).await, 0);
}

#[tokio::test]
async fn refuses_names_that_hide_something() {
    let api = Api::new().await;
    let (_, ann) = api.register().await;
    let token = text(&ann["access_token"]);
    for (bad, words) in [
        ("\u{200b}", "nothing visible"),
        ("\u{3164}", "nothing visible"),
        ("\u{2800}", "nothing visible"),
        ("a\nb", "one line"),
        ("a\u{1b}[2Jb", "U+001B"),
        ("\u{202c} x \u{202e} y", "U+202C"),
        ("\u{202e} a \u{2069}", "U+2069"),
    ] {
        let answer = api.call(Method::PATCH, "/users/me", Some(token), Some(json!({"display_name": bad}))).await;
        answer.assert_problem(400, "bad_request");
        let detail = text(&answer.body["detail"]);
        assert!(detail.starts_with("display_name: ") && detail.contains(words), "{bad:?}: {detail}");
    }
    for reserved in ["here", "ROOM"] {
        let body =
            json!({"username": reserved, "email": format!("{}@example.org", new_username()), "password": PASSWORD});
        let answer = api.post("/auth/register", body).await;
        answer.assert_problem(400, "bad_request");
        assert!(text(&answer.body["detail"]).contains("reserved"), "{}", answer.body);
    }
}

#[tokio::test]
async fn treats_equivalent_unicode_texts_as_equal() {
    let api = Api::new().await;
    let username = new_username();
    let (composed, decomposed) = ("Zo\u{eb}", "Zoe\u{308}");
    let body = json!({
        "username": username,
        "email": format!("{decomposed}-{username}@example.org"),
        "password": format!("{decomposed} horse battery"),
        "display_name": decomposed,
    });
    let answer = api.post("/auth/register", body).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["user"]["display_name"]),
        (201, &json!(composed)),
        "{}",
        answer.body
    );
    for form in [composed, decomposed] {
        let login = format!("{form}-{username}@example.org");
        for password in [composed, decomposed].map(|form| format!("{form} horse battery")) {
            assert_eq!(api.login(&login, &password).await.status, 200, "{login:?} {password:?}");
        }
        let taken = json!({"username": new_username(), "email": login, "password": PASSWORD});
        api.post("/auth/register", taken).await.assert_problem(409, "conflict");
    }
}

#[tokio::test]
async fn refuses_searches_without_query_and_limits_above_50() {
    let api = Api::new().await;
    let (_, ann) = api.register().await;
    let token = text(&ann["access_token"]);
    for bad in ["/users", "/users?query=", "/users?query=%00", "/users?query=a&limit=0", "/users?query=a&limit=51"] {
        api.get(bad, token).await.assert_problem(400, "bad_request");
    }
    assert_eq!(api.get("/users?query=a&limit=50", token).await.status, 200);
    api.call(Method::GET, "/users?query=a", None, None).await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn refuses_a_ticket_as_access_token() {
    let api = Api::new().await;
    let (_, ann) = api.register().await;
    let answer = api.call(Method::POST, "/ws-ticket", Some(text(&ann["access_token"])), None).await;
    assert_eq!(answer.status, 200);
    api.get("/users/me", text(&answer.body["ticket"])).await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn serves_health_and_metrics_without_a_token() {
    let api = Api::new().await;
    for path in ["/health", "/health/ready", "/health/live"] {
        let answer = api.call(Method::GET, path, None, None).await;
        assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("ok")), "{path}");
    }
    api.register().await;
    let answer = api.client.get(format!("{}/metrics", api.base_url)).send().await.unwrap();
    protocol::assert_response("/metrics", &answer, None);
    let page = answer.text().await.unwrap();
    assert!(page.contains("chat_server_auth_attempts_total{kind=\"register\",result=\"success\"}"), "{page}");
}

/// Makes every search for users wait until the advisory lock 14 is free.
const WAITING_SEARCH: &str = "
    CREATE OR REPLACE FUNCTION name_words(p_query text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(14);
        RETURN search_words(p_query || '*');
    END $$";

#[tokio::test]
async fn signs_in_beside_a_flood_of_account_reads() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let database = server.database().await;
    database.batch_execute(WAITING_SEARCH).await.unwrap();
    database.execute("SELECT pg_advisory_lock(14)", &[]).await.unwrap();
    let read = || server.request(reqwest::Method::GET, "/users?query=ann", Some(&ann.token), None);
    let mut flood: FuturesUnordered<_> = (0..64).map(|_| read()).collect();
    let (status, refusal) = flood.next().await.unwrap();
    assert_eq!((status, code(&refusal).as_str()), (429, "rate_limited"), "{refusal}");
    assert!(refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{refusal}");
    // All of Ann's reads that the server admits wait in PostgreSQL or for a connection. Bob needs several connections
    // one after the other.
    let again = server.login(&bob).await;
    assert_eq!(again.id, bob.id);
    database.execute("SELECT pg_advisory_unlock(14)", &[]).await.unwrap();
    let mut refused = 1;
    while let Some((status, answer)) = flood.next().await {
        assert!([200, 429, 503].contains(&status), "{status} {answer}");
        refused += usize::from(status == 429);
    }
    assert!(refused >= 32, "{refused} of 64 reads were refused");
    assert_eq!(read().await.0, 200, "no place is lost");
}

#[tokio::test]
async fn a_refresh_without_an_address_keeps_the_one_that_is_known() {
    let server = support::server().await;
    let ann = server.register().await;
    let address = async || {
        let (_, answer) = server.request(Method::GET, "/auth/sessions", Some(&ann.token), None).await;
        answer["sessions"][0]["ip"].clone()
    };
    assert_eq!(address().await, "127.0.0.1");
    let accounts = Accounts::new(server.target().pool(Role::Writer, 1).unwrap());
    let exchange = RefreshExchange {
        hash: &random_token::hash(&ann.refresh_token),
        new_hash: &random_token::hash("its successor"),
        lifetime_seconds: 60,
        grace_seconds: 10,
        source: &RequestSource::default(),
    };
    let rotated = accounts.rotate_refresh(exchange).await.unwrap();
    assert!(matches!(rotated, Rotation::Rotated(_)), "{rotated:?}");
    assert_eq!(address().await, "127.0.0.1");
}
