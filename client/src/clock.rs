//! Converts the server's times (RFC 3339, UTC) to local time.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// A local day and time of day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// `Thu 2026-11-26`
    pub day: String,
    /// `HH:MM`
    pub time: String,
}

impl Moment {
    /// Parses a time of the protocol; `None` when it is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let local = local(at.unix_timestamp())?;
        let weekday = DAYS.get(usize::try_from(local.tm_wday).ok()?)?;
        Some(Self {
            day: format!("{weekday} {:04}-{:02}-{:02}", local.tm_year + 1_900, local.tm_mon + 1, local.tm_mday),
            time: format!("{:02}:{:02}", local.tm_hour, local.tm_min),
        })
    }
}

/// Asks the C library, which knows the rules of the time zone.
fn local(unix_seconds: i64) -> Option<libc::tm> {
    let mut local = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid for the call, and localtime_r (POSIX) keeps neither. It reads the environment,
    // which this program never changes.
    let given = unsafe { libc::localtime_r(&raw const unix_seconds, local.as_mut_ptr()) };
    // SAFETY: a result that is not null means that the whole structure was written.
    (!given.is_null()).then(|| unsafe { local.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_times_to_local_days_and_minutes() {
        // In any time zone: offsets are whole quarters of an hour.
        let moment = Moment::parse("2026-11-26T01:46:30.123Z").unwrap();
        let minute: u32 = moment.time[3..].parse().unwrap();
        assert_eq!((minute % 15, moment.time.len()), (1, 5), "{moment:?}");
        assert!(moment.day.contains(" 2026-11-2"), "{moment:?}");
        assert_eq!(Moment::parse("yesterday"), None);
    }
}
