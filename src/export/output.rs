//! Where an export goes: a file of lines with a folder of attachments beside it, or a zip with both.

use super::fault::ExportFault;
use crate::files::store::ByteStream;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The file of lines in a zip.
const LINES_NAME: &str = "import.jsonl";
/// The folder of attachments.
const DATA: &str = "data";
/// Bytes of a line that Mattermost reads.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The form of an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputFormat {
    /// A file of lines.
    Lines,
    /// A zip.
    Zip,
}

enum Sink {
    Lines(BufWriter<File>),
    Zip(Box<ZipWriter<BufWriter<File>>>),
}

/// An export that is being written.
pub struct Output {
    sink: Sink,
    partial: PathBuf,
    to: PathBuf,
}

fn zipped(error: zip::result::ZipError) -> io::Error {
    io::Error::other(error)
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().large_file(true).unix_permissions(0o600)
}

impl Output {
    /// Whether nothing has the name of an export, or of the folder of its attachments.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn require_free(to: &Path, format: OutputFormat) -> io::Result<()> {
        let data = (format == OutputFormat::Lines).then(|| to.with_file_name(DATA));
        match [Some(to.to_owned()), data].into_iter().flatten().find(|path| fs::symlink_metadata(path).is_ok()) {
            Some(path) => Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", path.display()))),
            None => Ok(()),
        }
    }

    /// Begins an export. It has personal data, so only its owner can read it.
    ///
    /// # Errors
    /// The system's, and those of [`Self::require_free`].
    pub fn begin(to: &Path, format: OutputFormat) -> io::Result<Self> {
        Self::require_free(to, format)?;
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let partial = to.with_file_name(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        let file = BufWriter::new(file);
        let sink = match format {
            OutputFormat::Lines => Sink::Lines(file),
            OutputFormat::Zip => {
                let mut zip = ZipWriter::new(file);
                zip.start_file(LINES_NAME, options()).map_err(zipped)?;
                Sink::Zip(Box::new(zip))
            }
        };
        Ok(Self { sink, partial, to: to.to_owned() })
    }

    /// Writes a line.
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), ExportFault> {
        let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
        line.push(b'\n');
        match &mut self.sink {
            Sink::Lines(file) => file.write_all(&line)?,
            Sink::Zip(zip) => zip.write_all(&line)?,
        }
        Ok(())
    }

    /// Writes an attachment, after the last line. `path` is what the lines call it.
    pub(super) async fn file(&mut self, path: &str, mut content: ByteStream) -> io::Result<()> {
        match &mut self.sink {
            Sink::Lines(_) => {
                let to = self.to.with_file_name(DATA).join(path);
                if let Some(folder) = to.parent() {
                    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                }
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
                while let Some(bytes) = content.try_next().await? {
                    file.write_all(&bytes)?;
                }
                file.sync_all()
            }
            Sink::Zip(zip) => {
                zip.start_file(format!("{DATA}/{path}"), options()).map_err(zipped)?;
                while let Some(bytes) = content.try_next().await? {
                    zip.write_all(&bytes)?;
                }
                Ok(())
            }
        }
    }

    /// Gives the complete export its name.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> io::Result<()> {
        let file = match self.sink {
            Sink::Lines(file) => file,
            Sink::Zip(zip) => zip.finish().map_err(zipped)?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&self.partial, &self.to)
    }

    /// Removes what was written.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.partial);
    }
}
