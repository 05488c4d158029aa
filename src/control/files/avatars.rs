//! Pictures of users: `PUT`, `DELETE /users/me/avatar`, and `GET /avatars/{name}`.
//!
//! 1. The body goes into a file without a name, which is gone when the request is.
//! 2. Its type, its pixels and the virus scanner decide whether it is accepted.
//! 3. The media worker makes one small WebP of it, turned and without anything else that the picture said.
//! 4. The WebP is named as content, stored, and adopted: one transaction makes it the picture of the user, changes the
//!    profile, and plans the removal of the former content.
//!
//! Invariants:
//! - the address of a picture has 128 random bits and belongs to one picture. So it needs no token, and browsers keep
//!   the picture without asking again. Another picture has another address;
//! - every read asks PostgreSQL whether its user still shows the picture. So a removed picture is gone at once;
//! - a crash at any step leaves nothing for long: content that was named and not adopted is released ten minutes later;
//! - a picture waits for nothing after the answer. What cannot be checked now is refused, with a time to try again.

use super::adoption::{MadeFile, store_adopted};
use super::antivirus::ScanVerdict;
use super::derived::MadeCopy;
use super::downloads::{ContentReader, ServedContent, serve};
use super::fields::number;
use super::refusals::disk_refusal;
use super::state::Files;
use crate::control::Control;
use crate::control::extract::{Caller, PeerAddress, ProfileEditor, unfinished_place};
use crate::control::media_worker::{Examination, Unexaminable};
use crate::control::problem::Problem;
use crate::control::state::shielded;
use crate::control::view::UserView;
use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::files::kind;
use crate::files::reason::FileFailure;
use crate::storage::accounts::avatars::Adopted;
use crate::storage::accounts::{AccountProfile, FieldChange, ProfileEdit};
use crate::storage::files::StoredContent;
use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use serde_json::Value;
use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _};
use std::time::{Duration, Instant};
use tokio::time::{timeout, timeout_at};

/// Bytes of a picture that is sent.
const SIZE_MAX: u64 = 5_000_000;
/// The types of pictures that are accepted.
const TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/webp", "image/gif"];
/// The type of pictures that are served.
const SERVED_TYPE: &str = "image/webp";
/// Bytes of the random part of an address.
const NAME_BYTES: usize = 16;
/// An address never shows another picture.
const KEPT_FOR_A_YEAR: &str = "public, max-age=31536000, immutable";
/// Bytes at the start of a picture that say what it is and how large.
const START_BYTES: u64 = 1024 * 1024;
/// Bytes that one write takes, unless the body ends.
const WRITE_BYTES: usize = 256 * 1024;
/// More bytes are read and discarded, so that the sender can read the response.
const DRAIN_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// How long a body may pause, and take.
const PAUSE_MAX: Duration = Duration::from_secs(15);
const BODY_TIME_MAX: Duration = Duration::from_mins(2);
/// How long a client waits for the checks.
const CHECK_TIME_MAX: Duration = Duration::from_mins(1);
/// When to send a picture again that could not be checked.
const RETRY_MS: u64 = 5_000;

pub(super) async fn replace(
    State(control): State<Control>,
    ProfileEditor(caller): ProfileEditor,
    request: Request,
) -> Result<Reply<UserView>, Problem> {
    let files = control.files().clone();
    files.may_upload()?;
    let declared = declared_type(request.headers())?;
    let size_max = SIZE_MAX.min(files.parts().size_max);
    if number(request.headers(), &header::CONTENT_LENGTH)?.is_some_and(|size| size > size_max + DRAIN_BYTES_MAX) {
        return Err(too_large(size_max));
    }
    let place = files.admit_avatar(caller.user)?;
    let network = unfinished_place(request.extensions())?;
    control.profile_edits().charge(caller.user, Instant::now())?;
    let (picture, size) = received(&files, request.into_body(), size_max).await?;
    drop(network);
    // The former picture and the new one change together, also if the client has gone.
    shielded(async move {
        let _place = place;
        let late = |_| {
            let detail = "Too many pictures are being checked. Nothing was changed. Try again in a moment.";
            Problem::from(Refusal::new(ErrorCode::Overloaded, detail).retry_after(RETRY_MS))
        };
        let checked = timeout(CHECK_TIME_MAX, checked(&control, &caller, (picture, size), declared)).await;
        let (made, folder) = checked.map_err(late)??;
        let adopted = adopted(&control, &caller, &made).await;
        let _ = files.store().disk().run(move || folder.map_or(Ok(()), tempfile::TempDir::close)).await;
        let profile = adopted?;
        files.work_arrived(); // the former picture is to be removed
        control.profile_changed();
        Ok(Reply(UserView::own(profile)))
    })
    .await
}

pub(super) async fn remove(
    State(control): State<Control>,
    ProfileEditor(caller): ProfileEditor,
) -> Result<Reply<UserView>, Problem> {
    control.profile_edits().charge(caller.user, Instant::now())?;
    let edit = ProfileEdit { avatar_url: FieldChange::Clear, ..ProfileEdit::default() };
    let profile = control.accounts().update_profile(&caller, edit).await?.ok_or_else(no_such_user)?;
    control.files().work_arrived();
    control.profile_changed();
    Ok(Reply(UserView::own(profile)))
}

pub(super) async fn read(
    State(control): State<Control>,
    Path(name): Path<String>,
    peer: PeerAddress,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let random = name.strip_suffix(".webp").and_then(|random| URL_SAFE_NO_PAD.decode(random).ok());
    if random.is_none_or(|random| random.len() != NAME_BYTES) {
        return Err(no_such_picture());
    }
    control.avatar_reads().charge(peer.network(), Instant::now())?;
    let url = address(&name);
    let (content, size) = control.accounts().avatar(&url).await?.ok_or_else(no_such_picture)?;
    let content = StoredContent { name: content, size };
    let served = ServedContent { content, media_type: SERVED_TYPE, name: &name, caching: KEPT_FOR_A_YEAR };
    match serve(control.files(), ContentReader::Avatar, &served, &method, &headers).await {
        // Its content can have gone since.
        Err(_) if control.accounts().avatar(&url).await? != Some((content.name, size)) => Err(no_such_picture()),
        served => served,
    }
}

fn address(name: &str) -> String {
    format!("/avatars/{name}")
}

fn no_such_picture() -> Problem {
    Problem::not_found("There is no such picture, or its user has another one now.")
}

fn no_such_user() -> Problem {
    Problem::not_found("The account is not active.")
}

fn too_large(size_max: u64) -> Problem {
    Refusal::new(ErrorCode::TooLarge, format!("A picture can have at most {size_max} bytes. Make it smaller.")).into()
}

fn declared_type(headers: &HeaderMap) -> Result<&'static str, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = TYPES.into_iter().find(|known| *known == given);
    known.ok_or_else(|| Problem::bad_request(format!("Content-Type: Must be one of {}.", TYPES.join(", "))))
}

/// The body, in a file without a name, and its bytes.
async fn received(files: &Files, body: Body, size_max: u64) -> Result<(File, u64), Problem> {
    let (folder, disk) = (files.store().folder(), files.store().disk());
    let refused = |error| Problem::from(disk_refusal(&error));
    let mut picture = disk.run(move || folder.work_file()).await.map_err(refused)?;
    let (mut body, mut waiting, mut size) = (body.into_data_stream(), Vec::new(), 0);
    let deadline = tokio::time::Instant::now() + BODY_TIME_MAX;
    loop {
        let pause = tokio::time::Instant::now() + PAUSE_MAX;
        let Ok(next) = timeout_at(deadline.min(pause), body.next()).await else {
            let detail = "The picture arrives too slowly. Nothing was changed. Send it again.";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::DeadlineExceeded.as_str(), detail));
        };
        let cut = |_| Problem::bad_request("The body ended before it was complete. Send it again.");
        let bytes = next.transpose().map_err(cut)?;
        let is_end = bytes.is_none();
        let bytes = bytes.unwrap_or_default();
        size += bytes.len() as u64;
        if size > size_max {
            waiting.clear();
            if is_end || size > size_max + DRAIN_BYTES_MAX {
                return Err(too_large(size_max));
            }
            continue;
        }
        files.pace().admit(bytes.len()).await;
        waiting.extend_from_slice(&bytes);
        if is_end || waiting.len() >= WRITE_BYTES {
            let full = std::mem::take(&mut waiting);
            picture = disk.run(move || picture.append(&full).map(|()| picture)).await.map_err(refused)?;
        }
        if is_end {
            break;
        }
    }
    if size == 0 {
        return Err(Problem::bad_request("The body is empty. Send a picture."));
    }
    Ok((disk.run(move || picture.into_file()).await.map_err(refused)?, size))
}

/// The small picture that is made of an accepted one, and the folder that it is in.
async fn checked(
    control: &Control,
    caller: &Caller,
    (picture, size): (File, u64),
    declared: &'static str,
) -> Result<(MadeCopy, Option<tempfile::TempDir>), Problem> {
    let files = control.files();
    let disk = files.store().disk();
    let refused = |error| Problem::from(disk_refusal(&error));
    let opened = picture.try_clone().map_err(refused)?;
    let media_type = disk.run(move || Ok(inspected(opened, size, declared))).await.map_err(refused)??;
    if let Some(antivirus) = files.antivirus() {
        let scanned = picture.try_clone().map_err(refused)?;
        match antivirus.scan(disk, scanned, size).await.map_err(|_| unchecked("scanned for viruses"))? {
            ScanVerdict::Clean => {}
            ScanVerdict::Virus(name) => {
                let reason = format!("A virus was found: {name}.");
                control.accounts().note_infected_avatar(caller, &reason).await?;
                let detail = format!("{reason} The picture was not kept.");
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "infected", detail));
            }
            ScanVerdict::Unscannable(reason) => {
                return Err(Problem::bad_request(format!("The picture cannot be scanned: {reason}.")));
            }
        }
    }
    let mut made = match files.made_of(media_type, picture, Examination::Avatar).await? {
        Ok(made) => made,
        Err(Unexaminable::Machine(reason)) => {
            error_limited!(reason, media_type, "the picture of a user cannot be examined");
            return Err(unchecked("examined"));
        }
        Err(error) => {
            tracing::info!(%error, media_type, "the picture of a user cannot be used");
            let detail = "The picture cannot be read. Save it again with another program.";
            return Err(Problem::bad_request(detail));
        }
    };
    let (_, copy) = made.variants.pop().ok_or_else(Problem::internal)?;
    Ok((copy, made.folder.take()))
}

fn unchecked(what: &str) -> Problem {
    let detail = format!("Pictures cannot be {what} now. Nothing was changed. Try again in a moment.");
    Refusal::new(ErrorCode::StorageUnavailable, detail).retry_after(RETRY_MS).into()
}

/// The type of a picture, by its own bytes.
fn inspected(mut opened: File, size: u64, declared: &str) -> Result<&'static str, Problem> {
    let mut start = Vec::new();
    let read = opened.rewind().and_then(|()| (&mut opened).take(START_BYTES).read_to_end(&mut start));
    read.map_err(|error| disk_refusal(&error))?;
    let head = &start[..start.len().min(kind::HEAD_BYTES)];
    let found = kind::found(head, size == head.len() as u64, "");
    let refused = |code| {
        move |failure: FileFailure| {
            let details = Value::Object(failure.details().clone());
            Problem::from(Refusal::new(code, failure.sentence).with_details(details))
        }
    };
    kind::check(found, "", Some(declared), &TYPES.map(str::to_owned)).map_err(refused(ErrorCode::BadRequest))?;
    kind::dimensions(found, &mut Cursor::new(&start)).map_err(refused(ErrorCode::TooLarge))?;
    Ok(found)
}

/// The profile of a user who has this picture.
async fn adopted(control: &Control, caller: &Caller, made: &MadeCopy) -> Result<AccountProfile, Problem> {
    let (accounts, store) = (control.accounts(), control.files().store());
    let refused = |error| Problem::from(disk_refusal(&error));
    let file = MadeFile { path: &made.path, hash: made.hash, size: made.size };
    let adopt = async |content| {
        let url = address(&format!("{}.webp", URL_SAFE_NO_PAD.encode(rand::random::<[u8; NAME_BYTES]>())));
        match accounts.adopt_avatar(caller, &url, content).await? {
            Adopted::Profile(profile) => Ok(Some(profile)),
            Adopted::Nobody => Err(no_such_user()),
            Adopted::Released => Ok(None),
        }
    };
    store_adopted((store, accounts), file, refused, adopt).await?.ok_or_else(|| unchecked("stored"))
}
