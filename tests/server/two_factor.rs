//! Two-factor authentication over HTTP and WebSockets: enrolment, sign-in, step-up, recovery, and what an attacker
//! tries.
//!
//! How: the tests compute codes from the secret that the server shows. Time cannot be set, so a test that needs another
//! code takes one of the neighbouring steps, which the server accepts too. Tests that change rows directly say so.

use crate::support::app_codes::{app_code, early_in_a_step, raw};
use crate::support::{PASSWORD, PATIENCE, Server, User, code, connect_error, server, text, upgrade};
use chat_server::storage::connect::{Role, connect};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A user with two-factor authentication.
pub(super) struct Guarded {
    user: User,
    secret: String,
    pub(super) backup_codes: Vec<String>,
    /// The code that confirmed the enrolment.
    first_code: String,
}

/// A code of no step near the present one.
fn wrong_code(secret: &str) -> String {
    let right: BTreeSet<String> = (-4..=4).map(|offset| app_code(secret, offset)).collect();
    (0..20).map(|n| format!("{n:06}")).find(|code| !right.contains(code)).unwrap()
}

impl Server {
    async fn begin_two_factor(&self, user: &User) -> Value {
        let (status, answer) = self.post("/auth/2fa/enable", Some(&user.token), &json!({"password": PASSWORD})).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Sets two-factor authentication up with the code of the previous step. So those of this step and the next one are
    /// left for the test.
    pub(super) async fn guard(&self, user: User) -> Guarded {
        let secret = text(&self.begin_two_factor(&user).await["secret"]).to_owned();
        let first_code = app_code(&secret, -1);
        let (status, answer) = self.post("/auth/2fa/confirm", Some(&user.token), &json!({"code": first_code})).await;
        assert_eq!(status, 200, "{answer}");
        let backup_codes = answer["backup_codes"].as_array().unwrap().iter().map(|code| text(code).to_owned());
        Guarded { user, secret, backup_codes: backup_codes.collect(), first_code }
    }

    async fn guarded(&self) -> Guarded {
        early_in_a_step().await;
        self.guard(self.register().await).await
    }

    async fn sign_in(&self, name: &str, more: Value) -> (u16, Value) {
        let mut body = json!({"login": name, "password": PASSWORD});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/auth/login", None, &body).await
    }

    async fn challenge(&self, user: &User) -> String {
        let (status, answer) = self.sign_in(&user.name, json!({})).await;
        assert_eq!((status, code(&answer).as_str()), (401, "two_factor_required"), "{answer}");
        assert_eq!(answer["methods"], json!(["totp", "backup_code"]));
        text(&answer["challenge"]).to_owned()
    }

    async fn verify(&self, challenge: &str, code: &str) -> (u16, Value) {
        self.post("/auth/2fa/verify", None, &json!({"challenge": challenge, "totp_code": code})).await
    }

    async fn two_factor(&self, user: &User) -> Value {
        self.request(Method::GET, "/auth/2fa", Some(&user.token), None).await.1
    }

    /// Removes the second factor of a session, as time does after 5 minutes.
    async fn forget_factor(&self, user: &User) {
        let text =
            format!("UPDATE sessions SET factor_at = factor_at - interval '5 minutes' WHERE user_id = {}", user.id);
        self.database().await.batch_execute(&text).await.unwrap();
    }
}

#[track_caller]
fn assert_refused(answer: &(u16, Value), status: u16, expected: &str) {
    assert_eq!((answer.0, code(&answer.1).as_str()), (status, expected), "{}", answer.1);
}

#[tokio::test]
async fn signs_in_with_password_and_code() {
    let server = server().await;
    early_in_a_step().await;
    let user = server.register().await;
    assert_eq!(server.two_factor(&user).await, json!({"enabled": false, "required": false, "backup_codes_left": 0}));
    let Guarded { user, secret, backup_codes, .. } = server.guard(user).await;
    assert_eq!(server.two_factor(&user).await, json!({"enabled": true, "required": false, "backup_codes_left": 10}));
    assert_eq!(backup_codes.iter().collect::<BTreeSet<_>>().len(), 10);

    // In two requests.
    let challenge = server.challenge(&user).await;
    let (status, answer) = server.verify(&challenge, &app_code(&secret, 0)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(User::from_answer(&answer).id, user.id);
    assert_refused(&server.verify(&challenge, &app_code(&secret, 1)).await, 401, "two_factor_invalid");
    // In one request.
    let (status, answer) = server.sign_in(&user.name, json!({"totp_code": app_code(&secret, 1)})).await;
    assert_eq!(status, 200, "{answer}");
    // The password comes first: a right code does not help a wrong one, and tells nothing.
    let body = json!({"login": user.name, "password": "a wrong password", "totp_code": app_code(&secret, 1)});
    assert_refused(&server.post("/auth/login", None, &body).await, 401, "unauthenticated");
}

#[tokio::test]
async fn an_enrolment_is_replaced_by_the_next_and_expires() {
    let server = server().await;
    early_in_a_step().await;
    let user = server.register().await;
    let token = Some(user.token.as_str());
    let wrong = server.post("/auth/2fa/enable", token, &json!({"password": "a wrong password"})).await;
    assert_refused(&wrong, 403, "forbidden");
    let confirm = async |code: String| server.post("/auth/2fa/confirm", token, &json!({ "code": code })).await;
    assert_refused(&confirm("000000".to_owned()).await, 409, "conflict");
    let first = text(&server.begin_two_factor(&user).await["secret"]).to_owned();
    let second = text(&server.begin_two_factor(&user).await["secret"]).to_owned();
    assert_ne!(first, second);
    assert_refused(&confirm(app_code(&first, 0)).await, 401, "two_factor_invalid");
    assert_eq!(server.sign_in(&user.name, json!({})).await.0, 200, "a pending enrolment asks for no code");

    let database = server.database().await;
    let age = |interval: &str| {
        format!("UPDATE two_factor SET created_at = now() - interval '{interval}' WHERE user_id = {}", user.id)
    };
    database.batch_execute(&age("10 minutes")).await.unwrap();
    assert_refused(&confirm(app_code(&second, 0)).await, 409, "conflict");
    database.batch_execute(&age("9 minutes")).await.unwrap();
    assert_eq!(confirm(app_code(&second, 0)).await.0, 200);
    let again = server.post("/auth/2fa/enable", token, &json!({"password": PASSWORD})).await;
    assert_refused(&again, 409, "conflict");
    assert_refused(&confirm(app_code(&second, 1)).await, 409, "conflict");
}

/// Sends requests at the same time, each from an address of its own: the limits of one network let a few through only.
/// Returns how many succeeded.
async fn successes(server: &Server, requests: Vec<(&str, Option<&str>, Value)>) -> usize {
    let client = reqwest::Client::new();
    let sent = requests.into_iter().enumerate().map(async |(n, (path, token, body))| {
        let request = client.post(format!("{}{path}", server.base_url)).json(&body);
        let request = request.header("X-Forwarded-For", format!("10.{n}.0.1")).timeout(PATIENCE);
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let response = request.send().await.unwrap();
        assert_ne!(response.status().as_u16(), 429, "{path}: the limits must not decide this test");
        response.status().is_success()
    });
    futures_util::future::join_all(sent).await.into_iter().filter(|success| *success).count()
}

#[tokio::test]
async fn fifty_parallel_uses_of_a_code_have_one_success() {
    let server = Server::start(2, &[("server.trusted_proxies", "127.0.0.1")]);
    let Guarded { user, secret, first_code, .. } = server.guarded().await;
    let used = server.sign_in(&user.name, json!({"totp_code": first_code})).await;
    assert_refused(&used, 401, "two_factor_invalid"); // the enrolment has used it up
    let token = Some(user.token.as_str());

    // One code, in every way to use it.
    let code = app_code(&secret, 0);
    let mut requests = Vec::new();
    for n in 0..50 {
        requests.push(match n % 10 {
            0 => ("/auth/login", None, json!({"login": user.name, "password": PASSWORD, "totp_code": code})),
            1 => {
                let challenge = server.challenge(&user).await;
                ("/auth/2fa/verify", None, json!({"challenge": challenge, "totp_code": code}))
            }
            2..5 => ("/auth/2fa/backup-codes", token, json!({"password": PASSWORD, "code": code})),
            _ => ("/auth/2fa/step-up", token, json!({"code": code})),
        });
    }
    assert_eq!(successes(&server, requests).await, 1);
    // Against one challenge, and against disabling.
    let code = app_code(&secret, 1);
    let challenge = server.challenge(&user).await;
    let requests = (0..50).map(|n| match n % 10 {
        0 => ("/auth/2fa/verify", None, json!({"challenge": challenge, "totp_code": code})),
        _ => ("/auth/2fa/disable", token, json!({"password": PASSWORD, "code": code})),
    });
    assert_eq!(successes(&server, requests.collect()).await, 1);
}

#[tokio::test]
async fn fifty_parallel_uses_of_a_backup_code_or_an_enrolment_have_one_success() {
    let server = Server::start(2, &[("server.trusted_proxies", "127.0.0.1")]);
    early_in_a_step().await;
    let user = server.register().await;
    let token = Some(user.token.as_str());
    let secret = text(&server.begin_two_factor(&user).await["secret"]).to_owned();
    let body = json!({"code": app_code(&secret, -1)});
    let requests = (0..50).map(|_| ("/auth/2fa/confirm", token, body.clone()));
    assert_eq!(successes(&server, requests.collect()).await, 1);

    let (status, answer) = server
        .post("/auth/2fa/backup-codes", token, &json!({"password": PASSWORD, "code": app_code(&secret, 0)}))
        .await;
    assert_eq!(status, 200, "{answer}");
    let code = text(&answer["backup_codes"][0]).to_owned();
    let typed = code.to_uppercase().replace('-', " ");
    let requests = (0..50).map(|n| match n % 5 {
        0 => ("/auth/login", None, json!({"login": user.name, "password": PASSWORD, "backup_code": typed})),
        1 => ("/auth/2fa/backup-codes", token, json!({"password": PASSWORD, "backup_code": code})),
        _ => ("/auth/2fa/step-up", token, json!({ "backup_code": code })),
    });
    assert_eq!(successes(&server, requests.collect()).await, 1);
}

#[tokio::test]
async fn new_backup_codes_void_the_old_ones() {
    let server = server().await;
    let Guarded { user, secret, backup_codes, .. } = server.guarded().await;
    let token = Some(user.token.as_str());
    let body = json!({"password": PASSWORD, "code": app_code(&secret, 0)});
    let (status, answer) = server.post("/auth/2fa/backup-codes", token, &body).await;
    assert_eq!(status, 200, "{answer}");
    let old = server.post("/auth/2fa/step-up", token, &json!({"backup_code": backup_codes[0]})).await;
    assert_refused(&old, 401, "two_factor_invalid");
    let new = server.post("/auth/2fa/step-up", token, &json!({"backup_code": answer["backup_codes"][0]})).await;
    assert_eq!(new.0, 204);
    assert_eq!(server.two_factor(&user).await["backup_codes_left"], 9);
}

#[tokio::test]
async fn steps_only_move_forward() {
    let server = server().await;
    let Guarded { user, secret, .. } = server.guarded().await;
    assert_eq!(server.sign_in(&user.name, json!({"totp_code": app_code(&secret, 1)})).await.0, 200);
    let earlier = server.sign_in(&user.name, json!({"totp_code": app_code(&secret, 0)})).await;
    assert_refused(&earlier, 401, "two_factor_invalid");
}

#[tokio::test]
async fn a_challenge_ends_after_five_wrong_codes_five_minutes_or_a_new_password() {
    let server = server().await;
    let Guarded { user, secret, .. } = server.guarded().await;
    let challenge = server.challenge(&user).await;
    for left in (0..5).rev() {
        let answer = server.verify(&challenge, &wrong_code(&secret)).await;
        assert_refused(&answer, 401, "two_factor_invalid");
        assert_eq!(answer.1["details"]["attempts_left"], left);
    }
    assert_refused(&server.verify(&challenge, &app_code(&secret, 0)).await, 401, "two_factor_invalid");

    let expired = server.challenge(&user).await;
    let database = server.database().await;
    let age = format!(
        "UPDATE sign_in_challenges SET expires_at = expires_at - interval '5 minutes' WHERE user_id = {}",
        user.id
    );
    database.batch_execute(&age).await.unwrap();
    assert_refused(&server.verify(&expired, &app_code(&secret, 0)).await, 401, "two_factor_invalid");

    let challenge = server.challenge(&user).await;
    let body = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    assert_eq!(server.post("/auth/password", Some(&user.token), &body).await.0, 204);
    assert_refused(&server.verify(&challenge, &app_code(&secret, 0)).await, 401, "two_factor_invalid");
    assert_refused(&server.verify("unknown", &app_code(&secret, 0)).await, 401, "two_factor_invalid");

    // None of them has used the code up.
    let body = json!({"login": user.name, "password": "another horse battery", "totp_code": app_code(&secret, 0)});
    assert_eq!(server.post("/auth/login", None, &body).await.0, 200);
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_challenges() {
    let server = server().await;
    let Guarded { user, .. } = server.guarded().await;
    for _ in 0..25 {
        server.challenge(&user).await;
    }
    let count = format!("SELECT count(*) FROM sign_in_challenges WHERE user_id = {}", user.id);
    let count: i64 = server.database().await.query_one(&count, &[]).await.unwrap().get(0);
    assert_eq!(count, 20);
}

#[tokio::test]
async fn codes_cannot_be_guessed_faster_than_passwords() {
    let server = server().await;
    let Guarded { user, secret, .. } = server.guarded().await;
    let wrong = wrong_code(&secret);
    // An attacker who knows the password: each sign-in succeeds as far as the password goes.
    let mut tried = 0;
    let refused = loop {
        let answer = server.sign_in(&user.name, json!({"totp_code": wrong})).await;
        if answer.0 != 401 {
            break answer;
        }
        assert_refused(&answer, 401, "two_factor_invalid");
        tried += 1;
        assert!(tried < 50, "nothing stops the attacker");
    };
    assert_refused(&refused, 429, "account_locked");
    assert!(refused.1["retry_after_ms"].as_u64().unwrap() > 0);
    assert!(tried <= 10, "{tried}");
    let token = Some(user.token.as_str());
    for _ in 0..2 {
        // Every way to try a code counts.
        let answer = server.post("/auth/2fa/step-up", token, &json!({"code": wrong})).await;
        assert!(matches!(answer.0, 401 | 429), "{}", answer.1);
    }
    // Without the password, nobody gets as far as the codes: wrong passwords do not lock them.
    let other = server.guarded().await;
    for _ in 0..8 {
        let body = json!({"login": other.user.name, "password": "a wrong password", "totp_code": wrong});
        server.post("/auth/login", None, &body).await;
    }
    let body = json!({"code": app_code(&other.secret, 0)});
    assert_eq!(server.post("/auth/2fa/step-up", Some(&other.user.token), &body).await.0, 204);
}

#[tokio::test]
async fn a_failed_change_of_the_password_uses_no_code_up() {
    let server = Server::start(1, &[]);
    let Guarded { user, backup_codes, .. } = server.guarded().await;
    let change = json!({"current_password": PASSWORD, "new_password": "another horse battery",
                        "backup_code": backup_codes[0]});
    let database = server.database().await;
    // As if somebody else had changed the password between the check and the change.
    let skip = "CREATE FUNCTION public.skip_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                CREATE TRIGGER skip_it BEFORE UPDATE ON credentials FOR EACH ROW EXECUTE FUNCTION public.skip_it()";
    database.batch_execute(skip).await.unwrap();
    assert_refused(&server.post("/auth/password", Some(&user.token), &change).await, 409, "conflict");
    assert_eq!(server.two_factor(&user).await["backup_codes_left"], backup_codes.len());
    database.batch_execute("DROP TRIGGER skip_it ON credentials").await.unwrap();
    assert_eq!(server.post("/auth/password", Some(&user.token), &change).await.0, 204);
    assert_eq!(server.two_factor(&user).await["backup_codes_left"], backup_codes.len() - 1);
    let again = json!({"current_password": "another horse battery", "new_password": PASSWORD,
                       "backup_code": backup_codes[0]});
    assert_refused(&server.post("/auth/password", Some(&user.token), &again).await, 401, "two_factor_invalid");
}

#[tokio::test]
async fn dangerous_actions_need_a_fresh_factor() {
    let server = server().await;
    let Guarded { user, secret, backup_codes, .. } = server.guarded().await;
    let token = Some(user.token.as_str());
    let (_, answer) = server.sign_in(&user.name, json!({"backup_code": backup_codes[0]})).await;
    let session = async |token: &str| {
        let (_, answer) = server.request(Method::GET, "/auth/sessions", Some(token), None).await;
        let sessions = answer["sessions"].as_array().unwrap();
        sessions.iter().find(|session| session["current"] == true).unwrap()["id"].as_i64().unwrap()
    };
    let other = session(text(&answer["access_token"])).await;
    let end = async |id: i64| server.request(Method::DELETE, &format!("/auth/sessions/{id}"), token, None).await;
    let change = async |more: Value| {
        let mut body = json!({"current_password": PASSWORD, "new_password": PASSWORD});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/auth/password", token, &body).await
    };
    server.forget_factor(&user).await;
    for refused in [end(other).await, change(json!({})).await] {
        assert_refused(&refused, 403, "step_up_required");
        assert_eq!(refused.1["methods"], json!(["totp", "backup_code"]));
    }
    // A code in the request itself.
    assert_refused(&change(json!({"code": wrong_code(&secret)})).await, 401, "two_factor_invalid");
    assert_eq!(change(json!({"backup_code": backup_codes[1]})).await.0, 204);
    // Or for the session.
    server.forget_factor(&user).await;
    assert_eq!(server.post("/auth/2fa/step-up", token, &json!({"code": app_code(&secret, 0)})).await.0, 204);
    let (_, answer) = server.sign_in(&user.name, json!({"totp_code": app_code(&secret, 1)})).await;
    assert_eq!(end(session(text(&answer["access_token"])).await).await.0, 204);
    assert_eq!(change(json!({})).await.0, 204);
    // A session may always end itself, and a user without a second factor needs none.
    server.forget_factor(&user).await;
    assert_eq!(end(session(&user.token).await).await.0, 204);
    let plain = server.register().await;
    let again = server.login(&plain).await;
    let id = session(&again.token).await;
    let path = format!("/auth/sessions/{id}");
    assert_eq!(server.request(Method::DELETE, &path, Some(&plain.token), None).await.0, 204);
}

#[tokio::test]
async fn a_user_without_the_app_recovers_with_backup_codes() {
    let server = server().await;
    let Guarded { user, backup_codes, .. } = server.guarded().await;
    let challenge = server.challenge(&user).await;
    let body = json!({"challenge": challenge, "backup_code": backup_codes[0]});
    let (status, answer) = server.post("/auth/2fa/verify", None, &body).await;
    assert_eq!(status, 200, "{answer}");
    let user = User::from_answer(&answer);
    let token = Some(user.token.as_str());
    let change = |password: &str, code: &str| json!({"password": password, "backup_code": code});
    let disable = async |body: Value| server.post("/auth/2fa/disable", token, &body).await;
    assert_refused(&disable(change("a wrong password", &backup_codes[1])).await, 403, "forbidden");
    assert_refused(&disable(change(PASSWORD, &backup_codes[0])).await, 401, "two_factor_invalid");
    assert_refused(&disable(json!({ "password": PASSWORD })).await, 400, "bad_request");
    assert_eq!(disable(change(PASSWORD, &backup_codes[1])).await.0, 204);
    assert_eq!(server.two_factor(&user).await, json!({"enabled": false, "required": false, "backup_codes_left": 0}));
    assert_eq!(server.sign_in(&user.name, json!({})).await.0, 200);
    assert_refused(&disable(change(PASSWORD, &backup_codes[2])).await, 409, "conflict");
}

#[tokio::test]
async fn stores_neither_secrets_nor_codes_in_the_clear() {
    let server = server().await;
    let Guarded { user, secret, backup_codes, .. } = server.guarded().await;
    let challenge = server.challenge(&user).await;
    let database = server.database().await;
    let mut stored = String::new();
    for table in ["two_factor", "backup_codes", "sign_in_challenges"] {
        let rows = format!("SELECT t::text FROM {table} t WHERE user_id = {}", user.id);
        for row in database.query(&rows, &[]).await.unwrap() {
            stored.push_str(&row.get::<_, String>(0));
        }
    }
    assert!(stored.len() > 500, "{stored}");
    let hex = raw(&secret).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    for text in [secret.as_str(), &hex, &backup_codes[0], &challenge] {
        assert!(!stored.contains(text), "{text} is in {stored}");
    }
    // A secret that is copied to another user does not open.
    let other = server.guarded().await;
    let copy = format!(
        "UPDATE two_factor SET sealed_secret = o.sealed_secret FROM two_factor o
          WHERE two_factor.user_id = {} AND o.user_id = {}",
        other.user.id, user.id
    );
    database.batch_execute(&copy).await.unwrap();
    let answer = server.sign_in(&other.user.name, json!({"totp_code": app_code(&secret, 1)})).await;
    assert_refused(&answer, 500, "internal");
    assert_eq!(server.sign_in(&other.user.name, json!({"backup_code": other.backup_codes[0]})).await.0, 200);
}

#[tokio::test]
async fn an_account_that_must_have_it_can_only_set_it_up() {
    let server = Server::start(2, &[("security.two_factor_required", "member")]);
    early_in_a_step().await;
    let user = server.register().await;
    let token = Some(user.token.as_str());
    let get = async |path: &str| server.request(Method::GET, path, token, None).await;
    assert_eq!(get("/users/me").await.0, 200);
    assert_eq!(get("/auth/2fa").await.1, json!({"enabled": false, "required": true, "backup_codes_left": 0}));
    for (method, path) in [
        (Method::POST, "/auth/logout-all"),
        (Method::GET, "/auth/sessions"),
        (Method::POST, "/ws-ticket"),
        (Method::GET, "/users?query=a"),
        (Method::GET, "/users/1"),
    ] {
        assert_refused(&server.request(method, path, token, None).await, 403, "two_factor_required");
    }
    let edit = json!({"bio": "not yet"});
    let edit = server.request(Method::PATCH, "/users/me", token, Some(&edit)).await;
    assert_refused(&edit, 403, "two_factor_required");
    let command = json!({"type": "list_conversations", "data": {}});
    assert_refused(&server.post("/api/commands", token, &command).await, 403, "two_factor_required");
    let bearer = format!("Bearer {}", user.token);
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(connect_error(upgrade(&server, "/ws", &headers, None).await), 403);
    let again = server.login(&user).await;
    assert_eq!(server.request(Method::POST, "/auth/logout", Some(&again.token), None).await.0, 204);

    let Guarded { user, secret, .. } = server.guard(user).await;
    let command = server.post("/api/commands", Some(&user.token), &command).await;
    assert_eq!(command.0, 200, "{}", command.1);
    assert!(upgrade(&server, "/ws", &headers, None).await.is_ok());
    let body = json!({"password": PASSWORD, "code": app_code(&secret, 0)});
    assert_refused(&server.post("/auth/2fa/disable", Some(&user.token), &body).await, 403, "forbidden");
}

#[tokio::test]
async fn administrators_can_be_required_alone() {
    let settings = [("security.two_factor_required", "admin"), ("security.admin_user_ids", "1")];
    let server = Server::start(1, &settings);
    let (first, second) = (server.register().await, server.register().await);
    assert_eq!(first.id, 1);
    let sessions = async |user: &User| server.request(Method::GET, "/auth/sessions", Some(&user.token), None).await;
    assert_refused(&sessions(&first).await, 403, "two_factor_required");
    assert_eq!(sessions(&second).await.0, 200);
}

#[tokio::test]
async fn administrators_read_with_a_second_factor_of_the_last_hour() {
    let server = Server::start(1, &[("security.admin_user_ids", "1")]);
    let Guarded { user, secret, .. } = server.guarded().await;
    assert_eq!(user.id, 1);
    let token = Some(user.token.as_str());
    let pages = ["/admin/audit", "/admin/security-events", "/admin/filter-rules"];
    let other = json!({"login": user.name, "password": PASSWORD, "totp_code": app_code(&secret, 0)});
    assert_eq!(server.post("/auth/login", None, &other).await.0, 200);
    let age = async |minutes: u32| {
        let text = format!("UPDATE sessions SET factor_at = now() - interval '{minutes} minutes'");
        server.database().await.batch_execute(&text).await.unwrap();
    };
    age(55).await;
    for path in pages {
        assert_eq!(server.request(Method::GET, path, token, None).await.0, 200, "{path}");
    }
    assert_refused(&server.request(Method::DELETE, "/auth/sessions/2", token, None).await, 403, "step_up_required");
    age(61).await;
    for path in pages {
        let refused = server.request(Method::GET, path, token, None).await;
        assert_refused(&refused, 403, "step_up_required");
        assert_eq!(refused.1["methods"], json!(["totp", "backup_code"]));
        assert!(text(&refused.1["detail"]).contains("of the last hour"), "{}", refused.1);
    }
    assert_eq!(server.post("/auth/2fa/step-up", token, &json!({"code": app_code(&secret, 1)})).await.0, 204);
    for path in pages {
        assert_eq!(server.request(Method::GET, path, token, None).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn a_server_can_switch_the_set_up_off() {
    let server = Server::start(1, &[]);
    let Guarded { user, .. } = server.guarded().await;
    server.sigterm();
    server.wait();
    server.start_again_with(&[("security.enable_2fa", "false")]);
    server.challenge(&user).await; // who has it still needs it
    let other = server.register().await;
    let body = json!({ "password": PASSWORD });
    assert_refused(&server.post("/auth/2fa/enable", Some(&other.token), &body).await, 403, "forbidden");
}

#[tokio::test]
async fn keys_rotate_while_the_server_runs_and_a_missing_key_is_reported() {
    let (old, new) =
        ("old:b2xkIGtleSBvZiB0aGlydHktdHdvIGJ5dGVzIC4uLi4=", "new:bmV3IGtleSBvZiB0aGlydHktdHdvIGJ5dGVzIC4uLi4=");
    let keys = "security.encryption_keys";
    let server = Server::start(1, &[(keys, old)]);
    let Guarded { user, secret, backup_codes, .. } = server.guarded().await;
    let key = format!("SELECT key_id FROM two_factor WHERE user_id = {}", user.id);
    let key = async || server.database().await.query_one(&key, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(key().await, "old");
    let refused = server.rotate_keys(&[(keys, new)]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("\"old\"") && said.contains("run rotate-keys again"), "{said}");
    let both = format!("{new},{old}");
    let rotated = server.rotate_keys(&[(keys, &both)]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    assert_eq!(String::from_utf8_lossy(&rotated.stdout), "1 secrets are now encrypted under the key \"new\"\n");
    assert_eq!(key().await, "new");
    assert!(server.rotate_keys(&[(keys, new)]).status.success(), "it can run again");
    let recorded = "SELECT user_id IS NULL, details FROM audit_logs WHERE action = 'rotate_keys'";
    let rows = server.database().await.query(recorded, &[]).await.unwrap();
    assert_eq!(rows.len(), 1, "a rotation that changes nothing has no row, and a failed one neither");
    let row = (rows[0].get::<_, bool>(0), rows[0].get::<_, Value>(1));
    assert_eq!(row, (true, json!({"key": "new", "secrets": 1})));

    // The server that runs has the old key only. It says so to the user, and at its next start to the operator.
    let answer = server.sign_in(&user.name, json!({"totp_code": app_code(&secret, 0)})).await;
    assert_refused(&answer, 500, "internal");
    assert_eq!(server.sign_in(&user.name, json!({"backup_code": backup_codes[0]})).await.0, 200);
    server.sigterm();
    server.wait();
    server.start_again();
    let log = server.log();
    assert!(log.contains("secrets of 1 users are encrypted with the key \"new\""), "{log}");
    server.must_run();
}

#[tokio::test]
async fn no_server_opens_a_session_without_the_second_factor() {
    let server = server().await;
    let Guarded { user, .. } = server.guarded().await;
    let plain = server.register().await;
    let writer = connect(&server.target().config(Role::Writer)).await.unwrap();
    // As a server of an earlier version, which knows nothing of second factors.
    let open = "INSERT INTO sessions (user_id, device_name, ip) VALUES ($1, 'old server', '127.0.0.1')";
    let refused = writer.execute(open, &[&user.id]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501", "{refused}");
    writer.execute(open, &[&plain.id]).await.unwrap();
}
