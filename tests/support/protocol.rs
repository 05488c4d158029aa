//! The documents as a judge: every frame and every HTTP answer that these tests' clients see must be in
//! docs/asyncapi.yaml or docs/openapi.yaml, as it is described there.
//!
//! A command is judged when it is acknowledged (tests send wrong ones on purpose), an answer whenever it comes. Schemas
//! are compiled once per process, at their first use. Deliberately not judged: what clients see that others wrote
//! (tests/foreign, Chromium), pings and pongs, and headers other than the content type.

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// A message of the `AsyncAPI` document.
struct Message {
    payload: Value,
    validator: OnceLock<Validator>,
    seen: AtomicBool,
}

/// Both documents, ready to judge.
pub struct Documents {
    /// docs/asyncapi.yaml
    pub asyncapi: Value,
    /// docs/openapi.yaml
    pub openapi: Value,
    messages: HashMap<String, Message>,
    /// Command → key of its ack, where it has one.
    acks: BTreeMap<String, Option<String>>,
    /// Type of an event → key of its message.
    events: BTreeMap<String, String>,
    /// Schemas of the `OpenAPI` document by the place where they stand.
    bodies: Mutex<HashMap<String, Arc<Validator>>>,
}

/// A request over HTTP and its answer, as far as they are known.
pub struct Exchange<'a> {
    /// GET, POST …
    pub method: &'a str,
    /// With its query string.
    pub target: &'a str,
    /// The request's body.
    pub sent: Option<&'a Value>,
    /// The answer's status.
    pub status: u16,
    /// The answer's `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The answer's body, unless only its beginning was read.
    pub body: Option<&'a [u8]>,
}

/// The documents in docs/.
pub fn documents() -> &'static Documents {
    static DOCUMENTS: OnceLock<Documents> = OnceLock::new();
    DOCUMENTS.get_or_init(Documents::load)
}

/// Fails unless a frame is documented; `asked` is the command that it may be the reply to.
#[track_caller]
pub fn saw_frame(frame: &Value, asked: Option<&str>) {
    match documents().judged_key(frame, asked) {
        Ok(key) => key.into_iter().for_each(|key| documents().saw(key)),
        Err(words) => panic!("not as docs/asyncapi.yaml says: {words}\n{}", shown(frame)),
    }
}

/// Fails unless an acknowledged command is documented.
#[track_caller]
pub fn saw_command_acknowledged(command: &Value) {
    if let Err(words) = documents().judge_command(command) {
        panic!("acknowledged, but not as docs/asyncapi.yaml says: {words}\n{}", shown(command));
    }
    documents().saw(command["type"].as_str().unwrap_or_default());
}

/// Fails unless a close frame is documented.
#[track_caller]
pub fn saw_close(code: u16, reason: &Value) {
    if let Err(words) = documents().judge_close(code, reason) {
        panic!("not as docs/asyncapi.yaml says: {words}\nclose {code} {reason}");
    }
}

/// Fails unless an answer is documented.
#[track_caller]
pub fn saw_answer(exchange: &Exchange<'_>) {
    if let Err(words) = documents().judge_answer(exchange) {
        let body = exchange.body.map(String::from_utf8_lossy).unwrap_or_default();
        let body: String = body.chars().take(1_000).collect();
        let Exchange { method, target, status, .. } = exchange;
        panic!("not as docs/openapi.yaml says: {words}\n{method} {target} → {status} {body}");
    }
    if let (200, "/api/commands", Some(command)) = (exchange.status, exchange.target, exchange.sent) {
        documents().saw(command["type"].as_str().unwrap_or_default());
    }
}

/// The same for the answer to a GET, with its body if that was read.
#[track_caller]
pub fn saw_response(target: &str, response: &reqwest::Response, body: Option<&[u8]>) {
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let status = response.status().as_u16();
    saw_answer(&Exchange { method: "GET", target, sent: None, status, content_type, body });
}

/// The same for an answer in the form of its bytes; anything else than a whole HTTP answer is not judged.
#[track_caller]
pub fn saw_answer_bytes(method: &str, target: &str, bytes: &[u8]) {
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
    saw_answer(&Exchange { method, target, sent: None, status, content_type, body: whole.then_some(body) });
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
    value.as_object().unwrap_or_else(|| panic!("{what} is not there, or no object"))
}

/// The last part of `#/channels/ws/messages/NAME`.
fn name_of(reference: &Value) -> &str {
    let target = reference["$ref"].as_str().unwrap_or_else(|| panic!("a reference is expected: {reference}"));
    target.strip_prefix("#/channels/ws/messages/").unwrap_or_else(|| panic!("not a message of the channel: {target}"))
}

/// A schema that stands in a document, with what it refers to.
fn compile(schema: &Value, document: &Value) -> Validator {
    let whole = json!({"allOf": [schema], "components": document["components"]});
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .build(&whole)
        .unwrap_or_else(|error| panic!("no schema: {error}\n{}", shown(schema)))
}

fn judge(validator: &Validator, value: &Value) -> Result<(), String> {
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
            assert!(keys.map(kind).eq([name.as_str()]), "the operation {name} has another command");
            let replies: Vec<&str> = operation["reply"]["messages"].as_array().unwrap().iter().map(name_of).collect();
            let (errors, of_it): (Vec<_>, Vec<_>) = replies.into_iter().partition(|key| *key == "error");
            assert_eq!((errors.len(), of_it.len() < 2), (1, true), "{name}: one error, at most one ack");
            acks.insert(name.clone(), of_it.first().map(|key| (*key).to_owned()));
        }
        let used = acks.len() + acks.values().flatten().count() + events.len() + 1;
        assert_eq!(used, messages.len(), "each message is a command, an ack, an event or the error, once");
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

    /// Keys of the messages that clients of this process have seen; of a command, when it was acknowledged.
    pub fn seen(&self) -> BTreeSet<&str> {
        let seen = self.messages.iter().filter(|(_, message)| message.seen.load(Ordering::Relaxed));
        seen.map(|(key, _)| key.as_str()).collect()
    }

    fn judge_message(&self, key: &str, value: &Value) -> Result<(), String> {
        let message = &self.messages[key];
        let validator = message.validator.get_or_init(|| compile(&message.payload, &self.asyncapi));
        judge(validator, value).map_err(|words| format!("{key}: {words}"))
    }

    fn saw(&self, key: &str) {
        // A look costs less than a store to memory that other threads look at.
        let seen = &self.messages[key].seen;
        if !seen.load(Ordering::Relaxed) {
            seen.store(true, Ordering::Relaxed);
        }
    }

    /// What is wrong with a frame of the server's. Of an ack whose command is not known it is enough that some command
    /// has such an ack.
    pub fn judge_frame(&self, frame: &Value, asked: Option<&str>) -> Result<(), String> {
        self.judged_key(frame, asked).map(drop)
    }

    /// The same, and which message it is, where that is certain.
    fn judged_key(&self, frame: &Value, asked: Option<&str>) -> Result<Option<&str>, String> {
        let kind = frame["type"].as_str().ok_or("a frame without a type")?;
        let key = match (kind, asked) {
            ("error", _) => "error",
            ("ack", Some(command)) => match self.acks.get(command) {
                Some(Some(key)) => key,
                Some(None) => return Err(format!("{command} has no ack")),
                None => return Err(format!("there is no command {command}")),
            },
            ("ack", None) => {
                let fits = self.acks.values().flatten().any(|key| self.judge_message(key, frame).is_ok());
                return fits.then_some(None).ok_or_else(|| "no command has such an ack".to_owned());
            }
            (event, _) => self.events.get(event).ok_or_else(|| format!("there is no event {event}"))?,
        };
        self.judge_message(key, frame)?;
        Ok(Some(key))
    }

    /// What is wrong with a command.
    pub fn judge_command(&self, command: &Value) -> Result<(), String> {
        match command["type"].as_str() {
            Some(name) if self.acks.contains_key(name) => self.judge_message(name, command),
            Some(name) => Err(format!("there is no command {name}")),
            None => Err("a command without a type".to_owned()),
        }
    }

    /// What is wrong with a close frame.
    pub fn judge_close(&self, code: u16, reason: &Value) -> Result<(), String> {
        let documented = &self.asyncapi["x-close-codes"][code.to_string()];
        if documented.is_null() {
            return Err("there is no such close code".to_owned());
        }
        self.judge_body("CloseReason", &json!({"$ref": "#/components/schemas/CloseReason"}), &self.asyncapi, reason)?;
        for key in ["code", "reconnect"] {
            if documented[key] != reason[key] {
                return Err(format!("{key} should be {}", documented[key]));
            }
        }
        Ok(())
    }

    fn judge_body(&self, place: &str, schema: &Value, document: &Value, value: &Value) -> Result<(), String> {
        let known = self.bodies.lock().unwrap().get(place).cloned();
        let validator = known.unwrap_or_else(|| {
            let compiled = Arc::new(compile(schema, document));
            self.bodies.lock().unwrap().entry(place.to_owned()).or_insert(compiled).clone()
        });
        judge(&validator, value).map_err(|words| format!("{place}: {words}"))
    }

    /// An object of the `OpenAPI` document, behind its reference if it is one.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|target| target.strip_prefix('#')) {
            Some(pointer) => self.openapi.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there")),
            None => value,
        }
    }

    /// The documented path that a path is an instance of: one without parameters before one with.
    pub fn path_item(&self, path: &str) -> Option<(&str, &Value)> {
        let paths = object(&self.openapi["paths"], "paths");
        if let Some((name, item)) = paths.get_key_value(path) {
            return Some((name, item));
        }
        let fits = |name: &str, item: &Value| {
            let (template, parts): (Vec<&str>, Vec<&str>) = (name.split('/').collect(), path.split('/').collect());
            let mut pairs = template.iter().zip(&parts);
            template.len() == parts.len()
                && pairs.all(|(of_template, part)| {
                    let parameter = of_template.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                    parameter.map_or(of_template == part, |name| self.may_be(item, name, part))
                })
        };
        paths.iter().find(|(name, item)| fits(name, item)).map(|(name, item)| (name.as_str(), item))
    }

    /// Whether a parameter of a path has such a value: where the values are listed, one of these.
    fn may_be(&self, item: &Value, name: &str, value: &str) -> bool {
        let operations = item.as_object().into_iter().flatten().map(|(_, operation)| operation);
        let mut parameters = operations.filter_map(|operation| operation["parameters"].as_array()).flatten();
        let Some(parameter) = parameters.find(|parameter| self.resolve(parameter)["name"] == name) else {
            panic!("a path's parameter {name} is not described");
        };
        let listed = self.resolve(parameter)["schema"]["enum"].as_array();
        !value.is_empty() && listed.is_none_or(|values| values.iter().any(|one| one == value))
    }

    /// What is wrong with an answer to a request.
    pub fn judge_answer(&self, exchange: &Exchange<'_>) -> Result<(), String> {
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
        let mut judged = Err(format!("{} {name}: the status {status} is not described", exchange.method));
        for (documented, place) in [(of_route, name), (before_routing, "x-before-routing")] {
            if judged.is_err() && !documented.is_null() {
                let place = format!("{} {place} {status}", exchange.method);
                judged = self.judge_response(&place, self.resolve(documented), exchange);
            }
        }
        judged?;
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
            self.judge_body(&place, schema, &self.openapi, sent)?;
        }
        if name == "/api/commands" { self.judge_executed(exchange, sent) } else { Ok(()) }
    }

    fn judge_response(&self, place: &str, documented: &Value, exchange: &Exchange<'_>) -> Result<(), String> {
        let Some(content) = documented["content"].as_object() else {
            let empty = exchange.body.is_none_or(<[u8]>::is_empty);
            return empty.then_some(()).ok_or_else(|| format!("{place}: a body is not described"));
        };
        // What hyper answers by itself; see HeadTimeout and HeadTooLarge.
        if matches!(exchange.status, 408 | 431)
            && exchange.content_type.is_none()
            && exchange.body.is_some_and(<[u8]>::is_empty)
        {
            return Ok(());
        }
        let kind = exchange.content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        let Some(described) = content.get(kind) else {
            return Err(format!("{place}: the content type {kind:?} is not described"));
        };
        let Some(body) = exchange.body.filter(|_| kind.ends_with("json")) else { return Ok(()) };
        let value = serde_json::from_slice(body).map_err(|error| format!("{place}: {error}"))?;
        self.judge_body(&format!("{place} {kind}"), &described["schema"], &self.openapi, &value)
    }

    /// A command over HTTP and what its ack would have been.
    fn judge_executed(&self, exchange: &Exchange<'_>, sent: &Value) -> Result<(), String> {
        self.judge_command(sent)?;
        let Some(body) = exchange.body else { return Ok(()) };
        let data: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        match sent["type"].as_str() {
            Some("typing") if data == json!({}) => Ok(()),
            command => self.judge_frame(&json!({"type": "ack", "data": data}), command),
        }
    }

    /// Compiles every schema there is; what is wrong with any is a panic.
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
