//! uWebSockets.js: the fastest relay for Node.js, in about forty lines. It stores nothing.

use super::ground::{Ground, Missing, Running, required};
use crate::compare::child::{Child, write_file};
use crate::compare::places::Places;
use std::path::PathBuf;
use std::process::Command;

const INSTALL: &str = "loadtest/peers/install.sh uws   (npm install @btc-vision/uwebsockets.js)";
const SERVER: &str = include_str!("uws_server.js");
const PACKAGE: &str = "@btc-vision/uwebsockets.js";

/// Where its parts are.
pub struct UwsParts {
    node: PathBuf,
    modules: PathBuf,
    version: String,
}

/// Finds Node.js and the package.
///
/// # Errors
/// When one of them is not installed.
pub fn find(places: &Places) -> Result<UwsParts, Missing> {
    let node = required(places, "node", INSTALL)?;
    let modules = places.peers.join("uws/node_modules");
    let text = std::fs::read_to_string(modules.join(PACKAGE).join("package.json"));
    let text = text.map_err(|_| Missing::new(format!("{PACKAGE} is not in {}", modules.display()), INSTALL))?;
    let package: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Missing::new(format!("the package.json of {PACKAGE} cannot be read: {error}"), INSTALL))?;
    Ok(UwsParts { node, modules, version: package["version"].as_str().unwrap_or_default().to_owned() })
}

/// Starts the relay.
///
/// # Errors
/// When it does not start.
pub fn start(ground: &mut Ground<'_>) -> Result<Running, String> {
    let parts = find(ground.places)?;
    let address = ground.address()?;
    let script = ground.directory.join("uws_server.js");
    write_file(&script, SERVER)?;
    // The package's binary needs a newer C library than Debian 12 has; install.sh puts one here.
    let libraries = ground.places.newer().join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let loader = std::fs::read_dir(&libraries)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-")));
    let mut command = match loader {
        Some(loader) => {
            let mut command = Command::new(loader);
            command.arg("--library-path").arg(&libraries).arg(parts.node);
            command
        }
        None => Command::new(parts.node),
    };
    command.env("NODE_PATH", &parts.modules).arg(script).arg(address.port().to_string());
    let mut server = Child::start("uWebSockets.js", command, &ground.directory.join("uws.log"), ground.cores)?;
    server.wait_until_listening(address)?;
    Ok(Running { address, version: parts.version, workers: Some(1), server, store: None })
}
