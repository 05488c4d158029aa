//! No file is dead: assets, SQL and scripts are used by something that is used itself.
//!
//! - An asset (JavaScript, CSS, SVG, HTML, Python) must be named by Rust code, which includes it, serves it or runs it.
//! - An asset in the folder of a page ([`PAGES`]) must also be reached from that page, by links and imports: serving a
//!   file that no page loads keeps nothing alive.
//! - A data file (TOML, JSON, plain text) must be named by Rust code, or its folder and its name without the extension
//!   must: programs put such paths together. [`READ_BY_OTHERS`] are read by tools or by people.
//! - A SQL file must be named by Rust code, itself or by a folder above it.
//! - A script must be named by the Makefile, by another script, or by Rust code. [`ENTRANCES`] are called from outside.
//!
//! A string in Rust names a file by its path from the folder of the Rust file, of its package, or of the repository, or
//! by its name alone in one of these. A folder that ends in `/` names what it holds: `concat!("../web/", $name)`.

use crate::lexer::lex;
use crate::tree::{Tree, folder, join};
use std::collections::BTreeSet;

const ASSETS: &[&str] = &["js", "mjs", "css", "svg", "html", "py"];
const DATA: &[&str] = &["toml", "json", "txt"];
const SCRIPTS: &[&str] = &["sh"];

/// Data files that no Rust code reads, by path, by name alone, or by a folder with `/` at its end, and who reads them.
const READ_BY_OTHERS: &[(&str, &str)] = &[
    ("Cargo.toml", "cargo"),
    ("clippy.toml", "clippy"),
    ("deny.toml", "cargo-deny"),
    ("rustfmt.toml", "cargo fmt"),
    (".prettierrc.json", "prettier"),
    ("web/package.json", "Node.js: the files beside it are ES modules"),
    ("sdk/js/package.json", "npm, Node.js and browsers' bundlers"),
    ("sdk/js/tsconfig.json", "the TypeScript compiler, which a test of tests/tools/sdk.rs runs"),
    ("sdk/python/pyproject.toml", "pip, mypy and ruff"),
    ("sdk/scenarios/", "sdk/scenarios/run.py, and the unit tests of both client packages"),
    ("deploy/grafana/", "operators import them; tests/tools/deploy.rs checks every file of the folder"),
];

/// Pages that a browser loads from a folder of their own.
const PAGES: &[&str] = &["web/index.html", "src/control/dashboard/assets/page.html"];

/// Scripts that nothing here calls, and who does.
const ENTRANCES: &[(&str, &str)] = &[
    (".ci/run", "continuous integration"),
    ("benches/legacy_import.sh", "developers: docs/migration.md"),
    ("scripts/migrate_data.sh", "operators: docs/migration.md"),
];

/// Paths and folders that the Rust code names. The rules' own examples name nothing.
fn named_by_rust(tree: &Tree) -> BTreeSet<String> {
    let packages = tree.packages();
    let mut named = BTreeSet::new();
    for (path, text) in tree.ending(&["rs"]).filter(|(path, _)| !path.starts_with("tests/tidy/")) {
        let inside = |package: &&String| package.is_empty() || path.starts_with(&format!("{package}/"));
        let package = packages.iter().filter(inside).max_by_key(|package| package.len());
        let bases = [Some(folder(path)), package.map(String::as_str), Some("")];
        // A message may name a file among words.
        let strings = lex(text).strings;
        let parts = strings.iter().flat_map(|(_, string)| string.split([' ', ',', '\\', '\n']));
        for part in parts.filter(|part| !part.is_empty() && *part != "/" && *part != ".") {
            let slash = if part.ends_with('/') { "/" } else { "" };
            let paths = bases.into_iter().flatten().filter_map(|base| join(base, part));
            named.extend(paths.map(|path| format!("{path}{slash}")));
        }
    }
    named
}

/// The folders above a path, without a slash at their end.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder(path)), |path| Some(folder(path))).take_while(|path| !path.is_empty())
}

fn is_named(path: &str, named: &BTreeSet<String>) -> bool {
    named.contains(path) || named.contains(&format!("{}/", folder(path)))
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.ends_with('/') && path.starts_with(folder)
}

/// The files that a page's file links, imports or embeds, by their places in the folder of that file.
fn links(path: &str, text: &str) -> BTreeSet<String> {
    let openers = ["from ", "import ", "import(", "href=", "src=", "Worker(", "register(", "addModule(", "url("];
    let mut links = BTreeSet::new();
    for opener in openers {
        for (at, _) in text.match_indices(opener) {
            let rest = &text[at + opener.len()..];
            let quote = rest.chars().next().filter(|c| ['"', '\'', '`'].contains(c));
            let end = quote.unwrap_or(if opener == "url(" { ')' } else { '\0' });
            let Some(target) = rest[quote.map_or(0, char::len_utf8)..].split_once(end) else { continue };
            // A page is served elsewhere than where it lies, so only the name counts.
            let name = target.0.rsplit('/').next().unwrap_or_default();
            links.extend(join(folder(path), name));
        }
    }
    links
}

/// The page and all that it loads.
fn reached<'a>(tree: &'a Tree, page: &'a str) -> BTreeSet<String> {
    let mut reached = BTreeSet::from([page.to_owned()]);
    let mut queue = vec![page.to_owned()];
    while let Some(path) = queue.pop() {
        let text = tree.files.get(&path).map(String::as_str).unwrap_or_default();
        queue.extend(links(&path, text).into_iter().filter(|link| tree.has(link) && reached.insert(link.clone())));
    }
    reached
}

fn is_script(path: &str, text: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map_or(text.starts_with("#!"), |(_, extension)| SCRIPTS.contains(&extension))
}

/// Every file of a tree that nothing uses, and every entry of the lists above that does not exist.
pub fn dead(tree: &Tree) -> Vec<String> {
    let named = named_by_rust(tree);
    let mut problems = Vec::new();
    let pages: Vec<_> =
        PAGES.iter().filter(|page| tree.has(page)).map(|page| (folder(page), reached(tree, page))).collect();
    for (path, _) in tree.ending(ASSETS) {
        let is_run_by_folder = path.contains(".test.") && named.contains(folder(path));
        if !is_named(path, &named) && !is_run_by_folder {
            problems.push(format!("{path}: no Rust code includes, serves or runs this file"));
        }
        for (_, reached) in pages.iter().filter(|(at, _)| *at == folder(path)) {
            if !reached.contains(path) {
                problems.push(format!("{path}: its page does not load this file"));
            }
        }
    }
    let texts = tree.ending(&["rs"]).filter(|(path, _)| !path.starts_with("tests/tidy/"));
    let strings: BTreeSet<String> =
        texts.flat_map(|(_, text)| lex(text).strings).map(|(_, string)| string.clone()).collect();
    for (path, _) in tree.ending(DATA) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let is_composed = (named.contains(folder(path)) || is_named(path, &named)) && strings.contains(stem);
        let is_read_by_others =
            READ_BY_OTHERS.iter().any(|(other, _)| *other == name || *other == path || is_below(path, other));
        if !named.contains(path) && !is_composed && !is_read_by_others {
            problems.push(format!("{path}: no Rust code reads this file"));
        }
    }
    for (path, _) in tree.ending(&["sql"]) {
        if !is_named(path, &named) && !above(path).any(|folder| named.contains(folder)) {
            problems.push(format!("{path}: no Rust code embeds this file"));
        }
    }
    let scripts: Vec<_> = tree.files.iter().filter(|(path, text)| is_script(path, text)).collect();
    for (path, _) in &scripts {
        let callers = scripts.iter().filter(|(caller, _)| caller != path).map(|(_, text)| text.as_str());
        let makefile = tree.files.get("Makefile").map(String::as_str);
        let mut callers = callers.chain(makefile);
        let is_entrance = ENTRANCES.iter().any(|(entrance, _)| entrance == path);
        if !is_entrance && !named.contains(*path) && !callers.any(|text| text.contains(path.as_str())) {
            problems.push(format!("{path}: nothing calls this script"));
        }
    }
    problems
}

/// The entries of the lists above that name no file.
pub fn stale_lists(tree: &Tree) -> Vec<String> {
    let listed = PAGES.iter().chain(ENTRANCES.iter().chain(READ_BY_OTHERS).map(|(path, _)| path));
    listed
        .filter(|path| !tree.has(path) && !tree.files.keys().any(|file| is_below(file, path)))
        .map(|path| format!("tests/tidy/assets.rs names {path}, which does not exist"))
        .collect()
}

#[cfg(test)]
#[track_caller]
fn finds(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(dead(&Tree::of(files)), expected);
}

#[test]
fn finds_an_asset_that_nothing_includes() {
    finds(
        &[
            ("Cargo.toml", ""),
            ("src/report/html.rs", "const A: &str = include_str!(\"used.js\"); // \"unused.css\""),
            ("src/report/used.js", ""),
            ("src/report/unused.css", ""),
            ("tests/foreign.rs", "fn f() { run(\"tests/foreign/client.py\") }"),
            ("tests/foreign/client.py", ""),
            ("tests/foreign/other.py", ""),
        ],
        &[
            "src/report/unused.css: no Rust code includes, serves or runs this file",
            "tests/foreign/other.py: no Rust code includes, serves or runs this file",
        ],
    );
}

#[test]
fn finds_an_asset_that_its_page_does_not_load() {
    finds(
        &[
            ("Cargo.toml", ""),
            ("src/web.rs", "files!(concat!(\"../web/\", $name));"),
            ("web/index.html", "<script src=\"web/main.js\"></script><link href=\"/web/app.css\">"),
            ("web/main.js", "import { a } from \"./a.js\"; const b = await import('./b.js');"),
            ("web/a.js", ""),
            ("web/b.js", ""),
            ("web/c.js", "import './d.js';"),
            ("web/d.js", ""),
            ("web/app.css", "a { background: url(icon.svg) }"),
            ("web/icon.svg", ""),
        ],
        &["web/c.js: its page does not load this file", "web/d.js: its page does not load this file"],
    );
}

#[test]
fn finds_tests_of_pages_by_their_folder() {
    finds(
        &[
            ("Cargo.toml", ""),
            ("tests/run.rs", "const FOLDER: &str = \"tests/web\";"),
            ("tests/web/store.test.mjs", ""),
            ("tests/web/old.mjs", ""),
        ],
        &["tests/web/old.mjs: no Rust code includes, serves or runs this file"],
    );
}

#[test]
fn finds_sql_that_nothing_embeds() {
    finds(
        &[
            ("Cargo.toml", ""),
            ("src/migrate.rs", "embed!(\"migrations\"); const ONE: &str = include_str!(\"../sql/one.sql\");"),
            ("migrations/functions/read/history.sql", ""),
            ("sql/one.sql", ""),
            ("sql/two.sql", ""),
        ],
        &["sql/two.sql: no Rust code embeds this file"],
    );
}

#[test]
fn finds_data_that_nothing_reads() {
    finds(
        &[
            ("Cargo.toml", ""),
            ("clippy.toml", ""),
            ("src/words.rs", "const WORDS: &str = include_str!(\"words.txt\"); fn f() { open(\"config\", \"test\") }"),
            ("src/words.txt", ""),
            ("src/old_words.txt", ""),
            ("config/test.toml", ""),
            ("config/forgotten.toml", ""),
            ("tool/src/main.rs", "builtin!(\"crowd\"); const F: &str = concat!(\"../scenarios/\", $name, \".toml\");"),
            ("tool/Cargo.toml", ""),
            ("tool/scenarios/crowd.toml", ""),
            ("tool/scenarios/quiet.toml", ""),
            ("deploy/grafana/all.json", ""),
            ("deploy/old.json", ""),
        ],
        &[
            "config/forgotten.toml: no Rust code reads this file",
            "deploy/old.json: no Rust code reads this file",
            "src/old_words.txt: no Rust code reads this file",
            "tool/scenarios/quiet.toml: no Rust code reads this file",
        ],
    );
}

#[test]
fn finds_a_script_that_nothing_calls() {
    finds(
        &[
            ("Cargo.toml", ""),
            ("Makefile", "run:\n\t@scripts/run.sh"),
            ("scripts/run.sh", ". scripts/lib.sh"),
            ("scripts/lib.sh", ""),
            ("scripts/old.sh", "scripts/old.sh"),
            ("tool/src/main.rs", "const HELP: &str = \"type: tool/install.sh uws\";"),
            ("tool/Cargo.toml", ""),
            ("tool/install.sh", ""),
            ("bin/forgotten", "#!/bin/sh"),
            (".ci/run", "#!/bin/sh"),
        ],
        &["bin/forgotten: nothing calls this script", "scripts/old.sh: nothing calls this script"],
    );
}
