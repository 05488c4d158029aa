//! A configuration file, and behind a line `---` environment variables, `NAME=value`. Whatever is valid can be printed
//! and read again. A problem names its origin.

#![no_main]

use chat_server::config::{Config, GivenFile, Sources};
use libfuzzer_sys::fuzz_target;

fn load(text: &str, env: Vec<(String, String)>) -> Result<(Config, String), String> {
    let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let sources = Sources { dir: None, file: Some(GivenFile::Text(text.to_owned())), env };
    match sources.load() {
        Ok(loaded) => Ok((loaded.config.clone(), loaded.to_toml())),
        Err(errors) => Err(errors.to_string()),
    }
}

fuzz_target!(|text: &str| {
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    // The operating system refuses such variables.
    let possible = variables.filter(|(name, value)| !name.is_empty() && !name.contains('\0') && !value.contains('\0'));
    let env = possible.map(|(name, value)| (format!("CHAT_SERVER__{name}"), value.to_owned())).collect();
    match load(file, env) {
        Ok((config, printed)) => {
            let _ = (config.warnings(), config.limits(), config.trusted_proxies());
            assert!(!printed.is_empty());
        }
        Err(problems) => assert!(!problems.trim().is_empty()),
    }
});
