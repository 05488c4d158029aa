//! The scenarios that are compiled in.

/// A scenario that is compiled in.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        /// All of them, in the order in which they are listed.
        pub const BUILTIN: &[Builtin] =
            &[$(Builtin { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) }),*];
    };
}

builtin![
    "default",
    "direct",
    "rooms-10",
    "room-1000",
    "room-10000",
    "mixed",
    "idle",
    "login-storm",
    "reconnect-storm",
    "slow-consumers",
    "large-messages",
    "small-beside-large",
    "durable",
    "crowd",
    "crowding",
    "uploads",
    "nodes",
    "headline",
    "overload",
];
