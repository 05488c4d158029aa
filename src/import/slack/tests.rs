//! Items of an export become rows of the model, or are rejected with a reason.

use super::reader::parse_ts;
use super::*;
use crate::import::staged::{StagedRows, collect_rows};
use serde_json::{Value, json};

fn read(rooms: &Value, messages: &[Value]) -> (StagedRows, DumpCounts) {
    let mut found = StagedRows::new();
    let find = |_: &[String]| None;
    let mut reader = SlackReader::new(
        |staged: StagedLines| {
            collect_rows(&mut found, staged);
            Ok(())
        },
        &find,
    );
    reader.begin("users.json", "", List::Users);
    reader.item(1, &json!({"id": "U1", "name": "ann", "profile": {"bot_id": "B1"}}).to_string()).unwrap();
    reader.begin("channels.json", "", List::Rooms("public_room"));
    reader.item(1, &rooms.to_string()).unwrap();
    reader.begin("general/2024-01-01.json", "general", List::Messages);
    for (n, message) in messages.iter().enumerate() {
        reader.item(n as u64 + 1, &message.to_string()).unwrap();
    }
    let counts = reader.finish().unwrap();
    (found, counts)
}

#[test]
fn authors_are_users_strangers_or_bots() {
    let room = json!({"id": "C1", "name": "general", "creator": "U9", "members": ["U1", "U1"]});
    let (rows, counts) = read(
        &room,
        &[
            json!({"ts": "1.000001", "user": "U1", "text": "a"}),
            json!({"ts": "1.000002", "user": "U2", "text": "b", "user_profile": {"name": "bea", "real_name": "Bea"}}),
            json!({"ts": "1.000003", "bot_id": "B1", "subtype": "bot_message", "text": "c"}),
            json!({"ts": "1.000004", "bot_id": "B2", "username": "GitHub", "subtype": "bot_message", "text": "d"}),
            json!({"ts": "1.000005", "bot_id": "B2", "username": "GitHub", "subtype": "bot_message", "text": "e"}),
            json!({"ts": "1.000006", "text": "f"}),
            json!({"ts": "1.000007", "user": "U1", "subtype": "channel_join", "text": "joined"}),
        ],
    );
    let mut names: Vec<&str> = rows["s_users"].iter().map(|row| row[3].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GitHub", "ann", "bea"]);
    let authors: Vec<&String> = rows["s_messages"].iter().map(|row| &row[3]).collect();
    assert_eq!((authors[0], authors[3]), (authors[2], authors[4]));
    assert_eq!(counts.other_rows["messages of the subtype channel_join"], 1);
    assert!(rows["quarantine"][0][4].contains("neither a user nor a bot"));
    // Its creator is no member any longer.
    assert_eq!((rows["s_rooms"][0][6].as_str(), rows["s_members"].len()), ("\\N", 1));
}

#[test]
fn times_of_slack_have_microseconds() {
    let time = parse_ts("1700000000.000100").unwrap();
    assert_eq!((time.unix_timestamp(), time.microsecond()), (1_700_000_000, 100));
    assert_eq!(parse_ts("1700000000").unwrap().microsecond(), 0);
    for wrong in ["", ".1", "-1.0", "1.0000001", "99999999999999", "1e9", "1.x"] {
        assert!(parse_ts(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn broken_items_end_the_reading_and_wrong_ones_are_rejected() {
    let find = |_: &[String]| None;
    let mut reader = SlackReader::new(|_| Ok(()), &find);
    reader.begin("users.json", "", List::Users);
    reader.item(1, "{\"name\": \"no id\"}").unwrap();
    let fault = reader.item(2, "{\"id\": }").unwrap_err().to_string();
    assert!(fault.contains("users.json: line or item 2") && fault.contains("nothing was changed"), "{fault}");
    assert_eq!(reader.finish().unwrap().rows[&("users", 1)], 1);
}
