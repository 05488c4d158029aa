//! `GET /`: the web client, `web/` of the repository, and the client package `sdk/js/` that it uses, compiled in. Their
//! paths are those of the repository, so the same imports work here, under Node.js and in other pages.
//!
//! Invariants:
//! - a page can load only the files in [`FILES`] and [`PACKAGE`]: plain ES modules without a build step, nothing from
//!   other servers, nothing inline. So a text of a user cannot become a script, even if a view has a fault. The
//!   exceptions are avatars that were not uploaded, whose URLs users choose, by https and without a referrer, and the
//!   widget of the captcha, if there is one;
//! - `connect-src 'self'` covers the WebSocket of the page's own origin too (CSP 3, "match schemes"; every browser
//!   since Safari 15.4).
//!
//! `GET /` with `Upgrade: websocket` never arrives here, because a shard answers it. Deliberately absent: caching by
//! the browser (a client of another version than its server is worse than a few kilobytes), and routes of the client
//! (it keeps its state behind `#`).

use super::Control;
use super::captcha::Captcha;
use super::problem::Problem;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; media-src \
                      'self'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// The policy of the page; the script of the captcha has a frame of its own.
fn policy(captcha_origin: Option<&str>) -> String {
    match captcha_origin {
        None => POLICY.to_owned(),
        Some(origin) => {
            let scripts = POLICY.replacen("script-src 'self'", &format!("script-src 'self' {origin}"), 1);
            format!("{scripts}; frame-src {origin}")
        }
    }
}
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

struct File {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

macro_rules! files {
    ($folder:literal: $($name:literal $kind:ident,)*) => {
        &[$(File { name: $name, kind: $kind, content: include_str!(concat!("../../", $folder, $name)) },)*]
    };
}

/// Everything under `web/`.
const FILES: &[File] = files!["web/":
    "index.html" HTML,
    "app.css" CSS,
    "messages.css" CSS,
    "people.css" CSS,
    "files.css" CSS,
    "integrations.css" CSS,
    "icon.svg" SVG,
    "account.js" JS,
    "actions.js" JS,
    "app.js" JS,
    "attachments.js" JS,
    "bot-commands.js" JS,
    "bot-tokens.js" JS,
    "bots.js" JS,
    "captcha.js" JS,
    "composer.js" JS,
    "concurrency.js" JS,
    "deliveries.js" JS,
    "dialogs.js" JS,
    "dom.js" JS,
    "drafts.js" JS,
    "emoji.js" JS,
    "en-integrations.js" JS,
    "en.js" JS,
    "faces.js" JS,
    "files.js" JS,
    "forms.js" JS,
    "fr-integrations.js" JS,
    "fr.js" JS,
    "hook-words.js" JS,
    "i18n.js" JS,
    "incoming.js" JS,
    "integrations.js" JS,
    "kept-files.js" JS,
    "keys.js" JS,
    "lightbox.js" JS,
    "main.js" JS,
    "marks.js" JS,
    "message.js" JS,
    "msgpack.js" JS,
    "notify.js" JS,
    "outgoing.js" JS,
    "own-picture.js" JS,
    "people.js" JS,
    "pictures.js" JS,
    "previews.js" JS,
    "profile.js" JS,
    "proof.js" JS,
    "reads.js" JS,
    "roles.js" JS,
    "scanner.js" JS,
    "search.js" JS,
    "session.js" JS,
    "settings.js" JS,
    "slash.js" JS,
    "store.js" JS,
    "system.js" JS,
    "text.js" JS,
    "theme.js" JS,
    "threads.js" JS,
    "timeline.js" JS,
    "transfer.js" JS,
    "two-factor.js" JS,
    "upload-words.js" JS,
    "uploads.js" JS,
    "veza-client.js" JS,
    "view-conversation.js" JS,
    "view-details.js" JS,
    "view-empty.js" JS,
    "view-files.js" JS,
    "view-held.js" JS,
    "view-panel.js" JS,
    "view-search.js" JS,
    "view-sidebar.js" JS,
    "view-signin.js" JS,
];

/// The modules under `sdk/js/` that browsers load; those under `sdk/js/node/` are for Node.js.
const PACKAGE: &[File] = files!["sdk/js/":
    "backoff.js" JS,
    "client.js" JS,
    "codec.js" JS,
    "codes.js" JS,
    "cursors.js" JS,
    "errors.js" JS,
    "events.js" JS,
    "index.js" JS,
    "msgpack.js" JS,
    "outbox.js" JS,
    "requests.js" JS,
    "session.js" JS,
    "store.js" JS,
];

/// The routes of the page and its files.
pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/", get(|State(control): State<Control>| async move { serve(&control, FILES, "index.html") }))
        .route("/web/{file}", get(file))
        .route("/sdk/js/{file}", get(package_file))
}

async fn file(State(control): State<Control>, Path(name): Path<String>) -> Response {
    serve(&control, FILES, &name)
}

async fn package_file(State(control): State<Control>, Path(name): Path<String>) -> Response {
    serve(&control, PACKAGE, &name)
}

fn serve(control: &Control, files: &'static [File], name: &str) -> Response {
    let policy = policy(control.captcha().and_then(Captcha::script_origin));
    match files.iter().find(|file| file.name == name) {
        Some(file) => {
            let kind = (header::CONTENT_TYPE, file.kind.to_owned());
            ([kind, (header::CONTENT_SECURITY_POLICY, policy)], file.content).into_response()
        }
        None => Problem::not_found(format!("There is no file {name} here.")).into_response(),
    }
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;
