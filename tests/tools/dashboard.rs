//! The dashboard: which users may open it, what a browser shows, and that the page reconnects after a restart.
//!
//! How: clients send messages while Chromium has the page open. The tests read the figures from the document of the
//! page and save pictures in target/artifacts/ for review. Errors and warnings on the console are failures.

use crate::support::browser::Browser;
use crate::support::{Client, Format, PASSWORD, PATIENCE, Server, User, code, protocol, server};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Opens the event stream with a token. Returns the status, and the problem if the server refuses.
async fn open_events(server: &Server, token: Option<&str>) -> (u16, Option<Value>) {
    let mut request = reqwest::Client::new().get(format!("{}/dashboard/events", server.base_url)).timeout(PATIENCE);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await.unwrap();
    let status = response.status().as_u16();
    protocol::assert_response("/dashboard/events", &response, None);
    if status != 200 {
        return (status, Some(response.json().await.unwrap()));
    }
    let first = response.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: hello\ndata: {"), "{first:?}");
    (status, None)
}

#[tokio::test]
async fn allows_everyone_in_development() {
    assert_eq!(open_events(server().await, None).await.0, 200);
}

#[tokio::test]
async fn allows_only_administrators_with_a_valid_session_outside_development() {
    let server = Server::start(2, &[("server.environment", "production"), ("security.admin_user_ids", "1")]);
    let (admin, other) = (server.register().await, server.register().await);
    assert_eq!(admin.id, 1, "the first user of a new server");
    let (status, problem) = open_events(&server, None).await;
    assert_eq!((status, code(&problem.unwrap())), (401, "unauthenticated".to_owned()));
    let (status, problem) = open_events(&server, Some("not.a.token")).await;
    assert_eq!((status, code(&problem.unwrap())), (401, "unauthenticated".to_owned()));
    let (status, problem) = open_events(&server, Some(&other.token)).await;
    let problem = problem.unwrap();
    assert_eq!((status, code(&problem)), (403, "forbidden".to_owned()));
    let detail = problem["detail"].as_str().unwrap();
    let names_the_account = detail.contains(&format!(" {},", other.id));
    assert!(names_the_account && detail.contains("security.admin_user_ids"), "{problem}");
    assert_eq!(open_events(&server, Some(&admin.token)).await.0, 200);

    let request = reqwest::Client::new().get(format!("{}/dashboard/events", server.base_url)).bearer_auth(&admin.token);
    let mut stream = request.send().await.unwrap();
    assert_eq!(server.post("/auth/logout", Some(&admin.token), &json!({})).await.0, 204);
    let ends = async { while stream.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(PATIENCE, ends).await.expect("the stream of a revoked session stays open");
    assert_eq!(open_events(&server, Some(&admin.token)).await.0, 401);
}

/// Sends messages in a room until `stop` is set.
fn send_messages(server: &Arc<Server>, users: Vec<User>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (server, stop) = (Arc::clone(server), Arc::clone(stop));
    tokio::spawn(async move {
        let room = server.room(&users.iter().collect::<Vec<_>>()).await;
        let mut clients = Vec::new();
        for (at, user) in users.iter().enumerate() {
            clients.push(Client::all(&server, user, Format::ALL[at % 2]).await);
        }
        while !stop.load(Ordering::Relaxed) {
            for client in &mut clients {
                client.ok("send_message", json!({"conversation_id": room, "content": "hello"})).await;
            }
            for client in &mut clients {
                client.drain().await;
            }
        }
    })
}

/// Whether the text of an element begins with a positive number.
const IS_POSITIVE: &str = "(id) => parseFloat(document.getElementById(id).textContent.replaceAll(',', '')) > 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_live_figures_and_reconnects_after_a_restart() {
    let server = Arc::new(Server::start(2, &[]));
    let mut users = Vec::new();
    for _ in 0..6 {
        users.push(server.register().await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = send_messages(&server, users, &stop);

    let mut browser = Browser::start().await;
    browser.appear(1_400, 900, "light").await;
    browser.open(&format!("{}/dashboard", server.base_url)).await;
    browser.wait_for("document.getElementById('tile-acked')").await;
    for tile in ["acked", "delivered", "ack-p99", "delivery-p99", "connections", "batch", "bytes-in", "bytes-out"] {
        browser.wait_for(&format!("({IS_POSITIVE})('tile-{tile}')")).await;
    }
    // The page shows a P99 only above 100 values.
    let ack = "document.getElementById('stage-ack').cells[3].textContent";
    browser.wait_for(&format!("/^[0-9.]+\\u2009(µs|ms|s)$/.test({ack})")).await;
    let connections = browser.evaluate("document.getElementById('tile-connections').textContent").await;
    assert_eq!(connections, "6");
    let stages =
        "[...document.querySelectorAll('#stages tbody tr')].map((row) => row.id + ' ' + row.cells[7].textContent)";
    let stages = browser.evaluate(stages).await;
    let stages: BTreeSet<&str> = stages.as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
    assert_eq!(stages.len(), 8);
    assert!(stages.iter().all(|row| !row.ends_with(" 0")), "every stage has values: {stages:?}");
    let curves = browser.evaluate("document.querySelectorAll('#curves path.curve').length").await;
    assert_eq!(curves, 8);
    let rows = browser.evaluate("document.querySelectorAll('#shards tbody tr').length").await;
    assert_eq!(rows, 2);
    let healthy = browser.evaluate("document.querySelectorAll('#health [data-ok=true]').length").await;
    assert_eq!(healthy, 3);

    // The arrow keys select an earlier value, which is shown with its time.
    browser.evaluate("document.querySelector('.tile').focus()").await;
    for kind in ["keyDown", "keyUp"] {
        let key = json!({"type": kind, "key": "ArrowLeft", "code": "ArrowLeft", "windowsVirtualKeyCode": 37});
        browser.call("Input.dispatchKeyEvent", key).await;
    }
    browser.wait_for("/^at \\d\\d:\\d\\d:\\d\\d$/.test(document.querySelector('.tile .when').textContent)").await;
    browser.evaluate("document.activeElement.blur()").await;

    for (name, width, height, scheme) in [
        ("dashboard-desktop.png", 1_400, 900, "light"),
        ("dashboard-desktop-dark.png", 1_400, 900, "dark"),
        ("dashboard-phone.png", 360, 780, "light"),
        ("dashboard-phone-dark.png", 360, 780, "dark"),
    ] {
        browser.appear(width, height, scheme).await;
        browser
            .wait_for(&format!("document.querySelector('#heat canvas').getBoundingClientRect().width < {width}"))
            .await;
        let overflow = browser.evaluate("document.documentElement.scrollWidth - innerWidth").await;
        assert_eq!(overflow, 0, "the page does not overflow at {width} pixels");
        let table = "document.getElementById('stages').parentElement";
        let cut = browser.evaluate(&format!("{table}.scrollWidth > {table}.clientWidth")).await;
        assert_eq!(cut, false, "the table of stages fits at {width} pixels");
        browser.screenshot(name).await;
    }
    assert_eq!(browser.take_complaints(), Vec::<Value>::new());

    stop.store(true, Ordering::Relaxed);
    traffic.await.unwrap();
    server.sigterm();
    server.wait();
    browser.wait_for("document.getElementById('connection').dataset.state === 'lost'").await;
    server.start_again();
    browser.wait_for("document.getElementById('connection').dataset.state === 'live'").await;
    browser.wait_for("document.getElementById('about').textContent.startsWith('The server restarted at ')").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_for_a_login_outside_development() {
    let server = Server::start(2, &[("server.environment", "staging"), ("security.admin_user_ids", "1")]);
    let (admin, other) = (server.register().await, server.register().await);
    let mut browser = Browser::start().await;
    browser.open(&format!("{}/dashboard", server.base_url)).await;
    for (user, shown) in [(&other, "sign-in-reason"), (&admin, "tiles")] {
        browser.wait_for("document.getElementById('sign-in')?.hidden === false").await;
        let name = serde_json::to_string(&user.name).unwrap();
        let password = serde_json::to_string(PASSWORD).unwrap();
        let fill = format!(
            "const form = document.getElementById('sign-in').elements; form.login.value = {name}; \
             form.password.value = {password}; document.querySelector('#sign-in button').click()"
        );
        browser.evaluate(&format!("(() => {{ {fill} }})()")).await;
        let expected = match shown {
            "tiles" => "document.getElementById('tile-connections')".to_owned(),
            reason => format!("document.getElementById('{reason}').textContent.includes('admin_user_ids')"),
        };
        browser.wait_for(&expected).await;
    }
    assert_eq!(browser.evaluate("document.getElementById('sign-in').hidden").await, true);
    // The console reports refused requests (401, 403) as network errors. Anything else is a fault of the page.
    let complaints = browser.take_complaints();
    let failed = |complaint: &Value| complaint["entry"]["source"] == "network";
    assert!(complaints.iter().all(failed), "{complaints:?}");
}
