//! Evidence that may be looked at any time: e-values.
//!
//! An e-value is a non-negative random variable whose mean under the null hypothesis is at most 1. An *e-process* is
//! one at every stopping time, so that data may be collected until it is large: by Ville's inequality
//! P(it ever reaches 1 / alpha) <= alpha. After stopping, [`LnE::to_p`] is the p-value; a tail for a fixed number of
//! cells is not.
//!
//! - [`Mixture`]: for distinct cells of weight 1, a function of their number and sum;
//! - [`TiltProcess`](process::TiltProcess): for weights that are known before each step's scores.
//!
//! Where they hold, by [regime](crate::regime):
//!
//! | regime | e-value | may be looked at |
//! |---|---|---|
//! | clean | both: text, its order and the weights are independent of the key, no answer is left out | at any time |
//! | chosen | [`Mixture`] over the cells in order of first emission, all of them | once, at the end |
//! | reading | [`TiltProcess`](process::TiltProcess): a window counts where the logs have it for the first time, and the weights are known before its scores | once, at the end |
//!
//! In all of them every cell counts once. In the last two the cells depend on the key; what makes each factor's mean at
//! most 1 is that its row had not been used before, so only the whole, in the order of writing, is an e-value.

pub mod process;

use std::cmp::Ordering;
use std::f64::consts::LN_10;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::LnP;
use super::law::Null;
use super::power;
use super::tail::ln_add_exp;

/// Natural logarithm of an e-value, finite.
///
/// ```
/// use watermark_core::stats::evalue::LnE;
///
/// assert_eq!(LnE::from_ln(3.1e12f64.ln()).to_string(), "3.1e12");
/// assert_eq!(LnE::from_ln(0.25f64.ln()).to_string(), "0.25");
/// assert_eq!(LnE::from_ln(576.34).to_string(), "10^250.3");
/// ```
///
/// Through serde it is the number log10 e.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LnE(f64);

impl LnE {
    /// e = 1: no evidence.
    pub const ONE: Self = Self(0.0);

    /// The e-value with natural logarithm `ln`; infinities become the nearest finite number.
    ///
    /// NaN is a bug of the caller: debug builds panic, release builds take the smallest e-value.
    pub fn from_ln(ln: f64) -> Self {
        debug_assert!(!ln.is_nan(), "the logarithm of an e-value is NaN");
        if ln.is_nan() {
            return Self(f64::MIN);
        }
        // The sum makes -0.0 a 0.0.
        Self(ln.clamp(f64::MIN, f64::MAX) + 0.0)
    }

    /// ln e.
    pub fn ln(self) -> f64 {
        self.0
    }

    /// log10 e.
    pub fn log10(self) -> f64 {
        self.0 / LN_10
    }

    /// min(1, 1 / e), a p-value by Markov's inequality: also after stopping, if this is an e-process.
    #[must_use]
    pub fn to_p(self) -> LnP {
        LnP::from_ln(-self.0)
    }

    /// At most 2^bits for a keyed function with so few bits of key: no larger value means what it says, and a
    /// smaller one is an e-value all the same.
    #[must_use]
    pub fn of_key_bits(self, bits: Option<u32>) -> Self {
        match bits {
            Some(bits) => self.min(Self(f64::from(bits) * std::f64::consts::LN_2)),
            None => self,
        }
    }

    /// The mean of e-values of one hypothesis, an e-value under any dependence; e = 1 where there are none. Under
    /// stopping it is one only if all are processes in the same filtration.
    #[must_use]
    pub fn average(values: &[Self]) -> Self {
        if values.is_empty() {
            return Self::ONE;
        }
        let sum = values
            .iter()
            .fold(f64::NEG_INFINITY, |sum, e| ln_add_exp(sum, e.0));
        Self::from_ln(sum - (values.len() as f64).ln())
    }
}

// Total, because NaN is excluded by construction.
impl Eq for LnE {}

impl Ord for LnE {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for LnE {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Two digits: `0.034`, `25`, `3.1e12`; beyond 1e100 either way the exponent alone, `10^250.3`. A width is
/// honoured, a precision is not.
impl fmt::Display for LnE {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (log10, e) = (self.log10(), self.0.exp());
        let text = if log10.abs() >= 100.0 {
            format!("10^{log10:.1}")
        } else if !(1e-3..9999.5).contains(&e) {
            format!("{e:.1e}")
        } else {
            let decimals = (1.0 - log10.floor()).max(0.0) as usize;
            format!("{e:.decimals$}")
        };
        write!(f, "{text:>width$}", width = f.width().unwrap_or(0))
    }
}

impl Serialize for LnE {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.log10())
    }
}

impl<'de> Deserialize<'de> for LnE {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let log10 = f64::deserialize(deserializer)?;
        if log10.is_finite() {
            Ok(Self::from_ln(super::ln_of(log10)))
        } else {
            Err(de::Error::custom("log10 of an e-value must be finite"))
        }
    }
}

/// An e-process for distinct cells of weight 1: a mixture of likelihood ratios against exponentially tilted laws,
///
/// ```text
/// E(n, S) = mean over j of exp(theta_j (S - n mean) - n k(theta_j)),
/// ```
///
/// where k is the centred cumulant function of a cell ([`Null::cumulant`]; for gamma scores a bound, so E is an
/// e-process a fortiori). Each term is a product over cells of factors of mean 1, so the mixture is a
/// non-negative martingale from 1. The tilts are fixed by the null law alone, which makes them part of any recipe
/// that names it.
///
/// **Why a grid, and not a beta or gamma prior.** Both are valid. A continuous prior costs about ln(n) / 2 plus a
/// constant, 5.8 nats at 1e5 cells. The grid costs at most ln J at any n, 2.9 nats with 19 tilts, less what the
/// neighbours add, and about 1.5 % of the exponent where the true effect lies between two tilts. Its price:
/// effects below the smallest tilt, 2^-9 standard deviations a cell, are found ever more slowly. They need
/// beyond eight million cells.
#[derive(Clone, Debug)]
pub struct Mixture {
    null: Null,
    /// Tilt and k of it.
    tilts: Vec<(f64, f64)>,
}

impl Mixture {
    /// Tilts that move a cell's mean by d = 1, 2^-1/2, 1/2, .. 2^-9 null standard deviations, with equal weights;
    /// those d are left out that go beyond 95 % of the way to the largest score.
    pub fn standard(null: Null) -> Self {
        let sd = null.variance().sqrt();
        let room = null
            .max()
            .map_or(f64::INFINITY, |max| 0.95 * (max - null.mean()));
        let tilts = (0..=18)
            .map(|half| sd * 2f64.powf(-0.5 * f64::from(half)))
            .filter(|&shift| shift <= room)
            .filter_map(|shift| null.tilt(shift))
            .map(|theta| (theta, null.cumulant(theta).k))
            .collect();
        Self { null, tilts }
    }

    /// The null law.
    pub fn null(&self) -> Null {
        self.null
    }

    /// Tilts theta_j, in reciprocal natural units.
    pub fn tilts(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.tilts.iter().map(|&(theta, _)| theta)
    }

    /// E after `cells` cells with the sum of scores `sum`, in the lattice units of the null law.
    pub fn ln_e(&self, cells: u64, sum: u64) -> LnE {
        let n = cells as f64;
        self.ln_e_of_excess(n, self.null.natural(sum) - n * self.null.mean())
    }

    /// The same with the sum less n times the mean, in natural units.
    pub(super) fn ln_e_of_excess(&self, n: f64, excess: f64) -> LnE {
        LnE::from_ln(log_mean_exp(
            self.tilts.iter().map(|&(theta, k)| theta * excess - n * k),
        ))
    }

    /// Smallest excess of the sum over n times the mean, in natural units, at which E >= 1 / `alpha` after `n`
    /// cells: by bisection, since E grows in the sum.
    pub(super) fn boundary(&self, n: f64, alpha: f64) -> f64 {
        let reached = |excess: f64| self.ln_e_of_excess(n, excess).ln() >= -alpha.ln();
        let mut high = self.null.variance().sqrt();
        while !reached(high) {
            high *= 2.0;
        }
        let mut low = 0.0;
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if reached(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// Whether to give up after `cells` cells with sum `sum`: the rule is
    ///
    /// 1. `effect`, the optimistic effect, is the one-sided upper `1 - chance` confidence limit of a cell's mean: the
    ///    largest mean under which a sum at most `sum` still has probability `chance`, in the family of tilted laws
    ///    (exact: C. J. Clopper and E. S. Pearson's for binomial scores);
    /// 2. `reach` is the exact probability, if that is the mean of the remaining `planned - cells` cells, that
    ///    E >= 1 / `alpha` after all `planned`;
    /// 3. it is futile when `reach < chance`.
    ///
    /// Stopping by any rule leaves an e-process valid, so this decides what is spent, never what is
    /// claimed. Not counted in `reach`: that E may reach 1 / alpha earlier and fall back. `chance` = 0.05 is usual.
    pub fn futility(
        &self,
        cells: u64,
        sum: u64,
        planned: u64,
        alpha: f64,
        chance: f64,
    ) -> Futility {
        let effect = power::upper_limit(self.null, cells, sum, chance);
        let rest = planned.saturating_sub(cells);
        let boundary = self.boundary(planned as f64, alpha) + planned as f64 * self.null.mean();
        // In lattice units, rounded down: a tie speaks for going on.
        let missing = (boundary * self.null.unit()).floor() - sum as f64;
        let reach = if missing <= 0.0 {
            LnP::ONE
        } else {
            power::tilted_upper_tail(self.null, rest, missing, effect)
        };
        Futility {
            effect,
            reach,
            futile: reach.ln() < chance.ln(),
        }
    }
}

/// What [`Mixture::futility`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Futility {
    /// Upper confidence limit of a cell's mean score, in natural units.
    pub effect: f64,
    /// Probability that E is at least 1 / alpha at the planned end, if that is the mean.
    pub reach: LnP,
    /// Whether that probability is below the chance that was asked for.
    pub futile: bool,
}

/// ln of the mean of e^x.
fn log_mean_exp(terms: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    let count = terms.len() as f64;
    largest + (terms.map(|x| (x - largest).exp()).sum::<f64>() / count).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::neg_ln_q24;
    use crate::stats::size::simultaneous_band;
    use crate::stats::tail::ln_binomial_pmf;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    const GREEN: Null = Null::Binomial {
        trials: 1,
        numerator: 1,
        bits: 2,
    };
    const TOURNAMENT: Null = Null::Binomial {
        trials: 30,
        numerator: 1,
        bits: 1,
    };
    const GUMBEL: Null = Null::Gamma { shape: 1 };

    #[test]
    fn display_in_every_range() {
        for (log10, text) in [
            (0.0, "1.0"),
            (1.4, "25"),
            (3.5, "3162"),
            (3.9999999, "1.0e4"),
            (-1.0, "0.10"),
            (-2.5, "0.0032"),
            (-7.0, "1.0e-7"),
            (-4000.0, "10^-4000.0"),
        ] {
            assert_eq!(LnE::from_ln(log10 * LN_10).to_string(), text);
        }
        assert_eq!(format!("[{:6}]", LnE::ONE), "[   1.0]");
    }

    #[test]
    fn averages_and_bounds() {
        let e = |e: f64| LnE::from_ln(e.ln());
        assert!((LnE::average(&[e(3.0), e(1.0)]).ln() - 2f64.ln()).abs() < 1e-15);
        assert_eq!(LnE::average(&[]), LnE::ONE);
        assert_eq!(e(0.5).to_p(), LnP::ONE);
        assert!((e(40.0).to_p().ln() - 0.025f64.ln()).abs() < 1e-14);
        assert!(e(0.0).ln().is_finite() && e(f64::INFINITY).to_p().ln().is_finite());
        let text = serde_json::to_string(&LnE::from_ln(300.0 * LN_10)).unwrap();
        assert_eq!(text, "300.0");
        assert_eq!(serde_json::from_str::<LnE>(&text).unwrap().log10(), 300.0);
    }

    #[test]
    fn the_grid_follows_from_the_law() {
        assert_eq!(Mixture::standard(GREEN).tilts().len(), 19);
        assert_eq!(Mixture::standard(GUMBEL).tilts().len(), 19);
        let fair = Mixture::standard(Null::Binomial {
            trials: 1,
            numerator: 1,
            bits: 1,
        });
        // A fair coin cannot move by its standard deviation.
        assert_eq!(fair.tilts().len(), 18);
        assert!(fair.tilts().all(|theta| theta > 0.0 && theta.is_finite()));
        assert_eq!(fair.ln_e(0, 0), LnE::ONE);
    }

    /// Exact: the mean over all outcomes.
    #[test]
    fn mean_one_at_any_fixed_number() {
        let rare = Null::Binomial {
            trials: 2,
            numerator: 200,
            bits: 16,
        };
        for null in [GREEN, TOURNAMENT, rare] {
            let mixture = Mixture::standard(null);
            let p = null.probability();
            for n in [1u64, 2, 7, 23, 60] {
                let coins = n * null.max().unwrap() as u64;
                let mean: f64 = (0..=coins)
                    .map(|sum| {
                        let ln = ln_binomial_pmf(sum as f64, coins as f64, p, 1.0 - p);
                        (ln + mixture.ln_e(n, sum).ln()).exp()
                    })
                    .sum();
                assert!((mean - 1.0).abs() < 1e-10, "{null:?} {n}: {mean}");
            }
        }
    }

    fn score(null: Null, rng: &mut ChaCha8Rng) -> u64 {
        match null {
            Null::Binomial { trials, .. } => {
                let threshold = (null.probability() * 2f64.powi(32)) as u64;
                (0..trials)
                    .filter(|_| u64::from(rng.next_u32()) < threshold)
                    .count() as u64
            }
            Null::Gamma { shape } => (0..shape).map(|_| neg_ln_q24(rng.next_u32())).sum(),
            Null::List { .. } => unreachable!("drawn by no test here"),
        }
    }

    /// Null: real scores of fresh words; E stopped at the first E >= 20, at latest after 400 cells. 20,000 runs a
    /// law; six looks, alpha 1e-4 altogether: the mean of E is at most 1 (a mean of 1.15 would be seen) and for exact
    /// laws also not far below, and at most 5 % of the runs reach 20 (5.8 % would be seen).
    #[test]
    fn mean_at_most_one_when_stopped() {
        let (runs, alpha) = (20_000u64, 0.05);
        for (null, seed) in [(GREEN, 1), (GUMBEL, 2), (Null::Gamma { shape: 2 }, 3)] {
            let mixture = Mixture::standard(null);
            let boundary: Vec<f64> = (0..=400)
                .map(|n| mixture.boundary(f64::from(n), alpha))
                .collect();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut total, mut squares, mut reached) = (0.0, 0.0, 0);
            for _ in 0..runs {
                let (mut sum, mut n) = (0, 0);
                let crossed = loop {
                    sum += score(null, &mut rng);
                    n += 1;
                    let excess = null.natural(sum) - n as f64 * null.mean();
                    if excess >= boundary[n as usize] {
                        break true;
                    }
                    if n == 400 {
                        break false;
                    }
                };
                let e = mixture.ln_e(n, sum).ln().exp();
                assert_eq!(crossed, e >= 20.0 * (1.0 - 1e-9));
                total += e;
                squares += e * e;
                reached += u64::from(crossed);
            }
            let mean = total / runs as f64;
            let error = ((squares / runs as f64 - mean * mean) / runs as f64).sqrt();
            println!("{null:?}: mean {mean:.3} +- {error:.3}, {reached} reached 20");
            assert!(mean < 1.0 + 4.5 * error && 4.5 * error < 0.15);
            assert!(mean > 1.0 - 4.5 * error, "the martingale loses mass");
            assert!(reached <= *simultaneous_band(runs, alpha, 6, 0.9999).end());
        }
    }

    #[test]
    fn a_marked_text_is_found_and_the_boundary_is_where_it_says() {
        let mixture = Mixture::standard(GREEN);
        assert!(mixture.ln_e(1000, 350).ln() > 1e5f64.ln());
        assert!(mixture.ln_e(1000, 250).ln() < 0.0);
        for n in [10.0, 1e3, 1e6] {
            let excess = mixture.boundary(n, 1e-5);
            assert!(mixture.ln_e_of_excess(n, excess).ln() >= 1e5f64.ln());
            assert!(mixture.ln_e_of_excess(n, 0.999999 * excess).ln() < 1e5f64.ln());
        }
    }

    #[test]
    fn futility_by_its_rule() {
        for (null, effect) in [(GREEN, 0.1), (GUMBEL, 0.2), (TOURNAMENT, 1.0)] {
            let mixture = Mixture::standard(null);
            let sum = |n: u64, mean: f64| (n as f64 * mean * null.unit()) as u64;
            let (null_mean, marked) = (null.mean(), null.mean() + effect);
            let at = |n, mean, planned| mixture.futility(n, sum(n, mean), planned, 1e-5, 0.05);
            // Nothing seen after nearly all of the plan; an effect as planned; nothing seen, but hardly begun.
            assert!(at(9_000, null_mean, 10_000).futile);
            assert!(!at(2_000, marked, 10_000).futile);
            assert!(!at(20, null_mean, 10_000).futile);
            // At the plan's end it is futile unless E is there.
            let limit = at(1000, null_mean, 1000);
            assert!(limit.futile && limit.effect > null_mean);
            assert!(!at(10_000, marked, 10_000).futile);
        }
        // Clopper and Pearson: 0 of 10 at 95 % is 1 - 0.05^(1/10).
        let found = Mixture::standard(GREEN).futility(10, 0, 100, 1e-5, 0.05);
        assert!((found.effect - (1.0 - 0.05f64.powf(0.1))).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn grows_in_the_sum(n in 1u64..5000, share in 0.0..0.99f64) {
            let mixture = Mixture::standard(GREEN);
            let sum = (n as f64 * share) as u64;
            prop_assert!(mixture.ln_e(n, sum + 1) > mixture.ln_e(n, sum));
        }

        #[test]
        fn never_displayed_as_zero(ln in -1e4..1e4f64) {
            let text = LnE::from_ln(ln).to_string();
            prop_assert!(text.starts_with("10^") || text.parse::<f64>().unwrap() > 0.0, "{}", text);
        }
    }
}
