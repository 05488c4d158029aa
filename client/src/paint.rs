//! Colours: ANSI sequences around text that contains none (see `text`).

use std::io::IsTerminal;

/// When to use colours.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Readable on light and on dark backgrounds.
const SENDERS: [u8; 12] = [33, 37, 64, 97, 125, 130, 136, 161, 166, 28, 62, 91];

/// Whether to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Decides for a stream; respects a non-empty `NO_COLOR` (no-color.org).
    pub fn new(choice: Choice, stream: &impl IsTerminal) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let on = match choice {
            Choice::Always => true,
            Choice::Never => false,
            Choice::Auto => stream.is_terminal() && !set("NO_COLOR") && !dumb,
        };
        Self { on }
    }

    /// Without colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { on: false }
    }

    /// With colours.
    #[cfg(test)]
    pub fn coloured() -> Self {
        Self { on: true }
    }

    fn wrap(self, codes: &str, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\x1b[{codes}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Dims secondary text.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Makes text bold.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Colours an error.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Colours `text` in the colour of the user `name`.
    pub fn person(self, name: &str, text: &str) -> String {
        self.wrap(&format!("1;38;5;{}", colour_of(name)), text)
    }
}

/// FNV-1a of the lower-case name: a user has the same colour on every machine.
fn colour_of(name: &str) -> u8 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in name.bytes() {
        hash = (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
    }
    SENDERS[(hash >> 8) as usize % SENDERS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_user_has_a_stable_colour() {
        assert_eq!(colour_of("ada"), colour_of("ADA"));
        let colours: BTreeSet<u8> = (0..100).map(|n| colour_of(&format!("user{n}"))).collect();
        assert!(colours.len() > SENDERS.len() / 2, "{colours:?}");
    }

    #[test]
    fn without_colours_the_text_is_unchanged() {
        assert_eq!(Paint::plain().person("ada", "ada"), "ada");
        assert!(Paint::coloured().person("ada", "ada").starts_with("\x1b[1;38;5;"));
        assert_eq!(Paint::coloured().dim(""), "");
    }
}
