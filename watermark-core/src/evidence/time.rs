//! Points in time: UTC as RFC 3339 writes them, to the second (`2026-11-25T10:43:09Z`) or to the millisecond.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// A point in time as text, to the second; before 1970 it is 1970.
pub fn rfc3339(time: SystemTime) -> String {
    format!("{}Z", to_the_second(time))
}

/// The same to the millisecond: `2026-11-25T10:43:09.250Z`.
pub fn rfc3339_millis(time: SystemTime) -> String {
    let millis = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_millis());
    format!("{}.{millis:03}Z", to_the_second(time))
}

fn to_the_second(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = date(seconds / DAY);
    let rest = seconds % DAY;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Whether a text is a point in time of this form, on a day that exists.
pub fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00:00Z";
    let fits = |(&given, &wanted): (&u8, &u8)| match wanted {
        b'0' => given.is_ascii_digit(),
        _ => given == wanted,
    };
    if bytes.len() != shape.len() || !bytes.iter().zip(shape).all(fits) {
        return false;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().unwrap_or(u64::MAX);
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let clock = number(11, 13) < 24 && number(14, 16) < 60 && number(17, 19) < 60;
    clock && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of the day `days` after 1 January 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    // Four hundred years are 146,097 days: the loops below stay short.
    let mut year = 1970 + 400 * (days / 146_097);
    days %= 146_097;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Seconds and texts as GNU date gives them.
    #[test]
    fn known_points() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_603_389, "2026-11-25T10:43:09Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_563_200, "2400-02-29T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), text);
            assert!(is_rfc3339(text));
        }
    }

    #[test]
    fn what_is_no_point_in_time() {
        for text in [
            "",
            "2026-11-25",
            "2026-11-25 10:43:09Z",
            "2026-11-25T10:43:09+01:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T10:43:9Zé",
        ] {
            assert!(!is_rfc3339(text), "{text}");
        }
    }
}
