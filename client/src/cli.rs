//! The command line.

use crate::address::Address;
use crate::paint::Choice;
use crate::profile;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  veza register ada --email ada@example.com        asks for a password, and signs in
  veza create lobby                                a public room; its id is printed
  veza send lobby 'Hello, everybody'               by the room's name or id
  echo deployed | veza send lobby                  reads the text from standard input
  veza follow lobby                                the last messages, then live; Ctrl-C ends it
  veza history lobby --all --json > lobby.jsonl

With --json, standard output has one JSON object per line, and failures are on standard error:
{\"error\": {code, message}}.

Exit status:
  0  done
  1  the server refused, and gave the reason
  2  wrong usage, or a file of this machine could not be read or written
  3  not signed in (any more)
  4  the server cannot be reached, or is not a Veza Chat Server";

const SEND_EXAMPLES: &str = "\
Examples:
  veza send room_6 Hello there
  uptime | veza send ops
  veza send room_6 --reply-to 1234 'I agree'
  veza send room_6 --key build-77 'Build 77 is green'     sent once, however often this runs
  veza send room_6 --file a.pdf --file b.png 'Two files'

Every message has a key. When the connection is lost or the server is busy, the message is sent again with the same
key, and the server stores it once. Files are uploaded first. An upload that was interrupted goes on where it stopped
when the same command runs again.";

const DOWNLOAD_EXAMPLES: &str = "\
Examples:
  veza download 12                 into this folder, under the file's own name
  veza download 12 ~/Downloads     into that folder
  veza download 12 plan.pdf

The number of a file is beside its name in the history. A download that was interrupted goes on where it stopped when
the same command runs again.";

const FOLLOW_EXAMPLES: &str = "\
Examples:
  veza follow lobby --last 50
  veza follow room_6 --json | ./bot
  veza follow room_6 --after 120 --json        every change after number 120, then live

After a lost connection, it reconnects and fetches what was missed: nothing is shown twice or left out.";

const RAW_EXAMPLE: &str = "\
Example:
  veza command mark_read '{\"conversation_id\":\"room_6\",\"seq\":12}'";

/// Terminal client of Veza Chat Server.
#[derive(Parser, Debug)]
#[command(name = "veza", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,

    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The server; by default the server of the profile's session or last session, or port 8080 of this machine
    #[arg(long, global = true, env = "VEZA_SERVER", value_name = "URL", value_parser = Address::parse)]
    pub server: Option<Address>,

    /// One JSON object per line, for programs
    #[arg(long, global = true)]
    pub json: bool,

    /// Colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub color: Choice,

    /// The profile to use, if you are signed in several times
    #[arg(long, global = true, env = "VEZA_PROFILE", value_name = "NAME", default_value = "default",
          value_parser = profile::parse_name)]
    pub profile: String,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create an account and sign in
    Register(Register),
    /// Sign in
    Login(Login),
    /// Sign out, here and on the server
    Logout {
        /// Delete the session here only, for a server that is gone
        #[arg(long)]
        local: bool,
    },
    /// Show the signed-in user
    Whoami,
    /// Show or change the second factor of your account
    #[command(name = "two-factor", alias = "2fa", subcommand)]
    TwoFactor(TwoFactor),
    /// List your conversations
    List,
    /// List public rooms, which anyone can join
    Rooms {
        /// Only rooms whose name or description contains this
        query: Option<String>,
    },
    /// Create a room, a group or a direct conversation
    Create(Create),
    /// Join a public room
    Join {
        /// Its id, such as `room_6`, or the name of a public room
        conversation: String,
    },
    /// List the invitations to groups and rooms that wait for your decision
    Invitations,
    /// Accept an invitation
    Accept {
        /// The conversation's id, such as `group_5`
        conversation: String,
    },
    /// Decline an invitation
    Decline {
        /// The conversation's id, such as `group_5`
        conversation: String,
    },
    /// Leave a conversation
    Leave {
        /// Its id or name
        conversation: String,
    },
    /// List the slash commands of the bots in a conversation
    BotCommands {
        /// Its id or name
        conversation: String,
    },
    /// List the members of a conversation
    Members {
        /// Its id or name
        conversation: String,
    },
    /// Send a message
    Send(Send),
    /// Save a file of a message on this machine
    Download(Download),
    /// Show earlier messages, oldest first
    History(History),
    /// Show the last messages, then new ones as they arrive
    Follow(Follow),
    /// Mark a conversation as read
    Read {
        /// Its id or name
        conversation: String,
    },
    /// Edit one of your messages
    Edit {
        /// The message's number
        #[arg(value_parser = message_id)]
        message_id: i64,
        /// The new text; without it, or with -, standard input
        text: Vec<String>,
    },
    /// Delete a message
    Delete {
        /// The message's number
        #[arg(value_parser = message_id)]
        message_id: i64,
    },
    /// React to a message
    React {
        /// The message's number
        #[arg(value_parser = message_id)]
        message_id: i64,
        /// An emoji such as 👍
        emoji: String,
        /// Remove the reaction
        #[arg(long)]
        remove: bool,
    },
    /// Pin a message to its conversation
    Pin {
        /// The message's number
        #[arg(value_parser = message_id)]
        message_id: i64,
        /// Unpin it
        #[arg(long)]
        remove: bool,
    },
    /// Search your conversations, newest first
    Search(Search),
    /// Send any command of the protocol; prints its answer as JSON
    #[command(name = "command", after_help = RAW_EXAMPLE)]
    Raw {
        /// The command's name, such as `get_conversation`
        name: String,
        /// Its data as JSON; - for standard input
        #[arg(default_value = "{}")]
        data: String,
    },
}

/// Options of `veza register`.
#[derive(Args, Debug)]
pub struct Register {
    /// 3 to 50 of A-Z a-z 0-9 _ -
    pub username: String,
    /// Email address
    #[arg(long)]
    pub email: String,
    /// Display name; the username by default
    #[arg(long)]
    pub display_name: Option<String>,
    #[command(flatten)]
    pub secret: Secret,
}

/// Options of `veza login`.
#[derive(Args, Debug)]
pub struct Login {
    /// Username or email address
    #[arg(value_name = "LOGIN")]
    pub who: String,
    /// Ask for a backup code instead of the authenticator app's code
    #[arg(long)]
    pub backup_code: bool,
    #[command(flatten)]
    pub secret: Secret,
}

/// The subcommands of `veza two-factor`.
#[derive(Subcommand, Debug)]
pub enum TwoFactor {
    /// Show whether it is on, and how many backup codes are left
    Status,
    /// Set it up: shows a QR code for your authenticator app, and then asks for its code
    On(Secret),
    /// Replace the backup codes
    NewCodes(FactorChange),
    /// Switch it off
    Off(FactorChange),
}

/// Options for changes of the second factor.
#[derive(Args, Debug)]
pub struct FactorChange {
    /// Ask for a backup code instead of the authenticator app's code
    #[arg(long)]
    pub backup_code: bool,
    #[command(flatten)]
    pub secret: Secret,
}

/// Options for the password.
#[derive(Args, Debug)]
#[command(next_help_heading = "Password (from a prompt, VEZA_PASSWORD, or)")]
pub struct Secret {
    /// Read it from the first line of standard input, and a code from the next line
    #[arg(long)]
    pub password_stdin: bool,
}

/// Kinds of conversations.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Anyone can find and join it
    #[value(name = "public_room", alias = "public")]
    PublicRoom,
    /// By invitation
    #[value(name = "private_room", alias = "private")]
    PrivateRoom,
    /// A few people
    Group,
}

impl Kind {
    /// The name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PublicRoom => "public_room",
            Self::PrivateRoom => "private_room",
            Self::Group => "group",
        }
    }
}

/// Options of `veza create`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["name", "direct"]).required(true))]
pub struct Create {
    /// The room's or group's name
    pub name: Option<String>,
    /// A direct conversation with this user instead; there is only one per user
    #[arg(long, value_name = "USER", conflicts_with_all = ["kind", "description", "member"])]
    pub direct: Option<String>,
    /// What to create
    #[arg(long, default_value = "public_room")]
    pub kind: Kind,
    /// Its description
    #[arg(long)]
    pub description: Option<String>,
    /// A user to add (username or id); can be repeated
    #[arg(long, value_name = "USER")]
    pub member: Vec<String>,
}

/// Options of `veza send`.
#[derive(Args, Debug)]
#[command(after_help = SEND_EXAMPLES)]
pub struct Send {
    /// Its id or name, or @USERNAME
    pub conversation: String,
    /// The text; without it and without a file, or with -, standard input. An argument /NAME … runs a command of a bot,
    /// and //x sends /x
    pub text: Vec<String>,
    /// A file to send with it; can be repeated
    #[arg(long, value_name = "PATH")]
    pub file: Vec<PathBuf>,
    /// The number of the message to reply to
    #[arg(long, value_name = "ID", value_parser = message_id)]
    pub reply_to: Option<i64>,
    /// The message's key: with the same key it is stored once
    #[arg(long)]
    pub key: Option<String>,
    /// How long to retry, in seconds; for files, without any progress
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub retry_for: u64,
}

/// Options of `veza download`.
#[derive(Args, Debug)]
#[command(after_help = DOWNLOAD_EXAMPLES)]
pub struct Download {
    /// The file's number
    #[arg(value_parser = file_id)]
    pub file_id: i64,
    /// Where to save it: a file that does not exist yet, or a folder
    pub path: Option<PathBuf>,
    /// How long to retry without any progress, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub retry_for: u64,
}

/// Options of `veza history`.
#[derive(Args, Debug)]
pub struct History {
    /// Its id or name
    pub conversation: String,
    /// The maximum number of messages
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
    pub limit: i64,
    /// Only messages before this sequence number (`seq`)
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
    pub before: Option<i64>,
    /// All messages
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// Options of `veza follow`.
#[derive(Args, Debug)]
#[command(after_help = FOLLOW_EXAMPLES)]
pub struct Follow {
    /// Its id or name
    pub conversation: String,
    /// How many of the newest messages to show first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(0..=10_000))]
    pub last: i64,
    /// Begin with the change after this sequence number (`seq`)
    #[arg(long, value_name = "SEQ", conflicts_with = "last", value_parser = clap::value_parser!(i64).range(0..))]
    pub after: Option<i64>,
}

/// Options of `veza search`.
#[derive(Args, Debug)]
pub struct Search {
    /// Words, "a phrase", -without, prefix*
    pub query: String,
    /// Only in this conversation (id or name)
    #[arg(long = "in", value_name = "CONVERSATION")]
    pub conversation: Option<String>,
    /// Only messages from this user (username or id)
    #[arg(long, value_name = "USER")]
    pub from: Option<String>,
    /// The maximum number of messages
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=100))]
    pub limit: i64,
}

/// Parses the number of a file, which is shown beside its name.
fn file_id(text: &str) -> Result<i64, String> {
    let number = text.trim_start_matches('#').parse::<i64>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected the number of a file, which is beside its name in the history".to_owned())
}

/// Parses the number of a message, which is shown at the end of its line.
fn message_id(text: &str) -> Result<i64, String> {
    let number = text.trim_start_matches('#').parse::<i64>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected the number of a message, which is at the end of its line".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        let all = std::iter::once("veza").chain(arguments.iter().copied());
        Arguments::try_parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn accepts_global_options_anywhere() {
        for arguments in [["--json", "list"], ["list", "--json"]] {
            assert!(parse(&arguments).unwrap().global.json);
        }
        let Command::Send(send) = parse(&["send", "lobby", "two", "words", "--reply-to=#7"]).unwrap().command else {
            panic!("another command")
        };
        assert_eq!((send.text.join(" "), send.reply_to), ("two words".into(), Some(7)));
    }

    #[test]
    fn refuses_contradictory_options() {
        for wrong in [
            &["create"][..],
            &["create", "lobby", "--direct", "bob"],
            &["create", "--direct", "bob", "--member", "eve"],
            &["history", "lobby", "--all", "--limit", "3"],
            &["history", "lobby", "--limit", "0"],
            &["follow", "lobby", "--after", "3", "--last", "4"],
            &["delete", "first"],
            &["download", "a.pdf"],
            &["register", "ada"],
            &["login", "ada", "--password", "secret"],
            &["list", "--server", "https://chat.example"],
            &["list", "--profile", "../x"],
            &["list", "--color", "blue"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
