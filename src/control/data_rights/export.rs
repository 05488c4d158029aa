//! The job of a copy of a person's data: an archive with JSON of every row, all files, and pages to read.
//!
//! 1. One snapshot of the database. Every table of the catalogue is copied, then what the person has written, as pages.
//! 2. The content of files.
//! 3. The archive becomes content in the store, so that every node can serve it. It goes after a week.
//!
//! A job that was cut short begins again: nothing is complete before step 3.

use super::super::files::{MadeFile, store_adopted};
use super::super::jobs::JobEnd;
use super::archive::CopyArchive;
use super::page::{self, CopyContents, LISTED_MAX};
use super::state::DataRights;
use crate::error::{ErrorCode, Refusal};
use crate::files::content::ContentHash;
use crate::ids::UserId;
use crate::mesh::record::rfc3339;
use crate::storage::data_rights::RightsTables;
use crate::storage::data_rights::exports::CopiedFile;
use crate::storage::files::StoredContent;
use crate::storage::sql::data_rights::catalogue::{Fate, TABLES};
use futures_util::StreamExt as _;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::path::Path;
use std::pin::pin;
use time::OffsetDateTime;

/// How long a copy is kept, in seconds.
const KEPT_SECONDS: f64 = 7.0 * 86_400.0;
/// Bytes that must be free for everything but files.
const ROOM_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of a name in the archive, and of its extension with the dot.
const NAME_BYTES_MAX: usize = 200;
const EXTENSION_BYTES_MAX: usize = 20;
/// The longest row that becomes a message on a page: a message is far shorter.
const ROW_BYTES_MAX: usize = 1024 * 1024;

/// Makes a copy.
pub(super) async fn run(rights: &DataRights, id: &str) -> Result<JobEnd, Refusal> {
    let tables = rights.tables().await?;
    let Some(user) = tables.begin_export(id).await? else { return Ok(JobEnd::Done) };
    let (store, disk) = (&rights.parts.store, rights.parts.store.disk());
    let folder = store.folder();
    let files = tables.exported_files(user).await?;
    let bytes = files.iter().map(|file| file.content.size).sum::<u64>() + ROOM_BYTES;
    let made = move || {
        folder.require_room(bytes)?;
        folder.work_folder()
    };
    let work = disk.run(made).await.map_err(failed)?;
    let path = work.path().join("copy.zip");
    let archive = CopyArchive::create(disk.clone(), &path).await.map_err(failed)?;
    fill(rights, &tables, user, (archive, files)).await?;
    keep(rights, id, &path).await?;
    let _ = disk.run(move || work.close()).await; // the next sweep removes it too
    tracing::info!("made a copy of the data of account {}", user.0);
    Ok(JobEnd::Done)
}

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn failed(error: io::Error) -> Refusal {
    Refusal::new(ErrorCode::StorageUnavailable, format!("A copy of a person's data could not be made: {error}."))
}

async fn fill(
    rights: &DataRights,
    tables: &RightsTables,
    user: UserId,
    (mut archive, files): (CopyArchive, Vec<CopiedFile>),
) -> Result<(), Refusal> {
    let mut contents = CopyContents { made_at: rfc3339(OffsetDateTime::now_utc()), ..CopyContents::default() };
    let mut profile = Value::Null;
    for table in TABLES.iter().filter(|table| table.fate != Fate::Impersonal && !table.exported.is_empty()) {
        let path = format!("data/{}.jsonl", table.name);
        archive.begin(&path, false).await.map_err(failed)?;
        if table.name == "users" {
            let mut rows = pin!(tables.export_table(table, user).await?);
            while let Some(row) = rows.next().await {
                let row = row.map_err(failed)?;
                profile = serde_json::from_slice(&row).unwrap_or_default();
                archive.write(&row).await.map_err(failed)?;
            }
            contents.tables.push((path, 1));
            continue;
        }
        let count = archive.write_all(tables.export_table(table, user).await?).await.map_err(failed)?;
        contents.tables.push((path, count));
    }
    write_pages(tables, user, &mut archive, &mut contents).await?;
    for file in files {
        let StoredContent { name, size } = file.content;
        let bytes = match rights.parts.store.read(name, 0..size).await {
            // It was removed since the snapshot.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.map_err(failed)?,
        };
        let path = safe_path(&file.path);
        archive.begin(&path, true).await.map_err(failed)?;
        archive.write_all(bytes).await.map_err(failed)?;
        if contents.files.len() < LISTED_MAX {
            contents.files.push((path, size));
        }
    }
    archive.begin("index.html", false).await.map_err(failed)?;
    archive.write(contents.to_page(&profile).as_bytes()).await.map_err(failed)?;
    archive.finish().await.map_err(failed)
}

/// A page for each conversation in which the person has written.
async fn write_pages(
    tables: &RightsTables,
    user: UserId,
    archive: &mut CopyArchive,
    contents: &mut CopyContents,
) -> Result<(), Refusal> {
    let mut rows = pin!(tables.export_texts(user).await?);
    let mut lines = Vec::new();
    let mut present: Option<(String, String, u64)> = None;
    while let Some(some) = rows.next().await {
        lines.extend_from_slice(&some.map_err(failed)?);
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let row: Value = serde_json::from_slice(&lines[..end]).unwrap_or_default();
            lines.drain(..=end);
            let id = row["conversation"].as_str().unwrap_or("conversation").to_owned();
            let path = format!("conversations/{id}.html");
            if present.as_ref().is_none_or(|(open, _, _)| *open != path) {
                let name = row["name"].as_str().unwrap_or(&id).to_owned();
                archive.begin(&path, false).await.map_err(failed)?;
                archive.write(page::conversation(&name).as_bytes()).await.map_err(failed)?;
                list(contents, present.replace((path, name, 0)));
            }
            archive.write(page::message(&row).as_bytes()).await.map_err(failed)?;
            if let Some((_, _, count)) = &mut present {
                *count += 1;
            }
        }
        if lines.len() > ROW_BYTES_MAX {
            return Err(failed(io::Error::other("a row is too long")));
        }
    }
    list(contents, present);
    Ok(())
}

fn list(contents: &mut CopyContents, page: Option<(String, String, u64)>) {
    contents.conversations.extend(page.filter(|_| contents.conversations.len() < LISTED_MAX));
}

/// A name of a file that leads nowhere when the archive is unpacked, and that every system accepts.
fn safe_path(path: &str) -> String {
    let (folder, name) = path.split_once('/').unwrap_or(("", path));
    let is_plain = |c: &char| !c.is_control() && !r#"/\:<>"|?*"#.contains(*c);
    let name: String = name.chars().map(|c| if is_plain(&c) { c } else { '_' }).collect();
    let name = name.trim_end_matches(['.', ' ']);
    // Systems allow 255 bytes. The extension stays.
    let extension = name.rfind('.').map_or("", |at| &name[at..]);
    let extension = if extension.len() <= EXTENSION_BYTES_MAX { extension } else { "" };
    let stem = &name[..name.len() - extension.len()];
    let stem = &stem[..stem.floor_char_boundary(NAME_BYTES_MAX)];
    if folder.is_empty() { format!("{stem}{extension}") } else { format!("{folder}/{stem}{extension}") }
}

/// Makes the archive content in the store.
async fn keep(rights: &DataRights, id: &str, path: &Path) -> Result<(), Refusal> {
    let (store, disk) = (&rights.parts.store, rights.parts.store.disk());
    let opened = path.to_owned();
    let measure = move || {
        let mut file = File::open(opened)?;
        Ok((ContentHash::of(&mut file)?, file.metadata()?.len()))
    };
    let (hash, size) = disk.run(measure).await.map_err(failed)?;
    let (requests, file) = (rights.exports(), MadeFile { path, hash, size });
    let adopt = async |name| {
        let archive = StoredContent { name, size };
        Ok(requests.complete(id, archive, KEPT_SECONDS).await?.then_some(()))
    };
    let adopted = store_adopted((store, &rights.parts.accounts), file, failed, adopt).await?;
    adopted.ok_or_else(|| failed(io::Error::other("the store has released it again and again")))
}

#[cfg(test)]
mod tests {
    use super::safe_path;

    #[test]
    fn names_of_files_lead_nowhere() {
        assert_eq!(safe_path("files/7-a b.txt"), "files/7-a b.txt");
        assert_eq!(safe_path("files/7-../../etc/passwd"), "files/7-.._.._etc_passwd");
        assert_eq!(safe_path("files/7-c:\\x\0"), "files/7-c__x_");
        assert_eq!(safe_path("picture.webp"), "picture.webp");
        assert_eq!(safe_path("files/7-a?.b. ."), "files/7-a_.b");
        let long = safe_path(&format!("files/7-{}.txt", "é".repeat(300)));
        assert!(long.len() <= 220 && long.ends_with("é.txt"), "{long}");
    }
}
