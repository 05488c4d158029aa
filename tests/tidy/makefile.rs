//! The Makefile's list of JavaScript files is complete: prettier formats and checks exactly the files of that list.

use crate::tree::Tree;

/// The words of a variable of the Makefile, without their quotes. A backslash continues its line.
fn words(makefile: &str, variable: &str) -> Vec<String> {
    let makefile = makefile.replace("\\\n", " ");
    let line = makefile.lines().find_map(|line| line.strip_prefix(variable)?.trim_start().strip_prefix('='));
    line.unwrap_or_default().split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
}

/// Whether a pattern of prettier fits a path: `*` is any part of a name, `**/` any number of folders.
fn fits(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**/") {
        return fits(rest, path) || path.split_once('/').is_some_and(|(_, inner)| fits(pattern, inner));
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some('*'), next) => {
            let inner = next.filter(|c| *c != '/').map(|c| &path[c.len_utf8()..]);
            fits(&pattern[1..], path) || inner.is_some_and(|inner| fits(pattern, inner))
        }
        (Some(wanted), Some(found)) if wanted == found => {
            fits(&pattern[wanted.len_utf8()..], &path[found.len_utf8()..])
        }
        _ => false,
    }
}

/// JavaScript files that no pattern of the list fits, and patterns that fit no file.
pub fn unformatted(tree: &Tree) -> Vec<String> {
    let patterns = words(tree.files.get("Makefile").map_or("", String::as_str), "javascript");
    let files: Vec<&str> = tree.ending(&["js", "mjs"]).map(|(path, _)| path).collect();
    let missing = files.iter().filter(|path| !patterns.iter().any(|pattern| fits(pattern, path)));
    let useless = patterns.iter().filter(|pattern| !files.iter().any(|path| fits(pattern, path)));
    let missing = missing.map(|path| format!("{path}: `javascript` in the Makefile does not list it"));
    missing.chain(useless.map(|pattern| format!("Makefile: {pattern} fits no file"))).collect()
}

#[test]
fn finds_a_file_that_the_list_lacks() {
    let tree = Tree::of(&[
        ("Makefile", "scripts = a.js\njavascript = 'web/*.js' 'tests/**/*.mjs' \\\n\t'old/*.js'\n\nrun:\n"),
        ("web/app.js", ""),
        ("web/lib/deep.js", ""),
        ("tests/a.mjs", ""),
        ("tests/web/b.test.mjs", ""),
        ("tests/web/c.js", ""),
    ]);
    assert_eq!(
        unformatted(&tree),
        [
            "tests/web/c.js: `javascript` in the Makefile does not list it",
            "web/lib/deep.js: `javascript` in the Makefile does not list it",
            "Makefile: old/*.js fits no file",
        ]
    );
}
