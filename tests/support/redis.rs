//! Redis servers of a test: a single one, a pair with a replica behind one address, and a Redis Cluster.
//!
//! They keep nothing on disk and end with the thread that started them, so a test starts its own.

use super::PATIENCE;
use super::forwarder::{Backend, Forwarder};
use nix::sys::signal::Signal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One server.
pub struct Redis {
    address: SocketAddr,
    options: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// Starts one on the loopback.
    pub fn start() -> Self {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), &[])
    }

    /// Starts one on another address of this machine, with more options.
    pub fn start_on(address: IpAddr, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut redis = Self { address: SocketAddr::new(address, free_port()), options, child: None };
        redis.start_again();
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `cluster.redis_url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts it at the same address.
    pub fn start_again(&mut self) {
        // Debian's package redis-server would start a service. Its program is that of redis-tools under another name.
        let program = Path::new("/usr/bin/redis-check-rdb");
        assert!(program.exists(), "redis-tools is missing: scripts/install-test-clients.sh installs it");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "bash", "-c", "exec -a redis-server \"$@\"", "bash"]).arg(program);
        command.args(["--bind", &self.address.ip().to_string(), "--port", &self.address.port().to_string()]);
        command.args(["--protected-mode", "no", "--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        command.args(["--dir", "/tmp"]).args(&self.options);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        self.child = Some(command.spawn().unwrap());
        let started = Instant::now();
        while !self.ask(&["PING"]).status.success() {
            assert!(started.elapsed() < PATIENCE, "Redis does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command on it.
    pub fn ask(&self, command: &[&str]) -> Output {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        Command::new("redis-cli").args(["-h", &ip, "-p", &port]).args(command).output().unwrap()
    }

    /// The answer to a command, as text.
    pub fn answer(&self, command: &[&str]) -> String {
        String::from_utf8_lossy(&self.ask(command).stdout).into_owned()
    }

    /// Waits for an answer to a command, without keeping other clients of the test waiting.
    pub async fn wait_for(&self, command: &[&str], wanted: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !wanted(&self.answer(command)) {
            assert!(started.elapsed() < PATIENCE, "{}: {command:?} is {}", self.address, self.answer(command));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        super::signal(self.child.as_ref().expect("it runs").id().cast_signed(), signal);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port below the range of ephemeral ones: a client of an absent server cannot connect to itself.
fn free_port() -> u16 {
    super::process::free_address().port()
}

/// A server and its replica. Clients reach one of them through an address that stays, as behind a proxy.
pub struct RedisPair {
    /// The server that clients reach first.
    pub first: Redis,
    /// Its replica.
    pub second: Redis,
    front: Forwarder,
}

impl RedisPair {
    /// Starts both.
    pub async fn start() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let first = Redis::start_on(loopback, &["--repl-diskless-sync-delay", "0"]);
        let port = first.address().port().to_string();
        let second = Redis::start_on(loopback, &["--replicaof", &format!("127.0.0.1 {port}")]);
        second.wait_for(&["INFO", "replication"], |answer| answer.contains("master_link_status:up")).await;
        let front = Forwarder::start(loopback, Backend::Tcp(first.address()));
        Self { first, second, front }
    }

    /// For `cluster.redis_url`: the address that stays.
    pub fn url(&self) -> String {
        format!("redis://{}", self.front.address())
    }

    /// Kills the first server, promotes its replica, and leads clients there.
    pub fn fail_over(&mut self) {
        self.first.kill();
        assert!(self.second.answer(&["REPLICAOF", "NO", "ONE"]).starts_with("OK"));
        self.front.lead_to(Backend::Tcp(self.second.address()));
    }
}

/// Three masters, and a replica of each.
pub struct RedisCluster {
    members: Vec<Redis>,
    /// The member that does not answer.
    suspended: Option<usize>,
    _folder: TempDir,
}

impl RedisCluster {
    /// A member that does not answer for so long has failed.
    const NODE_TIMEOUT_MS: &str = "1000";

    /// Starts it, and waits until it can be used.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let members: Vec<Redis> = (0..6)
            .map(|number| {
                let state = folder.path().join(format!("member-{number}.conf"));
                let port = free_port().to_string();
                let options = [
                    ["--cluster-enabled", "yes"],
                    ["--cluster-config-file", state.to_str().unwrap()],
                    ["--cluster-port", &port],
                    ["--cluster-node-timeout", Self::NODE_TIMEOUT_MS],
                    ["--repl-diskless-sync-delay", "0"],
                ];
                Redis::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), options.as_flattened())
            })
            .collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(members.iter().map(|member| member.address().to_string()));
        let created = create.args(["--cluster-replicas", "1", "--cluster-yes"]).output().unwrap();
        assert!(created.status.success(), "{created:?}");
        let cluster = Self { members, suspended: None, _folder: folder };
        cluster.wait_until_ok().await;
        cluster
    }

    /// For `cluster.redis_url`: the first member.
    pub fn url(&self) -> String {
        self.members[0].url()
    }

    /// For `cluster.redis_seeds`: the others.
    pub fn seeds(&self) -> String {
        self.members[1..].iter().map(|member| member.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// Waits until each member that runs knows an owner of every slot, and each such replica has its master's data.
    pub async fn wait_until_ok(&self) {
        for member in self.running() {
            member.wait_for(&["CLUSTER", "INFO"], |answer| answer.contains("cluster_state:ok")).await;
            let is_complete = |answer: &str| answer.contains("role:master") || answer.contains("master_link_status:up");
            member.wait_for(&["INFO", "replication"], is_complete).await;
        }
    }

    fn answers(&self, number: usize) -> bool {
        self.members[number].child.is_some() && self.suspended != Some(number)
    }

    fn running(&self) -> impl Iterator<Item = &Redis> {
        (0..self.members.len()).filter(|number| self.answers(*number)).map(|number| &self.members[number])
    }

    fn is_master(&self, number: usize) -> bool {
        self.answers(number) && self.members[number].answer(&["ROLE"]).starts_with("master")
    }

    /// The numbers of the masters.
    pub fn masters(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|number| self.is_master(*number)).collect()
    }

    /// Ends a member at once.
    pub fn kill(&mut self, number: usize) {
        self.members[number].kill();
    }

    /// Suspends a member: its connections stay, and nothing comes through them.
    pub fn suspend(&mut self, number: usize) {
        self.members[number].signal(Signal::SIGSTOP);
        self.suspended = Some(number);
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        if let Some(number) = self.suspended.take() {
            self.members[number].signal(Signal::SIGCONT);
        }
    }

    /// Starts a member again, with what it knew of the cluster. It may be a replica now.
    pub fn start_again(&mut self, number: usize) {
        self.members[number].start_again();
    }

    /// Waits until there are three masters again after one was killed.
    pub async fn wait_for_failover(&self) {
        let started = Instant::now();
        while self.masters().len() < 3 {
            assert!(started.elapsed() < PATIENCE, "no replica was promoted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.wait_until_ok().await;
    }
}
