//! Lines of the bulk format become rows of the model, or are rejected with a reason.

use super::*;
use crate::import::contents::FoundContent;
use crate::import::staged::{StagedRows, collect_rows};

/// What is staged, and what the end says.
fn read(lines: &[&str]) -> (StagedRows, Result<DumpCounts, String>) {
    let mut found = StagedRows::new();
    let find = |names: &[String]| {
        let is_there = names.iter().any(|name| name == "data/there.png");
        is_there.then(|| FoundContent { place: "archive:data/there.png".to_owned(), size: 3 })
    };
    let mut reader = MattermostReader::new(
        |staged: StagedLines| {
            collect_rows(&mut found, staged);
            Ok(())
        },
        &find,
        None,
    );
    let taken = lines.iter().enumerate().try_for_each(|(n, line)| reader.line(n as u64 + 1, line));
    let counts = taken.and_then(|()| reader.finish()).map_err(|fault| fault.to_string());
    (found, counts)
}

const VERSION_LINE: &str = r#"{"type":"version","version":1}"#;

#[test]
fn the_first_line_is_the_version() {
    for (lines, why) in [
        (&[][..], "no line of the type version"),
        (&[r#"{"type":"team","team":{"name":"a"}}"#], "the first line must have the type version"),
        (&[r#"{"type":"version","version":2}"#], "only version 1"),
        (&[VERSION_LINE, VERSION_LINE], "a second line"),
        (&[VERSION_LINE, "[1]"], "line or item 2: this is no line of a bulk export"),
        (&[VERSION_LINE, r#"{"type":"post","post":{"#], "line or item 2: this is no line of a bulk export"),
        (&[VERSION_LINE, r#"{"type":"post"}"#], "has no post"),
    ] {
        let fault = read(lines).1.unwrap_err();
        assert!(fault.contains(why) && fault.contains("nothing was changed"), "{fault}");
    }
    let deep = format!("{VERSION_LINE}\n{{\"type\":\"post\",\"post\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let (rows, counts) = read(&deep.lines().collect::<Vec<_>>());
    assert!(counts.is_ok() && rows["quarantine"].len() == 1);
}

#[test]
fn a_post_becomes_a_message_with_replies_reactions_and_files() {
    let (rows, counts) = read(&[
        VERSION_LINE,
        r#"{"type":"team","team":{"name":"Core","display_name":"The Core"}}"#,
        r#"{"type":"channel","channel":{"team":"core","name":"town","display_name":"Town","type":"O"}}"#,
        r#"{"type":"user","user":{"username":"jane.doe","email":"j@example.org","roles":"system_user","teams":[
            {"name":"core","roles":"team_admin","channels":[{"name":"town","roles":"channel_user"}]}]}}"#,
        r#"{"type":"emoji","emoji":{"name":"x"}}"#,
        r#"{"type":"post","post":{"team":"core","channel":"Town","user":"jane.doe","message":"hi @jane.doe","create_at":
            1700000000123,"edit_at":1700000001000,"is_pinned":true,"reactions":[{"user":"jane.doe","emoji_name":"+1",
            "create_at":1700000000200},{"user":"jane.doe"}],"replies":[{"user":"jane.doe","message":"","create_at":
            1700000000300,"attachments":[{"path":"there.png"},{"path":"gone.png"}]}]}}"#,
        r#"{"type":"post","post":{"team":"core","channel":"town","user":"jane.doe","type":"system_join_channel",
            "message":"joined","create_at":1700000000400}}"#,
        r#"{"type":"post","post":{"team":"core","channel":"town","user":"jane.doe","message":"x","create_at":"late"}}"#,
    ]);
    let counts = counts.unwrap();
    let messages = &rows["s_messages"];
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0][5], "hi \u{2}");
    assert!(messages[0][14].ends_with("/jane.doe"), "{messages:?}");
    assert_eq!((messages[0][8].as_str(), messages[0][10].as_str()), ("t", "2023-11-14 22:13:20.123000+00"));
    assert_eq!((&messages[1][6], messages[1][15].as_str()), (&messages[0][2], "t"), "a reply, with a file");
    assert_eq!(rows["s_reactions"][0][4], "👍");
    assert_eq!(rows["s_files"].len(), 2);
    assert_eq!((rows["s_files"][0][5].as_str(), rows["s_files"][1][5].as_str()), ("archive:data/there.png", ""));
    assert_eq!(rows["s_members"][0][4], "team_admin");
    assert_eq!(rows["s_rooms"][0][10], "The Core");
    assert_eq!(counts.other_rows["posts of the type system_join_channel"], 1);
    assert_eq!(counts.other_rows["lines of the type emoji"], 1);
    let reasons: Vec<&str> = rows["quarantine"].iter().map(|row| row[4].as_str()).collect();
    assert!(reasons[0].contains("missing field `emoji_name`"), "{reasons:?}");
    assert!(reasons[1].contains("invalid type: string"), "{reasons:?}");
}

#[test]
fn conversations_of_members_are_made_once() {
    let post = r#"{"type":"direct_post","direct_post":{"channel_members":["bob","Ann"],"user":"ann","message":"hi",
        "create_at":1700000000000}}"#;
    let group = r#"{"type":"direct_channel","direct_channel":{"members":["ann","bob","cid"],"header":"plans"}}"#;
    let again = r#"{"type":"direct_channel","direct_channel":{"members":["ann","bob"]}}"#;
    let own = r#"{"type":"direct_channel","direct_channel":{"members":["ann","ann"]}}"#;
    let (rows, counts) = read(&[VERSION_LINE, post, post, group, again, own]);
    counts.unwrap();
    let kinds: Vec<&str> = rows["s_rooms"].iter().map(|row| row[3].as_str()).collect();
    assert_eq!(kinds, ["direct", "group", "group"]);
    assert_eq!(rows["s_members"].len(), 2 + 3 + 1);
    assert!(rows["quarantine"][0][4].contains("came before"));
    let slots: Vec<&String> = rows["s_messages"].iter().map(|row| &row[12]).collect();
    assert_eq!(slots[0], slots[1], "the same post twice");
}

#[test]
fn what_cannot_be_stored_is_rejected() {
    let (rows, counts) = read(&[
        VERSION_LINE,
        r#"{"type":"post","post":{"team":"a","channel":"b","user":"c","message":"a\u0000b","create_at":1}}"#,
        r#"{"type":"post","post":{"team":"a","channel":"b","user":"c","message":"x","create_at":0,"replies":[{}]}}"#,
        r#"{"type":"post","post":{"team":"a","channel":"b","user":"c","message":"x","create_at":99999999999999999}}"#,
        r#"{"type":"post","post":{"team":"a","channel":"b","user":"c","message":"x","user":"d","create_at":1}}"#,
        r#"{"type":"post","post":{"user":"c","message":"x","create_at":1}}"#,
    ]);
    let reasons: Vec<&str> = rows["quarantine"].iter().map(|row| row[4].as_str()).collect();
    for (reason, part) in reasons.iter().zip([
        "has a NUL",
        "its create_at is no time",
        "that it replies to was rejected",
        "its create_at is no time",
        "duplicate field `user`",
        "neither a team and a channel",
    ]) {
        assert!(reason.contains(part), "{reasons:?}");
    }
    assert_eq!(counts.unwrap().rows[&("messages", 4)], 6);
}
