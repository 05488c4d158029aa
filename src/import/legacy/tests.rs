//! Rows of the legacy tables become lines of staging tables, or are rejected with a reason.

use super::LegacySink;
use crate::import::dump::DumpReader;
use crate::import::staged::{DumpCounts, StagedLines};

/// The lines of each staging table, and the counts.
fn staged(dump: &str) -> (Vec<(String, String)>, DumpCounts) {
    let mut found = Vec::new();
    let mut sink = LegacySink::new(|staged: StagedLines| {
        let lines = String::from_utf8(staged.lines).unwrap();
        found.extend(lines.lines().map(|line| (staged.table.to_owned(), line.to_owned())));
        Ok(())
    });
    let mut reader = DumpReader::default();
    reader.feed(dump.as_bytes(), &mut sink).unwrap();
    reader.finish(&mut sink).unwrap();
    let counts = sink.finish().unwrap();
    (found, counts)
}

fn lines_of(dump: &str, table: &str) -> Vec<String> {
    staged(dump).0.into_iter().filter(|(name, _)| name == table).map(|(_, line)| line).collect()
}

#[test]
fn a_row_of_messages_belongs_to_the_generation_that_it_was_written_in() {
    let dump = "COPY public.messages (id, from_user, to_user, room, content, \"timestamp\", conversation_id, \
                author_id) FROM stdin;\n1\t7\t\\N\tgeneral\thi\t2020-01-01 00:00:00\t\\N\t\\N\n\
                2\t\\N\t\\N\t\\N\tho\t2020-01-01 00:00:00\t5\t8\n\\.\n";
    let lines = lines_of(dump, "s_messages");
    assert!(lines[0].starts_with("1\t2\t1\t\\N\t7\t\\N\t\\N\t\\N\tgeneral\thi\t"), "{lines:?}");
    assert!(lines[1].starts_with("4\t3\t2\t\\N\t8\t\\N\t\\N\t\\N\t5\tho\t"), "{lines:?}");
    let (_, counts) = staged(dump);
    assert_eq!((counts.rows[&("messages", 1)], counts.rows[&("messages", 4)]), (1, 1));
}

#[test]
fn rows_that_cannot_be_read_are_rejected_with_a_reason() {
    let dump = "COPY messages_enhanced (id, author_id, content, created_at) FROM stdin;\n\
                x\t1\ta\t2020-01-01\n2\t1\ta\tyesterday\n3\t1\ta\\000b\t2020-01-01\n4\t1\n5\t1\tok\t2020-01-01\n\\.\n\
                insert into messages_enhanced (id, author_id, content, created_at) VALUES (6, 1, now(), \
                '2020-01-01');\n\
                insert into users_enhanced VALUES (1, 'ann');\n";
    let rejected = lines_of(dump, "quarantine");
    let reasons: Vec<&str> = rejected.iter().map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!(
        reasons,
        [
            "its id \"x\" is no whole number",
            "its created_at \"yesterday\" is no time that can be stored",
            "its content has a NUL, which no text can have",
            "it has 2 values, and its table 4 columns",
            "its content is computed, and nothing of a dump is executed",
            "the dump does not say which columns its table has",
        ]
    );
    assert_eq!(lines_of(dump, "s_messages").len(), 1);
}

#[test]
fn columns_come_from_create_table_where_an_insert_has_none() {
    let dump = "create table public.users (username text, email text, id bigint, theme text);\n\
                insert into public.users VALUES ('Zoë', 'z@example.org', 4, 'dark');\n\
                insert into public.sessions (id) VALUES (1), (2);\n";
    let (lines, counts) = staged(dump);
    assert!(lines[0].1.starts_with("1\t2\t4\tZoë\tZoe\tZoë\tz@example.org\t"), "{lines:?}");
    assert_eq!(counts.other_columns["users"], ["theme"]);
    assert_eq!(counts.other_rows["sessions"], 2);
}

#[test]
fn metadata_names_the_files_of_a_message() {
    let metadata = r#"{"attachments": [{"id": 7}, {"uuid": "u-1"}], "file_id": 9, "mood": "glad", "size": 3}"#;
    let dump = format!(
        "insert into messages (id, conversation_id, author_id, content, created_at, metadata) \
         VALUES (1, 2, 3, 'x', '2020-01-01', '{metadata}');"
    );
    assert_eq!(lines_of(&dump, "s_file_refs"), ["4\t1\t7", "4\t1\tu-1", "4\t1\t9"]);
}

#[test]
fn the_content_of_a_message_of_a_file_names_it() {
    let row = |id: u8, kind: &str, content: &str| format!("({id}, 2, 3, '{content}', '{kind}', '2020-01-01')");
    let rows = [row(1, "file", "/uploads/a.txt"), row(2, "image", "7"), row(3, "text", "b.txt")].join(", ");
    let dump = format!(
        "insert into messages (id, conversation_id, author_id, content, content_type, created_at) VALUES {rows};"
    );
    assert_eq!(lines_of(&dump, "s_file_refs"), ["4\t1\t/uploads/a.txt", "4\t1\ta.txt"]);
}
