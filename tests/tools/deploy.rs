//! The Grafana dashboards and Prometheus rules in deploy/ use only metrics, labels and values that exist: they are on
//! the /metrics page of a server that has had some traffic, or a rule in deploy/ records them.
//!
//! How: a small `PromQL` reader extracts names and label matchers from each expression. It takes unknown words for
//! metrics, so a misspelt function or metric is a failure. `promtool`, which scripts/install-test-clients.sh installs,
//! checks the rules and runs their tests.

use crate::programs::installed;
use crate::support;
use crate::support::{Client, Format, Server};
use chat_server::latency::LatencyStage;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names in expressions that are not metrics.
const KEYWORDS: &[&str] =
    &["sum", "min", "max", "avg", "rate", "increase", "changes", "histogram_quantile", "label_values", "by", "and"];
/// Labels that Prometheus adds, and `le`, which belongs to every histogram.
const ADDED_LABELS: &[&str] = &["job", "instance", "le"];

pub fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

pub fn files(path: &str, extension: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder(path)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|file| file.extension().is_some_and(|found| found == extension))
        .map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(file).unwrap()))
        .collect();
    files.sort();
    files
}

pub fn yaml(name: &str) -> Value {
    let text = std::fs::read_to_string(folder("prometheus").join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Collects every string under one of these keys, at any depth.
pub fn texts(value: &Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text.clone()),
                    value => texts(value, keys, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, keys, found)),
        _ => {}
    }
}

/// A metric and its matchers: label, operator, value.
#[derive(Debug, PartialEq)]
struct Selector {
    metric: String,
    matchers: Vec<(String, String, String)>,
}

/// The selectors of an expression, and the labels that it groups by.
fn read(expression: &str) -> (Vec<Selector>, Vec<String>) {
    let chars: Vec<char> = expression.chars().collect();
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '$');
    let take = |from: usize| -> String { chars[from..].iter().take_while(|c| word(**c)).collect() };
    let (mut selectors, mut labels, mut i): (Vec<Selector>, Vec<String>, usize) = Default::default();
    while i < chars.len() {
        let name = take(i);
        if name.is_empty() {
            assert!(chars[i] != '{', "a selector without a name: {expression}");
            // A range such as [5m] holds no names.
            i = if chars[i] == '[' { i + chars[i..].iter().position(|c| *c == ']').unwrap() } else { i } + 1;
            continue;
        }
        i += name.len();
        let rest: String = chars[i..].iter().collect();
        if name == "by" {
            let list = rest.trim_start().strip_prefix('(').unwrap().split(')').next().unwrap();
            labels.extend(list.split(',').map(|label| label.trim().to_owned()));
            i += rest.find(')').unwrap();
        } else if name == "label_values" {
            // label_values(SELECTOR, LABEL)
            let inner = rest.strip_prefix('(').unwrap().strip_suffix(')').unwrap();
            let (selector, label) = inner.rsplit_once(", ").unwrap();
            selectors.extend(read(selector).0);
            labels.push(label.to_owned());
            i = chars.len();
        } else if name.starts_with(|c: char| c.is_ascii_digit()) || KEYWORDS.contains(&name.as_str()) {
            // A number or a keyword.
        } else if let Some(braces) = rest.strip_prefix('{') {
            let inner = &braces[..braces.find('}').unwrap()];
            i += inner.len() + 2;
            let matchers = inner.split(", ").map(|matcher| {
                let at = matcher.find(['=', '!']).unwrap_or_else(|| panic!("{matcher} in {expression}"));
                let quote = matcher.find('"').unwrap();
                let value = matcher[quote..].trim_matches('"').to_owned();
                (matcher[..at].to_owned(), matcher[at..quote].to_owned(), value)
            });
            selectors.push(Selector { metric: name, matchers: matchers.collect() });
        } else {
            selectors.push(Selector { metric: name, matchers: Vec::new() });
        }
    }
    (selectors, labels)
}

/// Series name → label → values.
type Page = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn parse_page(text: &str) -> Page {
    let mut page = Page::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| (name, labels));
        let entry = page.entry(name.to_owned()).or_default();
        for pair in labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once("=\"").unwrap();
            entry.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    page
}

/// The metrics page after messages from one user to another and a failed login.
async fn page_after_traffic() -> Page {
    let server = Server::start(2, &[("database.shared", "true"), ("features.webhooks", "true")]);
    let (ann, bob) = (server.register().await, server.register().await);
    let mut listener = Client::all(&server, &bob, Format::Json).await;
    let mut sender = Client::all(&server, &ann, Format::MessagePack).await;
    // Several rooms, so that both shards own some and events cross between shards.
    for _ in 0..8 {
        let room = server.room(&[&ann, &bob]).await;
        sender.ok("send_message", json!({"conversation_id": room, "content": "hello"})).await;
        listener.event("message_created").await;
    }
    let wrong = json!({"login": ann.name, "password": "not the right one"});
    assert_eq!(server.post("/auth/login", None, &wrong).await.0, 401);
    let answer = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap();
    support::protocol::assert_response("/metrics", &answer, None);
    let text = answer.text().await.unwrap();
    let mut page = parse_page(&text);
    // Prometheus adds this metric.
    page.entry("up".to_owned()).or_default();
    for stage in LatencyStage::ALL {
        assert!(page["chat_server_stage_duration_seconds_count"]["stage"].contains(stage.as_str()), "{stage:?}");
    }
    page
}

#[tokio::test]
async fn uses_only_metrics_labels_and_values_that_exist() {
    let page = page_after_traffic().await;
    let mut expressions: Vec<(String, String)> = Vec::new();
    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in ["recording.rules.yml", "alerts.rules.yml"] {
        for rule in yaml(name)["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap()) {
            let expression = rule["expr"].as_str().unwrap().to_owned();
            if let Some(record) = rule["record"].as_str() {
                // A recorded series has the labels that it groups by, and those of the recorded series that it uses.
                let (selectors, labels) = read(&expression);
                let inherited =
                    selectors.iter().filter_map(|selector| recorded.get(&selector.metric)).flatten().cloned();
                let labels = labels.into_iter().chain(inherited).collect();
                assert!(recorded.insert(record.to_owned(), labels).is_none(), "{record} is recorded twice");
            }
            expressions.push((name.to_owned(), expression));
        }
    }
    for (name, text) in files("grafana", "json") {
        let mut found = Vec::new();
        texts(&serde_json::from_str(&text).unwrap(), &["expr", "definition"], &mut found);
        assert!(found.len() > 5, "{name}");
        expressions.extend(found.into_iter().map(|expression| (name.clone(), expression)));
    }
    for (name, expression) in &expressions {
        let (selectors, grouped) = read(expression);
        assert!(!selectors.is_empty(), "{name}: {expression}");
        let known = |label: &String| {
            ADDED_LABELS.contains(&label.as_str())
                || selectors.iter().any(|Selector { metric, .. }| {
                    page.get(metric).is_some_and(|labels| labels.contains_key(label))
                        || recorded.get(metric).is_some_and(|labels| labels.contains(label))
                })
        };
        for Selector { metric, matchers } in &selectors {
            let on_page = page.get(metric);
            assert!(on_page.is_some() || recorded.contains_key(metric), "{name}: no metric {metric}: {expression}");
            for (label, operator, value) in matchers {
                assert!(known(label), "{name}: {metric} has no label {label}: {expression}");
                let values = on_page.and_then(|labels| labels.get(label));
                let Some(values) = values.filter(|_| !ADDED_LABELS.contains(&label.as_str())) else { continue };
                let wanted = value.split('|').filter(|_| !operator.starts_with('!'));
                for value in wanted {
                    assert!(values.contains(value), "{name}: {metric} has no {label}={value}, but {values:?}");
                }
            }
        }
        for label in grouped {
            assert!(known(&label), "{name}: nothing has a label {label}: {expression}");
        }
    }
}

#[test]
fn gives_each_panel_its_own_id_and_place() {
    let mut uids = BTreeSet::new();
    let dashboards = files("grafana", "json");
    assert_eq!(dashboards.len(), 4);
    for (name, text) in dashboards {
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name}: another dashboard has its uid");
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title} has the id of another panel");
            assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {title}");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(x + w <= 24 && w > 0 && h > 0, "{name}: {title} is not on the grid");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{name}: {title} overlaps another panel");
            }
        }
    }
}

#[test]
fn links_every_alert_to_its_runbook() {
    let docs = std::fs::read_to_string(folder("../docs/operations.md")).unwrap();
    let alerts = yaml("alerts.rules.yml");
    let rules: Vec<&Value> =
        alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 10);
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        for key in ["summary", "description"] {
            assert!(rule["annotations"][key].as_str().is_some_and(|text| text.len() > 10), "{name}: {key}");
        }
        assert_eq!(rule["annotations"]["runbook"], format!("docs/operations.md#{}", name.to_lowercase()));
        let heading = format!("\n### {name}\n");
        let entry =
            docs.split_once(&heading).unwrap_or_else(|| panic!("docs/operations.md has no runbook for {name}")).1;
        let entry = entry.split("\n#").next().unwrap();
        for part in ["Meaning", "Users", "Look at", "Do"] {
            assert!(entry.contains(&format!("\n- **{part}.** ")), "the runbook for {name} has no part {part}");
        }
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
    }
}

#[test]
fn parses_every_yaml_file() {
    let files = files("prometheus", "yml");
    assert!(files.len() >= 4);
    for (name, _) in files {
        assert!(yaml(&name).is_object(), "{name}");
    }
}

#[test]
fn passes_promtool_checks_and_rule_tests() {
    let promtool = installed("target/test-clients/promtool/promtool");
    for arguments in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "recording.rules.yml", "alerts.rules.yml"],
        &["test", "rules", "tests.yml"],
    ] {
        let output = Command::new(&promtool).args(arguments).current_dir(folder("prometheus")).output().unwrap();
        let printed = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "promtool {arguments:?}:\n{printed}");
    }
}

#[test]
fn reads_metrics_and_labels_from_expressions() {
    let selector = |metric: &str, matchers: &[(&str, &str, &str)]| Selector {
        metric: metric.to_owned(),
        matchers: matchers.iter().map(|(a, b, c)| ((*a).into(), (*b).into(), (*c).into())).collect(),
    };
    let (selectors, labels) = read("sum by (job, le) (rate(a_total{x=\"1\", y=~\"2|3\"}[5m])) / b:c > 0.5 and up == 0");
    let expected =
        [selector("a_total", &[("x", "=", "1"), ("y", "=~", "2|3")]), selector("b:c", &[]), selector("up", &[])];
    assert_eq!(selectors, expected);
    assert_eq!(labels, ["job", "le"]);
    assert_eq!(
        read("sum(rat(a[1m]))").0[0].metric,
        "rat",
        "a misspelt function counts as a metric that does not exist"
    );
    let (selectors, labels) = read("label_values(a{job=~\"$job\"}, instance)");
    assert_eq!((selectors, labels), (vec![selector("a", &[("job", "=~", "$job")])], vec!["instance".to_owned()]));
}
