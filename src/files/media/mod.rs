//! The examination of pictures, sound and film: sizes, durations, thumbnails, and what must not reach readers.
//!
//! All of this decodes bytes of strangers, so the server never calls it. `chat-server examine-media` does, in a
//! process of its own with limits of memory and time, and `control::media_worker` starts that process. A decoder that
//! crashes or does not end thereby fails one file.
//!
//! Invariants:
//! - readers get no place, no serial number and no comment of a JPEG, PNG, WebP or GIF. [`strip`] keeps the parts of
//!   a picture that its pixels and colours need, and nothing else. So a part that nobody has heard of is removed too.
//!   [`heif`] does so for HEIC and AVIF;
//! - pixels are decoded from what remains. So what readers get can be decoded, and bombs in removed parts do nothing;
//! - only a still that its EXIF orientation turns is encoded again. Every other picture keeps its compressed pixels,
//!   and animations keep moving;
//! - every output is bounded: two thumbnails of bounded sides, a copy of at most [`PICTURE_BYTES_MAX`], and a report
//!   with none of the file's own text.
//!
//! Deliberately absent:
//! - metadata of TIFF: no maintained crate removes it safely. A TIFF is served as it came, as a download;
//! - thumbnails of HEIC, AVIF and TIFF. Their decoders are large, and a HEIC is a download in most browsers;
//! - metadata of sound and film, such as the place in `©xyz`, and of HEIC and AVIF that move: they are served as they
//!   came;
//! - profiles of thumbnails and of a turned WebP: their colours are converted to sRGB, which every reader assumes
//!   without a profile. All other served content keeps its profile;
//! - the gain map of an HDR picture and the film of a "motion photo". They follow the picture in its file, with
//!   metadata of their own, and are removed.

mod boxes;
mod colour;
mod film;
mod heif;
mod length;
mod matroska;
mod mp4;
mod picture;
mod report;
mod strip;
#[cfg(test)]
mod tests;

pub use report::{ExaminationError, MediaReport, MediaVariant, ServedCopy, VariantKind};

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use strip::Container;

/// Bytes of a picture: it is in memory as a whole, beside its pixels.
pub const PICTURE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Whether the examination of such a file finds anything.
#[must_use]
pub fn is_examined(media_type: &str) -> bool {
    Container::of(media_type).is_some() || heif::is_known(media_type) || length::is_known(media_type)
}

/// Examines a file of the type that [`super::kind::found`] found. Writes thumbnails and a served copy to the folder.
///
/// # Errors
/// The picture cannot be decoded within the limits, or a file cannot be read or written.
pub fn examine(mut input: File, media_type: &str, out_dir: &Path) -> Result<MediaReport, ExaminationError> {
    let container = Container::of(media_type);
    if container.is_none() && !heif::is_known(media_type) {
        input.seek(SeekFrom::Start(0)).map_err(|error| unreadable(&error))?;
        return Ok(length::of(&mut input, media_type));
    }
    let content = whole(input)?;
    match container {
        Some(container) => picture::examine(container, content, out_dir),
        None => heif::examine(content, media_type, out_dir),
    }
}

/// Makes the picture of a user of a file of this type: one small still, turned as it was taken, and nothing else.
///
/// # Errors
/// As [`examine`]; the file is no picture that can be decoded.
pub fn avatar(input: File, media_type: &str, out_dir: &Path) -> Result<MediaReport, ExaminationError> {
    let refused = || ExaminationError::File(format!("A file of type {media_type} is no picture of a user."));
    picture::avatar(Container::of(media_type).ok_or_else(refused)?, whole(input)?, out_dir)
}

fn unreadable(error: &io::Error) -> ExaminationError {
    ExaminationError::Machine(format!("The file cannot be read: {error}."))
}

/// All of a picture.
fn whole(mut input: File) -> Result<Vec<u8>, ExaminationError> {
    let mut content = Vec::new();
    input.seek(SeekFrom::Start(0)).map_err(|error| unreadable(&error))?;
    input.take(PICTURE_BYTES_MAX + 1).read_to_end(&mut content).map_err(|error| unreadable(&error))?;
    if content.len() as u64 > PICTURE_BYTES_MAX {
        return Err(ExaminationError::File(format!(
            "The picture has more than {} MiB. Make it smaller.",
            PICTURE_BYTES_MAX >> 20
        )));
    }
    Ok(content)
}
