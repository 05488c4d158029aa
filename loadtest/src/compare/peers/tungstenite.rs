//! The plain server of this crate, tokio-tungstenite and one INSERT per message: see [`crate::compare::insert_server`].

use super::ground::{Ground, Missing, Running};
use crate::compare::child::Child;
use crate::compare::insert_server;
use crate::compare::places::Places;
use crate::compare::postgres::{INSTALL, Postgres};
use std::process::Command;

const DATABASE: &str = "plain";

/// Finds PostgreSQL; the server itself is part of this program.
///
/// # Errors
/// When PostgreSQL is not installed.
pub fn find(places: &Places) -> Result<(), Missing> {
    match places.postgres_programs() {
        Some(_) => Ok(()),
        None => Err(Missing::new("PostgreSQL's programs (initdb, postgres) were not found", INSTALL)),
    }
}

/// Starts PostgreSQL and the server.
///
/// # Errors
/// When one of them does not start.
pub fn start(ground: &mut Ground<'_>) -> Result<Running, String> {
    let store =
        Postgres::start(ground.places, &ground.directory.join("postgres"), ground.ports.reserve()?, ground.cores)?;
    store.create_database(DATABASE, insert_server::SCHEMA)?;
    let address = ground.address()?;
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program's file: {error}"))?;
    let mut command = Command::new(own);
    command
        .env_remove(crate::run::PARENT)
        .arg("peer-tungstenite")
        .arg("--listen")
        .arg(address.to_string())
        .arg("--database")
        .arg(store.address(DATABASE))
        .arg("--workers")
        .arg(ground.workers.to_string());
    let mut server = Child::start("the INSERT server", command, &ground.directory.join("server.log"), ground.cores)?;
    server.wait_until_listening(address)?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Running { address, version, workers: Some(ground.workers), server, store: Some(store) })
}
