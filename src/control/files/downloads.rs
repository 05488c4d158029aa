//! `GET /files/{id}/{name}`: the content of a file; `GET /files/{id}/variants/{kind}`: a smaller picture;
//! `GET /files/{id}`: its state; `POST /files/{id}/link`: a signed link.

use super::fields::insert;
use super::refusals::{disk_refusal, no_such_file};
use super::state::Files;
use crate::address::ClientNetwork;
use crate::control::Control;
use crate::control::extract::{AccountReader, Caller, Granted, PathId, active_session, charge};
use crate::control::problem::Problem;
use crate::control::state::now_seconds;
use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::files::link::{LIFE_SECONDS_MAX, LinkQuery};
use crate::files::state::FileState;
use crate::files::store::ByteStream;
use crate::files::{kind, name};
use crate::ids::{FileId, UserId};
use crate::mesh::quota::QuotaPlace;
use crate::storage::files::{ReadableFile, StoredContent};
use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::io;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// No script, no frame, nothing that the file refers to: whatever a browser thinks that it is.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; img-src 'self'; sandbox";
/// Browsers keep it, but ask each time: access can end at any moment.
pub(super) const ASKED_EACH_TIME: &str = "private, no-cache";
/// A download that takes long asks again whether its user may read the file.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Who reads content, and a place among the downloads of that user or network.
pub(super) enum ContentReader {
    /// A user.
    User { file: FileId, user: UserId, _place: QuotaPlace<UserId> },
    /// Somebody with a public link.
    Public { token_hash: [u8; 32], _place: QuotaPlace<ClientNetwork> },
    /// Somebody who knows the address of a picture of a user.
    Avatar,
}

impl ContentReader {
    /// Whether it may still read.
    async fn may_read(&self, files: &Files) -> Result<bool, Refusal> {
        match self {
            Self::User { file, user, .. } => files.rows().may_read(*user, *file).await,
            Self::Public { token_hash, .. } => Ok(files.shares().shared(token_hash).await?.is_some()),
            Self::Avatar => Ok(true), // a few kilobytes
        }
    }
}

/// Who reads: the user of the token, or of a signed link.
pub(super) struct FileReader {
    file: FileId,
    user: UserId,
    /// The last part of the path.
    last: String,
    /// Among the downloads of its user that are under way.
    place: QuotaPlace<UserId>,
}

impl FileReader {
    fn content(self) -> ContentReader {
        ContentReader::User { file: self.file, user: self.user, _place: self.place }
    }
}

impl FromRequestParts<Control> for FileReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, control).await;
        let Path((id, last)) = path.map_err(|_| no_such_file())?;
        let file = id.parse().map(FileId).map_err(|_| no_such_file())?;
        if parts.headers.contains_key(header::AUTHORIZATION) {
            let caller = Caller::from_request_parts(parts, control).await?;
            let Ok(granted) = Granted::from_request_parts(parts, control).await;
            require_covered(control.files(), &granted, file).await?;
            let place = control.files().admit_download(caller.user)?;
            return Ok(Self { file, user: caller.user, last, place });
        }
        let link = Query::<LinkQuery>::try_from_uri(&parts.uri);
        let Ok(Query(link)) = link else {
            return Err(Problem::unauthenticated("Send an access token, or use a link from POST /files/{id}/link."));
        };
        let asker = control.files().parts().links.verified(&link, file, now_seconds());
        let (user, session) = asker.ok_or_else(no_such_file)?;
        // A link ends with the session that asked for it.
        let active = async {
            charge(parts, control, user, session)?;
            active_session(control, user, session).await
        };
        active
            .await
            .map_err(|problem| if problem.status == StatusCode::UNAUTHORIZED { no_such_file() } else { problem })?;
        let place = control.files().admit_download(user)?;
        Ok(Self { file, user, last, place })
    }
}

/// Refuses a file of a conversation that the token of a bot is not for.
pub(super) async fn require_covered(files: &Files, granted: &Granted, file: FileId) -> Result<(), Problem> {
    if !granted.0.as_ref().is_some_and(|grant| grant.is_limited()) {
        return Ok(());
    }
    granted.require(files.rows().conversation(file).await?.ok_or_else(no_such_file)?)
}

async fn readable(control: &Control, user: UserId, file: FileId) -> Result<ReadableFile, Problem> {
    control.files().rows().readable(user, file).await?.ok_or_else(no_such_file)
}

pub(super) async fn show(
    State(control): State<Control>,
    reader: AccountReader,
    granted: Granted,
    PathId(file): PathId,
) -> Result<Reply<Value>, Problem> {
    require_covered(control.files(), &granted, FileId(file)).await?;
    let mut file = readable(&control, reader.caller.user, FileId(file)).await?;
    if let Some(reason) = file.reason {
        file.shown["reason"] = reason.into();
    }
    if let Some(failure) = file.failure {
        file.shown["failure"] = failure;
    }
    Ok(Reply(file.shown))
}

pub(super) async fn link(
    State(control): State<Control>,
    reader: AccountReader,
    granted: Granted,
    PathId(id): PathId,
) -> Result<Reply<Value>, Problem> {
    require_covered(control.files(), &granted, FileId(id)).await?;
    let Caller { user, session, .. } = reader.caller;
    let file = readable(&control, user, FileId(id)).await?;
    let now = now_seconds();
    let query = control.files().parts().links.query((user, session), FileId(id), now, LIFE_SECONDS_MAX);
    let name = name::path_segment(file.shown["name"].as_str().unwrap_or("file"));
    Ok(Reply(json!({"url": format!("/files/{id}/{name}?{query}"), "expires_in_s": LIFE_SECONDS_MAX})))
}

pub(super) async fn read(
    State(control): State<Control>,
    reader: FileReader,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = readable(&control, reader.user, reader.file).await?;
    let content = match (found.state, found.content) {
        (FileState::Ready, Some(content)) => content,
        (FileState::Uploading | FileState::Scanning, _) => {
            let detail = "The file is not complete, or is being checked. Try again in a moment.";
            return Err(Refusal::new(ErrorCode::Conflict, detail).retry_after(1_000).into());
        }
        (FileState::Infected, _) => {
            let detail = "A virus was found in this file. Its content is gone.";
            return Err(Problem::new(StatusCode::GONE, "infected", detail));
        }
        _ => return Err(no_such_file()),
    };
    let media_type = found.shown["media_type"].as_str().unwrap_or(kind::UNKNOWN);
    let name = found.shown["name"].as_str().unwrap_or("file");
    let served = ServedContent { content, media_type, name, caching: ASKED_EACH_TIME };
    serve(control.files(), reader.content(), &served, &method, &headers).await
}

pub(super) async fn read_variant(
    State(control): State<Control>,
    reader: FileReader,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = control.files().rows().variant(reader.user, reader.file, &reader.last).await?;
    let (media_type, content) = found.ok_or_else(no_such_file)?;
    let name = reader.last.clone();
    let served = ServedContent { content, media_type: &media_type, name: &name, caching: ASKED_EACH_TIME };
    serve(control.files(), reader.content(), &served, &method, &headers).await
}

/// What a response has.
pub(super) struct ServedContent<'a> {
    pub(super) content: StoredContent,
    pub(super) media_type: &'a str,
    pub(super) name: &'a str,
    /// What caches may do.
    pub(super) caching: &'static str,
}

pub(super) async fn serve(
    files: &Files,
    reader: ContentReader,
    served: &ServedContent<'_>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let StoredContent { name, size } = served.content;
    let tag = format!("\"{}\"", name.hash);
    if matches(headers, header::IF_NONE_MATCH, &tag) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        describe(&mut response, served, &tag);
        return Ok(response);
    }
    let is_same = !headers.contains_key(header::IF_RANGE) || matches(headers, header::IF_RANGE, &tag);
    let wanted = headers.get(header::RANGE).filter(|_| is_same && method == Method::GET);
    let range = match wanted.and_then(|value| value.to_str().ok()).map(|text| byte_range(text, size)) {
        None | Some(ByteRange::Ignored) => None,
        Some(ByteRange::One(range)) => Some(range),
        Some(ByteRange::Unsatisfiable) => {
            let refusal = Refusal::bad_request(format!("Range: The file has {size} bytes."));
            let mut response = Problem { status: StatusCode::RANGE_NOT_SATISFIABLE, ..refusal.into() }.into_response();
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let (start, end) = range.as_ref().map_or((0, size), |range| (range.start, range.end));
    let body = if method == Method::HEAD || start == end {
        Body::empty()
    } else {
        let bytes = files.store().read(name, start..end).await.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                error_limited!(content = %name, "the content of a file is missing; see `chat-server files check`");
            }
            disk_refusal(&error)
        })?;
        Body::from_stream(while_readable(files.clone(), reader, bytes))
    };
    let mut response = Response::new(body);
    describe(&mut response, served, &tag);
    insert(&mut response, header::CONTENT_LENGTH, &(end - start).to_string());
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(response)
}

/// The bytes, until the reader loses access. The place of the reader is held until they end.
fn while_readable(files: Files, reader: ContentReader, bytes: ByteStream) -> ByteStream {
    let state = (files, reader, bytes, Instant::now());
    stream::unfold(state, |(files, reader, mut bytes, mut asked_at)| async move {
        let next = bytes.next().await?;
        if asked_at.elapsed() >= ASK_AGAIN {
            asked_at = Instant::now();
            // Without an answer the download goes on: the last answer was yes.
            if reader.may_read(&files).await == Ok(false) {
                let gone =
                    io::Error::new(io::ErrorKind::PermissionDenied, "the reader may not see this file any longer");
                return Some((Err(gone), (files, reader, stream::empty().boxed(), asked_at)));
            }
        }
        Some((next, (files, reader, bytes, asked_at)))
    })
    .boxed()
}

fn describe(response: &mut Response, served: &ServedContent<'_>, tag: &str) {
    let is_inline = kind::is_shown_inline(served.media_type);
    let shown_type = match kind::served_type(served.media_type) {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    let disposition = name::disposition(served.name, !is_inline);
    for (name, value) in [
        (header::CONTENT_TYPE, &*shown_type),
        (header::CONTENT_DISPOSITION, &disposition),
        (header::ETAG, tag),
        (header::ACCEPT_RANGES, "bytes"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, served.caching),
    ] {
        insert(response, name, value);
    }
}

fn matches(headers: &HeaderMap, name: header::HeaderName, tag: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    // A weak tag matches too (RFC 9110 §13.1.2): content never changes under its hash.
    let mut tags = values.flat_map(|value| value.split(','));
    tags.any(|value| value.trim() == "*" || value.trim().trim_start_matches("W/") == tag)
}

#[derive(PartialEq, Eq, Debug)]
enum ByteRange {
    One(Range<u64>),
    /// Several, or none that can be read: the whole file is a valid answer (RFC 9110 §14.2).
    Ignored,
    Unsatisfiable,
}

/// One range of bytes (RFC 9110 §14.1.2).
fn byte_range(value: &str, size: u64) -> ByteRange {
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return ByteRange::Ignored;
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            Some(0) => return ByteRange::Unsatisfiable,
            Some(length) => size.saturating_sub(length)..size,
            None => return ByteRange::Ignored,
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return ByteRange::Ignored,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
            _ => return ByteRange::Ignored,
        },
    };
    if range.start >= range.end { ByteRange::Unsatisfiable } else { ByteRange::One(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_as_rfc_9110_says() {
        for (value, expected) in [
            ("bytes=0-499", ByteRange::One(0..500)),
            ("bytes=500-", ByteRange::One(500..1_000)),
            ("bytes=-300", ByteRange::One(700..1_000)),
            ("bytes=-5000", ByteRange::One(0..1_000)),
            ("bytes=999-5000", ByteRange::One(999..1_000)),
            ("bytes=0-18446744073709551615", ByteRange::One(0..1_000)),
            ("bytes=1000-", ByteRange::Unsatisfiable),
            ("bytes=-0", ByteRange::Unsatisfiable),
            ("bytes=5-2", ByteRange::Ignored),
            ("bytes=a-b", ByteRange::Ignored),
            ("bytes=0-1,5-6", ByteRange::Ignored),
            ("bytes=+1-2", ByteRange::Ignored),
            ("bytes=99999999999999999999-", ByteRange::Ignored),
            ("items=0-1", ByteRange::Ignored),
        ] {
            assert_eq!(byte_range(value, 1_000), expected, "{value}");
        }
        assert_eq!(byte_range("bytes=0-", 0), ByteRange::Unsatisfiable);
    }

    #[test]
    fn the_tag_of_a_file_matches_itself() {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, "\"a\", \"b\"".parse().unwrap())]);
        assert!(matches(&headers, header::IF_NONE_MATCH, "\"b\""));
        assert!(!matches(&headers, header::IF_NONE_MATCH, "\"c\""));
        let weak = HeaderMap::from_iter([(header::IF_NONE_MATCH, "W/\"a\"".parse().unwrap())]);
        assert!(matches(&weak, header::IF_NONE_MATCH, "\"a\""));
    }
}
