//! The rule set: every function, view and type of `migrations/functions`, one object a file.
//!
//! - A set's name is `rules_` and the first 12 hexadecimal digits of a SHA-256 over its files. So an edited file makes
//!   another set, and the same files always make the same one.
//! - A set is installed whole in a schema of that name ([`installer`](super::installer)). Connections run with that
//!   schema in their `search_path` ([`connect`](super::connect)), so two versions of the server can use one database at
//!   once.
//! - `{set}` in a file stands for the name. Triggers use it: their tables are shared with the other sets.
//! - Files are installed folder by folder ([`FOLDERS`]), by name within a folder. A line `-- needs: a b` at the head of
//!   a file names objects that must exist before it.
//!
//! Pure: no I/O. What breaks without the order: a view or a signature that names something that does not exist yet.

use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/migrations/functions");

/// The folders of a set, in the order in which they are installed. Triggers come last: they lock their tables.
pub const FOLDERS: [&str; 7] = ["types", "rules", "commit", "mutate", "read", "views", TRIGGERS];
/// The folder whose files lock tables that the server writes to.
pub const TRIGGERS: &str = "triggers";
const NEEDS: &str = "-- needs:";

/// Why a set cannot be put in order. Each names the file to correct.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleSetError {
    /// A file is not in one of the folders.
    #[error("{0}: rules are files FOLDER/NAME.sql, and the folders are {folders}", folders = FOLDERS.join(", "))]
    Misplaced(String),
    /// Two files of one name.
    #[error("{0}: another file of the set has the same name")]
    Duplicate(String),
    /// A `-- needs:` line names nothing of the set.
    #[error("{file}: it needs {needed}, which is not in the set")]
    Missing {
        /// The file with that line.
        file: String,
        /// The name.
        needed: String,
    },
    /// Files need each other.
    #[error("{0}: it needs itself, by way of its `-- needs:` lines")]
    Cycle(String),
}

/// One object of a set.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// `folder/name.sql`.
    pub path: String,
    /// As it is in the repository.
    pub text: String,
}

impl RuleFile {
    /// The object's name, which is the file's.
    #[must_use]
    pub fn name(&self) -> &str {
        let file = self.path.rsplit('/').next().unwrap_or(&self.path);
        file.strip_suffix(".sql").unwrap_or(file)
    }

    fn folder(&self) -> Option<usize> {
        let (folder, file) = self.path.split_once('/')?;
        let sql = std::path::Path::new(file).extension().is_some_and(|extension| extension == "sql");
        FOLDERS.iter().position(|known| *known == folder).filter(|_| sql && !file.contains('/'))
    }

    fn needs(&self) -> impl Iterator<Item = &str> {
        let head = self.text.lines().take_while(|line| line.starts_with("--"));
        head.filter_map(|line| line.strip_prefix(NEEDS)).flat_map(str::split_whitespace)
    }

    /// SHA-256 of the text, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        hexadecimal(&Sha256::digest(self.text.as_bytes()))
    }
}

/// A rule set.
#[derive(Clone, Debug)]
pub struct RuleSet {
    name: String,
    files: Vec<RuleFile>,
}

impl RuleSet {
    /// The set that this binary carries.
    #[must_use]
    pub fn embedded() -> &'static Self {
        static EMBEDDED: LazyLock<RuleSet> = LazyLock::new(|| {
            let mut files = Vec::new();
            gather(&FILES, &mut files);
            edit_for_tests(&mut files);
            RuleSet::new(files)
        });
        &EMBEDDED
    }

    /// A set of these files, in any order.
    #[must_use]
    pub fn new(mut files: Vec<RuleFile>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hash = Sha256::new();
        for part in files.iter().flat_map(|file| [&file.path, &file.text]) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digits = hexadecimal(&hash.finalize());
        Self { name: format!("rules_{}", &digits[..12]), files }
    }

    /// The name, and that of its schema: `rules_` and 12 hexadecimal digits.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files, by path.
    #[must_use]
    pub fn files(&self) -> &[RuleFile] {
        &self.files
    }

    /// The files in the order in which they are installed.
    ///
    /// # Errors
    /// [`RuleSetError`] with the file to correct.
    pub fn ordered(&self) -> Result<Vec<&RuleFile>, RuleSetError> {
        let mut by_name = HashMap::new();
        let mut queue = Vec::new();
        for file in &self.files {
            let folder = file.folder().ok_or_else(|| RuleSetError::Misplaced(file.path.clone()))?;
            if by_name.insert(file.name(), file).is_some() {
                return Err(RuleSetError::Duplicate(file.path.clone()));
            }
            queue.push((folder, file));
        }
        queue.sort_by_key(|(folder, file)| (*folder, file.name()));
        let mut order = Order { by_name, done: HashSet::new(), under_way: HashSet::new(), files: Vec::new() };
        for (_, file) in queue {
            order.add(file)?;
        }
        Ok(order.files)
    }

    /// A file's text as it is installed.
    #[must_use]
    pub fn installed_text(&self, file: &RuleFile) -> String {
        file.text.replace("{set}", &self.name)
    }
}

struct Order<'a> {
    by_name: HashMap<&'a str, &'a RuleFile>,
    done: HashSet<&'a str>,
    under_way: HashSet<&'a str>,
    files: Vec<&'a RuleFile>,
}

impl<'a> Order<'a> {
    /// Adds what `file` needs, then `file`. The depth is bounded by the number of files.
    fn add(&mut self, file: &'a RuleFile) -> Result<(), RuleSetError> {
        if self.done.contains(file.name()) {
            return Ok(());
        }
        if !self.under_way.insert(file.name()) {
            return Err(RuleSetError::Cycle(file.path.clone()));
        }
        for needed in file.needs() {
            let missing = || RuleSetError::Missing { file: file.path.clone(), needed: needed.to_owned() };
            let needed = *self.by_name.get(needed).ok_or_else(missing)?;
            self.add(needed)?;
        }
        self.done.insert(file.name());
        self.files.push(file);
        Ok(())
    }
}

fn gather(folder: &Dir, files: &mut Vec<RuleFile>) {
    for file in folder.files() {
        files.push(RuleFile {
            path: file.path().to_string_lossy().into_owned(),
            text: String::from_utf8_lossy(file.contents()).into_owned(),
        });
    }
    for inner in folder.dirs() {
        gather(inner, files);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A test that runs two versions of the server on one database needs two sets, and building the server twice would take
/// minutes. So `CHAT_TEST_RULES_COMMENT` adds a comment to a file, which makes another set with the same rules. The
/// variable exists only in builds for tests, and its text can only become a comment: line ends are removed.
#[cfg(feature = "test-db")]
fn edit_for_tests(files: &mut [RuleFile]) {
    if let (Ok(comment), Some(file)) = (std::env::var("CHAT_TEST_RULES_COMMENT"), files.first_mut()) {
        let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(file.text, "-- {comment}");
    }
}

#[cfg(not(feature = "test-db"))]
fn edit_for_tests(_: &mut [RuleFile]) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> RuleFile {
        RuleFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn order(files: Vec<RuleFile>) -> Result<Vec<String>, RuleSetError> {
        RuleSet::new(files).ordered().map(|files| files.iter().map(|file| file.path.clone()).collect())
    }

    #[test]
    fn the_embedded_set_can_be_ordered() {
        let set = RuleSet::embedded();
        assert_eq!(set.ordered().unwrap().len(), set.files().len());
        assert!(set.name().len() == "rules_".len() + 12, "{}", set.name());
    }

    #[test]
    fn a_name_depends_on_paths_and_texts_alone() {
        let (a, b) = (file("rules/a.sql", "1"), file("views/b.sql", "2"));
        let name = RuleSet::new(vec![a.clone(), b.clone()]).name().to_owned();
        assert_eq!(RuleSet::new(vec![b.clone(), a.clone()]).name(), name);
        assert_ne!(RuleSet::new(vec![file("rules/a.sql", "1 "), b.clone()]).name(), name);
        assert_ne!(RuleSet::new(vec![file("rules/c.sql", "1"), b]).name(), name);
        assert_ne!(RuleSet::new(vec![a]).name(), name);
    }

    #[test]
    fn folders_come_in_order_and_needed_files_first() {
        let files = vec![
            file("triggers/a.sql", ""),
            file("views/b.sql", "-- Shows.\n-- needs: z\n\nCREATE"),
            file("views/z.sql", ""),
            file("types/t.sql", "-- needs: z\n"),
            file("commit/c.sql", ""),
        ];
        let expected = ["views/z.sql", "types/t.sql", "commit/c.sql", "views/b.sql", "triggers/a.sql"];
        assert_eq!(order(files).unwrap(), expected);
    }

    #[test]
    fn faults_name_the_file() {
        let cycle = vec![file("views/a.sql", "-- needs: b\n"), file("views/b.sql", "-- needs: a\n")];
        assert_eq!(order(cycle), Err(RuleSetError::Cycle("views/a.sql".to_owned())));
        let missing = RuleSetError::Missing { file: "views/a.sql".to_owned(), needed: "b".to_owned() };
        assert_eq!(order(vec![file("views/a.sql", "-- needs: b\n")]), Err(missing));
        let twice = vec![file("read/a.sql", ""), file("views/a.sql", "")];
        assert_eq!(order(twice), Err(RuleSetError::Duplicate("views/a.sql".to_owned())));
        for misplaced in ["a.sql", "other/a.sql", "read/a.txt", "read/deep/a.sql"] {
            assert_eq!(order(vec![file(misplaced, "")]), Err(RuleSetError::Misplaced(misplaced.to_owned())));
        }
    }
}
