//! The worker process that examines one file (`chat-server examine-media`). [`crate::files::media`] says why it is one.
//!
//! 1. It lowers what it may use, before it looks at the file.
//! 2. It examines the file at its standard input.
//! 3. It writes the report as one line of JSON. Otherwise the reason goes to the standard error.
//!
//! `control::media_worker` reads the result and the exit code.

use crate::files::media::{self, ExaminationError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

/// The file is at fault.
const FILE_FAULT: u8 = 1;
/// The machine is at fault, for example its disk. 2 are wrong arguments.
const MACHINE_FAULT: u8 = 3;

/// Seconds of a core.
const CPU_SECONDS: u64 = 20;
/// What the process may use: the resource, and its soft and hard limit.
const LIMITS: &[(Resource, u64, u64)] = &[
    // Bytes of memory: a picture of 100 megapixels, its file and its turned copy.
    (Resource::RLIMIT_AS, 1 << 30, 1 << 30),
    // The first one ends the process with SIGXCPU. The second one would with SIGKILL, which others send too.
    (Resource::RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS + 1),
    (Resource::RLIMIT_NOFILE, 32, 32),
    // Bytes of each file that it writes.
    (Resource::RLIMIT_FSIZE, media::PICTURE_BYTES_MAX, media::PICTURE_BYTES_MAX),
    // A crash is expected, and its memory is of no use.
    (Resource::RLIMIT_CORE, 0, 0),
];
/// The lowest priority: messages come first.
const NICENESS: i32 = 19;

/// Examines the file at the standard input, and prints the report. `is_avatar`: it becomes the picture of a user.
#[must_use]
pub fn examine_media(media_type: &str, out_dir: &Path, is_avatar: bool) -> ExitCode {
    match examine(media_type, out_dir, is_avatar) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln!, which panics when nobody reads.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(match error {
                ExaminationError::File(_) => FILE_FAULT,
                ExaminationError::Machine(_) => MACHINE_FAULT,
            })
        }
    }
}

fn examine(media_type: &str, out_dir: &Path, is_avatar: bool) -> Result<(), ExaminationError> {
    let machine = |what: &str, error: &dyn std::fmt::Display| ExaminationError::Machine(format!("{what}: {error}."));
    lower_limits().map_err(|error| machine("The limits of the process cannot be set", &error))?;
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(|error| machine("There is no input", &error))?;
    let examine = if is_avatar { media::avatar } else { media::examine };
    let report = examine(File::from(input), media_type, out_dir)?;
    let mut line = serde_json::to_vec(&report).map_err(|error| machine("The report cannot be written", &error))?;
    line.push(b'\n');
    io::stdout().write_all(&line).map_err(|error| machine("The report cannot be written", &error))
}

fn lower_limits() -> io::Result<()> {
    for (resource, soft, hard) in LIMITS {
        let (_, allowed) = getrlimit(*resource)?;
        setrlimit(*resource, allowed.min(*soft), allowed.min(*hard))?;
    }
    rustix::process::nice(NICENESS)?;
    Ok(())
}
