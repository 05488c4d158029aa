//! The export of a Slack workspace: lists of users and conversations, and a folder for each conversation with a list of
//! messages for each day.
//!
//! ```text
//!   users.json                         → users
//!   channels.json, groups.json         → public and private rooms, with members, topics and pins
//!   dms.json, mpims.json               → direct conversations and groups
//!   general/2024-01-31.json            → messages, reactions, files; strangers and bots that write
//! ```
//!
//! A message is the same in two exports if conversation and `ts` are the same. Authors that `users.json` does not have
//! become users of their own: people of other workspaces, and one for each bot.
//!
//! Pure: the caller reads the files, and says whether content is there.

mod messages;
mod objects;
mod reader;
#[cfg(test)]
mod tests;
mod text;

use super::fault::{ImportFault, UnreadableExport};
use super::model::{RowPlace, Staged};
use super::staged::{DumpCounts, SinkClosed, StagedLines};
use reader::{parse, stopped};

pub(super) use reader::{List, SlackReader};

/// Users, conversations and pins that are remembered while the files are read.
const REMEMBERED_MAX: usize = 2_000_000;
/// The files at the top of an export, in the order in which they are read, and what they list.
pub(super) const LISTS: [(&str, List); 5] = [
    ("users.json", List::Users),
    ("channels.json", List::Rooms("public_room")),
    ("groups.json", List::Rooms("private_room")),
    ("dms.json", List::Rooms("direct")),
    ("mpims.json", List::Rooms("group")),
];

impl<F: FnMut(StagedLines) -> Result<(), SinkClosed>> SlackReader<'_, F> {
    /// The items that follow are of this file. Its folder is empty for the lists at the top.
    pub(super) fn begin(&mut self, file: &str, folder: &str, list: List) {
        self.model.counts.files.push(file.to_owned());
        folder.clone_into(&mut self.folder);
        self.list = list;
    }

    /// Counts a file that is not read.
    pub(super) fn left_out(&mut self, file: &str) {
        self.model.left_out(&format!("file {file}"));
    }

    /// Gives what is left.
    pub(super) fn finish(mut self) -> Result<DumpCounts, ImportFault> {
        self.stage_strangers().map_err(stopped)?;
        self.model.finish().map_err(stopped)
    }

    /// A fault of the file that is read.
    pub(super) fn fault(&self, item: u64, reason: impl Into<String>) -> ImportFault {
        let file = self.model.counts.files.last().cloned();
        UnreadableExport { file, item: Some(item), reason: reason.into() }.into()
    }

    /// Takes an item of a file.
    pub(super) fn item(&mut self, number: u64, text: &str) -> Result<(), ImportFault> {
        let place = RowPlace { file: self.model.counts.files.len() - 1, line: number };
        let (staged, taken) = match self.list {
            List::Users => (Staged::User, parse(text).map(|user| self.user(place, user))),
            List::Rooms(kind) => (Staged::Room, parse(text).map(|room| self.room(place, kind, room))),
            List::Messages => (Staged::Message, parse(text).map(|message| self.message(place, message))),
        };
        match taken {
            Ok(taken) => taken.map_err(stopped)?,
            Err(Ok(said)) => self.model.reject(staged, place, "", &said).map_err(stopped)?,
            Err(Err(said)) => return Err(self.fault(number, format!("this is no JSON: {said}"))),
        }
        let known = [self.known.users.len(), self.known.folders.len(), self.known.pins.len(), self.strangers.len()];
        if known.into_iter().any(|length| length > REMEMBERED_MAX) {
            return Err(self.fault(number, "the export has more users or conversations than any workspace"));
        }
        Ok(())
    }
}
