//! One meaning per type name: no two modules of a crate define a type or trait of the same name, outside tests.
//!
//! A reader who has learnt what a `Session` is should not have to look at the imports of the next file. Aliases
//! (`type`) are not looked at: many of them name the associated type of a trait.

use crate::modules::Target;
use std::collections::{BTreeMap, BTreeSet};

/// Names that several modules of a crate define, with the crate's root file, and the reason.
pub const SHARED: &[(&str, &str, &str)] = &[];

/// The types whose names are taken twice, except for those that are `shared`, and what is shared without need.
pub fn taken_twice(targets: &[Target], shared: &[(&str, &str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut needed = BTreeSet::new();
    for target in targets {
        let mut places: BTreeMap<&str, BTreeMap<usize, String>> = BTreeMap::new();
        for (index, module) in target.modules.iter().enumerate().filter(|(_, module)| !module.is_test) {
            for (name, line) in &module.types {
                places.entry(name).or_default().insert(index, format!("{}:{}", module.file, line + 1));
            }
        }
        let root = &target.modules[0].file;
        for (name, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
            if shared.iter().any(|(known, file, _)| *known == name && file == root) {
                needed.insert((name.to_owned(), root.clone()));
                continue;
            }
            let places: Vec<String> = places.into_values().collect();
            problems.push(format!("{name} has several meanings: {}", places.join(", ")));
        }
    }
    let is_needed = |name: &str, file: &str| needed.contains(&(name.to_owned(), file.to_owned()));
    let stale = shared.iter().filter(|(name, file, _)| !is_needed(name, file));
    problems.extend(stale.map(|(name, file, _)| format!("{name} of {file} has one meaning: strike it from the list")));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::targets;
    use crate::tree::Tree;

    fn tree() -> Vec<Target> {
        let files = [
            ("Cargo.toml", ""),
            ("src/lib.rs", "mod a;\nmod b;\nenum Kind {}"),
            ("src/a.rs", "struct Session;\ntype Kind = u8;\n#[cfg(test)]\nmod tests { struct Row; }"),
            ("src/b.rs", "fn f() {}\npub(super) trait Session {}\nstruct Row<T>(T);"),
            ("tests/one.rs", "struct Session;"),
        ];
        targets(&Tree::of(&files)).0
    }

    #[test]
    fn finds_names_that_two_modules_of_a_crate_define() {
        assert_eq!(taken_twice(&tree(), &[]), ["Session has several meanings: src/a.rs:1, src/b.rs:2"]);
    }

    #[test]
    fn the_list_of_shared_names_has_only_those() {
        assert_eq!(taken_twice(&tree(), &[("Session", "src/lib.rs", "a reason")]), Vec::<String>::new());
        let problems = taken_twice(&tree(), &[("Session", "src/lib.rs", ""), ("Row", "src/lib.rs", "")]);
        assert_eq!(problems, ["Row of src/lib.rs has one meaning: strike it from the list"]);
    }
}
