//! A run of rooms whose users and rooms exist: connections, load, drain, result. Against one server, or against the
//! nodes of a cluster, which the connections use in turn.

use super::drive::Drive;
use super::engine::engine_options;
use super::gauge::Gauge;
use super::interrupts::Interrupts;
use super::outcome::{self, Outcome};
use crate::engine::{Endpoint, EngineOptions};
use crate::payload::{PayloadFormat, RunId};
use crate::protocol::veza::{Veza, VezaOptions};
use crate::scenario::{Rooms, Scenario};
use crate::setup::account::{Account, SignIn};
use crate::setup::api::Api;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// What is run, and against what.
#[derive(Debug)]
pub struct RoomsRun<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The server, or the nodes of a cluster. At least one. CPU and memory in the result are those of the first.
    pub nodes: &'a [Api],
    /// The folder that has their private PostgreSQL, when this program started it.
    pub data_dir: Option<&'a Path>,
    /// How an expired token is renewed.
    pub sign_in: &'a SignIn,
    /// The users, by index.
    pub accounts: &'a [Account],
    /// The rooms that the scenario has.
    pub rooms: &'a Rooms,
    /// Their identifiers, by index.
    pub room_ids: &'a [String],
    /// Threads of the generator.
    pub threads: u32,
    /// A lost connection is no violation.
    pub survive_restarts: bool,
    /// No progress bars.
    pub quiet: bool,
}

impl RoomsRun<'_> {
    /// Runs the scenario. `begun` receives a value when sending begins. The error is for people.
    ///
    /// # Errors
    /// What failed, where, what to do.
    pub fn run(
        self,
        runtime: &Runtime,
        interrupts: &Interrupts,
        begun: Option<oneshot::Sender<()>>,
    ) -> Result<Outcome, String> {
        let Self { scenario, nodes, .. } = self;
        let endpoint = |api: &Api| {
            let target = api.target();
            target.resolve().map(|address| Endpoint { address, authority: target.authority() })
        };
        let endpoints = nodes.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        let api = nodes.first().ok_or("a run needs a server")?;
        let gauge = Gauge::new(endpoints[0].address, self.data_dir).announcing(begun);
        let engine = EngineOptions {
            survive_restarts: self.survive_restarts,
            ..engine_options(scenario, self.rooms, endpoints, self.threads)
        };
        let veza = Veza::new(
            self.room_ids.to_vec(),
            self.accounts.iter().map(|account| account.token.clone()).collect(),
            // Fresh in every run, independent of the seed: a server stores client message ids.
            PayloadFormat { run: RunId(rand::random()), sizes: scenario.load.payload_bytes.sizes() },
            VezaOptions {
                formats: scenario.format.formats(),
                compression: scenario.compression,
                checks: scenario.checks,
            },
        );
        let system = Arc::new(veza);
        let (renewing, renewing_api, sign_in) = (Arc::clone(&system), api.clone(), self.sign_in.clone());
        let renew = move |user: u32| {
            let (system, api, sign_in) = (Arc::clone(&renewing), renewing_api.clone(), sign_in.clone());
            async move {
                if let Ok(account) = sign_in.login(&api, sign_in.username(user)).await {
                    system.renew(user, account.token);
                }
            }
        };
        let drive = Drive { scenario, options: Arc::new(engine), quiet: self.quiet, runtime, interrupts };
        let (driven, mut gauge) = drive.run(&system, gauge, Some(api), renew)?;
        let server_side = runtime.block_on(gauge.server_side(api));
        outcome::assemble(scenario, driven, &mut gauge, server_side)
    }
}
