//! A data directory that a server has already started in, for servers of tests that do not care about a first start.
//!
//! A first start runs `initdb` and installs tables and rules, which takes longer than most tests. The template is made
//! once for each build of the server, and kept under `target/tmp`. It has no users and no messages.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Fills an empty data directory. `first_start` gives the directory of a server that has started and stopped to its
/// argument.
pub(super) fn copy_into(data_dir: &Path, first_start: impl FnOnce(&dyn Fn(&Path))) {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("template-{}", build()));
        if !kept.exists() {
            make(&kept, first_start);
        }
        kept
    });
    copy(&template.join("."), data_dir);
}

/// Names this build of the server.
fn build() -> String {
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_chat-server")).unwrap();
    format!("{}-{}-{}", program.ino(), program.size(), program.mtime())
}

fn make(kept: &Path, first_start: impl FnOnce(&dyn Fn(&Path))) {
    let folder = kept.parent().unwrap();
    let others = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    for old in others.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("template-")) {
        let _ = std::fs::remove_dir_all(old); // another test binary may remove it at the same time
    }
    let partial = tempfile::tempdir_in(folder).unwrap();
    first_start(&|data_dir| copy(data_dir, &partial.path().join("data")));
    // Another test binary may have made it meanwhile.
    let _ = std::fs::rename(partial.path().join("data"), kept);
    assert!(kept.exists(), "cannot make {}", kept.display());
}

/// With owners and permissions: PostgreSQL may belong to another user.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}
