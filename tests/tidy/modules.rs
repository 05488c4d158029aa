//! The module trees of all crates, read from the `mod` declarations: what each module defines, imports and names.
//!
//! One pass over the tokens per file, without types. What it does not see: items that a macro makes from nothing but
//! its name, and methods called through a type that is only inferred (see `imports.rs` for what that means).

use crate::lexer::{Source, Token, is_word, lex, tokens};
use crate::tree::{Tree, extension, folder, join};
use std::collections::{BTreeMap, BTreeSet};

/// A path of the source, such as `super::wire::encode`, and the line (from 0) that names it.
#[derive(Clone, Debug)]
pub struct Reference {
    pub segments: Vec<String>,
    pub line: usize,
}

/// The item that a name refers to in its module.
#[derive(Clone, Debug)]
pub enum Definition {
    Item,
    Module(usize),
    /// An import, to be resolved from the module that holds it.
    Import(Vec<String>),
}

/// A method that is called on a value: `.name(…)`.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub line: usize,
    /// The type of the `impl` around it, if it is called on `self`.
    pub on: Option<Vec<String>>,
}

/// The functions of one `impl` or `trait`.
#[derive(Debug)]
pub struct Methods {
    /// The type of an inherent `impl`; `None` for a trait and for the implementation of one.
    pub of: Option<Vec<String>>,
    pub names: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Module {
    pub file: String,
    /// Its names from the crate's root, which has none.
    pub path: Vec<String>,
    pub parent: Option<usize>,
    /// Only tests compile it.
    pub is_test: bool,
    pub names: BTreeMap<String, Vec<Definition>>,
    /// Structs, enums, unions and traits, with their lines (from 0).
    pub types: Vec<(String, usize)>,
    pub macros: BTreeSet<String>,
    pub globs: Vec<Reference>,
    pub references: Vec<Reference>,
    pub macro_calls: Vec<Reference>,
    pub calls: Vec<Call>,
    pub methods: Vec<Methods>,
    /// Every word that stands alone, and the first line that has it: what a glob import may bring.
    pub words: BTreeMap<String, usize>,
}

/// One target of a package, from its root file; the root is module 0.
pub struct Target {
    pub modules: Vec<Module>,
}

impl Target {
    pub fn files(&self) -> BTreeSet<&str> {
        self.modules.iter().map(|module| module.file.as_str()).collect()
    }
}

/// The targets of every package of the tree, and each `mod` declaration whose file is missing.
pub fn targets(tree: &Tree) -> (Vec<Target>, Vec<String>) {
    let mut missing = Vec::new();
    let targets = roots(tree).into_iter().map(|root| Reader::target(tree, &root, &mut missing)).collect();
    (targets, missing)
}

/// The files of src/ folders that only tests compile.
pub fn test_files(targets: &[Target]) -> BTreeSet<&str> {
    let modules = || targets.iter().flat_map(|target| &target.modules);
    let files = |is_test| modules().filter(move |module| module.is_test == is_test).map(|module| module.file.as_str());
    let others: BTreeSet<&str> = files(false).collect();
    files(true).filter(|file| !others.contains(file)).collect()
}

/// The Rust files that no target declares.
pub fn undeclared(tree: &Tree, targets: &[Target]) -> Vec<String> {
    let declared: BTreeSet<&str> = targets.iter().flat_map(Target::files).collect();
    let dead = tree.ending(&["rs"]).filter(|(path, _)| !declared.contains(path));
    dead.map(|(path, _)| format!("{path}: no `mod` declares this file")).collect()
}

/// The root files: where Cargo looks for targets by itself, and each `path` of a manifest.
fn roots(tree: &Tree) -> BTreeSet<String> {
    let mut roots = BTreeSet::new();
    for package in tree.packages() {
        let inside = |path: &str| join(&package, path).unwrap_or_default();
        roots.extend(["src/lib.rs", "src/main.rs", "build.rs"].map(inside));
        for (place, rest) in tree.ending(&["rs"]).filter_map(|(path, _)| {
            let rest = if package.is_empty() { path } else { path.strip_prefix(&format!("{package}/"))? };
            let place = ["src/bin", "tests", "benches", "examples"]
                .into_iter()
                .find(|place| rest.strip_prefix(place).is_some_and(|rest| rest.starts_with('/')))?;
            Some((place, &rest[place.len() + 1..]))
        }) {
            if !rest.contains('/') || (rest.ends_with("/main.rs") && rest.matches('/').count() == 1) {
                roots.insert(inside(&format!("{place}/{rest}")));
            }
        }
        let manifest = tree.files.get(&inside("Cargo.toml")).map(String::as_str).unwrap_or_default();
        for line in manifest.lines().filter(|line| line.starts_with("path = ") || line.starts_with("build = ")) {
            roots.insert(inside(line.split('"').nth(1).unwrap_or_default()));
        }
    }
    roots.retain(|root| tree.has(root) && extension(root) == "rs");
    roots
}

/// What an open brace holds.
#[derive(Clone)]
struct Scope {
    module: usize,
    /// Where the files of this module's children are.
    children: String,
    /// Directly inside an `impl` or `trait`: its place in [`Module::methods`].
    methods: Option<usize>,
    /// The type of the `impl` around, for `self`.
    of: Option<Vec<String>>,
}

struct Reader<'a> {
    tree: &'a Tree,
    modules: Vec<Module>,
    /// The item that follows has `#[cfg(test)]`.
    in_tests: bool,
    missing: &'a mut Vec<String>,
}

impl<'a> Reader<'a> {
    fn target(tree: &'a Tree, root: &str, missing: &'a mut Vec<String>) -> Target {
        let mut reader = Self { tree, modules: Vec::new(), in_tests: false, missing };
        reader.file(root, "", folder(root).to_owned(), None);
        Target { modules: reader.modules }
    }

    fn module(&mut self, file: &str, name: &str, parent: Option<usize>) -> usize {
        let mut path = parent.map(|parent| self.modules[parent].path.clone()).unwrap_or_default();
        path.extend(parent.map(|_| name.to_owned()));
        let is_test = self.in_tests || parent.is_some_and(|parent| self.modules[parent].is_test);
        self.modules.push(Module { file: file.to_owned(), path, parent, is_test, ..Module::default() });
        self.modules.len() - 1
    }

    /// Reads a file whose children are in the folder `children`.
    fn file(&mut self, path: &str, name: &str, children: String, parent: Option<usize>) -> usize {
        let module = self.module(path, name, parent);
        self.in_tests = false;
        let tree = self.tree;
        if let Some(text) = tree.files.get(path) {
            let source = lex(text);
            self.scan(&source, &tokens(&source.code), Scope { module, children, methods: None, of: None });
        }
        module
    }

    /// `mod name;`, with the path of an attribute if it has one.
    fn declared(&mut self, name: &str, attribute: Option<String>, scope: &Scope) -> usize {
        let parent = self.modules[scope.module].file.clone();
        let candidates = match attribute {
            Some(path) => vec![join(folder(&parent), &path)],
            None => [format!("{name}.rs"), format!("{name}/mod.rs")].map(|file| join(&scope.children, &file)).to_vec(),
        };
        let found = candidates.into_iter().flatten().find(|path| self.tree.has(path));
        let Some(file) = found else {
            self.missing.push(format!("{parent}: there is no file for `mod {name};`"));
            return self.module(&parent, name, Some(scope.module));
        };
        let children =
            if file.ends_with("/mod.rs") { folder(&file).to_owned() } else { file[..file.len() - 3].to_owned() };
        self.file(&file, name, children, Some(scope.module))
    }

    fn scan(&mut self, source: &Source, tokens: &[Token], top: Scope) {
        let text = |i: usize| tokens.get(i).map_or("", |token| token.text);
        let mut scopes = vec![top];
        let mut next_scope: Option<Scope> = None;
        let mut path_attribute = None;
        let mut i = 0;
        while i < tokens.len() {
            let token = tokens[i];
            let before = if i == 0 { "" } else { text(i - 1) };
            let starts_item = matches!(before, "" | ";" | "{" | "}" | "]" | ")" | "pub" | "unsafe" | "async" | "const");
            // PROOF: the first scope is never popped.
            let scope = scopes.last().unwrap().clone();
            let module = scope.module;
            let name = text(i + 1);
            let named = name.starts_with(is_word);
            match token.text {
                ";" => self.in_tests = false,
                "{" => {
                    self.in_tests = false;
                    let inner = Scope { methods: None, ..scope };
                    scopes.push(next_scope.take().unwrap_or(inner));
                }
                "}" if scopes.len() > 1 => drop(scopes.pop()),
                "path" if before == "[" && name == "=" => {
                    let literal = source.strings.iter().find(|(line, _)| *line >= token.line);
                    path_attribute = literal.map(|(_, path)| path.clone());
                }
                "cfg" if before == "[" => {
                    self.in_tests = text(i + 2) == "test" || (text(i + 2) == "all" && text(i + 4) == "test");
                }
                "mod" if starts_item && named && text(i + 2) == ";" => {
                    let child = self.declared(name, path_attribute.take(), &scope);
                    self.define(module, name, Definition::Module(child));
                    self.in_tests = false;
                    i += 2;
                }
                "mod" if starts_item && named && text(i + 2) == "{" => {
                    let file = self.modules[module].file.clone();
                    let child = self.module(&file, name, Some(module));
                    self.define(module, name, Definition::Module(child));
                    let children = format!("{}/{name}", scope.children);
                    next_scope = Some(Scope { module: child, children, methods: None, of: None });
                    i += 1;
                }
                "use" if starts_item && name != "<" => {
                    i = self.import(module, tokens, i + 1);
                    continue;
                }
                "macro_rules" if name == "!" => {
                    self.modules[module].macros.insert(text(i + 2).to_owned());
                    self.define(module, text(i + 2), Definition::Item);
                    i += 2;
                }
                "fn" if named => {
                    match scope.methods {
                        Some(at) => self.modules[module].methods[at].names.push(name.to_owned()),
                        None => self.define(module, name, Definition::Item),
                    }
                    i += 1;
                }
                "struct" | "enum" | "trait" | "type" | "static" | "const" | "union"
                    if named && before != "*" && name != "fn" && (token.text != "union" || text(i + 2) == "{") =>
                {
                    if scope.methods.is_none() {
                        let item = if name == "mut" { text(i + 2) } else { name };
                        self.define(module, item, Definition::Item);
                    }
                    if matches!(token.text, "struct" | "enum" | "union" | "trait") {
                        self.modules[module].types.push((name.to_owned(), token.line));
                    }
                    if token.text == "trait" {
                        next_scope = Some(self.methods(&scope, None));
                    }
                    i += 1;
                }
                "impl" if starts_item => {
                    let (of, is_trait) = implemented(tokens, i + 1);
                    self.reference(module, of.clone(), token.line);
                    let mut inner = self.methods(&scope, Some(of.clone()).filter(|_| !is_trait));
                    inner.of = Some(of);
                    next_scope = Some(inner);
                }
                "." => {
                    if named && (text(i + 2) == "(" || (text(i + 2) == "::" && text(i + 3) == "<")) {
                        let on = scope.of.clone().filter(|_| before == "self");
                        self.modules[module].calls.push(Call { name: name.to_owned(), line: token.line, on });
                    }
                    i += usize::from(named);
                }
                word if word.starts_with(is_word) => {
                    let (path, end) = path(tokens, i);
                    let is_macro = text(end) == "!" && text(end + 1) != "=";
                    if path.len() > 1 {
                        let path = match (&scope.of, path[0].as_str()) {
                            (Some(of), "Self") => of.iter().chain(&path[1..]).cloned().collect(),
                            _ => path,
                        };
                        if before != "::" {
                            self.reference(module, path, token.line);
                        }
                    } else if is_macro {
                        let call = Reference { segments: path, line: token.line };
                        self.modules[module].macro_calls.push(call);
                    } else {
                        self.modules[module].words.entry(word.to_owned()).or_insert(token.line);
                    }
                    i = end;
                    continue;
                }
                _ => {}
            }
            i += 1;
        }
        for (line, literal) in &source.strings {
            // `#[serde(with = "super::x")]` names what it holds.
            let is_path = ["crate::", "super::", "self::"].iter().any(|root| literal.starts_with(root));
            if is_path && literal.ends_with(is_word) && literal.chars().all(|c| is_word(c) || c == ':') {
                self.reference(scopes[0].module, literal.split("::").map(str::to_owned).collect(), *line);
            }
        }
    }

    fn define(&mut self, module: usize, name: &str, definition: Definition) {
        self.modules[module].names.entry(name.to_owned()).or_default().push(definition);
    }

    fn reference(&mut self, module: usize, segments: Vec<String>, line: usize) {
        self.modules[module].references.push(Reference { segments, line });
    }

    fn methods(&mut self, scope: &Scope, of: Option<Vec<String>>) -> Scope {
        let methods = &mut self.modules[scope.module].methods;
        methods.push(Methods { of, names: Vec::new() });
        Scope { methods: Some(methods.len() - 1), of: None, ..scope.clone() }
    }

    /// A `use` tree that begins at `i`; returns the place behind its semicolon.
    fn import(&mut self, module: usize, tokens: &[Token], mut i: usize) -> usize {
        let mut prefixes: Vec<Vec<String>> = vec![Vec::new()];
        let mut path: Vec<String> = Vec::new();
        let mut closed = false;
        while i < tokens.len() {
            let Token { text, line } = tokens[i];
            match text {
                "::" => {}
                "{" => prefixes.push(std::mem::take(&mut path)),
                "," | "}" | ";" => {
                    if !path.is_empty() && !closed {
                        self.leaf(module, prefixes.concat(), std::mem::take(&mut path), None, line);
                    }
                    (path, closed) = (Vec::new(), false);
                    match text {
                        "}" => {
                            prefixes.pop();
                            closed = true;
                        }
                        ";" => return i + 1,
                        _ => {}
                    }
                }
                "as" => {
                    let alias = tokens.get(i + 1).map_or("_", |token| token.text);
                    self.leaf(module, prefixes.concat(), std::mem::take(&mut path), Some(alias), line);
                    i += 1;
                    closed = true;
                }
                word => path.push(word.to_owned()),
            }
            i += 1;
        }
        i
    }

    fn leaf(&mut self, module: usize, prefix: Vec<String>, rest: Vec<String>, alias: Option<&str>, line: usize) {
        let mut segments = prefix;
        segments.extend(rest);
        match segments.last().map(String::as_str) {
            Some("*") => {
                segments.pop();
                self.modules[module].globs.push(Reference { segments, line });
                return;
            }
            Some("self") if segments.len() > 1 => drop(segments.pop()),
            _ => {}
        }
        let Some(name) = alias.map(str::to_owned).or_else(|| segments.last().cloned()) else { return };
        if name != "_" {
            self.define(module, &name, Definition::Import(segments.clone()));
        }
        self.reference(module, segments, line);
    }
}

/// `a::b::c` from `i`, and the place behind it.
fn path(tokens: &[Token], mut i: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[i].text.to_owned()];
    i += 1;
    while tokens.get(i).is_some_and(|token| token.text == "::")
        && tokens.get(i + 1).is_some_and(|token| token.text.starts_with(is_word))
    {
        path.push(tokens[i + 1].text.to_owned());
        i += 2;
    }
    (path, i)
}

/// The type of the `impl` whose keyword is before `i`, and whether it implements a trait.
fn implemented(tokens: &[Token], mut i: usize) -> (Vec<String>, bool) {
    let (mut angles, mut found, mut is_trait) = (0, None, false);
    while let Some(token) = tokens.get(i) {
        match token.text {
            "<" => angles += 1,
            ">" => angles -= 1,
            "{" | ";" | "where" if angles == 0 => break,
            "for" if angles == 0 => (found, is_trait) = (None, true),
            "mut" | "dyn" | "const" | "unsafe" => {}
            word if angles == 0 && found.is_none() && word.starts_with(is_word) => {
                let (path, end) = path(tokens, i);
                found = Some(path);
                i = end;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    (found.unwrap_or_default(), is_trait)
}

#[cfg(test)]
fn only_target(files: &[(&str, &str)]) -> Target {
    let mut files = files.to_vec();
    files.push(("Cargo.toml", "[package]"));
    let (mut targets, missing) = targets(&Tree::of(&files));
    assert!(targets.len() == 1 && missing.is_empty(), "{missing:?}");
    targets.remove(0)
}

#[test]
fn finds_the_files_of_modules() {
    let target = only_target(&[
        ("src/lib.rs", "mod a;\nmod b;\nmod c { mod d; }"),
        ("src/a.rs", "pub mod inner;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;"),
        ("src/a/inner.rs", ""),
        ("src/a_tests.rs", ""),
        ("src/b/mod.rs", "mod leaf;"),
        ("src/b/leaf.rs", ""),
        ("src/c/d.rs", ""),
    ]);
    let expected =
        ["src/a.rs", "src/a/inner.rs", "src/a_tests.rs", "src/b/leaf.rs", "src/b/mod.rs", "src/c/d.rs", "src/lib.rs"];
    assert_eq!(target.files().into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn knows_files_that_only_tests_compile() {
    let target = only_target(&[
        ("src/lib.rs", "#[cfg(test)]\nmod tests;\nmod a;\n#[cfg(all(test, unix))]\nmod b { fn f() {} }\nmod c;"),
        ("src/a.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nmod inner;"),
        ("src/a/inner.rs", ""),
        ("src/c.rs", ""),
        ("src/tests.rs", "mod fixtures;"),
        ("src/tests/fixtures.rs", ""),
    ]);
    assert_eq!(test_files(&[target]).into_iter().collect::<Vec<_>>(), ["src/tests.rs", "src/tests/fixtures.rs"]);
}

#[test]
fn finds_the_targets_of_every_package() {
    let tree = Tree::of(&[
        ("Cargo.toml", "[lib]\npath = \"src/lib.rs\""),
        ("src/lib.rs", ""),
        ("tests/one.rs", ""),
        ("tests/two/main.rs", ""),
        ("tests/support/mod.rs", ""),
        ("tool/Cargo.toml", "[[bin]]\npath = \"odd/place.rs\""),
        ("tool/odd/place.rs", ""),
        ("tool/benches/speed.rs", ""),
    ]);
    let expected = ["src/lib.rs", "tests/one.rs", "tests/two/main.rs", "tool/benches/speed.rs", "tool/odd/place.rs"];
    assert_eq!(roots(&tree).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn reports_a_file_that_no_module_declares() {
    let files =
        [("Cargo.toml", ""), ("src/main.rs", "mod used; // mod stray;"), ("src/used.rs", ""), ("src/stray.rs", "")];
    let tree = Tree::of(&files);
    assert_eq!(undeclared(&tree, &targets(&tree).0), ["src/stray.rs: no `mod` declares this file"]);
}

#[test]
fn reports_a_declaration_without_a_file() {
    let tree = Tree::of(&[("Cargo.toml", ""), ("src/main.rs", "mod gone;")]);
    assert_eq!(targets(&tree).1, ["src/main.rs: there is no file for `mod gone;`"]);
}

#[test]
fn reads_definitions_imports_and_calls() {
    let target = only_target(&[(
        "src/lib.rs",
        "use a::{b::{self, C as D}, e::*, f};\nconst N: u8 = 1;\nstruct S<T>(*const T);\n\
         impl<'x, T: Into<u8>> S<T> { fn m(&self) { self.n(); g.o::<u8>(); Self::p(); h::i!(); j!(k != l) } }\n\
         impl From<u8> for S<u8> { fn from(x: impl Fn(u8)) {} }\ntrait Q { fn r(); }",
    )]);
    let module = &target.modules[0];
    let names: Vec<_> = module.names.keys().map(String::as_str).collect();
    assert_eq!(names, ["D", "N", "Q", "S", "b", "f"]);
    let paths: Vec<_> = module.references.iter().map(|reference| reference.segments.join("::")).collect();
    assert_eq!(paths, ["a::b", "a::b::C", "a::f", "S", "S::p", "h::i", "S"]);
    assert_eq!(module.globs[0].segments, ["a", "e"]);
    let methods: Vec<_> =
        module.methods.iter().map(|methods| (methods.of.is_some(), methods.names.join(" "))).collect();
    assert_eq!(methods, [(true, "m".to_owned()), (false, "from".to_owned()), (false, "r".to_owned())]);
    let calls: Vec<_> = module.calls.iter().map(|call| (call.name.as_str(), call.on.is_some())).collect();
    assert_eq!(calls, [("n", true), ("o", false)]);
    assert_eq!(module.macro_calls[0].segments, ["j"]);
}
