//! The law of src/: which module may import which, and where the runtimes, `unsafe`, SQL and panics are allowed.
//!
//! How: the imports come from the module trees of the library and of the binary, in every spelling. The other rules
//! look at one file, of which the lexer separates code, comments and strings.

use crate::lexer::{Source, is_word, lex, line_of, words};
use crate::modules::{Module, Reference, Target};
use std::collections::BTreeSet;

/// Every module may import these. They import nothing of this crate.
const LEAVES: &[&str] = &["address", "budget", "error", "faults", "ids", "latency", "limits", "planted", "text"];

/// Module → what else of this crate it may import (`a::b` grants only that part).
const IMPORTS: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("budget", &[]),
    ("error", &[]),
    ("faults", &[]),
    ("planted", &[]),
    ("ids", &[]),
    ("latency", &[]),
    ("limits", &[]),
    ("text", &[]),
    ("config", &[]),
    ("wire", &[]),
    ("audit", &[]),
    ("files", &[]),
    ("auth", &[]),
    ("mesh", &["chat::filter", "auth"]),
    (
        "chat",
        &[
            "wire::Format",
            "wire::command",
            "wire::event",
            "mesh::event",
            "mesh::nodes",
            "mesh::record",
            "mesh::standing",
        ],
    ),
    ("net", &["wire::ws"]),
    ("shard", &["net", "chat", "wire", "mesh", "auth"]),
    ("storage", &["mesh", "audit", "files"]),
    ("cluster", &["mesh", "storage", "audit"]),
    ("hooks", &["mesh", "storage", "auth"]),
    ("control", &["files", "hooks", "storage", "mesh", "audit", "auth", "wire", "chat::filter"]),
    ("backup", &["files", "storage", "audit"]),
    ("import", &["files", "storage", "backup", "auth"]),
    ("export", &["files", "storage", "import"]),
    (
        "boot",
        &[
            "files", "config", "wire", "audit", "auth", "mesh", "chat", "net", "shard", "storage", "cluster", "hooks",
            "control", "backup", "import", "export",
        ],
    ),
    ("main", &["boot", "config"]),
];

/// Crate → the modules that may name it.
const CRATES: &[(&str, &[&str])] = &[
    ("glommio", &["shard", "net", "boot"]),
    ("tokio", &["files", "storage", "cluster", "hooks", "control", "backup", "import", "boot"]),
];

const SQL_STARTS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE FROM", "CREATE", "WITH", "BEGIN", "COMMIT"];

/// The statements, and the reader of dumps, which names statements and executes none.
fn may_hold_sql(path: &str) -> bool {
    path == "storage/sql.rs" || path.starts_with("storage/sql/") || path.starts_with("import/dump/")
}

fn may_be_unsafe(path: &str) -> bool {
    path == "net.rs" || path.starts_with("net/") || path == "wire/ws/mask.rs"
}

/// The top module of a file below src/.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The imports that the law forbids, the modules that the table lacks, and those that it names but do not exist.
pub fn foreign_imports(targets: &[Target]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let known =
        |name: &str| IMPORTS.iter().find(|(module, _)| *module == name).map(|(module, grants)| (*module, *grants));
    for module in targets.iter().flat_map(|target| &target.modules) {
        let Some(path) = module.file.strip_prefix("src/").filter(|path| *path != "lib.rs") else { continue };
        let name = top(path);
        let Some((name, grants)) = known(name) else {
            if seen.insert(name) {
                problems.push(format!("{}: module {name} is not in the import table", module.file));
            }
            continue;
        };
        seen.insert(name);
        let imports = module.references.iter().chain(&module.globs).chain(&module.macro_calls);
        for import in imports.filter_map(|reference| from_root(module, reference)) {
            let (line, import) = import;
            let Some(first) = import.first().filter(|first| known(first).is_some()) else {
                // What is no module is an item or macro of the root. There are none to forbid.
                continue;
            };
            let two = import[..import.len().min(2)].join("::");
            let granted = grants.iter().any(|grant| *grant == two || grant == first);
            let leaf = LEAVES.contains(&first.as_str()) && !LEAVES.contains(&name);
            if first != name && !leaf && !granted {
                problems.push(format!("{}:{}: {name} may not import {two}", module.file, line + 1));
            }
        }
    }
    let gone = IMPORTS.iter().filter(|(name, _)| !seen.contains(name));
    problems.extend(gone.map(|(name, _)| format!("the import table names module {name}, which does not exist")));
    problems
}

/// The path from the crate's root, if the reference says where it begins. In src/main.rs, `chat_server` is that crate.
fn from_root(module: &Module, reference: &Reference) -> Option<(usize, Vec<String>)> {
    let mut base = module.path.clone();
    let mut rest = reference.segments.as_slice();
    match rest.first()?.as_str() {
        "crate" | "chat_server" => (base, rest) = (Vec::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {
            while let Some(("super", more)) = rest.split_first().map(|(first, more)| (first.as_str(), more)) {
                base.pop();
                rest = more;
            }
        }
        _ => return None,
    }
    base.extend(rest.iter().cloned());
    Some((reference.line, base))
}

/// Lines inside an item that only tests compile.
fn test_lines(code: &str) -> Vec<bool> {
    let mut inside = vec![false; code.lines().count() + 1];
    let plain = code.match_indices("#[cfg(test)]");
    for (at, attribute) in plain.chain(code.match_indices("#[cfg(all(test, ")) {
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

/// What is wrong with one file; `path` is relative to src/.
pub fn check(path: &str, text: &str) -> Vec<String> {
    let source = lex(text);
    let code = &source.code;
    let module = top(path);
    let mut problems = Vec::new();
    let mut problem = |line: usize, what: String| problems.push(format!("src/{path}:{}: {what}", line + 1));

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
            let start = string.trim_start_matches(['\\', '\n', ' ']);
            let word: String = start.chars().take_while(|c| is_word(*c)).collect();
            let after = start[word.len()..].chars().next();
            if SQL_STARTS.contains(&word.as_str()) && after.is_none_or(|c| c.is_whitespace() || matches!(c, ';' | '\\'))
            {
                problem(*line, format!("SQL ({word} …) is only for storage/sql.rs and migrations/"));
            }
        }
    }
    problems
}

/// Each `unwrap` and `expect` of a file that no comment proves, outside tests; `path` is from the repository's root.
pub fn unproven_panics(path: &str, text: &str) -> Vec<String> {
    let source = lex(text);
    let tests = test_lines(&source.code);
    let lines: Vec<&str> = source.code.lines().collect();
    let panics = |text: &str| text.contains(".unwrap()") || text.contains(".expect(");
    let unproven = |line: usize| panics(lines[line]) && !tests[line] && !proven(&source, &lines, line);
    (0..lines.len())
        .filter(|line| unproven(*line))
        .map(|line| {
            format!(
                "{path}:{}: unwrap or expect outside tests without a `// PROOF:` comment on it or above it",
                line + 1
            )
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::targets;
    use crate::tree::Tree;

    /// The problems that the law finds in a file below src/ that holds `body`, as part of a library that declares it.
    fn problems(path: &str, body: &str) -> Vec<String> {
        let parts: Vec<&str> = path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
        let mut files = vec![("Cargo.toml".to_owned(), String::new()), (format!("src/{path}"), body.to_owned())];
        if path != "main.rs" {
            files.push(("src/lib.rs".to_owned(), format!("mod {};", parts[0])));
        }
        for depth in 1..parts.len() {
            files.push((format!("src/{}.rs", parts[..depth].join("/")), format!("mod {};", parts[depth])));
        }
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let (targets, missing) = targets(&Tree::of(&files));
        assert_eq!(missing, Vec::<String>::new());
        let mut problems = foreign_imports(&targets);
        problems.retain(|problem| !problem.starts_with("the import table"));
        problems.extend(check(path, body));
        problems.extend(unproven_panics(&format!("src/{path}"), body));
        problems
    }

    #[track_caller]
    fn refuses(path: &str, body: &str, because: &str) {
        let found = problems(path, body);
        assert!(found.len() == 1 && found[0].contains(because), "{body:?} gave {found:?}");
    }

    #[track_caller]
    fn accepts(path: &str, body: &str) {
        assert_eq!(problems(path, body), Vec::<String>::new(), "{body:?}");
    }

    #[test]
    fn finds_a_foreign_import_in_every_spelling() {
        let session = "use crate::chat::session::Session;";
        refuses("wire/json.rs", session, "src/wire/json.rs:1: wire may not import chat::session");
        refuses("wire/json.rs", "use crate::{ids::UserId, net};", "wire may not import net");
        refuses("wire/json.rs", "use crate::{\n    ids,\n    storage::{inlet},\n};", "json.rs:3: wire may not import");
        refuses("wire/json.rs", "fn f() { crate::mesh::ring(); }", "wire may not import mesh::ring");
        refuses("wire/json.rs", "fn f() { println!(\"{}\", crate::mesh::ring()); }", "wire may not import mesh::ring");
        refuses("wire/json.rs", "use super::super::shard::Pump;", "wire may not import shard");
        refuses("wire/mod.rs", "use super::shard::*;", "wire may not import shard");
        let test = "#[cfg(test)]\nmod tests {\n    use crate::shard::Pump;\n}";
        refuses("wire/json.rs", test, "json.rs:3: wire may not import shard");
        let up = "mod tests {\n    use super::super::super::shard::Pump;\n}";
        refuses("wire/json.rs", up, "json.rs:2: wire may not import shard");
        refuses("main.rs", "use chat_server::storage;", "main may not import storage");
        refuses("ids.rs", "use crate::limits::NESTING_MAX;", "ids may not import limits");
        refuses("extra.rs", "", "extra is not in the import table");
    }

    #[test]
    fn lets_chat_see_commands_and_events_and_net_see_frames() {
        let own = "use crate::wire::{command::Command, event};\nuse crate::{ids, limits, error::Refusal};";
        accepts("chat/session.rs", own);
        refuses("chat/session.rs", "use crate::wire::json;", "chat may not import wire::json");
        refuses("chat/session.rs", "use crate::wire;", "chat may not import wire");
        refuses("chat/session.rs", "use crate::wire::{command::Command, ws};", "chat may not import wire::ws");
        accepts("net/ring.rs", "use crate::wire::ws::decoder;");
        refuses("net/ring.rs", "use crate::wire::command;", "net may not import wire::command");
        accepts("wire/ws/decoder.rs", "use super::mask;\nuse crate::wire::ws::close;");
        accepts("wire/json.rs", "// use crate::chat;\nconst TEXT: &str = \"use crate::chat::x\";");
    }

    #[test]
    fn finds_a_module_of_the_table_that_is_gone() {
        let tree = Tree::of(&[("Cargo.toml", ""), ("src/lib.rs", "mod net;"), ("src/net.rs", "")]);
        let problems = foreign_imports(&targets(&tree).0);
        let names = |module: &str| problems.iter().any(|problem| problem.contains(&format!("module {module}, which")));
        assert!(names("storage") && !names("net"), "{problems:?}");
    }

    #[test]
    fn keeps_each_runtime_in_its_modules() {
        refuses("chat/budget.rs", "use tokio::time::Instant;", "tokio is only for");
        refuses("control/auth.rs", "fn f() { glommio::yield_if_needed(); }", "glommio is only for");
        accepts("storage/inlet.rs", "use tokio::sync::mpsc;\nuse tokio_postgres::Client;");
        accepts("wire/json.rs", "use tokio_postgres::types;");
    }

    #[test]
    fn keeps_unsafe_code_in_its_modules() {
        refuses("mesh/lane.rs", "fn f() { unsafe { g() } }", "unsafe is only for");
        accepts("net/ring.rs", "fn f() { unsafe { g() } }");
        accepts("wire/ws/mask.rs", "fn f() { unsafe { g() } }");
        accepts("mesh/lane.rs", "#![deny(unsafe_op_in_unsafe_fn)]\n// not unsafe at all\n");
    }

    #[test]
    fn keeps_sql_in_its_module() {
        refuses("storage/readers.rs", "\nconst Q: &str = \"SELECT 1\";", "src/storage/readers.rs:2: SQL (SELECT …)");
        refuses("storage/readers.rs", "const Q: &str = r#\"\n  WITH a AS (TABLE b)\"#;", "SQL (WITH …)");
        refuses("control/admin.rs", "fn f() { run(\"COMMIT\"); }", "SQL (COMMIT …)");
        accepts("storage/sql.rs", "const Q: &str = \"SELECT 1\";");
        accepts("storage/sql/reads.rs", "const Q: &str = \"SELECT 1\";");
        let no_sql = "const Q: &str = \"Select a room\"; const R: &str = \"UPDATED\"; // SELECT 1";
        accepts("storage/readers.rs", no_sql);
    }

    #[test]
    fn wants_a_proof_for_a_panic_outside_tests() {
        refuses("wire/json.rs", "fn f() { g().unwrap(); }", "src/wire/json.rs:1: unwrap or expect");
        refuses("wire/json.rs", "fn f() {\n    g()\n        .expect(\"g\");\n}", "src/wire/json.rs:3");
        refuses("wire/json.rs", "// PROOF: of the line below.\nfn f() {}\nfn h() { g().unwrap() }", "unwrap");
        accepts("wire/json.rs", "fn f() {\n    // PROOF: g is total,\n    // as its doc says.\n    g().unwrap();\n}");
        accepts("wire/json.rs", "fn f() { g().unwrap(); } // PROOF: g is total");
        accepts("wire/json.rs", "#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}");
        accepts("wire/json.rs", "#[cfg(all(test, feature = \"db\"))]\nmod tests {\n    fn f() { g().unwrap(); }\n}");
        refuses("wire/json.rs", "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nfn f() { g().unwrap(); }", "json.rs:5");
        accepts("wire/json.rs", "#[expect(dead_code)]\nfn f() { g().unwrap_or_default(); let c = \".unwrap()\"; }");
    }
}
