//! Documents are true about the tree: their relative links lead to a file or a heading, and the files and tests that
//! they name exist.
//!
//! A path in backticks is looked up in [`BASES`], and in the folders from the document up to the root. A name in
//! backticks beside a file of tests is a function of that file.

use crate::tree::{Tree, extension, folder, join};

/// The files whose names in backticks are checked.
const EXTENSIONS: &[&str] = &["rs", "sql", "md", "yaml", "yml", "toml", "sh", "js", "json"];

/// Folders that documents leave out of a path.
const BASES: &[&str] = &["src", "migrations/functions"];

/// The false statements in the Markdown files of a tree.
pub fn untrue(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(&["md"]) {
        let prose = prose(text);
        let broken = links(&prose).into_iter().filter(|target| !leads_somewhere(tree, path, &prose, target));
        problems.extend(broken.map(|target| format!("{path}: the link {target} leads nowhere")));
        let missing = named_paths(&prose).into_iter().filter(|name| !exists(tree, path, name));
        problems.extend(missing.map(|name| format!("{path}: it names {name}, which does not exist")));
        let missing = named_tests(&prose).into_iter().filter(|(file, name)| !has_function(tree, file, name));
        problems.extend(missing.map(|(file, name)| format!("{path}: it names the test {name}, which {file} lacks")));
    }
    problems
}

/// The tables about which docs/scaling.md does not say how Citus would hold them.
pub fn tables_without_a_plan(tree: &Tree) -> Vec<String> {
    let plan = tree.files.get("docs/scaling.md").and_then(|text| text.split_once("\n## Citus\n"));
    let plan = plan.map_or("", |(_, plan)| plan);
    let tables = tree.ending(&["sql"]).filter(|(path, _)| path.starts_with("migrations/tables/"));
    let created = tables.flat_map(|(_, text)| text.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")));
    created
        .filter_map(|rest| rest.split_once(" ("))
        .filter(|(table, _)| !table.contains(' ') && !plan.contains(&format!("`{table}`")))
        .map(|(table, _)| format!("docs/scaling.md: the part about Citus does not name the table {table}"))
        .collect()
}

/// A document without its code blocks.
fn prose(text: &str) -> String {
    let mut in_block = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !in_block && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn links(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

fn leads_somewhere(tree: &Tree, path: &str, prose_here: &str, target: &str) -> bool {
    if target.starts_with("http://") || target.starts_with("https://") {
        return true;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    if file.is_empty() {
        return has_anchor(prose_here, anchor);
    }
    let Some(file) = join(folder(path), file) else { return false };
    let has_heading = || tree.files.get(&file).is_some_and(|text| has_anchor(&prose(text), anchor));
    is_there(tree, &file) && (anchor.is_empty() || has_heading())
}

/// Whether a heading has this anchor, as code hosts make it: lower case, hyphens for spaces, no punctuation.
fn has_anchor(prose: &str, anchor: &str) -> bool {
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .any(|a| a == anchor)
}

/// The paths in backticks that can only be files or folders of the repository.
fn named_paths(prose: &str) -> Vec<&str> {
    let is_path = |span: &&str| {
        let is_plain = span.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
        let is_ours = !span.starts_with(['/', '.']) && !span.starts_with("target/") && !span.starts_with("data/");
        let has_end = EXTENSIONS.contains(&extension(span)) || span.ends_with('/');
        is_plain && is_ours && has_end && span.contains('/') && !span.contains("NNN")
    };
    prose.split('`').skip(1).step_by(2).filter(is_path).collect()
}

/// The names of tests, each with its file: "`FILE`, `NAME`" or "`NAME` in `FILE`".
fn named_tests(prose: &str) -> Vec<(&str, &str)> {
    let spans: Vec<&str> = prose.split('`').collect();
    let is_file = |span: &str| span.starts_with("tests/") && extension(span) == "rs";
    let is_name = |span: &str| {
        span.contains('_') && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let pairs =
        spans.windows(3).skip(1).step_by(2).filter_map(|window| match (window[0], window[1].trim(), window[2]) {
            (file, ",", name) if is_file(file) && is_name(name) => Some((file, name)),
            (name, "in", file) if is_file(file) && is_name(name) => Some((file, name)),
            _ => None,
        });
    pairs.collect()
}

fn has_function(tree: &Tree, file: &str, name: &str) -> bool {
    tree.files.get(file).is_some_and(|text| text.contains(&format!("fn {name}(")))
}

fn exists(tree: &Tree, document: &str, name: &str) -> bool {
    let mut at = folder(document);
    loop {
        if join(at, name).is_some_and(|path| is_there(tree, &path)) {
            return true;
        }
        if at.is_empty() {
            return BASES.iter().any(|base| is_there(tree, &format!("{base}/{name}")));
        }
        at = folder(at);
    }
}

/// Whether there is a file or a folder of this name.
fn is_there(tree: &Tree, path: &str) -> bool {
    let below = format!("{}/", path.trim_end_matches('/'));
    tree.has(path) || tree.files.range(below.clone()..).next().is_some_and(|(file, _)| file.starts_with(&below))
}

#[test]
fn finds_links_that_lead_nowhere() {
    let text =
        "# A title, once\n[a](#a-title-once) [b](#b) [c](../LICENSE) [d](none.md) [e](https://x)\n```\n[f](none)\n```";
    let tree =
        Tree::of(&[("docs/a.md", text), ("LICENSE", ""), ("b.md", "[g](docs/a.md#a-title-once) [h](docs/a.md#z)")]);
    let expected = [
        "b.md: the link docs/a.md#z leads nowhere",
        "docs/a.md: the link #b leads nowhere",
        "docs/a.md: the link none.md leads nowhere",
    ];
    assert_eq!(untrue(&tree), expected);
}

#[test]
fn finds_names_of_files_that_do_not_exist() {
    let text =
        "`src/lib.rs` `shard/mod.rs` `shard/` `a/b` `/etc/x.toml` `shard/none.rs` `src/none/`\n```\n`no/t.rs`\n```";
    let tree = Tree::of(&[("docs/a.md", text), ("src/lib.rs", ""), ("src/shard/mod.rs", "")]);
    let expected = [
        "docs/a.md: it names shard/none.rs, which does not exist",
        "docs/a.md: it names src/none/, which does not exist",
    ];
    assert_eq!(untrue(&tree), expected);
}

#[test]
fn finds_names_of_tests_that_do_not_exist() {
    let text = "`tests/a.rs`, `keeps_order` and `tests/a.rs`,\n`was_renamed`, `lost_too` in `tests/a.rs`; `src/b.rs`, \
                `no_test`\n```\n`tests/a.rs`, `no_prose`\n```";
    let tree = Tree::of(&[("docs/a.md", text), ("tests/a.rs", "async fn keeps_order() {}"), ("src/b.rs", "")]);
    let expected = [
        "docs/a.md: it names the test was_renamed, which tests/a.rs lacks",
        "docs/a.md: it names the test lost_too, which tests/a.rs lacks",
    ];
    assert_eq!(untrue(&tree), expected);
}

#[test]
fn finds_tables_without_a_plan() {
    let tables = "CREATE TABLE a (\n);\nCREATE TABLE b (\n);\nCREATE TABLE a_default PARTITION OF a (x) DEFAULT;";
    let tree = Tree::of(&[("docs/scaling.md", "`b`\n## Citus\n`a`"), ("migrations/tables/V1__a.sql", tables)]);
    assert_eq!(tables_without_a_plan(&tree), ["docs/scaling.md: the part about Citus does not name the table b"]);
}
