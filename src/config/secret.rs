//! Values that must not reach a log, a terminal or a bug report.
//!
//! Formatting and serialisation produce the mask. Only [`Secret::expose`] and [`SecretUrl::expose`] return the text, so
//! a search for these names finds every use.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// The replacement for a secret in any output.
pub const MASK: &str = "***";

/// A text that is secret as a whole, such as a signing key.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// A URL whose password is secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Id and bytes of an item of `security.encryption_keys`.
///
/// # Errors
/// Why it is none. The text does not quote it.
pub fn encryption_key(item: &Secret) -> Result<(String, [u8; 32]), String> {
    let (id, key) = item.expose().split_once(':').ok_or("each key must be written as id:base64")?;
    if !(1..=64).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return Err("the id of each key must be 1 to 64 letters, digits, hyphens or underscores".to_owned());
    }
    let bytes = STANDARD.decode(key.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| {
        format!("the key {id:?} must be 32 bytes in base64 (openssl rand -base64 32 generates a good one)")
    })?;
    Ok((id.to_owned(), bytes))
}

/// The item of `security.jwt_keys` that stands for the key made of `security.jwt_secret`.
pub const KEY_OF_SECRET: &str = "jwt_secret";

/// Id and bytes of an item of `security.jwt_keys`; `None` for [`KEY_OF_SECRET`].
///
/// # Errors
/// Why it is none. The text does not quote it.
pub fn signing_key(item: &Secret) -> Result<Option<(String, [u8; 32])>, String> {
    if item.expose() == KEY_OF_SECRET { Ok(None) } else { encryption_key(item).map(Some) }
}

/// Masks `user:PASSWORD@` and a `password=` parameter. A text that is not a URL is masked as a whole.
fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    // The last '@', because an unescaped '@', '/' or '?' in a password must not uncover the rest of it. With an '@' in
    // the parameters this masks more than necessary.
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) if credentials.contains(':') => {
            let user = credentials.split(':').next().unwrap_or_default();
            (format!("{user}:{MASK}@"), rest)
        }
        _ => (String::new(), rest),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let query = query.map_or(String::new(), |query| {
        let masked: Vec<Cow<'_, str>> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) if name.to_ascii_lowercase().contains("password") => {
                    Cow::Owned(format!("{name}={MASK}"))
                }
                _ => Cow::Borrowed(pair),
            })
            .collect();
        format!("?{}", masked.join("&"))
    });
    format!("{scheme}://{credentials}{rest}{query}")
}

macro_rules! masked {
    ($type:ty, $mask:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$mask(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$mask(&self.0))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$mask(&self.0))
            }
        }
    };
}

masked!(Secret, |_: &str| MASK);
masked!(SecretUrl, mask_url);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_of_a_url_is_masked() {
        for (url, masked) in [
            ("postgresql://chat:s3cret@db:5432/veza", "postgresql://chat:***@db:5432/veza"),
            ("postgresql://chat@db/veza", "postgresql://chat@db/veza"),
            ("redis://:s3cret@redis:6379", "redis://:***@redis:6379"),
            ("postgresql://chat:s3@c/r:et@db/veza", "postgresql://chat:***@db/veza"),
            ("postgresql://db/veza?user=chat&password=s3cret", "postgresql://db/veza?user=chat&password=***"),
            ("postgresql://chat:s3?ret@db/veza", "postgresql://chat:***@db/veza"),
            ("postgresql://db/veza?password=s3@ret", "postgresql://db/veza?password=***"),
            ("postgresql://db/veza?sslmode=require", "postgresql://db/veza?sslmode=require"),
            ("host=db password=s3cret", "***"),
        ] {
            assert_eq!(SecretUrl::new(url).to_string(), masked);
            assert_eq!(format!("{:?}", SecretUrl::new(url)), masked);
        }
    }

    #[test]
    fn a_secret_shows_in_no_format() {
        let secret = Secret::new("do not look");
        assert_eq!(format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap()), "*** *** \"***\"");
    }
}
