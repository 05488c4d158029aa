//! Reads TOML and the command line into a checked [`Scenario`].

use super::builtin::BUILTIN;
use super::check;
use super::model::{RoomClass, Scenario};
use std::path::Path;
use toml::{Table, Value};

/// A value from the command line for a key of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The key: `load.rate`. An element of a list is named by its `name` or its position:
    /// `population.rooms.small.size`.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Its option on the command line.
    pub origin: String,
}

impl Override {
    /// Reads `key=value`. A value that is not TOML is text: `format=msgpack`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example load.rate=500")?;
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok();
        let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::from(value));
        Ok(Self { key: key.trim().to_owned(), value, origin: format!("--set {text}") })
    }
}

/// The layers of a scenario: a file and its overrides.
#[derive(Debug)]
pub struct Layers {
    name: String,
    origin: String,
    table: Table,
}

impl Layers {
    /// A built-in scenario by its name, or a file by its path.
    pub fn open(name: &str) -> Result<Self, String> {
        if let Some(builtin) = BUILTIN.iter().find(|builtin| builtin.name == name) {
            return Self::parse(name, &format!("built-in scenario {name}"), builtin.text);
        }
        let path = Path::new(name);
        let looks_like_a_file = path.extension().is_some_and(|extension| extension == "toml") || name.contains('/');
        if !looks_like_a_file {
            let known: Vec<_> = BUILTIN.iter().map(|builtin| builtin.name).collect();
            return Err(format!(
                "there is no built-in scenario \"{name}\"; there are {}. A file of your own ends in .toml",
                known.join(", ")
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&stem, name, &text)
    }

    fn parse(name: &str, origin: &str, text: &str) -> Result<Self, String> {
        let table = text.parse::<Table>().map_err(|error| format!("{origin} is no TOML: {error}"))?;
        // Checked without overrides, so that an error about the file does not name an option.
        read(&table, origin)?;
        Ok(Self { name: name.to_owned(), origin: origin.to_owned(), table })
    }

    /// The scenario's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Overrides a value of the file.
    pub fn set(&mut self, change: &Override) -> Result<(), String> {
        let parts: Vec<&str> = change.key.split('.').collect();
        // `server` has the server's own keys, which contain dots.
        let parts = match parts.as_slice() {
            ["server", key @ ..] if !key.is_empty() => vec!["server".to_owned(), key.join(".")],
            parts => parts.iter().map(|part| (*part).to_owned()).collect(),
        };
        let fault = |reason: String| format!("{}: {reason}", change.origin);
        // A list that the file leaves at its default must exist before one of its elements can be changed.
        if change.key.starts_with("population.rooms.") {
            let population = self.table.entry("population").or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(population) = population
                && !population.contains_key("rooms")
            {
                let default = Value::try_from(RoomClass::default()).map_err(|error| fault(error.to_string()))?;
                population.insert("rooms".to_owned(), Value::Array(vec![default]));
            }
        }
        put(&mut self.table, &parts, &change.value).map_err(fault)?;
        read(&self.table, &change.origin).map(drop)
    }

    /// The scenario, checked.
    pub fn scenario(self) -> Result<Scenario, String> {
        let scenario = read(&self.table, &self.origin)?;
        let problems = check::problems(&scenario);
        if problems.is_empty() { Ok(scenario) } else { Err(format!("{}: {}", self.origin, problems.join("; "))) }
    }
}

fn put(table: &mut Table, parts: &[String], value: &Value) -> Result<(), String> {
    let [first, rest @ ..] = parts else { return Err("no key".to_owned()) };
    if rest.is_empty() {
        table.insert(first.clone(), value.clone());
        return Ok(());
    }
    match table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => put(inner, rest, value),
        Value::Array(elements) => {
            let [which, rest @ ..] = rest else { return Err(format!("{first} is a list")) };
            let named = |element: &Value| element.get("name").and_then(Value::as_str) == Some(which);
            let at = elements.iter().position(named).or_else(|| which.parse().ok());
            match at.and_then(|at| elements.get_mut(at)) {
                Some(Value::Table(element)) => put(element, rest, value),
                _ => Err(format!("{first} has no element \"{which}\"")),
            }
        }
        _ => Err(format!("{first} is a value, not a section")),
    }
}

/// Reads a scenario; the error names the key and its origin.
fn read(table: &Table, origin: &str) -> Result<Scenario, String> {
    serde_path_to_error::deserialize(Value::Table(table.clone()))
        .map_err(|error| format!("{origin}: {}: {}", error.path(), error.inner().message()))
}

#[cfg(test)]
mod tests {
    use super::super::model::{Mode, PayloadBytes};
    use super::*;

    fn set(layers: &mut Layers, text: &str) -> Result<(), String> {
        layers.set(&Override::parse(text).expect("KEY=VALUE"))
    }

    #[test]
    fn every_builtin_scenario_is_valid_and_described() {
        for builtin in BUILTIN {
            let scenario = Layers::open(builtin.name).and_then(Layers::scenario).expect(builtin.name);
            assert!(!scenario.description.is_empty(), "{}", builtin.name);
        }
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named_with_their_origin() {
        let error = Layers::parse("x", "x.toml", "[load]\nrat = 5").expect_err("misspelt");
        assert!(error.contains("x.toml") && error.contains("load") && error.contains("rat"), "{error}");
        let error = Layers::parse("x", "x.toml", "[population]\nusers = \"many\"").expect_err("no number");
        assert!(error.contains("population.users"), "{error}");
        let mut layers = Layers::open("rooms-10").expect("built in");
        let error = set(&mut layers, "load.rte=5").expect_err("misspelt");
        assert!(error.contains("--set load.rte=5"), "{error}");
        assert!(Layers::open("rooms-11").is_err_and(|error| error.contains("rooms-10")));
        assert!(Layers::open("/nowhere/x.toml").is_err_and(|error| error.contains("cannot read")));
        assert!(Override::parse("load.rate").is_err());
    }

    #[test]
    fn overrides_values_of_every_type() {
        let mut layers = Layers::open("rooms-10").expect("built in");
        for text in [
            "load.rate=12.5",
            "load.mode=closed",
            "load.duration=3s",
            "load.payload_bytes=[{ bytes = 64, weight = 1 }, { bytes = 900, weight = 2 }]",
            "population.rooms.rooms.size=4",
            "population.rooms.0.count=3",
            "actions.typing=2",
            "server.limits.max_message_length=9000",
        ] {
            set(&mut layers, text).expect(text);
        }
        let scenario = layers.scenario().expect("valid");
        assert_eq!((scenario.load.mode, scenario.load.duration.as_secs()), (Mode::Closed, 3));
        assert!(matches!(scenario.load.payload_bytes, PayloadBytes::Weighted(sizes) if sizes.len() == 2));
        assert_eq!((scenario.population.rooms[0].size, scenario.population.rooms[0].count), (4, 3));
        assert_eq!(scenario.server["limits.max_message_length"].as_integer(), Some(9000));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for text in [
            "load.rate=-1.0",
            "load.payload_bytes=10",
            "population.users=0",
            "population.connections_per_user=0",
            "population.rooms.0.size=5000",
            "load.in_flight=0",
            "load.duration=25h",
            "population.rooms.0.senders=100000",
        ] {
            let mut layers = Layers::open("rooms-10").expect("built in");
            set(&mut layers, text).expect(text);
            assert!(layers.scenario().is_err(), "{text}");
        }
        for text in ["nodes.count=1", "nodes.rounds=0", "nodes.rates=[500, 0]", "load.rate=0", "load.mode=closed"] {
            let mut layers = Layers::open("nodes").expect("built in");
            set(&mut layers, text).expect(text);
            assert!(layers.scenario().is_err(), "{text}");
        }
    }
}
