//! Every alert of deploy/prometheus fires when its fault happens.
//!
//! How: Prometheus scrapes several servers every second, and each of them suffers some of the faults. The rules are the
//! shipped ones; only their times are shorter (`SHORTER`). The faults are real: processes are killed, threads stopped,
//! rights taken away, clients do not read. An alert without a fault fails the test.

use crate::support::receiver::Receiver;
use crate::support::redis::Redis;
use crate::support::{Client, Format, PATIENCE, Server, wait_until};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Minutes become seconds. Two thresholds are times that nobody waits for in a test.
const SHORTER: [(&str, &str); 9] = [
    ("for: 30s", "for: 1s"),
    ("for: 1m", "for: 1s"),
    ("for: 5m", "for: 1s"),
    ("for: 10m", "for: 1s"),
    ("[1m]", "[10s]"),
    ("[5m]", "[10s]"),
    ("[15m]", "[10m]"),
    ("chat_server_shard_last_turn_age_seconds > 10", "chat_server_shard_last_turn_age_seconds > 2"),
    ("chat_server_search_lag_seconds > 300", "chat_server_search_lag_seconds > 2"),
];
/// A busy machine can fire these without a fault.
const TIMES: [&str; 7] = [
    "VezaDown",
    "VezaAckSlow",
    "VezaDeliverySlow",
    "VezaCommitSlow",
    "VezaCommitQueueLong",
    "VezaBudgetsShrunk",
    "VezaReadsQueued",
];

/// A Prometheus that scrapes and evaluates the rules every second. It ends with the test.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
    /// Alerts that have fired after their fault.
    fired: Mutex<BTreeSet<String>>,
}

impl Prometheus {
    fn start(targets: &[SocketAddr]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients/prometheus/prometheus");
        assert!(program.exists(), "Prometheus is missing; scripts/install-test-clients.sh extracts it");
        let folder = tempfile::tempdir().unwrap();
        let mut unused: BTreeSet<&str> = SHORTER.iter().map(|(from, _)| *from).collect();
        for (name, rules) in [("recording.rules.yml", recording()), ("alerts.rules.yml", alerts())] {
            let shorter = SHORTER.iter().fold(rules.to_owned(), |rules, (from, to)| {
                if rules.contains(from) {
                    unused.remove(from);
                }
                rules.replace(from, to)
            });
            std::fs::write(folder.path().join(name), shorter).unwrap();
        }
        assert!(unused.is_empty(), "no rule has these: {unused:?}");
        let configuration = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["recording.rules.yml", "alerts.rules.yml"],
            "scrape_configs": [{"job_name": "veza-chat", "static_configs": [{"targets": targets}]}],
        });
        std::fs::write(folder.path().join("prometheus.yml"), configuration.to_string()).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let output = std::fs::File::create(folder.path().join("output")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&program).current_dir(folder.path());
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]);
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
        let child = command.spawn().unwrap();
        Self { address, child, folder, fired: Mutex::default() }
    }

    /// The series of an expression, with their values; empty while Prometheus starts.
    async fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let url = format!("http://{}/api/v1/query", self.address);
        let Ok(answer) = reqwest::Client::new().get(url).query(&[("query", expression)]).send().await else {
            return Vec::new();
        };
        let Ok(answer) = answer.json::<Value>().await else { return Vec::new() };
        assert_ne!(answer["status"], "error", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |series: &Value| series["value"][1].as_str().unwrap().parse().unwrap();
        series.iter().map(|series| (series["metric"].clone(), value(series))).collect()
    }

    /// Waits until an expression has a value.
    async fn until(&self, expression: &str) {
        let started = Instant::now();
        while self.query(expression).await.is_empty() {
            let output = || std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "never true: {expression}\n{}", output());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Every alert that has fired so far, with its target.
    async fn ever_fired(&self) -> BTreeSet<(String, String)> {
        let fired = self.query("max_over_time(ALERTS{alertstate=\"firing\"}[10m])").await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        fired.iter().map(|(labels, _)| (text(&labels["alertname"]), text(&labels["instance"]))).collect()
    }

    /// Waits until these alerts have fired for this target.
    async fn fires(&self, target: SocketAddr, alerts: &[&str]) {
        let started = Instant::now();
        for alert in alerts {
            while !self.ever_fired().await.contains(&((*alert).to_owned(), target.to_string())) {
                assert!(started.elapsed() < PATIENCE, "{alert} has not fired: {:?}", self.ever_fired().await);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            println!("{alert} fired after {:?}", started.elapsed());
            self.fired.lock().unwrap().insert((*alert).to_owned());
        }
    }

    /// Repeats something until these alerts have fired.
    async fn fires_during(&self, target: SocketAddr, alerts: &[&str], again: impl AsyncFn()) {
        let repeated = async {
            loop {
                again().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = self.fires(target, alerts) => {}
            () = repeated => {}
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn alerts() -> &'static str {
    include_str!("../../deploy/prometheus/alerts.rules.yml")
}

fn recording() -> &'static str {
    include_str!("../../deploy/prometheus/recording.rules.yml")
}

/// The names of all alerts.
fn names() -> BTreeSet<String> {
    let rules: Value = serde_saphyr::from_str(alerts()).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    groups.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

/// Where a server with the private PostgreSQL is found.
fn url_of(host: &Server) -> String {
    format!("postgresql://veza@{}/veza_chat", host.data_dir.join("postgres").to_str().unwrap().replace('/', "%2F"))
}

/// One more server on the database of another one.
fn node(url: &str, more: &[(&str, &str)]) -> Server {
    let mut settings = vec![("database.url", url), ("database.shared", "true"), ("database.max_connections", "2")];
    settings.extend(more);
    Server::start(1, &settings)
}

/// Starts a server as its child, and stops the thread of its first shard at the first line of its input. A debugger may
/// do that to its own children, whatever the system allows otherwise. The server ends with it.
const STOPPABLE: &str = r"
import ctypes, os, signal, subprocess, sys
server = subprocess.Popen(sys.argv[1:])
def stop():
    for thread in os.listdir(f'/proc/{server.pid}/task'):
        with open(f'/proc/{server.pid}/task/{thread}/comm') as name:
            if name.read().startswith('shard'):
                libc = ctypes.CDLL(None, use_errno=True)
                for request in (0x4206, 0x4207): # PTRACE_SEIZE, PTRACE_INTERRUPT
                    if libc.ptrace(request, int(thread), 0, 0) != 0:
                        sys.exit(os.strerror(ctypes.get_errno()))
                return
    sys.exit('no shard')
if sys.stdin.readline():
    stop()
    sys.stdin.readline()
server.kill()
";

/// A server with a shard that can be stopped.
struct Stoppable {
    child: Child,
    /// Its port for operators, which the control thread serves.
    internal: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Stoppable {
    fn start(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [public, internal] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [public, internal] = [public, internal].map(|listener| listener.local_addr().unwrap());
        let mut command = Command::new("python3");
        command.args(["-c", STOPPABLE, env!("CARGO_BIN_EXE_chat-server"), "serve"]).current_dir(folder.path());
        for (key, value) in [
            ("SERVER__BIND_ADDR", public.to_string()),
            ("SERVER__INTERNAL_ADDR", internal.to_string()),
            ("SERVER__WORKERS", "2".to_owned()),
            ("DATABASE__URL", url.to_owned()),
            ("DATABASE__SHARED", "true".to_owned()),
            ("DATABASE__MAX_CONNECTIONS", "2".to_owned()),
            ("SECURITY__JWT_SECRET", "a signing key for tests, not a secret".to_owned()),
            ("DATA_DIR", folder.path().join("data").display().to_string()),
        ] {
            command.env(format!("CHAT_SERVER__{key}"), value);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { child, internal, _folder: folder }
    }

    fn stop_shard(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"stop\n").unwrap();
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The server is killed three times.
async fn killed(prometheus: &Prometheus, node: &Server) {
    for restarts in 1..=3 {
        node.kill9();
        if restarts == 1 {
            prometheus.fires(node.address, &["VezaDown"]).await;
        }
        tokio::task::block_in_place(|| node.start_again());
        let seen = format!("changes(process_start_time_seconds{{instance=\"{}\"}}[10m]) >= {restarts}", node.address);
        prometheus.until(&seen).await;
    }
    prometheus.fires(node.address, &["VezaRestarting"]).await;

    // It may open few files more than it has.
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
    let limit = format!("--nofile={}:", open + 2);
    let limited = Command::new("prlimit").args(["--pid", &node.pid().to_string(), &limit]).status().unwrap();
    assert!(limited.success());
    prometheus.fires(node.address, &["VezaDescriptorsNearLimit"]).await;
}

/// A shard makes no progress.
async fn stopped(prometheus: &Prometheus, server: &mut Stoppable) {
    server.stop_shard();
    prometheus.fires(server.internal, &["VezaShardStalled"]).await;
}

/// Messages are sent, and nobody is subscribed.
async fn unheard(prometheus: &Prometheus, server: &Server) {
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let _idle = [Client::none(server, &ann, Format::Json).await, Client::none(server, &bob, Format::Json).await];
    let message = json!({"conversation_id": room, "content": "does anybody hear me?"});
    let again = async || drop(server.ok(&ann, "send_message", message.clone()).await);
    prometheus.fires_during(server.address, &["VezaNoDeliveries"], again).await;
}

/// A new administrator promotes a friend. Somebody tries one password for many accounts, and then faster than allowed.
async fn attacked(prometheus: &Prometheus, server: &Server) {
    let [ann, bob, eve] = server.register_many(3).await.try_into().ok().unwrap();
    let room = server.room(&[&ann, &bob, &eve]).await;
    for (actor, user, role) in [(&ann, &bob, "admin"), (&bob, &eve, "moderator")] {
        let promotion = json!({"conversation_id": room, "user_id": user.id, "role": role});
        server.ok(actor, "set_role", promotion).await;
    }
    prometheus.fires(server.address, &["VezaSuspiciousUser"]).await;
    let wrong = async |n: usize| {
        let body = json!({"login": format!("nobody-{n}"), "password": "certainly not this one"});
        server.post("/auth/login", None, &body).await.0
    };
    for n in 0..25 {
        assert_eq!(wrong(n).await, 401);
    }
    prometheus.fires(server.address, &["VezaSecurityEvent"]).await;
    let again = async || drop(join_all((0..30).map(&wrong)).await);
    prometheus.fires_during(server.address, &["VezaSignInFailures"], again).await;
}

/// A receiver fails for as long as a delivery is tried. The nine attempts before are written down, not made.
async fn undelivered(prometheus: &Prometheus, server: &Server) {
    let receiver = Receiver::start().await;
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let webhook = json!({"url": receiver.at("/status/500"), "conversation_id": room});
    let (status, created) = server.request(reqwest::Method::POST, "/webhooks", Some(&ann.token), Some(&webhook)).await;
    assert_eq!(status, 201, "{created}");
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "hello"})).await;
    let database = server.database().await;
    wait_until(&database, "SELECT count(*) = 1 FROM webhook_deliveries WHERE attempts = 1").await;
    let last = "UPDATE webhook_deliveries SET attempts = 9, next_at = now()";
    database.batch_execute(last).await.unwrap();
    prometheus.fires(server.address, &["VezaWebhookDead"]).await;
}

/// The bytes of an upload are lost. One answer is enough.
async fn broken(prometheus: &Prometheus, server: &Server) {
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let given = json!({"conversation_id": room, "name": "plan.bin", "size": 2_000});
    let file = server.begin_upload(&ann, &given).await;
    assert_eq!(server.append_upload(&ann, file, 0, &[7; 1_000]).await.status(), 204);
    for stored in server.stored_files() {
        std::fs::remove_file(stored).unwrap();
    }
    assert_eq!(server.append_upload(&ann, file, 1_000, &[7; 1_000]).await.status(), 500);
    prometheus.fires(server.address, &["VezaInternalErrors"]).await;
}

/// Three clients do not read.
async fn slow(prometheus: &Prometheus, server: &Server) {
    let users = server.register_many(4).await;
    let room = server.room(&users.iter().collect::<Vec<_>>()).await;
    let mut late = Vec::new();
    for user in &users[1..] {
        late.push(Client::slow(server, user, Format::Json, 4_096).await);
    }
    let mut writer = Client::none(server, &users[0], Format::MessagePack).await;
    let content = "x".repeat(4_000);
    for _ in 0..25 {
        let mut last = 0;
        for _ in 0..100 {
            last = writer.feed("send_message", json!({"conversation_id": room, "content": content})).await;
        }
        writer.flush().await;
        writer.reply(last).await.unwrap();
    }
    prometheus.fires(server.address, &["VezaSlowConsumers"]).await;
}

/// Of 160 clients, 40 answer no ping. A server of the database does not use Redis. Redis goes away.
async fn crowded(prometheus: &Prometheus, server: &Server, redis: &mut Redis) {
    let ann = server.register().await;
    let open = async || Client::none(server, &ann, Format::Json).await;
    let mut answering = Vec::new();
    for _ in 0..120 {
        answering.push(tokio::spawn(drain(open().await)));
    }
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(open().await);
    }
    prometheus.fires(server.address, &["VezaHeartbeatsMissed"]).await;
    answering.iter().for_each(tokio::task::JoinHandle::abort);
    prometheus.fires(server.address, &["VezaNodeUnheard"]).await;
    redis.kill();
    prometheus.fires(server.address, &["VezaRedisAway"]).await;
}

/// Reads, and so answers pings, until the connection ends.
async fn drain(mut client: Client) {
    client.end().await;
}

/// PostgreSQL waits, does not index, and then refuses to write.
async fn stored_badly(prometheus: &Prometheus, server: &Server) {
    let users = server.register_many(16).await;
    let room = server.room(&users.iter().collect::<Vec<_>>()).await;
    let message = json!({"conversation_id": room, "content": "hello"});
    let mut clients = Vec::new();
    for user in &users {
        clients.push(Client::all(server, user, Format::Json).await);
    }
    let mut database = server.database().await;
    // After the first second with a lock, all work of several users has waited: see tests/faults/overload.rs.
    let lock = database.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut sent = Vec::new();
    for round in 0..4 {
        for (n, client) in clients.iter_mut().enumerate() {
            // One client has more commands in flight than a connection may have.
            for _ in 0..if n == 0 && round == 3 { 300 } else { 3 } {
                sent.push((n, client.feed("send_message", message.clone()).await));
            }
            for _ in 0..3 {
                sent.push((n, client.feed("get_history", json!({"conversation_id": room})).await));
            }
            client.flush().await;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    prometheus.fires(server.address, &["VezaReadsQueued", "VezaOverloaded"]).await;
    lock.rollback().await.unwrap();
    for (n, id) in sent {
        let _ = clients[n].reply(id).await;
    }
    // The next change ends the window in which everything has waited.
    tokio::time::sleep(Duration::from_millis(650)).await;
    server.ok(&users[15], "send_message", message.clone()).await;
    let slow = ["VezaAckSlow", "VezaDeliverySlow", "VezaCommitSlow", "VezaCommitQueueLong", "VezaBudgetsShrunk"];
    prometheus.fires(server.address, &slow).await;
    drop(clients);

    let function = "FUNCTION index_messages(bigint, bigint, bigint)";
    database.batch_execute(&format!("REVOKE EXECUTE ON {function} FROM chat_writer")).await.unwrap();
    server.ok(&users[0], "send_message", message.clone()).await;
    prometheus.fires(server.address, &["VezaSearchBehind"]).await;
    database.batch_execute(&format!("GRANT EXECUTE ON {function} TO chat_writer")).await.unwrap();

    database.batch_execute("REVOKE INSERT ON messages FROM chat_writer").await.unwrap();
    server.call(&users[0], "send_message", message.clone()).await.unwrap_err();
    prometheus.fires(server.address, &["VezaStorageRefusals", "VezaNotReady"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alert_fires_when_its_fault_happens() {
    let mut redis = Redis::start();
    let victim = std::thread::spawn(|| Server::start(2, &[]));
    let hooks = [("features.webhooks", "true"), ("webhooks.allowed_networks", "127.0.0.0/8")];
    let host = Server::start(1, &[&[("database.shared", "true")], &hooks[..]].concat());
    let url = url_of(&host);
    let mut stoppable = Stoppable::start(&url);
    let faulty = node(&url, &[]);
    // Beyond this rate, sign-ins are refused without a look at the password.
    let quiet = node(&url, &[("security.sign_ins_per_minute", "60")]);
    let crowd = node(&url, &[("server.heartbeat_interval", "2s"), ("cluster.redis_url", &redis.url())]);
    let victim = victim.join().unwrap();
    let servers = [&host, &faulty, &quiet, &crowd, &victim].map(|server| server.address);
    let prometheus = Prometheus::start(&[&servers[..], &[stoppable.internal]].concat());
    // Enough for an alert that counts changes.
    prometheus.until("count(count_over_time(up[10m]) >= 5) == 6").await;
    let mut before = prometheus.ever_fired().await;
    before.retain(|(alert, _)| !TIMES.contains(&alert.as_str()));
    // Its fault is there from the beginning: the other servers of the database do not use Redis.
    before.remove(&("VezaNodeUnheard".to_owned(), crowd.address.to_string()));
    assert_eq!(before, BTreeSet::new(), "these fire without a fault");

    tokio::join!(
        killed(&prometheus, &faulty),
        stopped(&prometheus, &mut stoppable),
        unheard(&prometheus, &quiet),
        attacked(&prometheus, &quiet),
        broken(&prometheus, &quiet),
        slow(&prometheus, &host),
        undelivered(&prometheus, &host),
        crowded(&prometheus, &crowd, &mut redis),
        stored_badly(&prometheus, &victim),
    );
    assert_eq!(*prometheus.fired.lock().unwrap(), names(), "each alert needs a fault here");
    let mut elsewhere = prometheus.ever_fired().await;
    elsewhere.retain(|(alert, target)| alert == "VezaRestarting" && *target != faulty.address.to_string());
    assert_eq!(elsewhere, BTreeSet::new(), "these servers were not restarted");
}
