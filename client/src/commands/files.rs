//! `veza send --file`, `veza download`: transfers that go on where they were cut, in this run or the next one.
//!
//! Invariants:
//! - after anything that went wrong, the server is asked for its offset before more bytes are sent;
//! - the patience counts from the last progress. A large file over a slow line takes as long as it takes;
//! - a download writes beside its destination and moves there when it is complete. It replaces no file, and the name
//!   that the server gives chooses no folder.

use crate::cli::Download;
use crate::failure::{Failure, Refusal};
use crate::http::Bytes;
use crate::output::Output;
use crate::render::{bytes, name};
use crate::retry::{Backoff, transient_transfer};
use crate::session::Session;
use crate::text;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Bytes of one request.
const PIECE_BYTES: u64 = 1024 * 1024;
/// A request of that size over a slow line.
const PIECE_TIMEOUT: Duration = Duration::from_mins(2);
/// An answer with a whole file.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_hours(24);
/// Between two pieces of an answer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Uploads that the server forgot, in one run.
const RESTARTS_MAX: u32 = 3;
/// How long a message waits for the check of its files.
const CHECK_PATIENCE: Duration = Duration::from_secs(10);
const CHECK_POLL: Duration = Duration::from_millis(250);

/// Uploads files to a conversation. Returns their ids, and the keys under which the profile remembers them.
pub async fn upload_all(
    session: &Session,
    output: Output,
    conversation: &str,
    paths: &[PathBuf],
    patience: Duration,
) -> Result<Vec<(i64, String)>, Failure> {
    let mut uploads = Vec::with_capacity(paths.len());
    // A wrong path is reported before anything is sent.
    for path in paths {
        uploads.push(Upload::open(session, conversation, path)?);
    }
    let mut done = Vec::with_capacity(uploads.len());
    for mut upload in uploads {
        let id = upload.run(output, patience).await?;
        check(session, id).await?;
        done.push((id, upload.key));
    }
    Ok(done)
}

/// Waits a moment for the check of a file; fails if the file was refused.
async fn check(session: &Session, id: i64) -> Result<(), Failure> {
    let deadline = Instant::now() + CHECK_PATIENCE;
    loop {
        let shown = session.request(Method::GET, &format!("/files/{id}"), None).await?;
        if shown["state"] != "scanning" {
            return refuse_unless_readable(&shown);
        }
        if Instant::now() >= deadline {
            return Ok(()); // the message shows how it ends
        }
        sleep(CHECK_POLL).await;
    }
}

/// Fails for a file that nobody can read, with the reason.
fn refuse_unless_readable(shown: &Value) -> Result<(), Failure> {
    let (code, reason) = match shown["state"].as_str() {
        Some("ready") => return Ok(()),
        Some("infected") => ("infected", "a virus was found in it"),
        Some("failed") => ("failed", "the check refused it"),
        Some("scanning" | "uploading") => ("conflict", "it is not complete, or being checked; try again in a moment"),
        _ => ("not_found", "it is no longer available"),
    };
    let reason = shown["reason"].as_str().unwrap_or(reason);
    let message = format!("{}: {reason}", name(&shown["name"]));
    Err(Failure::Refused(Refusal { code: code.into(), message, ..Refusal::default() }))
}

struct Upload<'a> {
    session: &'a Session,
    conversation: &'a str,
    path: &'a Path,
    file: File,
    size: u64,
    /// Names this file, as it is now, in this conversation.
    key: String,
    id: Option<i64>,
    /// How much the server has; `None` when it has to be asked.
    at: Option<u64>,
}

impl<'a> Upload<'a> {
    fn open(session: &'a Session, conversation: &'a str, path: &'a Path) -> Result<Self, Failure> {
        let failure = |error| file_failure(path, &error);
        let file = File::open(path).map_err(failure)?;
        let about = file.metadata().map_err(failure)?;
        if !about.is_file() {
            return Err(Failure::Usage(format!("{} is not a file; pack it, and send the archive", path.display())));
        }
        let names = format!(
            "{}\n{conversation}\n{}\n{} {} {} {}",
            session.address(),
            std::path::absolute(path).map_err(failure)?.display(),
            about.dev(),
            about.ino(),
            about.len(),
            about.mtime_nsec().wrapping_add(about.mtime().wrapping_mul(1_000_000_000)),
        );
        let key = Sha256::digest(names).iter().take(16).fold(String::new(), |key, byte| format!("{key}{byte:02x}"));
        let id = session.profile().begun_upload(&key);
        Ok(Self { session, conversation, path, file, size: about.len(), key, id, at: None })
    }

    /// Sends the file. Returns its id.
    async fn run(&mut self, output: Output, patience: Duration) -> Result<i64, Failure> {
        let (mut backoff, mut deadline, mut restarts) = (Backoff::default(), Instant::now() + patience, 0);
        loop {
            let before = self.at;
            match self.step().await {
                Ok(Some(id)) => {
                    output.progress("");
                    return Ok(id);
                }
                Ok(None) => {
                    output.progress(&self.progress());
                    if self.at > before {
                        (backoff, deadline) = (Backoff::default(), Instant::now() + patience);
                    }
                }
                Err(Failure::Refused(refusal))
                    if self.id.is_some() && is_forgotten(&refusal) && restarts < RESTARTS_MAX =>
                {
                    restarts += 1;
                    (self.id, self.at) = (None, None);
                    self.session.profile().forget_upload(&self.key);
                }
                Err(failure) => {
                    self.at = None;
                    pause(output, failure, &mut backoff, deadline).await?;
                }
            }
        }
    }

    fn progress(&self) -> String {
        progress(&self.path.display().to_string(), self.at.unwrap_or(0), self.size)
    }

    /// One request. Returns the id when all bytes are there.
    async fn step(&mut self) -> Result<Option<i64>, Failure> {
        let Some(id) = self.id else {
            let name = self.path.file_name().unwrap_or_default().to_string_lossy();
            let body = json!({ "conversation_id": self.conversation, "name": name, "size": self.size });
            let created = self.session.request(Method::POST, "/files", Some(&body)).await?;
            let no_id = || Failure::Unreachable(format!("{} answered without file_id", self.session.address()));
            let id = created["file_id"].as_i64().ok_or_else(no_id)?;
            (self.id, self.at) = (Some(id), Some(0));
            self.session.profile().remember_upload(&self.key, id)?;
            return Ok(self.ended());
        };
        let path = format!("/files/{id}");
        let Some(at) = self.at else {
            let answer = exchange(self.session, Method::HEAD, &path, &[], &[]).await?;
            self.at = Some(offset(&answer)?);
            return Ok(self.ended());
        };
        let mut piece = Vec::new();
        let length = PIECE_BYTES.min(self.size.saturating_sub(at));
        let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| (&self.file).take(length).read_to_end(&mut piece));
        read.map_err(|error| file_failure(self.path, &error))?;
        if piece.len() as u64 != length {
            return Err(Failure::Usage(format!("{} became shorter while it was sent", self.path.display())));
        }
        let fields =
            [("upload-offset", at.to_string()), ("content-type", "application/offset+octet-stream".to_owned())];
        let answer = exchange(self.session, Method::PATCH, &path, &fields, &piece).await?;
        self.at = Some(offset(&answer)?);
        Ok(self.ended())
    }

    fn ended(&self) -> Option<i64> {
        self.id.filter(|_| self.at == Some(self.size))
    }
}

/// Whether the server no longer knows an upload.
fn is_forgotten(refusal: &Refusal) -> bool {
    matches!(refusal.code.as_str(), "not_found" | "expired")
}

async fn exchange(
    session: &Session,
    method: Method,
    path: &str,
    fields: &[(&'static str, String)],
    body: &[u8],
) -> Result<Response, Failure> {
    let lasts = if method == Method::GET { DOWNLOAD_TIMEOUT } else { PIECE_TIMEOUT };
    session
        .authorized(async |http, token| {
            http.bytes(Bytes { method: method.clone(), path, token, fields, body: body.to_vec() }, lasts).await
        })
        .await
}

fn offset(answer: &Response) -> Result<u64, Failure> {
    let value = answer.headers().get("upload-offset").and_then(|value| value.to_str().ok()?.parse().ok());
    value.ok_or_else(|| Failure::Unreachable("the answer has no Upload-Offset; is it a Veza Chat Server?".to_owned()))
}

/// Waits before a retry; fails when that would not help, or takes longer than the patience.
async fn pause(output: Output, failure: Failure, backoff: &mut Backoff, deadline: Instant) -> Result<(), Failure> {
    let wait = transient_transfer(&failure).map(|floor| backoff.next(floor, rand::random()));
    output.progress("");
    let Some(wait) = wait.filter(|wait| Instant::now() + *wait <= deadline) else { return Err(failure) };
    output.note(&format!("{failure}; going on in {:.1} s", wait.as_secs_f64()));
    sleep(wait).await;
    Ok(())
}

fn progress(name: &str, done: u64, size: u64) -> String {
    let percent = (done * 100).checked_div(size).unwrap_or(100);
    format!("{name}: {percent} % of {}", bytes(size))
}

fn file_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}", path.display()))
}

/// Saves a file on this machine.
pub async fn download(session: &Session, output: Output, options: &Download) -> Result<(), Failure> {
    let id = options.file_id;
    let patience = Duration::from_secs(options.retry_for);
    let (mut backoff, mut deadline) = (Backoff::default(), Instant::now() + patience);
    let shown = loop {
        match session.request(Method::GET, &format!("/files/{id}"), None).await {
            Ok(shown) => break shown,
            Err(failure) => pause(output, failure, &mut backoff, deadline).await?,
        }
    };
    refuse_unless_readable(&shown)?;
    let size = shown["size"].as_u64().unwrap_or(0);
    let target = target(options.path.as_deref(), shown["name"].as_str().unwrap_or_default(), id);
    refuse_existing(&target)?;
    let part = target.with_file_name(format!(".veza-{id}.part"));
    let failure = |error| file_failure(&part, &error);
    let mut file = OpenOptions::new().create(true).append(true).open(&part).map_err(failure)?;
    loop {
        let before = file.metadata().map_err(failure)?.len();
        if before == size {
            break;
        }
        let done = receive(session, output, id, &mut file, before, size, &part).await;
        if file.metadata().map_err(failure)?.len() > before {
            (backoff, deadline) = (Backoff::default(), Instant::now() + patience);
        }
        if let Err(failure) = done {
            pause(output, failure, &mut backoff, deadline).await?;
        }
    }
    output.progress("");
    file.sync_all().map_err(failure)?;
    refuse_existing(&target)?;
    std::fs::rename(&part, &target).map_err(|error| file_failure(&target, &error))?;
    let saved = json!({ "file_id": id, "path": target.display().to_string(), "size": size });
    output.result(&saved, || text::line(&target.display().to_string()))
}

/// Appends what comes of a file from `start` on.
async fn receive(
    session: &Session,
    output: Output,
    id: i64,
    file: &mut File,
    start: u64,
    size: u64,
    part: &Path,
) -> Result<(), Failure> {
    let fields = [("range", format!("bytes={start}-"))];
    let fields = if start == 0 { &[][..] } else { &fields[..] };
    let mut answer = exchange(session, Method::GET, &format!("/files/{id}/content"), fields, &[]).await?;
    let mut at = if answer.status() == StatusCode::PARTIAL_CONTENT { start } else { 0 };
    if at != start || start > size {
        file.set_len(0).map_err(|error| file_failure(part, &error))?;
        at = 0;
    }
    loop {
        let slow = |_| Failure::Unreachable(format!("{} sends nothing", session.address()));
        let more = timeout(PAUSE_MAX, answer.chunk()).await.map_err(slow)?;
        let lost = |error: reqwest::Error| Failure::Unreachable(format!("{}: {error}", session.address()));
        let Some(bytes) = more.map_err(lost)? else { break };
        at += bytes.len() as u64;
        if at > size {
            return Err(Failure::Usage(format!("the server sends more than the {size} bytes of the file")));
        }
        file.write_all(&bytes).map_err(|error| file_failure(part, &error))?;
        output.progress(&progress(&format!("file {id}"), at, size));
    }
    if at == size { Ok(()) } else { Err(Failure::Unreachable("the answer ended early".to_owned())) }
}

fn refuse_existing(target: &Path) -> Result<(), Failure> {
    // Also a link that leads nowhere.
    if target.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::Usage(format!("{} exists; give another path", target.display())))
}

/// Where a file goes: the given path, or its own name in the given folder.
fn target(path: Option<&Path>, name: &str, id: i64) -> PathBuf {
    match path {
        Some(path) if !path.is_dir() => path.to_owned(),
        folder => folder.unwrap_or(Path::new(".")).join(own_name(name, id)),
    }
}

/// The name that a file has on this machine: one part of a path, visible, and harmless in a terminal.
fn own_name(name: &str, id: i64) -> String {
    let name = text::line(name.rsplit(['/', '\\']).next().unwrap_or_default());
    let name = name.trim().trim_start_matches('.');
    if name.is_empty() { format!("file-{id}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_server_chooses_no_folder() {
        for (name, expected) in [
            ("plan.pdf", "plan.pdf"),
            ("../../.ssh/authorized_keys", "authorized_keys"),
            ("..\\x.exe", "x.exe"),
            ("..", "file-7"),
            (".bashrc", "bashrc"),
            ("/", "file-7"),
            ("", "file-7"),
            ("a\u{1b}[2Jb", "a␛[2Jb"),
        ] {
            assert_eq!(own_name(name, 7), expected, "{name:?}");
        }
        assert_eq!(target(None, "/etc/passwd", 7), Path::new("./passwd"));
        assert_eq!(target(Some(Path::new("/nowhere/x")), "y", 7), Path::new("/nowhere/x"));
        assert_eq!(target(Some(Path::new("/")), "y", 7), Path::new("/y"));
    }

    #[test]
    fn progress_is_a_percentage_of_the_size() {
        assert_eq!(progress("a", 1, 3), "a: 33 % of 3 bytes");
        assert_eq!(progress("a", 0, 0), "a: 100 % of 0 bytes");
        assert_eq!(progress("a", 2_500_000, 2_500_000), "a: 100 % of 2.5 MB");
    }
}
