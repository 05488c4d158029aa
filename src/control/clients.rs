//! What each client network uses of the HTTP server: its connections, and its requests that are not complete.
//!
//! Invariants:
//! - a network has at most a part of the connections, and at most [`UNFINISHED_REQUESTS_PER_NETWORK_MAX`] requests
//!   whose body is still to come. Otherwise one address could hold every connection with slow bodies, and the server
//!   would refuse everybody else;
//! - a place is freed when its connection or request ends, however it ends. A network without any has no entry.
//!
//! Trusted proxies have any number of connections, because each carries requests of many clients. The requests count
//! for the networks of those clients.

use super::problem::Problem;
use crate::address::{ClientNetwork, TrustedProxies};
use crate::limits::{
    HTTP_CONNECTIONS_NETWORK_PART, HTTP_CONNECTIONS_PER_NETWORK_MIN, UNFINISHED_REQUESTS_PER_NETWORK_MAX,
};
use crate::mesh::quota::{Quota, QuotaPlace, QuotaRefusal};
use std::net::IpAddr;

/// The refusal for a network with too many unfinished requests.
const UNFINISHED: QuotaRefusal = QuotaRefusal {
    limiter: "unfinished_requests",
    scope: "address",
    detail: "Too many requests from this network are incomplete. Nothing was changed. Send the body together with its \
             head.",
    retry_ms: 1_000,
};

/// The networks that use the HTTP server; cloning shares them.
#[derive(Clone)]
pub(super) struct Clients {
    proxies: TrustedProxies,
    connections: Quota<ClientNetwork>,
    unfinished: Quota<ClientNetwork>,
}

/// A counted connection or request.
pub(super) type NetworkPlace = QuotaPlace<ClientNetwork>;

/// The network has as many connections as it may have.
#[derive(Debug)]
pub(super) struct NetworkIsFull;

impl Clients {
    /// For a server with this many connections.
    pub(super) fn new(connections_max: usize, proxies: TrustedProxies) -> Self {
        let per_network = (connections_max / HTTP_CONNECTIONS_NETWORK_PART).max(HTTP_CONNECTIONS_PER_NETWORK_MIN);
        let unfinished = Quota::new(UNFINISHED_REQUESTS_PER_NETWORK_MAX);
        Self { proxies, connections: Quota::new(per_network), unfinished }
    }

    /// The proxies whose headers name the client.
    pub(super) fn proxies(&self) -> &TrustedProxies {
        &self.proxies
    }

    /// A place for a connection; `None` for a trusted proxy.
    pub(super) fn admit_connection(&self, peer: IpAddr) -> Result<Option<NetworkPlace>, NetworkIsFull> {
        if self.proxies.contains(peer) {
            return Ok(None);
        }
        self.connections.admit(ClientNetwork::of(peer)).map(Some).ok_or(NetworkIsFull)
    }

    /// A place for a request whose body is slow to arrive.
    pub(super) fn admit_unfinished(&self, client: IpAddr) -> Result<NetworkPlace, Problem> {
        Ok(self.unfinished.admit_or(ClientNetwork::of(client), &UNFINISHED)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{ForwardedHeader, parse_network};
    use serde_json::json;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_a_quarter_of_the_connections() {
        let proxies = TrustedProxies::new(vec![parse_network("10.0.0.1").unwrap()], ForwardedHeader::default());
        let clients = Clients::new(4_096, proxies);
        let mut places: Vec<_> = (0..1_024).map(|_| clients.admit_connection(ip("2001:db8::1")).unwrap()).collect();
        assert!(clients.admit_connection(ip("2001:db8::2")).is_err(), "the same /64");
        assert!(clients.admit_connection(ip("2001:db8:0:1::1")).is_ok(), "others are not affected");
        assert!(clients.admit_unfinished(ip("2001:db8::1")).is_ok(), "requests are counted apart");
        places.pop();
        places.push(clients.admit_connection(ip("2001:db8::2")).unwrap());
        drop(places);
        assert!(clients.connections.is_empty());
        for _ in 0..2_000 {
            assert!(clients.admit_connection(ip("10.0.0.1")).unwrap().is_none(), "a proxy carries many clients");
        }
    }

    #[test]
    fn a_network_has_few_unfinished_requests() {
        let clients = Clients::new(4_096, TrustedProxies::default());
        let admit = || clients.admit_unfinished(ip("192.0.2.1"));
        let mut places: Vec<_> = (0..UNFINISHED_REQUESTS_PER_NETWORK_MAX).map(|_| admit().ok().unwrap()).collect();
        let refused = admit().err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.code, refused.retry_after_ms), (429, "rate_limited", Some(1_000)));
        let details = json!({"limiter": "unfinished_requests", "scope": "address", "limit": 64, "window_ms": 0});
        assert_eq!(refused.details.as_deref(), Some(&details));
        assert!(clients.admit_unfinished(ip("192.0.2.2")).is_ok());
        places.pop();
        assert!(admit().is_ok());
        drop(places);
        assert!(clients.unfinished.is_empty());
    }
}
