//! Instants as text: RFC 3339 in records, the dates of HTTP headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use watermark_core::evidence::time::rfc3339_millis as rfc3339;

/// Reads what [`rfc3339`] writes.
pub(super) fn from_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let days = days(date.next()??, date.next()??, date.next()??)?;
    let (clock, millis) = clock.split_once('.').unwrap_or((clock, "0"));
    let seconds = u64::try_from(days).ok()? * 86_400 + seconds(clock)?;
    let since = Duration::from_secs(seconds) + Duration::from_millis(millis.parse().ok()?);
    Some(UNIX_EPOCH + since)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that RFC 9110 lets a server write.
pub(super) fn from_http(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.trim().split_once(", ")?;
    let parts: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, clock, "GMT"] = parts[..] else {
        return None;
    };
    let month = 1 + MONTHS.iter().position(|&name| name == month)? as i64;
    let days = days(year.parse().ok()?, month, day.parse().ok()?)?;
    let seconds = u64::try_from(days).ok()? * 86_400 + seconds(clock)?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn seconds(clock: &str) -> Option<u64> {
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    (hour < 24 && minute < 60 && second < 61).then_some(hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of a date of the Gregorian calendar; the year is taken to begin in March, so that the leap
/// day comes last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    Some(365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_and_read() {
        // `date -u -d @N`.
        for (second, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(second);
            assert_eq!(rfc3339(time), text);
            assert_eq!(from_rfc3339(text), Some(time));
        }
        for day in 0..80_000 {
            let time = UNIX_EPOCH + Duration::from_secs(day * 86_400);
            assert_eq!(from_rfc3339(&rfc3339(time)), Some(time));
        }
    }

    #[test]
    fn dates_of_headers() {
        // The example of RFC 9110.
        let time = from_http("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(time, Some(UNIX_EPOCH + Duration::from_secs(784_111_777)));
        for bad in [
            "",
            "120",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
        ] {
            assert_eq!(from_http(bad), None);
        }
    }
}
