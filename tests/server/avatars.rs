//! Pictures of users: what was sent becomes one small picture without anything else, everybody sees it at its address,
//! and nothing is left of it after its removal.
//!
//! How: the pictures are made here and decoded again by the same library. The tables and the disk are looked at
//! afterwards.

use super::audit::entries_of;
use super::file_pictures::{has_no_secrets, jpeg, photo};
use crate::support::protocol::{Exchange, assert_answer};
use crate::support::{Client, Format, Raw, Server, User, wait_until};
use futures_util::{StreamExt as _, stream};
use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage, RgbaImage};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Cursor;

/// Bytes of the largest picture.
const SIZE_MAX: usize = 5_000_000;

impl Server {
    /// Sends a picture of a user.
    async fn put_avatar(&self, user: &User, media_type: &str, bytes: Vec<u8>) -> (u16, Value) {
        let fields = [("content-type", media_type)];
        let response = self.send(user, "PUT", "/users/me/avatar", &fields, bytes).await;
        answer_of("PUT", "/users/me/avatar", response).await
    }

    /// Sends a picture, which must be accepted. Returns its address.
    pub(super) async fn avatar(&self, user: &User, media_type: &str, bytes: Vec<u8>) -> String {
        let (status, profile) = self.put_avatar(user, media_type, bytes).await;
        assert_eq!(status, 200, "{profile}: {}", self.log_tail());
        assert_eq!(profile["id"], user.id);
        profile["avatar_url"].as_str().unwrap().to_owned()
    }

    /// The picture at an address, for anybody.
    async fn at(&self, url: &str) -> (u16, Vec<u8>) {
        let response = reqwest::get(format!("{}{url}", self.base_url)).await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    /// Nothing is left of any picture.
    async fn has_no_avatars(&self) {
        self.stores(0).await;
        let database = self.database().await;
        let left = "SELECT (SELECT count(*) FROM user_avatars) + (SELECT count(*) FROM blobs) \
                    + (SELECT count(*) FROM jobs) = 0";
        wait_until(&database, left).await;
    }
}

async fn answer_of(method: &str, target: &str, response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let bytes = response.bytes().await.unwrap();
    let content_type = kind.as_deref();
    assert_answer(&Exchange { method, target, sent: None, status, content_type, body: Some(&bytes) });
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn start() -> Server {
    Server::start(2, &[("features.file_uploads", "true")])
}

/// A PNG of one colour.
pub(super) fn png(colour: [u8; 3]) -> Vec<u8> {
    encoded(&RgbImage::from_pixel(400, 300, Rgb(colour)), ImageFormat::Png)
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture.clone()).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decoded(webp: &[u8]) -> RgbImage {
    image::load_from_memory_with_format(webp, ImageFormat::WebP).unwrap().to_rgb8()
}

#[tokio::test]
async fn a_photo_becomes_a_small_picture_that_everybody_sees_and_nothing_is_left_of_it() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut observer = Client::all(&server, &bob, Format::Json).await;
    let original = jpeg(&photo(1_600, 900), 6);
    let url = server.avatar(&ann, "image/jpeg", original.clone()).await;

    let (status, content) = server.at(&url).await;
    let shown = decoded(&content);
    assert_eq!((status, shown.dimensions()), (200, (180, 320)));
    let (top, bottom) = (shown.get_pixel(90, 20), shown.get_pixel(90, 300));
    assert!(top[0] > 200 && bottom[2] > 200, "turned: {top:?} {bottom:?}");
    assert!(has_no_secrets(&content) && !content.windows(4).any(|part| part == b"EXIF" || part == b"ICCP"));
    let stored: Vec<Vec<u8>> = server.stored_files().iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(stored, [content], "the original is not kept, nor anything else");

    // Others see it: in the profile, among the members, and as an event.
    let event = observer.event("member_updated").await;
    assert_eq!((&event["profile"]["avatar_url"], &event["user"]["id"]), (&json!(url), &json!(ann.id)));
    let (_, profile) = server.request(Method::GET, &format!("/users/{}", ann.id), Some(&bob.token), None).await;
    assert_eq!(profile["avatar_url"], json!(url));
    let listed = server.ok(&bob, "list_members", json!({"conversation_id": room})).await;
    assert!(listed["members"].as_array().unwrap().iter().any(|member| member["avatar_url"] == json!(url)));
    let database = server.database().await;
    let newest = async || entries_of(&database, ann.id).await.remove(0);
    let row = newest().await;
    let details = json!({"before": {"avatar_url": null}, "after": {"avatar_url": url}});
    assert_eq!((row.action.as_str(), row.details), ("update_profile", Some(details)));

    // Another picture has another address, and the former one is gone at once.
    let other = server.avatar(&ann, "image/png", png([0, 255, 0])).await;
    assert_ne!(other, url);
    assert_eq!((server.at(&url).await.0, server.at(&other).await.0), (404, 200));
    let event = observer.event("member_updated").await;
    assert_eq!(event["profile"]["avatar_url"], json!(other));
    server.stores(1).await;
    // The same picture again has another address too, and its content is there once.
    let again = server.avatar(&ann, "image/png", png([0, 255, 0])).await;
    assert_ne!(again, other);
    assert_eq!((server.at(&other).await.0, server.at(&again).await.0), (404, 200));
    server.stores(1).await;

    let response = server.send(&ann, "DELETE", "/users/me/avatar", &[], vec![]).await;
    let (status, profile) = answer_of("DELETE", "/users/me/avatar", response).await;
    assert_eq!((status, &profile["avatar_url"]), (200, &Value::Null));
    assert_eq!(server.at(&again).await.0, 404);
    let row = newest().await;
    assert_eq!((row.action.as_str(), &row.details.unwrap()["after"]["avatar_url"]), ("update_profile", &Value::Null));
    server.has_no_avatars().await;
}

#[tokio::test]
async fn another_address_in_the_profile_removes_the_picture_and_nobody_takes_that_of_another_user() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let edit = async |user: &User, url: Value| {
        server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&json!({"avatar_url": url}))).await
    };
    let url = server.avatar(&ann, "image/png", png([9, 9, 9])).await;
    let kept = edit(&ann, json!(url)).await;
    assert_eq!((kept.0, &kept.1["avatar_url"]), (200, &json!(url)), "a client may send it back");
    assert_eq!(server.at(&url).await.0, 200);
    for wrong in [url.as_str(), "/avatars/x", "/avatars/../users/me"] {
        assert_eq!(edit(&bob, json!(wrong)).await.0, 400, "{wrong}");
    }
    for other in [json!("https://example.org/a.png"), Value::Null] {
        let url = server.avatar(&ann, "image/png", png([9, 9, 9])).await;
        let changed = edit(&ann, other.clone()).await;
        assert_eq!((changed.0, &changed.1["avatar_url"]), (200, &other));
        assert_eq!(server.at(&url).await.0, 404);
        server.has_no_avatars().await;
    }
}

#[tokio::test]
async fn is_served_to_anybody_as_a_picture_that_browsers_keep() {
    let server = start();
    let ann = server.register().await;
    let url = server.avatar(&ann, "image/png", png([200, 0, 200])).await;
    let name = url.strip_prefix("/avatars/").and_then(|name| name.strip_suffix(".webp")).unwrap();
    assert!(name.len() == 22 && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)), "{url}");
    let client = reqwest::Client::new();
    let address = format!("{}{url}", server.base_url);
    let read = client.get(&address).send().await.unwrap();
    let field = |name: &str| read.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((read.status().as_u16(), field("content-type").as_str()), (200, "image/webp"));
    assert_eq!(field("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(field("x-content-type-options"), "nosniff");
    assert!(field("content-security-policy").contains("sandbox"));
    let (tag, length) = (field("etag"), field("content-length"));
    let head = client.head(&address).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, length.as_str()));
    assert!(head.bytes().await.unwrap().is_empty());
    let known = client.get(&address).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    let unknown = "A".repeat(22);
    for wrong in
        [&format!("/avatars/{unknown}.webp"), &format!("/avatars/{name}"), "/avatars/x.webp", "/avatars/%00.webp"]
    {
        let response = reqwest::get(format!("{}{wrong}", server.base_url)).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cache-control"]),
            (404, &"no-store".parse().unwrap())
        );
        assert_eq!(answer_of("GET", "/avatars/x.webp", response).await.1["code"], "not_found", "{wrong}");
    }
    // A flood from one network is refused, and its users can still do other things.
    let floods =
        stream::iter(0..20_000).map(|_| client.get(format!("{}/avatars/{unknown}.webp", server.base_url)).send());
    let mut floods = floods.buffer_unordered(8);
    let refused = loop {
        let response = floods.next().await.expect("the flood is never refused").unwrap();
        if response.status() != 404 {
            break answer_of("GET", "/avatars/x.webp", response).await;
        }
    };
    assert_eq!((refused.0, &refused.1["details"]["limiter"]), (429, &json!("avatar_reads")));
    assert_eq!(server.request(Method::GET, "/users/me", Some(&ann.token), None).await.0, 200);
}

#[tokio::test]
async fn accepts_every_kind_of_picture_also_a_tiny_one_and_one_that_moves() {
    let server = start();
    let picture = photo(600, 200);
    let mut moving = Vec::new();
    let mut encoder = GifEncoder::new(&mut moving);
    for shade in [250, 90, 180] {
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(64, 64, [shade, 0, 0, 255].into()))).unwrap();
    }
    drop(encoder);
    for (kind, bytes, expected) in [
        ("image/png", encoded(&picture, ImageFormat::Png), (320, 107)),
        ("image/webp", encoded(&picture, ImageFormat::WebP), (320, 107)),
        ("image/jpeg", encoded(&picture, ImageFormat::Jpeg), (320, 107)),
        ("Image/PNG; x=y", encoded(&photo(2, 1), ImageFormat::Png), (2, 1)),
        ("image/gif", moving, (64, 64)),
    ] {
        let ann = server.register().await;
        let url = server.avatar(&ann, kind, bytes).await;
        let shown = decoded(&server.at(&url).await.1);
        assert_eq!(shown.dimensions(), expected, "{kind}");
        assert!(kind != "image/gif" || shown.get_pixel(9, 9)[0] > 230, "the first frame");
    }
}

/// A PNG that claims to have this many pixels.
fn bomb(side: u32) -> Vec<u8> {
    let mut bytes = png([0; 3]);
    bytes[16..20].copy_from_slice(&side.to_be_bytes());
    bytes[20..24].copy_from_slice(&side.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    bytes
}

#[tokio::test]
async fn refuses_what_is_no_picture_and_keeps_the_former_one() {
    let server = start();
    let whole = png([1, 2, 3]);
    let mut damaged = encoded(&photo(300, 200), ImageFormat::Png);
    let at = damaged.len() / 2;
    damaged[at] ^= 0xff;
    let mut padded = whole.clone();
    padded.resize(SIZE_MAX + 1, 0);
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>".to_vec();
    let mut page = b"GIF89a".to_vec();
    page.extend(b"<script>alert(1)</script>");
    let cases: [(&str, Vec<u8>, u16, &str); 16] = [
        ("image/png", vec![], 400, "empty"),
        ("image/png", b"hello".to_vec(), 400, "text/plain"),
        ("image/jpeg", whole.clone(), 400, "image/png"),
        ("image/png", jpeg(&photo(40, 30), 1), 400, "image/jpeg"),
        ("image/svg+xml", svg.clone(), 400, "Content-Type"),
        ("image/png", svg, 400, "text/plain"),
        ("text/html", whole.clone(), 400, "Content-Type"),
        ("", whole.clone(), 400, "Content-Type"),
        ("application/octet-stream", whole.clone(), 400, "Content-Type"),
        ("image/gif", page, 413, "pixels"),
        ("image/png", damaged, 400, "cannot be read"),
        ("image/png", whole[..200].to_vec(), 400, "cannot be read"),
        ("image/png", bomb(60_000), 413, "60000"),
        ("image/png", bomb(9_999), 400, "cannot be read"),
        ("image/png", padded.clone(), 413, "at most 5000000"),
        ("image/png", vec![0; SIZE_MAX + 2_000_000], 413, "at most 5000000"),
    ];
    for (n, (kind, bytes, status, reason)) in cases.into_iter().enumerate() {
        let ann = server.register().await;
        let url = server.avatar(&ann, "image/png", whole.clone()).await;
        let (found, problem) = server.put_avatar(&ann, kind, bytes).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(found == status && detail.contains(reason), "case {n}, {kind}: {found} {problem}");
        assert_eq!(server.at(&url).await.0, 200);
        server.stores(1).await;
    }
    padded.truncate(SIZE_MAX);
    let ann = server.register().await;
    server.avatar(&ann, "image/png", padded).await;
    // A body that is far too large is not read at all, and one of unknown length ends in time.
    let head = |fields: &str| {
        let token = &ann.token;
        format!(
            "PUT /users/me/avatar HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\
             content-type: image/png\r\n{fields}\r\n\r\n"
        )
    };
    let mut large = Raw::connect(&server).await;
    large.write(head("content-length: 90000000").as_bytes()).await.unwrap();
    assert!(large.head().await.starts_with("HTTP/1.1 413"));
    let mut endless = Raw::connect(&server).await;
    endless.write(head("transfer-encoding: chunked").as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![7; 0x10000], b"\r\n"].concat();
    for _ in 0..SIZE_MAX * 2 / 0x10000 {
        let _ = endless.write(&chunk).await; // the server may have answered and closed by then
    }
    assert!(endless.head().await.starts_with("HTTP/1.1 413"));
    let nobody = reqwest::Client::new().put(format!("{}/users/me/avatar", server.base_url)).body(whole);
    assert_eq!(nobody.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn pictures_count_as_edits_of_the_profile() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let edit = json!({"bio": "new"});
    for n in 0..3 {
        server.avatar(&ann, "image/png", png([n, 0, 0])).await;
        assert_eq!(server.put_avatar(&ann, "image/png", vec![7; 9]).await.0, 400, "what is refused counts too");
        assert_eq!(server.send(&ann, "DELETE", "/users/me/avatar", &[], vec![]).await.status(), 200);
    }
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&edit)).await.0, 200);
    let mut last = (0, Value::Null);
    for n in 0..5 {
        last = server.put_avatar(&ann, "image/png", png([n, n, 0])).await;
        if last.0 != 200 {
            break;
        }
    }
    assert_eq!((last.0, &last.1["details"]["limiter"]), (429, &json!("profile_edits")), "{}", last.1);
    server.avatar(&bob, "image/png", png([1, 1, 1])).await;
    let off = Server::start(1, &[("features.file_uploads", "false")]);
    let ann = off.register().await;
    let refused = off.put_avatar(&ann, "image/png", png([0, 0, 0])).await;
    assert_eq!((refused.0, &refused.1["code"]), (403, &json!("forbidden")));
}

#[tokio::test]
async fn users_with_the_same_picture_share_its_content_and_the_check_of_files_knows_it() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let first = server.avatar(&ann, "image/png", png([5, 6, 7])).await;
    let second = server.avatar(&bob, "image/png", png([5, 6, 7])).await;
    server.stores(1).await;
    let check = |options: &[&str]| {
        let output = server.run(&[&["files", "check"], options].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&["--deep", "--repair"]);
    assert!(code == Some(0) && text.contains("1 contents of") && text.contains(": 0 findings"), "{text}");
    assert_eq!(server.send(&ann, "DELETE", "/users/me/avatar", &[], vec![]).await.status(), 200);
    let database = server.database().await;
    wait_until(&database, "SELECT count(*) = 0 FROM jobs").await;
    assert_eq!((server.at(&first).await.0, server.at(&second).await.0), (404, 200));
    let content = server.stored_files().pop().unwrap();
    std::fs::remove_file(&content).unwrap();
    let (code, text) = check(&[]);
    assert!(code == Some(1) && text.contains(&format!("is missing. Pictures of users: {}.", bob.id)), "{text}");
    assert_eq!(server.at(&second).await.0, 500, "the server says that it has lost it");
}

/// What a crash leaves: content that was named, and perhaps stored, for a picture that nobody has.
#[tokio::test]
async fn content_that_nobody_adopts_is_released() {
    let server = start();
    let ann = server.register().await;
    let database = server.database().await;
    let named = "SELECT reserve_content(sha256('x'), 1)";
    let number: i64 = database.query_one(named, &[]).await.unwrap().get(0);
    let adopt = "SELECT adopt_avatar($1, '/avatars/x.webp', sha256('x'), $2)";
    let released: bool = database.query_one(adopt, &[&ann.id, &(number + 1)]).await.unwrap().get(0);
    assert!(!released, "content of another number is another content");
    assert_eq!(database.execute("UPDATE jobs SET next_at = now() WHERE next_at > now()", &[]).await.unwrap(), 1);
    server.has_no_avatars().await;
}

#[tokio::test]
async fn pictures_at_the_same_time_leave_one() {
    let server = start();
    let ann = server.register().await;
    let puts = (0..8).map(|n| server.put_avatar(&ann, "image/png", png([n * 20, 0, 0])));
    let answers = futures_util::future::join_all(puts).await;
    let accepted = answers.iter().filter(|(status, _)| *status == 200).count();
    assert!(accepted > 0 && answers.iter().all(|(status, _)| [200, 429].contains(status)), "{answers:?}");
    let (_, profile) = server.request(Method::GET, "/users/me", Some(&ann.token), None).await;
    assert_eq!(server.at(profile["avatar_url"].as_str().unwrap()).await.0, 200);
    server.stores(1).await;
}
