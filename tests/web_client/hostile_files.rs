//! Files that want to be something else: names that are paths or deceive, content under a wrong name, archives and
//! pictures that are bombs, and everything that could run in a browser.
//!
//! How: each is uploaded and settled as the table says; what is served is opened in Chromium by a signed link and named
//! by a page that has no policy of its own; the scripts in the files write to the console if they run. Afterwards
//! nothing lies outside the folder of the store.

use crate::support::{Server, browser::Browser, unique};
use serde_json::{Value, json};
use std::io::Write as _;

/// What a script in a file writes if it runs.
const RAN: &str = "the file ran";

/// `name`, content, the state, and whether a browser may show it.
type Case = (&'static str, Vec<u8>, &'static str, bool);

fn script() -> String {
    format!("<script>console.error('{RAN}')</script>")
}

fn zip(name: &str, content: &[u8], claimed: u32) -> Vec<u8> {
    let mut out = b"PK\x03\x04\x14\0\0\0\x08\0\0\0\x21\0\0\0\0\0".to_vec();
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(claimed.to_le_bytes());
    out.extend((name.len() as u32).to_le_bytes());
    out.extend(name.bytes());
    out.extend(content);
    out
}

/// A deflate stream of this many zeros.
fn bomb(zeros: usize) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; zeros]).unwrap();
    encoder.finish().unwrap()
}

fn png(width: u32, height: u32, chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", head)].iter().chain(chunks) {
        out.extend((data.len() as u32).to_be_bytes());
        let body = [&kind[..], data].concat();
        let mut sum = flate2::Crc::new();
        sum.update(&body);
        out.extend(body);
        out.extend(sum.sum().to_be_bytes());
    }
    out
}

/// One grey pixel per byte, in rows.
fn pixels(width: usize, height: usize) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..height {
        encoder.write_all(&vec![0; width + 1]).unwrap();
    }
    encoder.finish().unwrap()
}

fn small_png() -> Vec<u8> {
    png(4, 4, &[(b"IDAT", pixels(4, 4)), (b"IEND", vec![])])
}

#[allow(clippy::too_many_lines)] // a table
fn cases() -> Vec<Case> {
    let html = script().into_bytes();
    let svg = format!("<svg xmlns='http://www.w3.org/2000/svg' onload=\"console.error('{RAN}')\"></svg>").into_bytes();
    let xhtml = format!(
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><script>console.error('{RAN}')</script></html>"
    );
    let js = format!("console.error('{RAN}')").into_bytes();
    let pdf = format!("%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert('{RAN}'))>>>>endobj");
    let polyglot = [b"GIF89a/*".to_vec(), vec![0; 6], b"*/=1;".to_vec(), js.clone()].concat();
    vec![
        // Names. The store has names of its own, so all of these are only texts.
        ("../../../etc/passwd", b"x".to_vec(), "ready", true),
        ("..\\..\\windows\\win.ini", b"x".to_vec(), "ready", true),
        ("/etc/cron.d/evil", b"x".to_vec(), "ready", true),
        ("C:\\autoexec.bat", b"x".to_vec(), "ready", true),
        ("..", b"x".to_vec(), "ready", true),
        ("", b"x".to_vec(), "ready", true),
        (".htaccess", b"x".to_vec(), "ready", true),
        ("a\0b.txt", b"x".to_vec(), "ready", true),
        ("a\r\nset-cookie: x=1\r\n.txt", b"x".to_vec(), "ready", true),
        ("a\"; filename=\"evil.html", b"x".to_vec(), "ready", false),
        ("cod\u{202e}txt.exe", b"x".to_vec(), "failed", false),
        ("photo.png\u{200b}.exe", b"MZ\x90\0\x03".to_vec(), "ready", false),
        ("%2e%2e%2fpasswd", b"x".to_vec(), "ready", true),
        ("con.txt", b"x".to_vec(), "ready", true),
        ("<img src=x onerror=console.error(1)>.txt", b"x".to_vec(), "ready", true),
        // What runs in browsers.
        ("page.html", html.clone(), "ready", false),
        ("page.htm", html.clone(), "ready", false),
        ("page.xhtml", xhtml.clone().into_bytes(), "ready", false),
        ("page.xml", xhtml.into_bytes(), "ready", false),
        ("page.svg", svg.clone(), "ready", false),
        ("code.js", js.clone(), "ready", false),
        ("code.mjs", js.clone(), "ready", false),
        ("style.css", b"body{background:url(javascript:1)}".to_vec(), "ready", false),
        ("page.txt", html.clone(), "ready", true),
        ("page", html.clone(), "ready", true),
        ("page.pdf", pdf.into_bytes(), "ready", false),
        (
            "page.mhtml",
            b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<script>1</script>".to_vec(),
            "ready",
            true,
        ),
        // What is not what its name says.
        ("picture.png", html.clone(), "failed", false),
        ("picture.jpg", svg, "failed", false),
        ("picture.gif", html, "failed", false),
        ("film.mp4", js.clone(), "failed", false),
        ("document.pdf", b"MZ\x90\0\x03".to_vec(), "failed", false),
        ("archive.zip", b"<html>".to_vec(), "failed", false),
        ("picture.png", b"MZ\x90\0\x03".to_vec(), "failed", false),
        // Bombs, and sizes that claim more than there is.
        ("bomb.zip", zip("zeros", &bomb(50_000_000), u32::MAX), "ready", false),
        ("slip.zip", zip("../../../../tmp/evil", b"x", 1), "ready", false),
        ("huge.png", png(100_000, 100_000, &[]), "failed", false),
        ("wide.png", png(u32::MAX, 1, &[]), "failed", false),
        ("flat.png", png(0, 0, &[]), "failed", false),
        ("huge.gif", b"GIF89a\xff\xff\xff\xff\0\0\0".to_vec(), "failed", false),
        ("empty.png", vec![], "failed", false),
        ("empty.txt", vec![], "ready", true),
        ("polyglot.gif", polyglot, "failed", false),
        ("small.png", small_png(), "ready", true),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hostile_escapes_deceives_or_runs() {
    let server = Server::start(1, &[("files.uploads_per_hour", "1000"), ("limits.max_messages_per_minute", "6000")]);
    let ann = server.register_as(&unique("ann")).await;
    let room = server.room(&[&ann]).await;
    let cases = cases();
    assert!(cases.len() >= 40);
    let mut links = Vec::new();
    for (name, content, state, is_shown) in cases {
        let (file, shown) = server.upload(&ann, &room, name, &content).await;
        assert_eq!(shown["state"], state, "{name:?}: {shown}");
        let kept = shown["name"].as_str().unwrap();
        assert!(!kept.is_empty() && !kept.contains(['/', '\\', '\0', '\r', '\n', '\u{202e}', '\u{200b}']), "{kept:?}");
        let read = server.send(&ann, "GET", &format!("/files/{file}/x"), &[], vec![]).await;
        if state != "ready" {
            assert_eq!(read.status(), 404, "{name:?}");
            continue;
        }
        let field = |name: &str| read.headers()[name].to_str().unwrap().to_owned();
        let (disposition, kind) = (field("content-disposition"), field("content-type"));
        assert_eq!(disposition.starts_with("inline"), is_shown, "{name:?}: {disposition}");
        assert_eq!(field("x-content-type-options"), "nosniff");
        assert!(field("content-security-policy").ends_with("sandbox"), "{name:?}");
        assert!(!read.headers().contains_key("set-cookie"));
        for active in ["html", "svg", "xml", "javascript", "css"] {
            assert!(!kind.contains(active), "{name:?} is served as {kind}");
        }
        let link: Value =
            server.send(&ann, "POST", &format!("/files/{file}/link"), &[], vec![]).await.json().await.unwrap();
        links.push((name, format!("{}{}", server.base_url, link["url"].as_str().unwrap())));
    }

    let mut browser = Browser::start().await;
    let folder = tempfile::tempdir().unwrap();
    let downloads = json!({"behavior": "deny", "downloadPath": folder.path()});
    browser.call("Page.setDownloadBehavior", downloads).await;
    for (name, link) in &links {
        // Of an attachment the browser says that the navigation was aborted.
        browser.call("Page.navigate", json!({"url": link})).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        ran_nothing(&mut browser, name);
    }
    // A page without any policy of its own names them.
    browser.open("about:blank").await;
    for (name, link) in &links {
        let link = json!(link);
        let page = format!(
            "for (const [kind, field] of [['script', 'src'], ['iframe', 'src'], ['embed', 'src'], ['object', 'data'], \
             ['img', 'src']]) {{ const e = document.createElement(kind); e[field] = {link}; \
             document.body.append(e); }} \
             const l = document.createElement('link'); l.rel = 'stylesheet'; l.href = {link}; document.body.append(l); \
             new Promise((done) => setTimeout(done, 60))"
        );
        let params = json!({"expression": page, "awaitPromise": true});
        browser.call("Runtime.evaluate", params).await;
        ran_nothing(&mut browser, name);
    }
    // The test can fail: the same script runs where nothing forbids it.
    let page = format!(
        "const s = document.createElement('script'); s.textContent = \"console.error('{RAN}')\"; \
         document.body.append(s); new Promise((done) => setTimeout(done, 60))"
    );
    browser.call("Runtime.evaluate", json!({"expression": page, "awaitPromise": true})).await;
    assert!(browser.take_complaints().iter().any(wrote));

    for path in server.stored_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.'), "{}", path.display());
    }
}

fn wrote(complaint: &Value) -> bool {
    complaint["args"].as_array().is_some_and(|args| args.iter().any(|arg| arg["value"] == RAN))
}

fn ran_nothing(browser: &mut Browser, name: &str) {
    let complaints = browser.take_complaints();
    assert!(!complaints.iter().any(wrote), "{name:?} ran: {complaints:?}");
}
