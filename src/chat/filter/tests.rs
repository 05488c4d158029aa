//! One set of rules against many texts, and the bounds of a set.

use super::action::FilterAction;
use super::compiled::{Field, RuleFault};
use super::rule::FilterRule;
use super::tally::Tallies;
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn parsed(rules: Value) -> Vec<FilterRule> {
    serde_json::from_value(rules).unwrap()
}

fn compile(rules: Value) -> Result<FilterRuleSet, RuleFault> {
    let server = Arc::new(Rules::compile(&parsed(rules), None, &Tallies::default())?);
    Ok(FilterRuleSet { server, ..FilterRuleSet::default() })
}

fn in_message() -> Context<'static> {
    Context { field: Field::Message, conversation: None, memory: None, now_s: 0 }
}

fn ids(set: &FilterRuleSet, text: &str, context: &Context<'_>) -> Vec<String> {
    set.check(text, context).hits.iter().map(|hit| hit.id.clone()).collect()
}

/// One rule of each kind.
fn all_kinds() -> Value {
    json!([
        {"id": "words", "kind": "keywords", "definition": {"words": ["spam", "free money", "Größe"]}, "action": "hold"},
        {"id": "parts", "kind": "keywords", "definition": {"words": ["casino"], "whole_words": false, "leet": true},
         "action": "refuse"},
        {"id": "pattern", "kind": "regex", "definition": {"pattern": r"call \d{3}-\d{4}"}, "action": "flag"},
        {"id": "domains", "kind": "links", "definition": {"block": ["evil.example"]}, "action": "mute"},
        {"id": "mentions", "kind": "mentions", "definition": {"max": 3}, "action": "refuse"},
        {"id": "repeats", "kind": "repeats", "definition": {"count": 3, "conversations": 2, "within_s": 60},
         "action": "slow"},
        {"id": "capitals", "kind": "capitals", "definition": {"percent": 80, "min_letters": 20}, "action": "flag"},
        {"id": "zalgo", "kind": "zalgo", "definition": {"marks_max": 5}, "action": "refuse"},
        {"id": "invisible", "kind": "invisible", "definition": {"overrides": true}, "action": "refuse"},
        {"id": "names", "kind": "lookalike_names", "definition": {"protected": ["admin"]}, "action": "refuse"},
    ])
}

#[test]
fn each_kind_matches_what_it_names_and_nothing_else() {
    let set = compile(all_kinds()).unwrap();
    let zalgo = format!("a{}", "\u{301}".repeat(6));
    for (text, expected) in [
        ("buy SPÁM now", "words"),
        ("free  money? FREE MONEY!", "words"),
        ("die größe", "words"),
        ("my-ca$1n0-site", "parts"),
        ("Call 555-1234", "pattern"),
        ("https://www.evil.example/x", "domains"),
        ("@a1 @b2 @c3 @d4", "mentions"),
        ("THIS IS SHOUTED AT EVERYBODY", "capitals"),
        (zalgo.as_str(), "zalgo"),
        ("a\u{202d}b\u{202c}", "invisible"),
    ] {
        assert_eq!(ids(&set, text, &in_message()), [expected], "{text:?}");
    }
    for text in ["spammer", "free of money", "call 555-12", "@a @b @c", "аdmin", "hello", "", "é"] {
        assert_eq!(ids(&set, text, &in_message()), Vec::<String>::new(), "{text:?}");
    }
    let name = Context { field: Field::UserName, ..in_message() };
    assert_eq!(ids(&set, "аdmin", &name), ["names"]);
    assert_eq!(ids(&set, "@a1 @b2 @c3 @d4", &name), Vec::<String>::new());
}

#[test]
fn the_most_severe_action_comes_first() {
    let set = compile(all_kinds()).unwrap();
    let hits = ids(&set, "spam casino evil.example call 123-4567", &in_message());
    assert_eq!(hits, ["domains", "parts", "words", "pattern"]);
}

#[test]
fn dry_runs_and_disabled_rules_change_nothing_and_dry_runs_are_counted() {
    let tallies = Tallies::default();
    let rules = parsed(json!([
        {"id": "dry", "kind": "keywords", "definition": {"words": ["spam"]}, "action": "refuse", "dry_run": true},
        {"id": "off", "kind": "keywords", "definition": {"words": ["spam"]}, "action": "refuse", "enabled": false},
    ]));
    let server = Arc::new(Rules::compile(&rules, None, &tallies).unwrap());
    let set = FilterRuleSet { server, ..FilterRuleSet::default() };
    assert!(set.check("spam", &in_message()).hits.is_empty());
    assert_eq!(tallies.of("dry").counts().last(), Some((tally::DRY_RUN, 1)));
}

#[test]
fn rules_of_a_conversation_apply_there_only() {
    let (here, there) = (ConversationId::from_number(6).unwrap(), ConversationId::from_number(10).unwrap());
    let rules = parsed(json!([
        {"id": "words", "kind": "keywords", "definition": {"words": ["spam"]}, "action": "refuse"}
    ]));
    let rules = Arc::new(Rules::compile(&rules, Some(here), &Tallies::default()).unwrap());
    let set = FilterRuleSet { conversations: HashMap::from([(here, rules)]), ..FilterRuleSet::default() };
    let at = |conversation| Context { conversation, ..in_message() };
    assert_eq!(ids(&set, "spam", &at(Some(here))), ["words"]);
    assert_eq!(ids(&set, "spam", &at(Some(there))).len() + ids(&set, "spam", &at(None)).len(), 0);
}

#[test]
fn repeats_need_the_memory_of_their_author() {
    let set = compile(all_kinds()).unwrap();
    let memory = RepeatMemory::default();
    let text = "come and see my shop";
    for number in [6, 10, 14] {
        let conversation = ConversationId::from_number(number).unwrap();
        let context =
            Context { conversation: Some(conversation), memory: Some(&memory), field: Field::Message, now_s: 100 };
        assert_eq!(ids(&set, text, &context).len(), usize::from(number == 14), "{number}");
        remember(&memory, text, conversation, 100);
    }
    assert!(set.remembers(ConversationId::from_number(6).unwrap()));
}

#[test]
fn refuses_sets_beyond_their_bounds_with_a_reason() {
    let rule =
        |kind: &str, definition: Value| json!([{"id": "r", "kind": kind, "definition": definition, "action": "flag"}]);
    for (rules, reason) in [
        (rule("regex", json!({"pattern": "(a{1000}){1000}"})), "larger than"),
        (rule("regex", json!({"pattern": "(unclosed"})), "unclosed group"),
        (rule("regex", json!({"pattern": "(?=x)"})), "look-around"),
        (rule("regex", json!({"pattern": "x".repeat(501)})), "at most 500 bytes"),
        (rule("keywords", json!({"words": vec!["word"; 5_001]})), "Too many words"),
        (rule("keywords", json!({"words": ["x".repeat(65)]})), "words[0]"),
        (rule("keywords", json!({"words": ["\u{200b}"]})), "words[0]"),
        (rule("links", json!({"block": ["not a domain"]})), "is not a domain"),
        (rule("repeats", json!({"count": 1, "within_s": 1})), "definition.count"),
        (json!([{"id": "Bad Id", "kind": "zalgo", "definition": {"marks_max": 1}, "action": "flag"}]), "id: Must be"),
        (
            json!([{"id": "r", "kind": "zalgo", "definition": {"marks_max": 1}, "action": "flag", "exempt_from": "x"}]),
            "exempt_from",
        ),
    ] {
        let fault = compile(rules.clone()).expect_err("beyond a bound");
        assert!(fault.to_string().contains(reason), "{fault}");
    }
    let many: Vec<Value> = (0..201)
        .map(|n| json!({"id": format!("r{n}"), "kind": "zalgo", "definition": {"marks_max": 1}, "action": "flag"}))
        .collect();
    assert!(compile(json!(many)).unwrap_err().to_string().contains("At most 200 rules"));
    let twice = json!([all_kinds()[0], all_kinds()[0]]);
    assert!(compile(twice).unwrap_err().to_string().contains("Another rule has this id"));
}

#[test]
fn a_rule_reads_as_it_is_written() {
    for rule in parsed(all_kinds()) {
        let text = serde_json::to_value(&rule).unwrap();
        assert_eq!(serde_json::from_value::<FilterRule>(text).unwrap(), rule);
    }
    assert_eq!(FilterAction::ALL.map(FilterAction::as_str), ["flag", "hold", "refuse", "slow", "mute"]);
}

proptest! {
    #[test]
    fn any_text_can_be_checked(text in any::<String>()) {
        let set = compile(all_kinds()).unwrap();
        for field in [Field::Message, Field::Description, Field::RoomName, Field::UserName] {
            let _ = set.check(&text, &Context { field, ..in_message() });
        }
    }

    #[test]
    fn a_word_is_found_in_any_surroundings(before in any::<String>(), after in any::<String>()) {
        let set = compile(json!([
            {"id": "r", "kind": "keywords", "definition": {"words": ["xylophone"]}, "action": "flag"}
        ])).unwrap();
        let text = format!("{before} Xylóphone {after}");
        prop_assert!(text.len() > 10_000 || ids(&set, &text, &in_message()) == ["r"]);
    }

    #[test]
    fn folding_twice_changes_nothing(text in "[a-zA-Z0-9 а-яА-Яα-ωà-ü]{0,40}") {
        let once = fold::folded(&text);
        prop_assert_eq!(fold::folded(&once), once);
    }
}
