//! The outer shape of files: how long, how wide, and that a Rust file begins with its purpose.

use crate::tree::{Tree, extension};

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 120;

/// What is written by hand and read as code.
const EXTENSIONS: &[&str] = &["rs", "js", "mjs", "sql"];

/// Files that a tool writes or that others wrote, which may be of any shape, and why they are here.
const FOREIGN: &[(&str, &str)] = &[];

/// What is wrong with the shapes of a tree's files.
pub fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, _) in FOREIGN.iter().filter(|(path, _)| !tree.has(path)) {
        problems.push(format!("{path}: listed as written elsewhere, but it does not exist"));
    }
    for (path, text) in tree.ending(EXTENSIONS).filter(|(path, _)| FOREIGN.iter().all(|(foreign, _)| foreign != path)) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{path}: {lines} lines, at most {LINES_MAX}: split it by what it does"));
        }
        if extension(path) == "rs" && !text.trim_start().starts_with("//!") {
            problems.push(format!("{path}:1: no //! doc at the top of the module"));
        }
        for (at, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                problems.push(format!("{path}:{}: {columns} columns, at most {COLUMNS_MAX}", at + 1));
            }
        }
    }
    problems
}

#[test]
fn refuses_files_that_are_too_long() {
    let fits = format!("//! A module.{}", "\n".repeat(LINES_MAX));
    assert_eq!(check(&Tree::of(&[("src/a.rs", &fits)])), Vec::<String>::new());
    let long = "\n".repeat(LINES_MAX + 1);
    let problems = check(&Tree::of(&[("web/a.js", &long), ("notes.md", &long)]));
    assert_eq!(problems, ["web/a.js: 601 lines, at most 600: split it by what it does"]);
}

#[test]
fn refuses_lines_that_are_too_wide() {
    let (fits, wide) = ("é".repeat(COLUMNS_MAX), "é".repeat(COLUMNS_MAX + 1));
    for (path, doc) in [("a.rs", "//! Doc."), ("a.js", ""), ("a.mjs", ""), ("a.sql", "")] {
        let problems = check(&Tree::of(&[(path, &format!("{doc}\n{fits}\n{wide}"))]));
        assert_eq!(problems, [format!("{path}:3: 121 columns, at most 120")]);
    }
}

#[test]
fn wants_a_doc_at_the_top_of_each_module() {
    let problems = check(&Tree::of(&[("src/a.rs", "fn f() {}"), ("src/b.rs", "//! B.\nfn f() {}")]));
    assert_eq!(problems, ["src/a.rs:1: no //! doc at the top of the module"]);
}
