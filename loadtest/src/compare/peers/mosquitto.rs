//! Mosquitto, an MQTT broker, over WebSocket.

use super::ground::{Ground, Missing, Running, required};
use crate::compare::child::{Child, run, write_file};
use crate::compare::places::Places;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

const INSTALL: &str = "loadtest/peers/install.sh mosquitto   (apt-get install mosquitto)";

/// Finds the broker.
///
/// # Errors
/// When it is not installed.
pub fn find(places: &Places) -> Result<PathBuf, Missing> {
    required(places, "mosquitto", INSTALL)
}

/// Starts the broker.
///
/// # Errors
/// When it does not start.
pub fn start(ground: &mut Ground<'_>) -> Result<Running, String> {
    let program = find(ground.places)?;
    let (plain, address) = (ground.address()?, ground.address()?);
    let path = ground.directory.join("mosquitto.conf");
    write_file(&path, &configuration(plain, address))?;
    let mut command = Command::new(&program);
    command.arg("-c").arg(&path);
    let mut server = Child::start("mosquitto", command, &ground.directory.join("mosquitto.log"), ground.cores)?;
    server.wait_until_listening(address)?;
    // Mosquitto always has one thread.
    Ok(Running { address, version: version(&program), workers: Some(1), server, store: None })
}

fn configuration(plain: SocketAddr, websocket: SocketAddr) -> String {
    format!(
        "# The listener that is measured.
listener {port} {ip}
protocol websockets
# Mosquitto 2.0.11 does not start without one of plain MQTT.
listener {plain_port} {ip}
# Passwords are not measured.
allow_anonymous true
# An ack promises memory only, so nothing is written to disk either.
persistence false
# Logging per connection costs; errors are still logged.
log_type error
log_dest stderr
# Neither a window nor a bounded queue per client: both would drop or hold back messages of a burst.
max_inflight_messages 0
max_queued_messages 0
# Small packets go out at once, as from the other servers.
set_tcp_nodelay true
",
        port = websocket.port(),
        plain_port = plain.port(),
        ip = websocket.ip()
    )
}

/// The version, from the first line of its help, which exits with a failure.
fn version(program: &PathBuf) -> String {
    let mut command = Command::new("sh");
    command.arg("-c").arg("\"$0\" -h || true").arg(program);
    let help = run(command).unwrap_or_default();
    help.lines().next().and_then(|line| line.strip_prefix("mosquitto version ")).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_is_a_websocket_on_the_given_address() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = configuration(address(1), address(4711));
        assert!(text.contains("listener 4711 127.0.0.1\nprotocol websockets\n"), "{text}");
    }
}
