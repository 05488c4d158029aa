//! One upload: in chunks, in one body, or as a form; then the wait until the file is ready, and its removal.

use super::content::FileContent;
use super::http::{FileClient, RequestHead};
use serde::Serialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long the check of a complete file may take.
const READY: Duration = Duration::from_mins(2);
/// Between two questions whether a file is ready.
const POLL: Duration = Duration::from_millis(100);
/// The name of every file.
const NAME: &str = "load.bin";
const BOUNDARY: &str = "veza-load-test-boundary";

/// How an upload is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UploadWay {
    /// tus, each `PATCH` with as many bytes as the server suggests.
    Chunks,
    /// tus, one `PATCH` with everything.
    OneBody,
    /// `POST /files/simple`.
    Simple,
}

impl UploadWay {
    pub(super) const ALL: [Self; 3] = [Self::Chunks, Self::OneBody, Self::Simple];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Chunks => "tus, chunks",
            Self::OneBody => "tus, one body",
            Self::Simple => "/files/simple",
        }
    }
}

/// A user who uploads into a conversation.
pub(super) struct Uploader {
    client: FileClient,
    token: String,
    conversation: String,
    content: FileContent,
    pace: UploadPace,
}

/// How fast an upload may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct UploadPace {
    /// 0: as fast as possible.
    pub(super) bytes_per_s: u64,
}

impl UploadPace {
    /// How long to wait before further bytes, when so many were sent since the beginning.
    fn wait(self, sent: u64, since: Duration) -> Duration {
        match self.bytes_per_s {
            0 => Duration::ZERO,
            pace => Duration::from_secs_f64(sent as f64 / pace as f64).saturating_sub(since),
        }
    }
}

impl Uploader {
    pub(super) fn connect(
        address: SocketAddr,
        token: &str,
        conversation: &str,
        content: &FileContent,
    ) -> Result<Self, String> {
        let client = FileClient::open(address)?;
        let (token, conversation, content) = (token.to_owned(), conversation.to_owned(), content.clone());
        Ok(Self { client, token, conversation, content, pace: UploadPace { bytes_per_s: 0 } })
    }

    /// The same with a pace, for resumable uploads.
    pub(super) fn at_pace(self, pace: UploadPace) -> Self {
        Self { pace, ..self }
    }

    /// Uploads the file with this number; the server's number for it. Between two chunks it asks `is_over`, and then
    /// removes the unfinished upload and returns `None`.
    pub(super) fn upload(
        &mut self,
        way: UploadWay,
        number: u64,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, String> {
        match way {
            UploadWay::Chunks => self.resumable(number, u64::MAX, is_over),
            UploadWay::OneBody => self.resumable(number, 1, is_over),
            UploadWay::Simple => self.form(number).map(Some),
        }
    }

    /// tus, with at most so many chunks.
    fn resumable(&mut self, number: u64, chunks_max: u64, is_over: &dyn Fn() -> bool) -> Result<Option<u64>, String> {
        let size = self.content.size();
        let body = json!({ "conversation_id": self.conversation, "name": NAME, "size": size }).to_string();
        let token = self.token.clone();
        let post = RequestHead {
            method: "POST",
            path: "/files",
            token: Some(&token),
            fields: "content-type: application/json\r\n",
            length: 0,
        };
        let created = object(&self.client.ask(post, &body, 201)?)?;
        let file = number_of(&created["file_id"])?;
        let suggested = created["chunk_max"].as_u64().filter(|bytes| *bytes > 0).ok_or("no chunk_max in an answer")?;
        let chunk = if chunks_max == 1 { size } else { suggested };
        let path = format!("/files/{file}");
        let (began, mut sent, pace) = (Instant::now(), 0, self.pace);
        let mut at = 0;
        while at < size {
            if is_over() {
                self.remove(file)?;
                return Ok(None);
            }
            let end = size.min(at + chunk);
            let fields = format!(
                "tus-resumable: 1.0.0\r\nupload-offset: {at}\r\ncontent-type: application/offset+octet-stream\r\n"
            );
            let token = Some(&*token);
            let next = RequestHead { method: "PATCH", path: &path, token, fields: &fields, length: end - at };
            self.client.begin(next)?;
            self.content.pieces(number, at, end, |piece| {
                std::thread::sleep(pace.wait(sent, began.elapsed()));
                sent += piece.len() as u64;
                self.client.write(piece)
            })?;
            self.client.short_answer("PATCH", &path, 204)?;
            at = end;
        }
        Ok(Some(file))
    }

    fn form(&mut self, number: u64) -> Result<u64, String> {
        let conversation = &self.conversation;
        let before = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"conversation_id\"\r\n\r\n{conversation}\r\n\
             --{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{NAME}\"\r\n\r\n"
        );
        let after = format!("\r\n--{BOUNDARY}--\r\n");
        let size = self.content.size();
        let post = RequestHead {
            method: "POST",
            path: "/files/simple",
            token: Some(&self.token),
            fields: &format!("content-type: multipart/form-data; boundary={BOUNDARY}\r\n"),
            length: before.len() as u64 + size + after.len() as u64,
        };
        self.client.begin(post)?;
        self.client.write(before.as_bytes())?;
        self.content.pieces(number, 0, size, |piece| self.client.write(piece))?;
        self.client.write(after.as_bytes())?;
        let created = object(&self.client.short_answer("POST", "/files/simple", 201)?)?;
        number_of(&created["file_id"])
    }

    /// Waits until the file was checked; false when it is over before.
    pub(super) fn wait_until_ready(&mut self, file: u64, is_over: &dyn Fn() -> bool) -> Result<bool, String> {
        let (path, token) = (format!("/files/{file}"), self.token.clone());
        let get = RequestHead { method: "GET", path: &path, token: Some(&token), fields: "", length: 0 };
        let deadline = Instant::now() + READY;
        loop {
            let shown = object(&self.client.ask(get, "", 200)?)?;
            match shown["state"].as_str().unwrap_or_default() {
                "ready" => return Ok(true),
                "uploading" | "scanning" if is_over() => return Ok(false),
                "uploading" | "scanning" if Instant::now() < deadline => std::thread::sleep(POLL),
                state => return Err(format!("{path} is {state} instead of ready: {shown}")),
            }
        }
    }

    /// A signed link to the file: a path.
    pub(super) fn link(&mut self, file: u64) -> Result<String, String> {
        let (path, token) = (format!("/files/{file}/link"), self.token.clone());
        let post = RequestHead { method: "POST", path: &path, token: Some(&token), fields: "", length: 0 };
        let answer = object(&self.client.ask(post, "", 200)?)?;
        answer["url"].as_str().map(str::to_owned).ok_or_else(|| format!("{path}: an answer without a url: {answer}"))
    }

    /// Removes a file or an unfinished upload.
    pub(super) fn remove(&mut self, file: u64) -> Result<(), String> {
        let (path, token) = (format!("/files/{file}"), self.token.clone());
        let delete = RequestHead { method: "DELETE", path: &path, token: Some(&token), fields: "", length: 0 };
        self.client.ask(delete, "", 204).map(drop)
    }
}

fn object(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("an answer that is not JSON ({error}): {text}"))
}

/// An id, as a number or as text.
fn number_of(value: &Value) -> Result<u64, String> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| format!("file_id is {value} instead of a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_delays_what_would_be_too_early() {
        let pace = UploadPace { bytes_per_s: 1_000 };
        assert_eq!(pace.wait(3_000, Duration::from_secs(1)), Duration::from_secs(2));
        assert_eq!(pace.wait(3_000, Duration::from_secs(4)), Duration::ZERO);
        assert_eq!(UploadPace { bytes_per_s: 0 }.wait(3_000, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn reads_ids_as_numbers_and_as_text() {
        assert_eq!((number_of(&json!(17)), number_of(&json!("17"))), (Ok(17), Ok(17)));
        assert!(number_of(&Value::Null).is_err());
    }
}
