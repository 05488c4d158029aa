//! Signed links: a user's permission to read one file without a token, for a while. For `<img>` and downloads of
//! browsers, which send no `Authorization`.
//!
//! `?ex=EXPIRY&is=ISSUED&sig=USER.SESSION.MAC`: times in seconds of Unix time, the numbers of the user and of the
//! session that asked for the link, and the MAC over all of them and the file. A link permits nothing by itself:
//! whether the session is active and its user may read the file is asked at each use.

use crate::ids::{FileId, SessionId, UserId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The longest life of a link, in seconds.
pub const LIFE_SECONDS_MAX: i64 = 86_400;
/// The clocks of two servers may differ by so much.
const SKEW_SECONDS: i64 = 60;

/// Who asked for a link: a user, and the session.
pub type Asker = (UserId, SessionId);

/// Signs and verifies links. Cloning shares nothing and is cheap.
#[derive(Clone)]
pub struct LinkKey([u8; 32]);

/// The parameters of a link.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
pub struct LinkQuery {
    /// When it ends.
    pub ex: i64,
    /// When it was made.
    #[serde(rename = "is")]
    pub issued: i64,
    /// User, session and MAC.
    pub sig: String,
}

impl LinkKey {
    /// A key for links only.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn mac(&self, (user, session): Asker, file: FileId, (issued, expiry): (i64, i64)) -> Hmac<Sha256> {
        // PROOF: HMAC accepts keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap();
        for number in [user.0, session.0, file.0, issued, expiry] {
            mac.update(&number.to_be_bytes());
        }
        mac
    }

    /// The query string of a link that its asker may use for `life` seconds from `now` on.
    #[must_use]
    pub fn query(&self, asker: Asker, file: FileId, now: i64, life: i64) -> String {
        let expiry = now + life.clamp(1, LIFE_SECONDS_MAX);
        let mac = self.mac(asker, file, (now, expiry)).finalize().into_bytes();
        let (user, session) = asker;
        format!("ex={expiry}&is={now}&sig={}.{}.{}", user.0, session.0, URL_SAFE_NO_PAD.encode(mac))
    }

    /// Whose permission the link is, if it is valid now.
    #[must_use]
    pub fn verified(&self, link: &LinkQuery, file: FileId, now: i64) -> Option<Asker> {
        let is_current = link.issued <= now + SKEW_SECONDS
            && now < link.ex
            && link.ex.checked_sub(link.issued).is_some_and(|life| (1..=LIFE_SECONDS_MAX).contains(&life));
        let (user, rest) = link.sig.split_once('.')?;
        let (session, mac) = rest.split_once('.')?;
        let asker = (UserId(user.parse().ok()?), SessionId(session.parse().ok()?));
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        (is_current && self.mac(asker, file, (link.issued, link.ex)).verify_slice(&mac).is_ok()).then_some(asker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> LinkQuery {
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap().to_owned();
        LinkQuery { ex: value("ex=").parse().unwrap(), issued: value("is=").parse().unwrap(), sig: value("sig=") }
    }

    #[test]
    fn a_link_belongs_to_a_user_a_file_and_a_time() {
        let (key, asker, file, now) = (LinkKey::new([1; 32]), (UserId(7), SessionId(3)), FileId(9), 1_700_000_000);
        let link = parsed(&key.query(asker, file, now, 600));
        assert_eq!(key.verified(&link, file, now), Some(asker));
        assert_eq!(key.verified(&link, file, now + 599), Some(asker));
        assert_eq!(key.verified(&link, file, now + 600), None, "expired");
        assert_eq!(key.verified(&link, FileId(10), now), None, "another file");
        assert_eq!(LinkKey::new([2; 32]).verified(&link, file, now), None, "another key");
        for changed in [
            LinkQuery { ex: link.ex + 1, ..link.clone() },
            LinkQuery { issued: link.issued - 1, ..link.clone() },
            LinkQuery { sig: link.sig.replace("7.3.", "8.3."), ..link.clone() },
            LinkQuery { sig: link.sig.replace("7.3.", "7.4."), ..link.clone() },
            LinkQuery { sig: String::new(), ..link.clone() },
            LinkQuery { ex: i64::MAX, issued: i64::MIN, ..link.clone() },
        ] {
            assert_eq!(key.verified(&changed, file, now), None, "{changed:?}");
        }
        let long = parsed(&key.query(asker, file, now, i64::MAX / 2));
        assert_eq!(long.ex - long.issued, LIFE_SECONDS_MAX);
    }
}
