//! One HTTP/1.1 connection with a fixed buffer, for bodies of any size: what it receives is looked at and dropped. It
//! blocks; its users have threads of their own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes that one read takes at most.
const BUFFER_BYTES: usize = 256 * 1024;
/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that is read as text.
const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// Header fields of an answer.
const FIELDS_MAX: usize = 64;

/// A connection that stays open for further requests.
pub(super) struct FileClient {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The bytes of the buffer that were received and not yet read.
    unread: std::ops::Range<usize>,
}

/// The head of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AnswerHead {
    pub(super) status: u16,
    /// Bytes of its body.
    pub(super) length: u64,
}

/// What a request has besides its body.
#[derive(Clone, Copy)]
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
    /// Complete lines, each with its end.
    pub(super) fields: &'a str,
    pub(super) length: u64,
}

impl FileClient {
    pub(super) fn open(address: SocketAddr) -> Result<Self, String> {
        let opened = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = opened.map_err(|error| format!("cannot connect to {address}: {error}"))?;
        Ok(Self { address, stream, buffer: vec![0; BUFFER_BYTES], unread: 0..0 })
    }

    fn lost(&self, error: &io::Error) -> String {
        format!("the connection to {} broke: {error}", self.address)
    }

    /// Sends the head of a request.
    pub(super) fn begin(&mut self, head: RequestHead<'_>) -> Result<(), String> {
        let RequestHead { method, path, token, fields, length } = head;
        let bearer = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        let address = self.address;
        let text =
            format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{bearer}{fields}content-length: {length}\r\n\r\n");
        self.write(text.as_bytes())
    }

    /// Sends a part of a body.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| {
            // A server that refuses a body closes the connection; its answer says why.
            match self.answer().and_then(|head| self.text(head).map(|text| (head.status, text))) {
                Ok((status, text)) => format!("refused with status {status}: {text}"),
                Err(_) => self.lost(&error),
            }
        })
    }

    /// Receives more bytes; their number, 0 at the end of the connection.
    fn receive(&mut self) -> Result<usize, String> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let end = self.unread.end;
        loop {
            match self.stream.read(&mut self.buffer[end..]) {
                Ok(received) => {
                    self.unread.end += received;
                    return Ok(received);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    /// The head of the next answer.
    pub(super) fn answer(&mut self) -> Result<AnswerHead, String> {
        loop {
            match head(&self.buffer[self.unread.clone()])? {
                Some((answer, bytes)) => {
                    self.unread.start += bytes;
                    return Ok(answer);
                }
                None if self.unread.len() == self.buffer.len() => return Err("an answer without an end".to_owned()),
                None if self.receive()? == 0 => return Err(self.lost(&ErrorKind::UnexpectedEof.into())),
                None => {}
            }
        }
    }

    /// Receives a body piece by piece. `wanted` returns whether to go on. Returns the number of received bytes.
    pub(super) fn body(&mut self, head: AnswerHead, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<u64, String> {
        let mut received = 0;
        while received < head.length {
            if self.unread.is_empty() && self.receive()? == 0 {
                return Err(self.lost(&ErrorKind::UnexpectedEof.into()));
            }
            let left = usize::try_from(head.length - received).unwrap_or(usize::MAX);
            let piece = self.unread.start..self.unread.end.min(self.unread.start.saturating_add(left));
            self.unread.start = piece.end;
            received += piece.len() as u64;
            if !wanted(&self.buffer[piece]) {
                break;
            }
        }
        Ok(received)
    }

    /// Receives a short body.
    pub(super) fn text(&mut self, head: AnswerHead) -> Result<String, String> {
        if head.length > TEXT_BYTES_MAX {
            return Err(format!("an answer of {} bytes", head.length));
        }
        let mut text = Vec::new();
        self.body(head, |piece| {
            text.extend_from_slice(piece);
            true
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends a request with a short body and receives its short answer, which must have this status.
    pub(super) fn ask(&mut self, head: RequestHead<'_>, body: &str, status: u16) -> Result<String, String> {
        self.begin(RequestHead { length: body.len() as u64, ..head })?;
        self.write(body.as_bytes())?;
        self.short_answer(head.method, head.path, status)
    }

    /// Receives a short answer, which must have this status.
    pub(super) fn short_answer(&mut self, method: &str, path: &str, status: u16) -> Result<String, String> {
        let answer = self.answer()?;
        let text = self.text(answer)?;
        if answer.status == status {
            return Ok(text);
        }
        Err(format!("{method} {path}: answered {} instead of {status}: {text}", answer.status))
    }
}

/// The head at the start of these bytes, and its length, if all of it is there.
fn head(bytes: &[u8]) -> Result<Option<(AnswerHead, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes).map_err(|error| format!("an answer that is not HTTP: {error}"))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or_default();
    let field = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body = field.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok());
    match (body, status) {
        (_, 204 | 304) => Ok(Some((AnswerHead { status, length: 0 }, length))),
        (Some(body), _) => Ok(Some((AnswerHead { status, length: body }, length))),
        (None, _) => Err(format!("an answer with status {status} and no content-length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn reads_heads_and_refuses_bodies_without_a_length() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nab";
        let expected = AnswerHead { status: 200, length: 12 };
        assert_eq!(head(text), Ok(Some((expected, text.len() - 2))));
        assert_eq!(head(&text[..20]), Ok(None));
        assert_eq!(head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().0.length, 0);
        assert!(head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(head(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn keeps_the_connection_for_the_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /a HTTP/1.1\r\n"));
            // Both answers at once: the second one waits in the buffer.
            let large = vec![b'x'; 300_000];
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n").unwrap();
            stream.write_all(&large).unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone").unwrap();
            assert!(stream.read(&mut request).unwrap() > 0);
        });
        let mut client = FileClient::open(address).unwrap();
        let get = RequestHead { method: "GET", path: "/a", token: None, fields: "", length: 0 };
        client.begin(get).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(client.body(answer, |piece| piece.iter().all(|byte| *byte == b'x')), Ok(300_000));
        let error = client.ask(get, "", 200).unwrap_err();
        assert!(error.contains("answered 404 instead of 200: gone"), "{error}");
        serving.join().unwrap();
    }
}
