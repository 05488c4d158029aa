//! No two files need each other: the graph of what each file names, and the cycles in it.
//!
//! File A depends on file B when A names an item that B defines. In detail:
//! - a path counts in a `use`, in code, in a macro's arguments and in a string that is a path (`with = "super::x"`);
//! - an import through a re-export leads to the file that defines the item, and the re-export itself depends on that
//!   file. So a `mod.rs` that re-exports depends on its children, and they may not name what it defines;
//! - a glob import (`use super::*`) depends on the files of those of its names that the importing module uses;
//! - a macro of an enclosing module is named where it is invoked;
//! - a method of an `impl` in another file than its type's is named where it is called: on `self`, as `Type::method`,
//!   or on any value if no other file has a method of that name. Without this, `impl super::Type` would hide a cycle;
//! - `mod b;` and a path to a module alone name nothing;
//! - tests count like all code. Comments do not count.

use crate::modules::{Definition, Reference, Target};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A file needs the other: the line, from 0, and the path in it.
#[derive(Clone, Debug)]
pub struct Reason {
    pub line: usize,
    pub name: String,
    /// Only calls of methods show it.
    by_calls: bool,
}

/// File → the files it depends on.
#[derive(Default)]
pub struct Graph {
    pub edges: BTreeMap<String, BTreeMap<String, Reason>>,
}

impl Graph {
    pub fn of(targets: &[Target]) -> Self {
        let mut graph = Self::default();
        for target in targets {
            Resolver::new(target).resolve(&mut graph);
        }
        graph
    }

    fn add(&mut self, from: &str, to: &str, line: usize, name: &str) {
        if from == to {
            return;
        }
        let reason =
            Reason { line, name: name.to_owned(), by_calls: name.starts_with("self.") || name.starts_with('.') };
        let reasons = self.edges.entry(from.to_owned()).or_default();
        let known = reasons.entry(to.to_owned()).or_insert_with(|| reason.clone());
        if known.by_calls && !reason.by_calls {
            *known = reason;
        }
    }

    /// The graph of the named items alone, without calls of methods.
    pub fn of_names(&self) -> Self {
        let mut names = Self { edges: self.edges.clone() };
        for reasons in names.edges.values_mut() {
            reasons.retain(|_, reason| !reason.by_calls);
        }
        names
    }

    /// The files of a shortest way, both ends included.
    fn way(&self, from: &str, to: &str) -> Option<Vec<&str>> {
        let (start, _) = self.edges.get_key_value(from)?;
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start.as_str()]);
        while let Some(file) = queue.pop_front() {
            for next in self.edges.get(file).into_iter().flat_map(BTreeMap::keys) {
                if next == start || came_from.contains_key(next.as_str()) {
                    continue;
                }
                came_from.insert(next, file);
                if next == to {
                    let mut way = vec![next.as_str()];
                    while let Some(file) = came_from.get(way[way.len() - 1]) {
                        way.push(file);
                    }
                    way.reverse();
                    return Some(way);
                }
                queue.push_back(next);
            }
        }
        None
    }

    /// A shortest chain of files for each edge that lies on a cycle.
    fn chains(&self) -> Vec<Vec<&str>> {
        let mut chains = Vec::new();
        for (from, edges) in &self.edges {
            for to in edges.keys() {
                if let Some(mut chain) = self.way(to, from) {
                    chain.insert(0, from);
                    chains.push(chain);
                }
            }
        }
        chains.sort_by_key(Vec::len);
        chains
    }

    /// What is wrong with the graph: a chain of files for each cycle, the shortest first, except for `known` ones.
    pub fn cycles(&self, known: &[(&str, usize)]) -> Vec<String> {
        let (mut shown, mut cycles) = (BTreeSet::new(), Vec::new());
        let mut chains = self.chains();
        for (folder, most) in known {
            let inside = |chain: &Vec<&str>| chain.iter().all(|file| file.starts_with(folder));
            let count = chains.iter().filter(|chain| inside(chain)).count();
            if count == 0 {
                cycles.push(format!("{folder} has no cycles left: remove it from the list of known ones"));
            } else if count <= *most {
                chains.retain(|chain| !inside(chain));
            } else {
                cycles.push(format!("{folder} has {count} imports on cycles, and only {most} are known:"));
            }
        }
        for chain in chains {
            let steps: Vec<_> = chain.windows(2).map(|pair| (pair[0], pair[1])).collect();
            if steps.iter().all(|step| shown.contains(step)) {
                continue;
            }
            shown.extend(steps.iter().copied());
            let step = |(from, to): (&str, &str)| {
                let Reason { line, name, .. } = &self.edges[from][to];
                format!("{from}:{} ({name}) → ", line + 1)
            };
            let mut text: String = steps.iter().map(|pair| step(*pair)).collect();
            text.push_str(chain[0]);
            cycles.push(text);
        }
        cycles
    }
}

/// No path of the source has more segments, also when the path of an import is put before it.
const SEGMENTS_MAX: usize = 16;

/// The file of an item, and its name there.
type Found = BTreeSet<(String, String)>;

#[derive(Default)]
struct Search {
    seen: BTreeSet<(usize, Vec<String>, bool)>,
    found: Found,
    /// Names that nothing visible defines: a macro of that file must have made them.
    made_by_macro: Found,
}

struct Resolver<'a> {
    target: &'a Target,
    /// (file, type) → method → files that add it to a type of another file.
    added: BTreeMap<(String, String), BTreeMap<&'a str, BTreeSet<&'a str>>>,
    /// Method → all files that define one of that name.
    methods: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Resolver<'a> {
    fn new(target: &'a Target) -> Self {
        let mut resolver = Self { target, added: BTreeMap::new(), methods: BTreeMap::new() };
        for (at, module) in target.modules.iter().enumerate() {
            for block in &module.methods {
                for name in &block.names {
                    resolver.methods.entry(name).or_default().insert(&module.file);
                }
                let types = block.of.as_ref().map(|of| resolver.find(at, of)).unwrap_or_default();
                for owner in types.into_iter().filter(|(file, _)| *file != module.file) {
                    let added = resolver.added.entry(owner).or_default();
                    for name in &block.names {
                        added.entry(name).or_default().insert(&module.file);
                    }
                }
            }
        }
        resolver
    }

    fn resolve(&self, graph: &mut Graph) {
        let all_added: BTreeMap<_, _> = self.added.values().flatten().collect();
        for (at, module) in self.target.modules.iter().enumerate() {
            let file = module.file.as_str();
            for reference in &module.references {
                let name = reference.segments.join("::");
                for (found, item) in self.find(at, &reference.segments) {
                    graph.add(file, &found, reference.line, &name);
                    let method = reference.segments.last().map(String::as_str).unwrap_or_default();
                    for adds in self.added.get(&(found, item)).and_then(|added| added.get(method)).into_iter().flatten()
                    {
                        graph.add(file, adds, reference.line, &name);
                    }
                }
            }
            for glob in &module.globs {
                for (word, line) in &module.words {
                    let mut path = glob.segments.clone();
                    path.push(word.clone());
                    let mut search = Search::default();
                    self.follow(at, &path, true, &mut search);
                    for (found, item) in &search.found {
                        graph.add(file, found, *line, item);
                    }
                }
            }
            for call in &module.macro_calls {
                let name = &call.segments[0];
                let owners = std::iter::successors(Some(at), |at| self.target.modules[*at].parent);
                let owner = owners.map(|at| &self.target.modules[at]).find(|module| module.macros.contains(name));
                if let Some(owner) = owner {
                    graph.add(file, &owner.file, call.line, &format!("{name}!"));
                }
            }
            for call in &module.calls {
                let name = call.name.as_str();
                let own = call.on.as_ref().map(|on| self.find(at, on)).unwrap_or_default();
                let on_self = own.iter().filter_map(|owner| self.added.get(owner)?.get(name)).flatten();
                for adds in on_self {
                    graph.add(file, adds, call.line, &format!("self.{name}"));
                }
                let only = self.methods.get(name).filter(|files| files.len() == 1 && all_added.contains_key(&name));
                for adds in only.into_iter().flatten() {
                    graph.add(file, adds, call.line, &format!(".{name}"));
                }
            }
        }
    }

    /// The items that a path names, seen from a module.
    fn find(&self, module: usize, path: &[String]) -> Found {
        let mut search = Search::default();
        self.follow(module, path, true, &mut search);
        if search.found.is_empty() { search.made_by_macro } else { search.found }
    }

    fn follow(&self, module: usize, path: &[String], first: bool, search: &mut Search) {
        let [name, rest @ ..] = path else { return };
        // `use json::json` of an external crate would lengthen its path without end.
        if path.len() > SEGMENTS_MAX || !search.seen.insert((module, path.to_vec(), first)) {
            return;
        }
        let here = &self.target.modules[module];
        match name.as_str() {
            "crate" if first => return self.follow(0, rest, false, search),
            "self" if first => return self.follow(module, rest, true, search),
            "super" if first => {
                if let Some(parent) = here.parent {
                    self.follow(parent, rest, true, search);
                }
                return;
            }
            _ => {}
        }
        for definition in here.names.get(name).into_iter().flatten() {
            match definition {
                Definition::Item => drop(search.found.insert((here.file.clone(), name.clone()))),
                Definition::Module(child) => self.follow(*child, rest, false, search),
                Definition::Import(import) => {
                    let path: Vec<String> = import.iter().chain(rest).cloned().collect();
                    self.follow(module, &path, true, search);
                }
            }
        }
        if !here.names.contains_key(name) {
            let local = |glob: &&Reference| {
                let root = &glob.segments[0];
                ["crate", "self", "super"].contains(&root.as_str()) || here.names.contains_key(root)
            };
            for glob in here.globs.iter().filter(local) {
                let path: Vec<String> = glob.segments.iter().chain(path).cloned().collect();
                self.follow(module, &path, true, search);
            }
        }
        if !first && !here.names.contains_key(name) {
            search.made_by_macro.insert((here.file.clone(), name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::targets;
    use crate::tree::Tree;

    /// The cycles in a library of these files below src/.
    fn cycles(files: &[(&str, &str)], known: &[(&str, usize)]) -> Vec<String> {
        let mut tree = Tree::of(&[("Cargo.toml", "")]);
        tree.files.extend(files.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())));
        let (targets, missing) = targets(&tree);
        assert_eq!(missing, Vec::<String>::new());
        Graph::of(&targets).cycles(known)
    }

    #[track_caller]
    fn accepts(files: &[(&str, &str)]) {
        assert_eq!(cycles(files, &[]), Vec::<String>::new());
    }

    #[track_caller]
    fn finds(files: &[(&str, &str)], chain: &str) {
        assert_eq!(cycles(files, &[]), [chain]);
    }

    const ROOT: (&str, &str) = ("lib.rs", "mod a;\nmod b;\nmod c;");

    #[test]
    fn reports_a_cycle_as_the_chain_of_its_files() {
        let a = ("a.rs", "use crate::b::B;\npub struct A;");
        let b = ("b.rs", "\npub struct B(super::c::C);");
        finds(
            &[ROOT, a, b, ("c.rs", "use super::a::{self, A};\npub struct C;")],
            "src/a.rs:1 (crate::b::B) → src/b.rs:2 (super::c::C) → src/c.rs:1 (super::a::A) → src/a.rs",
        );
        accepts(&[ROOT, a, b, ("c.rs", "//! Not [`crate::a::A`].\nuse std::a::A;\npub struct C;")]);
    }

    #[test]
    fn a_declaration_alone_is_no_dependency() {
        let child = ("a/child.rs", "use super::A;\nuse crate::b;");
        accepts(&[ROOT, ("a.rs", "mod child;\npub struct A;"), child, ("b.rs", "use crate::a;"), ("c.rs", "")]);
    }

    #[test]
    fn a_parent_and_a_child_that_name_each_other_are_a_cycle() {
        let child = ("a/child.rs", "use super::A;\npub fn f(_: A) {}");
        finds(
            &[ROOT, ("a.rs", "mod child;\npub struct A;\nfn g() { child::f(A) }"), child, ("b.rs", ""), ("c.rs", "")],
            "src/a.rs:3 (child::f) → src/a/child.rs:1 (super::A) → src/a.rs",
        );
    }

    #[test]
    fn a_re_export_leads_to_the_file_that_defines_the_item() {
        // `b` names what `a` re-exports from its child `one`. It does not depend on `a` itself.
        let a = ("a.rs", "mod one;\nmod two;\npub use one::One;\npub struct A;");
        let (one, b) = (("a/one.rs", "pub struct One;"), ("b.rs", "use crate::a::One;\npub struct B;"));
        accepts(&[ROOT, a, one, ("a/two.rs", "use super::One;"), b, ("c.rs", "use crate::a::A;")]);
        finds(
            &[ROOT, a, ("a/one.rs", "pub struct One(crate::b::B);"), ("a/two.rs", ""), b, ("c.rs", "")],
            "src/a/one.rs:1 (crate::b::B) → src/b.rs:1 (crate::a::One) → src/a/one.rs",
        );
        finds(
            &[ROOT, a, ("a/one.rs", "pub struct One(super::A);"), ("a/two.rs", ""), ("b.rs", ""), ("c.rs", "")],
            "src/a.rs:3 (one::One) → src/a/one.rs:1 (super::A) → src/a.rs",
        );
    }

    #[test]
    fn a_glob_import_depends_on_the_names_that_are_used() {
        let b = ("b.rs", "use crate::a::A;\npub struct B;");
        accepts(&[ROOT, ("a.rs", "use crate::b::*;\npub struct A;"), b, ("c.rs", "")]);
        finds(
            &[ROOT, ("a.rs", "use crate::b::*;\npub struct A(B);"), b, ("c.rs", "")],
            "src/a.rs:2 (B) → src/b.rs:1 (crate::a::A) → src/a.rs",
        );
    }

    #[test]
    fn paths_count_in_code_macro_arguments_and_attributes() {
        let b = ("b.rs", "use crate::a::A;\npub fn f() {}");
        for body in ["fn g() { crate::b::f() }", "fn g() { print!(super::b::f()) }", "#[x(with = \"super::b::f\")]"] {
            let found = cycles(&[ROOT, ("a.rs", &format!("pub struct A;\n{body}")), b, ("c.rs", "")], &[]);
            assert_eq!(found.len(), 1, "{body}");
        }
    }

    #[test]
    fn a_macro_of_a_parent_is_named_where_it_is_invoked() {
        let a = ("a.rs", "macro_rules! make { () => {} }\nmod child;\npub use child::f;");
        finds(
            &[ROOT, a, ("a/child.rs", "make! {}\npub fn f() {}"), ("b.rs", ""), ("c.rs", "")],
            "src/a.rs:3 (child::f) → src/a/child.rs:1 (make!) → src/a.rs",
        );
    }

    #[test]
    fn a_method_in_another_file_than_its_type_is_named_where_it_is_called() {
        let child = ("a/child.rs", "impl super::A { pub fn push(&mut self) {} }");
        for call in ["impl A { fn f(&mut self) { self.push() } }", "fn f(a: A) { a.push() }", "fn f() { A::push() }"] {
            let a = format!("mod child;\npub struct A;\n{call}");
            let found = cycles(&[ROOT, ("a.rs", &a), child, ("b.rs", ""), ("c.rs", "")], &[]);
            assert_eq!(found.len(), 1, "{call}");
        }
        // Another file has a method of that name, so only `self` tells which one is called.
        let other = ("b.rs", "struct B;\nimpl B { fn push(&self) {} }");
        accepts(&[
            ROOT,
            ("a.rs", "mod child;\npub struct A;\nfn f(v: Vec<A>) { v.push() }"),
            child,
            other,
            ("c.rs", ""),
        ]);
    }

    #[test]
    fn a_cycle_of_method_calls_alone_is_distinguished() {
        let lib = "mod a;\nmod b;\npub struct S;";
        let a = "impl crate::S { pub fn one(&self) { self.two() } }";
        let b = "impl crate::S { pub fn two(&self) { self.one() } }";
        let tree = Tree::of(&[("Cargo.toml", ""), ("src/lib.rs", lib), ("src/a.rs", a), ("src/b.rs", b)]);
        let graph = Graph::of(&targets(&tree).0);
        assert_eq!(graph.cycles(&[]), ["src/a.rs:1 (self.two) → src/b.rs:1 (self.one) → src/a.rs"]);
        assert_eq!(graph.of_names().cycles(&[]), Vec::<String>::new());
    }

    #[test]
    fn known_cycles_may_only_become_fewer() {
        let one =
            [("lib.rs", "mod a;"), ("a.rs", "mod b;\npub struct A(b::B);"), ("a/b.rs", "pub struct B(super::A);")];
        assert_eq!(cycles(&one, &[("src/a", 2)]), Vec::<String>::new());
        assert_eq!(cycles(&one, &[("src/b", 2)])[0], "src/b has no cycles left: remove it from the list of known ones");
        let found = cycles(&one, &[("src/a", 1)]);
        assert_eq!(found[0], "src/a has 2 imports on cycles, and only 1 are known:");
        assert_eq!(found.len(), 2);
    }
}
