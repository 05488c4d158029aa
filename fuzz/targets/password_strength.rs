//! The estimate of guesses for any password and any names: it ends, and its verdict does not depend on the form of the
//! characters.

#![no_main]

use chat_server::auth::password::{check_strength, prepared};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let password = lines.next().unwrap_or_default();
    let names: Vec<&str> = lines.take(4).collect();
    let verdict = check_strength(password, &names);
    assert_eq!(verdict, check_strength(&prepared(password), &names));
});
