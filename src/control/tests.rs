//! The router without PostgreSQL: refusals before it is asked, and responses when it does not answer.

use super::{
    access::{Access, MetricsToken},
    commands::{CommandFuture, CommandPort},
    dashboard::Dashboard,
    extract::Caller,
    files::{FileParts, Files, FilesPort},
    filter::{ContentFilter, FilterParts, FilterPort},
    health::Check,
    metrics::Metrics,
    observed::Observed,
    ports::{HealthPort, LimitsPort, ReloadFuture, ReloadPort},
    security_watch::{SecurityWatch, WatchParts},
    *,
};
use crate::audit::suspicion::ResponsePolicy;
use crate::auth::attempts::Allowed;
use crate::auth::factor_policy::FactorPolicy;
use crate::auth::sealed::SealingKeys;
use crate::auth::token::TokenKeys;
use crate::chat::filter::FilterRuleSet;
use crate::error::{ErrorCode, Refusal};
use crate::files::link::LinkKey;
use crate::files::store::{Store, disk::DiskThreads, folder::Folder};
use crate::ids::{ConversationId, SessionId, UserId};
use crate::limits::Limits;
use crate::mesh::asked::ApprovedText;
use crate::mesh::bot_grant::BotGrant;
use crate::mesh::live::LiveSettings;
use crate::mesh::standing::MarkedUsers;
use crate::storage::accounts::Accounts;
use crate::storage::file_shares::ShareStore;
use crate::storage::files::{FileQuotas, FileStore};
use crate::storage::filter::FilterStore;
use axum::body::Body;
use bytes::Bytes;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use tower::ServiceExt;

struct NoCommands;

static DISK: LazyLock<DiskThreads> = LazyLock::new(|| DiskThreads::new().unwrap());

impl CommandPort for NoCommands {
    fn execute(&self, _: Caller, _: Option<Arc<BotGrant>>, _: Bytes) -> CommandFuture {
        Box::pin(async { Err(Refusal::new(ErrorCode::UnknownCommand, "none")) })
    }
}

impl FilesPort for NoCommands {
    fn settle(&self, _: UserId, _: ConversationId, _: Value) -> CommandFuture {
        Box::pin(async { Err(Refusal::storage_unavailable()) })
    }
}

impl LimitsPort for NoCommands {
    fn mark(&self, _: Arc<MarkedUsers>) {}

    fn explain(&self, _: UserId, _: i64) -> CommandFuture {
        Box::pin(async { Err(Refusal::storage_unavailable()) })
    }
}

impl ReloadPort for NoCommands {
    fn reload(&self, _: Caller) -> ReloadFuture {
        Box::pin(async { Err(Refusal::storage_unavailable()) })
    }
}

impl FilterPort for NoCommands {
    fn publish(&self, _: Arc<FilterRuleSet>) {}

    fn send_approved(&self, _: UserId, _: ConversationId, _: ApprovedText) -> CommandFuture {
        Box::pin(async { Err(Refusal::new(ErrorCode::UnknownCommand, "none")) })
    }

    fn announce_rejection(&self, _: UserId, _: ConversationId, _: i64) -> CommandFuture {
        Box::pin(async { Err(Refusal::new(ErrorCode::UnknownCommand, "none")) })
    }
}

struct Health(bool);

impl HealthPort for Health {
    fn checks(&self) -> Vec<Check> {
        vec![
            Check { name: "shards", ok: true, reason: None },
            Check { name: "database", ok: self.0, reason: (!self.0).then(|| "no connection".into()) },
        ]
    }
}

/// A control plane whose PostgreSQL does not answer.
pub(super) fn control(well: bool) -> Control {
    control_for(well, Access::Everyone)
}

fn control_for(well: bool, access: Access) -> Control {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(1).user("nobody").connect_timeout(Duration::from_secs(1));
    let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(1).build().unwrap();
    let observed = Observed::of_shards(Vec::new());
    let accounts = Accounts::new(pool);
    Control::new(ControlParts {
        settings: ControlSettings {
            live: Arc::new(LiveSettings {
                version: 0,
                limits: Limits::default(),
                factor_policy: FactorPolicy::default(),
                keys: Arc::new(TokenKeys::new(&[7; 32]).unwrap()),
                allowed_origins: Vec::new(),
                access_lifetime_seconds: 900,
                refresh_lifetime_seconds: 3_600,
            }),
            access,
            allowed_attempts: Allowed { sign_ins_per_minute: 60, registrations_per_minute: 60 },
            responses: ResponsePolicy::default(),
        },
        reload: Arc::new(NoCommands),
        bcrypt_cost: 12,
        sealing: SealingKeys::new(("a".to_owned(), [7; 32]), Vec::new()),
        allows_two_factor: true,
        registration_difficulty: 0,
        captcha: None,
        hash_workers: 1,
        hash_queue: Arc::default(),
        commands: Arc::new(NoCommands),
        limits: Arc::new(NoCommands),
        overload: Arc::default(),
        profile_changes: Arc::default(),
        health: Arc::new(Health(well)),
        notices: Arc::new(|_| ()),
        metrics: Metrics::new(observed.clone()).unwrap(),
        nodes: None,
        hooks: None,
        watch: SecurityWatch::new(
            WatchParts { activity: Arc::default(), count: Arc::new(|_| ()), places: None },
            ResponsePolicy::default(),
        ),
        dashboard: Dashboard::new(observed.clone(), Arc::new(Health(well))),
        files: Files::new(FileParts {
            rows: FileStore::new(accounts.clone()),
            shares: ShareStore::new(accounts.clone()),
            has_public_links: false,
            store: Store::in_folder(
                Folder::open(&std::env::temp_dir().join("chat-server-control-tests"), 0).unwrap(),
                DISK.disk(),
            ),
            port: Arc::new(NoCommands),
            metrics: Metrics::new(observed).unwrap(),
            quotas: FileQuotas {
                unfinished_max: 1,
                hour_max: 1,
                user_bytes_max: 1,
                total_bytes_max: 1,
                lifetime_s: 1,
                kept_s: 1,
            },
            upload_rate: 0,
            size_max: 1,
            allowed_types: Vec::new(),
            antivirus: None,
            keeps_originals: false,
            program: "/nonexistent".into(),
            links: LinkKey::new([7; 32]),
            is_shared: false,
            is_on: false,
        }),
        filter: ContentFilter::new(FilterParts {
            store: FilterStore::new(accounts.clone()),
            port: Arc::new(NoCommands),
            is_on: true,
        }),
        accounts,
    })
}

pub(super) async fn send(control: &Control, request: Request) -> (Response<()>, Value) {
    let (parts, body) = control.router().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap_or(Value::Null))
}

pub(super) type Response<T> = axum::http::Response<T>;

pub(super) fn request(method: &str, path: &str, body: &str) -> Request {
    Request::builder().method(method).uri(path).header("host", "test").body(Body::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn every_refusal_of_the_router_is_a_problem() {
    let control = control(true);
    let large = format!("{{\"login\":\"{}\"}}", "x".repeat(crate::limits::HTTP_BODY_BYTES_MAX));
    for (method, path, body, status, code) in [
        ("GET", "/nowhere", "", 404, "not_found"),
        ("POST", "/", "", 405, "method_not_allowed"),
        ("GET", "/auth/login", "", 405, "method_not_allowed"),
        ("BREW", "/users/me", "", 405, "method_not_allowed"),
        ("POST", "/auth/login", "", 400, "bad_request"),
        ("POST", "/auth/login", "{", 400, "bad_request"),
        ("POST", "/auth/login", "[]", 400, "bad_request"),
        ("POST", "/auth/login", r#"{"login":"a"}"#, 400, "bad_request"),
        ("POST", "/auth/login", r#"{"login":1,"password":"x"}"#, 400, "bad_request"),
        ("POST", "/auth/login", &large, 413, "too_large"),
        ("POST", "/auth/refresh", r#"{"refresh_token":""}"#, 401, "refresh_invalid"),
        ("GET", "/users/me", "", 401, "unauthenticated"),
        ("GET", "/users/7", "", 401, "unauthenticated"),
        ("POST", "/api/commands", "{}", 401, "unauthenticated"),
        ("POST", "/ws-ticket", "", 401, "unauthenticated"),
        ("DELETE", "/auth/sessions/7", "", 401, "unauthenticated"),
        ("GET", "/ws", "", 426, "upgrade_required"),
    ] {
        let (response, problem) = send(&control, request(method, path, body)).await;
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(problem["code"], code, "{method} {path}: {problem}");
        assert_eq!(problem["status"], status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
        for (name, value) in RESPONSE_FIELDS {
            assert_eq!(response.headers()[name], value, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_allowed_ones() {
    let (response, _) = send(&control(true), request("POST", "/users/me", "")).await;
    assert_eq!(response.headers()["allow"], "GET,HEAD,PATCH");
}

#[tokio::test]
async fn registration_names_the_wrong_field() {
    let control = control(true);
    let good = ("ann", "ann@example.org", "correct horse");
    for (field, (username, email, password)) in [
        ("username", ("a b", good.1, good.2)),
        ("email", (good.0, "ann", good.2)),
        ("password", (good.0, good.1, "short")),
        ("password", (good.0, good.1, "password123")),
        ("password", ("correct-horse", good.1, "Correct-Horse")),
    ] {
        let body = serde_json::json!({"username": username, "email": email, "password": password}).to_string();
        let (response, problem) = send(&control, request("POST", "/auth/register", &body)).await;
        assert_eq!(response.status(), 400);
        assert!(problem["detail"].as_str().unwrap().starts_with(&format!("{field}: ")), "{problem}");
    }
}

#[tokio::test]
async fn answers_503_when_postgresql_does_not_answer() {
    let control = control(true);
    let token = control.live().keys.issue_access(UserId(7), SessionId(8), now_seconds(), 60);
    let mut with_token = request("GET", "/users/me", "");
    with_token.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let login = request("POST", "/auth/login", r#"{"login":"ann","password":"correct horse"}"#);
    for request in [with_token, login] {
        let (response, problem) = send(&control, request).await;
        assert_eq!((response.status().as_u16(), &problem["code"]), (503, &Value::from("storage_unavailable")));
        assert_eq!(response.headers()["retry-after"], "1");
    }
}

#[tokio::test]
async fn live_depends_on_nothing_and_ready_names_the_failing_check() {
    for path in ["/health", "/health/ready"] {
        let (response, body) = send(&control(true), request("GET", path, "")).await;
        assert_eq!((response.status().as_u16(), &body["status"]), (200, &Value::from("ok")));
        let (response, body) = send(&control(false), request("GET", path, "")).await;
        assert_eq!(response.status(), 503);
        assert_eq!(body["checks"]["database"], serde_json::json!({"status": "failing", "reason": "no connection"}));
        assert_eq!(body["checks"]["shards"], serde_json::json!({"status": "ok"}));
    }
    let (response, body) = send(&control(false), request("GET", "/health/live", "")).await;
    assert_eq!((response.status().as_u16(), body), (200, serde_json::json!({"status": "ok"})));
}

#[tokio::test]
async fn only_operators_see_metrics_and_the_reasons_of_failing_checks() {
    let token = MetricsToken::new("a token for programs");
    let access = Access::Operators { admins: vec![UserId(7)], metrics_token: Some(token) };
    let control = control_for(false, access);
    let access_token = |user| control.live().keys.issue_access(UserId(user), SessionId(8), now_seconds(), 60);
    for (token, sees_reasons, metrics) in [
        (String::new(), false, 401),
        ("a token for program".to_owned(), false, 401),
        ("a token for programs".to_owned(), true, 200),
        // The session is looked up, and PostgreSQL does not answer: it may have been revoked.
        (access_token(7), false, 503),
        (access_token(8), false, 503),
    ] {
        let get = |path| {
            let mut request = request("GET", path, "");
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            request
        };
        let (response, body) = send(&control, get("/health/ready")).await;
        assert_eq!(response.status(), 503);
        assert_eq!((&body["status"], body.get("checks").is_some()), (&Value::from("unavailable"), sees_reasons));
        assert_eq!(send(&control, get("/metrics")).await.0.status(), metrics, "{token}");
    }
    let internal = control.internal_router();
    assert_eq!(internal.oneshot(request("GET", "/metrics", "")).await.unwrap().status(), 200);
    for path in ["/metrics", "/dashboard", "/dashboard/events"] {
        let response = control.public_router().oneshot(request("GET", path, "")).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn counts_requests_and_refusals_by_route() {
    let control = control(true);
    for id in 0..3 {
        send(&control, request("GET", &format!("/users/{id}"), "")).await;
    }
    let page = control.metrics().render(&[]).unwrap();
    assert!(page.contains("operation=\"GET /users/{id}\""), "{page}");
    assert!(!page.contains("/users/2"));
    assert!(page.contains(r#"chat_server_errors_total{code="unauthenticated",transport="http"} 3"#), "{page}");
    assert!(page.contains(r#"chat_server_auth_attempts_total{kind="token",result="failure"} 3"#), "{page}");
    assert!(!page.contains(r#"kind="login""#));
}

#[tokio::test]
async fn shielded_work_continues_when_its_request_is_cancelled() {
    let (done, seen) = tokio::sync::oneshot::channel();
    let work = shielded(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = done.send(());
        Ok(())
    });
    assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err());
    assert_eq!(seen.await, Ok(()));
}

#[tokio::test]
async fn refuses_an_upgrade_on_a_used_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    let control = control(true);
    let runtime = tokio::runtime::Handle::current();
    let server = http::HttpServer::new(
        control.router(),
        control.health_router(),
        runtime,
        10,
        crate::address::TrustedProxies::default(),
    );
    let first = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
    server.adopt(socket.into_std().unwrap(), first, peer);
    let second = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: WebSocket\r\n\r\n";
    client.write_all(second.as_bytes()).await.unwrap();
    let mut answers = String::new();
    tokio::time::timeout(Duration::from_secs(9), client.read_to_string(&mut answers)).await.unwrap().unwrap();
    let (first, second) = answers[8..].split_once("HTTP/1.1 ").unwrap();
    assert!(first.starts_with(" 200 "), "{answers}");
    assert!(second.starts_with("400 ") && second.contains("fresh one"), "{answers}");
}
