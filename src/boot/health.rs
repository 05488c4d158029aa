//! `chat-server health`: asks a running server whether it is ready, for containers and scripts without an HTTP client.
//!
//! The answer comes from `/health/ready` of `server.internal_addr`, which has the reasons, or else of the public port.
//! Invariant: one request ends within [`TIME_MAX`] and reads [`ANSWER_BYTES_MAX`] at most. Otherwise a server that
//! hangs would look healthy for as long as it hangs.

use super::error::BootError;
use super::output::found;
use super::reach::runtime;
use crate::config::Config;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long the server may take. A ready one needs a millisecond.
const TIME_MAX: Duration = Duration::from_secs(4);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Asks the server at `url`, and prints its answer.
///
/// # Errors
/// [`BootError::NotReady`] with the reason.
pub fn check_health(url: &str) -> Result<(), BootError> {
    let fault = |reason: String| BootError::NotReady { url: url.to_owned(), reason };
    let answer = runtime(1)?.block_on(async {
        let asked = tokio::time::timeout(TIME_MAX, ask(url)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {} seconds", TIME_MAX.as_secs()).into()))
    });
    let (status, body) = answer.map_err(|error| fault(with_causes(&*error)))?;
    if status != StatusCode::OK {
        return Err(fault(format!("{}: {body}", status.as_u16())));
    }
    found(&body);
    Ok(())
}

/// Where the server of this configuration says whether it is ready.
#[must_use]
pub fn health_url(config: &Config) -> String {
    let address = config.server.internal_addr.unwrap_or(config.server.bind_addr);
    format!("http://{}/health/ready", reachable(address))
}

/// A server that listens on every address of the machine is asked on the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(url: &str) -> Result<(StatusCode, String), Box<dyn Error + Send + Sync>> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.get(url.parse::<Uri>()?).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
}

/// An error and what caused it: the client's own only says that it could not connect.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_the_port_of_operators_on_an_address_that_can_be_reached() {
        let mut config = Config::default();
        config.server.bind_addr = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(health_url(&config), "http://127.0.0.1:8080/health/ready");
        config.server.bind_addr = "[::]:8080".parse().unwrap();
        assert_eq!(health_url(&config), "http://[::1]:8080/health/ready");
        config.server.internal_addr = Some("192.0.2.1:9464".parse().unwrap());
        assert_eq!(health_url(&config), "http://192.0.2.1:9464/health/ready");
    }
}
