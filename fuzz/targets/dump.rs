//! Dumps of PostgreSQL: the rows and the fault are the same at every split, and no value is longer than its dump.

#![no_main]

use chat_server::import::dump::{DumpFault, DumpReader, DumpSink, DumpValue, FaultReason, TableName};
use libfuzzer_sys::fuzz_target;

#[derive(PartialEq, Eq, Debug)]
enum Found {
    Table(TableName, Vec<String>),
    Begin(TableName, Option<Vec<String>>),
    Row(u64, Vec<DumpValue<'static>>),
    Ignored(String),
}

#[derive(Default)]
struct Kept {
    found: Vec<Found>,
    bytes: usize,
}

fn owned(value: &DumpValue<'_>) -> DumpValue<'static> {
    match value {
        DumpValue::Null => DumpValue::Null,
        DumpValue::Text(text) => DumpValue::Text(text.to_vec().into()),
        DumpValue::Expression => DumpValue::Expression,
    }
}

impl DumpSink for Kept {
    fn table(&mut self, table: &TableName, columns: Vec<String>) {
        self.found.push(Found::Table(table.clone(), columns));
    }

    fn begin(&mut self, table: &TableName, columns: Option<Vec<String>>) {
        self.found.push(Found::Begin(table.clone(), columns));
    }

    fn row(&mut self, line: u64, fields: &[DumpValue<'_>]) -> Result<(), FaultReason> {
        let length = |field: &DumpValue<'_>| if let DumpValue::Text(text) = field { text.len() } else { 0 };
        self.bytes += fields.iter().map(length).sum::<usize>();
        self.found.push(Found::Row(line, fields.iter().map(owned).collect()));
        Ok(())
    }

    fn ignored(&mut self, statement: String) {
        self.found.push(Found::Ignored(statement));
    }
}

fn read(bytes: &[u8], step: usize) -> (Vec<Found>, Result<(), DumpFault>) {
    let (mut kept, mut reader) = (Kept::default(), DumpReader::default());
    let fed = bytes.chunks(step).try_for_each(|chunk| reader.feed(chunk, &mut kept));
    let ended = fed.and_then(|()| reader.finish(&mut kept));
    assert!(kept.bytes <= 2 * bytes.len(), "an escape of one byte becomes two bytes of UTF-8 at most");
    (kept.found, ended)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    for step in [1, 7, 64] {
        assert_eq!(read(bytes, step), whole, "in parts of {step} bytes");
    }
});
