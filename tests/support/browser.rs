//! A headless Chromium, controlled over its `DevTools` protocol.
//!
//! The browser collects errors and warnings on the console and uncaught exceptions of the page, for tests to check.

use super::PATIENCE;
use base64::Engine;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Switches for a browser without a window and without dialogs.
pub const SWITCHES: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// The first of these programs that is in `PATH`.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut files = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.find(|file| file.is_file())
}

/// A page in its own browser process, which ends when this is dropped.
pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    next_id: u64,
    complaints: Vec<Value>,
    _child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with an empty page.
    pub async fn start() -> Self {
        let browser = find(&["chromium", "chromium-browser", "google-chrome", "chrome"])
            .expect("no Chromium in PATH; type this and try again:\n\n    scripts/install-test-clients.sh\n");
        let profile = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser.log")).unwrap();
        let mut command = Command::new(browser);
        command.args(SWITCHES).arg("--remote-debugging-port=0").arg("about:blank");
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let port_file = profile.path().join("DevToolsActivePort");
        let url = tokio::time::timeout(PATIENCE, async {
            loop {
                let text = std::fs::read_to_string(&port_file).unwrap_or_default();
                if let Some((port, path)) = text.trim().split_once('\n') {
                    break format!("ws://127.0.0.1:{port}{path}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let url = url.await.expect("Chromium did not start; see target/tmp/browser.log");
        let socket = tokio_tungstenite::connect_async(url).await.unwrap().0;
        let mut browser =
            Self { socket, session: None, next_id: 0, complaints: Vec::new(), _child: child, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = browser.call("Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        browser.session = Some(session);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Calls a method of the protocol. Returns its result.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut request = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(request.to_string())).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, async {
            loop {
                let Some(Ok(message)) = self.socket.next().await else { panic!("Chromium has ended") };
                let Message::Text(text) = message else { continue };
                let mut message: Value = serde_json::from_str(&text).unwrap();
                if message["id"] == id {
                    assert!(message["error"].is_null(), "{method}: {message}");
                    break message["result"].take();
                }
                self.record_complaint(&message);
            }
        });
        answer.await.unwrap_or_else(|_| panic!("{method}: Chromium does not answer"))
    }

    fn record_complaint(&mut self, message: &Value) {
        let params = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].iter().any(|kind| params["type"] == *kind)
            }
            Some("Log.entryAdded") => params["entry"]["level"] == "error",
            _ => false,
        };
        if complaint {
            self.complaints.push(params.clone());
        }
    }

    /// Errors, warnings and exceptions since the last call.
    pub fn take_complaints(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.complaints)
    }

    /// Sets the size of the window in CSS pixels, and the color scheme (`light` or `dark`).
    pub async fn appear(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Opens a URL.
    pub async fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({"url": url})).await;
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
    }

    /// Evaluates an expression in the page.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is truthy.
    pub async fn wait_for(&mut self, expression: &str) {
        let started = std::time::Instant::now();
        while self.evaluate(&format!("Boolean({expression})")).await != true {
            if started.elapsed() > PATIENCE {
                let body = self.evaluate("document.body.innerText").await;
                panic!("never true: {expression}; complaints: {:?}; the page:\n{body}", self.complaints);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Saves a picture of the whole page under target/artifacts/.
    pub async fn screenshot(&mut self, name: &str) -> PathBuf {
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", params).await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artifacts");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        let png = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{name}");
        std::fs::write(&file, png).unwrap();
        file
    }
}
