//! Why a configuration is refused.

use std::fmt;

/// A problem of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `section.key`; empty if the problem is a whole file.
    pub key: String,
    /// What is wrong, and what is valid.
    pub reason: String,
    /// The file or the environment variable that set the value.
    pub origin: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.reason)
        } else {
            write!(f, "{}: {} (from {})", self.key, self.reason, self.origin)
        }
    }
}

/// All problems of the configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// A problem of a file that is not a layer.
    #[must_use]
    pub fn of_file(origin: &str, reason: String) -> Self {
        Self(vec![ConfigError { key: String::new(), reason, origin: origin.to_owned() }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a problem:")?,
            n => write!(f, "the configuration has {n} problems:")?,
        }
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}
