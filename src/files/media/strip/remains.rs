//! What the removal of metadata leaves.

use image::metadata::Orientation;

/// What remains of a picture.
#[derive(Debug)]
pub struct Stripped {
    /// The picture.
    pub content: Vec<u8>,
    /// How its pixels must be turned, according to what was removed.
    pub orientation: Orientation,
    /// Whether it has several frames.
    pub animated: bool,
}
