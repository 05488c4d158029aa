//! Whole examinations of pictures and sound that the tests make.
//!
//! How: the `image` crate encodes pictures, and the tests insert metadata as cameras and strangers do.

use super::strip::Container;
use super::{ExaminationError, MediaReport, VariantKind, examine};
use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, Frame, ImageEncoder, ImageReader, Rgb, RgbImage, RgbaImage};
use moxcms::ColorProfile;
use proptest::prelude::*;
use std::fs::File;
use std::io::{Cursor, Write as _};
use tempfile::TempDir;

/// What no reader may receive.
const SECRET: &[u8] = b"52.5200N-SERIAL4711";
const RED: Rgb<u8> = Rgb([220, 20, 20]);
const BLUE: Rgb<u8> = Rgb([20, 20, 220]);

/// An examination with its folder.
struct Examined {
    report: MediaReport,
    folder: TempDir,
}

impl Examined {
    fn bytes(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(file)).unwrap()
    }

    fn served(&self) -> Vec<u8> {
        self.bytes(&self.report.served.as_ref().expect("a served copy").file)
    }

    /// The bytes of everything that it wrote.
    fn everything(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    fn kinds(&self) -> Vec<VariantKind> {
        self.report.variants.iter().map(|variant| variant.kind).collect()
    }
}

fn examined(content: &[u8], media_type: &str) -> Result<Examined, ExaminationError> {
    let folder = tempfile::tempdir().unwrap();
    let mut upload = tempfile::tempfile().unwrap();
    upload.write_all(content).unwrap();
    let report = examine(upload, media_type, folder.path())?;
    assert!(report.names_own_files() && serde_json::to_vec(&report).unwrap().len() < 2_000, "{report:?}");
    Ok(Examined { report, folder })
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

fn decoded(content: &[u8]) -> RgbImage {
    ImageReader::new(Cursor::new(content)).with_guessed_format().unwrap().decode().unwrap().to_rgb8()
}

fn is_near(seen: Rgb<u8>, expected: Rgb<u8>) -> bool {
    seen.0.iter().zip(expected.0).all(|(seen, expected)| seen.abs_diff(expected) < 40)
}

/// Left half red, right half blue.
fn two_halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { RED } else { BLUE })
}

/// Pixels that no encoder compresses well.
fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |_, _| {
        Rgb([0; 3].map(|_: u8| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    })
}

/// EXIF (TIFF, little-endian) with an orientation, a place and a serial number.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let directory = |entries: &[Vec<u8>]| {
        [&(entries.len() as u16).to_le_bytes()[..], &entries.concat(), &0_u32.to_le_bytes()].concat()
    };
    let first = directory(&[
        entry(0x0112, 3, 1, u32::from(orientation)),
        entry(0x8825, 4, 1, 50),
        entry(0xa431, 2, SECRET.len() as u32, 68),
    ]);
    assert_eq!(first.len(), 42);
    let places = directory(&[entry(0x0001, 2, 2, u32::from(b'N'))]);
    [b"II*\0\x08\0\0\0", &first[..], &places, SECRET].concat()
}

fn jpeg(image: &RgbImage, profile: Option<Vec<u8>>) -> Vec<u8> {
    let mut content = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut content, 90);
    if let Some(profile) = profile {
        encoder.set_icc_profile(profile).unwrap();
    }
    image.write_with_encoder(encoder).unwrap();
    content
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(body.len() as u16 + 2).to_be_bytes(), body].concat()
}

/// A JPEG with EXIF, XMP, IPTC and a comment, and a preview after its end.
fn camera_jpeg(image: &RgbImage, orientation: u8, profile: Option<Vec<u8>>) -> Vec<u8> {
    let plain = jpeg(image, profile);
    let texts = [
        segment(0xe1, &[b"Exif\0\0", &exif(orientation)[..]].concat()),
        segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", SECRET].concat()),
        segment(0xed, &[b"Photoshop 3.0\08BIM", SECRET].concat()),
        segment(0xfe, SECRET),
    ];
    [&plain[..2], &texts.concat(), &plain[2..], b"\xff\xd8\xff\xe1 the preview", SECRET].concat()
}

fn png(image: &DynamicImage, profile: Option<Vec<u8>>) -> Vec<u8> {
    let mut content = Vec::new();
    let mut encoder = PngEncoder::new(&mut content);
    if let Some(profile) = profile {
        encoder.set_icc_profile(profile).unwrap();
    }
    image.write_with_encoder(encoder).unwrap();
    content
}

fn chunk(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind.as_bytes());
    sum.update(body);
    [&(body.len() as u32).to_be_bytes()[..], kind.as_bytes(), body, &sum.sum().to_be_bytes()].concat()
}

/// A PNG with these chunks after its header.
fn png_with(plain: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    [&plain[..33], &chunks.concat(), &plain[33..]].concat()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gif(frames: usize) -> Vec<u8> {
    let mut content = Vec::new();
    let mut encoder = GifEncoder::new(&mut content);
    encoder.set_repeat(image::codecs::gif::Repeat::Infinite).unwrap();
    for frame in 0..frames {
        let image = DynamicImage::from(two_halves(40 + 2, 30)).to_rgba8();
        let image = RgbaImage::from_fn(42, 30, |x, y| *image.get_pixel((x + 7 * frame as u32) % 42, y));
        encoder.encode_frame(Frame::new(image)).unwrap();
    }
    drop(encoder);
    content
}

fn riff(kind: &str, body: &[u8]) -> Vec<u8> {
    let padding: &[u8] = if body.len() % 2 == 1 { &[0] } else { &[] };
    [kind.as_bytes(), &(body.len() as u32).to_le_bytes()[..], body, padding].concat()
}

fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
    riff("RIFF", &[b"WEBP", &chunks.concat()[..]].concat())
}

/// The chunk of pixels of a lossless WebP.
fn webp_pixels(image: &RgbImage) -> Vec<u8> {
    let mut content = Vec::new();
    image.write_with_encoder(WebPEncoder::new_lossless(&mut content)).unwrap();
    content[12..].to_vec()
}

/// The header of a WebP of these features.
fn webp_head(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let (width, height) = ((width - 1).to_le_bytes(), (height - 1).to_le_bytes());
    riff("VP8X", &[&[flags, 0, 0, 0][..], &width[..3], &height[..3]].concat())
}

fn moving_webp(frames: usize) -> Vec<u8> {
    let pixels = webp_pixels(&two_halves(40, 30));
    let head = [0, 0, 0, 0, 0, 0, 39, 0, 0, 29, 0, 0, 100, 0, 0, 0];
    let frame = riff("ANMF", &[&head[..], &pixels, &riff("SECR", SECRET)].concat());
    let mut chunks = vec![webp_head(0x02 | 0x08 | 0x04, 40, 30), riff("ANIM", &[0; 6])];
    chunks.extend(vec![frame; frames]);
    chunks.extend([riff("EXIF", &exif(1)), riff("XMP ", SECRET)]);
    webp(&chunks)
}

fn wav(seconds: u32) -> Vec<u8> {
    let rate = 8_000_u32;
    let format = [&1_u16.to_le_bytes()[..], &1_u16.to_le_bytes(), &rate.to_le_bytes(), &rate.to_le_bytes()].concat();
    let format = [&format[..], &1_u16.to_le_bytes(), &8_u16.to_le_bytes()].concat();
    let samples = vec![0x80; (seconds * rate + rate / 4) as usize];
    riff("RIFF", &[b"WAVE", &riff("fmt ", &format)[..], &riff("data", &samples)].concat())
}

#[test]
fn a_turned_jpeg_is_served_upright_without_its_metadata_and_with_its_colours() {
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let upload = camera_jpeg(&two_halves(640, 480), 6, Some(profile.clone()));
    assert!(contains(&upload, SECRET) && contains(&upload, b"Exif"));
    let examined = examined(&upload, "image/jpeg").unwrap();
    assert_eq!((examined.report.width, examined.report.height), (Some(480), Some(640)));
    assert_eq!(examined.report.served.as_ref().unwrap().media_type, "image/jpeg");
    let everything = examined.everything();
    for part in [SECRET, b"Exif", b"http://ns", b"Photoshop"] {
        assert!(!contains(&everything, part), "{}", String::from_utf8_lossy(part));
    }
    let served = examined.served();
    assert!(contains(&served, &profile), "the served copy has its profile");
    assert_eq!(examined.kinds(), VariantKind::ALL);
    // Turned by 90 degrees, the left half is above. The same red is a stronger one in sRGB.
    let thumbs = examined.report.variants.iter().map(|variant| examined.bytes(&variant.file));
    for image in std::iter::once(served.clone()).chain(thumbs).map(|content| decoded(&content)) {
        let (width, height) = image.dimensions();
        assert_eq!(height * 3 / 4, width, "{width} × {height}");
        assert!(is_near(*image.get_pixel(width / 2, height / 8), RED));
        assert!(is_near(*image.get_pixel(width / 2, height * 7 / 8), BLUE));
    }
    assert_eq!(examined.report.variants[0].height, 320);
    assert!(examined.report.blurhash.as_ref().unwrap().len() >= 20);
}

#[test]
fn every_orientation_is_applied() {
    // Where the left upper corner of the stored picture is seen: right?, below?
    for (orientation, right, below) in [(1, false, false), (2, true, false), (3, true, true), (4, false, true)]
        .into_iter()
        .chain([(5, false, false), (6, true, false), (7, true, true), (8, false, true)])
    {
        let mut image = two_halves(64, 48);
        image.fill(255);
        (0..24).for_each(|y| (0..32).for_each(|x| image.put_pixel(x, y, RED)));
        for container in [Container::Jpeg, Container::Png, Container::WebP] {
            let upload = match container {
                Container::Jpeg => camera_jpeg(&image, orientation, None),
                Container::Png => png_with(&png(&image.clone().into(), None), &[chunk("eXIf", &exif(orientation))]),
                _ => webp(&[webp_head(8, 64, 48), webp_pixels(&image), riff("EXIF", &exif(orientation))]),
            };
            let examined = examined(&upload, container.media_type()).unwrap();
            let served = decoded(&examined.served());
            assert!(!contains(&examined.everything(), SECRET));
            let (width, height) = served.dimensions();
            assert_eq!(
                (width, height),
                if orientation > 4 { (48, 64) } else { (64, 48) },
                "{container:?} {orientation}"
            );
            let corner = |right: bool, below: bool| {
                *served.get_pixel(if right { width - 4 } else { 4 }, if below { height - 4 } else { 4 })
            };
            for (x, y) in [(false, false), (true, false), (false, true), (true, true)] {
                let is_red = is_near(corner(x, y), RED);
                assert_eq!(is_red, (x, y) == (right, below), "{container:?} {orientation} {x} {y}");
            }
        }
    }
}

#[test]
fn an_upright_picture_loses_its_metadata_and_keeps_its_pixels() {
    let image = two_halves(64, 48);
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let upload = camera_jpeg(&image, 1, Some(profile.clone()));
    let served = examined(&upload, "image/jpeg").unwrap().served();
    assert_eq!(served, jpeg(&image, Some(profile.clone())), "nothing was encoded again");

    let plain = png(&image.clone().into(), Some(profile));
    let texts = [
        chunk("tEXt", &[b"Comment\0", SECRET].concat()),
        chunk("zTXt", &[b"Raw profile type exif\0\0", &deflated(SECRET)[..]].concat()),
        chunk("iTXt", &[b"XML:com.adobe.xmp\0\0\0\0\0", SECRET].concat()),
        chunk("tIME", &[7, 234, 11, 29, 1, 2, 3]),
        chunk("eXIf", &exif(1)),
        chunk("prVt", SECRET),
    ];
    let upload = [&png_with(&plain, &texts)[..], b"after the end", SECRET].concat();
    assert_eq!(examined(&upload, "image/png").unwrap().served(), plain);

    let parts = [webp_head(8 | 4, 64, 48), webp_pixels(&image), riff("EXIF", &exif(1)), riff("XMP ", SECRET)];
    let upload = [&webp(&parts)[..], SECRET].concat();
    let expected = webp(&[webp_head(0, 64, 48), webp_pixels(&image)]);
    assert_eq!(examined(&upload, "image/webp").unwrap().served(), expected);
}

#[test]
fn a_picture_without_metadata_is_served_as_it_came() {
    let image = two_halves(64, 48);
    let bmp = {
        let mut content = Cursor::new(Vec::new());
        image.write_to(&mut content, image::ImageFormat::Bmp).unwrap();
        content.into_inner()
    };
    let lossless = webp(&[webp_pixels(&image)]);
    for (content, media_type) in [
        (jpeg(&image, None), "image/jpeg"),
        (png(&image.clone().into(), None), "image/png"),
        (lossless, "image/webp"),
        (gif(2), "image/gif"),
        (bmp, "image/bmp"),
    ] {
        let examined = examined(&content, media_type).unwrap();
        assert_eq!(examined.report.served, None, "{media_type}");
        assert!(examined.report.width.is_some() && examined.report.blurhash.is_some(), "{media_type}");
    }
}

#[test]
fn animations_keep_moving() {
    let upload = gif(3);
    // Every block before the first frame: a comment, XMP with its trailer, and an unknown application's.
    let sub_block = [&[SECRET.len() as u8][..], SECRET, &[0]].concat();
    let application = |name: &[u8]| [&[0x21, 0xff, 11][..], name, &sub_block].concat();
    let texts = [[&[0x21, 0xfe][..], &sub_block].concat(), application(b"XMP DataXMP"), application(b"SECRETSTUFF")];
    let start = 13 + if upload[10] & 0x80 == 0 { 0 } else { 3 << ((upload[10] & 7) + 1) };
    let with_texts = [&upload[..start], &texts.concat(), &upload[start..], SECRET].concat();
    let examined_gif = examined(&with_texts, "image/gif").unwrap();
    assert!(examined_gif.report.animated);
    assert_eq!(examined_gif.served(), upload, "frames, timing and repetitions are the same");
    assert!(!examined(&gif(1), "image/gif").unwrap().report.animated);

    let examined_webp = examined(&moving_webp(2), "image/webp").unwrap();
    assert!(examined_webp.report.animated);
    let served = examined_webp.served();
    let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(&served)).unwrap();
    assert_eq!(image::AnimationDecoder::into_frames(decoder).count(), 2);
    assert!(!contains(&examined_webp.everything(), SECRET));
    assert!(!examined(&moving_webp(1), "image/webp").unwrap().report.animated);

    let plain = png(&two_halves(64, 48).into(), None);
    let frames = |count: u32| chunk("acTL", &[count.to_be_bytes(), [0; 4]].concat());
    let control = [[0, 0, 0, 0], [0, 0, 0, 64], [0, 0, 0, 48], [0; 4], [0; 4], [0, 1, 0, 10]].concat();
    let control = chunk("fcTL", &[&control[..], &[0, 0]].concat());
    let moving = png_with(&plain, &[frames(2), control.clone(), chunk("eXIf", &exif(6))]);
    let examined_png = examined(&moving, "image/png").unwrap();
    assert!(examined_png.report.animated);
    assert_eq!(examined_png.served(), png_with(&plain, &[frames(2), control.clone()]), "not encoded again");
    assert!(!examined(&png_with(&plain, &[frames(1), control]), "image/png").unwrap().report.animated);
}

#[test]
fn thumbnails_fit_their_boxes_and_are_never_larger_than_the_picture() {
    for (width, height, expected) in [
        (4000, 1000, &[(320, 80), (1280, 320)][..]),
        (700, 1400, &[(160, 320), (640, 1280)]),
        (321, 300, &[(320, 299), (321, 300)]),
        (320, 200, &[(320, 200)]),
        (1, 2000, &[(1, 320), (1, 1280)]),
        // It would have as many pixels, and more bytes.
        (3, 3, &[]),
    ] {
        let upload = png(&noise(width, height).into(), None);
        let examined = examined(&upload, "image/png").unwrap();
        let sizes: Vec<_> = examined.report.variants.iter().map(|variant| (variant.width, variant.height)).collect();
        assert_eq!(sizes, expected, "{width} × {height}");
        for variant in &examined.report.variants {
            assert_eq!(decoded(&examined.bytes(&variant.file)).dimensions(), (variant.width, variant.height));
        }
    }
}

#[test]
fn thumbnails_stay_transparent_and_have_the_colours_of_the_profile() {
    let mut image = RgbaImage::new(400, 400);
    (0..400).for_each(|y| (0..200).for_each(|x| image.put_pixel(x, y, image::Rgba([100, 180, 100, 255]))));
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let green = |upload: &[u8]| {
        let examined = examined(upload, "image/png").unwrap();
        let thumb = image::load_from_memory(&examined.bytes(&examined.report.variants[0].file)).unwrap().to_rgba8();
        assert_eq!((thumb.get_pixel(80, 160).0[3], thumb.get_pixel(300, 160).0[3]), (255, 0));
        i32::from(thumb.get_pixel(80, 160).0[0])
    };
    let (plain, wide) = (green(&png(&image.clone().into(), None)), green(&png(&image.into(), Some(profile))));
    assert!(plain - wide > 15, "a green of Display P3 has less red in sRGB: {plain} {wide}");
}

#[test]
fn bombs_end_within_the_limits() {
    let black = png(&DynamicImage::new_luma8(30_000, 3_000), None);
    assert!(black.len() < 90_000_000 / 50, "{}", black.len());
    let report = examined(&black, "image/png").unwrap().report;
    assert_eq!((report.width, report.height, report.variants.len()), (Some(30_000), Some(3_000), 2));

    let huge = |width: u32, height: u32| {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[16, 6, 0, 0, 0]].concat();
        let parts = [chunk("IHDR", &header), chunk("IDAT", &deflated(&[0; 1000])), chunk("IEND", &[])];
        [b"\x89PNG\r\n\x1a\n", &parts.concat()[..]].concat()
    };
    let mut screen = gif(1);
    screen[6..10].fill(0xff);
    for (content, media_type) in [
        (huge(100_000, 100_000), "image/png"),
        (huge(30_000, 30_000), "image/png"),
        (huge(10_000, 9_000), "image/png"),
        (screen, "image/gif"),
    ] {
        let refused = examined(&content, media_type).err().expect("a bomb is refused");
        assert!(
            matches!(&refused, ExaminationError::File(reason) if reason.contains("more than 512 MiB")),
            "{refused}"
        );
    }
}

#[test]
fn compressed_texts_and_profiles_of_a_picture_are_bombs_for_nobody() {
    let plain = png(&two_halves(64, 48).into(), None);
    let bomb = deflated(&vec![0; 64 << 20]);
    let chunks = [
        chunk("iCCP", &[b"profile\0\0", &bomb[..]].concat()),
        chunk("zTXt", &[b"text\0\0", &bomb[..]].concat()),
        chunk("iTXt", &[b"text\0\x01\0\0\0", &bomb[..]].concat()),
    ];
    let examined = examined(&png_with(&plain, &chunks), "image/png").unwrap();
    assert_eq!(examined.served(), plain);
}

#[test]
fn reads_the_length_of_sound() {
    let report = examined(&wav(3), "audio/x-wav").unwrap().report;
    assert_eq!(report, MediaReport { duration_s: Some(3.25), ..MediaReport::default() });
    for not_sound in [&b"RIFF"[..], b"", b"\xff\xfbnoise"] {
        assert_eq!(examined(not_sound, "audio/mpeg").unwrap().report, MediaReport::default());
    }
}

/// One picture or sound of each kind, with its type.
fn samples() -> Vec<(Vec<u8>, &'static str)> {
    let image = two_halves(40, 30);
    vec![
        (camera_jpeg(&image, 6, Some(ColorProfile::new_display_p3().encode().unwrap())), "image/jpeg"),
        (png_with(&png(&image.clone().into(), None), &[chunk("eXIf", &exif(6))]), "image/png"),
        (gif(2), "image/gif"),
        (moving_webp(2), "image/webp"),
        (webp(&[webp_head(8, 40, 30), webp_pixels(&image), riff("EXIF", &exif(6))]), "image/webp"),
        (wav(0), "audio/x-wav"),
    ]
}

#[test]
fn no_file_that_was_cut_off_is_a_fault() {
    for (content, media_type) in samples() {
        for end in (0..content.len()).step_by(content.len() / 150 + 1) {
            if let Ok(examined) = examined(&content[..end], media_type) {
                assert!(!contains(&examined.everything(), SECRET), "{media_type} cut at {end}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_damaged_file_is_a_fault(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let (mut content, media_type) = which.get(&samples()).clone();
        for (at, byte) in changes {
            let at = at.index(content.len());
            content[at] = byte;
        }
        let _ = examined(&content, media_type);
    }

    #[test]
    fn no_noise_is_a_fault(which in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let (content, media_type) = which.get(&samples()).clone();
        let _ = examined(&[&content[..content.len().min(16)], &noise[..]].concat(), media_type);
    }
}

#[test]
fn the_report_has_the_names_of_the_wire() {
    let mut report = examined(&camera_jpeg(&two_halves(640, 480), 6, None), "image/jpeg").unwrap().report;
    report.blurhash = Some("hash".to_owned());
    assert_eq!(
        serde_json::to_value(report).unwrap(),
        serde_json::json!({
            "width": 480, "height": 640, "blurhash": "hash", "animated": false,
            "variants": [
                {"kind": "thumb_small", "media_type": "image/webp", "width": 240, "height": 320,
                 "file": "thumb_small.webp"},
                {"kind": "thumb_large", "media_type": "image/webp", "width": 480, "height": 640,
                 "file": "thumb_large.webp"},
            ],
            "served": {"file": "served", "media_type": "image/jpeg"},
        })
    );
    let length = MediaReport { duration_s: Some(1.5), ..MediaReport::default() };
    assert_eq!(serde_json::to_string(&length).unwrap(), r#"{"duration_s":1.5,"animated":false,"variants":[]}"#);
}

#[test]
fn other_files_have_nothing_to_examine() {
    for media_type in ["text/plain", "application/pdf", "image/tiff", "image/svg+xml"] {
        assert!(!super::is_examined(media_type));
        assert_eq!(examined(b"anything", media_type).unwrap().report, MediaReport::default());
    }
    for media_type in ["image/jpeg", "image/gif", "image/heif", "audio/mpeg", "video/mp4", "video/webm"] {
        assert!(super::is_examined(media_type));
    }
}

#[test]
fn a_full_folder_is_no_fault_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut upload = tempfile::tempfile().unwrap();
    upload.write_all(&camera_jpeg(&two_halves(640, 480), 6, None)).unwrap();
    let refused = examine(upload, "image/jpeg", &folder.path().join("gone")).unwrap_err();
    assert!(matches!(refused, ExaminationError::Machine(_)), "{refused}");
    let closed = File::options().write(true).open("/dev/null").unwrap();
    assert!(matches!(examine(closed, "image/jpeg", folder.path()), Err(ExaminationError::Machine(_))));
}
