//! A Redis server of a test.

use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Without files. It ends with the test.
pub struct Redis {
    address: SocketAddr,
    child: Option<Child>,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut redis = Self { address, child: None };
        redis.start_again();
        redis
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
        command.args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir", "/tmp", "--loglevel", "warning"]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        self.child = Some(command.spawn().unwrap());
        let started = Instant::now();
        while !self.ask(&["PING"]).status.success() {
            assert!(started.elapsed() < super::PATIENCE, "Redis does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command on it.
    pub fn ask(&self, command: &[&str]) -> Output {
        let port = self.address.port().to_string();
        Command::new("redis-cli").args(["-p", &port]).args(command).output().unwrap()
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
