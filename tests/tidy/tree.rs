//! The repository's text files in memory, so that every rule is a function of a tree and can be shown a small bad one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Folders that hold nothing written here: builds, the development database, and what git and npm keep.
const SKIPPED: &[&str] = &["target", "data", ".git", "node_modules"];

/// Path from the repository's root, with `/`, and text.
#[derive(Default)]
pub struct Tree {
    pub files: BTreeMap<String, String>,
}

impl Tree {
    /// Every UTF-8 file below `root`, except in [`SKIPPED`] folders.
    pub fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.add(root, "");
        tree
    }

    fn add(&mut self, folder: &Path, prefix: &str) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                self.add(&path, &format!("{prefix}{name}/"));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                self.files.insert(format!("{prefix}{name}"), text);
            }
        }
    }

    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Files whose names end in one of `extensions`, which have no dot.
    pub fn ending<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| extensions.contains(&extension(path)))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The folders of the workspace's packages, "" for the root's own.
    pub fn packages(&self) -> BTreeSet<String> {
        let manifests = self.files.keys().filter_map(|path| path.strip_suffix("Cargo.toml"));
        manifests.map(|folder| folder.trim_end_matches('/').to_owned()).collect()
    }

    /// A tree for a test, of paths and texts.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }
}

/// What follows the last dot of a path; "" without one.
pub fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// The folder of a path, without a slash at its end; "" for the root.
pub fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `relative` seen from `folder`, with `.` and `..` resolved; `None` if it leads out of the repository.
pub fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = if relative.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().filter(|part| !part.is_empty())?),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    Some(parts.join("/"))
}

#[test]
fn joins_paths_inside_the_repository() {
    assert_eq!(join("src/control", "../../web/app.js").as_deref(), Some("web/app.js"));
    assert_eq!(join("web", "./app.js").as_deref(), Some("web/app.js"));
    assert_eq!(join("", "web/").as_deref(), Some("web"));
    assert_eq!(join("web", "../../app.js"), None);
    assert_eq!((folder("web/a/b.js"), folder("b.js")), ("web/a", ""));
}
