//! A headless Chromium, controlled over its `DevTools` protocol.
//!
//! The browser collects errors and warnings on the console and uncaught exceptions of the page, for tests to check.

use super::process::watch;
use super::{PATIENCE, unique};
use base64::Engine;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
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
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// The first of these programs that is in `PATH`.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut files = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.find(|file| file.is_file())
}

/// Ends the browser and removes its profile at the end of its own input, however the test process ends.
const WATCHDOG: &str = r#"
read -r browser
cat >/dev/null
kill -s KILL -- "-$browser" 2>/dev/null
for _ in $(seq 50); do
    rm -rf "$1" 2>/dev/null && break
    sleep 0.1
done
"#;

/// The browser process that the tests of this binary share.
struct Chromium {
    /// The address of its `DevTools` protocol.
    url: String,
    _child: Child,
    _watchdog: (Child, ChildStdin),
}

impl Chromium {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Chromium> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome"];
        let browser = find(&names)
            .expect("no Chromium in PATH; type this and try again:\n\n    scripts/install-test-clients.sh\n");
        let profile = tempfile::tempdir().unwrap().keep(); // the watchdog removes it
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", unique("browser")));
        let (watchdog, mut input) = watch(WATCHDOG, &profile);
        let mut command = Command::new(browser);
        command.args(SWITCHES).arg("--remote-debugging-port=0").arg("about:blank");
        command.arg(format!("--user-data-dir={}", profile.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let child = command.process_group(0).spawn().unwrap();
        writeln!(input, "{}", child.id()).unwrap();
        let started = Instant::now();
        let url = loop {
            let text = std::fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            if let Some((port, path)) = text.trim().split_once('\n') {
                break format!("ws://127.0.0.1:{port}{path}");
            }
            assert!(started.elapsed() < PATIENCE, "Chromium did not start; see {}", log.display());
            std::thread::sleep(Duration::from_millis(50));
        };
        Self { url, _child: child, _watchdog: (watchdog, input) }
    }
}

/// A page of the shared browser, with cookies and storage of its own. The page closes when this is dropped.
pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    next_id: u64,
    complaints: Vec<Value>,
}

impl Browser {
    /// Opens an empty page.
    pub async fn start() -> Self {
        let socket = tokio_tungstenite::connect_async(&Chromium::shared().url).await.unwrap().0;
        let mut browser = Self { socket, session: None, next_id: 0, complaints: Vec::new() };
        let context = browser.call("Target.createBrowserContext", json!({"disposeOnDetach": true})).await;
        let target = json!({"url": "about:blank", "browserContextId": context["browserContextId"]});
        let target = browser.call("Target.createTarget", target).await["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = browser.call("Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        browser.session = Some(session);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        // Each user looks at a page, and only one window can have the focus.
        browser.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true})).await;
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
        let started = Instant::now();
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
