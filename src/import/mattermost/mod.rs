//! Mattermost's bulk format (`mmctl export`, `mattermost export bulk`): one object a line.
//!
//! ```text
//!   version                  must come first
//!   team, channel            → rooms; a room gets the name of its team where two have the same name
//!   user, bot                → users, and members of rooms with role and read marker
//!   post, direct_post        → messages with their replies, reactions and files
//!   direct_channel           → direct conversations and groups
//!   others                   counted, and left out
//! ```
//!
//! Posts have no ids in this format. A message is the same in two exports if channel, author and time are the same; of
//! several such messages with other texts, the first is the first. Usernames are references, so the number of a user is
//! made of the name.
//!
//! Pure: the caller reads the lines, and says whether content is there.

mod lines;
mod posts;
mod reader;
#[cfg(test)]
mod tests;
mod text;

use super::fault::ImportFault;
use super::model::{RowPlace, Staged};
use super::staged::{DumpCounts, SinkClosed, StagedLines};
use lines::BulkLine;
use reader::{ParseFault, parse, stopped};

pub(super) use reader::MattermostReader;

/// The version of the format.
const VERSION: i64 = 1;
/// Users and direct conversations that are remembered while the lines are read.
const REMEMBERED_MAX: usize = 5_000_000;
const TEAMS_MAX: usize = 100_000;

impl<F: FnMut(StagedLines) -> Result<(), SinkClosed>> MattermostReader<'_, F> {
    /// Gives what is left.
    pub(super) fn finish(self) -> Result<DumpCounts, ImportFault> {
        if !self.has_version {
            return Err(self.fault(1, "the file has no line of the type version, so it is no export of Mattermost"));
        }
        self.model.finish().map_err(stopped)
    }

    /// Takes a line.
    pub(super) fn line(&mut self, number: u64, text: &str) -> Result<(), ImportFault> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        let line: BulkLine<'_> = match parse(text) {
            Ok(line) => line,
            Err(ParseFault::Broken(said) | ParseFault::Fields(said)) => {
                return Err(self.fault(number, format!("this is no line of a bulk export: {said}")));
            }
        };
        if !self.has_version {
            if line.kind != "version" {
                return Err(self.fault(number, "the first line must have the type version"));
            }
            if line.version != Some(VERSION) {
                return Err(self.fault(number, format!("only version {VERSION} of the bulk format can be read")));
            }
            self.has_version = true;
            return Ok(());
        }
        let place = RowPlace { file: self.file, line: number };
        let (object, staged) = match line.kind.as_str() {
            "team" => (line.team, None),
            "channel" => (line.channel, Some(Staged::Room)),
            "user" => (line.user, Some(Staged::User)),
            "bot" => (line.bot, Some(Staged::User)),
            "post" => (line.post, Some(Staged::Message)),
            "direct_channel" => (line.direct_channel, Some(Staged::Room)),
            "direct_post" => (line.direct_post, Some(Staged::Message)),
            "version" => return Err(self.fault(number, "a second line of the type version")),
            other => {
                let shown: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
                self.model.left_out(&format!("lines of the type {shown}"));
                return Ok(());
            }
        };
        let Some(object) = object else {
            return Err(self.fault(number, format!("the line of the type {} has no {}", line.kind, line.kind)));
        };
        let object = object.get();
        let taken = match line.kind.as_str() {
            "team" => parse(object).map(|team| {
                self.team(team);
                Ok(())
            }),
            "channel" => parse(object).map(|channel| self.channel(place, &channel)),
            "user" => parse(object).map(|user| self.user(place, user)),
            "bot" => parse(object).map(|bot| self.bot(place, bot)),
            "direct_channel" => parse(object).map(|channel| self.direct_channel(place, channel)),
            _ => parse(object).map(|post| self.post(place, post)),
        };
        match taken {
            Ok(staged) => staged.map_err(stopped),
            Err(ParseFault::Broken(said)) => Err(self.fault(number, format!("this is no JSON: {said}"))),
            Err(ParseFault::Fields(said)) => match staged {
                Some(staged) => self.model.reject(staged, place, "", &said).map_err(stopped),
                None => Err(self.fault(number, format!("this {} cannot be read: {said}", line.kind))),
            },
        }
        .and_then(|()| self.check_memory(number))
    }

    fn check_memory(&self, number: u64) -> Result<(), ImportFault> {
        if self.users.len().max(self.directs.len()) > REMEMBERED_MAX || self.teams.len() > TEAMS_MAX {
            return Err(self.fault(number, "the export has more users, teams or direct channels than any server"));
        }
        Ok(())
    }
}
