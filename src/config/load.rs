//! Merges the layers into a [`Config`].
//!
//! Deserialisation stops at its first error. To report all errors, the loader removes the invalid value from its
//! layers, so that the default applies, and tries again until it succeeds. Every round removes a value, so the rounds
//! are finite.

use super::error::{ConfigError, ConfigErrors};
use super::schema::{Config, Environment};
use super::{print, validate};
use figment::error::{Actual, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The prefix of the server's environment variables. With a single underscore it would clash with the variables that
/// Kubernetes sets for a service named `chat-server`.
pub const ENV_PREFIX: &str = "CHAT_SERVER__";

const BUILT_IN: &str = include_str!("../../config/default.toml");
const BUILT_IN_ORIGIN: &str = "built-in default";

/// Keys whose variable is a list, separated by commas.
const LISTS: &[&str] = &[
    "cluster.redis_seeds",
    "files.allowed_types",
    "security.admin_user_ids",
    "security.allowed_origins",
    "security.encryption_keys",
    "security.jwt_keys",
    "security.two_factor_required",
    "server.trusted_proxies",
];
/// The lists whose items are numbers.
const NUMBER_LISTS: &[&str] = &["security.admin_user_ids"];
/// Keys whose values an error must not quote.
pub(super) const SECRETS: &[&str] = &[
    "cache.url",
    "cluster.redis_url",
    "database.app_password",
    "database.owner_password",
    "database.url",
    "database.writer_password",
    "files.s3_secret_access_key",
    "security.captcha_secret",
    "security.encryption_keys",
    "security.jwt_keys",
    "security.jwt_secret",
    "server.metrics_token",
];

/// The values of [`BUILT_IN`], or why it is not valid. They never change.
static BUILT_IN_VALUES: LazyLock<(Dict, Vec<ConfigError>)> = LazyLock::new(|| {
    let mut errors = Vec::new();
    let values = parse(BUILT_IN, BUILT_IN_ORIGIN, &mut errors);
    (values, errors)
});

/// A file that was given.
#[derive(Clone, Debug)]
pub enum GivenFile {
    /// It must exist.
    Path(PathBuf),
    /// What it would have.
    Text(String),
}

/// The sources of the layers.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Folder of `default.toml` and `{environment}.toml`. These files may be missing.
    pub dir: Option<PathBuf>,
    /// The file of `--config`.
    pub file: Option<GivenFile>,
    /// Environment variables. Those without [`ENV_PREFIX`] are ignored.
    pub env: Vec<(OsString, OsString)>,
}

/// A configuration and the origins of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Key path → file or variable. Keys that are not set are absent.
    pub origins: BTreeMap<String, String>,
}

impl Loaded {
    /// The effective configuration as TOML, secrets masked, with the origin of each value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::to_toml(&self.config, &self.origins)
    }
}

/// One layer.
#[derive(Clone)]
struct Layer {
    origin: String,
    values: Dict,
    /// For the layer of environment variables: key path → variable.
    variables: Vec<(Vec<String>, String)>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::from("layer", self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Sources {
    /// `./config`, the given file and the environment of this process.
    #[must_use]
    pub fn of_process(file: Option<&Path>) -> Self {
        Self {
            dir: Some(PathBuf::from("config")),
            file: file.map(|file| GivenFile::Path(file.to_path_buf())),
            env: std::env::vars_os().collect(),
        }
    }

    /// Reads, merges and checks the layers.
    ///
    /// # Errors
    /// All problems.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let mut errors = Vec::new();
        let (mut layers, environment) = self.layers(&mut errors);
        let config = extract(&mut layers, &mut errors);
        if let Some(config) = config {
            let origins = origins(&config, &layers);
            let mut invalid = validate::check(&config);
            if let Some(environment) = environment.filter(|name| *name != config.server.environment) {
                invalid.push((
                    "server.environment",
                    format!(
                        "the file of the environment {:?} sets another one, {:?}",
                        environment.as_str(),
                        config.server.environment.as_str()
                    ),
                ));
            }
            // An invalid value was replaced by its default above, and its problem was reported there.
            invalid.retain(|(key, _)| errors.iter().all(|error: &ConfigError| error.key != *key));
            errors.extend(invalid.into_iter().map(|(key, reason)| ConfigError {
                key: key.to_owned(),
                reason,
                origin: origins.get(key).cloned().unwrap_or_else(|| "not set anywhere".to_owned()),
            }));
            if errors.is_empty() {
                return Ok(Loaded { config, origins });
            }
        }
        Err(ConfigErrors(errors))
    }

    /// The layers, and the environment that selected one of them.
    fn layers(&self, errors: &mut Vec<ConfigError>) -> (Vec<Layer>, Option<Environment>) {
        let (values, invalid) = &*BUILT_IN_VALUES;
        errors.extend(invalid.iter().cloned());
        let mut layers =
            vec![Layer { origin: BUILT_IN_ORIGIN.to_owned(), values: values.clone(), variables: Vec::new() }];
        if let Some(dir) = &self.dir {
            layers.extend(read(&dir.join("default.toml"), false, errors));
        }
        let file = match &self.file {
            Some(GivenFile::Path(path)) => read(path, true, errors),
            Some(GivenFile::Text(text)) => Some(layer(text, "given text".to_owned(), errors)),
            None => None,
        };
        let env = environment_layer(&self.env, errors);

        let choosing: Vec<&Layer> = layers.iter().chain(&file).chain([&env]).collect();
        // An unknown name is reported later, like any other invalid value.
        let environment = named_environment(&choosing).and_then(|name| {
            let known = [Environment::Development, Environment::Staging, Environment::Production];
            known.into_iter().find(|known| known.as_str() == name)
        });
        if let (Some(dir), Some(environment)) = (&self.dir, environment) {
            layers.extend(read(&dir.join(format!("{}.toml", environment.as_str())), false, errors));
        }
        layers.extend(file);
        layers.push(env);
        (layers, environment)
    }
}

/// `server.environment` of the highest layer that has it.
fn named_environment(layers: &[&Layer]) -> Option<String> {
    layers.iter().rev().find_map(|layer| {
        let name = layer.values.get("server")?.as_dict()?.get("environment")?.as_str()?;
        Some(name.to_owned())
    })
}

fn read(path: &Path, required: bool, errors: &mut Vec<ConfigError>) -> Option<Layer> {
    let origin = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Some(layer(&text, origin, errors)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => None,
        Err(error) => {
            errors.push(ConfigError { key: String::new(), reason: format!("cannot be read: {error}"), origin });
            None
        }
    }
}

fn layer(text: &str, origin: String, errors: &mut Vec<ConfigError>) -> Layer {
    let values = parse(text, &origin, errors);
    Layer { origin, values, variables: Vec::new() }
}

fn parse(text: &str, origin: &str, errors: &mut Vec<ConfigError>) -> Dict {
    match Toml::from_str::<Dict>(text) {
        Ok(values) => values,
        Err(error) => {
            // Not the error's own Display, which quotes the line: the line may contain a secret.
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            errors.push(ConfigError {
                key: String::new(),
                reason: format!("line {line} is not valid TOML: {}", error.message().replace('\n', ", ")),
                origin: origin.to_owned(),
            });
            Dict::new()
        }
    }
}

fn environment_layer(env: &[(OsString, OsString)], errors: &mut Vec<ConfigError>) -> Layer {
    let mut layer = Layer { origin: "environment".to_owned(), values: Dict::new(), variables: Vec::new() };
    let mut variables: Vec<_> =
        env.iter().filter(|(name, _)| name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes())).collect();
    variables.sort();
    for (name, value) in variables {
        let shown = name.to_string_lossy().into_owned();
        let mut refuse = |key: String, reason: &str| {
            errors.push(ConfigError { key, reason: reason.to_owned(), origin: variable_origin(&shown) });
        };
        let Some(name) = name.to_str() else {
            refuse(String::new(), "the name is not UTF-8");
            continue;
        };
        let path: Vec<String> = name[ENV_PREFIX.len()..].to_ascii_lowercase().split("__").map(str::to_owned).collect();
        let key = path.join(".");
        let Some(value) = value.to_str() else {
            refuse(key, "the value is not UTF-8");
            continue;
        };
        if insert(&mut layer.values, &path, variable_value(&key, value)) {
            layer.variables.push((path, name.to_owned()));
        } else {
            refuse(key, "another variable sets a part of this value, or its whole section");
        }
    }
    layer
}

fn variable_origin(name: &str) -> String {
    format!("environment variable {name}")
}

/// A variable is text. It is read as a number or a switch only if the default is one, so that a secret of digits stays
/// text.
fn variable_value(key: &str, text: &str) -> Value {
    if LISTS.contains(&key) {
        let numbers = NUMBER_LISTS.contains(&key);
        let item = |item: &str| match item.parse::<u64>() {
            Ok(number) if numbers => Value::from(number),
            _ => Value::from(item),
        };
        return Value::from(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(item).collect::<Vec<_>>(),
        );
    }
    match lookup(&BUILT_IN_VALUES.0, key) {
        Some(Value::Bool(..)) => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Some(Value::Num(..)) => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}

fn lookup<'a>(values: &'a Dict, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = values.get(parts.next()?)?;
    for part in parts {
        value = value.as_dict()?.get(part)?;
    }
    Some(value)
}

fn insert(values: &mut Dict, path: &[String], value: Value) -> bool {
    match path {
        [] => false,
        [last] => values.insert(last.clone(), value).is_none(),
        [first, rest @ ..] => match values.entry(first.clone()).or_insert_with(|| Value::from(Dict::new())) {
            Value::Dict(_, inner) => insert(inner, rest, value),
            _ => false,
        },
    }
}

/// Removes the value at the path, or the list that contains it.
fn remove(values: &mut Dict, path: &[String]) -> bool {
    let [first, rest @ ..] = path else { return false };
    match values.get_mut(first) {
        Some(Value::Dict(_, inner)) if !rest.is_empty() => remove(inner, rest),
        Some(_) => values.remove(first).is_some(),
        None => false,
    }
}

fn figment(layers: &[Layer]) -> Figment {
    layers.iter().fold(Figment::new(), |figment, layer| figment.merge(layer.clone()))
}

fn extract(layers: &mut [Layer], errors: &mut Vec<ConfigError>) -> Option<Config> {
    loop {
        let figment = figment(layers);
        let error = match figment.extract::<Config>() {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let merged = merged(&figment);
        let mut progress = false;
        for error in error {
            let key = error.path.join(".");
            errors.push(ConfigError {
                reason: explain(&error.kind, &key),
                origin: origin(&figment, &merged, layers, &error.path),
                key,
            });
            // The lowest layer has the built-in defaults, and nothing is below it.
            progress |=
                layers.iter_mut().skip(1).fold(false, |any, layer| remove(&mut layer.values, &error.path) | any);
        }
        if !progress {
            return None;
        }
    }
}

/// All layers in one. [`Figment::find_metadata`] would merge them again for each key.
fn merged(figment: &Figment) -> Dict {
    figment.find_value("").ok().and_then(Value::into_dict).unwrap_or_default()
}

/// The origin of the value at a path: a file or a variable.
fn origin(figment: &Figment, merged: &Dict, layers: &[Layer], path: &[String]) -> String {
    let mut known = path;
    let layer = loop {
        let metadata = lookup(merged, &known.join(".")).and_then(|value| figment.get_metadata(value.tag()));
        match metadata.and_then(|metadata| metadata.source.as_ref()?.custom()) {
            Some(origin) => break origin.to_owned(),
            None if known.len() > 1 => known = &known[..known.len() - 1],
            None => return "not set anywhere".to_owned(),
        }
    };
    let variables = layers.iter().filter(|candidate| candidate.origin == layer).flat_map(|layer| &layer.variables);
    let names: Vec<&str> = variables
        .filter(|(variable, _)| path.starts_with(variable) || variable.starts_with(path))
        .map(|(_, name)| name.as_str())
        .collect();
    match names.first() {
        Some(name) => variable_origin(name),
        None => layer,
    }
}

fn origins(config: &Config, layers: &[Layer]) -> BTreeMap<String, String> {
    let figment = figment(layers);
    let merged = merged(&figment);
    print::flatten(config)
        .into_keys()
        .map(|key| {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            let origin = origin(&figment, &merged, layers, &path);
            (key, origin)
        })
        .collect()
}

fn explain(kind: &Kind, key: &str) -> String {
    // An item of a list has its number at the end.
    let secret = SECRETS.iter().any(|secret| key == *secret || key.starts_with(&format!("{secret}.")));
    match kind {
        Kind::InvalidType(..) | Kind::InvalidValue(..) | Kind::Message(_) if secret => {
            if LISTS.contains(&key) { "must be a list of texts" } else { "must be text in quotes" }.to_owned()
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let expected = match expected.as_str() {
                "usize" | "u64" | "u32" | "u16" => "a whole number, not negative",
                "a duration" => "a time such as \"30s\", \"15m\" or \"7d\"",
                "path string" => "a path in quotes",
                other if other.starts_with("struct ") => "a section, [name] on a line of its own",
                other => other,
            };
            format!("must be {expected}, found {}", plain(found))
        }
        Kind::UnknownVariant(found, expected) => {
            format!("must be {}, found {found:?}", list(expected, "or"))
        }
        Kind::UnknownField(found, expected) => match nearest(found, expected) {
            Some(nearest) => format!("there is no such key; did you mean {nearest:?}?"),
            None => format!("there is no such key; known here are {}", list(expected, "and")),
        },
        Kind::Message(message) if matches!(key, "server.bind_addr" | "server.internal_addr") => {
            format!("must be address:port such as \"127.0.0.1:8080\" or \"[::1]:8080\" ({message})")
        }
        other => other.to_string(),
    }
}

/// A value as written in its file. figment would print how the parser stored it.
fn plain(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}

fn list(items: &[&str], word: &str) -> String {
    match items {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} {word} {last}", all.join(", ")),
    }
}

/// The candidate that differs from `found` by a typing mistake or two.
fn nearest<'a>(found: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (edit_distance(found, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 6)
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and reasons of the problems of a configuration.
    fn problems(text: &str) -> Vec<(String, String)> {
        let sources = Sources { dir: None, file: Some(GivenFile::Text(text.to_owned())), env: Vec::new() };
        let errors = sources.load().err().map(|errors| errors.0).unwrap_or_default();
        errors.into_iter().map(|error| (error.key, error.reason)).collect()
    }

    #[test]
    fn seeds_are_hosts_and_ports_beside_the_url_of_redis() {
        let database = "database.url = 'postgresql://chat@db/veza'";
        let redis = "cluster.redis_url = 'redis://redis-1:6379'";
        let good = "cluster.redis_seeds = ['redis-2.example.com:6379', '192.0.2.1:6379', '[2001:db8::7]:6379']";
        assert_eq!(problems(&[database, redis, good].join("\n")), []);
        let [(key, reason)] = &problems(good)[..] else { panic!("one problem") };
        assert!(key == "cluster.redis_seeds" && reason.contains("needs cluster.redis_url"), "{key}: {reason}");

        let bad = "cluster.redis_seeds = ['redis-2', 'redis-3:6379', 'redis://redis-4:6379']";
        let found = problems(&[database, redis, bad].join("\n"));
        let expected = ["redis-2", "redis://redis-4:6379"].map(|seed| {
            let reason = format!("{seed:?} is not a host and a port: redis-2.example.com:6379");
            ("cluster.redis_seeds".to_owned(), reason)
        });
        assert_eq!(found, expected);
    }
}
