//! What two nodes need is away for a while: Redis, the way to it, or the way to PostgreSQL. Nothing is lost, repeated
//! or out of order, readiness says what is missing, and everything recovers by itself.
//!
//! How: users send and follow on both nodes all the time ([`Traffic`]). A fault ends only after messages that were sent
//! during it have reached the other node, however long that takes; the tests print how long it took.
//! `CHAT_TEST_AWAY_SECONDS` sets how long the faults last at least.

use super::cluster::{Cluster, metric, wait_for_metric, wait_for_readiness};
use super::nodes::check_two_nodes;
use super::traffic::Traffic;
use crate::support::forwarder::{Backend, Forwarder};
use crate::support::network::Network;
use crate::support::redis::{Redis, RedisCluster, RedisPair};
use crate::support::{Client, Format, PATIENCE, Server, closed, from_env};
use serde_json::json;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Between two messages of a sender.
const PACE: Duration = Duration::from_millis(25);
/// The phases of each test.
const BEFORE: usize = 0;
const DURING: usize = 1;
const AFTER: usize = 2;
const SUSPENDED: usize = 3;

const LINKS: &str = "chat_server_redis_links_total";
const UNHEARD: &str = "chat_server_nodes_unheard";

/// Sleeps for this time, or another one of the environment.
async fn for_seconds(default: u64) {
    tokio::time::sleep(Duration::from_secs(from_env("CHAT_TEST_AWAY_SECONDS", default))).await;
}

async fn both_exchange(nodes: &[Server]) {
    for node in nodes {
        wait_for_readiness(node, 200, "ok").await;
    }
}

async fn both_say_what_is_missing(nodes: &[Server]) {
    let [one, other] = [&nodes[0], &nodes[1]].map(|node| wait_for_readiness(node, 200, "failing"));
    for reason in <[String; 2]>::from(tokio::join!(one, other)) {
        assert!(reason.contains("Redis cannot be used"), "{reason}");
        println!("{reason}");
    }
}

/// How many connections to Redis each node has made.
async fn links(nodes: &[Server]) -> [f64; 2] {
    tokio::join!(metric(&nodes[0], LINKS), metric(&nodes[1], LINKS)).into()
}

/// Both nodes have lost a connection to Redis, and have another one.
async fn both_connect_again(nodes: &[Server], before: [f64; 2]) {
    for (node, before) in nodes.iter().zip(before) {
        wait_for_metric(node, LINKS, |now| now > before).await;
    }
}

/// Both nodes deliver what the other one sends, in this phase.
async fn both_deliver(traffic: &Traffic<'_>, phase: usize) {
    for node in 0..2 {
        traffic.delivers_to(node, phase).await;
    }
}

/// Both nodes deliver before the fault.
async fn delivers_before(traffic: &Traffic<'_>) {
    traffic.acknowledges(200).await;
    both_deliver(traffic, BEFORE).await;
}

/// Both nodes deliver after the fault, and events come through Redis again.
async fn delivers_after(traffic: &Traffic<'_>, nodes: &[Server]) {
    traffic.enter(AFTER);
    both_deliver(traffic, AFTER).await;
    both_receive_frames(nodes).await;
}

/// Two nodes that exchange events, and nobody else on their PostgreSQL.
async fn start_pair(settings: &[(&str, &str)]) -> Cluster {
    let cluster = Cluster::start_with(2, settings);
    Cluster::end_host(&cluster.host);
    both_exchange(&cluster.nodes).await;
    cluster
}

/// Events come through Redis again.
async fn both_receive_frames(nodes: &[Server]) {
    for node in nodes {
        let frames = "chat_server_node_frames_total{outcome=\"received\"}";
        let before = metric(node, frames).await;
        wait_for_metric(node, frames, |now| now > before).await;
    }
}

/// Waits until the server has ended a connection because its session is revoked.
async fn loses_its_session(client: &mut Client) {
    let end = tokio::time::timeout(PATIENCE, client.end()).await;
    assert_eq!(closed(&end.expect("the session is revoked, and its connection stays")), 4002);
}

/// Ends the sessions of a new user here. Prints how long their connection there remained.
async fn revoke(here: &Server, there: &Server, when: &str) {
    let user = here.register().await;
    let mut client = Client::none(there, &user, Format::Json).await;
    let began = Instant::now();
    let (status, _) = here.post("/auth/logout-all", Some(&user.token), &json!({})).await;
    assert!((200..300).contains(&status), "{status}");
    loses_its_session(&mut client).await;
    println!("{when}: a revoked session was closed on the other node after {:.1?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn delivers_everything_while_redis_is_away_and_recovers_by_itself() {
    let mut redis = Redis::start();
    let cluster = start_pair(&[("cluster.redis_url", &redis.url())]).await;
    let nodes = &cluster.nodes;
    let traffic = Traffic::new(&nodes[0], nodes, PACE).await;
    let faults = async {
        delivers_before(&traffic).await;
        redis.kill();
        traffic.enter(DURING);
        both_say_what_is_missing(nodes).await;
        revoke(&nodes[0], &nodes[1], "Redis away").await;
        for_seconds(8).await;
        both_deliver(&traffic, DURING).await;
        redis.start_again();
        both_exchange(nodes).await;
        delivers_after(&traffic, nodes).await;
    };
    Box::pin(traffic.during(faults)).await;
    traffic.report(&["before", "Redis away", "Redis back"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn survives_a_failover_to_a_replica_behind_the_same_address() {
    let mut redis = RedisPair::start().await;
    let cluster = start_pair(&[("cluster.redis_url", &redis.url())]).await;
    let nodes = &cluster.nodes;
    let traffic = Traffic::new(&nodes[0], nodes, PACE).await;
    let faults = async {
        delivers_before(&traffic).await;
        let links = links(nodes).await;
        traffic.enter(DURING);
        redis.fail_over();
        both_connect_again(nodes, links).await;
        both_exchange(nodes).await;
        both_deliver(&traffic, DURING).await;
        delivers_after(&traffic, nodes).await;
    };
    Box::pin(traffic.during(faults)).await;
    traffic.report(&["before", "failover", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn survives_the_loss_and_the_return_of_masters_of_a_redis_cluster() {
    let mut redis = RedisCluster::start().await;
    let settings = [("cluster.redis_url", &*redis.url()), ("cluster.redis_seeds", &*redis.seeds())];
    let cluster = start_pair(&settings).await;
    let nodes = &cluster.nodes;
    check_two_nodes(&nodes[0], &nodes[1]).await;
    let traffic = Traffic::new(&nodes[0], nodes, PACE).await;
    let faults = async {
        delivers_before(&traffic).await;
        both_receive_frames(nodes).await;
        // The first one is that of the URL.
        let (killed, links) = (redis.masters()[0], links(nodes).await);
        redis.kill(killed);
        traffic.enter(DURING);
        // At once: its replica passes messages on before it is promoted.
        both_connect_again(nodes, links).await;
        revoke(&nodes[0], &nodes[1], "without a master").await;
        redis.wait_for_failover().await;
        both_exchange(nodes).await;
        both_deliver(&traffic, DURING).await;
        redis.start_again(killed);
        redis.wait_until_ok().await;
        traffic.enter(AFTER);
        traffic.acknowledges(200).await;
        both_deliver(&traffic, AFTER).await;
        both_receive_frames(nodes).await;
        both_exchange(nodes).await;
        // The connections to this one stay.
        let suspended = redis.masters()[0];
        redis.suspend(suspended);
        traffic.enter(SUSPENDED);
        both_say_what_is_missing(nodes).await;
        redis.wait_for_failover().await;
        both_exchange(nodes).await;
        both_deliver(&traffic, SUSPENDED).await;
        redis.resume();
        redis.wait_until_ok().await;
        both_exchange(nodes).await;
        both_receive_frames(nodes).await;
    };
    Box::pin(traffic.during(faults)).await;
    traffic.report(&["before", "without a master", "after", "a master is silent"]);
}

/// Two nodes. The ways of the second one to Redis and to PostgreSQL are wires of their own. Clients reach it on the
/// loopback, by a socket that it was handed.
struct Apart {
    // In the order in which they can be dropped.
    nodes: Vec<Server>,
    network: Network,
    _redis: Redis,
    _to_database: Forwarder,
    _host: Server,
}

/// The second node.
const FAR: usize = 1;
/// Its wires.
const TO_REDIS: usize = 0;
const TO_DATABASE: usize = 1;

impl Apart {
    async fn start() -> Self {
        let network = Network::start(2);
        let redis = Redis::start_on(network.address(TO_REDIS), &[]);
        let host = Cluster::host();
        let socket = Backend::Unix(host.data_dir.join("postgres/.s.PGSQL.5432"));
        let to_database = Forwarder::start(network.address(TO_DATABASE), socket);
        let near = Cluster::node(&host, &[("cluster.redis_url", &redis.url())]);
        let (database, redis_url) = (format!("postgresql://veza@{}/veza_chat", to_database.address()), redis.url());
        let settings = [
            ("database.url", database.as_str()),
            ("database.shared", "true"),
            ("cluster.redis_url", redis_url.as_str()),
        ];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = Server::start_by_on(&network.enter(), listener, 2, &settings);
        Cluster::end_host(&host);
        let nodes = vec![near, far];
        both_exchange(&nodes).await;
        wait_for_metric(&nodes[0], UNHEARD, |servers| servers < 0.5).await;
        Self { nodes, network, _redis: redis, _to_database: to_database, _host: host }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_cannot_reach_redis_delivers_and_is_heard() {
    let apart = Apart::start().await;
    let nodes = &apart.nodes;
    let traffic = Traffic::new(&nodes[0], nodes, PACE).await;
    let faults = async {
        delivers_before(&traffic).await;
        apart.network.cut(TO_REDIS);
        traffic.enter(DURING);
        let reason = wait_for_readiness(&nodes[FAR], 200, "failing").await;
        println!("the node that cannot reach Redis says: {reason}");
        wait_for_metric(&nodes[0], UNHEARD, |servers| servers > 0.5).await;
        revoke(&nodes[0], &nodes[FAR], "no way to Redis").await;
        for_seconds(3).await;
        both_deliver(&traffic, DURING).await;
        wait_for_readiness(&nodes[0], 200, "ok").await;
        apart.network.mend(TO_REDIS);
        both_exchange(nodes).await;
        wait_for_metric(&nodes[0], UNHEARD, |servers| servers < 0.5).await;
        delivers_after(&traffic, nodes).await;
    };
    Box::pin(traffic.during(faults)).await;
    traffic.report(&["before", "no way to Redis", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_cannot_reach_postgresql_says_so_and_delivers_what_others_commit() {
    let apart = Apart::start().await;
    let nodes = &apart.nodes;
    let traffic = Traffic::new(&nodes[0], nodes, PACE).await;
    let user = nodes[0].register().await;
    let mut client = Client::none(&nodes[FAR], &user, Format::Json).await;
    let faults = async {
        delivers_before(&traffic).await;
        apart.network.cut(TO_DATABASE);
        traffic.enter(DURING);
        wait_for_readiness(&nodes[FAR], 503, "ok").await;
        let (status, _) = nodes[0].post("/auth/logout-all", Some(&user.token), &json!({})).await;
        assert!((200..300).contains(&status), "{status}");
        // The other node tells it through Redis.
        let revoked = Instant::now();
        loses_its_session(&mut client).await;
        println!("no way to PostgreSQL: a revoked session was closed on that node after {:.1?}", revoked.elapsed());
        for_seconds(3).await;
        traffic.delivers_to(FAR, DURING).await;
        wait_for_readiness(&nodes[0], 200, "ok").await;
        apart.network.mend(TO_DATABASE);
        both_exchange(nodes).await;
        traffic.enter(AFTER);
        both_deliver(&traffic, AFTER).await;
        revoke(&nodes[0], &nodes[FAR], "after PostgreSQL was away").await;
    };
    Box::pin(traffic.during(faults)).await;
    traffic.report(&["before", "no way to PostgreSQL", "after"]);
}
