//! Pictures, sound: smaller ones of them, and nothing in them that tells where or with what they were taken.
//!
//! How: the pictures are made here; what the server serves is decoded again by the same library, and searched for the
//! bytes that must be gone.

use crate::support::{Server, User};
use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, Frame, ImageEncoder as _, ImageFormat, Rgb, RgbImage, RgbaImage};
use serde_json::{Value, json};
use std::io::Cursor;

/// What a camera writes about itself.
const CAMERA: &[u8] = b"SECRETCAM-0042";

/// EXIF (TIFF 6.0, little-endian): an orientation, the camera, and a place.
fn exif(orientation: u16) -> Vec<u8> {
    let mut out = b"II*\0\x08\0\0\0".to_vec();
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    out.extend(3_u16.to_le_bytes());
    out.extend(entry(0x010f, 2, CAMERA.len() as u32, 68)); // Make
    out.extend(entry(0x0112, 3, 1, u32::from(orientation)));
    out.extend(entry(0x8825, 4, 1, 50)); // GPS
    out.extend(0_u32.to_le_bytes());
    out.extend(1_u16.to_le_bytes());
    out.extend(entry(1, 2, 2, u32::from(b'N')));
    out.extend(0_u32.to_le_bytes());
    assert_eq!(out.len(), 68);
    out.extend(CAMERA);
    out
}

/// Red on the left, blue on the right.
pub fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) })
}

pub fn jpeg(picture: &RgbImage, orientation: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut out, 90);
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder.write_image(picture, picture.width(), picture.height(), image::ExtendedColorType::Rgb8).unwrap();
    assert!(out.windows(CAMERA.len()).any(|bytes| bytes == CAMERA));
    out
}

async fn get(server: &Server, user: &User, path: &str) -> (u16, String, Vec<u8>) {
    let response = server.send(user, "GET", path, &[], vec![]).await;
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.bytes().await.unwrap().to_vec())
}

pub fn has_no_secrets(bytes: &[u8]) -> bool {
    !bytes.windows(CAMERA.len()).any(|part| part == CAMERA) && !bytes.windows(4).any(|part| part == b"Exif")
}

#[tokio::test]
async fn a_photo_is_served_turned_without_its_place_and_in_smaller_sizes() {
    let settings = [("features.file_uploads", "true"), ("files.keep_originals", "true")];
    let server = Server::start(1, &settings);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let original = jpeg(&photo(1_600, 900), 6);
    let (file, shown) = server.upload(&ann, &room, "photo.jpg", &original).await;
    assert_eq!((&shown["state"], &shown["width"], &shown["height"]), (&json!("ready"), &json!(900), &json!(1_600)));
    assert!(shown["blurhash"].as_str().is_some_and(|hash| hash.len() > 5), "{shown}");
    assert_eq!(shown["animated"], Value::Null);
    let sizes: Vec<(i64, i64)> = shown["variants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variant| (variant["width"].as_i64().unwrap(), variant["height"].as_i64().unwrap()))
        .collect();
    assert_eq!(sizes, [(180, 320), (720, 1_280)], "the smallest first");
    server.ok(&ann, "send_message", json!({"conversation_id": room, "attachments": [file]})).await;

    let (status, kind, content) = get(&server, &bob, &format!("/files/{file}/photo.jpg")).await;
    assert_eq!((status, kind.as_str()), (200, "image/jpeg"));
    assert!(has_no_secrets(&content));
    assert_eq!(shown["size"], content.len(), "the size is that of what is content");
    let decoded = image::load_from_memory(&content).unwrap().to_rgb8();
    assert_eq!(decoded.dimensions(), (900, 1_600));
    let (top, bottom) = (decoded.get_pixel(450, 100), decoded.get_pixel(450, 1_500));
    assert!(top[0] > 200 && bottom[2] > 200, "turned: {top:?} {bottom:?}");
    for (variant, width) in shown["variants"].as_array().unwrap().iter().zip([180, 720]) {
        let (status, kind, thumb) = get(&server, &bob, variant["url"].as_str().unwrap()).await;
        assert_eq!((status, kind.as_str()), (200, "image/webp"));
        assert!(has_no_secrets(&thumb));
        assert_eq!(image::load_from_memory_with_format(&thumb, ImageFormat::WebP).unwrap().width(), width);
    }
    let database = server.database().await;
    let counted = "SELECT bytes FROM file_usage WHERE user_id = 0";
    let bytes: i64 = database.query_one(counted, &[]).await.unwrap().get(0);
    assert!(bytes > (content.len() + original.len()) as i64, "variants count too: {bytes}");
    // The original is the uploader's alone.
    let path = format!("/files/{file}/variants/original");
    let (status, _, bytes) = get(&server, &ann, &path).await;
    assert!(status == 200 && bytes == original);
    assert_eq!(get(&server, &bob, &path).await.0, 404);
    assert_eq!(get(&server, &bob, &format!("/files/{file}/variants/nothing")).await.0, 404);
    // The link of a file is good for its variants, and everything goes with the message.
    let linked: Value =
        server.send(&bob, "POST", &format!("/files/{file}/link"), &[], vec![]).await.json().await.unwrap();
    let query = linked["url"].as_str().unwrap().split_once('?').unwrap().1.to_owned();
    let thumb = format!("{}{}?{query}", server.base_url, shown["variants"][0]["url"].as_str().unwrap());
    assert_eq!(reqwest::get(&thumb).await.unwrap().status(), 200);
    let page = server.ok(&ann, "get_history", json!({"conversation_id": room})).await;
    let message = page["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(message["attachments"][0]["variants"].as_array().unwrap().len(), 2);
    server.stores(4).await;
    server.ok(&ann, "delete_message", json!({"message_id": message["message_id"]})).await;
    assert_eq!(reqwest::get(&thumb).await.unwrap().status(), 404);
    server.stores(0).await;
    let left =
        "SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM file_variants) + (SELECT count(*) FROM blobs)";
    assert_eq!(database.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn upright_pictures_keep_their_pixels_and_animations_move() {
    let server = Server::start(1, &[("features.file_uploads", "true")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let upright = jpeg(&photo(400, 300), 1);
    let (file, shown) = server.upload(&ann, &room, "upright.jpg", &upright).await;
    assert_eq!(shown["width"], 400);
    let (_, _, content) = get(&server, &ann, &format!("/files/{file}/x")).await;
    assert!(has_no_secrets(&content) && content.len() < upright.len());
    assert_eq!(
        image::load_from_memory(&content).unwrap(),
        image::load_from_memory(&upright).unwrap(),
        "no pixel changed"
    );

    let mut moving = Vec::new();
    let mut encoder = GifEncoder::new(&mut moving);
    for shade in [0, 90, 180] {
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(400, 400, [shade, 0, 0, 255].into()))).unwrap();
    }
    drop(encoder);
    let (file, shown) = server.upload(&ann, &room, "moving.gif", &moving).await;
    assert_eq!((&shown["state"], &shown["animated"]), (&json!("ready"), &json!(true)), "{shown}");
    let (_, kind, content) = get(&server, &ann, &format!("/files/{file}/x")).await;
    let frames =
        image::AnimationDecoder::into_frames(image::codecs::gif::GifDecoder::new(Cursor::new(content)).unwrap());
    assert_eq!((kind.as_str(), frames.count()), ("image/gif", 3));

    let mut sound = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    sound.extend(8_000_u32.to_le_bytes());
    sound.extend(8_000_u32.to_le_bytes());
    sound.extend(b"\x01\0\x08\0data");
    sound.extend(20_000_u32.to_le_bytes());
    sound.extend(vec![128; 20_000]);
    let length = (sound.len() as u32 - 8).to_le_bytes();
    sound[4..8].copy_from_slice(&length);
    let (_, shown) = server.upload(&ann, &room, "sound.wav", &sound).await;
    assert_eq!((&shown["state"], &shown["duration"]), (&json!("ready"), &json!(2.5)), "{shown}");
}

#[tokio::test]
async fn a_picture_that_cannot_be_decoded_fails_alone() {
    let server = Server::start(1, &[("features.file_uploads", "true")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let whole = jpeg(&photo(400, 300), 1);
    let mut png = Cursor::new(Vec::new());
    DynamicImage::from(photo(300, 200)).write_to(&mut png, ImageFormat::Png).unwrap();
    let mut broken = png.get_ref().clone();
    let at = broken.len() / 2;
    broken[at] ^= 0xff;
    let (file, shown) = server.upload(&ann, &room, "broken.png", &broken).await;
    assert_eq!(shown["state"], "failed", "{shown}");
    assert!(shown["reason"].as_str().unwrap().contains("cannot be read"), "{shown}");
    assert_eq!(get(&server, &ann, &format!("/files/{file}/x")).await.0, 404);
    for (name, bytes) in [("whole.jpg", &whole), ("whole.png", png.get_ref())] {
        assert_eq!(server.upload(&ann, &room, name, bytes).await.1["state"], "ready", "{name}");
    }
}
