//! `POST /files/simple`: a whole file in one multipart form, for scripts. `conversation_id` comes before `file`.
//!
//! The row comes before the bytes, as for every upload: it holds the place in the quotas, and a crash leaves nothing
//! that does not expire.

use super::fields::number;
use super::receiving::{Reception, receive, too_long};
use super::uploads::{begin, conversation, media_type};
use crate::control::Control;
use crate::control::clients::NetworkPlace;
use crate::control::extract::{Caller, Granted, unfinished_place};
use crate::control::http::StopSignal;
use crate::control::problem::Problem;
use crate::error::ErrorCode;
use crate::files::name;
use crate::ids::ConversationId;
use crate::storage::files::NewFile;
use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Fields before the file.
const FIELDS_MAX: usize = 8;
/// Bytes of a field that is no file.
const FIELD_BYTES_MAX: usize = 1_024;
/// Bytes before those of the file. The parser keeps them in memory.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a form that are not the file's.
const FORM_BYTES_MAX: u64 = 64 * 1024;
/// How long the fields before the file may take.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The field `file`, and what came before it.
struct FormFile {
    conversation: ConversationId,
    field: Field<'static>,
}

pub(super) async fn upload(
    State(control): State<Control>,
    caller: Caller,
    granted: Granted,
    headers: HeaderMap,
    mut request: Request,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let files = control.files().clone();
    files.may_upload()?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| Problem::bad_request("Content-Type: Must be multipart/form-data with a boundary."))?;
    let network: Option<NetworkPlace> = unfinished_place(request.extensions())?;
    let stop = request.extensions_mut().remove::<StopSignal>();
    let size_max = files.parts().size_max;
    // The form is a little larger than its file.
    let size = match number(&headers, &header::CONTENT_LENGTH)? {
        Some(length) if length > size_max + FORM_BYTES_MAX => return Err(too_long()),
        Some(length) => length.min(size_max),
        None => size_max,
    };
    let has_begun = Arc::new(AtomicBool::new(false));
    let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(size_max + FORM_BYTES_MAX));
    let body = bounded(request.into_body(), Arc::clone(&has_begun));
    let form = Multipart::with_constraints(body, boundary, limits);
    let FormFile { conversation, field } =
        tokio::time::timeout(HEAD_TIME, file_field(form)).await.map_err(|_| {
            let detail = "The form arrives too slowly. Nothing was changed. Send it again.";
            Problem::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::DeadlineExceeded.as_str(), detail)
        })??;
    has_begun.store(true, Ordering::Relaxed);
    granted.require(conversation)?;

    let given = name::cleaned(field.file_name().unwrap_or_default());
    let declared = field.content_type().map(ToString::to_string);
    let new = NewFile {
        user: caller.user,
        conversation,
        name: &given,
        size: size as i64,
        declared_type: media_type(declared.as_deref())?,
        expected: None,
    };
    let file = begin(&control, &new).await?;
    let user = caller.user;
    let turn = match files.turns().acquire(user, file).await {
        Ok(turn) => turn,
        Err(problem) => {
            files.remove_unfinished(user, file).await?;
            return Err(problem);
        }
    };
    let reception = Reception { file, user, received: 0, size, checksum: None, is_whole: true, network, stop };
    receive(&files, turn, reception, field).await?;
    Ok((StatusCode::CREATED, Reply(json!({"file_id": file, "name": given, "state": "scanning"}))))
}

/// A body of which the parser holds little in memory: it fails when more than [`HEAD_BYTES_MAX`] have come and the file
/// has not begun.
fn bounded(body: Body, has_begun: Arc<AtomicBool>) -> impl Stream<Item = io::Result<Bytes>> {
    let mut passed = 0;
    body.into_data_stream().map(move |bytes| {
        let bytes = bytes.map_err(|_| io::Error::other("The body ended before it was complete."))?;
        if passed > HEAD_BYTES_MAX && !has_begun.load(Ordering::Relaxed) {
            return Err(io::Error::other(format!(
                "The form has more than {HEAD_BYTES_MAX} bytes before its file. Send conversation_id and file only."
            )));
        }
        passed = passed.saturating_add(bytes.len());
        Ok(bytes)
    })
}

async fn file_field(mut form: Multipart<'static>) -> Result<FormFile, Problem> {
    let mut place = None;
    for _ in 0..FIELDS_MAX {
        let Some(mut field) = form.next_field().await.map_err(|error| wrong(&error))? else { break };
        match field.name() {
            Some("conversation_id") => place = Some(conversation(&short_text(&mut field).await?)?),
            Some("file") => {
                let conversation = place
                    .ok_or_else(|| Problem::bad_request("conversation_id: This field must come before the file."))?;
                return Ok(FormFile { conversation, field });
            }
            _ => {
                short_text(&mut field).await?;
            }
        }
    }
    Err(Problem::bad_request("file: This field is missing."))
}

fn wrong(error: &multer::Error) -> Problem {
    match error {
        multer::Error::StreamSizeExceeded { .. } => too_long(),
        multer::Error::StreamReadFailed(reason) => Problem::bad_request(format!("The form: {reason}")),
        other => Problem::bad_request(format!("The form: {other}.")),
    }
}

async fn short_text(field: &mut Field<'_>) -> Result<String, Problem> {
    let mut text = Vec::new();
    while let Some(bytes) = field.chunk().await.map_err(|error| wrong(&error))? {
        text.extend_from_slice(&bytes);
        if text.len() > FIELD_BYTES_MAX {
            return Err(Problem::bad_request(format!("A field is longer than {FIELD_BYTES_MAX} bytes.")));
        }
    }
    String::from_utf8(text).map_err(|_| Problem::bad_request("A field is not UTF-8."))
}
