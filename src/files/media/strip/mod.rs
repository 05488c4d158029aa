//! A picture without what its pixels and colours do not need: an allow-list of parts for each container.
//!
//! What is removed is not named, so a new kind of metadata needs no change here. Parts are copied byte by byte and
//! never encoded again. A crate for such containers would do half of it: `img-parts` keeps everything after the first
//! scan of a JPEG, previews and films with their own metadata included, and none of them knows GIF.

mod gif;
mod jpeg;
mod png;
mod remains;
mod webp;

pub use remains::Stripped;

use image::ImageFormat;
use image::metadata::Orientation;

/// A container of pictures that is examined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Container {
    /// JFIF, EXIF.
    Jpeg,
    /// PNG and animated PNG.
    Png,
    /// GIF 87a and 89a.
    Gif,
    /// WebP.
    WebP,
    /// Windows bitmap. It has no metadata but a profile.
    Bmp,
}

impl Container {
    /// The container of a type.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "image/jpeg" => Some(Self::Jpeg),
            "image/png" => Some(Self::Png),
            "image/gif" => Some(Self::Gif),
            "image/webp" => Some(Self::WebP),
            "image/bmp" => Some(Self::Bmp),
            _ => None,
        }
    }

    /// Its type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        self.format().to_mime_type()
    }

    /// Its decoder.
    #[must_use]
    pub fn format(self) -> ImageFormat {
        match self {
            Self::Jpeg => ImageFormat::Jpeg,
            Self::Png => ImageFormat::Png,
            Self::Gif => ImageFormat::Gif,
            Self::WebP => ImageFormat::WebP,
            Self::Bmp => ImageFormat::Bmp,
        }
    }

    /// The picture without its metadata.
    ///
    /// # Errors
    /// The container is damaged.
    pub fn strip(self, content: &[u8]) -> Result<Stripped, &'static str> {
        match self {
            Self::Jpeg => jpeg::strip(content),
            Self::Png => png::strip(content),
            Self::Gif => gif::strip(content),
            Self::WebP => webp::strip(content),
            Self::Bmp => {
                Ok(Stripped { content: content.to_vec(), orientation: Orientation::NoTransforms, animated: false })
            }
        }
    }
}
