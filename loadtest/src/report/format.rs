//! Numbers for people: three significant digits, the unit that reads best, never more precision than was measured.

use indicatif::HumanCount;

/// A number with about three significant digits.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        magnitude if magnitude < 9.995 => 2,
        magnitude if magnitude < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A whole number with separated thousands.
pub fn count(value: u64) -> String {
    HumanCount(value).to_string()
}

/// A time in microseconds.
pub fn micros(us: f64) -> String {
    // The bounds are where three digits round up to the next unit.
    match us {
        us if us < 999.5 && us.fract().abs() < f64::EPSILON => format!("{us:.0} µs"),
        us if us < 999.5 => format!("{} µs", three_digits(us)),
        us if us < 999_500.0 => format!("{} ms", three_digits(us / 1e3)),
        us => format!("{} s", three_digits(us / 1e6)),
    }
}

/// A rate or another number that may be large or small.
pub fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 999.5 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", count(magnitude.round() as u64))
        }
        magnitude if magnitude < 1e6 && value.fract().abs() < f64::EPSILON => format!("{value:.0}"),
        _ => three_digits(value),
    }
}

/// An amount of memory in bytes.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let sign = if bytes < 0.0 { "-" } else { "" };
    let mut value = bytes.abs();
    if value < 999.5 {
        return format!("{sign}{value:.0} B");
    }
    let mut unit = 0;
    value /= 1024.0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{sign}{} {}", three_digits(value), UNITS[unit])
}

/// A range of times in microseconds, from lowest to highest, in the unit of the higher one.
pub fn micros_range(min: f64, max: f64) -> String {
    let (scale, unit) = match max {
        us if us < 999.5 => (1.0, "µs"),
        us if us < 999_500.0 => (1e3, "ms"),
        _ => (1e6, "s"),
    };
    format!("{}–{} {unit}", three_digits(min / scale), three_digits(max / scale))
}

/// Two numbers, lowest to highest, shortened to thousands or millions.
pub fn number_range(min: f64, max: f64) -> String {
    let short = |value: f64| match value.abs() {
        magnitude if magnitude >= 999_500.0 => format!("{}M", three_digits(value / 1e6)),
        magnitude if magnitude >= 9_995.0 => format!("{}k", three_digits(value / 1e3)),
        _ => number(value),
    };
    format!("{}–{}", short(min), short(max))
}

/// A ratio of two values.
pub fn times(ratio: f64) -> String {
    if ratio >= 99.5 { format!("{}×", number(ratio)) } else { format!("{ratio:.2}×") }
}

/// A share of one, in hundredths.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_in_a_readable_unit() {
        for (us, text) in [
            (0.0, "0 µs"),
            (0.345, "0.34 µs"),
            (8.125, "8.12 µs"),
            (812.0, "812 µs"),
            (999.4, "999 µs"),
            (999.7, "1.00 ms"),
            (1_234.0, "1.23 ms"),
            (12_345.0, "12.3 ms"),
            (123_456.0, "123 ms"),
            (999_600.0, "1.00 s"),
            (75_000_000.0, "75.0 s"),
        ] {
            assert_eq!(micros(us), text, "{us}");
        }
    }

    #[test]
    fn sizes_and_counts_stay_short() {
        assert_eq!(bytes(812.0), "812 B");
        assert_eq!(bytes(1_536.0), "1.50 KiB");
        assert_eq!(bytes(-1_536.0), "-1.50 KiB");
        assert_eq!(bytes(53.0 * 1024.0 * 1024.0), "53.0 MiB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(99.96), "100");
        assert_eq!(number_range(1_818.2, 2_222.0), "1,818–2,222");
        assert_eq!(number_range(123_456.0, 1_234_567.0), "123k–1.23M");
        assert_eq!(micros_range(812.0, 1_300.0), "0.81–1.30 ms");
        assert_eq!(number(0.5), "0.50");
        assert_eq!(number(7.0), "7");
        assert_eq!(times(1.0), "1.00×");
        assert_eq!(times(1_234.0), "1,234×");
        assert_eq!(percent(0.415), "42 %");
    }
}
