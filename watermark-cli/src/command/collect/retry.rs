//! When to ask again, and how many at once.

use std::time::{Duration, Instant, SystemTime};

use super::time::from_http;

/// The longest wait that is chosen here.
const LONGEST: Duration = Duration::from_secs(60);

/// The wait before attempt `attempt + 1`: `first` doubled for every attempt after the first, at most a minute,
/// less a random half of it, so that many clients do not come back together. `coin` is uniform.
pub(super) fn backoff(first: Duration, attempt: u32, coin: u32) -> Duration {
    let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let most = doubled.min(LONGEST);
    most.mul_f64(1.0 - 0.5 * f64::from(coin) / (f64::from(u32::MAX) + 1.0))
}

/// `Retry-After`: seconds or a date; a date that has passed is no wait.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = from_http(value)?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// How many requests may be on their way: one more for every answer until the endpoint first refuses for load, then
/// one more for every round of answers, and half as many after a refusal (additive increase,
/// multiplicative decrease).
#[derive(Debug)]
pub(super) struct Pace {
    limit: f64,
    most: f64,
    cut: Option<Instant>,
}

impl Pace {
    pub(super) fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        Self {
            limit: most.min(4.0),
            most,
            cut: None,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    pub(super) fn answered(&mut self) {
        let step = match self.cut {
            None => 1.0,
            Some(_) => 1.0 / self.limit,
        };
        self.limit = (self.limit + step).min(self.most);
    }

    /// A refusal for load, of a request sent at `sent`. Those sent before the last cut say nothing new.
    pub(super) fn refused(&mut self, sent: Instant, now: Instant) {
        if self.cut.is_none_or(|cut| sent > cut) {
            self.limit = (self.limit / 2.0).max(1.0);
            self.cut = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_are_spread() {
        let first = Duration::from_secs(1);
        for (attempt, seconds) in [(1, 1.0), (2, 2.0), (4, 8.0), (9, 60.0), (4000, 60.0)] {
            assert_eq!(backoff(first, attempt, 0).as_secs_f64(), seconds);
            let least = backoff(first, attempt, u32::MAX).as_secs_f64();
            assert!((least / seconds - 0.5).abs() < 1e-6);
        }
    }

    #[test]
    fn both_forms_of_retry_after() {
        let now = from_http("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let wait = |text| retry_after(text, now);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("0.5"), Some(Duration::from_millis(500)));
        let later = wait("Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(later, Some(Duration::from_secs(60)));
        let past = wait("Sun, 06 Nov 1994 08:00:00 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        for bad in ["", "-1", "NaN", "inf", "tomorrow"] {
            assert_eq!(wait(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_burst_of_refusals_halves_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(16);
        (0..20).for_each(|_| pace.answered());
        assert_eq!(pace.limit(), 16);
        pace.refused(at(1), at(10));
        (2..8).for_each(|ms| pace.refused(at(ms), at(11)));
        assert_eq!(pace.limit(), 8);
        (0..9).for_each(|_| pace.answered());
        assert_eq!(pace.limit(), 9);
        for ms in 0..10 {
            pace.refused(at(20 + 2 * ms), at(21 + 2 * ms));
        }
        assert_eq!(pace.limit(), 1);
    }
}
