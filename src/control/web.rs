//! `GET /`: the web client, `web/` of the repository, compiled in.
//!
//! Invariants:
//! - a page can load only what stands in [`FILES`]: plain ES modules, no build step, nothing from elsewhere, nothing
//!   inline. What users write therefore cannot become a script even where a view had a fault. The one exception is
//!   people's pictures, whose addresses they give themselves: by https, and without saying from which page;
//! - `connect-src 'self'` covers the WebSocket of the page's own origin too (CSP 3, "match schemes"; every browser since
//!   Safari 15.4).
//!
//! `GET /` with `Upgrade: websocket` never comes here: a shard has taken it. Deliberately absent: a cache of the browser's
//! (a client of another version than its server is worse than a few kilobytes), and routes of the client's (it keeps its
//! place behind `#`).

use super::Control;
use super::problem::Problem;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; connect-src 'self'; \
                      form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
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
    "icon.svg" SVG,
    "account.js" JS,
    "actions.js" JS,
    "app.js" JS,
    "composer.js" JS,
    "concurrency.js" JS,
    "dialogs.js" JS,
    "dom.js" JS,
    "drafts.js" JS,
    "emoji.js" JS,
    "en.js" JS,
    "faces.js" JS,
    "fr.js" JS,
    "i18n.js" JS,
    "keys.js" JS,
    "main.js" JS,
    "message.js" JS,
    "msgpack.js" JS,
    "notify.js" JS,
    "people.js" JS,
    "pictures.js" JS,
    "profile.js" JS,
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
    "veza-client.js" JS,
    "view-conversation.js" JS,
    "view-details.js" JS,
    "view-empty.js" JS,
    "view-panel.js" JS,
    "view-search.js" JS,
    "view-sidebar.js" JS,
    "view-signin.js" JS,
];

/// The page and its parts.
pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/", get(|| async { serve("index.html") }))
        .route("/web/{file}", get(|Path(name): Path<String>| async move { serve(&name) }))
}

fn serve(name: &str) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => ([(header::CONTENT_TYPE, file.kind), (header::CONTENT_SECURITY_POLICY, POLICY)], file.content)
            .into_response(),
        None => Problem::not_found(format!("there is nothing at /web/{name}")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{control, request};
    use std::path::Path as FilePath;
    use tower::ServiceExt;

    async fn get_text(path: &str) -> (u16, String, String, String) {
        let response = control(true).router().oneshot(request("GET", path, "")).await.unwrap();
        let status = response.status().as_u16();
        let text = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let (kind, policy) = (text("content-type"), text("content-security-policy"));
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, kind, policy, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_page_runs_nothing_inline_and_loads_nothing_from_elsewhere() {
        let (status, kind, policy, page) = get_text("/").await;
        assert_eq!((status, kind.as_str()), (200, HTML));
        for directive in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"] {
            assert!(policy.split("; ").any(|found| found == directive), "{policy}");
        }
        for forbidden in ["<script>", "<style", " style=", " onclick", "http:", "https:", "//"] {
            assert!(!page.replace("<!doctype", "").contains(forbidden), "{forbidden} in the page");
        }
        for file in FILES.iter().filter(|file| file.kind == JS) {
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!file.content.contains(forbidden), "{forbidden} in {}", file.name);
            }
        }
    }

    #[tokio::test]
    async fn what_the_page_names_is_served_with_its_type() {
        for file in FILES {
            let (status, kind, _, body) = get_text(&format!("/web/{}", file.name)).await;
            assert_eq!((status, kind.as_str(), body.len()), (200, file.kind, file.content.len()), "{}", file.name);
            // The modules' imports, the page's links.
            for mark in ["from \"./", "\"web/"] {
                for (at, _) in file.content.match_indices(mark) {
                    let named = file.content[at + mark.len()..].split('"').next().unwrap();
                    assert!(FILES.iter().any(|other| other.name == named), "{} names {named}", file.name);
                }
            }
        }
        let (status, kind, ..) = get_text("/web/nothing.js").await;
        assert_eq!((status, kind.as_str()), (404, "application/problem+json"));
    }

    #[test]
    fn every_file_is_served_and_no_module_is_two() {
        let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| name != "package.json"); // tells Node.js that these are ES modules
        names.sort();
        let mut served: Vec<_> = FILES.iter().map(|file| file.name).collect();
        served.sort_unstable();
        assert_eq!(names, served);
        for file in FILES.iter().filter(|file| file.kind == JS) {
            assert!(file.content.lines().count() <= 600, "{} is too long", file.name);
            assert!(file.content.starts_with("// "), "{} does not say what it is", file.name);
        }
    }
}
