//! Pixels: thumbnails, the blurhash, and the copy of a picture that has to be turned.

use super::colour;
use super::report::{ExaminationError, MediaReport, MediaVariant, ServedCopy, VariantKind, write};
use super::strip::{Container, Stripped};
use crate::files::kind::{PIXELS_MAX, SIDE_MAX};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageError, ImageReader, Limits};
use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;
use webp::PixelLayout;

/// Bytes that a decoder may allocate for the pixels of one picture.
const DECODER_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The quality of thumbnails, of 100.
const THUMB_QUALITY: f32 = 80.0;
/// The quality of a picture that is encoded again, of 100.
const TURNED_QUALITY: u8 = 92;
/// The type of thumbnails. Lossy WebP needs a quarter to a half less bytes than JPEG, and can be transparent.
const THUMB_TYPE: &str = "image/webp";
/// Most pixels on a side that the blurhash is made from. It has four colours on a side.
const BLURHASH_SIDE: u32 = 32;

struct Pixels {
    image: DynamicImage,
    profile: Option<Vec<u8>>,
}

/// Examines a picture.
///
/// # Errors
/// It cannot be decoded within the limits, or the folder cannot be written to.
pub(super) fn examine(container: Container, content: Vec<u8>, out_dir: &Path) -> Result<MediaReport, ExaminationError> {
    let stripped = container.strip(&content).map_err(unreadable)?;
    let is_whole = stripped.content == content;
    drop(content);
    let Stripped { mut content, orientation, animated } = stripped;
    let mut report = MediaReport { animated, ..MediaReport::default() };
    // An animation is never encoded again. Its orientation is lost, which no camera writes.
    let must_turn = orientation != Orientation::NoTransforms && !animated;
    let mut pixels = decode(container, &content)?;
    if must_turn {
        pixels.image.apply_orientation(orientation);
        content = encode(container, &pixels)?;
    }
    if must_turn || !is_whole {
        report.served = Some(ServedCopy::write(&content, container.media_type(), out_dir)?);
    }
    let content_bytes = content.len();
    drop(content);
    describe(&mut report, &pixels, content_bytes, out_dir)?;
    Ok(report)
}

/// Makes the picture of a user: its first frame, turned and small, without anything else of the file.
///
/// # Errors
/// As [`examine`].
pub(super) fn avatar(container: Container, content: Vec<u8>, out_dir: &Path) -> Result<MediaReport, ExaminationError> {
    let Stripped { content: stripped, orientation, .. } = container.strip(&content).map_err(unreadable)?;
    drop(content);
    let Pixels { image, profile } = decode(container, &stripped)?;
    let profile = profile.filter(|profile| colour::describes(profile, image.color()));
    let mut small = shrunk(&image, VariantKind::ThumbSmall.side_max()).into_owned();
    small.apply_orientation(orientation);
    write(out_dir, &VariantKind::ThumbSmall.file(), &webp(&small, profile.as_deref(), THUMB_QUALITY)?)?;
    Ok(MediaReport { variants: vec![thumb(VariantKind::ThumbSmall, &small)], ..MediaReport::default() })
}

/// A written thumbnail.
fn thumb(kind: VariantKind, image: &DynamicImage) -> MediaVariant {
    let (width, height) = (image.width(), image.height());
    MediaVariant { kind, media_type: THUMB_TYPE.to_owned(), width, height, file: kind.file() }
}

/// The first frame.
fn decode(container: Container, content: &[u8]) -> Result<Pixels, ExaminationError> {
    try_decode(container, content).map_err(|error| match error {
        ImageError::Limits(_) => ExaminationError::File(format!(
            "The picture needs more than {} MiB, or has more than {PIXELS_MAX} pixels or {SIDE_MAX} on a side.",
            DECODER_BYTES_MAX >> 20
        )),
        error => unreadable(error),
    })
}

fn try_decode(container: Container, content: &[u8]) -> Result<Pixels, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX as u32);
    limits.max_image_height = Some(SIDE_MAX as u32);
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(content), container.format());
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    limits.check_dimensions(width, height)?;
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        let kind = image::error::LimitErrorKind::DimensionError;
        return Err(ImageError::Limits(image::error::LimitError::from_kind(kind)));
    }
    limits.reserve(decoder.total_bytes())?;
    let profile = decoder.icc_profile().ok().flatten();
    Ok(Pixels { image: DynamicImage::from_decoder(decoder)?, profile })
}

/// A turned picture in its own format.
fn encode(container: Container, pixels: &Pixels) -> Result<Vec<u8>, ExaminationError> {
    let image = &pixels.image;
    let profile = pixels.profile.clone().filter(|profile| colour::describes(profile, image.color()));
    let mut content = Vec::new();
    match container {
        Container::WebP => content = webp(image, profile.as_deref(), f32::from(TURNED_QUALITY))?,
        Container::Jpeg => write_image(JpegEncoder::new_with_quality(&mut content, TURNED_QUALITY), image, profile)?,
        Container::Png => write_image(PngEncoder::new(&mut content), image, profile)?,
        Container::Gif | Container::Bmp => return Err(unencodable(&"this format has no orientation")),
    }
    Ok(content)
}

fn write_image(
    mut encoder: impl ImageEncoder,
    image: &DynamicImage,
    profile: Option<Vec<u8>>,
) -> Result<(), ExaminationError> {
    if let Some(profile) = profile {
        encoder.set_icc_profile(profile).map_err(|error| unencodable(&error))?;
    }
    image.write_with_encoder(encoder).map_err(|error| unencodable(&error))
}

/// Adds the size, the thumbnails and the blurhash.
fn describe(
    report: &mut MediaReport,
    pixels: &Pixels,
    content_bytes: usize,
    out_dir: &Path,
) -> Result<(), ExaminationError> {
    let Pixels { image, profile } = pixels;
    let profile = profile.as_deref().filter(|profile| colour::describes(profile, image.color()));
    let (width, height) = (image.width(), image.height());
    (report.width, report.height) = (Some(width), Some(height));
    let large = shrunk(image, VariantKind::ThumbLarge.side_max());
    let small = shrunk(&large, VariantKind::ThumbSmall.side_max());
    for kind in VariantKind::ALL {
        let image = match kind {
            VariantKind::ThumbSmall => &*small,
            VariantKind::ThumbLarge => &*large,
        };
        // The small one has all pixels already.
        if kind == VariantKind::ThumbLarge && width.max(height) <= VariantKind::ThumbSmall.side_max() {
            continue;
        }
        let encoded = webp(image, profile, THUMB_QUALITY)?;
        // A thumbnail is there to save bytes, or pixels that a reader decodes. This one would save neither.
        if image.width() == width && encoded.len() >= content_bytes {
            continue;
        }
        write(out_dir, &kind.file(), &encoded)?;
        report.variants.push(thumb(kind, image));
    }
    report.blurhash = blurhash(&small, profile);
    Ok(())
}

/// The picture, no longer than this on either side.
fn shrunk(image: &DynamicImage, side: u32) -> Cow<'_, DynamicImage> {
    let longest = image.width().max(image.height());
    if longest <= side {
        return Cow::Borrowed(image);
    }
    // The good filter looks at every pixel many times. A quick mean comes first where it cannot be seen.
    let near = if longest > side * 3 { Cow::Owned(image.thumbnail(side * 2, side * 2)) } else { Cow::Borrowed(image) };
    Cow::Owned(near.resize(side, side, FilterType::Lanczos3))
}

/// Lossy WebP in sRGB.
fn webp(image: &DynamicImage, profile: Option<&[u8]>, quality: f32) -> Result<Vec<u8>, ExaminationError> {
    let has_alpha = image.color().has_alpha();
    let (mut pixels, layout) = if has_alpha {
        (image.to_rgba8().into_raw(), PixelLayout::Rgba)
    } else {
        (image.to_rgb8().into_raw(), PixelLayout::Rgb)
    };
    colour::to_srgb(&mut pixels, has_alpha, profile);
    let encoder = webp::Encoder::new(&pixels, layout, image.width(), image.height());
    let content = encoder.encode_simple(false, quality).map_err(|error| unencodable(&format!("{error:?}")))?;
    Ok(content.to_vec())
}

fn blurhash(image: &DynamicImage, profile: Option<&[u8]>) -> Option<String> {
    let tiny = image.thumbnail(BLURHASH_SIDE.min(image.width()), BLURHASH_SIDE.min(image.height()));
    let mut pixels = tiny.to_rgba8().into_raw();
    colour::to_srgb(&mut pixels, true, profile);
    let (across, down) = if tiny.width() >= tiny.height() { (4, 3) } else { (3, 4) };
    blurhash::encode(across, down, tiny.width(), tiny.height(), &pixels).ok()
}

fn unreadable(error: impl std::fmt::Display) -> ExaminationError {
    ExaminationError::File(format!("The picture cannot be read: {error}"))
}

fn unencodable(error: &impl std::fmt::Display) -> ExaminationError {
    ExaminationError::File(format!("The picture cannot be encoded: {error}"))
}
