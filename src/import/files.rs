//! The content of files, from the folder of the old server.
//!
//! A file is taken if its content is found, with the size and the SHA-256 of the dump. It becomes an upload whose bytes
//! are complete: the server checks it when it starts, like any other. So a virus in an old file is found, and a picture
//! gets its thumbnails.
//!
//! No name of the dump leads out of the folder: what is found must be a file in it, also behind symbolic links.

use super::archive::is_zip;
use super::contents::Contents;
use super::fault::ImportFault;
use super::options::{ImportOptions, ImportStage, OldFiles, OldServer};
use super::report::ImportReport;
use crate::backup::BackupFault;
use crate::files::content::ContentHash;
use crate::files::name::cleaned;
use crate::files::store::folder::Folder;
use crate::ids::FileId;
use crate::storage::import::{AwaitedFile, ImportSession, PlannedCount, TakenFile};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Bytes that one read takes.
const READ_BYTES: usize = 1024 * 1024;
const NOT_GIVEN: &str = "its content is not imported without --files";
const NOT_FOUND: &str = "its content is not in the folder of --files";
const NOWHERE: &str = "its content is neither in the export nor in the folder of --files";

/// Takes the files of the dump whose content is there, and rejects the others.
pub(super) async fn take_files(
    session: &mut ImportSession,
    options: &ImportOptions,
    report: &mut ImportReport,
    shown: &mut impl FnMut(ImportStage),
) -> Result<(), ImportFault> {
    let awaited = session.awaited_files().await?;
    let all = awaited.len() as u64;
    let mut contents = contents(options)?;
    for (done, file) in awaited.iter().enumerate() {
        shown(ImportStage::Files(done as u64, all));
        let taken = match (&options.files, file.is_known) {
            (_, true) => Ok(()),
            (None, false) => Err(NOT_GIVEN.to_owned()),
            (Some(files), false) => take(session, options, files, &mut contents, file).await?,
        };
        if let Err(why) = &taken {
            session.reject_file(file.no, why).await?;
        }
        let (imported, present) = (u64::from(taken.is_ok() && !file.is_known), u64::from(file.is_known));
        report.files.imported += imported;
        report.files.present += present;
        let is_same = |count: &&mut PlannedCount| count.staged == "files" && count.generation == file.generation;
        if let Some(count) = report.counts.iter_mut().find(is_same) {
            count.imported += imported;
            count.present += present;
        } else {
            let (staged, generation) = ("files".to_owned(), file.generation);
            report.counts.push(PlannedCount { staged, generation, imported, present, united: 0 });
        }
    }
    Ok(())
}

/// Takes a file; an inner error says why it is rejected.
async fn take(
    session: &mut ImportSession,
    options: &ImportOptions,
    files: &OldFiles,
    contents: &mut Contents,
    file: &AwaitedFile,
) -> Result<Result<(), String>, ImportFault> {
    let found = match (&file.place, &files.from) {
        (Some(place), _) => unpacked(files, contents, place, file.size)?,
        (None, Some(folder)) => found(folder, file),
        (None, None) => Err(NOT_GIVEN.to_owned()),
    };
    let (mut content, hash, size) = match found {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    if options.is_dry_run {
        return Ok(Ok(()));
    }
    let id = session.next_file().await?;
    copy(&mut content, &files.to, id).map_err(BackupFault::io("cannot write to data_dir/files"))?;
    let [_, name, original] = &file.names;
    let name = original.as_deref().or(name.as_deref()).unwrap_or_default();
    let taken = TakenFile { file: id, name: cleaned(name), size, hash };
    session.write_file(file, &taken).await?;
    Ok(Ok(()))
}

/// Whether an export can have the content of its files itself.
///
/// # Errors
/// When it cannot be read.
pub fn has_content(server: OldServer, dump: &Path) -> Result<bool, ImportFault> {
    Ok(server == OldServer::Mattermost && (dump.is_dir() || is_zip(dump)?))
}

/// Where the content of an export is; nowhere for dumps of databases, whose files are looked for by their names.
fn contents(options: &ImportOptions) -> Result<Contents, ImportFault> {
    let Some(files) = options.files.as_ref().filter(|_| options.server != OldServer::Veza) else {
        return Ok(Contents::default());
    };
    let has_content = has_content(options.server, &options.dump)?;
    Contents::open(has_content.then_some(options.dump.as_path()), files.from.as_deref())
}

/// The content at a place of an export, as a file without a name. An inner error says why it is rejected.
fn unpacked(
    files: &OldFiles,
    contents: &mut Contents,
    place: &str,
    expected: Option<u64>,
) -> Result<Result<(File, ContentHash, u64), String>, ImportFault> {
    let Some(expected) = expected.filter(|_| !place.is_empty()) else { return Ok(Err(NOWHERE.to_owned())) };
    if expected > files.bytes_max {
        return Ok(Err(format!("it has {expected} bytes, which is more than limits.max_file_size")));
    }
    let full = || BackupFault::io("cannot write to data_dir/files");
    let mut bytes = match contents.open_place(place) {
        Ok(bytes) => bytes,
        Err(why) => return Ok(Err(why)),
    };
    let mut copy = files.to.work_file().map_err(full())?;
    let (mut chunk, mut size) = (vec![0; READ_BYTES], 0);
    loop {
        match bytes.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => {
                size += length as u64;
                if size > expected {
                    break;
                }
                copy.append(&chunk[..length]).map_err(full())?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(format!("its content cannot be read: {error}"))),
        }
    }
    if size != expected {
        return Ok(Err("its content has another size than the export says".to_owned()));
    }
    let mut file = copy.into_file().map_err(full())?;
    let hash = ContentHash::of(&mut file).map_err(full())?;
    Ok(Ok((file, hash, size)))
}

fn copy(content: &mut File, to: &Folder, id: FileId) -> io::Result<()> {
    content.seek(SeekFrom::Start(0))?;
    let mut upload = to.resume(id, 0)?;
    let mut chunk = vec![0; READ_BYTES];
    loop {
        match content.read(&mut chunk)? {
            0 => return upload.keep(),
            length => upload.append(&chunk[..length])?,
        }
    }
}

/// The content of a file with its hash and size, or why it is rejected.
fn found(folder: &Path, file: &AwaitedFile) -> Result<(File, ContentHash, u64), String> {
    let expected = match file.checksum.as_deref().filter(|given| !given.is_empty()) {
        None => None,
        Some(given) => {
            let given = given.strip_prefix("sha256:").unwrap_or(given);
            Some(ContentHash::parse(given).ok_or("its checksum is no SHA-256")?)
        }
    };
    if expected.is_none() && file.size.is_none() {
        return Err("it has neither a checksum nor a size, so its content cannot be verified".to_owned());
    }
    let root = folder.canonicalize().map_err(|error| format!("the folder of --files cannot be read: {error}"))?;
    let mut why = NOT_FOUND;
    for place in places(&root, file) {
        let Ok(real) = place.canonicalize() else { continue };
        if !real.starts_with(&root) || !real.is_file() {
            continue;
        }
        let Ok(mut content) = File::open(&real) else { continue };
        let Ok(size) = content.metadata().map(|about| about.len()) else { continue };
        if file.size.is_some_and(|expected| expected != size) {
            why = "its content has another size than the dump says";
            continue;
        }
        let hash = ContentHash::of(&mut content).map_err(|error| format!("its content cannot be read: {error}"))?;
        if expected.is_some_and(|expected| expected != hash) {
            why = "its content has another SHA-256 than the dump says";
            continue;
        }
        return Ok((content, hash, size));
    }
    Err(why.to_owned())
}

/// Where the content can be: at its path below the folder, and by its name alone.
fn places(root: &Path, file: &AwaitedFile) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for given in file.names.iter().flatten() {
        let given = Path::new(given);
        let mut parts = given.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        let normal: Option<PathBuf> =
            parts.try_fold(PathBuf::new(), |path, part| matches!(part, Component::Normal(_)).then(|| path.join(part)));
        places.extend(normal.filter(|path| !path.as_os_str().is_empty()).map(|path| root.join(path)));
        places.extend(given.file_name().map(|name| root.join(name)));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(names: [&str; 3], size: Option<u64>, checksum: Option<&str>) -> AwaitedFile {
        AwaitedFile {
            no: 1,
            generation: 1,
            names: names.map(|name| (!name.is_empty()).then(|| name.to_owned())),
            size,
            media_type: None,
            checksum: checksum.map(str::to_owned),
            place: None,
            is_known: false,
        }
    }

    #[test]
    fn takes_what_has_the_size_and_the_hash_of_the_dump() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("2024")).unwrap();
        std::fs::write(folder.path().join("2024/a.txt"), b"abc").unwrap();
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for names in [["/2024/a.txt", "", ""], ["2024/a.txt", "", ""]] {
            let (_, found_hash, size) = found(folder.path(), &file(names, Some(3), Some(hash))).unwrap();
            assert_eq!((found_hash.to_string().as_str(), size), (hash, 3));
        }
        std::fs::write(folder.path().join("b.txt"), b"abc").unwrap();
        assert!(found(folder.path(), &file(["/srv/uploads/b.txt", "", ""], Some(3), None)).is_ok());
        assert_eq!(found(folder.path(), &file(["c.txt", "", ""], Some(3), None)).unwrap_err(), NOT_FOUND);
        let other = "0".repeat(64);
        for (size, checksum, why) in [
            (Some(3), Some(other.as_str()), "another SHA-256"),
            (Some(4), Some(hash), "another size"),
            (None, None, "cannot be verified"),
            (Some(3), Some("md5"), "no SHA-256"),
        ] {
            let refused = found(folder.path(), &file(["b.txt", "", ""], size, checksum)).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"abc").unwrap();
        let folder = outside.path().join("files");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        let absolute = outside.path().join("secret");
        for name in ["../secret", "link", absolute.to_str().unwrap(), "files/../../secret", "", "/", ".."] {
            assert!(found(&folder, &file([name, name, name], Some(3), None)).is_err(), "{name}");
        }
    }
}
