//! What the configuration alone shows.

use super::diagnosis::{Diagnosis, Grade};
use super::report::DoctorReport;
use crate::address::parse_network;
use crate::config::{Config, Environment};
use std::net::{IpAddr, SocketAddr};

pub(super) fn examine(config: &Config, report: &mut DoctorReport) {
    for finding in proxies(config) {
        report.add(&finding);
    }
    let warnings = config.warnings();
    if warnings.is_empty() {
        report.add(&Diagnosis::ok("configuration", "every key has an effect, and no value is one to avoid"));
    }
    for warning in warnings {
        report.add(&Diagnosis::of_text("configuration", Grade::Warning, &warning));
    }
}

fn proxies(config: &Config) -> Vec<Diagnosis> {
    let (check, server) = ("proxy", &config.server);
    let serves_users = server.environment != Environment::Development;
    let mut findings = Vec::new();
    let networks = server.trusted_proxies.iter().filter_map(|text| Some((text, parse_network(text)?)));
    for (text, _) in networks.filter(|(_, network)| network.prefix_len() == 0) {
        findings.push(Diagnosis::warning(
            check,
            format!("server.trusted_proxies has {text}: every client can choose the address that it is counted as"),
            "name the addresses of the proxies only",
        ));
    }
    let bind = server.bind_addr;
    let has_proxies = !server.trusted_proxies.is_empty();
    if serves_users && !is_reachable(bind) && !has_proxies {
        findings.push(Diagnosis::warning(
            check,
            format!(
                "{bind} is reached through a proxy only, and server.trusted_proxies is empty: all clients share one \
                     address and its limits"
            ),
            "set server.trusted_proxies to the address of the proxy",
        ));
    }
    if serves_users && is_reachable(bind) {
        let found = if has_proxies {
            format!("{bind} can be reached by others than the proxies of server.trusted_proxies")
        } else {
            format!("{bind} can be reached without a proxy, and the server speaks plain HTTP")
        };
        let advice = "let only a proxy that terminates TLS reach it: a firewall, or an address of this machine or of a \
                      private network in server.bind_addr";
        findings.push(Diagnosis::warning(check, found, advice));
    }
    if let Some(internal) = server.internal_addr.filter(|address| is_reachable(*address)) {
        findings.push(Diagnosis::warning(
            check,
            format!("server.internal_addr {internal} asks for no token, and may be reached by others than operators"),
            "use an address of this machine or of a private network, or a firewall",
        ));
    }
    if findings.is_empty() {
        let count = server.trusted_proxies.len();
        findings.push(Diagnosis::ok(
            check,
            format!("server.bind_addr is {bind}, server.trusted_proxies has {count} entries"),
        ));
    }
    findings
}

/// Whether machines outside private networks may reach an address, as far as it shows.
fn is_reachable(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_private() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unique_local() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn production(bind: &str, proxies: &[&str], internal: Option<&str>) -> String {
        let mut config = Config::default();
        config.server.environment = Environment::Production;
        config.server.bind_addr = bind.parse().unwrap();
        config.server.trusted_proxies = proxies.iter().map(ToString::to_string).collect();
        config.server.internal_addr = internal.map(|address| address.parse().unwrap());
        let findings: Vec<String> = proxies_of(&config);
        findings.join("\n")
    }

    fn proxies_of(config: &Config) -> Vec<String> {
        proxies(config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn judges_proxies_by_the_address() {
        for (bind, proxies, internal, expected) in [
            ("127.0.0.1:8080", &["127.0.0.1"][..], None, "ok       proxy"),
            ("10.0.0.5:8080", &["10.0.0.1"], Some("10.0.0.5:9090"), "ok       proxy"),
            ("127.0.0.1:8080", &[], None, "all clients share one address"),
            ("0.0.0.0:8080", &["10.0.0.1"], None, "can be reached by others than the proxies"),
            ("[::]:8080", &[], None, "plain HTTP"),
            ("127.0.0.1:8080", &["0.0.0.0/0"], None, "every client can choose"),
            ("127.0.0.1:8080", &["127.0.0.1"], Some("0.0.0.0:9090"), "asks for no token"),
        ] {
            let found = production(bind, proxies, internal);
            assert!(found.contains(expected) && found.lines().count() == 1, "{bind} {proxies:?}: {found}");
        }
        assert!(proxies_of(&Config::default())[0].starts_with("ok"), "development needs no proxy");
    }
}
