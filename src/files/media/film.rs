//! What headers of films say.

/// What the header of a film says.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Film {
    /// Seconds.
    pub duration_s: Option<f64>,
    /// Width and height of its picture, in pixels.
    pub size: Option<(u32, u32)>,
}
