//! The states of files: each has words, in the user's language; a pause, a deletion and a smaller variant of a picture
//! have their effect at once.
//!
//! How: limits that are soon reached, a scanner that does not run, and rows that the test changes. Variants, which the
//! page would receive from a server that makes them, are written into the events of a page that reads JSON.

use crate::files::{start, start_with};
use crate::person::{Person, create_room, join_room, quoted};
use crate::support::{Server, server};
use serde_json::{Value, json};

impl Person {
    /// The words of an upload.
    async fn reads_upload(&mut self, name: &str, words: &str) {
        let row = format!(
            "[...document.querySelectorAll('#compose-uploads li')]\
             .find((row) => row.querySelector('strong').textContent === {})?.querySelector('small').textContent",
            quoted(name)
        );
        self.browser.wait_for(&format!("{row}?.includes({})", quoted(words))).await;
    }

    /// The number that the server gave to an upload of this tab.
    async fn file_id(&mut self, at: usize) -> i64 {
        let id = format!("JSON.parse(sessionStorage.getItem('veza.uploads')).rows[{at}].fileId");
        self.browser.wait_for(&id).await;
        self.browser.evaluate(&id).await.as_i64().unwrap()
    }
}

async fn settle(server: &Server, file: i64, state: &str, failure: Option<Value>) {
    let database = server.database().await;
    let sql = "UPDATE files SET state = $2::text::file_state, failure = $3 WHERE id = $1";
    assert_eq!(database.execute(sql, &[&file, &state, &failure]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_in_the_language_of_the_user() {
    let server = start_with(&[("limits.max_file_size", "100000"), ("files.user_quota", "120000")]);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "archive").await;
    ada.attaches(
        "[made.text('large.txt', 200000), made.bytes('evil.png', 'image/png', '504b030414000000'), \
          made.text('fits.txt', 90000)]",
    )
    .await;
    ada.reads_upload("fits.txt", "Uploaded, 90 kB").await;
    ada.attaches("[made.text('second.txt', 50000)]").await;
    ada.reads_upload("second.txt", "Delete some of them").await;
    ada.reads_upload("large.txt", "up to 100 kB").await;
    ada.reads_upload("evil.png", "ends with .png").await;
    ada.picture("web-files-refusals.png", 1_280, 800, "light").await;
    ada.speaks("fr").await;
    for (name, words) in [
        ("large.txt", "Ce fichier est trop grand"),
        ("evil.png", "Le nom finit par .png"),
        ("second.txt", "l’espace dont vous disposez"),
        ("fits.txt", "Envoyé, 90"),
    ] {
        ada.reads_upload(name, words).await;
    }
    ada.reads("#compose-scan-note", "ne recherche pas les virus").await;
    let retries = "[...document.querySelectorAll('#compose-uploads .link')]\
                   .map((link) => link.closest('li').querySelector('strong').textContent)";
    assert_eq!(ada.browser.evaluate(retries).await, json!(["second.txt"]), "only space can be made");
    ada.picture("web-files-refusals-fr-phone-dark.png", 390, 780, "dark").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_waits_for_the_scanner_says_so_until_it_is_settled() {
    let server = start_with(&[("files.clamd", "unix:/nonexistent/clamd.ctl")]);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "archive").await;
    ada.attaches("[made.text('sent.txt', 20)]").await;
    ada.browser.wait_for("document.querySelector('#compose-uploads [data-state=checking]')").await;
    ada.sends().await;
    ada.reads("#messages .file-card[data-state=scanning]", "Being checked before").await;
    ada.attaches(
        "[made.text('virus.txt', 20), made.text('torn.txt', 30), made.text('late.txt', 40), \
          made.text('bundle.txt', 50)]",
    )
    .await;
    ada.browser.wait_for("document.querySelectorAll('#compose-uploads [data-state=checking]').length === 4").await;
    ada.reads_upload("bundle.txt", "The virus scanner doesn't answer").await;
    let offered = "document.querySelector('#compose-scan-note').hidden";
    assert_eq!(ada.browser.evaluate(offered).await, true, "files are scanned here");
    ada.picture("web-files-scanning.png", 1_280, 800, "light").await;

    let expected = [
        (
            "infected",
            Some(json!({"reason": "virus_found", "virus": "Test.Marker"})),
            "A virus was found in this file (Test.Marker)",
        ),
        ("failed", None, "The check refused this file"),
        ("expired", None, "not completed in time"),
        (
            "failed",
            Some(json!({"reason": "type_not_allowed", "media_type": "application/zip"})),
            "doesn't accept files of type application/zip",
        ),
    ];
    for (at, (state, failure, _)) in expected.iter().enumerate() {
        let file = ada.file_id(at).await;
        settle(&server, file, state, failure.clone()).await;
    }
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    for (name, (_, _, words)) in ["virus.txt", "torn.txt", "late.txt", "bundle.txt"].into_iter().zip(expected) {
        ada.reads_upload(name, words).await;
    }
    ada.picture("web-files-settled.png", 1_280, 800, "dark").await;

    // The same states in a message.
    let user = ada.token(&server).await;
    let sent = server.history(&user, &room).await.last().unwrap()["attachments"][0]["file_id"].as_i64().unwrap();
    for (state, words) in [("expired", "no longer available"), ("uploading", "Still being uploaded")] {
        settle(&server, sent, state, None).await;
        ada.browser.call("Page.reload", json!({})).await;
        ada.is_up_to_date(0).await;
        ada.reads(&format!("#messages .file-card[data-state={state}]"), words).await;
    }
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_upload_waits_over_a_reload_and_goes_on_where_it_was() {
    let server = start();
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "archive").await;
    ada.limits_network(200_000).await;
    ada.attaches("[made.text('long.txt', 2000000)]").await;
    ada.browser.wait_for("/[1-9]\\d% of /.test(document.querySelector('#compose-uploads small').innerText)").await;
    let focused = "document.activeElement.dataset.do";
    ada.browser.evaluate("document.querySelector('#compose-uploads [data-do=pause]').focus()").await;
    ada.click("#compose-uploads [data-do=pause]").await;
    ada.reads_upload("long.txt", "paused").await;
    assert_eq!(ada.browser.evaluate(focused).await, "pause", "the button keeps the focus");
    ada.picture("web-uploads-paused.png", 1_280, 800, "light").await;
    let file = ada.file_id(0).await;
    let database = server.database().await;
    let received = async || {
        let sql = "SELECT received, state::text FROM files WHERE id = $1";
        let row = database.query_one(sql, &[&file]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, String>(1))
    };
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    ada.reads_upload("long.txt", "paused").await;
    let (kept, state) = received().await;
    assert!(kept < 2_000_000 && state == "uploading", "{kept} {state}");
    ada.limits_network(-1).await;
    ada.click("#compose-uploads [data-do=pause]").await;
    ada.has_uploaded(1).await;
    assert_eq!(received().await, (2_000_000, "ready".to_owned()));

    // Sending resumes what is paused.
    ada.limits_network(200_000).await;
    ada.attaches("[made.text('more.txt', 2000000)]").await;
    ada.browser.wait_for("document.querySelector('#compose-uploads [data-state=running]')").await;
    ada.click("#compose-uploads [data-state=running] [data-do=pause]").await;
    ada.reads_upload("more.txt", "paused").await;
    ada.limits_network(-1).await;
    ada.say("Both of them").await;
    ada.sees("Both of them").await;
    ada.browser.wait_for("document.querySelectorAll('#messages .file-card[data-state=ready]').length === 2").await;

    // The server returns without files: the upload says so, and can be removed.
    ada.limits_network(200_000).await;
    ada.attaches("[made.text('late.txt', 2000000)]").await;
    ada.browser.wait_for("document.querySelector('#compose-uploads [data-state=running]')").await;
    server.kill9();
    ada.reads_upload("late.txt", "when the connection is back").await;
    ada.limits_network(-1).await;
    server.start_again_with(&[("features.file_uploads", "false")]);
    ada.reads_upload("late.txt", "Files can't be sent on this server").await;
    ada.browser.wait_for("document.getElementById('compose-attach').hidden").await;
    ada.picture("web-uploads-off.png", 1_280, 800, "light").await;
    ada.click("#compose-uploads [data-do=cancel]").await;
    ada.browser.wait_for("document.getElementById('compose-uploads').hidden").await;
    ada.say("Without a file").await;
    ada.sees("Without a file").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_message_takes_its_pictures_from_every_screen() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "gallery").await;
    join_room(&mut bob, &room).await;
    for name in ["stays.png", "goes.png"] {
        ada.attaches(&format!("[made.picture('{name}', 900, 600, 20)]")).await;
        ada.has_uploaded(1).await;
        ada.sends().await;
    }
    bob.browser.wait_for("document.querySelectorAll('#messages .picture img').length === 2").await;
    bob.click("#show-files").await;
    bob.browser.wait_for("document.querySelectorAll('#panel .file-row').length === 2").await;
    let loaded = "document.querySelectorAll('#messages .picture img')[1].naturalWidth > 0";
    bob.browser.wait_for(loaded).await;
    let link = bob.browser.evaluate("document.querySelectorAll('#messages .picture img')[1].src").await;
    bob.browser.evaluate("document.querySelectorAll('#messages .picture')[1].click()").await;
    bob.reads("#lightbox-name", "goes.png").await;
    // Another message changes the list, and not the picture that is shown.
    ada.attaches("[made.picture('third.png', 60, 30, 220)]").await;
    ada.has_uploaded(1).await;
    ada.sends().await;
    bob.reads("#lightbox-about", "2 of 3").await;

    ada.click("#messages .message:nth-last-of-type(2) [data-do=delete]").await;
    ada.confirm().await;
    bob.browser.wait_for("!document.getElementById('lightbox')").await;
    bob.reads("#toasts", "no longer available").await;
    let shown = "[document.querySelectorAll('[alt=\"goes.png\"]').length, \
                  document.querySelectorAll('#messages .picture img').length, \
                  document.querySelectorAll('#panel .file-row').length]";
    assert_eq!(bob.browser.evaluate(shown).await, json!([0, 2, 2]));
    bob.picture("web-files-deleted.png", 1_280, 800, "light").await;
    let status = reqwest::get(link.as_str().unwrap()).await.unwrap().status();
    assert_eq!(status, 404, "the link of the preview");
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_removes_a_file_from_every_screen() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "gallery").await;
    join_room(&mut bob, &room).await;
    ada.attaches("[made.picture('goes.png', 300, 200, 20), made.text('stays.txt', 20)]").await;
    ada.has_uploaded(2).await;
    ada.fill("#compose", "Both").await;
    ada.sends().await;
    bob.browser.wait_for("document.querySelector('#messages .picture img')?.naturalWidth > 0").await;
    let link = bob.browser.evaluate("document.querySelector('#messages .picture img').src").await;
    bob.click("#messages .picture").await;
    bob.reads("#lightbox-name", "goes.png").await;

    ada.click("#messages .message:last-of-type [data-do=edit]").await;
    ada.browser.wait_for("document.querySelectorAll('#compose-edit-files li').length === 2").await;
    ada.picture("web-files-edit.png", 1_280, 800, "light").await;
    ada.click("#compose-edit-files li:first-child button").await;
    ada.browser.wait_for("document.querySelectorAll('#compose-edit-files li').length === 1").await;
    // The file alone is a message.
    ada.browser.evaluate("document.getElementById('compose').select()").await;
    ada.press("Backspace", 8).await;
    ada.browser.wait_for("document.getElementById('compose').value === ''").await;
    ada.click("#send").await;
    bob.browser.wait_for("!document.getElementById('lightbox')").await;
    bob.browser.wait_for("document.querySelectorAll('#messages .files > *').length === 1").await;
    bob.reads("#messages .file-card", "stays.txt").await;
    let text = "document.querySelector('#messages .message:last-of-type .content').innerText.trim()";
    assert_eq!(bob.browser.evaluate(text).await, "(edited)");
    assert_eq!(reqwest::get(link.as_str().unwrap()).await.unwrap().status(), 404);

    // The last file is removed with a text only.
    ada.browser.wait_for("document.getElementById('compose-edit-files').hidden").await;
    ada.click("#messages .message:last-of-type [data-do=edit]").await;
    ada.click("#compose-edit-files li button").await;
    ada.browser.wait_for("document.getElementById('send').disabled").await;
    ada.fill("#compose", "No file").await;
    ada.press("Enter", 13).await;
    bob.sees("No file").await;
    bob.browser.wait_for("document.querySelectorAll('#messages .files > *').length === 0").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

/// Gives files of events and answers the fields of a server that makes variants. The server serves a file under any
/// name.
fn with_variants(added: &str) -> String {
    format!(
        "(() => {{
            const handler = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'onmessage');
            const more = {added};
            const enrich = (value) => {{
                if (value === null || typeof value !== 'object') return value;
                for (const key of Object.keys(value)) enrich(value[key]);
                if (value.file_id && value.media_type) Object.assign(value, more(value) ?? {{}});
                return value;
            }};
            Object.defineProperty(WebSocket.prototype, 'onmessage', {{
                ...handler,
                set(listener) {{
                    const changed = ({{data}}) => listener({{data: JSON.stringify(enrich(JSON.parse(data)))}});
                    handler.set.call(this, listener && changed);
                }},
            }});
        }})()"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_variants_and_placeholders_where_the_server_makes_them() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "gallery").await;
    let more = "({file_id, name, media_type}) => {
        const variant = (kind, width, height, url) => ({kind, url, width, height, media_type: 'image/webp'});
        const served = (kind) => `/files/${file_id}/${kind}.webp`;
        const small = variant('thumb_small', 380, 253, served('thumb_small'));
        const large = variant('thumb_large', 1200, 800, served('thumb_large'));
        const gone = variant('thumb_small', 380, 253, '/files/999999/variants/thumb_small');
        if (media_type.startsWith('audio/')) return {duration: 185.4};
        if (name === 'moving.png') return {animated: true, variants: [small], blurhash: 'LETNoS~~~~~~'};
        if (name === 'gone.png') return {variants: [gone], blurhash: 'LETNoS~~~~~~'};
        if (name === 'still.png') return {variants: [large, small], blurhash: 'LETNoS~~~~~~'};
        return undefined;
    }";
    let script = json!({"source": with_variants(more)});
    ada.browser.call("Page.addScriptToEvaluateOnNewDocument", script).await;
    let hash = ada.browser.evaluate("location.hash").await;
    ada.browser.open(&format!("{}/?format=json{}", server.base_url, hash.as_str().unwrap())).await;
    ada.is_up_to_date(0).await;
    let ogg = "4f67675300020000000000000000000000000000000000000000000000011e01766f72626973";
    ada.attaches(&format!(
        "[made.picture('still.png', 1500, 1000, 20), made.picture('moving.png', 1500, 1000, 120), \
          made.picture('gone.png', 1500, 1000, 220), made.bytes('song.ogg', 'audio/ogg', '{ogg}')]"
    ))
    .await;
    ada.has_uploaded(4).await;
    ada.sends().await;
    let loaded = "[...document.querySelectorAll('#messages .picture img')].filter((img) => img.naturalWidth > 0)";
    ada.browser.wait_for(&format!("{loaded}.length === 3")).await;
    let names =
        "[...document.querySelectorAll('#messages .picture img')].map((img) => img.src.replace(/^.*[/]|[?].*/g, ''))";
    let shown = ada.browser.evaluate(names).await;
    assert_eq!(shown, json!(["thumb_small.webp", "moving.png", "gone.png"]), "a variant that is gone is replaced");
    let signed = format!("{loaded}.every((img) => new URL(img.src).searchParams.has('sig'))");
    assert_eq!(ada.browser.evaluate(&signed).await, true);
    ada.reads("#messages .player.audio", "3:05").await;
    ada.click("#show-files").await;
    ada.browser.wait_for("document.querySelectorAll('#panel .thumb img').length === 3").await;
    ada.picture("web-files-thumbnails.png", 1_280, 800, "light").await;
    ada.click("#close-panel").await;
    // A loaded picture has no colour behind it; one that is being loaded has.
    let colours = "[...document.querySelectorAll('#messages .picture')].map((box) => box.style.backgroundColor)";
    assert_eq!(ada.browser.evaluate(colours).await, json!(["", "", ""]));
    ada.browser.call("Network.enable", json!({})).await;
    ada.browser.call("Network.setBlockedURLs", json!({"urls": ["*/files/*/link"]})).await;
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    ada.browser.wait_for("document.querySelectorAll('#messages .picture').length === 3").await;
    let orange = "rgb(255, 128, 0)";
    assert_eq!(ada.browser.evaluate(colours).await, json!([orange, orange, orange]));
    ada.picture("web-files-placeholders.png", 1_280, 800, "light").await;
    // The page asks again for links that it could not have.
    ada.browser.call("Network.setBlockedURLs", json!({"urls": []})).await;
    ada.browser.wait_for(&format!("{loaded}.length === 3")).await;
    assert_eq!(ada.browser.evaluate(colours).await, json!(["", "", ""]));
    ada.has_no_complaints();
}
