//! Checks every frame and every HTTP answer that the clients of these tests receive against docs/asyncapi.yaml and
//! docs/openapi.yaml.
//!
//! A command is checked when it is acknowledged, since tests also send invalid ones. An answer is always checked.
//! Schemas are compiled at their first use, once per process. Not checked: foreign clients (tests/foreign, Chromium),
//! pings and pongs, and headers other than the content type.

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// A message of docs/asyncapi.yaml.
struct Message {
    payload: Value,
    validator: OnceLock<Validator>,
    seen: AtomicBool,
}

/// Both documents and their compiled schemas.
pub struct Documents {
    /// docs/asyncapi.yaml
    pub asyncapi: Value,
    /// docs/openapi.yaml
    pub openapi: Value,
    messages: HashMap<String, Message>,
    /// Command → key of its ack, if it has one.
    acks: BTreeMap<String, Option<String>>,
    /// Event type → key of its message.
    events: BTreeMap<String, String>,
    /// Compiled schemas of HTTP bodies and close reasons, by their place in the document.
    bodies: Mutex<HashMap<String, Arc<Validator>>>,
}

/// An HTTP request and its answer, as far as a test knows them.
pub struct Exchange<'a> {
    /// GET, POST …
    pub method: &'a str,
    /// Path and query string.
    pub target: &'a str,
    /// The body of the request.
    pub sent: Option<&'a Value>,
    /// The status of the answer.
    pub status: u16,
    /// The `Content-Type` of the answer.
    pub content_type: Option<&'a str>,
    /// The body of the answer; `None` when the test read only a part.
    pub body: Option<&'a [u8]>,
}

/// The documents in docs/.
pub fn documents() -> &'static Documents {
    static DOCUMENTS: OnceLock<Documents> = OnceLock::new();
    DOCUMENTS.get_or_init(Documents::load)
}

/// Fails unless a frame is documented. `command` is the command that it replies to, if that is known.
#[track_caller]
pub fn assert_frame(frame: &Value, command: Option<&str>) {
    match documents().checked_key(frame, command) {
        Ok(key) => key.into_iter().for_each(|key| documents().mark_seen(key)),
        Err(reason) => panic!("not as in docs/asyncapi.yaml: {reason}\n{}", shown(frame)),
    }
}

/// Fails unless an acknowledged command is documented.
#[track_caller]
pub fn assert_command(command: &Value) {
    if let Err(reason) = documents().check_command(command) {
        panic!("acknowledged, but not as in docs/asyncapi.yaml: {reason}\n{}", shown(command));
    }
    documents().mark_seen(command["type"].as_str().unwrap_or_default());
}

/// Fails unless a close frame is documented.
#[track_caller]
pub fn assert_close(code: u16, reason: &Value) {
    if let Err(reason) = documents().check_close(code, reason) {
        panic!("not as in docs/asyncapi.yaml: {reason}\nclose {code} {reason}");
    }
}

/// Fails unless an answer is documented.
#[track_caller]
pub fn assert_answer(exchange: &Exchange<'_>) {
    if let Err(reason) = documents().check_answer(exchange) {
        let body = exchange.body.map(String::from_utf8_lossy).unwrap_or_default();
        let body: String = body.chars().take(1_000).collect();
        let Exchange { method, target, status, .. } = exchange;
        panic!("not as in docs/openapi.yaml: {reason}\n{method} {target} → {status} {body}");
    }
    if let (200, "/api/commands", Some(command)) = (exchange.status, exchange.target, exchange.sent) {
        documents().mark_seen(command["type"].as_str().unwrap_or_default());
    }
}

/// Fails unless the answer to a GET is documented.
#[track_caller]
pub fn assert_response(target: &str, response: &reqwest::Response, body: Option<&[u8]>) {
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let status = response.status().as_u16();
    assert_answer(&Exchange { method: "GET", target, sent: None, status, content_type, body });
}

/// Fails unless the bytes of an answer are documented. Bytes that are not a whole HTTP answer are not checked.
#[track_caller]
pub fn assert_answer_bytes(method: &str, target: &str, bytes: &[u8]) {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else { return };
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let Some(status) = status else { return };
    let header = |name: &str| {
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let body = &bytes[end + 4..];
    let whole = header("content-length").is_some_and(|length| length.parse() == Ok(body.len()));
    let content_type = header("content-type");
    assert_answer(&Exchange { method, target, sent: None, status, content_type, body: whole.then_some(body) });
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(2_000).collect()
}

fn load(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn object<'a>(value: &'a Value, what: &str) -> &'a Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{what} is missing or is not an object"))
}

/// The last part of `#/channels/ws/messages/NAME`.
fn name_of(reference: &Value) -> &str {
    let target = reference["$ref"].as_str().unwrap_or_else(|| panic!("expected a reference: {reference}"));
    target.strip_prefix("#/channels/ws/messages/").unwrap_or_else(|| panic!("not a message of the channel: {target}"))
}

/// Compiles a schema of a document, with the components that it refers to.
fn compile(schema: &Value, document: &Value) -> Validator {
    let whole = json!({"allOf": [schema], "components": document["components"]});
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .build(&whole)
        .unwrap_or_else(|error| panic!("invalid schema: {error}\n{}", shown(schema)))
}

fn check(validator: &Validator, value: &Value) -> Result<(), String> {
    if validator.is_valid(value) {
        return Ok(());
    }
    let errors: BTreeSet<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    Err(errors.into_iter().map(|error| error.chars().take(400).collect()).collect::<Vec<String>>().join("\n"))
}

impl Documents {
    fn load() -> Self {
        let (asyncapi, openapi) = (load("asyncapi.yaml"), load("openapi.yaml"));
        let channel = object(&asyncapi["channels"]["ws"]["messages"], "channels.ws.messages");
        let all = object(&asyncapi["components"]["messages"], "components.messages");
        assert!(channel.keys().eq(all.keys()), "channels.ws.messages and components.messages differ");
        let messages: HashMap<String, Message> = all
            .iter()
            .map(|(key, message)| {
                let payload = message["payload"].clone();
                (key.clone(), Message { payload, validator: OnceLock::new(), seen: AtomicBool::new(false) })
            })
            .collect();
        let kind = |key: &str| messages[key].payload["properties"]["type"]["const"].as_str().unwrap().to_owned();
        let (mut acks, mut events) = (BTreeMap::new(), BTreeMap::new());
        for (name, operation) in object(&asyncapi["operations"], "operations") {
            let keys = operation["messages"].as_array().unwrap().iter().map(name_of);
            if operation["action"] == "send" {
                events.extend(keys.map(|key| (kind(key), key.to_owned())));
                continue;
            }
            assert!(keys.map(kind).eq([name.as_str()]), "the operation {name} has the message of another command");
            let replies: Vec<&str> = operation["reply"]["messages"].as_array().unwrap().iter().map(name_of).collect();
            let (errors, others): (Vec<_>, Vec<_>) = replies.into_iter().partition(|key| *key == "error");
            assert_eq!((errors.len(), others.len() < 2), (1, true), "{name} must have one error and at most one ack");
            acks.insert(name.clone(), others.first().map(|key| (*key).to_owned()));
        }
        let used = acks.len() + acks.values().flatten().count() + events.len() + 1;
        assert_eq!(used, messages.len(), "each message must be used once: as a command, an ack, an event or the error");
        Self { asyncapi, openapi, messages, acks, events, bodies: Mutex::default() }
    }

    /// Every documented command.
    pub fn commands(&self) -> BTreeSet<&str> {
        self.acks.keys().map(String::as_str).collect()
    }

    /// Every documented event.
    pub fn events(&self) -> BTreeSet<&str> {
        self.events.keys().map(String::as_str).collect()
    }

    /// Keys of the messages that clients of this process have received. A command counts when it is acknowledged.
    pub fn seen(&self) -> BTreeSet<&str> {
        let seen = self.messages.iter().filter(|(_, message)| message.seen.load(Ordering::Relaxed));
        seen.map(|(key, _)| key.as_str()).collect()
    }

    fn check_message(&self, key: &str, value: &Value) -> Result<(), String> {
        let message = &self.messages[key];
        let validator = message.validator.get_or_init(|| compile(&message.payload, &self.asyncapi));
        check(validator, value).map_err(|reason| format!("{key}: {reason}"))
    }

    fn mark_seen(&self, key: &str) {
        // A load is cheaper than a store to memory that other threads read.
        let seen = &self.messages[key].seen;
        if !seen.load(Ordering::Relaxed) {
            seen.store(true, Ordering::Relaxed);
        }
    }

    /// Checks a frame of the server. An ack whose command is not known must be the ack of any command.
    pub fn check_frame(&self, frame: &Value, command: Option<&str>) -> Result<(), String> {
        self.checked_key(frame, command).map(drop)
    }

    /// Checks a frame. Returns the key of its message, if that is certain.
    fn checked_key(&self, frame: &Value, command: Option<&str>) -> Result<Option<&str>, String> {
        let kind = frame["type"].as_str().ok_or("a frame without a type")?;
        let key = match (kind, command) {
            ("error", _) => "error",
            ("ack", Some(command)) => match self.acks.get(command) {
                Some(Some(key)) => key,
                Some(None) => return Err(format!("{command} has no ack")),
                None => return Err(format!("there is no command {command}")),
            },
            ("ack", None) => {
                let matches = self.acks.values().flatten().any(|key| self.check_message(key, frame).is_ok());
                return matches.then_some(None).ok_or_else(|| "no command has such an ack".to_owned());
            }
            (event, _) => self.events.get(event).ok_or_else(|| format!("there is no event {event}"))?,
        };
        self.check_message(key, frame)?;
        Ok(Some(key))
    }

    /// Checks a command.
    pub fn check_command(&self, command: &Value) -> Result<(), String> {
        match command["type"].as_str() {
            Some(name) if self.acks.contains_key(name) => self.check_message(name, command),
            Some(name) => Err(format!("there is no command {name}")),
            None => Err("a command without a type".to_owned()),
        }
    }

    /// Checks a close frame.
    pub fn check_close(&self, code: u16, reason: &Value) -> Result<(), String> {
        let documented = &self.asyncapi["x-close-codes"][code.to_string()];
        if documented.is_null() {
            return Err("there is no such close code".to_owned());
        }
        self.check_body("CloseReason", &json!({"$ref": "#/components/schemas/CloseReason"}), &self.asyncapi, reason)?;
        for key in ["code", "reconnect"] {
            if documented[key] != reason[key] {
                return Err(format!("{key} should be {}", documented[key]));
            }
        }
        Ok(())
    }

    fn check_body(&self, place: &str, schema: &Value, document: &Value, value: &Value) -> Result<(), String> {
        let known = self.bodies.lock().unwrap().get(place).cloned();
        let validator = known.unwrap_or_else(|| {
            let compiled = Arc::new(compile(schema, document));
            self.bodies.lock().unwrap().entry(place.to_owned()).or_insert(compiled).clone()
        });
        check(&validator, value).map_err(|reason| format!("{place}: {reason}"))
    }

    /// Follows a reference into docs/openapi.yaml; any other value stays as it is.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|target| target.strip_prefix('#')) {
            Some(pointer) => self.openapi.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing")),
            None => value,
        }
    }

    /// The documented path that matches a path. Paths without parameters take precedence.
    pub fn path_item(&self, path: &str) -> Option<(&str, &Value)> {
        let paths = object(&self.openapi["paths"], "paths");
        if let Some((name, item)) = paths.get_key_value(path) {
            return Some((name, item));
        }
        let matches = |name: &str, item: &Value| {
            let (template, parts): (Vec<&str>, Vec<&str>) = (name.split('/').collect(), path.split('/').collect());
            let mut pairs = template.iter().zip(&parts);
            template.len() == parts.len()
                && pairs.all(|(of_template, part)| {
                    let parameter = of_template.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                    parameter.map_or(of_template == part, |name| self.may_be(item, name, part))
                })
        };
        paths.iter().find(|(name, item)| matches(name, item)).map(|(name, item)| (name.as_str(), item))
    }

    /// Whether a path parameter can have this value. With an `enum`, the value must be in it.
    fn may_be(&self, item: &Value, name: &str, value: &str) -> bool {
        let operations = item.as_object().into_iter().flatten().map(|(_, operation)| operation);
        let mut parameters = operations.filter_map(|operation| operation["parameters"].as_array()).flatten();
        let Some(parameter) = parameters.find(|parameter| self.resolve(parameter)["name"] == name) else {
            panic!("the path parameter {name} is not described");
        };
        let listed = self.resolve(parameter)["schema"]["enum"].as_array();
        !value.is_empty() && listed.is_none_or(|values| values.iter().any(|one| one == value))
    }

    /// Checks an answer to a request.
    pub fn check_answer(&self, exchange: &Exchange<'_>) -> Result<(), String> {
        let (path, query) = exchange.target.split_once('?').unwrap_or((exchange.target, ""));
        let status = exchange.status.to_string();
        let found = self.path_item(path);
        let operation = found.map(|(_, item)| &item[exchange.method.to_lowercase()]).filter(|one| !one.is_null());
        let of_route = match (found, operation) {
            (_, Some(operation)) => &operation["responses"][&status],
            (Some(_), None) if exchange.status != 405 => &Value::Null,
            _ => &self.openapi["x-unrouted"][&status],
        };
        let before_routing = &self.openapi["x-before-routing"][&status];
        let name = found.map_or("unrouted", |(name, _)| name);
        let mut checked = Err(format!("{} {name}: the status {status} is not described", exchange.method));
        for (documented, place) in [(of_route, name), (before_routing, "x-before-routing")] {
            if checked.is_err() && !documented.is_null() {
                let place = format!("{} {place} {status}", exchange.method);
                checked = self.check_response(&place, self.resolve(documented), exchange);
            }
        }
        checked?;
        let Some(operation) = operation.filter(|_| (200..300).contains(&exchange.status)) else { return Ok(()) };
        for name in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
            let mut parameters = operation["parameters"].as_array().into_iter().flatten().map(|one| self.resolve(one));
            if !parameters.any(|parameter| parameter["in"] == "query" && parameter["name"] == name) {
                return Err(format!("the parameter {name} is not described"));
            }
        }
        let Some(sent) = exchange.sent else { return Ok(()) };
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !schema.is_null() {
            let place = format!("{} {name} request", exchange.method);
            self.check_body(&place, schema, &self.openapi, sent)?;
        }
        if name == "/api/commands" { self.check_executed(exchange, sent) } else { Ok(()) }
    }

    fn check_response(&self, place: &str, documented: &Value, exchange: &Exchange<'_>) -> Result<(), String> {
        let Some(content) = documented["content"].as_object() else {
            let empty = exchange.body.is_none_or(<[u8]>::is_empty);
            return empty.then_some(()).ok_or_else(|| format!("{place}: a body is not described"));
        };
        // The HTTP library sends these answers itself; see HeadTimeout and HeadTooLarge.
        if matches!(exchange.status, 408 | 431)
            && exchange.content_type.is_none()
            && exchange.body.is_some_and(<[u8]>::is_empty)
        {
            return Ok(());
        }
        let kind = exchange.content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        // A media range describes the content of files.
        let Some(described) = content.get(kind).or_else(|| content.get("*/*")) else {
            return Err(format!("{place}: the content type {kind:?} is not described"));
        };
        let Some(body) = exchange.body.filter(|_| kind.ends_with("json")) else { return Ok(()) };
        let value = serde_json::from_slice(body).map_err(|error| format!("{place}: {error}"))?;
        self.check_body(&format!("{place} {kind}"), &described["schema"], &self.openapi, &value)
    }

    /// Checks a command over HTTP and its answer, which is the data of its ack.
    fn check_executed(&self, exchange: &Exchange<'_>, sent: &Value) -> Result<(), String> {
        self.check_command(sent)?;
        let Some(body) = exchange.body else { return Ok(()) };
        let data: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        match sent["type"].as_str() {
            Some("typing") if data == json!({}) => Ok(()),
            command => self.check_frame(&json!({"type": "ack", "data": data}), command),
        }
    }

    /// Compiles every schema of both documents. Fails when one is invalid.
    pub fn compile_everything(&self) {
        for message in self.messages.values() {
            message.validator.get_or_init(|| compile(&message.payload, &self.asyncapi));
        }
        for document in [&self.asyncapi, &self.openapi] {
            for schema in object(&document["components"]["schemas"], "components.schemas").values() {
                compile(schema, document);
            }
        }
        let mut places = vec![&self.openapi["paths"], &self.openapi["components"]["responses"]];
        while let Some(place) = places.pop() {
            match place {
                Value::Object(fields) => {
                    for (key, value) in fields {
                        if key == "schema" {
                            compile(value, &self.openapi);
                        } else {
                            if key == "$ref" {
                                self.resolve(place);
                            }
                            places.push(value);
                        }
                    }
                }
                Value::Array(items) => places.extend(items),
                _ => {}
            }
        }
    }
}
