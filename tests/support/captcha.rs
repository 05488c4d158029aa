//! A captcha service for tests: a small HTTP server that checks responses as `siteverify` does, or misbehaves. It also
//! serves the script of a widget.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The response of a solved captcha.
pub const SOLVED: &str = "solved & correct";
/// What the service knows the server by.
pub const SECRET: &str = "a secret of the captcha";
/// What it knows the widget by.
pub const SITE_KEY: &str = "site-key-1";

/// A widget with the functions of the real ones: a button that solves it.
const SCRIPT: &str = r#"window.turnstile = {
    render(box, { sitekey, callback }) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = `solve ${sitekey}`;
        button.onclick = () => callback("solved & correct");
        box.append(button);
    },
};"#;

const SUCCESS: &str = r#"{"success":true}"#;

/// How the service answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// As it should.
    Sound,
    /// With the status 500, and a verdict of success.
    Broken,
    /// With a redirect to an address that says success.
    Redirect,
    /// With a text that is no verdict.
    Garbage,
    /// With more than anybody should read, before a verdict of success.
    Endless,
    /// Not at all: it closes the connection.
    Closing,
    /// Never.
    Silent,
    /// It does not know the server's secret.
    Estranged,
}

/// A running service.
pub struct CaptchaService {
    /// Its URL, without a path.
    pub url: String,
    manner: Arc<Mutex<Manner>>,
    forms: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl CaptchaService {
    /// Starts a sound one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (manner, forms) = (Arc::new(Mutex::new(Manner::Sound)), Arc::<Mutex<Vec<String>>>::default());
        let serving = tokio::spawn({
            let (manner, forms) = (Arc::clone(&manner), Arc::clone(&forms));
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let (manner, forms) = (*manner.lock().unwrap(), Arc::clone(&forms));
                    tokio::spawn(async move { serve(socket, manner, &forms).await });
                }
            }
        });
        Self { url, manner, forms, serving }
    }

    /// Settings of a server that uses it.
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("security.captcha_verify_url", format!("{}/siteverify", self.url)),
            ("security.captcha_secret", SECRET.to_owned()),
            ("security.captcha_site_key", SITE_KEY.to_owned()),
            ("security.captcha_script_url", format!("{}/api.js?render=explicit", self.url)),
        ]
    }

    /// Changes how it answers.
    pub fn be(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// The forms that it has received since the last call.
    pub fn take_forms(&self) -> Vec<String> {
        std::mem::take(&mut *self.forms.lock().unwrap())
    }

    /// Ends it: connections are refused.
    pub async fn stop(self) {
        self.serving.abort();
        let _ = self.serving.await; // aborted
    }
}

/// Reads one request: its head, and a body of the announced length.
async fn read(socket: &mut TcpStream) -> Option<(String, String)> {
    let mut received = Vec::new();
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if received.len() >= end + 4 + length.unwrap_or(0) {
                return Some((head, String::from_utf8_lossy(&received[end + 4..]).into_owned()));
            }
        }
        if socket.read_buf(&mut received).await.ok()? == 0 {
            return None;
        }
    }
}

async fn serve(mut socket: TcpStream, manner: Manner, forms: &Mutex<Vec<String>>) {
    let Some((head, form)) = read(&mut socket).await else { return };
    let answer = |status: &str, kind: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let json = |body: &str| answer("200 OK", "application/json", body);
    let text = if head.starts_with("get /api.js") {
        answer("200 OK", "text/javascript", SCRIPT)
    } else if head.starts_with("post /elsewhere") || head.starts_with("get /elsewhere") {
        forms.lock().unwrap().push("redirected".to_owned());
        json(SUCCESS)
    } else {
        let is_solved = form.contains("response=solved+%26+correct");
        forms.lock().unwrap().push(form);
        match manner {
            Manner::Sound if is_solved => json(r#"{"success":true,"hostname":"localhost"}"#),
            Manner::Sound => json(r#"{"success":false,"error-codes":["invalid-input-response"]}"#),
            Manner::Broken => answer("500 Internal Server Error", "application/json", SUCCESS),
            Manner::Redirect => "HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\
                                 connection: close\r\n\r\n"
                .to_owned(),
            Manner::Garbage => json("<h1>success</h1>"),
            Manner::Endless => json(&format!("{}{SUCCESS}", " ".repeat(64 * 1024))),
            Manner::Closing => return,
            Manner::Silent => std::future::pending().await,
            Manner::Estranged => json(r#"{"success":false,"error-codes":["invalid-input-secret"]}"#),
        }
    };
    // The server may have hung up in the middle of a long answer.
    let _ = socket.write_all(text.as_bytes()).await;
}
