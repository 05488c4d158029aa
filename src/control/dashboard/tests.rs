//! The routes without PostgreSQL: headers of the page, events of the stream, and refusals.

use super::*;
use crate::control::state::Control;
use crate::control::tests::{control, request, send};
use crate::mesh::counters::ShardCounters;
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::Value;
use tower::ServiceExt;

/// The next event of a stream: its name and data.
async fn next_event(body: &mut axum::body::BodyDataStream) -> (String, Value) {
    let bytes = body.next().await.unwrap().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    (name.to_owned(), serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap())
}

async fn open(control: &Control) -> Response {
    control.router().oneshot(request("GET", "/dashboard/events", "")).await.unwrap()
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline() {
    let control = control(true);
    let response = control.router().oneshot(request("GET", "/dashboard", "")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for directive in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"] {
        assert!(policy.split("; ").any(|found| found == directive), "{policy}");
    }
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let page = std::str::from_utf8(&body).unwrap();
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains(" style=") && !page.contains(" on"));
    let parts = page.split(['"', '\'']).filter(|text| text.starts_with("dashboard/"));
    let parts: Vec<&str> = parts.collect();
    assert_eq!(parts.len(), 3, "{parts:?}");
    for part in parts {
        let response = control.router().oneshot(request("GET", &format!("/{part}"), "")).await.unwrap();
        assert_eq!(response.status(), 200, "{part}");
        assert_eq!(response.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    }
}

#[tokio::test]
async fn every_module_that_the_page_imports_is_served() {
    let (control, mut seen, mut open) = (control(true), Vec::new(), vec!["page.js".to_owned()]);
    while let Some(module) = open.pop() {
        let response = control.router().oneshot(request("GET", &format!("/dashboard/{module}"), "")).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/javascript; charset=utf-8".parse().unwrap()),
            "{module}"
        );
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        let imports = text.lines().filter_map(|line| line.split_once(" from \"./")?.1.strip_suffix("\";"));
        seen.push(module);
        open.extend(imports.filter(|import| !seen.iter().any(|seen| seen == import)).map(str::to_owned));
    }
    assert!(seen.len() >= 6, "{seen:?}");
}

#[tokio::test]
async fn a_stream_begins_with_the_history_and_continues_every_second() {
    let control = control(true);
    let dashboard = control.dashboard().clone();
    dashboard.end_second(Duration::from_secs(1));
    let response = open(&control).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let (name, hello) = next_event(&mut body).await;
    assert_eq!((name.as_str(), hello["history"].as_array().unwrap().len()), ("hello", 1));
    assert_eq!(hello["stages"][6], "ack");
    assert_eq!(hello["now"]["health"][1], serde_json::json!({"name": "database", "ok": true, "reason": null}));
    dashboard.end_second(Duration::from_millis(1_250));
    let (name, second) = next_event(&mut body).await;
    assert_eq!((name.as_str(), &second["sample"]["ms"]), ("second", &Value::from(1_250)));
    let per_window = second["summaries"].as_array().unwrap();
    assert_eq!((per_window.len(), per_window[0].as_array().unwrap().len()), (4, LatencyStage::ALL.len()));
}

#[tokio::test]
async fn a_watcher_that_does_not_read_misses_the_oldest_seconds() {
    let control = control(true);
    let mut body = open(&control).await.into_body().into_data_stream();
    for ms in 1..=BACKLOG_SECONDS as u64 + 3 {
        control.dashboard().end_second(Duration::from_millis(ms));
    }
    assert_eq!(next_event(&mut body).await.0, "hello");
    assert_eq!(next_event(&mut body).await.1["sample"]["ms"], 4);
}

#[tokio::test]
async fn refuses_one_watcher_too_many_until_another_leaves() {
    let control = control(true);
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS_MAX {
        let response = open(&control).await;
        assert_eq!(response.status(), 200);
        watchers.push(response);
    }
    let (response, problem) = send(&control, request("GET", "/dashboard/events", "")).await;
    assert_eq!((response.status().as_u16(), &problem["code"]), (503, &Value::from("overloaded")));
    assert!(response.headers().contains_key("retry-after"));
    watchers.pop();
    assert_eq!(open(&control).await.status(), 200);
}

#[tokio::test]
async fn a_stream_ends_when_the_server_shuts_down() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    let control = control(true);
    let runtime = tokio::runtime::Handle::current();
    let server = crate::control::http::HttpServer::new(
        control.router(),
        control.health_router(),
        runtime,
        10,
        crate::address::TrustedProxies::default(),
    );
    server.adopt(socket.into_std().unwrap(), Vec::new(), peer);
    client.write_all(b"GET /dashboard/events HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    while !received.windows(12).any(|window| window == b"event: hello") {
        assert!(client.read_buf(&mut received).await.unwrap() > 0);
    }
    assert!(server.shutdown(Duration::from_mins(1)).await, "the stream must not be what shutdown waits for");
    client.read_to_end(&mut received).await.unwrap();
    assert!(received.ends_with(b"0\r\n\r\n"), "a proper end");
}

/// Its reason has a line break.
struct Broken;

impl HealthPort for Broken {
    fn checks(&self) -> Vec<Check> {
        vec![Check { name: "storage", ok: false, reason: Some("line\nbreak".into()) }]
    }
}

#[test]
fn an_event_is_one_line_of_data() {
    let shards = vec![Arc::new(ShardCounters::new(&[]))];
    let observed = Observed::of_shards(shards);
    let (hello, _) = Dashboard::new(observed, Arc::new(Broken)).watch();
    let text = std::str::from_utf8(&hello).unwrap();
    assert_eq!(text.matches('\n').count(), 3, "{text}");
}
