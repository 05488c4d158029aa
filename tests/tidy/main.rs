//! The rules of the source tree, as tests: who may import what, that no two files need each other, where `unsafe`, SQL
//! and the runtimes live, that a panic outside tests has a proof, that a type name has one meaning, the shape of files,
//! and that no file is dead.
//!
//! How: the repository is read into memory once per test, and each rule is a function of that tree that returns its
//! problems. So each rule is also shown a small tree that breaks it; those tests are beside the rules.

mod assets;
mod documents;
mod imports;
mod law;
mod lexer;
mod makefile;
mod modules;
mod names;
mod shape;
mod sql_heads;
mod tree;

use std::path::Path;
use tree::Tree;

/// Folders with one type whose methods are spread over several files and call each other, and how many dependencies lie
/// on such cycles. No file of them imports from another that imports from it. The list may only shrink.
const KNOWN_CYCLES_OF_CALLS: &[(&str, usize)] = &[("src/shard", 78)];

fn repository() -> Tree {
    let tree = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(tree.has("src/lib.rs") && tree.has("Cargo.toml"), "the repository was not found");
    tree
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n  {}", problems.len(), problems.join("\n  "));
}

#[test]
fn modules_import_only_what_the_law_allows() {
    let (targets, missing) = modules::targets(&repository());
    assert_none(&missing);
    assert_none(&law::foreign_imports(&targets));
}

#[test]
fn runtimes_unsafe_code_and_sql_stay_where_they_belong() {
    let tree = repository();
    let files = tree.ending(&["rs"]).filter_map(|(path, text)| Some((path.strip_prefix("src/")?, text)));
    assert_none(&files.flat_map(|(path, text)| law::check(path, text)).collect::<Vec<_>>());
}

#[test]
fn a_panic_outside_tests_has_a_proof() {
    let tree = repository();
    let (targets, _) = modules::targets(&tree);
    let tests = modules::test_files(&targets);
    let shipped = tree.ending(&["rs"]).filter(|(path, _)| path.split('/').take(2).any(|part| part == "src"));
    let shipped = shipped.filter(|(path, _)| !tests.contains(path));
    assert_none(&shipped.flat_map(|(path, text)| law::unproven_panics(path, text)).collect::<Vec<_>>());
}

#[test]
fn a_type_name_has_one_meaning_in_its_crate() {
    assert_none(&names::taken_twice(&modules::targets(&repository()).0, names::SHARED));
}

#[test]
fn no_two_files_need_each_other() {
    let graph = imports::Graph::of(&modules::targets(&repository()).0);
    assert_none(&graph.of_names().cycles(&[]));
    assert_none(&graph.cycles(KNOWN_CYCLES_OF_CALLS));
}

#[test]
fn files_have_a_readable_shape() {
    assert_none(&shape::check(&repository()));
}

#[test]
fn every_file_is_used() {
    let tree = repository();
    assert_none(&modules::undeclared(&tree, &modules::targets(&tree).0));
    assert_none(&assets::dead(&tree));
    assert_none(&assets::stale_lists(&tree));
}

#[test]
fn all_javascript_is_formatted() {
    assert_none(&makefile::unformatted(&repository()));
}

#[test]
fn functions_that_write_name_their_locks() {
    assert_none(&sql_heads::without_locks(&repository()));
}

#[test]
fn documents_are_true() {
    assert_none(&documents::untrue(&repository()));
}

#[test]
fn every_table_has_a_plan_for_citus() {
    assert_none(&documents::tables_without_a_plan(&repository()));
}
