//! The virus scanner: clamd, over a unix socket or TCP.
//!
//! clamd answers `OK` for what it did not look at: with Debian's defaults for everything beyond 25 MB. So the server
//! first sends it a file of the largest size that it accepts, an archive with the EICAR test file behind zeros. Only a
//! scanner that finds it is trusted. The probe is repeated whenever the scanner has not answered: if it passes then,
//! the file is at fault, and is refused when that happens twice. No file is released because it breaks the scanner.
//!
//! | `files.scan` | a file that cannot be scanned now |
//! |---|---|
//! | `required` | waits, and is released by itself once it was scanned |
//! | `when_available` | is released without |
//! | `off` | no file is scanned |

use crate::error::{ErrorCode, Refusal};
use crate::faults::{error_limited, warn_limited};
use crate::files::store::bytes_of;
use crate::files::store::disk::Disk;
use bytes::Bytes;
use clamav_client::tokio::{Socket, Tcp, ping, scan_stream};
use flate2::Crc;
use futures_util::{Stream, StreamExt, stream};
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one chunk that clamd receives.
const CHUNK_BYTES: usize = 256 * 1024;
/// How long one scan may take.
const TIMEOUT: Duration = Duration::from_mins(4);
/// How long a file waits for the next attempt.
const RETRY_MS: u64 = 5_000;
/// The archive of the probe is smaller than the largest file by at most this.
const PROBE_BELOW_MAX: u64 = 1024 * 1024;
/// An entry of 4 GiB would need ZIP64.
const PADDING_MAX: u64 = u32::MAX as u64 - 1;
/// What clamd calls a file that it did not look at as a whole, with `AlertExceedsMax`.
const BEYOND_LIMITS: &str = "Heuristics.Limits.Exceeded";
/// How often a file is sent to a scanner that does not answer about it.
const ASKED_MAX: usize = 2;

/// What happens to a file that cannot be scanned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanMode {
    /// It waits.
    Required,
    /// It is released.
    WhenAvailable,
}

/// Where clamd listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClamdAddress {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl ClamdAddress {
    /// `unix:/run/clamav/clamd.ctl` or `tcp:127.0.0.1:3310`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("unix", path) if path.starts_with('/') => Some(Self::Unix(path.into())),
            ("tcp", address)
                if address
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)) =>
            {
                Some(Self::Tcp(address.to_owned()))
            }
            _ => None,
        }
    }
}

/// What a scan found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ScanVerdict {
    Clean,
    /// The name of what was found.
    Virus(String),
    /// The scanner works, but not on this file.
    Unscannable(String),
}

/// The scanner, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Trust {
    /// It has to be probed first.
    Unknown,
    Trusted,
    /// Why it cannot be used, and since when.
    Refused(String, Instant),
}

/// The scanner of a server; cloning shares it.
#[derive(Clone)]
pub struct Antivirus(Arc<Scanner>);

struct Scanner {
    address: ClamdAddress,
    mode: ScanMode,
    size_max: u64,
    trust: Mutex<Trust>,
    /// Whether no file is released without a scan, for `welcome.features`.
    is_sure: Arc<AtomicBool>,
    /// One probe at a time.
    probing: tokio::sync::Mutex<()>,
}

impl Antivirus {
    /// A scanner that must see files of `size_max` bytes. `is_sure` shows whether no file is released without a scan.
    #[must_use]
    pub fn new(address: ClamdAddress, mode: ScanMode, size_max: u64, is_sure: Arc<AtomicBool>) -> Self {
        let (trust, probing) = (Mutex::new(Trust::Unknown), tokio::sync::Mutex::new(()));
        is_sure.store(mode == ScanMode::Required, Ordering::Relaxed);
        Self(Arc::new(Scanner { address, mode, size_max, trust, is_sure, probing }))
    }

    fn trust(&self) -> Trust {
        self.0.trust.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trust(&self, trust: Trust) {
        let is_sure = self.0.mode == ScanMode::Required || trust == Trust::Trusted;
        self.0.is_sure.store(is_sure, Ordering::Relaxed);
        *self.0.trust.lock().unwrap_or_else(PoisonError::into_inner) = trust;
    }

    /// Why it cannot be used, if it cannot.
    pub(in crate::control) fn problem(&self) -> Option<String> {
        match self.trust() {
            Trust::Trusted => None,
            Trust::Unknown => Some("clamd was not asked yet".to_owned()),
            Trust::Refused(reason, _) => Some(reason),
        }
    }

    /// Scans a file of `size` bytes from its start.
    ///
    /// # Errors
    /// `storage_unavailable` with a time to wait, if the file must wait for its scan.
    pub(super) async fn scan(&self, disk: &Disk, file: File, size: u64) -> Result<ScanVerdict, Refusal> {
        let mut last = String::new();
        for _ in 0..ASKED_MAX {
            if let Err(reason) = self.probe(disk).await {
                return self.without(&reason);
            }
            let again = file.try_clone().and_then(|mut file| file.rewind().map(|()| file));
            let content = again.map_err(|error| super::refusals::disk_refusal(&error))?;
            match self.ask(bytes_of(disk.clone(), content, size)).await {
                Ok(verdict) => return Ok(verdict),
                Err(reason) => {
                    warn_limited!(reason, "a file could not be scanned");
                    self.set_trust(Trust::Unknown);
                    last = reason;
                }
            }
        }
        match self.probe(disk).await {
            Ok(()) => Ok(ScanVerdict::Unscannable(last)),
            Err(reason) => self.without(&reason),
        }
    }

    /// Whether a file can be scanned now, or need not be.
    ///
    /// # Errors
    /// `storage_unavailable` with a time to wait, if files must wait for the scanner.
    pub(super) async fn require(&self, disk: &Disk) -> Result<(), Refusal> {
        match self.probe(disk).await {
            Ok(()) => Ok(()),
            Err(reason) => self.without(&reason).map(drop),
        }
    }

    /// What happens to a file when there is no scanner.
    fn without(&self, reason: &str) -> Result<ScanVerdict, Refusal> {
        match self.0.mode {
            ScanMode::WhenAvailable => {
                warn_limited!(reason, "a file is released without a virus scan");
                Ok(ScanVerdict::Clean)
            }
            ScanMode::Required => {
                error_limited!(reason, "files wait for their virus scan: start clamd, or see files.clamd");
                let message = format!("The file waits for its virus scan: {reason}");
                Err(Refusal::new(ErrorCode::StorageUnavailable, message).retry_after(RETRY_MS))
            }
        }
    }

    /// Whether the scanner answers at all.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<(), String> {
        let answered = match &self.0.address {
            ClamdAddress::Unix(path) => ping(Socket { socket_path: path }).await,
            ClamdAddress::Tcp(address) => ping(Tcp { host_address: address }).await,
        };
        match answered {
            Ok(answer) if answer.starts_with(b"PONG") => Ok(()),
            Ok(answer) => Err(format!("clamd answered: {}", String::from_utf8_lossy(&answer).trim_end_matches('\0'))),
            Err(error) => Err(unreachable(&error)),
        }
    }

    /// Asks the scanner for a known signature at the end of a large file, unless it is trusted. A scanner that was
    /// refused a moment ago is not asked again.
    ///
    /// # Errors
    /// Why it cannot be trusted, and what to do.
    pub async fn probe(&self, disk: &Disk) -> Result<(), String> {
        let _one = self.0.probing.lock().await;
        match self.trust() {
            Trust::Trusted => return Ok(()),
            Trust::Refused(reason, since) if since.elapsed() < Duration::from_millis(RETRY_MS) => return Err(reason),
            _ => {}
        }
        let probed = self.probe_now(disk).await;
        self.set_trust(match &probed {
            Ok(()) => Trust::Trusted,
            Err(reason) => Trust::Refused(reason.clone(), Instant::now()),
        });
        probed
    }

    async fn probe_now(&self, disk: &Disk) -> Result<(), String> {
        let padding = self.0.size_max.saturating_sub(PROBE_BELOW_MAX).min(PADDING_MAX);
        // Not on the control thread: it takes 50 ms for 100 MB.
        let sum = disk.run(move || Ok(sum_of_zeros(padding))).await.map_err(|error| error.to_string())?;
        match self.ask(probe_archive(padding, sum)).await? {
            ScanVerdict::Virus(_) => {
                tracing::info!("clamd finds viruses in files of {} bytes", self.0.size_max);
                Ok(())
            }
            ScanVerdict::Clean | ScanVerdict::Unscannable(_) => Err(format!(
                "clamd does not find the EICAR test file at the end of an archive of {} bytes. Raise StreamMaxLength, \
                 MaxFileSize and MaxScanSize above limits.max_file_size, and set AlertExceedsMax, as in \
                 deploy/clamd.conf.",
                self.0.size_max
            )),
        }
    }

    async fn ask(&self, content: impl Stream<Item = io::Result<Bytes>>) -> Result<ScanVerdict, String> {
        let asked = async {
            match &self.0.address {
                ClamdAddress::Unix(path) => scan_stream(content, Socket { socket_path: path }, Some(CHUNK_BYTES)).await,
                ClamdAddress::Tcp(address) => {
                    scan_stream(content, Tcp { host_address: address }, Some(CHUNK_BYTES)).await
                }
            }
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(answer)) => verdict(&answer),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(format!("clamd did not answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

fn unreachable(error: &io::Error) -> String {
    format!("clamd cannot be reached: {error}")
}

/// The answer to INSTREAM: `stream: OK`, `stream: NAME FOUND`, or `… ERROR`.
fn verdict(answer: &[u8]) -> Result<ScanVerdict, String> {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim_end_matches(['\0', '\n']).trim();
    match text.strip_prefix("stream: ") {
        Some("OK") => Ok(ScanVerdict::Clean),
        Some(found) if found.starts_with(BEYOND_LIMITS) => {
            Ok(ScanVerdict::Unscannable(format!("it is beyond the limits of the virus scanner ({found})")))
        }
        Some(found) if found.ends_with(" FOUND") => Ok(ScanVerdict::Virus(found.trim_end_matches(" FOUND").to_owned())),
        _ => Err(format!("clamd answered: {text}")),
    }
}

/// The CRC-32 of so many zeros.
fn sum_of_zeros(count: u64) -> u32 {
    let zeros = vec![0; CHUNK_BYTES];
    let (mut crc, mut left) = (Crc::new(), count);
    while left > 0 {
        let next = left.min(CHUNK_BYTES as u64);
        crc.update(&zeros[..next as usize]);
        left -= next;
    }
    crc.sum()
}

/// A ZIP archive (APPNOTE.TXT 6.3) of two stored entries: `padding` zeros with this CRC-32, and the EICAR test file.
fn probe_archive(padding: u64, sum: u32) -> impl Stream<Item = io::Result<Bytes>> {
    let zeros = Bytes::from(vec![0; CHUNK_BYTES]);
    // In two parts, so that no scanner takes this program for the test file.
    let eicar = [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD", "-ANTIVIRUS-TEST-FILE!$H+H*"].concat().into_bytes();
    let mut crc_of_eicar = Crc::new();
    crc_of_eicar.update(&eicar);
    let entries = [("padding", sum, padding as u32), ("eicar.com", crc_of_eicar.sum(), eicar.len() as u32)];
    let local = |(name, crc, size): (&str, u32, u32)| {
        let mut head = b"PK\x03\x04\x0a\0\0\0\0\0\0\0\x21\0".to_vec();
        head.extend([crc, size, size].iter().flat_map(|number| number.to_le_bytes()));
        head.extend((name.len() as u32).to_le_bytes()); // and no extra field
        head.extend(name.bytes());
        head
    };
    let first = local(entries[0]);
    let mut tail = local(entries[1]);
    let second_at = first.len() as u64 + padding;
    tail.extend(&eicar);
    let directory_at = second_at + tail.len() as u64;
    let before = tail.len();
    for (at, (name, crc, size)) in [0, second_at].into_iter().zip(entries) {
        tail.extend(b"PK\x01\x02\x0a\0\x0a\0\0\0\0\0\0\0\x21\0");
        tail.extend([crc, size, size].iter().flat_map(|number| number.to_le_bytes()));
        tail.extend((name.len() as u16).to_le_bytes());
        tail.extend([0; 12]);
        tail.extend((at as u32).to_le_bytes());
        tail.extend(name.bytes());
    }
    let directory_size = (tail.len() - before) as u32;
    tail.extend(b"PK\x05\x06\0\0\0\0\x02\0\x02\0");
    tail.extend(directory_size.to_le_bytes());
    tail.extend((directory_at as u32).to_le_bytes());
    tail.extend([0; 2]);
    let chunks = padding.div_ceil(CHUNK_BYTES as u64);
    let middle = stream::iter(0..chunks).map(move |n| {
        let left = padding - n * CHUNK_BYTES as u64;
        Ok(zeros.slice(..left.min(CHUNK_BYTES as u64) as usize))
    });
    stream::iter([Ok(Bytes::from(first))]).chain(middle).chain(stream::iter([Ok(Bytes::from(tail))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_answers_of_clamd() {
        assert_eq!(verdict(b"stream: OK\0"), Ok(ScanVerdict::Clean));
        assert_eq!(verdict(b"stream: Eicar-Test FOUND\0"), Ok(ScanVerdict::Virus("Eicar-Test".to_owned())));
        let beyond = verdict(b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0").unwrap();
        assert!(matches!(&beyond, ScanVerdict::Unscannable(reason) if reason.contains("MaxFileSize")), "no virus");
        for answer in ["INSTREAM size limit exceeded. ERROR\0", "stream: lstat() failed. ERROR", "", "OK"] {
            assert!(verdict(answer.as_bytes()).is_err(), "{answer}");
        }
    }

    #[test]
    fn reads_addresses() {
        assert_eq!(ClamdAddress::parse("unix:/run/c.ctl"), Some(ClamdAddress::Unix("/run/c.ctl".into())));
        assert_eq!(ClamdAddress::parse("tcp:[::1]:3310"), Some(ClamdAddress::Tcp("[::1]:3310".to_owned())));
        for bad in ["", "unix:c.ctl", "tcp:3310", "tcp:a:0", "tcp:a:99999", "http://a", "/run/c.ctl"] {
            assert_eq!(ClamdAddress::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn files_count_as_scanned_while_none_is_released_without() {
        for (mode, expected) in [(ScanMode::Required, [true; 3]), (ScanMode::WhenAvailable, [false, true, false])] {
            let is_sure = Arc::new(AtomicBool::new(false));
            let address = ClamdAddress::Unix("/nonexistent".into());
            let antivirus = Antivirus::new(address, mode, 1, Arc::clone(&is_sure));
            let mut seen = vec![is_sure.load(Ordering::Relaxed)];
            for trust in [Trust::Trusted, Trust::Refused("it does not answer".to_owned(), Instant::now())] {
                antivirus.set_trust(trust);
                seen.push(is_sure.load(Ordering::Relaxed));
            }
            assert_eq!(seen, expected, "{mode:?}");
        }
    }

    /// By Python's zipfile, which checks the sums and the directory.
    #[tokio::test]
    async fn the_probe_is_a_whole_archive() {
        for padding in [0, 5, CHUNK_BYTES as u64 * 3 + 7] {
            let parts: Vec<io::Result<Bytes>> = probe_archive(padding, sum_of_zeros(padding)).collect().await;
            let bytes: Vec<u8> = parts.into_iter().flat_map(Result::unwrap).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
                          print(*[(i.filename, i.file_size) for i in z.infolist()])";
            let run = std::process::Command::new("python3").args(["-c", script]).arg(file.path()).output().unwrap();
            let expected = format!("('padding', {padding}) ('eicar.com', 68)\n");
            assert_eq!(String::from_utf8_lossy(&run.stdout), expected, "{}", String::from_utf8_lossy(&run.stderr));
        }
    }
}
