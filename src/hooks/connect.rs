//! The HTTP client of webhooks. Its connections go to addresses that were checked a moment before.
//!
//! Invariants:
//! - the resolver checks every address that a name has, and the connector connects to these addresses only. There is no
//!   second resolution that could give others;
//! - a name with one forbidden address is refused, also if its other addresses are public;
//! - a connection serves one request. The pool of the client would go on making connections in the background when
//!   an older one becomes free first, without a limit of time, and a receiver that stalls their handshakes would take
//!   every descriptor;
//! - no redirect is followed and no proxy is used: the request goes to the receiver that its owner named.

use super::target::AddressPolicy;
use crate::mesh::quota::Quota;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tower::Service;

/// Addresses of a name. A name with more is refused.
const ADDRESSES_MAX: usize = 32;
/// Names of one domain that are resolved at the same time, so that its name servers do not hold every thread.
const LOOK_UPS_PER_DOMAIN_MAX: usize = 4;

/// The clients of all webhooks.
pub struct HookClients {
    /// For `https://`.
    pub encrypted: Client<HttpsConnector<HttpConnector<CheckedResolver>>, Full<Bytes>>,
    /// For `http://`.
    pub plain: Client<HttpConnector<CheckedResolver>, Full<Bytes>>,
}

/// The addresses of a name, from the system's resolver.
type LookUp = fn(&Name) -> io::Result<Vec<SocketAddr>>;

/// Resolves names, and refuses those with an address that deliveries must not go to.
#[derive(Clone)]
pub struct CheckedResolver {
    policy: Arc<AddressPolicy>,
    is_encrypted: bool,
    names: Handle,
    running: Quota<u64>,
    look_up: LookUp,
}

impl Service<Name> for CheckedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.resolve(name).await?;
            if found.is_empty() || found.len() > ADDRESSES_MAX {
                return Err(io::Error::other(format!("the name has {} addresses", found.len())));
            }
            if found.iter().any(|address| !resolver.policy.permits(address.ip(), resolver.is_encrypted)) {
                return Err(io::Error::other(NOT_PUBLIC));
            }
            Ok(found.into_iter())
        })
    }
}

impl CheckedResolver {
    /// The addresses of a name. The thread that looks them up waits for the name server, also after its caller has
    /// stopped waiting.
    async fn resolve(&self, name: Name) -> io::Result<Vec<SocketAddr>> {
        let Some(place) = self.running.admit(domain_of(name.as_str())) else {
            return Err(io::Error::other("the name servers of its domain do not answer"));
        };
        let look_up = self.look_up;
        let resolving = self.names.spawn_blocking(move || {
            let _place = place;
            look_up(&name)
        });
        let found = resolving.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        found.map_err(|error| io::Error::other(format!("the name has no address: {error}")))
    }
}

/// A number for the last two labels of a name, whose name servers are usually the same.
fn domain_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for label in name.trim_end_matches('.').rsplit('.').take(2) {
        label.to_ascii_lowercase().hash(&mut hasher);
    }
    hasher.finish()
}

fn system_look_up(name: &Name) -> io::Result<Vec<SocketAddr>> {
    Ok((name.as_str(), 0).to_socket_addrs()?.collect())
}

/// Why a name is refused. It does not name the address, which would show users what internal names resolve to.
pub const NOT_PUBLIC: &str = "the name has an address that is not public";

impl HookClients {
    /// Connects to nothing yet. `names` has threads of its own for the resolver: a name server that does not answer
    /// must not occupy those that hash passwords.
    ///
    /// # Errors
    /// When the machine has no certificates.
    pub fn new(policy: &Arc<AddressPolicy>, names: &Handle) -> io::Result<Self> {
        let running = Quota::new(LOOK_UPS_PER_DOMAIN_MAX);
        let connector = |is_encrypted| {
            let resolver = CheckedResolver {
                policy: Arc::clone(policy),
                is_encrypted,
                names: names.clone(),
                running: running.clone(),
                look_up: system_look_up,
            };
            let mut http = HttpConnector::new_with_resolver(resolver);
            http.enforce_http(!is_encrypted);
            http.set_nodelay(true);
            http
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
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
    use std::time::Duration;
    use tokio::time::timeout;

    fn resolver(allowed: &[&str], look_up: LookUp) -> CheckedResolver {
        let policy = AddressPolicy::new(allowed.iter().map(|network| network.parse().unwrap()).collect());
        let running = Quota::new(LOOK_UPS_PER_DOMAIN_MAX);
        CheckedResolver { policy: Arc::new(policy), is_encrypted: true, names: Handle::current(), running, look_up }
    }

    async fn resolved(allowed: &[&str], look_up: LookUp) -> Result<Vec<SocketAddr>, String> {
        let found = resolver(allowed, look_up).call("name.example".parse().unwrap()).await;
        found.map(Iterator::collect).map_err(|error| error.to_string())
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[tokio::test]
    async fn one_forbidden_address_among_public_ones_refuses_the_name() {
        const MIXED: [&str; 2] = ["1.1.1.1", "127.0.0.1"];
        let mixed: LookUp = |_| Ok(addresses(&MIXED));
        assert_eq!(resolved(&[], mixed).await, Err(NOT_PUBLIC.to_owned()));
        assert_eq!(resolved(&["127.0.0.0/8"], mixed).await, Ok(addresses(&MIXED)), "in the order of the name server");
        assert_eq!(resolved(&[], |_| Ok(addresses(&["2606:4700::1111"]))).await, Ok(addresses(&["2606:4700::1111"])));
        assert!(resolved(&[], |_| Ok(Vec::new())).await.is_err());
        assert!(resolved(&[], |_| Ok(vec![SocketAddr::from(([1, 1, 1, 1], 0)); 33])).await.is_err());
        let failed = resolved(&[], |_| Err(io::Error::other("no such name"))).await.unwrap_err();
        assert!(failed.contains("no such name"), "{failed}");
    }

    #[tokio::test]
    async fn name_servers_that_do_not_answer_hold_a_few_threads_only() {
        let mut silent = resolver(&[], |_| {
            std::thread::sleep(Duration::from_millis(500));
            Ok(Vec::new())
        });
        let call = |resolver: &mut CheckedResolver, name: &str| tokio::spawn(resolver.call(name.parse().unwrap()));
        let hung: Vec<_> = (0..4).map(|n| call(&mut silent, &format!("h{n}.silent.example"))).collect();
        tokio::task::yield_now().await; // they have begun
        let next = call(&mut silent, "h5.SILENT.example.").await.unwrap();
        assert!(next.unwrap_err().to_string().contains("do not answer"));
        silent.look_up = |_| Ok(addresses(&["1.1.1.1"]));
        let other = timeout(Duration::from_secs(20), call(&mut silent, "fine.example.org")).await.unwrap().unwrap();
        assert_eq!(other.unwrap().collect::<Vec<_>>(), addresses(&["1.1.1.1"]));
        drop(hung);
    }
}
