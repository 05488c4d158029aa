//! `GET /`: the web client, `web/` of the repository, compiled in.
//!
//! Invariants:
//! - a page can load only the files in [`FILES`]: plain ES modules without a build step, nothing from other servers,
//!   nothing inline. So a text of a user cannot become a script, even if a view has a fault. The exception is avatars,
//!   whose URLs users choose: by https, and without a referrer;
//! - `connect-src 'self'` covers the WebSocket of the page's own origin too (CSP 3, "match schemes"; every browser
//!   since Safari 15.4).
//!
//! `GET /` with `Upgrade: websocket` never arrives here, because a shard answers it. Deliberately absent: caching by
//! the browser (a client of another version than its server is worse than a few kilobytes), and routes of the client
//! (it keeps its state behind `#`).

use super::Control;
use super::problem::Problem;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; media-src \
                      'self'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
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
    ($($name:literal $kind:ident,)*) => {
        &[$(File { name: $name, kind: $kind, content: include_str!(concat!("../../web/", $name)) },)*]
    };
}

/// Everything under `web/`.
const FILES: &[File] = files![
    "index.html" HTML,
    "app.css" CSS,
    "messages.css" CSS,
    "people.css" CSS,
    "files.css" CSS,
    "icon.svg" SVG,
    "account.js" JS,
    "actions.js" JS,
    "app.js" JS,
    "attachments.js" JS,
    "composer.js" JS,
    "concurrency.js" JS,
    "dialogs.js" JS,
    "dom.js" JS,
    "drafts.js" JS,
    "emoji.js" JS,
    "en.js" JS,
    "faces.js" JS,
    "files.js" JS,
    "fr.js" JS,
    "i18n.js" JS,
    "kept-files.js" JS,
    "keys.js" JS,
    "lightbox.js" JS,
    "main.js" JS,
    "marks.js" JS,
    "message.js" JS,
    "msgpack.js" JS,
    "notify.js" JS,
    "people.js" JS,
    "pictures.js" JS,
    "profile.js" JS,
    "proof.js" JS,
    "reads.js" JS,
    "roles.js" JS,
    "search.js" JS,
    "session.js" JS,
    "settings.js" JS,
    "store.js" JS,
    "system.js" JS,
    "text.js" JS,
    "theme.js" JS,
    "threads.js" JS,
    "timeline.js" JS,
    "transfer.js" JS,
    "two-factor.js" JS,
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

/// The routes of the page and its files.
pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/", get(|| async { serve("index.html") }))
        .route("/web/{file}", get(|Path(name): Path<String>| async move { serve(&name) }))
}

fn serve(name: &str) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => ([(header::CONTENT_TYPE, file.kind), (header::CONTENT_SECURITY_POLICY, POLICY)], file.content)
            .into_response(),
        None => Problem::not_found(format!("There is nothing at /web/{name}.")).into_response(),
    }
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;
