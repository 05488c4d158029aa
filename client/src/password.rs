//! Reads passwords and codes: from the terminal without echo, from standard input, or from the environment. Never from
//! the command line, which all users of the machine can see in the list of processes.
//!
//! Invariant: the terminal is restored when this module returns, also after Ctrl-C. That key is read as a character
//! here, so it cannot end the process while the echo is off.

use crate::failure::Failure;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, IsTerminal, Read, Write};

/// The environment variable with the password.
pub const VARIABLE: &str = "VEZA_PASSWORD";

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: [u8; 2] = [8, 127];
/// Longer than any password that a server accepts.
const BYTES_MAX: u64 = 4_096;

/// Reads a password: from standard input if `from_stdin`, else from the environment, else from the terminal.
pub fn password(from_stdin: bool, prompts: &[&str]) -> Result<String, Failure> {
    if from_stdin {
        let empty = || Failure::Usage("--password-stdin: standard input is empty".to_owned());
        return line_of_stdin()?.ok_or_else(empty);
    }
    if let Some(password) = std::env::var(VARIABLE).ok().filter(|password| !password.is_empty()) {
        return Ok(password);
    }
    let mut answers = Vec::new();
    for prompt in prompts {
        answers.push(hidden(prompt)?);
    }
    match answers.split_first() {
        Some((first, rest)) if rest.iter().all(|again| again == first) => Ok(first.clone()),
        _ => Err(Failure::Usage("the two passwords are different".to_owned())),
    }
}

/// Reads a code: from the next line of standard input if the password came from there, else from the terminal. `None`
/// if there is neither.
pub fn code(from_stdin: bool, prompt: &str) -> Result<Option<String>, Failure> {
    let code = if from_stdin {
        line_of_stdin()?
    } else if can_ask() {
        Some(hidden(prompt)?)
    } else {
        None
    };
    Ok(code.map(|code| code.trim().to_owned()))
}

/// The next line of standard input; `None` if it is empty.
fn line_of_stdin() -> Result<Option<String>, Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(BYTES_MAX).read_line(&mut line);
    read.map_err(|error| Failure::Usage(format!("--password-stdin: {error}")))?;
    let text = line.trim_end_matches(['\r', '\n']);
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Whether there is a terminal for a prompt.
fn can_ask() -> bool {
    std::io::stdin().is_terminal() && terminal().is_ok()
}

fn terminal() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

/// Asks on the terminal without showing the answer.
fn hidden(prompt: &str) -> Result<String, Failure> {
    let none =
        |_| Failure::Usage(format!("there is no terminal for the password prompt; use --password-stdin or {VARIABLE}"));
    let tty = terminal().map_err(none)?;
    let io_failure = |error: std::io::Error| Failure::Usage(format!("the terminal: {error}"));
    let quiet = Quiet::begin(&tty).map_err(|error| io_failure(error.into()))?;
    write!(&tty, "{prompt}: ").map_err(io_failure)?;
    let answer = typed(&mut &tty);
    drop(quiet);
    writeln!(&tty).map_err(io_failure)?;
    answer?.ok_or_else(|| Failure::Usage("interrupted".to_owned()))
}

/// Reads a line key by key; `None` when the user interrupts.
fn typed(tty: &mut impl Read) -> Result<Option<String>, Failure> {
    let io_failure = |error: std::io::Error| Failure::Usage(format!("the terminal: {error}"));
    let mut line = Vec::new();
    for _ in 0..BYTES_MAX {
        let mut key = [0];
        if tty.read(&mut key).map_err(io_failure)? == 0 {
            return Ok(None);
        }
        match key[0] {
            b'\r' | b'\n' => {
                let message = "the input is not valid UTF-8".to_owned();
                return String::from_utf8(line).map(Some).map_err(|_| Failure::Usage(message));
            }
            CTRL_C => return Ok(None),
            CTRL_D if line.is_empty() => return Ok(None),
            CTRL_D => {}
            CTRL_U => line.clear(),
            key if BACKSPACE.contains(&key) => {
                // All bytes of a character except the first are 10xxxxxx.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            key => line.push(key),
        }
    }
    Ok(None)
}

/// A terminal without echo, until it is dropped.
struct Quiet<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(tty: &'a File) -> nix::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(tty, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty, SetArg::TCSADRAIN, &self.before); // fails only when the terminal is gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_edit_the_line() {
        let line = |keys: &str| typed(&mut keys.as_bytes()).unwrap();
        assert_eq!(line("secret\rmore").as_deref(), Some("secret"));
        assert_eq!(line("ab\u{7f}c\n").as_deref(), Some("ac"));
        assert_eq!(line("aé\u{8}b\n").as_deref(), Some("ab"), "a character is one step");
        assert_eq!(line("wrong\u{15}right\n").as_deref(), Some("right"));
        assert_eq!(line("\u{7f}a\n").as_deref(), Some("a"));
        assert_eq!((line("ab\u{3}\n"), line("\u{4}"), line("no end")), (None, None, None));
    }
}
