//! What an examination finds, as the worker process reports it.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use thiserror::Error;

/// The name of a served copy in the folder of its examination.
const SERVED_FILE: &str = "served";

/// What was found in a file. Its files are in the folder of the examination.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MediaReport {
    /// Pixels, as a reader sees the picture or film: turned if its header says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The length of sound or film in seconds, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// A few colours in about 30 characters (<https://blurha.sh>), to be shown until the picture has loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blurhash: Option<String>,
    /// Whether the picture has more than one frame.
    #[serde(default)]
    pub animated: bool,
    /// Smaller stills of the picture.
    #[serde(default)]
    pub variants: Vec<MediaVariant>,
    /// The content for readers, if the upload itself is not for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<ServedCopy>,
}

/// A smaller still of a picture.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MediaVariant {
    /// Which of them.
    pub kind: VariantKind,
    /// Its type.
    pub media_type: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Its name in the folder of the examination.
    pub file: String,
}

/// What is served in place of the upload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServedCopy {
    /// Its name in the folder of the examination.
    pub file: String,
    /// Its type, which is that of the upload.
    pub media_type: String,
}

impl ServedCopy {
    /// Writes it to the folder of the examination.
    pub(super) fn write(content: &[u8], media_type: &str, out_dir: &Path) -> Result<Self, ExaminationError> {
        write(out_dir, SERVED_FILE, content)?;
        Ok(Self { file: SERVED_FILE.to_owned(), media_type: media_type.to_owned() })
    }
}

/// Writes a file of an examination.
pub(super) fn write(out_dir: &Path, name: &str, content: &[u8]) -> Result<(), ExaminationError> {
    fs::write(out_dir.join(name), content)
        .map_err(|error| ExaminationError::Machine(format!("{name} cannot be written: {error}.")))
}

/// The sizes of stills.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariantKind {
    /// For lists.
    ThumbSmall,
    /// For a window.
    ThumbLarge,
}

impl VariantKind {
    /// Every size.
    pub const ALL: [Self; 2] = [Self::ThumbSmall, Self::ThumbLarge];

    /// As the wire names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThumbSmall => "thumb_small",
            Self::ThumbLarge => "thumb_large",
        }
    }

    /// The longest side, in pixels.
    #[must_use]
    pub fn side_max(self) -> u32 {
        match self {
            Self::ThumbSmall => 320,
            Self::ThumbLarge => 1280,
        }
    }

    pub(super) fn file(self) -> String {
        format!("{}.webp", self.as_str())
    }
}

impl MediaReport {
    /// Whether the report names only files that an examination writes. The worker decodes bytes of strangers, so its
    /// reader must not follow any path that it says.
    #[must_use]
    pub fn names_own_files(&self) -> bool {
        let mut kinds = Vec::new();
        for variant in &self.variants {
            if kinds.contains(&variant.kind) || variant.file != variant.kind.file() {
                return false;
            }
            kinds.push(variant.kind);
        }
        self.served.as_ref().is_none_or(|served| served.file == SERVED_FILE)
    }
}

/// Why a file was not examined.
#[derive(PartialEq, Eq, Debug, Error)]
pub enum ExaminationError {
    /// Its content. Another attempt has the same result.
    #[error("{0}")]
    File(String),
    /// Reading it, or writing what it led to. Another attempt may succeed.
    #[error("{0}")]
    Machine(String),
}
