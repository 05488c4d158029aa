//! NATS over WebSocket, with `JetStream` storing every message and syncing it to disk before the ack.

use super::ground::{Ground, Missing, Running, required};
use crate::compare::child::{Child, run, write_file};
use crate::compare::codec::nats::{STREAMS, stream_of, subject};
use crate::compare::places::Places;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const INSTALL: &str = "loadtest/peers/install.sh nats   (nats-server 2.10 or newer, from Debian 13)";
/// The first version with `sync_interval`.
const VERSION_MIN: (u32, u32) = (2, 10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds a server that is new enough to sync every message.
///
/// # Errors
/// When it is not installed, or too old.
pub fn find(places: &Places) -> Result<(PathBuf, String), Missing> {
    let program = required(places, "nats-server", INSTALL)?;
    let mut command = Command::new(&program);
    command.arg("--version");
    let text = run(command).map_err(|error| Missing::new(error, INSTALL))?;
    let version = text.trim().strip_prefix("nats-server: v").unwrap_or_default().to_owned();
    match parse_version(&version) {
        Some(found) if found >= VERSION_MIN => Ok((program, version)),
        _ => Err(Missing::new(
            format!("{} is version \"{version}\", which cannot sync every message (sync_interval)", program.display()),
            INSTALL,
        )),
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Starts the server and creates the streams.
///
/// # Errors
/// When it does not start, or refuses a stream.
pub fn start(ground: &mut Ground<'_>) -> Result<Running, String> {
    let (program, version) = find(ground.places)?;
    let (plain, address) = (ground.address()?, ground.address()?);
    let path = ground.directory.join("nats.conf");
    write_file(&path, &configuration(plain, address, ground.directory))?;
    let mut command = Command::new(program);
    command.arg("-c").arg(&path);
    let mut server = Child::start("nats-server", command, &ground.directory.join("nats.log"), ground.cores)?;
    server.wait_until_listening(address)?;
    server.wait_until_listening(plain)?;
    create_streams(plain, ground.rooms).map_err(|error| format!("cannot make its streams: {error}"))?;
    Ok(Running { address, version, workers: None, server, store: None })
}

fn configuration(plain: SocketAddr, websocket: SocketAddr, directory: &Path) -> String {
    format!(
        "listen: \"{plain}\"
websocket {{ listen: \"{websocket}\", no_tls: true, compression: false }}
jetstream {{
  store_dir: \"{store}\"
  # Without it an ack comes before the message is on disk (the default syncs every two minutes).
  sync_interval: always
}}
# A slow reader may lag by a burst before it is disconnected.
max_pending: 256MB
max_connections: 65536
write_deadline: \"60s\"
",
        store = directory.join("jetstream").display()
    )
}

/// Creates the streams over NATS's plain protocol, before the first message.
fn create_streams(address: SocketAddr, rooms: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect_timeout(&address, REQUEST_TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).map_err(failed)?;
    let mut writer = stream.try_clone().map_err(failed)?;
    let mut reader = BufReader::new(stream);
    writer.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB _INBOX.setup 1\r\n").map_err(failed)?;
    for index in 0..STREAMS.min(rooms) {
        let subjects: Vec<String> = (0..rooms).filter(|room| stream_of(*room) == index).map(subject).collect();
        let name = format!("rooms-{index}");
        // Files, one copy. No message expires during a run, and no stream searches for repeated message ids, which the
        // publishers do not send.
        let body = json!({
            "name": name, "subjects": subjects, "storage": "file", "num_replicas": 1, "retention": "limits",
            "discard": "old", "max_bytes": -1, "max_msgs": -1,
        })
        .to_string();
        let request = format!("PUB $JS.API.STREAM.CREATE.{name} _INBOX.setup {}\r\n{body}\r\n", body.len());
        writer.write_all(request.as_bytes()).map_err(failed)?;
        let answer = read_message(&mut reader, &mut writer)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        if let Some(description) = answer["error"]["description"].as_str() {
            return Err(format!("{name}: {description}"));
        }
    }
    Ok(())
}

/// The content of the next message.
fn read_message(reader: &mut impl BufRead, writer: &mut impl Write) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).map_err(failed)? == 0 {
            return Err("the server closed the connection".to_owned());
        }
        if line.starts_with("PING") {
            writer.write_all(b"PONG\r\n").map_err(failed)?;
        } else if line.starts_with("-ERR") {
            return Err(line.trim().to_owned());
        } else if line.starts_with("MSG ") {
            let length: usize = line
                .split_whitespace()
                .last()
                .and_then(|length| length.parse().ok())
                .ok_or_else(|| format!("no length in \"{}\"", line.trim()))?;
            let mut content = vec![0; length.min(1 << 20) + 2];
            reader.read_exact(&mut content).map_err(failed)?;
            content.truncate(content.len() - 2);
            return Ok(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_versions_by_number() {
        assert!(parse_version("2.9.10") < Some(VERSION_MIN));
        assert!(parse_version("2.10.27") >= Some(VERSION_MIN));
        assert!(parse_version("10.0.1") >= Some(VERSION_MIN));
        assert_eq!(parse_version("dev"), None);
    }

    #[test]
    fn reads_messages_between_pings_and_reports_errors() {
        let mut written = Vec::new();
        let mut reader = &b"INFO {}\r\nPING\r\nMSG _INBOX.setup 1 2\r\n{}\r\n"[..];
        assert_eq!(read_message(&mut reader, &mut written), Ok(b"{}".to_vec()));
        assert_eq!(written, b"PONG\r\n");
        assert_eq!(read_message(&mut &b"-ERR 'no'\r\n"[..], &mut written), Err("-ERR 'no'".to_owned()));
    }
}
