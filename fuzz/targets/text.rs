//! Texts that people write: normalising twice is normalising once, and changes no verdict; passwords have at most three
//! forms.

#![no_main]

use chat_server::auth::password::{check_policy, forms, prepared};
use chat_server::text::{Shape, check, check_visible, is_visible, nfc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let normalised = nfc(text);
    assert_eq!(nfc(&normalised), normalised);
    for shape in [Shape::Line, Shape::Lines] {
        assert_eq!(check(text, shape), check(&normalised, shape));
        let visible = check_visible(text, shape);
        assert_eq!(visible.is_ok(), check(text, shape).is_ok() && is_visible(text));
    }
    assert!(check(text, Shape::Line).is_err() || check(text, Shape::Lines).is_ok());
    assert_eq!(is_visible(text), is_visible(&normalised));
    let password = prepared(text);
    assert_eq!(prepared(&password), password);
    assert!((1..=3).contains(&forms(text).len()));
    let verdict = check_policy(text, "fuzz").is_ok();
    assert_eq!(verdict, check_policy(&password, "fuzz").is_ok());
});
