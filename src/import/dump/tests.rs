//! What the reader finds does not depend on how the bytes are split, and hostile dumps end with the number of a line.

use super::{DumpFault, DumpReader, DumpSink, DumpValue, FaultReason, TableName, UNIT_BYTES_MAX};

#[derive(Default, PartialEq, Eq, Debug)]
struct Found(Vec<String>);

fn shown(field: &DumpValue<'_>) -> String {
    match field {
        DumpValue::Null => "NULL".to_owned(),
        DumpValue::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        DumpValue::Expression => "?".to_owned(),
    }
}

impl DumpSink for Found {
    fn table(&mut self, table: &TableName, columns: Vec<String>) {
        self.0.push(format!("table {} {}", table.name, columns.join(",")));
    }

    fn begin(&mut self, table: &TableName, columns: Option<Vec<String>>) {
        let columns = columns.map_or("*".to_owned(), |columns| columns.join(","));
        self.0.push(format!("begin {}.{} {columns}", table.schema.as_deref().unwrap_or("-"), table.name));
    }

    fn row(&mut self, line: u64, fields: &[DumpValue<'_>]) -> Result<(), FaultReason> {
        let fields: Vec<String> = fields.iter().map(shown).collect();
        self.0.push(format!("{line}: {}", fields.join(" | ")));
        Ok(())
    }

    fn ignored(&mut self, statement: String) {
        self.0.push(format!("ignored {statement}"));
    }
}

fn read(parts: &[&[u8]]) -> (Found, Result<(), DumpFault>) {
    let (mut found, mut reader) = (Found::default(), DumpReader::default());
    for part in parts {
        if let Err(fault) = reader.feed(part, &mut found) {
            return (found, Err(fault));
        }
    }
    let ended = reader.finish(&mut found);
    (found, ended)
}

/// The same whole, in two parts at every place, and byte by byte.
fn read_split(dump: &[u8]) -> (Vec<String>, Result<(), DumpFault>) {
    let whole = read(&[dump]);
    for at in 0..dump.len() {
        assert_eq!(read(&[&dump[..at], &dump[at..]]), whole, "split at {at}");
    }
    let bytes: Vec<&[u8]> = dump.chunks(1).collect();
    assert_eq!(read(&bytes), whole, "byte by byte");
    (whole.0.0, whole.1)
}

#[track_caller]
fn finds(dump: &str, expected: &[&str]) {
    let (found, ended) = read_split(dump.as_bytes());
    assert_eq!(ended, Ok(()), "{found:?}");
    assert_eq!(found, expected);
}

#[track_caller]
fn refuses(dump: &[u8], line: u64, reason: &FaultReason) {
    let (_, ended) = read_split(dump);
    assert_eq!(ended, Err(DumpFault { line, reason: reason.clone() }));
}

const PLAIN: &str = r#"--
-- PostgreSQL database dump
--

\restrict abc
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO users VALUES (1, 'no row; this is text'); \! touch x
END $$;
CREATE FUNCTION f() RETURNS int BEGIN ATOMIC INSERT INTO users VALUES (2); SELECT CASE WHEN true THEN 1 END; END;
CREATE RULE r AS ON INSERT TO users DO ALSO (INSERT INTO a VALUES (1); INSERT INTO b VALUES (2));
CREATE TABLE public.users (
    id bigint DEFAULT nextval('x'::regclass) NOT NULL,
    "userName" character varying(50),
    price numeric(10,2) CHECK (price > 0),
    CONSTRAINT c CHECK ((id > 0)),
    PRIMARY KEY (id, price)
);
COPY public.users (id, "userName", price) FROM stdin;
1	a\tb\\c\nd\x41\101	\N
2		\\N
\.

COPY public.events (id) FROM stdin;
\.
ALTER TABLE ONLY public.users ADD CONSTRAINT p PRIMARY KEY (id);
\unrestrict abc
--
-- PostgreSQL database dump complete
--
"#;

#[test]
fn reads_what_pg_dump_writes() {
    finds(
        PLAIN,
        &[
            "ignored SELECT PG_CATALOG SET_CONFIG",
            "ignored CREATE FUNCTION PUBLIC",
            "ignored CREATE FUNCTION F",
            "ignored CREATE RULE R",
            "table users id,userName,price",
            "begin public.users id,userName,price",
            r#"23: "1" | "a\tb\\c\ndAA" | NULL"#,
            r#"24: "2" | "" | "\\N""#,
            "begin public.events id",
            "ignored ALTER TABLE ONLY",
        ],
    );
}

#[test]
fn reads_every_form_of_insert() {
    finds(
        "INSERT INTO public.a VALUES (1, 'it''s', NULL, true, -2.5e3, '{\"a\":[1]}'::jsonb);\n\
         insert into a (id, \"b\") overriding system value values\n(1, E'x\\ny\\'z\\u00e9'), -- a row\n\
         (2, '2024-01-01 00:00:00+00'::timestamp with time zone) ON CONFLICT DO NOTHING;\n\
         INSERT INTO a VALUES (now(), 1 + 1, 'a' || 'b', timestamp with time zone '2024-01-01', CAST('1' AS int),\n\
         $$it's$$, 'back\\slash', ARRAY['a', ')'], f('x', ')'), date '2024-01-01');",
        &[
            "begin public.a *",
            r#"1: "1" | "it's" | NULL | "t" | "-2.5e3" | "{\"a\":[1]}""#,
            "begin -.a id,b",
            r#"3: "1" | "x\ny'zé""#,
            r#"4: "2" | "2024-01-01 00:00:00+00""#,
            "begin -.a *",
            r#"5: ? | ? | ? | "2024-01-01" | "1" | "it's" | "back\\slash" | ? | ? | "2024-01-01""#,
        ],
    );
    finds(
        "SET standard_conforming_strings = off;\nINSERT INTO a VALUES ('x\\ny\\'z');",
        &["begin -.a *", r#"2: "x\ny'z""#],
    );
}

#[test]
fn refuses_what_could_run_or_hide_something() {
    refuses(b"SELECT 1;\n\\! touch x\n", 2, &FaultReason::Meta("\\! touch x".to_owned()));
    refuses(b"SELECT 1 \\gexec\n;", 1, &FaultReason::Meta("\\gexec".to_owned()));
    refuses(b"INSERT INTO a VALUES (1) \\g |sh\n", 1, &FaultReason::Meta("\\g |sh".to_owned()));
    refuses(b"COPY a FROM PROGRAM 'touch x';\n", 1, &FaultReason::CopyElsewhere);
    refuses(b"\n\nCOPY a FROM '/etc/passwd';\n", 3, &FaultReason::CopyElsewhere);
    refuses(b"COPY a TO PROGRAM 'touch x';\n", 1, &FaultReason::CopyElsewhere);
    refuses(b"COPY (SELECT 1) TO stdout;\n", 1, &FaultReason::CopyElsewhere);
    refuses(b"COPY a FROM stdin WITH (FORMAT csv);\n1\n\\.\n", 1, &FaultReason::CopyOptions);
    refuses(b"INSERT INTO a SELECT 1;", 1, &FaultReason::ComputedRows("INSERT … SELECT"));
    refuses(b"DELETE FROM a;", 1, &FaultReason::Change("DELETE".to_owned()));
    refuses(b"UPDATE a SET b = 1;", 1, &FaultReason::Change("UPDATE".to_owned()));
}

#[test]
fn refuses_other_encodings_and_line_ends() {
    refuses(b"COPY a FROM stdin;\n1\tok\n2\tcaf\xe9\n\\.\n", 3, &FaultReason::NotUtf8);
    refuses(b"INSERT INTO a VALUES ('caf\xe9');", 1, &FaultReason::NotUtf8);
    refuses(b"SET client_encoding = 'LATIN1';\n", 1, &FaultReason::Encoding("LATIN1".to_owned()));
    refuses(b"--\r\n-- a dump\r\n", 1, &FaultReason::CarriageReturn);
    refuses(b"COPY a FROM stdin;\n1\r\n\\.\r\n", 2, &FaultReason::CarriageReturn);
    refuses(b"COPY a FROM stdin;\r\n1\n", 1, &FaultReason::CarriageReturn);
    refuses(b"SELECT 1;\r\nSELECT 2;\r\n", 1, &FaultReason::CarriageReturn);
    // A value may have any line end.
    finds("INSERT INTO a VALUES ('x\r\ny');", &["begin -.a *", r#"1: "x\r\ny""#]);
}

#[test]
fn refuses_a_dump_that_was_cut_off() {
    for cut in
        ["COPY a FROM stdin;\n1\n", "COPY a FROM stdin;\n1", "COPY a FROM", "INSERT INTO a VALUES (1", "SELECT 'x"]
    {
        let (_, ended) = read_split(cut.as_bytes());
        assert!(matches!(ended, Err(DumpFault { reason: FaultReason::Truncated, .. })), "{cut:?}: {ended:?}");
    }
    let complete = PLAIN.rfind("--\n-- PostgreSQL database dump complete").unwrap();
    let (_, ended) = read(&[&PLAIN.as_bytes()[..complete]]);
    assert!(matches!(ended, Err(DumpFault { reason: FaultReason::Truncated, .. })), "{ended:?}");
}

#[test]
fn a_long_line_needs_bounded_memory() {
    let chunk = vec![b'x'; 1024 * 1024];
    for head in ["COPY a FROM stdin;\n", "INSERT INTO a VALUES ('", "-- ", "SELECT $$"] {
        let (mut found, mut reader) = (Found::default(), DumpReader::default());
        reader.feed(head.as_bytes(), &mut found).unwrap();
        let fed = (0..2048).find_map(|n| Some((n, reader.feed(&chunk, &mut found).err()?)));
        let (chunks, fault) = fed.expect("an end");
        assert_eq!(fault.reason, FaultReason::TooLong, "{head}");
        assert!(chunks * chunk.len() <= UNIT_BYTES_MAX + chunk.len(), "{head}");
    }
}

#[test]
fn a_row_goes_on_in_no_other_line() {
    refuses(b"COPY a FROM stdin;\nx\\\ny\n\\.\n", 2, &FaultReason::OpenLine);
}
