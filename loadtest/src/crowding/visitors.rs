//! Ordinary users who come and go over HTTP: each sign-in and each read is a new connection from the address of its
//! user.

use super::report::Seen;
use crate::setup::account::Account;
use crate::setup::api::{Target, root_cause};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// Between two sign-ins. Their hashes cost the server much, so these are few.
const SIGN_IN_EVERY: Duration = Duration::from_millis(150);
/// Between two reads of a profile.
const READ_EVERY: Duration = Duration::from_millis(50);
/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The address of an ordinary user. Each has a /24 of its own, because limits count subnets too.
pub(super) fn address_of(user: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 1 + (user / 250 % 100) as u8, (user % 250) as u8, 1))
}

/// Those who come and go.
pub struct Visitors<'a> {
    target: &'a Target,
    accounts: &'a [Account],
    password: &'a str,
    /// By user.
    clients: Vec<reqwest::Client>,
}

impl<'a> Visitors<'a> {
    /// With an address for each account.
    ///
    /// # Errors
    /// That a client cannot be made.
    pub fn new(target: &'a Target, accounts: &'a [Account], password: &'a str) -> Result<Self, String> {
        let client = |user| {
            let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(0);
            client.local_address(address_of(user)).build().map_err(|error| format!("no HTTP client: {error}"))
        };
        let clients = (0..accounts.len() as u32).map(client).collect::<Result<_, _>>()?;
        Ok(Self { target, accounts, password, clients })
    }

    /// Signs in and reads until `end`.
    pub(super) async fn come_and_go(&self, began: Instant, end: Instant) -> Seen {
        let (signed_in, read) = tokio::join!(
            self.repeat("signing in", SIGN_IN_EVERY, (began, end), |user| {
                let (account, password) = (&self.accounts[user], self.password);
                let credentials = json!({ "login": account.username, "password": password, "device_name": "visit" });
                self.clients[user].post(format!("{}/auth/login", self.target)).json(&credentials)
            }),
            self.repeat("reading a profile", READ_EVERY, (began, end), |user| {
                self.clients[user].get(format!("{}/users/me", self.target)).bearer_auth(&self.accounts[user].token)
            })
        );
        let refused = [signed_in.1, read.1].concat();
        Seen { sign_in: signed_in.0, read: read.0, refused, ..Seen::default() }
    }

    /// Repeats a request, each time as the next user. Latencies count from the planned time.
    async fn repeat(
        &self,
        what: &str,
        every: Duration,
        (began, end): (Instant, Instant),
        request: impl Fn(usize) -> reqwest::RequestBuilder,
    ) -> (Vec<Duration>, Vec<String>) {
        let (mut took, mut refused) = (Vec::new(), Vec::new());
        for n in 0.. {
            let planned = began + every * n;
            if planned >= end {
                break;
            }
            tokio::time::sleep_until(planned.into()).await;
            match answer(request(n as usize % self.clients.len())).await {
                Ok(()) => took.push(planned.elapsed()),
                Err(reason) => refused.push(format!("{what}: {reason}")),
            }
        }
        (took, refused)
    }
}

/// Sends a request that must succeed.
async fn answer(request: reqwest::RequestBuilder) -> Result<(), String> {
    let response = request.send().await.map_err(|error| root_cause(&error))?;
    let status = response.status();
    let body = response.bytes().await.map_err(|error| root_cause(&error))?;
    if status.is_success() {
        return Ok(());
    }
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    Err(format!("{} {}: {}", status.as_u16(), text("code"), text("detail")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ordinary_users_share_no_subnet_with_each_other_or_with_the_attacker() {
        let subnet = |address: IpAddr| match address {
            IpAddr::V4(four) => four.octets()[..3].to_vec(),
            IpAddr::V6(_) => unreachable!("IPv4 only"),
        };
        let mut subnets: HashSet<_> = (0..1_000).map(|user| subnet(address_of(user))).collect();
        assert_eq!(subnets.len(), 1_000);
        assert!(subnets.insert(subnet(super::super::requests::ATTACKER)));
    }
}
