//! The served files are those of `web/` and `sdk/js/`, with their types and policy.

use super::*;
use crate::control::tests::{control, request};
use std::path::Path as FilePath;
use tower::ServiceExt;

async fn get_text(path: &str) -> (u16, String, String, String) {
    let response = control(true).router().oneshot(request("GET", path, "")).await.unwrap();
    let status = response.status().as_u16();
    let text =
        |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let (kind, policy) = (text("content-type"), text("content-security-policy"));
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, kind, policy, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_page_runs_nothing_inline_and_loads_nothing_from_elsewhere() {
    let (status, kind, policy, page) = get_text("/").await;
    assert_eq!((status, kind.as_str()), (200, HTML));
    for directive in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "media-src 'self'"]
    {
        assert!(policy.split("; ").any(|found| found == directive), "{policy}");
    }
    for forbidden in ["<script>", "<style", " style=", " onclick", "http:", "https:", "//"] {
        assert!(!page.replace("<!doctype", "").contains(forbidden), "{forbidden} in the page");
    }
    for file in FILES.iter().chain(PACKAGE).filter(|file| file.kind == JS) {
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!file.content.contains(forbidden), "{forbidden} in {}", file.name);
        }
    }
}

#[tokio::test]
async fn serves_every_file_of_the_page_with_its_type() {
    for (folder, files) in [("web", FILES), ("sdk/js", PACKAGE)] {
        for file in files {
            let (status, kind, _, body) = get_text(&format!("/{folder}/{}", file.name)).await;
            assert_eq!((status, kind.as_str(), body.len()), (200, file.kind, file.content.len()), "{}", file.name);
            // The modules' imports, the page's links.
            for (mark, named_files) in [("from \"./", files), ("\"web/", FILES), ("\"../sdk/js/", PACKAGE)] {
                for (at, _) in file.content.match_indices(mark) {
                    let named = file.content[at + mark.len()..].split('"').next().unwrap();
                    assert!(named_files.iter().any(|other| other.name == named), "{} names {named}", file.name);
                }
            }
        }
        let (status, kind, ..) = get_text(&format!("/{folder}/nothing.js")).await;
        assert_eq!((status, kind.as_str()), (404, "application/problem+json"));
    }
}

#[test]
fn every_file_is_served_and_no_module_is_two() {
    for (folder, files) in [("web", FILES), ("sdk/js", PACKAGE)] {
        let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> = entries.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name()).collect();
        // Node.js, the TypeScript compiler and people read these.
        names.retain(|name| ![".json", ".ts", ".md"].iter().any(|end| name.to_str().unwrap().ends_with(end)));
        names.sort();
        let mut served: Vec<_> = files.iter().map(|file| file.name).collect();
        served.sort_unstable();
        assert_eq!(names, served);
    }
    for file in FILES.iter().chain(PACKAGE).filter(|file| file.kind == JS) {
        assert!(file.content.lines().count() <= 600, "{} is too long", file.name);
        assert!(file.content.starts_with("// "), "{} does not say what it is", file.name);
    }
}
