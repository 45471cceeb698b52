//! What a discrete test can attain, and how many false alarms of it are too many.

use std::ops::RangeInclusive;

use super::tail::ln_binomial_sf;

/// The rejection rule of a one-sided binomial test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Rejects when at least so many successes are seen; n + 1 if even n would not be enough.
    pub critical: u64,
    /// Exact probability of rejecting under the null hypothesis, at most the nominal alpha.
    pub attained: f64,
}

/// Largest attainable size P(X >= k) <= `alpha` of X ~ Binomial(n, p), `q` = 1 - p, with its k.
///
/// A discrete test rarely attains its alpha: ten fair coins at 5 % reject at 9, in 1.07 % of all cases.
/// Calibration compares with this number, not with alpha. p <= alpha is decided as a reader of
/// [`LnP`](super::LnP) decides it, by `ln() <= alpha.ln()`.
pub fn attainable_size(n: u64, p: f64, q: f64, alpha: f64) -> Size {
    debug_assert!(alpha > 0.0, "alpha = {alpha}");
    let critical = critical_value(n, p, q, alpha);
    let attained = if critical > n {
        0.0
    } else {
        ln_binomial_sf(critical, n, p, q).ln().exp()
    };
    Size { critical, attained }
}

/// Numbers of false alarms that are no surprise: with probability at least `confidence`, all of `looks`
/// counts, each the rejections of a test of exact `size` in `trials` independent trials, lie inside.
///
/// Exact binomial quantiles, each of the 2 `looks` sides missed with probability at most
/// (1 - confidence) / (2 looks) (Bonferroni): the counts may depend on each other in any way.
///
/// `size` is the [attained](Size::attained) one; a test that cannot reject has the band 0 to 0.
pub fn simultaneous_band(
    trials: u64,
    size: f64,
    looks: u64,
    confidence: f64,
) -> RangeInclusive<u64> {
    debug_assert!((0.0..=1.0).contains(&size), "size = {size}");
    debug_assert!(
        confidence > 0.0 && confidence < 1.0,
        "confidence = {confidence}"
    );
    if size <= 0.0 {
        return 0..=0;
    }
    if size >= 1.0 {
        return trials..=trials;
    }
    let side = (1.0 - confidence) / (2.0 * looks.max(1) as f64);
    // By the symmetry of failures: the fewest successes are the most failures.
    let low = trials + 1 - critical_value(trials, 1.0 - size, size, side);
    let high = critical_value(trials, size, 1.0 - size, side) - 1;
    low..=high
}

/// Smallest k in 0..=n + 1 with P(X >= k) <= `alpha`, X ~ Binomial(n, p): by bisection.
fn critical_value(n: u64, p: f64, q: f64, alpha: f64) -> u64 {
    let ln_alpha = alpha.ln();
    let (mut low, mut high) = (0, n + 1);
    while low < high {
        let k = low + (high - low) / 2;
        if ln_binomial_sf(k, n, p, q).ln() <= ln_alpha {
            high = k;
        } else {
            low = k + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_coins() {
        let size = attainable_size(10, 0.5, 0.5, 0.05);
        assert_eq!(size.critical, 9);
        assert!((size.attained - 11.0 / 1024.0).abs() < 1e-15);
        assert_eq!(
            attainable_size(3, 0.5, 0.5, 0.05),
            Size {
                critical: 4,
                attained: 0.0
            }
        );
        assert_eq!(
            attainable_size(0, 0.5, 0.5, 0.05),
            Size {
                critical: 1,
                attained: 0.0
            }
        );
    }

    #[test]
    fn band_of_a_million_trials() {
        // The normal approximation has 10000 +- 99.5 * 1.96.
        assert_eq!(simultaneous_band(1_000_000, 0.01, 1, 0.95), 9805..=10195);
        assert_eq!(simultaneous_band(1000, 0.0, 3, 0.95), 0..=0);
        assert_eq!(simultaneous_band(1000, 1.0, 3, 0.95), 1000..=1000);
        assert_eq!(simultaneous_band(0, 0.3, 3, 0.95), 0..=0);
        let (one, many) = (
            simultaneous_band(1000, 0.05, 1, 0.99),
            simultaneous_band(1000, 0.05, 6, 0.99),
        );
        assert!(many.start() < one.start() && one.end() < many.end());
    }

    proptest! {
        #[test]
        fn size_is_the_largest_attainable(n in 1u64..5000, p in 0.001..0.999f64, alpha in 1e-6..0.2f64) {
            let Size { critical, attained } = attainable_size(n, p, 1.0 - p, alpha);
            prop_assert!(attained <= alpha * (1.0 + 1e-12));
            prop_assert!(ln_binomial_sf(critical - 1, n, p, 1.0 - p).ln() > alpha.ln());
        }

        #[test]
        fn band_misses_at_most_what_it_says(
            trials in 1u64..20_000, size in 1e-6..0.999f64, looks in 1u64..9, miss in 1e-6..0.2f64,
        ) {
            let band = simultaneous_band(trials, size, looks, 1.0 - miss);
            let above = |k: u64| if k > trials { 0.0 } else { ln_binomial_sf(k, trials, size, 1.0 - size).ln().exp() };
            let below = 1.0 - above(*band.start());
            prop_assert!(!band.is_empty());
            prop_assert!(looks as f64 * (below + above(band.end() + 1)) <= miss + 1e-9);
        }
    }
}
