//! Reads the protocol from the source, for comparison with the documents. Lists what the documents describe in advance.

use super::protocol::documents;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Commands that are documented before the server has them. Remove a command from the list when the server has it.
pub const NOT_YET: &[&str] = &[];

/// Routes that are documented before the server has them.
pub const ROUTES_NOT_YET: &[&str] = &[];

/// Events that only commands in [`NOT_YET`] cause.
pub const EVENTS_NOT_YET: &[&str] = &[];

/// A file or folder under src/.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

/// The entries of an object.
#[track_caller]
pub fn fields<'a>(value: &'a Value, what: &str) -> &'a Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{what} is missing"))
}

/// The calls of `.route("…", …)` outside tests: `METHOD path`.
pub fn routes_in(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut routes = Vec::new();
    for call in text.split(".route(").skip(1) {
        let path =
            call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()).expect("a path in quotes");
        let mut depth = 1;
        let end = call.find(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        let handlers = &call[..end.expect("a closing parenthesis")];
        let is = |method: &&str| {
            let word = format!("{method}(");
            handlers
                .match_indices(&word)
                .any(|(at, _)| !handlers[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        let mut methods: Vec<&str> =
            ["get", "head", "options", "post", "put", "patch", "delete"].into_iter().filter(is).collect();
        if methods.is_empty() {
            methods.push("get"); // a helper function wraps the handler of a static file
        }
        routes.extend(methods.iter().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    routes
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every route of the router, from the source.
pub fn routes() -> BTreeSet<String> {
    let sources = files(&source("control")).into_iter().filter(|file| file.extension().is_some_and(|ext| ext == "rs"));
    let sources = sources.filter(|file| !file.ends_with("tests.rs"));
    sources.flat_map(|file| routes_in(&std::fs::read_to_string(file).unwrap())).collect()
}

/// `METHOD path` of every operation in docs/openapi.yaml.
pub fn operations() -> BTreeSet<String> {
    let paths = fields(&documents().openapi["paths"], "paths");
    let each = |(path, item): (&String, &Value)| {
        let methods: Vec<String> = fields(item, path).keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    paths.iter().flat_map(each).collect()
}

/// `METHOD path` with the path template of docs/openapi.yaml.
pub fn documented_route(route: &str) -> Option<String> {
    let (method, path) = route.split_once(' ')?;
    let (name, item) = documents().path_item(path)?;
    item[method.to_lowercase()].is_object().then(|| format!("{method} {name}"))
}
