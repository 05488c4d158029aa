//! Every expression of the Grafana dashboards and of the Prometheus rules yields data on a Prometheus that scrapes a
//! server in use.
//!
//! How: Prometheus has the rules of deploy/prometheus and scrapes once a second, while clients send, make mistakes and
//! come back. Then it is asked for each expression. Comparisons such as `> 0.25` are left out, because only the fault
//! itself would fulfil them; each side of an `and` is asked for alone. What the server had no reason to count is in
//! [`NEEDS_A_FAULT`].

use crate::containers::postgresql;
use crate::deploy::{files, folder, texts, yaml};
use crate::manifests::client;
use crate::support::redis::Redis;
use crate::support::{Client, Format, PATIENCE, Server};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Expressions without data on a server in good health, and why.
const NEEDS_A_FAULT: &[(&str, &str)] = &[];
/// Operators that compare with a threshold.
const COMPARISONS: &[&str] = &[" > ", " < ", " == ", " != ", " >= ", " <= "];

/// A Prometheus of a test. It ends with the test.
struct LivePrometheus {
    process: Child,
    address: String,
}

impl LivePrometheus {
    fn start(target: &str, data: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let rules = ["recording.rules.yml", "alerts.rules.yml"].map(|name| folder("prometheus").join(name));
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [{"job_name": "veza-chat", "static_configs": [{"targets": [target]}]}],
        });
        // JSON is YAML.
        std::fs::write(data.join("prometheus.yml"), config.to_string()).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(client("prometheus/prometheus"));
        command.arg(format!("--config.file={}", data.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", data.join("tsdb").display()));
        command.args([&format!("--web.listen-address={address}"), "--log.level=error"]);
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        Self { process, address }
    }

    /// The values of an expression now, or why there are none.
    async fn ask(&self, expression: &str) -> Result<usize, String> {
        let request = reqwest::Client::new().get(format!("http://{}/api/v1/query", self.address));
        let answer = request.query(&[("query", expression)]).timeout(PATIENCE).send().await;
        let answer: Value = answer.map_err(|error| error.to_string())?.json().await.unwrap();
        let Some(series) = answer["data"]["result"].as_array() else { return Err(answer.to_string()) };
        let values = series.iter().filter(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"));
        match values.count() {
            0 => Err(format!("{} series, and no number", series.len())),
            count => Ok(count),
        }
    }
}

impl Drop for LivePrometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The parts of an expression that have data on a healthy server: the sides of `and`, without their comparison.
fn parts(expression: &str) -> Vec<String> {
    let one_line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let side = |text: &str| {
        let end = COMPARISONS.iter().filter_map(|operator| text.find(operator)).min().unwrap_or(text.len());
        text[..end].trim().to_owned()
    };
    one_line.split(" and ").map(side).collect()
}

/// Where an expression is, and the expression with the variables of Grafana filled in.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in ["recording.rules.yml", "alerts.rules.yml"] {
        let mut in_file = Vec::new();
        texts(&yaml(name), &["expr"], &mut in_file);
        found.extend(in_file.into_iter().map(|expression| (name.to_owned(), expression)));
    }
    for (name, text) in files("grafana", "json") {
        let mut in_file = Vec::new();
        texts(&serde_json::from_str(&text).unwrap(), &["expr"], &mut in_file);
        found.extend(in_file.into_iter().map(|expression| (name.clone(), expression)));
    }
    let filled = |text: &str| {
        [("$job", ".*"), ("$instance", ".*"), ("$__rate_interval", "30s")]
            .iter()
            .fold(text.to_owned(), |text, (variable, value)| text.replace(variable, value))
    };
    found
        .into_iter()
        .flat_map(|(name, text)| parts(&filled(&text)).into_iter().map(move |part| (name.clone(), part)))
        .collect()
}

/// A second of what clients do: messages, mistakes, a wrong password, a connection.
async fn use_for_a_while(server: &Server, rooms: &[(String, crate::support::User)], round: usize) {
    for (room, user) in rooms {
        let mut client = Client::all(server, user, Format::ALL[round % 2]).await;
        for number in 0..5 {
            let message = json!({"conversation_id": room, "content": format!("message {round} {number}")});
            client.ok("send_message", message).await;
        }
        client.refused("send_message", json!({"conversation_id": room, "content": ""})).await;
        client.ok("get_history", json!({"conversation_id": room})).await;
        // Of one account, the server would soon make such attempts wait.
        let wrong = json!({"login": format!("nobody_{round}_{room}"), "password": "not the right one"});
        assert_eq!(server.post("/auth/login", None, &wrong).await.0, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_yields_data_on_a_prometheus_that_scrapes_a_server_in_use() {
    let (_host, database) = postgresql().await;
    let (redis, data) = (Redis::start(), tempfile::tempdir().unwrap());
    let internal = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let redis_url = redis.url();
    let settings = [
        ("database.url", database.as_str()),
        ("cluster.redis_url", &redis_url),
        ("server.internal_addr", &internal),
        ("features.webhooks", "true"),
    ];
    let server = Server::start_first(2, &settings, &[]);
    let prometheus = LivePrometheus::start(&internal, data.path());
    let (ann, bob) = (server.register().await, server.register().await);
    // Several rooms, so that both shards own some and events cross between shards.
    let mut rooms = Vec::new();
    for _ in 0..4 {
        rooms.push((server.room(&[&ann, &bob]).await, ann.clone()));
    }
    let _listener = Client::all(&server, &bob, Format::Json).await;

    let mut missing: Vec<(String, String, String)> =
        expressions().into_iter().map(|(name, text)| (name, text, String::new())).collect();
    assert!(missing.len() > 80, "{}", missing.len());
    let excused = |text: &str| NEEDS_A_FAULT.iter().any(|(part, _)| *part == text);
    for (part, reason) in NEEDS_A_FAULT {
        assert!(missing.iter().any(|(_, text, _)| text == part), "no expression has {part} ({reason}) any more");
    }
    missing.retain(|(_, text, _)| !excused(text));
    let (started, mut round) = (Instant::now(), 0);
    while !missing.is_empty() && started.elapsed() < PATIENCE {
        use_for_a_while(&server, &rooms, round).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        round += 1;
        let mut still = Vec::new();
        for (name, text, _) in missing {
            if let Err(reason) = prometheus.ask(&text).await {
                still.push((name, text, reason));
            }
        }
        missing = still;
    }
    let shown: Vec<String> = missing.iter().map(|(name, text, reason)| format!("{name}: {text}: {reason}")).collect();
    assert!(missing.is_empty(), "no data for\n{}", shown.join("\n"));
    for (part, reason) in NEEDS_A_FAULT {
        assert!(
            prometheus.ask(part).await.is_err(),
            "{part} has data without a fault ({reason}): take it off the list"
        );
    }
    // The test finds what has no data.
    assert!(prometheus.ask("sum(rate(chat_server_messages_total{outcome=\"lost\"}[1m]))").await.is_err());
    assert!(prometheus.ask("sum(rat(chat_server_messages_total[1m]))").await.is_err());
}

#[test]
fn asks_for_each_side_without_its_comparison() {
    assert_eq!(parts("a > 0\n  and b == 0\n"), ["a", "b"]);
    assert_eq!(parts("sum by (x) (rate(a{y=\"1\"}[5m])) > 0.01 * b"), ["sum by (x) (rate(a{y=\"1\"}[5m]))"]);
}
