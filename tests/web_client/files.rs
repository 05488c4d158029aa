//! Files: several uploads at once, across a killed server and a reload; pictures that do not move the page, players,
//! cards and their states; the lightbox with the keyboard; the panel.
//!
//! How: a file is made in the page and given to the hidden field, to a drop or to a paste. The browser slows the
//! network down. The bytes that the server has are compared with those that were chosen.

use crate::person::{Person, create_room, join_room};
use crate::support::{Server, User, server, wait_until};
use serde_json::{Value, json};

pub(crate) fn start() -> Server {
    start_with(&[])
}

pub(crate) fn start_with(settings: &[(&str, &str)]) -> Server {
    Server::start(2, &[&[("features.file_uploads", "true")], settings].concat())
}

/// Files of the page: a text of a length, a picture of a size, or bytes in hexadecimal digits.
pub(crate) const MAKERS: &str = "globalThis.made = {
    text: (name, length) => new File(['0123456789'.repeat(length / 10)], name, {type: 'text/plain'}),
    async picture(name, width, height, hue) {
        const canvas = Object.assign(document.createElement('canvas'), {width, height});
        const pen = canvas.getContext('2d');
        for (let y = 0; y < height; y += 20) {
            pen.fillStyle = `hsl(${hue + y / height * 90} 60% 60%)`;
            pen.fillRect(0, y, width, 20);
        }
        return new File([await new Promise((done) => canvas.toBlob(done))], name, {type: 'image/png'});
    },
    bytes: (name, type, hex) =>
        new File([Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16))], name, {type}),
    // A second of a tone, without compression.
    sound(name) {
        const rate = 8000;
        const view = new DataView(new ArrayBuffer(44 + rate));
        const text = (at, word) => [...word].forEach((c, n) => view.setUint8(at + n, c.charCodeAt(0)));
        const number = (at, value) => view.setUint32(at, value, true);
        text(0, 'RIFF'), number(4, 36 + rate), text(8, 'WAVEfmt '), number(16, 16);
        view.setUint16(20, 1, true), view.setUint16(22, 1, true), number(24, rate), number(28, rate);
        view.setUint16(32, 1, true), view.setUint16(34, 8, true), text(36, 'data'), number(40, rate);
        for (let at = 0; at < rate; at++) view.setUint8(44 + at, 128 + 100 * Math.sin(at / 3));
        return new File([view], name, {type: 'audio/wav'});
    },
    // What the browser records of a canvas.
    async film(name, width, height) {
        const canvas = Object.assign(document.createElement('canvas'), {width, height});
        const pen = canvas.getContext('2d');
        const parts = [];
        const recorder = new MediaRecorder(canvas.captureStream(20), {mimeType: 'video/webm'});
        recorder.ondataavailable = ({data}) => parts.push(data);
        const ended = new Promise((done) => (recorder.onstop = done));
        recorder.start();
        for (let step = 0; step < 20; step++) {
            pen.fillStyle = `hsl(${step * 18} 70% 50%)`;
            pen.fillRect(0, 0, width, height);
            await new Promise((done) => setTimeout(done, 50));
        }
        recorder.stop();
        await ended;
        return new File(parts, name, {type: 'video/webm'});
    },
    async transfer(files) {
        const data = new DataTransfer();
        for (const file of await Promise.all(files)) data.items.add(file);
        return data;
    },
    async choose(field, files) {
        document.getElementById(field).files = (await made.transfer(files)).files;
        document.getElementById(field).dispatchEvent(new Event('change'));
    },
};";

impl Person {
    /// Chooses files; `files` is a list in JavaScript.
    pub(crate) async fn attaches(&mut self, files: &str) {
        self.browser.wait_for("document.querySelector('#compose-attach:not([hidden])')").await;
        self.browser.evaluate(&format!("{MAKERS} made.choose('compose-files', {files})")).await;
    }

    /// The names and states of the uploads.
    pub(crate) async fn uploads(&mut self) -> Value {
        let rows = "[...document.querySelectorAll('#compose-uploads li')]\
                    .map((row) => [row.querySelector('strong').textContent, row.dataset.state])";
        self.browser.evaluate(rows).await
    }

    pub(crate) async fn has_uploaded(&mut self, count: usize) {
        let rows = "[...document.querySelectorAll('#compose-uploads li')]";
        let ready = format!("{rows}.length === {count} && {rows}.every((row) => row.dataset.state === 'ready')");
        self.browser.wait_for(&ready).await;
    }

    pub(crate) async fn limits_network(&mut self, bytes_per_second: i64) {
        self.browser.call("Network.enable", json!({})).await;
        let network =
            json!({"offline": false, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second});
        self.browser.call("Network.emulateNetworkConditions", network).await;
    }

    pub(crate) async fn sends(&mut self) {
        self.browser.wait_for("!document.getElementById('send').disabled").await;
        self.click("#send").await;
        self.browser.wait_for("!document.querySelector('#compose-uploads li, #messages .message.pending')").await;
    }
}

/// The attachments of the newest message.
async fn newest_files(server: &Server, user: &User, room: &str) -> Vec<Value> {
    let history = server.history(user, room).await;
    history.last().unwrap()["attachments"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_go_on_after_a_killed_server_and_a_reload() {
    let server = start();
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "archive").await;
    ada.limits_network(100_000).await;
    ada.attaches("[made.text('one.txt', 1000000), made.text('two.txt', 1000000), made.text('three.txt', 500000)]")
        .await;
    let percent =
        "[...document.querySelectorAll('#compose-uploads small')].some((note) => /[1-9]\\d% of /.test(note.innerText))";
    ada.browser.wait_for(percent).await;
    let expected = json!([["one.txt", "running"], ["two.txt", "running"], ["three.txt", "waiting"]]);
    assert_eq!(ada.uploads().await, expected);
    ada.picture("web-uploads.png", 1_280, 800, "light").await;

    // The message is sent as soon as its files are there.
    ada.say("Here they are").await;
    ada.reads(".holding", "will be sent when").await;
    server.kill9();
    ada.browser.wait_for("document.querySelectorAll('#compose-uploads [data-state=retrying]').length === 2").await;
    ada.picture("web-uploads-cut-phone-dark.png", 390, 780, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.limits_network(-1).await;
    server.start_again();
    ada.sees("Here they are").await;
    let user = ada.token(&server).await;
    let files = newest_files(&server, &user, &room).await;
    let sizes: Vec<_> = files.iter().map(|file| (file["name"].clone(), file["size"].clone())).collect();
    let size = |name: &str, size: u32| (json!(name), json!(size));
    assert_eq!(sizes, [size("one.txt", 1_000_000), size("two.txt", 1_000_000), size("three.txt", 500_000)]);
    let path = format!("{}/files/{}/one.txt", server.base_url, files[0]["file_id"]);
    let text = reqwest::Client::new().get(path).bearer_auth(&user.token).send().await.unwrap().text().await.unwrap();
    assert!(text == "0123456789".repeat(100_000), "the bytes are those of the file");

    // A reload: the browser has kept one file, and the user chooses the other one again.
    ada.limits_network(100_000).await;
    ada.attaches("[made.text('kept.txt', 1000000), made.text('lost.txt', 1000000)]").await;
    ada.browser.wait_for(percent).await;
    let forget = "(async () => {
        const {key} = JSON.parse(sessionStorage.getItem('veza.uploads')).rows[1];
        const database = await new Promise((done) => {
            const opened = indexedDB.open('veza.files', 1);
            opened.onsuccess = () => done(opened.result);
        });
        await new Promise((done) => {
            const change = database.transaction('files', 'readwrite');
            change.objectStore('files').delete(key);
            change.oncomplete = done;
        });
        database.close();
        return key;
    })()";
    ada.browser.evaluate(forget).await;
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    ada.limits_network(-1).await;
    ada.browser.wait_for("document.querySelector('#compose-uploads [data-state=ready]')").await;
    assert_eq!(ada.uploads().await, json!([["kept.txt", "ready"], ["lost.txt", "lost"]]));
    ada.reads("#compose-uploads [data-state=lost]", "Choose it again").await;
    ada.picture("web-uploads-lost.png", 1_280, 800, "dark").await;
    ada.click("#compose-uploads [data-state=lost] .link").await;
    ada.browser.evaluate(&format!("{MAKERS} made.choose('compose-file-again', [made.text('other.txt', 10)])")).await;
    ada.reads("#toasts", "another file").await;
    ada.browser.evaluate("made.choose('compose-file-again', [made.text('lost.txt', 1000000)])").await;
    ada.has_uploaded(2).await;
    ada.sends().await;
    let files = newest_files(&server, &user, &room).await;
    assert_eq!((files.len(), &files[1]["size"]), (2, &json!(1_000_000)), "{files:?}");

    // Cancelling deletes the upload on the server.
    ada.limits_network(100_000).await;
    ada.attaches("[made.text('never.txt', 1000000)]").await;
    ada.browser.wait_for("document.querySelector('#compose-uploads [data-state=running]')").await;
    ada.browser.wait_for("JSON.parse(sessionStorage.getItem('veza.uploads')).rows[0].fileId").await;
    ada.click("#compose-uploads [data-do=cancel]").await;
    ada.browser.wait_for("document.getElementById('compose-uploads').hidden").await;
    assert_eq!(ada.browser.evaluate("document.activeElement.id").await, "compose-attach");
    let database = server.database().await;
    let started = std::time::Instant::now();
    while database.query_one("SELECT count(*) FROM files WHERE name = 'never.txt'", &[]).await.unwrap().get::<_, i64>(0)
        > 0
    {
        assert!(started.elapsed() < crate::support::PATIENCE, "the upload is still there");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    // Signing out leaves no files on the device.
    let kept = "(async () => {
        const database = await new Promise((done) => {
            const opened = indexedDB.open('veza.files', 1);
            opened.onsuccess = () => done(opened.result);
        });
        const count = await new Promise((done) => {
            const counted = database.transaction('files').objectStore('files').count();
            counted.onsuccess = () => done(counted.result);
        });
        database.close();
        return [count, sessionStorage.getItem('veza.uploads') !== null];
    })()";
    ada.attaches("[made.text('private.txt', 1000000)]").await;
    ada.browser.wait_for("document.querySelector('#compose-uploads [data-state=running]')").await;
    let started = std::time::Instant::now();
    while ada.browser.evaluate(kept).await != json!([1, true]) {
        assert!(started.elapsed() < crate::support::PATIENCE, "the file is not kept");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ada.click("#me").await;
    ada.click("#sign-out").await;
    ada.browser.wait_for("document.getElementById('sign')").await;
    let started = std::time::Instant::now();
    while ada.browser.evaluate(kept).await != json!([0, false]) {
        assert!(started.elapsed() < crate::support::PATIENCE, "a file is left on the device");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_pictures_players_and_cards_without_moving_the_page() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "gallery").await;
    join_room(&mut bob, &room).await;

    // A drop and a paste, without a text.
    ada.browser.wait_for("document.querySelector('#compose-attach:not([hidden])')").await;
    let drag = |kind: &str| {
        format!(
            "{MAKERS} (async () => {{
                const dataTransfer = await made.transfer([made.text('plan.txt', 10)]);
                const event = new DragEvent('{kind}', {{dataTransfer, bubbles: true}});
                document.getElementById('messages').dispatchEvent(event);
            }})()"
        )
    };
    ada.browser.evaluate(&drag("dragenter")).await;
    ada.reads(".drop-hint:not([hidden])", "Drop files to attach them").await;
    ada.picture("web-files-drop.png", 1_280, 800, "light").await;
    ada.browser.evaluate(&drag("dragleave")).await;
    let drop = "(async () => {
        const dataTransfer = await made.transfer([made.picture('tall <b>.png', 900, 1600, 20)]);
        const event = (type) => new DragEvent(type, {dataTransfer, bubbles: true, cancelable: true});
        const target = document.getElementById('messages');
        target.dispatchEvent(event('dragenter'));
        const hinted = !document.querySelector('.drop-hint').hidden;
        target.dispatchEvent(event('dragover'));
        target.dispatchEvent(event('drop'));
        return hinted && document.querySelector('.drop-hint').hidden;
    })()";
    assert_eq!(ada.browser.evaluate(&format!("{MAKERS} {drop}")).await, true);
    let paste = "(async () => {
        const clipboardData = await made.transfer([made.picture('wide.png', 1200, 400, 200)]);
        const event = new ClipboardEvent('paste', {clipboardData, bubbles: true, cancelable: true});
        document.getElementById('compose').dispatchEvent(event);
        return event.defaultPrevented;
    })()";
    assert_eq!(ada.browser.evaluate(paste).await, true);
    let text = "(async () => {
        const clipboardData = await made.transfer([made.picture('of a text.png', 20, 20, 200)]);
        for (const type of ['text/plain', 'text/html']) clipboardData.setData(type, 'a text');
        const event = new ClipboardEvent('paste', {clipboardData, bubbles: true, cancelable: true});
        document.getElementById('compose').dispatchEvent(event);
        return event.defaultPrevented;
    })()";
    assert_eq!(ada.browser.evaluate(text).await, false, "a text with a picture of it is a text");
    ada.has_uploaded(2).await;
    ada.sends().await;
    let loaded =
        "[...document.querySelectorAll('#messages .picture img')].filter((img) => img.naturalWidth > 0).length";
    ada.browser.wait_for(&format!("{loaded} === 2")).await;

    // What is loaded is no larger than it needs to be.
    let sources = "[...document.querySelectorAll('#messages .picture img')]\
                   .map((img) => new URL(img.src).pathname.replace(/[0-9]+/, 'N'))";
    let variants = ["thumb_small", "thumb_large"].map(|kind| format!("/files/N/variants/{kind}"));
    assert_eq!(bob.browser.evaluate(sources).await, json!(variants));

    // The room of a picture is the same before and after it is loaded: nothing moves.
    bob.browser.wait_for(&format!("{loaded} === 2")).await;
    let box_of = "((box) => [box.width, box.height])\
                  (document.querySelector('#messages .picture').getBoundingClientRect())";
    assert_eq!(bob.browser.evaluate(box_of).await, json!([169, 300]));
    let first = "document.querySelector('#messages .picture img')";
    let unload = format!("void (globalThis.url = {first}.src, {first}.removeAttribute('src'))");
    bob.browser.evaluate(&unload).await;
    assert_eq!(bob.browser.evaluate(box_of).await, json!([169, 300]), "without its content");
    bob.browser.evaluate(&format!("void ({first}.src = globalThis.url)")).await;
    let alts = "[...document.querySelectorAll('#messages .picture img')].map((img) => img.alt)";
    assert_eq!(bob.browser.evaluate(alts).await, json!(["tall <b>.png", "wide.png"]));

    // Other files: a player that survives a reaction, cards, and what the check refuses.
    let ogg = "4f67675300020000000000000000000000000000000000000000000000011e01766f72626973";
    let files = format!(
        "[made.bytes('song.ogg', 'audio/ogg', '{ogg}'), made.text('notes.txt', 2000), \
          made.bytes('data.bin', '', '00ff00ff'), made.bytes('evil.png', 'image/png', '4d5a9000')]"
    );
    ada.attaches(&files).await;
    ada.browser.wait_for("document.querySelector('#compose-uploads [data-state=failed]')").await;
    ada.picture("web-files-refused.png", 1_280, 800, "light").await;
    ada.fill("#compose", "All kinds of files").await;
    ada.press("Enter", 13).await;
    ada.reads(".holding", "Remove the files").await;
    ada.click("#compose-uploads [data-state=failed] [data-do=cancel]").await;
    ada.has_uploaded(3).await;
    ada.sends().await;
    bob.sees("All kinds of files").await;
    bob.browser.wait_for("document.querySelector('#messages audio')?.src.includes('/files/')").await;
    let player = "document.querySelector('#messages audio')";
    let facts = format!("[{player}.preload, {player}.controls, {player}.getAttribute('aria-label')]");
    assert_eq!(bob.browser.evaluate(&facts).await, json!(["none", true, "song.ogg"]));
    bob.browser.evaluate(&format!("void (globalThis.player = {player})")).await;
    ada.click("#messages .message:last-of-type .tools .emoji").await;
    bob.browser.wait_for("document.querySelector('#messages .reaction')").await;
    assert_eq!(bob.browser.evaluate(&format!("{player} === globalThis.player")).await, true);
    bob.reads("#messages .file-card", "kB · Text").await;
    let read = "(async () => {
        const app = document.querySelector('#messages .file-card [data-do=download]');
        const saved = new Promise((done) => document.addEventListener('click', ({target}) => {
            if (target.localName === 'a' && target.download) done([target.download, target.href]);
        }, {capture: true}));
        app.click();
        const [name, href] = await saved;
        return [name, (await (await fetch(href)).text()).length];
    })()";
    assert_eq!(bob.browser.evaluate(read).await, json!(["notes.txt", 2_000]));
    bob.picture("web-files.png", 1_280, 900, "light").await;
    bob.picture("web-files-phone-dark.png", 390, 780, "dark").await;
    bob.browser.appear(1_280, 800, "light").await;

    // The panel.
    bob.click("#show-files").await;
    bob.browser.wait_for("document.querySelectorAll('#panel .file-row').length === 5").await;
    bob.picture("web-files-panel.png", 1_280, 800, "light").await;
    bob.picture("web-files-panel-phone-dark.png", 390, 780, "dark").await;
    bob.browser.appear(1_280, 800, "light").await;
    bob.click("#close-panel").await;

    // The states of the log, in words.
    let user = ada.token(server).await;
    let history = server.history(&user, &room).await;
    let pictures = history[history.len() - 2]["attachments"].clone();
    for (file, state, words) in [(0, "infected", "A virus was found"), (1, "failed", "The check refused")] {
        let id = pictures[file]["file_id"].as_i64().unwrap();
        let database = server.database().await;
        let sql = "UPDATE files SET state = $2::text::file_state WHERE id = $1";
        database.execute(sql, &[&id, &state]).await.unwrap();
        bob.browser.call("Page.reload", json!({})).await;
        bob.is_up_to_date(0).await;
        bob.reads(&format!("#messages .file-card[data-state={state}]"), words).await;
    }
    bob.speaks("fr").await;
    bob.reads("#messages .file-card[data-state=infected]", "Un virus a été trouvé").await;
    bob.picture("web-files-states-fr.png", 1_280, 800, "dark").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plays_sound_and_films_in_the_timeline() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "cinema").await;
    ada.attaches("[made.sound('tone.wav'), made.film('colours.webm', 320, 240)]").await;
    ada.has_uploaded(2).await;
    ada.sends().await;
    let box_of =
        "((box) => [box.width, box.height])(document.querySelector('#messages video').getBoundingClientRect())";
    ada.browser.wait_for("document.querySelector('#messages video')?.src").await;
    let before = ada.browser.evaluate(box_of).await;
    for kind in ["audio", "video"] {
        let media = format!("document.querySelector('#messages {kind}')");
        // A muted one may begin without a click.
        ada.browser.evaluate(&format!("void ({media}.muted = true, {media}.play())")).await;
        ada.browser.wait_for(&format!("{media}.currentTime > 0 && {media}.readyState >= 2")).await;
    }
    assert_eq!(ada.browser.evaluate(box_of).await, before, "the room of a film does not depend on its content");
    ada.picture("web-files-players.png", 1_280, 800, "light").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lightbox_keeps_and_gives_back_the_focus() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "gallery").await;
    ada.attaches("[made.picture('first.png', 3000, 2000, 20), made.picture('second.png', 300, 700, 120)]").await;
    ada.has_uploaded(2).await;
    ada.sends().await;
    ada.attaches("[made.picture('third.png', 60, 30, 220)]").await;
    ada.has_uploaded(1).await;
    ada.sends().await;
    let focused = "document.activeElement.id";
    ada.browser.wait_for("document.querySelectorAll('#messages .picture').length === 3").await;
    let second = "document.querySelectorAll('#messages .picture')[1]";
    ada.browser.evaluate(&format!("{second}.focus(), {second}.click()")).await;
    ada.reads("#lightbox-about", "2 of 3").await;
    assert_eq!(ada.browser.evaluate(focused).await, "close-lightbox");
    ada.press("ArrowRight", 39).await;
    ada.reads("#lightbox-name", "third.png").await;
    ada.press("ArrowRight", 39).await;
    ada.press("ArrowLeft", 37).await;
    ada.press("ArrowLeft", 37).await;
    ada.reads("#lightbox-name", "first.png").await;
    let image = "document.querySelector('#lightbox img')";
    ada.browser.wait_for(&format!("{image}.naturalWidth === 3000 && {image}.alt === 'first.png'")).await;
    let fits =
        format!("((box) => box.width <= innerWidth && box.bottom <= innerHeight)({image}.getBoundingClientRect())");
    assert_eq!(ada.browser.evaluate(&fits).await, true);
    ada.picture("web-lightbox.png", 1_280, 800, "light").await;
    ada.picture("web-lightbox-phone.png", 390, 780, "dark").await;
    let inside = "((box) => [box.left < innerWidth / 4, box.right <= innerWidth])\
                  (document.querySelector('#previous-picture').getBoundingClientRect())";
    assert_eq!(ada.browser.evaluate(inside).await, json!([true, true]));
    assert_eq!(ada.browser.evaluate(&fits).await, true);
    ada.browser.appear(1_280, 800, "light").await;
    ada.press("z", 90).await;
    assert_eq!(ada.browser.evaluate(&format!("{image}.getBoundingClientRect().width")).await, 3_000);
    ada.press("z", 90).await;
    assert_eq!(ada.browser.evaluate(&fits).await, true);
    for _ in 0..9 {
        ada.press("Tab", 9).await;
        assert_eq!(ada.browser.evaluate("document.activeElement.closest('#lightbox') !== null").await, true);
    }
    ada.press("Escape", 27).await;
    ada.browser.wait_for("!document.getElementById('lightbox')").await;
    assert_eq!(ada.browser.evaluate(&format!("document.activeElement === {second}")).await, true);
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_panel_lists_files_of_messages_that_are_not_loaded() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "archive").await;
    let user = ada.token(server).await;
    let (first, _) = server.upload(&user, &room, "first.txt", b"1").await;
    let (other, _) = server.upload(&user, &room, "other.txt", b"2").await;
    let mut sent = Vec::new();
    for n in 0..100 {
        let files = if n == 0 { vec![first] } else { vec![other] };
        let message = json!({"conversation_id": room, "content": format!("number {n}."),
            "attachments": if n < 35 { files } else { vec![] }});
        sent.push(server.ok(&user, "send_message", message).await["message_id"].as_i64().unwrap());
    }
    let indexed = "SELECT NOT EXISTS (SELECT FROM messages m LEFT JOIN search_progress p USING (conversation_id) \
                   WHERE m.seq > coalesce(p.indexed_seq, 0))";
    wait_until(&server.database().await, indexed).await;
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    ada.sees("number 99.").await;
    ada.click("#show-files").await;
    let rows = "document.querySelectorAll('#panel .file-row').length";
    ada.browser.wait_for(&format!("{rows} === 30")).await;
    let loaded = "document.querySelectorAll('#messages .file-card').length";
    let of_first = format!("document.querySelectorAll('#panel [data-file=\"{first}\"]').length");
    assert_eq!(ada.browser.evaluate(&format!("[{loaded}, {of_first}]")).await, json!([0, 0]));
    ada.click("#older-files").await;
    ada.browser.wait_for(&format!("{rows} === 35 && !document.getElementById('older-files')")).await;
    assert_eq!(ada.browser.evaluate(&format!("[{loaded}, {of_first}]")).await, json!([0, 1]));
    ada.picture("web-files-panel-all.png", 1_280, 800, "light").await;

    // Events of messages that are not loaded change the list too.
    server.ok(&user, "delete_message", json!({"message_id": sent[20]})).await;
    ada.browser.wait_for(&format!("{rows} === 34")).await;
    ada.click(&format!("#panel [data-file=\"{first}\"] a")).await;
    ada.sees("number 0.").await;

    // The search panel lists them too.
    ada.click("#show-search").await;
    ada.fill("#search", "has:file").await;
    ada.press("Enter", 13).await;
    ada.browser.wait_for("document.querySelectorAll('#results .found').length === 30").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_no_files_where_the_server_has_none() {
    let server = Server::start(2, &[("features.file_uploads", "false")]);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "plain").await;
    ada.say("no files here").await;
    ada.sees("no files here").await;
    let offered = "document.querySelector('#compose-attach:not([hidden]), #show-files:not([hidden])')";
    assert_eq!(ada.browser.evaluate(&format!("Boolean({offered})")).await, false);
    let paste = "(async () => {
        const clipboardData = await made.transfer([made.text('plan.txt', 10)]);
        const event = new ClipboardEvent('paste', {clipboardData, bubbles: true, cancelable: true});
        document.getElementById('compose').dispatchEvent(event);
    })()";
    ada.browser.evaluate(&format!("{MAKERS} {paste}")).await;
    ada.reads("#toasts", "Files can't be sent on this server").await;
    ada.has_no_complaints();
}
