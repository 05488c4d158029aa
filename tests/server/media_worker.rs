//! Pictures are examined in a process of its own: a decoder that needs too much ends with it, and fails one file.
//!
//! How: the server's side starts the real program with files that the tests make.

use chat_server::control::media_worker::{Examination, Unexaminable, WorkerEnd, examine};
use chat_server::files::media::MediaReport;
use image::{ImageFormat, ImageReader, Rgb, RgbImage};
use std::io::{Cursor, Write as _};
use std::path::Path;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chat-server");

async fn examined(content: &[u8], media_type: &str, folder: &Path) -> Result<MediaReport, Unexaminable> {
    let mut upload = tempfile::tempfile().unwrap();
    upload.write_all(content).unwrap();
    examine(Path::new(PROGRAM), upload, media_type, folder, Examination::File).await
}

fn jpeg() -> Vec<u8> {
    let image = RgbImage::from_fn(900, 600, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, 90]));
    let mut content = Cursor::new(Vec::new());
    image.write_to(&mut content, ImageFormat::Jpeg).unwrap();
    content.into_inner()
}

/// A progressive JPEG of this size for print, in a few bytes. Its decoder keeps the coefficients of four inks.
fn progressive_jpeg(width: u16, height: u16) -> Vec<u8> {
    let segment =
        |marker: u8, body: &[u8]| [&[0xff, marker][..], &(body.len() as u16 + 2).to_be_bytes(), body].concat();
    let size = [&[8][..], &height.to_be_bytes(), &width.to_be_bytes()].concat();
    let table = |class_and_id: u8| [&[class_and_id, 1][..], &[0; 15], &[0]].concat();
    [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(0xc2, &[&size[..], &[4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0]].concat()),
        segment(0xc4, &[table(0x00), table(0x10)].concat()),
        segment(0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 0, 0]),
        vec![0; 64],
        vec![0xff, 0xd9],
    ]
    .concat()
}

#[tokio::test]
async fn a_picture_is_examined_in_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let report = examined(&jpeg(), "image/jpeg", folder.path()).await.unwrap();
    assert_eq!((report.width, report.height, report.served), (Some(900), Some(600), None));
    let sizes: Vec<_> = report.variants.iter().map(|variant| (variant.width, variant.height)).collect();
    assert_eq!(sizes, [(320, 213), (900, 600)]);
    for variant in report.variants {
        let thumb = ImageReader::open(folder.path().join(variant.file)).unwrap().with_guessed_format().unwrap();
        assert_eq!(thumb.format(), Some(ImageFormat::WebP));
        assert_eq!(thumb.into_dimensions().unwrap(), (variant.width, variant.height));
    }
    let length = examined(b"not sound", "audio/mpeg", folder.path()).await.unwrap();
    assert_eq!(length, MediaReport::default());
}

#[tokio::test]
async fn a_decoder_that_needs_too_much_memory_fails_its_file_only() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = progressive_jpeg(10_000, 10_000);
    assert!(bomb.len() < 1_000);
    match examined(&bomb, "image/jpeg", folder.path()).await {
        Err(Unexaminable::File { ended: WorkerEnd::Signal(signal), reason }) => {
            assert_eq!(signal, nix::sys::signal::Signal::SIGABRT as i32, "{reason}");
            assert!(reason.contains("memory allocation"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    examined(&jpeg(), "image/jpeg", folder.path()).await.expect("the next file is examined");
}

#[tokio::test]
async fn a_damaged_picture_is_refused_with_a_reason_and_a_missing_folder_is_not_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    match examined(b"\x89PNG\r\n\x1a\nnothing", "image/png", folder.path()).await {
        Err(Unexaminable::File { ended: WorkerEnd::Exited(1), reason }) => {
            assert!(reason.contains("cannot be read"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let gone = folder.path().join("gone");
    let failed = examined(&jpeg(), "image/jpeg", &gone).await;
    assert!(matches!(failed, Err(Unexaminable::Machine(_))), "{failed:?}");
}
