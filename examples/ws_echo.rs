//! An echo server on the modules `net` and `wire`, for conformance suites and for profiling the codec alone.
//!
//! ```text
//! cargo run --release --example ws_echo -- --addr 127.0.0.1:9001 --max-message 33554432 --deflate
//! ```

use chat_server::ids::{ConnId, ShardId};
use chat_server::net::{Chunk, DirectTable, SocketEvent, Sockets, bind};
use chat_server::wire::ws::deflate::{Deflater, Inflater};
use chat_server::wire::ws::handshake::Upgrade;
use chat_server::wire::ws::head::{HeadProgress, HeadScanner, RequestHead};
use chat_server::wire::ws::peer::{Peer, PeerEvent};
use chat_server::wire::ws::{MessageKind, decoder::DecodeContext, encoder};
use clap::Parser;
use glommio::{LocalExecutorBuilder, Placement};
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// WebSocket echo server: text comes back as text, binary as binary.
#[derive(Parser)]
#[command(after_help = "Example:\n  ws_echo --addr 127.0.0.1:9001 --max-message 33554432 --deflate")]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9001")]
    addr: SocketAddr,
    /// Largest frame and reassembled message, in bytes.
    #[arg(long, default_value_t = 32 * 1024 * 1024)]
    max_message: usize,
    /// Negotiate permessage-deflate.
    #[arg(long)]
    deflate: bool,
}

/// Ticks of 100 ms in which a peer must close its half after the server closed its own.
const LINGER_TICKS: u32 = 20;

enum State {
    Head(Vec<u8>, HeadScanner),
    Open(Peer, Option<u8>),
    Ending(u32),
}

struct Echo {
    sockets: Sockets,
    connections: HashMap<ConnId, State>,
    inflater: Inflater,
    deflater: Deflater,
    max_message: usize,
    deflate: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(Duration::from_hours(1)) // docs/decisions/001
        .spawn(|| async move { run(&arguments).map_err(|e| e.to_string()) })?;
    executor.join()??;
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let eventfd: OwnedFd = nix::sys::eventfd::EventFd::new()?.into(); // unused: no other thread wakes this one
    let mut sockets = Sockets::new(ShardId(0), eventfd, Arc::default(), DirectTable::default())?;
    for listener in bind(arguments.addr, 1)? {
        sockets.listen(listener);
    }
    println!("echo server on ws://{}", arguments.addr);
    let mut echo = Echo {
        sockets,
        connections: HashMap::new(),
        inflater: Inflater::default(),
        deflater: Deflater::default(),
        max_message: arguments.max_message,
        deflate: arguments.deflate,
    };
    let mut events = Vec::new();
    loop {
        echo.sockets.turn_or_wait(&mut events)?;
        for event in events.drain(..) {
            echo.handle(event);
        }
        // Nothing else runs in this executor; `shard::pump` says how to share it.
    }
}

impl Echo {
    fn handle(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Accepted(conn) => {
                self.connections.insert(conn, State::Head(Vec::new(), HeadScanner::default()));
                self.sockets.set_nodelay(conn);
                self.sockets.receive_stream(conn);
            }
            SocketEvent::Received(conn, mut bytes) => self.received(conn, &mut bytes),
            SocketEvent::PeerFinished(conn) => {
                self.connections.insert(conn, State::Ending(LINGER_TICKS));
            }
            SocketEvent::Ended(conn) => {
                self.connections.remove(&conn);
            }
            SocketEvent::Tick(_) => {
                for (conn, state) in &mut self.connections {
                    if let State::Ending(ticks) = state {
                        *ticks = ticks.saturating_sub(1);
                        if *ticks == 0 {
                            self.sockets.abort(*conn);
                        }
                    }
                }
            }
            SocketEvent::AcceptPaused(code) => {
                eprintln!("accepting paused: {}", std::io::Error::from_raw_os_error(code));
            }
            SocketEvent::Drained(_) => {}
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &mut [u8]) {
        match self.connections.get_mut(&conn) {
            Some(State::Head(head, scanner)) => {
                head.extend_from_slice(bytes);
                match scanner.scan(head) {
                    HeadProgress::Incomplete => {}
                    HeadProgress::TooLarge => self.refuse(conn, "431 Request Header Fields Too Large"),
                    HeadProgress::Complete(end) => {
                        let mut head = std::mem::take(head);
                        self.upgrade(conn, &mut head, end);
                    }
                }
            }
            Some(State::Open(..)) => self.frames(conn, bytes),
            Some(State::Ending(_)) | None => {}
        }
    }

    fn upgrade(&mut self, conn: ConnId, received: &mut [u8], end: usize) {
        let (head, rest) = received.split_at_mut(end);
        let upgrade = RequestHead::parse(head).ok().and_then(|h| Upgrade::negotiate(&h, &[], self.deflate).ok());
        let Some(upgrade) = upgrade else { return self.refuse(conn, "400 Bad Request") };
        self.sockets.send(conn, Chunk::new(upgrade.response(&[])));
        let window = upgrade.deflate.map(|d| d.server_window_bits);
        self.connections.insert(conn, State::Open(Peer::new(window.is_some()), window));
        if !rest.is_empty() {
            self.frames(conn, rest);
        }
    }

    fn refuse(&mut self, conn: ConnId, status: &str) {
        self.sockets
            .send(conn, Chunk::new(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")));
        self.end(conn);
    }

    fn end(&mut self, conn: ConnId) {
        self.connections.insert(conn, State::Ending(LINGER_TICKS));
        self.sockets.finish(conn);
    }

    fn frames(&mut self, conn: ConnId, bytes: &mut [u8]) {
        let mut input = bytes;
        loop {
            let Some(State::Open(peer, window)) = self.connections.get_mut(&conn) else { return };
            let mut context = DecodeContext { max_message_bytes: self.max_message, inflater: &mut self.inflater };
            let reply = match peer.next(&mut input, &mut context) {
                None => return,
                Some(PeerEvent::Alive) => continue,
                Some(PeerEvent::Reply(frame)) => frame,
                Some(PeerEvent::Message(kind, payload)) => echo_frame(&mut self.deflater, kind, payload, *window),
                Some(PeerEvent::Finish(frame, _)) => {
                    if let Some(frame) = frame {
                        self.sockets.send(conn, Chunk::new(frame));
                    }
                    return self.end(conn);
                }
            };
            self.sockets.send(conn, Chunk::new(reply));
        }
    }
}

fn echo_frame(deflater: &mut Deflater, kind: MessageKind, payload: &[u8], window: Option<u8>) -> Vec<u8> {
    match window.and_then(|bits| deflater.deflate(payload, bits)) {
        Some(compressed) => encoder::frame(kind.opcode(), true, &compressed),
        None => encoder::frame(kind.opcode(), false, payload),
    }
}
