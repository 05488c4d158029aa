//! Downloads of one file over kept connections, one after the other, for a fixed time. The client has a thread for each
//! connection, and drops what it receives.

use super::content::FileContent;
use super::http::{FileClient, RequestHead};
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// Numbers of connections that are measured.
pub(super) const CONNECTIONS: [u32; 2] = [1, 4];

/// What is downloaded, from where.
#[derive(Clone, Debug)]
pub(super) struct DownloadSource {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) size: u64,
}

impl DownloadSource {
    fn get(&self) -> RequestHead<'_> {
        RequestHead { method: "GET", path: &self.path, token: None, fields: "", length: 0 }
    }

    /// Downloads the file once and compares every byte.
    pub(super) fn verify(&self, content: &FileContent, number: u64) -> Result<(), String> {
        let mut client = FileClient::open(self.address)?;
        client.begin(self.get())?;
        let answer = client.answer()?;
        let wrong = |what: &str| format!("{}{}: {what}", self.address, self.path);
        if answer.status != 200 || answer.length != self.size {
            return Err(wrong(&format!("answered {} with {} bytes", answer.status, answer.length)));
        }
        let (mut at, mut is_same) = (0, true);
        client.body(answer, |piece| {
            is_same = content.is_at(number, at, piece);
            at += piece.len() as u64;
            is_same
        })?;
        if is_same { Ok(()) } else { Err(wrong(&format!("a wrong byte before byte {at}"))) }
    }

    /// Downloads over so many connections for `length`; bytes per second of all of them.
    pub(super) fn throughput(&self, connections: u32, length: Duration) -> Result<f64, String> {
        let start = Arc::new(Barrier::new(connections as usize));
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                let (source, start) = (self.clone(), Arc::clone(&start));
                std::thread::spawn(move || source.receive(&start, length))
            })
            .collect();
        let mut total = 0.0;
        for thread in threads {
            let (bytes, took) = thread.join().map_err(|_| "a download panicked".to_owned())??;
            total += bytes as f64 / took.as_secs_f64().max(1e-6);
        }
        Ok(total)
    }

    fn receive(&self, start: &Barrier, length: Duration) -> Result<(u64, Duration), String> {
        let opened = FileClient::open(self.address);
        start.wait(); // also those that failed, for whom the others wait
        let mut client = opened?;
        let began = Instant::now();
        let mut bytes = 0;
        while began.elapsed() < length {
            client.begin(self.get())?;
            let answer = client.answer()?;
            if answer.status != 200 || answer.length != self.size {
                let text = client.text(answer).unwrap_or_default();
                return Err(format!("{}{}: answered {}: {text}", self.address, self.path, answer.status));
            }
            bytes += client.body(answer, |_| began.elapsed() < length)?;
        }
        Ok((bytes, began.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::servers::BareServer;
    use super::*;

    #[test]
    fn downloads_again_over_the_same_connection_and_notices_a_wrong_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content = FileContent::new(70_000);
        let mut bytes = Vec::new();
        content
            .pieces(3, 0, 70_000, |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let server = BareServer::start(&path).unwrap();
        let source = DownloadSource { address: server.address, path: "/".to_owned(), size: 70_000 };
        source.verify(&content, 3).unwrap();
        assert!(source.throughput(2, Duration::from_millis(50)).unwrap() > 0.0);
        // The last byte is the one that ends the comparison.
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(source.verify(&content, 3).is_err_and(|error| error.contains("a wrong byte")));
        std::fs::write(&path, &bytes[1..]).unwrap();
        assert!(source.verify(&content, 3).is_err_and(|error| error.contains("with 69999 bytes")));
        assert!(source.throughput(1, Duration::from_millis(5)).is_err());
    }
}
