//! A TCP connection for peers that break the protocol. The answers of the server are still checked against the
//! documents ([`protocol`]).

use super::{PATIENCE, Server, User, protocol};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a request line.
const SENT_KEPT_BYTES: usize = 256;

/// Fails unless the documents describe a frame of the server.
fn check_frame(opcode: u8, payload: &[u8]) {
    match opcode {
        1 => protocol::assert_frame(&serde_json::from_slice(payload).expect("valid JSON"), None),
        2 => protocol::assert_frame(&rmp_serde::from_slice(payload).expect("valid MessagePack"), None),
        8 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            protocol::assert_close(code, &serde_json::from_slice(&payload[2..]).expect("a reason in JSON"));
        }
        _ => {}
    }
}

/// A TCP connection and the bytes received on it.
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
    /// The beginning of what was sent.
    sent: Vec<u8>,
}

impl Raw {
    /// Connects and sends nothing.
    pub async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), sent: Vec::new() }
    }

    /// The head of an upgrade request.
    pub fn upgrade_head(user: &User, subprotocol: &str) -> String {
        format!(
            "GET /ws?subscribe=none HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\nAuthorization: Bearer {}\r\n\r\n",
            user.token
        )
    }

    /// Connects, upgrades, and reads the welcome.
    pub async fn upgraded(server: &Server, user: &User, subprotocol: &str) -> Self {
        let mut raw = Self::connect(server).await;
        raw.write(Self::upgrade_head(user, subprotocol).as_bytes()).await.unwrap();
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let (opcode, welcome) = raw.frame().await.expect("welcome");
        assert!(opcode == 1 || opcode == 2, "{opcode}: {welcome:?}");
        raw
    }

    /// Writes bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = SENT_KEPT_BYTES.saturating_sub(self.sent.len());
        self.sent.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.stream.write_all(bytes).await
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
        read.expect("neither an answer nor the end of the connection")
    }

    /// Reads the head of the next answer.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            let read = self.read_more().await.expect("an answer");
            assert!(read > 0, "closed without an answer: {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Reads and drops this many bytes of a body.
    pub async fn skip(&mut self, bytes: usize) {
        while self.received.len() < bytes {
            assert!(self.read_more().await.expect("a body") > 0, "closed in the middle of a body");
        }
        self.received.drain(..bytes);
    }

    /// Reads and drops what comes next. Returns how much; `None` when the connection ends.
    pub async fn drop_some(&mut self) -> Option<usize> {
        let before = std::mem::take(&mut self.received).len();
        match self.read_more().await {
            Ok(read) if read > 0 => Some(before + std::mem::take(&mut self.received).len()),
            _ => None,
        }
    }

    /// Reads until the connection ends. Returns everything that was not read before.
    pub async fn rest(&mut self) -> Vec<u8> {
        while matches!(self.read_more().await, Ok(read) if read > 0) {}
        let line = self.sent.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
        let mut parts = line.unwrap_or("").split(' ');
        let (method, target) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        protocol::assert_answer_bytes(method, target, &self.received);
        std::mem::take(&mut self.received)
    }

    /// Reads the next frame; `None` when the connection ends first.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((opcode, payload)) = self.take_frame() {
                check_frame(opcode, &payload);
                return Some((opcode, payload));
            }
            if !matches!(self.read_more().await, Ok(read) if read > 0) {
                return None;
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.received.first()?, *self.received.get(1)?);
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (start, len) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.received.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(self.received.get(2..10)?.try_into().ok()?)).ok()?),
            short => (2, usize::from(short)),
        };
        let payload = self.received.get(start..start + len)?.to_vec();
        self.received.drain(..start + len);
        Some((first & 0x0f, payload))
    }

    /// Reads up to the close frame. Returns its code, or `None` when the connection ends without one.
    pub async fn close_code(&mut self) -> Option<u16> {
        while let Some((opcode, payload)) = self.frame().await {
            if opcode == 8 {
                return Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
        None
    }

    /// A client frame with this FIN bit, masked with zeroes.
    pub fn client_frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![if fin { 0x80 } else { 0 } | opcode];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                frame.push(0x80 | 0x7e);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 0x7f);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }
}
