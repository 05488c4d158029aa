//! The heads of the SQL functions that run inside a commit name the locks that they take, so that a reader can check
//! their order: two functions that lock the same rows in different orders end in a deadlock.

use crate::tree::Tree;

/// Folders of functions that run inside a commit.
const COMMITTING: &[&str] =
    &["migrations/functions/commit/", "migrations/functions/mutate/", "migrations/functions/triggers/"];

/// The functions of these folders whose head has no line `-- Locks: …`.
pub fn without_locks(tree: &Tree) -> Vec<String> {
    let files = tree.ending(&["sql"]).filter(|(path, _)| COMMITTING.iter().any(|folder| path.starts_with(folder)));
    let is_named = |text: &str| {
        let mut head = text.lines().take_while(|line| line.starts_with("--"));
        head.any(|line| line.strip_prefix("-- Locks: ").is_some_and(|locks| !locks.trim().is_empty()))
    };
    files
        .filter(|(_, text)| !is_named(text))
        .map(|(path, _)| format!("{path}: its head has no line `-- Locks: …`; write `none` if it takes none"))
        .collect()
}

#[test]
fn finds_a_head_without_its_locks() {
    let tree = Tree::of(&[
        ("migrations/functions/mutate/a.sql", "-- Does a.\n-- Locks: none.\n\nCREATE FUNCTION a()"),
        ("migrations/functions/mutate/b.sql", "-- Does b.\n\nCREATE FUNCTION b()\n-- Locks: too late."),
        ("migrations/functions/triggers/c.sql", "-- Locks: \nCREATE FUNCTION c()"),
        ("migrations/functions/read/d.sql", "-- Reads d.\n\nCREATE FUNCTION d()"),
    ]);
    let found = without_locks(&tree);
    let paths: Vec<&str> = found.iter().filter_map(|problem| problem.split_once(':')).map(|(path, _)| path).collect();
    assert_eq!(paths, ["migrations/functions/mutate/b.sql", "migrations/functions/triggers/c.sql"]);
}
