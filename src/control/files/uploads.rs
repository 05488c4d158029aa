//! `POST /files` and `HEAD`, `PATCH`, `DELETE /files/{id}`: resumable uploads, tus 1.0.
//!
//! A client that knows tus sends `Upload-Length` and `Upload-Metadata`. Others send JSON and read it.

use super::fields::{insert, number};
use super::receiving::{Reception, receive, too_long};
use super::refusals::{disk_refusal, no_such_file, with_reason};
use super::state::Files;
use crate::control::Control;
use crate::control::extract::{Caller, Granted, PathId, RawBody, unfinished_place};
use crate::control::http::StopSignal;
use crate::control::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::files::content::ContentHash;
use crate::files::reason::FileReason;
use crate::files::state::FileState;
use crate::files::{name, tus};
use crate::ids::{ConversationId, FileId};
use crate::storage::files::{Created, NewFile, UploadState};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// What a client should send at once at most, so that a proxy in between does not refuse it.
const CHUNK_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Characters of a media type.
const TYPE_CHARS_MAX: usize = 100;
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");

#[derive(Deserialize)]
pub(super) struct NewUpload {
    conversation_id: String,
    name: String,
    size: u64,
    sha256: Option<String>,
    media_type: Option<String>,
}

pub(super) async fn describe(State(control): State<Control>) -> Response {
    let size = control.files().parts().size_max.to_string();
    let fields = [
        (RESUMABLE, tus::VERSION),
        (HeaderName::from_static("tus-version"), tus::VERSION),
        (HeaderName::from_static("tus-extension"), tus::EXTENSIONS),
        (HeaderName::from_static("tus-checksum-algorithm"), tus::CHECKSUM_ALGORITHMS),
        (HeaderName::from_static("tus-max-size"), &size),
    ];
    let mut response = StatusCode::NO_CONTENT.into_response();
    for (name, value) in fields {
        insert(&mut response, name, value);
    }
    response
}

fn with_offset(mut response: Response, received: u64, expires_at: Option<OffsetDateTime>) -> Response {
    insert(&mut response, RESUMABLE, tus::VERSION);
    insert(&mut response, OFFSET, &received.to_string());
    if let Some(at) = expires_at.and_then(|at| at.to_offset(time::UtcOffset::UTC).format(&Rfc2822).ok()) {
        insert(&mut response, HeaderName::from_static("upload-expires"), &at.replace("+0000", "GMT"));
    }
    response
}

/// A client that names a version of tus must name this one.
fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(RESUMABLE) {
        Some(version) if version != tus::VERSION => {
            let detail = "Tus-Resumable: This server speaks 1.0.0.";
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, ErrorCode::BadRequest.as_str(), detail))
        }
        _ => Ok(()),
    }
}

/// The new upload, from the headers of tus or from JSON.
fn wanted(headers: &HeaderMap, body: &[u8]) -> Result<NewUpload, Problem> {
    let Some(size) = number(headers, &LENGTH)? else {
        if headers.contains_key("upload-defer-length") {
            return Err(Problem::bad_request("Upload-Defer-Length: The length must be known when an upload begins."));
        }
        return serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("The body: {error}.")));
    };
    let metadata = headers.get("upload-metadata").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut pairs = tus::metadata(metadata).map_err(Problem::bad_request)?;
    let mut take = |names: &[&str]| {
        let at = pairs.iter().position(|(key, _)| names.contains(&key.as_str()))?;
        Some(pairs.swap_remove(at).1)
    };
    Ok(NewUpload {
        conversation_id: take(&["conversation_id"])
            .ok_or_else(|| Problem::bad_request("Upload-Metadata: conversation_id is missing."))?,
        name: take(&["filename", "name"]).unwrap_or_default(),
        size,
        sha256: take(&["sha256"]),
        media_type: take(&["filetype", "type", "media_type"]).filter(|kind| !kind.is_empty()),
    })
}

pub(super) fn conversation(text: &str) -> Result<ConversationId, Problem> {
    ConversationId::parse(text)
        .ok_or_else(|| Problem::bad_request("conversation_id: Must be the id of a conversation."))
}

pub(super) fn media_type(text: Option<&str>) -> Result<Option<&str>, Problem> {
    let is_type = |text: &&str| text.chars().count() <= TYPE_CHARS_MAX && text.chars().all(|c| matches!(c, ' '..='~'));
    match text {
        None => Ok(None),
        Some(text) => Some(text).filter(is_type).map(Some).ok_or_else(|| {
            Problem::bad_request(format!("media_type: Must be at most {TYPE_CHARS_MAX} ASCII characters."))
        }),
    }
}

fn check_size(files: &Files, size: u64) -> Result<i64, Problem> {
    let most = files.parts().size_max;
    if size > most {
        let detail = format!("size: A file can have at most {most} bytes.");
        return Err(with_reason(ErrorCode::TooLarge, detail, FileReason::TooLarge).into());
    }
    Ok(size as i64)
}

pub(super) async fn create(
    State(control): State<Control>,
    caller: Caller,
    granted: Granted,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, Problem> {
    let files = control.files();
    files.may_upload()?;
    check_version(&headers)?;
    let wanted = wanted(&headers, &body)?;
    let conversation = conversation(&wanted.conversation_id)?;
    granted.require(conversation)?;
    let expected = match wanted.sha256.as_deref() {
        None => None,
        Some(text) => Some(
            ContentHash::parse(text).ok_or_else(|| Problem::bad_request("sha256: Must be 64 hexadecimal digits."))?,
        ),
    };
    let new = NewFile {
        user: caller.user,
        conversation,
        name: &name::cleaned(&wanted.name),
        size: check_size(files, wanted.size)?,
        declared_type: media_type(wanted.media_type.as_deref())?,
        expected,
    };
    let file = begin(&control, &new).await?;
    if new.size == 0 {
        let folder = files.store().folder();
        let made = files.store().disk().run(move || folder.resume(file, 0)?.keep()).await;
        made.map_err(|error| disk_refusal(&error))?;
        files.finish(file, 0).await?;
    }
    let url = format!("/files/{}", file.0);
    let answer = json!({"file_id": file, "upload_url": url, "offset": 0, "chunk_max": CHUNK_BYTES_MAX});
    let mut response = (StatusCode::CREATED, axum::Json(answer)).into_response();
    insert(&mut response, header::LOCATION, &url);
    Ok(with_offset(response, 0, None))
}

/// Begins an upload, if its name may be shown and there is room for it.
pub(super) async fn begin(control: &Control, new: &NewFile<'_>) -> Result<FileId, Problem> {
    control.filter().check_profile(Some(new.user), ("POST /files", "name"), new.name).await?;
    let files = control.files();
    let (detail, reason) = match files.rows().create(new, &files.parts().quotas).await? {
        Created::File(file) => return Ok(file),
        Created::OverQuotaOfUser => {
            ("Your files would take more than your share. Delete some of them.", FileReason::UserQuota)
        }
        Created::OverQuotaOfServer => {
            ("The files of this server would take more than they may. Ask an administrator.", FileReason::ServerQuota)
        }
        Created::TooManyUnfinished => {
            let detail = "You have too many unfinished uploads. Finish or delete some of them.";
            return Err(with_reason(ErrorCode::RateLimited, detail, FileReason::TooManyUnfinished).into());
        }
        Created::TooManyInHour => {
            let detail = "You have uploaded too many files within an hour. Wait a while.";
            return Err(with_reason(ErrorCode::RateLimited, detail, FileReason::TooManyUploads).into());
        }
    };
    let mut problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "quota_exceeded", detail);
    problem.details = Some(Box::new(reason.details()));
    Err(problem)
}

async fn own(files: &Files, caller: &Caller, file: FileId) -> Result<UploadState, Problem> {
    files.rows().upload(caller.user, file).await?.ok_or_else(no_such_file)
}

pub(super) async fn offset(
    State(control): State<Control>,
    caller: Caller,
    PathId(file): PathId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_version(&headers)?;
    let files = control.files();
    // A request that is still writing goes on. The next PATCH ends it and receives the right offset.
    let upload = own(files, &caller, FileId(file)).await?;
    if upload.state == FileState::Expired {
        return Err(expired());
    }
    let mut response = StatusCode::OK.into_response();
    insert(&mut response, LENGTH, &upload.size.to_string());
    insert(&mut response, header::CACHE_CONTROL, "no-store");
    let expires = upload.expires_at.filter(|_| upload.state == FileState::Uploading);
    Ok(with_offset(response, upload.received, expires))
}

fn expired() -> Problem {
    Problem::new(StatusCode::GONE, "expired", "The upload was not completed in time. Begin a new one.")
}

pub(super) async fn append(
    State(control): State<Control>,
    caller: Caller,
    PathId(file): PathId,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let files = control.files().clone();
    files.may_upload()?;
    check_version(&headers)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind != Some("application/offset+octet-stream") {
        let detail = "Content-Type: Must be application/offset+octet-stream.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media", detail));
    }
    let offset =
        number(&headers, &OFFSET)?.ok_or_else(|| Problem::bad_request("Upload-Offset: This field is missing."))?;
    let checksum = match headers.get("upload-checksum") {
        None => None,
        Some(value) => Some(tus::checksum(value.to_str().unwrap_or_default()).map_err(Problem::bad_request)?),
    };
    let file = FileId(file);
    // Before the turn, which would end a request of somebody else; and after it, since the other request may have gone
    // on.
    own(&files, &caller, file).await?;
    let network = unfinished_place(request.extensions())?;
    let turn = files.turns().acquire(caller.user, file).await?;
    let upload = own(&files, &caller, file).await?;
    match upload.state {
        FileState::Uploading => {}
        FileState::Expired => return Err(expired()),
        _ => return Err(Refusal::new(ErrorCode::Conflict, "All bytes of this upload are there.").into()),
    }
    let UploadState { received, size, expires_at, .. } = upload;
    if offset != received {
        let refusal = Refusal::new(ErrorCode::Conflict, format!("Upload-Offset: The upload has {received} bytes."));
        return Ok(with_offset(Problem::from(refusal).into_response(), received, expires_at));
    }
    if number(&headers, &header::CONTENT_LENGTH)?.is_some_and(|length| length > size.saturating_sub(received)) {
        return Err(too_long());
    }
    let stop = request.extensions().get::<StopSignal>().cloned();
    let user = caller.user;
    let reception = Reception { file, user, received, size, checksum, is_whole: false, network, stop };
    let received = receive(&files, turn, reception, request.into_body().into_data_stream()).await?;
    Ok(with_offset(StatusCode::NO_CONTENT.into_response(), received, expires_at))
}

pub(super) async fn remove(
    State(control): State<Control>,
    caller: Caller,
    PathId(file): PathId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_version(&headers)?;
    let files = control.files();
    let file = FileId(file);
    own(files, &caller, file).await?;
    let turn = files.turns().acquire(caller.user, file).await?;
    let removed = files.rows().remove(caller.user, file).await?;
    drop(turn);
    files.work_arrived();
    if !removed {
        return Err(no_such_file());
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    insert(&mut response, RESUMABLE, tus::VERSION);
    Ok(response)
}
