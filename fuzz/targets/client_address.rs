//! The client's address in `X-Forwarded-For` and `Forwarded`: a peer that is no trusted proxy is its own client, and a
//! trusted one never ends the search at another trusted proxy while elements are left.

#![no_main]

use chat_server::address::{ClientNetwork, ForwardedHeader, TrustedProxies, parse_network};
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

fuzz_target!(|text: &str| {
    let networks: Vec<_> = ["10.0.0.0/8", "2001:db8::/32"].into_iter().filter_map(parse_network).collect();
    let (proxy, stranger) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let proxies = TrustedProxies::new(networks.clone(), header);
        assert_eq!(proxies.client(stranger, text.lines()), stranger);
        let client = proxies.client(proxy, text.lines());
        assert_eq!(client, client.to_canonical());
        let network = ClientNetwork::of(client);
        assert_eq!(network, ClientNetwork::of(client));
        let _ = network.subnet();
    }
    if let Some(network) = parse_network(text.trim()) {
        assert_eq!(parse_network(&network.to_string()), Some(network));
    }
});
