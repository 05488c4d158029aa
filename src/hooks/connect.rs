//! The HTTP client of webhooks. Its connections go to addresses that were checked a moment before.
//!
//! Invariants:
//! - the resolver checks every address that a name has, and the connector connects to these addresses only. There is no
//!   second resolution that could give others;
//! - a name with one forbidden address is refused, also if its other addresses are public;
//! - no redirect is followed and no proxy is used: the request goes to the receiver that its owner named.

use super::target::AddressPolicy;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tower::Service;

/// Addresses of a name that are looked at. More are a fault of the name, or an attack.
const ADDRESSES_MAX: usize = 32;
/// How long a connection stays open without a request.
const IDLE: Duration = Duration::from_secs(30);
/// Open connections without a request, for each receiver.
const IDLE_PER_RECEIVER_MAX: usize = 2;

/// The clients of all webhooks.
pub struct HookClients {
    /// For `https://`.
    pub encrypted: Client<HttpsConnector<HttpConnector<CheckedResolver>>, Full<Bytes>>,
    /// For `http://`.
    pub plain: Client<HttpConnector<CheckedResolver>, Full<Bytes>>,
}

/// Resolves names, and refuses those with an address that deliveries must not go to.
#[derive(Clone)]
pub struct CheckedResolver {
    policy: Arc<AddressPolicy>,
    is_encrypted: bool,
    names: Handle,
}

impl Service<Name> for CheckedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (policy, is_encrypted, names) = (Arc::clone(&self.policy), self.is_encrypted, self.names.clone());
        Box::pin(async move {
            let found = resolve(&names, name).await;
            let found = found.map_err(|error| io::Error::other(format!("the name has no address: {error}")))?;
            if found.is_empty() || found.len() > ADDRESSES_MAX {
                return Err(io::Error::other(format!("the name has {} addresses", found.len())));
            }
            if found.iter().any(|address| !policy.permits(address.ip(), is_encrypted)) {
                return Err(io::Error::other(NOT_PUBLIC));
            }
            Ok(found.into_iter())
        })
    }
}

/// The addresses of a name, from the system's resolver, on a thread that may wait for it.
async fn resolve(names: &Handle, name: Name) -> io::Result<Vec<SocketAddr>> {
    let resolving = names.spawn_blocking(move || Ok((name.as_str(), 0).to_socket_addrs()?.collect()));
    resolving.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Why a name is refused. It does not name the address, which would show users what internal names resolve to.
pub const NOT_PUBLIC: &str = "the name has an address that is not public (webhooks.allowed_networks)";

impl HookClients {
    /// Connects to nothing yet. `names` has threads of its own for the resolver: a name server that does not answer
    /// must not occupy those that hash passwords.
    ///
    /// # Errors
    /// When the machine has no certificates.
    pub fn new(policy: &Arc<AddressPolicy>, connect_timeout: Duration, names: &Handle) -> io::Result<Self> {
        let connector = |is_encrypted| {
            let resolver = CheckedResolver { policy: Arc::clone(policy), is_encrypted, names: names.clone() };
            let mut http = HttpConnector::new_with_resolver(resolver);
            http.enforce_http(!is_encrypted);
            http.set_connect_timeout(Some(connect_timeout));
            http.set_nodelay(true);
            http
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_PER_RECEIVER_MAX);
        let https = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1();
        Ok(Self {
            encrypted: builder.build(https.wrap_connector(connector(true))),
            plain: builder.build(connector(false)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_a_name_of_this_machine_unless_it_is_allowed() {
        let resolve = async |allowed: &[&str]| {
            let policy = AddressPolicy::new(allowed.iter().map(|network| network.parse().unwrap()).collect());
            let mut resolver =
                CheckedResolver { policy: Arc::new(policy), is_encrypted: true, names: Handle::current() };
            resolver.call("localhost".parse().unwrap()).await
        };
        assert_eq!(resolve(&[]).await.unwrap_err().to_string(), NOT_PUBLIC);
        let allowed = resolve(&["127.0.0.0/8", "::1/128"]).await.unwrap();
        assert!(allowed.into_iter().all(|address| address.ip().is_loopback()));
    }
}
