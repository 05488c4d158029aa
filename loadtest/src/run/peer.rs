//! A run against a server that another part has started, through an adapter of its protocol: no accounts, no set-up
//! over HTTP. Load, checks and measurement are those of every other run.

use super::drive::Drive;
use super::engine::{check_descriptors, engine_options};
use super::gauge::Gauge;
use super::interrupts::Interrupts;
use super::outcome::{self, Outcome};
use crate::engine::Endpoint;
use crate::payload::{PayloadFormat, RunId};
use crate::protocol;
use crate::result::{Machine, SystemUnderTest};
use crate::scenario::{Rooms, Scenario};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// What is run, and against what.
#[derive(Debug)]
pub struct PeerRun<'a> {
    /// The scenario's name.
    pub name: &'a str,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Its process.
    pub server_pid: u32,
    /// The process of its store, when that is another.
    pub store_pid: Option<u32>,
    /// Threads of the generator.
    pub threads: u32,
    /// No progress bars.
    pub quiet: bool,
    /// What the result calls it.
    pub system: SystemUnderTest,
}

impl PeerRun<'_> {
    /// Runs the scenario; `adapter` makes the server's protocol for so many connections and such contents. The error is
    /// for people.
    pub fn run<Y: protocol::System>(
        self,
        runtime: &Runtime,
        interrupts: &Interrupts,
        adapter: impl FnOnce(usize, PayloadFormat) -> Y,
    ) -> Result<Outcome, String> {
        let Self { name, scenario, address, .. } = self;
        check_descriptors(u64::from(scenario.connections()))?;
        let machine = Machine::current();
        let pid = |pid: u32| i32::try_from(pid).map_err(|_| format!("{pid} is no process"));
        let gauge = Gauge::of_processes(address, pid(self.server_pid)?, self.store_pid.map(pid).transpose()?);
        let endpoint = Endpoint { address, authority: address.to_string() };
        let options = engine_options(scenario, &Rooms::of(scenario), vec![endpoint], self.threads);
        let payload = PayloadFormat { run: RunId(rand::random()), sizes: scenario.load.payload_bytes.sizes() };
        let system = Arc::new(adapter(options.seats.len(), payload));
        let drive = Drive { scenario, options: Arc::new(options), quiet: self.quiet, runtime, interrupts };
        // There are no credentials to renew.
        let (driven, mut gauge) = drive.run(&system, gauge, None, |_| std::future::ready(()))?;
        let mut outcome = outcome::assemble(scenario, driven, &mut gauge, None)?;
        let result = &mut outcome.result;
        name.clone_into(&mut result.label);
        result.machine = machine;
        result.system = self.system;
        result.scenario = serde_json::to_value(scenario).unwrap_or_default();
        if let Some(map) = result.scenario.as_object_mut() {
            map.insert("name".to_owned(), name.into());
            map.insert("generator_threads".to_owned(), self.threads.into());
        }
        Ok(outcome)
    }
}
