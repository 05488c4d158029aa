//! A ZIP archive that grows while rows arrive: asynchronous on the side of PostgreSQL and the store, blocking on the
//! side of the disk. Its memory does not depend on what it holds.

use crate::files::store::disk::Disk;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::pin;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

/// Bytes that one turn on the disk's threads writes.
const TURN_BYTES: usize = 256 * 1024;

/// An archive that is being written.
pub(super) struct CopyArchive {
    disk: Disk,
    /// `None` after a failure.
    zip: Option<Box<ZipWriter<File>>>,
    buffer: BytesMut,
}

impl CopyArchive {
    /// A new file at `path`.
    pub(super) async fn create(disk: Disk, path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let file = disk.run(move || File::create_new(path)).await?;
        Ok(Self { disk, zip: Some(Box::new(ZipWriter::new(file))), buffer: BytesMut::new() })
    }

    async fn run(
        &mut self,
        work: impl FnOnce(&mut ZipWriter<File>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let mut zip = self.zip.take().ok_or_else(|| io::Error::other("the archive has failed before"))?;
        let zip = self.disk.run(move || work(&mut zip).map(|()| zip)).await?;
        self.zip = Some(zip);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = self.buffer.split().freeze();
        self.run(move |zip| zip.write_all(&bytes)).await
    }

    /// Begins the next file. What is compressed already is stored as it is.
    pub(super) async fn begin(&mut self, name: &str, is_compressed: bool) -> io::Result<()> {
        self.flush().await?;
        let name = name.to_owned();
        let method = if is_compressed { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        // Beyond 4 GiB the format needs larger fields, which must be chosen before.
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .large_file(true)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o600);
        self.run(move |zip| zip.start_file(name, options).map_err(io::Error::other)).await
    }

    /// Appends to that file.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= TURN_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Appends everything that arrives. Returns the number of lines.
    pub(super) async fn write_all(&mut self, bytes: impl Stream<Item = io::Result<Bytes>>) -> io::Result<u64> {
        let (mut bytes, mut lines) = (pin!(bytes), 0);
        while let Some(some) = bytes.next().await {
            let some = some?;
            lines += some.split(|byte| *byte == b'\n').count() as u64 - 1;
            self.write(&some).await?;
        }
        Ok(lines)
    }

    /// Completes the archive; it is durable then.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.flush().await?;
        let zip = self.zip.take().ok_or_else(|| io::Error::other("the archive has failed before"))?;
        self.disk.run(move || zip.finish().map_err(io::Error::other)?.sync_all()).await
    }
}
