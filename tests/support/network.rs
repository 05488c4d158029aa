//! A network of its own for a server, with wires to this machine that can be cut: packets are lost then, and nobody is
//! told.
//!
//! How: a network namespace, which ends with the thread that made it, and a pair of virtual interfaces for each wire.
//! A cut wire has the wrong hardware address for the other end, on both ends. So frames still leave, and are discarded
//! where they arrive. Both interfaces stay up and routes stay as they are, as when a switch far away fails.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Nobody has this hardware address.
const NOBODY: &str = "02:00:00:00:00:01";

/// A network namespace.
pub struct Network {
    holder: Child,
    wires: Vec<Wire>,
}

struct Wire {
    /// On this machine.
    near: End,
    /// In the namespace.
    far: End,
}

struct End {
    interface: String,
    address: Ipv4Addr,
}

impl Network {
    /// Makes a network with this many wires.
    ///
    /// Needs root: without it the test fails, since what it tests cannot be tested otherwise.
    pub fn start(wires: u32) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "This test makes a network namespace. Run it as root, or leave it out with --skip."
        );
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
        let holder = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut network = Self { holder, wires: Vec::new() };
        network.wait_for_namespace();
        network.inside(&["link", "set", "lo", "up"]);
        for _ in 0..wires {
            network.add_wire();
        }
        network
    }

    /// The namespace is there when the process has become `sleep`.
    fn wait_for_namespace(&self) {
        let started = Instant::now();
        let name = format!("/proc/{}/comm", self.holder.id());
        while std::fs::read_to_string(&name).unwrap().trim() != "sleep" {
            assert!(started.elapsed() < super::PATIENCE, "no network namespace was made");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn add_wire(&mut self) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // 198.18.0.0/15 is for tests of networks (RFC 2544): 32,768 wires of four addresses.
        let number = std::process::id() % 4_096 * 8 + NEXT.fetch_add(1, Relaxed) % 8;
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number * 4;
        let end = |name: &str, at: u32| End { interface: format!("chat{number}{name}"), address: (base + at).into() };
        let wire = Wire { near: end("near", 1), far: end("far", 2) };
        let Wire { near, far } = &wire;
        let holder = self.holder.id().to_string();
        run("ip", &["link", "add", &near.interface, "type", "veth", "peer", "name", &far.interface, "netns", &holder]);
        run("ip", &["address", "add", &format!("{}/30", near.address), "dev", &near.interface]);
        run("ip", &["link", "set", &near.interface, "up"]);
        self.inside(&["address", "add", &format!("{}/30", far.address), "dev", &far.interface]);
        self.inside(&["link", "set", &far.interface, "up"]);
        self.wires.push(wire);
    }

    /// Runs `ip` in the namespace.
    fn inside(&self, arguments: &[&str]) {
        let words = self.enter();
        let words: Vec<&str> =
            words.iter().map(String::as_str).chain(["ip"]).chain(arguments.iter().copied()).collect();
        run(words[0], &words[1..]);
    }

    /// The words that run a program in the namespace.
    pub fn enter(&self) -> Vec<String> {
        ["nsenter", "--target", &self.holder.id().to_string(), "--net"].map(str::to_owned).to_vec()
    }

    /// The address of this machine at the end of a wire.
    pub fn address(&self, wire: usize) -> IpAddr {
        IpAddr::V4(self.wires[wire].near.address)
    }

    /// Discards everything on a wire, in both directions.
    pub fn cut(&self, wire: usize) {
        let Wire { near, far } = &self.wires[wire];
        run("ip", &wrong(&far.address.to_string(), &near.interface));
        self.inside(&wrong(&near.address.to_string(), &far.interface));
    }

    /// Passes on again what is sent on a wire.
    pub fn mend(&self, wire: usize) {
        let Wire { near, far } = &self.wires[wire];
        run("ip", &["neighbour", "del", &far.address.to_string(), "dev", &near.interface]);
        self.inside(&["neighbour", "del", &near.address.to_string(), "dev", &far.interface]);
    }
}

/// Gives the other end of a wire a wrong hardware address.
fn wrong<'a>(address: &'a str, interface: &'a str) -> [&'a str; 9] {
    ["neighbour", "replace", address, "lladdr", NOBODY, "dev", interface, "nud", "permanent"]
}

impl Drop for Network {
    fn drop(&mut self) {
        // The interfaces end with the namespace, and that with its last process.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
}
