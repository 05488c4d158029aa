//! How long sound and film are, if their headers say so. A file that does not say it is served without.

use super::film::Film;
use super::report::MediaReport;
use super::{matroska, mp4};
use lofty::config::ParseOptions;
use lofty::file::AudioFile as _;
use lofty::probe::Probe;
use std::io::{BufReader, Read, Seek};

/// The longest length that is believed, in seconds: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;
/// Types of MP4 and its relatives.
const MP4: &[&str] = &["video/mp4", "video/quicktime", "video/x-m4v", "video/3gpp", "audio/m4a"];
/// Types of Matroska.
const MATROSKA: &[&str] = &["video/webm", "video/x-matroska"];

/// Whether lengths of such files are read.
pub(super) fn is_known(media_type: &str) -> bool {
    MP4.contains(&media_type) || MATROSKA.contains(&media_type) || media_type.starts_with("audio/")
}

/// The length, and the size of a film. Empty if the file does not say it, or is damaged.
pub(super) fn of(input: &mut (impl Read + Seek), media_type: &str) -> MediaReport {
    let mut input = BufReader::new(input);
    let film = if MP4.contains(&media_type) {
        mp4::read(&mut input).unwrap_or_default()
    } else if MATROSKA.contains(&media_type) {
        matroska::read(&mut input).unwrap_or_default()
    } else if media_type.starts_with("audio/") {
        Film { duration_s: sound(input), size: None }
    } else {
        Film::default()
    };
    let (width, height) = film.size.filter(|(width, height)| *width > 0 && *height > 0).unzip();
    let duration_s = film.duration_s.filter(|seconds| *seconds > 0.0 && *seconds <= SECONDS_MAX);
    MediaReport { width, height, duration_s: duration_s.map(to_milliseconds), ..MediaReport::default() }
}

fn to_milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn sound(input: impl Read + Seek) -> Option<f64> {
    let options = ParseOptions::new().read_tags(false).read_cover_art(false);
    let file = Probe::new(input).options(options).guess_file_type().ok()?.read().ok()?;
    Some(file.properties().duration().as_secs_f64())
}
