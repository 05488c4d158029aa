//! `POST /files/simple`: a whole file in one multipart form, for scripts. `conversation_id` comes before `file`.

use super::receiving::{Target, receive};
use super::uploads::{begin, check_size, conversation, media_type};
use super::{Files, blocking};
use crate::control::Control;
use crate::control::extract::Caller;
use crate::control::problem::Problem;
use crate::control::state::shielded;
use crate::files::name;
use crate::ids::FileId;
use crate::storage::files::NewFile;
use axum::Json as Reply;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

/// Fields before the file.
const FIELDS_MAX: usize = 8;
/// Bytes of a field that is no file.
const FIELD_BYTES_MAX: usize = 1_024;

pub(super) async fn upload(
    State(control): State<Control>,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let files = control.files().clone();
    files.may_upload()?;
    let mut form = form.map_err(|rejection| Problem::bad_request(format!("The body: {}.", rejection.body_text())))?;
    let mut place = None;
    for _ in 0..FIELDS_MAX {
        let Some(mut field) = form.next_field().await.map_err(|error| wrong(&error))? else { break };
        match field.name() {
            Some("conversation_id") => place = Some(conversation(&short_text(&mut field).await?)?),
            Some("file") => {
                let conversation = place
                    .ok_or_else(|| Problem::bad_request("conversation_id: This field must come before the file."))?;
                let given = name::cleaned(field.file_name().unwrap_or_default());
                let declared = media_type(field.content_type())?.map(str::to_owned);
                let file = files.store().reserve().await?;
                let turn = files.turn(caller.user, file).await?;
                let size = files.parts().size_max;
                let target = Target { file, received: 0, size, checksum: None, has_row: false };
                let body = stream::unfold(field, |mut field| async {
                    let next: Option<Result<Bytes, MultipartError>> = field.chunk().await.transpose();
                    next.map(|next| (next, field))
                });
                let received = match receive(turn, target, body, None).await {
                    Ok(received) => received,
                    Err(problem) => {
                        discard(&files, file).await;
                        return Err(problem);
                    }
                };
                // A client that disconnects now has uploaded its file, or nothing.
                let (control, shown) = (control.clone(), given.clone());
                let recorded = shielded(async move {
                    let new = NewFile {
                        user: caller.user,
                        conversation,
                        name: &shown,
                        size: check_size(control.files(), received)?,
                        declared_type: declared.as_deref(),
                        expected: None,
                        reserved: Some(file),
                    };
                    begin(&control, &new).await?;
                    Ok(control.files().keep(file, received, received).await?)
                });
                if let Err(problem) = recorded.await {
                    discard(&files, file).await;
                    return Err(problem);
                }
                let answer = json!({"file_id": file, "name": given, "state": "scanning"});
                return Ok((StatusCode::CREATED, Reply(answer)));
            }
            _ => {
                short_text(&mut field).await?;
            }
        }
    }
    Err(Problem::bad_request("file: This field is missing."))
}

/// Removes the bytes of an upload that did not begin. If this fails, the sweep of the jobs removes them.
async fn discard(files: &Files, file: FileId) {
    let folder = files.folder().clone();
    let _ = blocking(move || folder.remove_upload(file)).await;
}

fn wrong(error: &MultipartError) -> Problem {
    Problem::bad_request(format!("The form: {}.", error.body_text()))
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
