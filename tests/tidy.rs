//! The rules of the source tree, as a test: who may import whom, where `unsafe`, SQL and the runtimes live, how long a
//! file gets, and that a panic outside tests carries its proof.
//!
//! How: each file under src/ is split into code, comments and string literals by a small lexer, and [`check`] applies
//! the rules to that. `check` is a function of (path, text), so every rule is also shown to fail on a bad snippet.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

/// Everybody may import these; they import nothing of this crate.
const LEAVES: &[&str] = &["error", "ids", "latency", "limits"];

/// Module → what else of this crate it may import (`a::b` grants only that part).
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("ids", &[]),
    ("latency", &[]),
    ("limits", &[]),
    ("config", &[]),
    ("wire", &[]),
    ("auth", &[]),
    ("mesh", &[]),
    ("planted", &[]),
    ("chat", &["wire::Format", "wire::command", "wire::event", "mesh::event", "mesh::record", "planted"]),
    ("net", &["wire::ws"]),
    ("shard", &["net", "chat", "wire", "mesh", "auth", "planted"]),
    ("storage", &["mesh"]),
    ("control", &["storage", "mesh", "auth", "wire"]),
    ("boot", &["config", "wire", "auth", "mesh", "chat", "net", "shard", "storage", "control"]),
    ("main", &["boot", "config"]),
];

/// Crate → the modules that may name it.
const CRATES: &[(&str, &[&str])] =
    &[("glommio", &["shard", "net", "boot"]), ("tokio", &["storage", "control", "boot", "main"])];

const SQL_STARTS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE FROM", "CREATE", "WITH", "BEGIN", "COMMIT"];

fn may_hold_sql(path: &str) -> bool {
    path == "storage/sql.rs" || path.starts_with("storage/sql/")
}

fn may_be_unsafe(path: &str) -> bool {
    path == "net.rs" || path.starts_with("net/") || path == "wire/ws/mask.rs"
}

/// A file taken apart. `code` has the text's length and lines, with comments and the inside of literals blanked.
struct Source {
    code: String,
    /// Line (from 0) and text; a comment of several lines is several entries.
    comments: Vec<(usize, String)>,
    /// Line where it starts, and content.
    strings: Vec<(usize, String)>,
}

fn lex(text: &str) -> Source {
    let chars: Vec<char> = text.chars().collect();
    let mut source = Source { code: String::with_capacity(text.len()), comments: Vec::new(), strings: Vec::new() };
    let (mut i, mut line) = (0, 0);
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    while i < chars.len() {
        let start = i;
        let boundary = i == 0 || !(at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        let raw_hashes = raw_string_hashes(&chars, i).filter(|_| boundary);
        let end = if at(i) == '/' && at(i + 1) == '/' {
            (i..chars.len()).find(|&j| at(j) == '\n').unwrap_or(chars.len())
        } else if at(i) == '/' && at(i + 1) == '*' {
            let (mut depth, mut j) = (1, i + 2);
            while depth > 0 && j < chars.len() {
                match (at(j), at(j + 1)) {
                    ('/', '*') => (depth, j) = (depth + 1, j + 2),
                    ('*', '/') => (depth, j) = (depth - 1, j + 2),
                    _ => j += 1,
                }
            }
            j
        } else if let Some((open, hashes)) = raw_hashes {
            let closes = |j: usize| at(j) == '"' && (1..=hashes).all(|k| at(j + k) == '#');
            let close = (open..chars.len()).find(|&j| closes(j)).unwrap_or(chars.len());
            source.strings.push((line, chars[open..close].iter().collect()));
            (close + 1 + hashes).min(chars.len())
        } else if at(i) == '"' {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            source.strings.push((line, chars[i + 1..j.min(chars.len())].iter().collect()));
            (j + 1).min(chars.len())
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            let from = if at(i + 1) == '\\' { i + 3 } else { i + 2 };
            (from..chars.len()).find(|&j| at(j) == '\'').map_or(chars.len(), |j| j + 1)
        } else {
            i + 1
        };
        let token: String = chars[start..end].iter().collect();
        if token.starts_with("//") || token.starts_with("/*") {
            source.comments.extend(token.lines().enumerate().map(|(n, text)| (line + n, text.trim().to_owned())));
        }
        if end == start + 1 {
            source.code.push_str(&token);
        } else {
            source.code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        line += token.matches('\n').count();
        i = end;
    }
    source
}

/// `r"`, `r#"`, `br#"` …: where the content begins and how many hashes close it.
fn raw_string_hashes(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let get = |i: usize| chars.get(i).copied();
    let r = match (get(at)?, get(at + 1)?) {
        ('r', _) => at,
        ('b' | 'c', 'r') => at + 1,
        _ => return None,
    };
    let hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    (get(r + 1 + hashes)? == '"').then_some((r + 2 + hashes, hashes))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Byte positions of `word` as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count()
}

/// The paths, of one or two segments, that a path or use tree names: `a::{b, c::d}` gives `a::b` and `a::c`.
fn tree(text: &str) -> Vec<String> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                '}' | ',' if depth == 0 => {
                    paths.extend(tree(&group[start..at]));
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
        return paths;
    }
    let first: String = text.chars().take_while(|c| is_word(*c)).collect();
    if first.is_empty() {
        return Vec::new();
    }
    match text[first.len()..].trim_start().strip_prefix("::") {
        Some(rest) => {
            let inner = tree(rest);
            if inner.is_empty() {
                return vec![first];
            }
            inner.into_iter().map(|path| format!("{first}::{}", path.split("::").next().unwrap_or_default())).collect()
        }
        None => vec![first],
    }
}

/// What of this crate the code names: line and path from the crate's root.
fn crate_paths(path: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate", "chat_server"] {
        for at in words(code, root) {
            if let Some(rest) = code[at + root.len()..].trim_start().strip_prefix("::") {
                found.extend(tree(rest).into_iter().map(|path| (line_of(code, at), path)));
            }
        }
    }
    // `super::super::x` reaches the root too: from src/a/b.rs with two of them.
    let depth = path.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').count();
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
        let mut rest = &code[at..];
        let mut ups = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, ups) = (next, ups + 1);
        }
        if ups >= depth {
            let line = line_of(code, at);
            let modules = tree(rest).into_iter().filter(|path| IMPORTS.iter().any(|(module, _)| head(path) == *module));
            found.extend(modules.map(|path| (line, path)));
        }
    }
    found
}

fn head(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

/// Lines inside an item marked `#[cfg(test)]`.
fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let mut inside = vec![path.ends_with("tests.rs") || path.contains("/tests/"); code.lines().count() + 1];
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let (mut depth, mut end) = (0, code.len());
        for (offset, c) in code[at + attribute.len()..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = at + attribute.len() + offset;
                break;
            }
        }
        inside[line_of(code, at)..=line_of(code, end)].fill(true);
    }
    inside
}

/// Everything wrong with one file; `path` is relative to src/.
fn check(path: &str, text: &str) -> Vec<String> {
    let source = lex(text);
    let code = &source.code;
    let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let mut problems = Vec::new();
    let mut problem = |line: usize, what: String| problems.push(format!("src/{path}:{}: {what}", line + 1));

    let lines = text.lines().count();
    if lines > LINES_MAX {
        problem(LINES_MAX, format!("{lines} lines, at most {LINES_MAX}: these are two rooms"));
    }
    if !text.trim_start().starts_with("//!") {
        problem(0, "no //! doc at the top of the module".to_owned());
    }

    let law = IMPORTS.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
    match law {
        None if module != "lib" => problem(0, format!("module {module} is not in the import table")),
        None => {}
        Some(allowed) => {
            let leaf = LEAVES.contains(&module);
            for (line, import) in crate_paths(path, code) {
                let known = IMPORTS.iter().any(|(name, _)| *name == head(&import));
                let granted = head(&import) == module
                    || (!leaf && LEAVES.contains(&head(&import)))
                    || allowed.iter().any(|grant| *grant == import || *grant == head(&import));
                // What is no module is an item or macro of the root, of which there are none to forbid.
                if known && !granted {
                    problem(line, format!("{module} may not import {import}"));
                }
            }
        }
    }

    for (name, rooms) in CRATES.iter().filter(|(_, rooms)| !rooms.contains(&module)) {
        for at in words(code, name) {
            problem(line_of(code, at), format!("{name} is only for {}", rooms.join(", ")));
        }
    }
    if !may_be_unsafe(path) {
        for at in words(code, "unsafe") {
            problem(line_of(code, at), "unsafe is only for net/ and wire/ws/mask.rs".to_owned());
        }
    }
    if !may_hold_sql(path) {
        for (line, string) in &source.strings {
            let word: String =
                string.trim_start_matches(['\\', '\n', ' ']).chars().take_while(|c| is_word(*c)).collect();
            let after = string.trim_start_matches(['\\', '\n', ' '])[word.len()..].chars().next();
            if SQL_STARTS.contains(&word.as_str()) && after.is_none_or(|c| c.is_whitespace() || matches!(c, ';' | '\\'))
            {
                problem(*line, format!("SQL ({word} …) is only for storage/sql.rs"));
            }
        }
    }

    let tests = test_lines(path, code);
    let code_lines: Vec<&str> = code.lines().collect();
    for (line, text) in code_lines.iter().enumerate() {
        let panics = text.contains(".unwrap()") || text.contains(".expect(");
        if panics && !tests[line] && !proven(&source, &code_lines, line) {
            problem(line, "unwrap or expect outside tests without a `// PROOF:` comment on it or above it".to_owned());
        }
    }
    problems
}

/// A comment on the line, or the comment right above it, begins with `// PROOF:`.
fn proven(source: &Source, code: &[&str], line: usize) -> bool {
    let comment = |line: usize| source.comments.iter().find(|(at, _)| *at == line).map(|(_, text)| text.as_str());
    let proof = |text: &str| text.starts_with("// PROOF:");
    if comment(line).is_some_and(proof) {
        return true;
    }
    (0..line).rev().map_while(|above| comment(above).filter(|_| code[above].trim().is_empty())).any(proof)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn the_source_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root);
    assert!(files.len() > 5, "src/ was not found");
    let mut report = String::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        for problem in check(&path, &std::fs::read_to_string(&file).unwrap()) {
            let _ = writeln!(report, "  {problem}");
        }
    }
    assert!(report.is_empty(), "the source breaks its rules:\n{report}");
}

/// `check` on a body under a module doc.
fn problems(path: &str, body: &str) -> Vec<String> {
    check(path, &format!("//! A module.\n{body}"))
}

#[track_caller]
fn refused(path: &str, body: &str, because: &str) {
    let found = problems(path, body);
    assert!(found.len() == 1 && found[0].contains(because), "{body:?} gave {found:?}");
}

#[track_caller]
fn accepted(path: &str, body: &str) {
    assert_eq!(problems(path, body), Vec::<String>::new(), "{body:?}");
}

#[test]
fn a_foreign_import_is_found_in_every_spelling() {
    refused(
        "wire/json.rs",
        "use crate::chat::session::Session;",
        "src/wire/json.rs:2: wire may not import chat::session",
    );
    refused("wire/json.rs", "use crate::{ids::UserId, net};", "wire may not import net");
    refused(
        "wire/json.rs",
        "use crate::{\n    ids,\n    storage::{sql, inlet},\n};".replace("sql, ", "").as_str(),
        "storage::inlet",
    );
    refused("wire/json.rs", "fn f() { crate::mesh::ring(); }", "wire may not import mesh::ring");
    refused("wire/json.rs", "use super::super::shard::Pump;", "wire may not import shard");
    refused("wire/mod.rs", "use super::shard::Pump;", "wire may not import shard");
    refused("wire/json.rs", "#[cfg(test)]\nmod tests {\n    use crate::shard::Pump;\n}", "wire may not import shard");
    refused("main.rs", "use chat_server::storage;", "main may not import storage");
    refused("ids.rs", "use crate::limits::NESTING_MAX;", "ids may not import limits");
    refused("extra.rs", "", "extra is not in the import table");
}

#[test]
fn chat_sees_commands_and_events_and_net_sees_frames() {
    accepted(
        "chat/session.rs",
        "use crate::wire::{command::Command, event};\nuse crate::{ids, limits, error::Refusal};",
    );
    refused("chat/session.rs", "use crate::wire::json;", "chat may not import wire::json");
    refused("chat/session.rs", "use crate::wire;", "chat may not import wire");
    refused("chat/session.rs", "use crate::wire::{command::Command, ws};", "chat may not import wire::ws");
    accepted("net/ring.rs", "use crate::wire::ws::decoder;");
    refused("net/ring.rs", "use crate::wire::command;", "net may not import wire::command");
    accepted("wire/ws/decoder.rs", "use super::mask;\nuse crate::wire::ws::close;");
    accepted("wire/json.rs", "// use crate::chat;\nconst TEXT: &str = \"crate::chat::x\";");
}

#[test]
fn a_runtime_stays_in_its_rooms() {
    refused("chat/budget.rs", "use tokio::time::Instant;", "tokio is only for");
    refused("control/auth.rs", "fn f() { glommio::yield_if_needed(); }", "glommio is only for");
    accepted("storage/inlet.rs", "use tokio::sync::mpsc;\nuse tokio_postgres::Client;");
    accepted("wire/json.rs", "use tokio_postgres::types;");
}

#[test]
fn unsafe_stays_in_its_rooms() {
    refused("mesh/lane.rs", "fn f() { unsafe { g() } }", "unsafe is only for");
    accepted("net/ring.rs", "fn f() { unsafe { g() } }");
    accepted("wire/ws/mask.rs", "fn f() { unsafe { g() } }");
    accepted("mesh/lane.rs", "#![deny(unsafe_op_in_unsafe_fn)]\n// not unsafe at all\n");
}

#[test]
fn sql_stays_in_its_room() {
    refused("storage/readers.rs", "const Q: &str = \"SELECT 1\";", "src/storage/readers.rs:2: SQL (SELECT …)");
    refused("storage/readers.rs", "const Q: &str = r#\"\n  WITH a AS (TABLE b)\"#;", "SQL (WITH …)");
    refused("control/admin.rs", "fn f() { run(\"COMMIT\"); }", "SQL (COMMIT …)");
    accepted("storage/sql.rs", "const Q: &str = \"SELECT 1\";");
    accepted("storage/sql/reads.rs", "const Q: &str = \"SELECT 1\";");
    accepted("storage/readers.rs", "const Q: &str = \"Select a room\"; const R: &str = \"UPDATED\"; // SELECT 1");
}

#[test]
fn a_panic_outside_tests_needs_a_proof() {
    refused("wire/json.rs", "fn f() { g().unwrap(); }", "src/wire/json.rs:2: unwrap or expect");
    refused("wire/json.rs", "fn f() {\n    g()\n        .expect(\"g\");\n}", "src/wire/json.rs:4");
    refused("wire/json.rs", "// PROOF: of the line below.\nfn f() {}\nfn h() { g().unwrap() }", "unwrap");
    accepted("wire/json.rs", "fn f() {\n    // PROOF: g is total,\n    // as its doc says.\n    g().unwrap();\n}");
    accepted("wire/json.rs", "fn f() { g().unwrap(); } // PROOF: g is total");
    accepted("wire/json.rs", "#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}");
    refused("wire/json.rs", "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nfn f() { g().unwrap(); }", "json.rs:6");
    accepted("wire/json.rs", "#[expect(dead_code)]\nfn f() { g().unwrap_or_default(); let c = \".unwrap()\"; }");
}

#[test]
fn a_module_has_a_doc_and_an_end() {
    assert_eq!(check("wire/json.rs", "fn f() {}"), ["src/wire/json.rs:1: no //! doc at the top of the module"]);
    accepted("wire/json.rs", &"\n".repeat(LINES_MAX - 1));
    refused("wire/json.rs", &"\n".repeat(LINES_MAX), "601 lines, at most 600");
}

#[test]
fn the_lexer_knows_a_literal_from_code() {
    let text = r##"let a = 'x'; let b: &'static str = "q\"//"; let c = r#"un"safe"#; /* u /* n */ s */ let d = '\''; let e = '"'; done"##;
    let source = lex(text);
    assert_eq!(source.strings.iter().map(|(_, s)| s.as_str()).collect::<Vec<_>>(), ["q\\\"//", "un\"safe"]);
    assert_eq!(source.comments.len(), 1);
    assert!(source.code.ends_with("; done") && source.code.contains("&'static str"), "{}", source.code);
    assert_eq!(source.code.chars().count(), text.chars().count());
}
