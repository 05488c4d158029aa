//! `GET /files/{id}/{name}`: the content of a file; `GET /files/{id}`: its state; `POST /files/{id}/link`: a signed link.

use super::{blocking, bytes_of, no_such_file};
use crate::blobs::hexadecimal;
use crate::control::Control;
use crate::control::account_reads::Place;
use crate::control::extract::{AccountReader, Caller, PathId};
use crate::control::problem::Problem;
use crate::control::state::now_seconds;
use crate::error::{ErrorCode, Refusal};
use crate::files::link::{LIFE_SECONDS_MAX, LinkQuery};
use crate::files::state::FileState;
use crate::files::{kind, name};
use crate::ids::{FileId, UserId};
use crate::storage::files::ReadableFile;
use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::io::{Seek, SeekFrom};
use std::ops::Range;

/// No script, no frame, nothing that the file refers to: whatever a browser thinks that it is.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; img-src 'self'; sandbox";

/// Who reads: the user of the token, or of a signed link.
pub(super) struct FileReader {
    file: FileId,
    user: UserId,
    /// Among the reads of its user that are under way.
    _place: Place,
}

impl FromRequestParts<Control> for FileReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, control).await;
        let file = path.ok().and_then(|Path((id, _))| id.parse().ok()).map(FileId).ok_or_else(no_such_file)?;
        if parts.headers.contains_key(header::AUTHORIZATION) {
            let caller = Caller::from_request_parts(parts, control).await?;
            let place = control.account_reads().admit(caller.user)?;
            return Ok(Self { file, user: caller.user, _place: place });
        }
        let link = Query::<LinkQuery>::try_from_uri(&parts.uri);
        let Ok(Query(link)) = link else {
            return Err(Problem::unauthenticated("Send an access token, or use a link from POST /files/{id}/link."));
        };
        let user = control.files().parts().links.verified(&link, file, now_seconds());
        let user = user.ok_or_else(no_such_file)?;
        Ok(Self { file, user, _place: control.account_reads().admit(user)? })
    }
}

async fn readable(control: &Control, user: UserId, file: FileId) -> Result<ReadableFile, Problem> {
    control.files().store().readable(user, file).await?.ok_or_else(no_such_file)
}

pub(super) async fn show(
    State(control): State<Control>,
    reader: AccountReader,
    PathId(file): PathId,
) -> Result<Reply<Value>, Problem> {
    let mut file = readable(&control, reader.caller.user, FileId(file)).await?;
    if let Some(reason) = file.reason {
        file.shown["reason"] = reason.into();
    }
    Ok(Reply(file.shown))
}

pub(super) async fn link(
    State(control): State<Control>,
    reader: AccountReader,
    PathId(id): PathId,
) -> Result<Reply<Value>, Problem> {
    let user = reader.caller.user;
    let file = readable(&control, user, FileId(id)).await?;
    let now = now_seconds();
    let query = control.files().parts().links.query(user, FileId(id), now, LIFE_SECONDS_MAX);
    let name = encoded(file.shown["name"].as_str().unwrap_or("file"));
    Ok(Reply(json!({"url": format!("/files/{id}/{name}?{query}"), "expires_in_s": LIFE_SECONDS_MAX})))
}

/// A name as the last part of a path.
fn encoded(name: &str) -> String {
    let disposition = name::disposition(name, false);
    disposition.rsplit("''").next().unwrap_or("file").to_owned()
}

pub(super) async fn read(
    State(control): State<Control>,
    FileReader { file, user, _place }: FileReader,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = readable(&control, user, file).await?;
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
    let tag = format!("\"{}\"", hexadecimal(&content));
    if matches(&headers, header::IF_NONE_MATCH, &tag) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        describe(&mut response, &found.shown, &tag);
        return Ok(response);
    }
    let size = found.shown["size"].as_u64().unwrap_or(0);
    let is_same = !headers.contains_key(header::IF_RANGE) || matches(&headers, header::IF_RANGE, &tag);
    let wanted = headers.get(header::RANGE).filter(|_| is_same && method == Method::GET);
    let range = match wanted.and_then(|value| value.to_str().ok()).map(|text| range(text, size)) {
        None | Some(Ranges::Ignored) => None,
        Some(Ranges::One(range)) => Some(range),
        Some(Ranges::Unsatisfiable) => {
            let refusal = Refusal::bad_request(format!("Range: The file has {size} bytes."));
            let mut response = Problem { status: StatusCode::RANGE_NOT_SATISFIABLE, ..refusal.into() }.into_response();
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let (start, end) = range.as_ref().map_or((0, size), |range| (range.start, range.end));
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let folder = control.files().folder().clone();
        let opened = blocking(move || {
            let mut opened = folder.read_blob(&content)?;
            opened.seek(SeekFrom::Start(start)).map(|_| opened)
        });
        Body::from_stream(bytes_of(opened.await?, end - start))
    };
    let mut response = Response::new(body);
    describe(&mut response, &found.shown, &tag);
    insert(&mut response, header::CONTENT_LENGTH, &(end - start).to_string());
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(response)
}

fn insert(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn describe(response: &mut Response, shown: &Value, tag: &str) {
    let media_type = shown["media_type"].as_str().unwrap_or(kind::UNKNOWN);
    let is_inline = kind::is_shown_inline(media_type);
    let shown_type = match media_type {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    let disposition = name::disposition(shown["name"].as_str().unwrap_or("file"), !is_inline);
    for (name, value) in [
        (header::CONTENT_TYPE, &*shown_type),
        (header::CONTENT_DISPOSITION, &disposition),
        (header::ETAG, tag),
        (header::ACCEPT_RANGES, "bytes"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Kept, but asked about each time: access can end at any moment.
        (header::CACHE_CONTROL, "private, no-cache"),
    ] {
        insert(response, name, value);
    }
}

fn matches(headers: &HeaderMap, name: header::HeaderName, tag: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| matches!(value.trim(), "*") || value.trim() == tag)
}

#[derive(PartialEq, Eq, Debug)]
enum Ranges {
    One(Range<u64>),
    /// Several, or none that can be read: the whole file is a valid answer (RFC 9110 §14.2).
    Ignored,
    Unsatisfiable,
}

/// One range of bytes (RFC 9110 §14.1.2).
fn range(value: &str, size: u64) -> Ranges {
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ranges::Ignored;
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            Some(0) => return Ranges::Unsatisfiable,
            Some(length) => size.saturating_sub(length)..size,
            None => return Ranges::Ignored,
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return Ranges::Ignored,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
            _ => return Ranges::Ignored,
        },
    };
    if range.start >= range.end { Ranges::Unsatisfiable } else { Ranges::One(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_as_rfc_9110_says() {
        for (value, expected) in [
            ("bytes=0-499", Ranges::One(0..500)),
            ("bytes=500-", Ranges::One(500..1_000)),
            ("bytes=-300", Ranges::One(700..1_000)),
            ("bytes=-5000", Ranges::One(0..1_000)),
            ("bytes=999-5000", Ranges::One(999..1_000)),
            ("bytes=0-18446744073709551615", Ranges::One(0..1_000)),
            ("bytes=1000-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=5-2", Ranges::Ignored),
            ("bytes=a-b", Ranges::Ignored),
            ("bytes=0-1,5-6", Ranges::Ignored),
            ("bytes=+1-2", Ranges::Ignored),
            ("bytes=99999999999999999999-", Ranges::Ignored),
            ("items=0-1", Ranges::Ignored),
        ] {
            assert_eq!(range(value, 1_000), expected, "{value}");
        }
        assert_eq!(range("bytes=0-", 0), Ranges::Unsatisfiable);
    }

    #[test]
    fn the_tag_of_a_file_matches_itself() {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, "\"a\", \"b\"".parse().unwrap())]);
        assert!(matches(&headers, header::IF_NONE_MATCH, "\"b\""));
        assert!(!matches(&headers, header::IF_NONE_MATCH, "\"c\""));
    }

    #[test]
    fn a_name_becomes_one_part_of_a_path() {
        assert_eq!(encoded("a b/ü?.pdf"), "a%20b%2F%C3%BC%3F.pdf");
    }
}
