//! Colour profiles (ICC).

use image::ColorType;
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

/// Converts pixels of 8 bits from their profile to sRGB. Those of an unusable profile stay as they are, which is what
/// readers without colour management show. Grey pictures have been made colours before, and their profiles are none
/// for these.
pub(super) fn to_srgb(pixels: &mut Vec<u8>, has_alpha: bool, profile: Option<&[u8]>) {
    let layout = if has_alpha { Layout::Rgba } else { Layout::Rgb };
    let Some(Ok(profile)) = profile.map(ColorProfile::new_from_slice) else { return };
    if profile.color_space != DataColorSpace::Rgb {
        return;
    }
    let srgb = ColorProfile::new_srgb();
    let Ok(transform) = profile.create_transform_8bit(layout, &srgb, layout, TransformOptions::default()) else {
        return;
    };
    let mut converted = vec![0; pixels.len()];
    if transform.transform(pixels, &mut converted).is_ok() {
        *pixels = converted;
    }
}

/// Whether a profile is about such pixels. The decoder makes colours of the four inks of print, which have another
/// profile.
pub(super) fn describes(profile: &[u8], pixels: ColorType) -> bool {
    // ICC.1:2022 §7.2.6
    match profile.get(16..20) {
        Some(b"RGB ") => pixels.has_color(),
        Some(b"GRAY") => !pixels.has_color(),
        _ => false,
    }
}
