//! What a dump holds, and who takes it.

use super::fault::FaultReason;
use std::borrow::Cow;

/// The name of a table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TableName {
    /// Its schema, if the dump names it.
    pub schema: Option<String>,
    /// The name in its schema.
    pub name: String,
}

/// A value of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DumpValue<'a> {
    /// NULL.
    Null,
    /// The text form of the value. It can hold any byte, if an escape has made it.
    Text(Cow<'a, [u8]>),
    /// An expression, which is not evaluated.
    Expression,
}

/// What takes what a dump holds.
pub trait DumpSink {
    /// CREATE TABLE: the columns in their order.
    fn table(&mut self, table: &TableName, columns: Vec<String>);

    /// Rows of a table follow. Without columns they have those of its CREATE TABLE.
    fn begin(&mut self, table: &TableName, columns: Option<Vec<String>>);

    /// A row.
    ///
    /// # Errors
    /// The reading is to end.
    fn row(&mut self, line: u64, fields: &[DumpValue<'_>]) -> Result<(), FaultReason>;

    /// A statement that was left out, by its first words.
    fn ignored(&mut self, statement: String);
}
