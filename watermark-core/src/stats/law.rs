//! The laws that scores have when text and key are independent. A scheme names one; everything
//! in [`stats`](super) works from it.

use super::LnP;
use super::tail::{deviance, ln_binomial_cdf, ln_binomial_sf, ln_gamma_sf};
use super::weighted::WeightedLaw;
use crate::fixed::SCORE_BITS;

/// The law of a sum of scores over n distinct cells when text and key are independent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "law", deny_unknown_fields)]
pub enum Null {
    /// `Binomial(n * trials, numerator / 2^bits)`: a cell is so many coins.
    Binomial {
        /// Coins a cell: 1 for a green list, the depth for a tournament.
        trials: u32,
        /// Numerator T of the success probability T / 2^bits.
        numerator: u32,
        /// Binary logarithm of its denominator.
        bits: u32,
    },
    /// `Gamma(n * shape, 1)` in units of `2^-SCORE_BITS`: a cell is a sum of `shape`
    /// exponentials. Scores are rounded down, so the tail is an upper bound of the true one.
    Gamma {
        /// Exponentials a cell: 1, or 2 for dual keys.
        shape: u32,
    },
    /// A cell is a success if its token stands in its row's list, a keyed random choice of `size` out of the
    /// `of` tokens of the vocabulary: mean `size / of`. Cells of different rows are independent, those of
    /// one row hypergeometric. All tails and cumulants are those of `Binomial(n, size / of)`, which bound it:
    ///
    /// - **Weight 1.** The count of one row is hypergeometric, whose generating function has real roots only, so it
    ///   is a sum of independent coins of unequal chance (V. A. Vatutin and V. G. Mikhailov, Theory Probab. Appl.
    ///   27, 734, 1982), and so is the count over all rows. Of all such sums with one mean n p the binomial one
    ///   has the heaviest tails: `P(S >= k)` is at most the binomial tail for `k >= n p + 1`, and `P(S <= k)`
    ///   for `k <= n p - 1` (W. Hoeffding, Ann. Math. Stat. 27, 713, 1956, theorem 4). Within one success of the
    ///   mean, where p is near 1/2, nothing is claimed.
    /// - **Weights of one sign.** Membership of a row's tokens is negatively associated (K. Joag-Dev and
    ///   F. Proschan, Ann. Stat. 11, 286, 1983), so the moment generating function of the weighted sum is at
    ///   most the product of those of its terms: Chernoff's bound holds. Only that bound is used.
    /// - **Weights of both signs.** The variance of a row is at most `of / (of - 1)` times that of independent
    ///   coins; Chernoff's bound leaves a factor of about `z sqrt(2 pi)` for this part in 30,000.
    /// - **E-values** hold, by the same association, for a number of cells that does not depend on the key. Under
    ///   stopping a factor's mean given the past can exceed 1: after j cells of its row by one part in `of / j` at most.
    List {
        /// Tokens in a list.
        size: u32,
        /// Tokens of the vocabulary.
        of: u32,
    },
}

/// The cumulant function `k(t) = ln E exp(t (s - mean))` of one cell's centred score at one tilt t, with
/// its first two derivatives, in natural units (successes, or nats).
///
/// `k1` is how far the mean moves when the law is tilted by e^(t s), `k2` the tilted variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cumulant {
    /// k(t), never below 0 for an exact law.
    pub k: f64,
    /// k'(t).
    pub k1: f64,
    /// k''(t), never negative.
    pub k2: f64,
}

impl Cumulant {
    const OUTSIDE: Self = Self {
        k: f64::INFINITY,
        k1: f64::INFINITY,
        k2: f64::INFINITY,
    };
}

impl Null {
    /// Coins of a cell, where its score counts successes.
    pub fn coins(&self) -> Option<u32> {
        match *self {
            Self::Binomial { trials, .. } => Some(trials),
            Self::List { .. } => Some(1),
            Self::Gamma { .. } => None,
        }
    }

    /// Success probability of a coin, for [`Null::Binomial`] exactly representable; 1 for [`Null::Gamma`].
    pub(super) fn probability(&self) -> f64 {
        match *self {
            Self::List { size, of } => f64::from(size) / f64::from(of),
            Self::Binomial {
                numerator, bits, ..
            } => f64::from(numerator) / (1u64 << bits) as f64,
            Self::Gamma { .. } => 1.0,
        }
    }

    /// Lattice units of a score in one natural unit.
    pub(super) fn unit(&self) -> f64 {
        match self {
            Self::Binomial { .. } | Self::List { .. } => 1.0,
            Self::Gamma { .. } => f64::from(1u32 << SCORE_BITS),
        }
    }

    /// Mean of a cell's score, in natural units.
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Binomial { trials, .. } => f64::from(trials) * self.probability(),
            Self::List { .. } => self.probability(),
            Self::Gamma { shape } => f64::from(shape),
        }
    }

    /// Variance of a cell's score, in natural units.
    pub fn variance(&self) -> f64 {
        match *self {
            Self::Binomial { .. } | Self::List { .. } => self.mean() * (1.0 - self.probability()),
            Self::Gamma { shape } => f64::from(shape),
        }
    }

    /// Largest score of a cell in natural units; none for the ideal gamma law.
    pub fn max(&self) -> Option<f64> {
        self.coins().map(f64::from)
    }

    /// The cumulant function of a cell's centred score, or an upper bound of it that holds for the scores
    /// as they are computed. Plus infinity outside its domain: for [`Null::Gamma`], t >= 1.
    ///
    /// Binomial, exact: `m ln(q e^(-pt) + p e^(qt))`, in a form without cancellation at t = 0.
    ///
    /// Gamma, per exponential, where the score is `-ln((r + 1) / N)`, N = 2^32, r uniform on 0..N, rounded
    /// down by at most d = 2^-23:
    /// - t >= 0: `-ln(1 - t) - t`, the ideal law's. It is a bound, because the score is stochastically
    ///   below an exponential.
    /// - t = -u < 0: `ln(1 / (1 + u) + 1 / N) + u d + u`. E exp(-u s) is at most e^(u d) times the mean of
    ///   x^u over the grid x = 1/N, 2/N, .., 1. That mean is the right Riemann sum of an increasing function,
    ///   so above its integral 1 / (1 + u) by at most (1 - 0) / N.
    ///
    /// The centre is the nominal mean on both sides, so below 0 `k` does not vanish as t -> 0 but falls to
    /// 2.3e-10 an exponential.
    pub fn cumulant(&self, t: f64) -> Cumulant {
        match *self {
            Self::Gamma { shape } if t < 0.0 => {
                let (a, u) = (f64::from(shape), -t);
                let (grid, rounding) = (2f64.powi(-32), 2f64.powi(1 - SCORE_BITS as i32));
                let excess = grid * (1.0 + u);
                let scale = (1.0 + u) * (1.0 + excess);
                Cumulant {
                    k: a * (deviance(1.0, 1.0 + u, -u) + excess.ln_1p() + u * rounding),
                    k1: a * (1.0 / scale - rounding - 1.0),
                    k2: a * (1.0 + 2.0 * excess) / (scale * scale),
                }
            }
            _ => self.ideal_cumulant(t),
        }
    }

    /// The cumulant function of the ideal law, without the rounding of gamma scores: exact for both.
    pub(super) fn ideal_cumulant(&self, t: f64) -> Cumulant {
        match *self {
            Self::Binomial { .. } | Self::List { .. } => {
                let (m, p) = (self.coins().map_or(1.0, f64::from), self.probability());
                let q = 1.0 - p;
                // Both sides by the exponential that cannot overflow.
                let (x, grown) = ((-t.abs()).exp(), (-t.abs()).exp_m1());
                let (tilted, rest, shift) = if t > 0.0 {
                    let norm = p + q * x;
                    (p / norm, q * x / norm, -p * q * grown / norm)
                } else {
                    let norm = q + p * x;
                    (p * x / norm, q / norm, p * q * grown / norm)
                };
                let k = if t.abs() <= 1.0 {
                    // Two terms that are never negative: the linear parts have cancelled on paper.
                    (q * exp_m1_minus(-p * t) + p * exp_m1_minus(q * t)).ln_1p()
                } else if t > 0.0 {
                    t * q + ln_share(p, q, x, grown)
                } else {
                    -t * p + ln_share(q, p, x, grown)
                };
                Cumulant {
                    k: m * k,
                    k1: m * shift,
                    k2: m * tilted * rest,
                }
            }
            Self::Gamma { .. } if t >= 1.0 => Cumulant::OUTSIDE,
            Self::Gamma { shape } => {
                let (a, rest) = (f64::from(shape), 1.0 - t);
                Cumulant {
                    k: a * deviance(1.0, rest, t),
                    k1: a * t / rest,
                    k2: a / (rest * rest),
                }
            }
        }
    }

    /// The tilt that moves the mean of a cell's ideal score by `shift` natural units; none where no tilt
    /// does: the new mean would leave the law's support.
    pub(super) fn tilt(&self, shift: f64) -> Option<f64> {
        let mean = self.mean() + shift;
        match self.coins() {
            Some(coins) => {
                let (p, tilted) = (self.probability(), mean / f64::from(coins));
                let odds = tilted * (1.0 - p) / (p * (1.0 - tilted));
                (tilted > 0.0 && tilted < 1.0).then(|| odds.ln())
            }
            None => (mean > 0.0).then(|| shift / mean),
        }
    }

    /// A sum of scores in natural units (successes, or nats).
    pub fn natural(&self, sum: u64) -> f64 {
        sum as f64 / self.unit()
    }

    /// `ln P(S >= sum)` over `cells` cells; 0 where there are none.
    pub fn upper_tail(&self, cells: u64, sum: u64) -> LnP {
        match *self {
            _ if cells == 0 => LnP::ONE,
            Self::Binomial { .. } | Self::List { .. } => {
                let (p, coins) = (self.probability(), self.coins().unwrap_or(1));
                ln_binomial_sf(sum, cells * u64::from(coins), p, 1.0 - p)
            }
            Self::Gamma { shape } => {
                ln_gamma_sf(cells as f64 * f64::from(shape), self.natural(sum))
            }
        }
    }

    /// `ln P(S <= sum)`, for the diagnostic reading of a strongly negative z: exact for binomial scores. Gamma scores
    /// are rounded down, so that the gamma law's own lower tail would be too small: for them it is
    /// Chernoff's bound, which covers the rounding.
    pub fn lower_tail(&self, cells: u64, sum: u64) -> LnP {
        match *self {
            _ if cells == 0 => LnP::ONE,
            Self::Binomial { .. } | Self::List { .. } => {
                let (p, coins) = (self.probability(), self.coins().unwrap_or(1));
                ln_binomial_cdf(sum, cells * u64::from(coins), p, 1.0 - p)
            }
            Self::Gamma { .. } => {
                WeightedLaw::of_classes(*self, [(-1, cells)]).chernoff(-i128::from(sum))
            }
        }
    }

    /// Standard score of a sum: a figure for the eye, never the p-value.
    pub fn z(&self, cells: u64, sum: u64) -> f64 {
        if cells == 0 {
            return 0.0;
        }
        let n = cells as f64;
        (self.natural(sum) - n * self.mean()) / (n * self.variance()).sqrt()
    }
}

/// ln(a + b x) for a + b = 1 and x = 1 + `grown` in (0, 1), from whichever end keeps the digits.
fn ln_share(a: f64, b: f64, x: f64, grown: f64) -> f64 {
    if a < 0.5 {
        (a + b * x).ln()
    } else {
        (b * grown).ln_1p()
    }
}

/// e^x - 1 - x, to a relative error of 1e-14.
fn exp_m1_minus(x: f64) -> f64 {
    const RECIPROCAL: [f64; 9] = [
        1.0 / 11.0,
        1.0 / 10.0,
        1.0 / 9.0,
        1.0 / 8.0,
        1.0 / 7.0,
        1.0 / 6.0,
        1.0 / 5.0,
        1.0 / 4.0,
        1.0 / 3.0,
    ];
    if x.abs() > 0.1 {
        return x.exp_m1() - x;
    }
    // x^2 / 2 (1 + x/3 (1 + x/4 (1 + ..))): these factors leave out less than 1e-16.
    let nested = RECIPROCAL.iter().fold(1.0, |inner, r| 1.0 + x * r * inner);
    0.5 * x * x * nested
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::neg_ln_q24;
    use proptest::prelude::*;

    const GREEN: Null = Null::Binomial {
        trials: 1,
        numerator: 1,
        bits: 2,
    };

    fn any_null() -> impl Strategy<Value = Null> {
        prop_oneof![
            (1u32..40, 1u32..65536).prop_map(|(trials, numerator)| Null::Binomial {
                trials,
                numerator,
                bits: 16
            }),
            (1u32..4).prop_map(|shape| Null::Gamma { shape }),
        ]
    }

    #[test]
    fn full_precision_near_zero() {
        // k(t) = v t^2 / 2 + c t^3 / 6 + ..; the naive form has lost every digit at 1e-9.
        for (null, third) in [(GREEN, 0.09375), (Null::Gamma { shape: 2 }, 4.0)] {
            for t in [1e-9f64, 1e-7, -1e-7, 1e-5] {
                let got = null.ideal_cumulant(t).k;
                let want = null.variance() * t * t / 2.0 + third * t.powi(3) / 6.0;
                assert!(
                    (got / want - 1.0).abs() < 1e-9,
                    "{null:?} {t}: {got:e} {want:e}"
                );
            }
        }
        assert_eq!(GREEN.cumulant(0.0).k, 0.0);
        assert_eq!(Null::Gamma { shape: 1 }.cumulant(0.0).k, 0.0);
    }

    #[test]
    fn far_out_and_outside() {
        let far = GREEN.cumulant(5000.0);
        assert!((far.k - (0.75 * 5000.0 + 0.25f64.ln())).abs() < 1e-9);
        assert!((far.k1 - 0.75).abs() < 1e-15 && far.k2 == 0.0);
        let far = GREEN.cumulant(-5000.0);
        assert!((far.k - (0.25 * 5000.0 + 0.75f64.ln())).abs() < 1e-9);
        assert_eq!(Null::Gamma { shape: 1 }.cumulant(1.0).k, f64::INFINITY);
    }

    /// The bound against the mean of the real scores. A systematic sample of the words, in
    /// blocks so fine that the missed part is below 1e-6 of the mean.
    #[test]
    fn gamma_bound_holds_for_rounded_scores() {
        let stride = 1u64 << 12;
        let words = || (0..1u64 << 20).map(move |i| (i * stride + stride / 2) as u32);
        for t in [-30.0, -3.0, -0.5, -0.01, 0.01, 0.3, 0.45] {
            let mean = words()
                .map(|r| (t * (neg_ln_q24(r) as f64 / f64::from(1u32 << SCORE_BITS) - 1.0)).exp())
                .sum::<f64>()
                / (1u64 << 20) as f64;
            let bound = Null::Gamma { shape: 1 }.cumulant(t).k;
            assert!(mean.ln() <= bound + 1e-6, "{t}: {} {bound}", mean.ln());
            assert!(mean.ln() >= bound - 1e-3, "{t}: {} {bound}", mean.ln());
        }
    }

    /// P(k of n tokens are in a list of g out of v).
    fn hypergeometric(v: u32, g: u32, n: u32) -> Vec<f64> {
        let choose = |n: u32, k: u32| -> f64 {
            (0..k)
                .map(|i| f64::from(n - i) / f64::from(i + 1))
                .product()
        };
        (0..=n)
            .map(|k| {
                if k > g || n - k > v - g {
                    0.0
                } else {
                    choose(g, k) * choose(v - g, n - k) / choose(v, n)
                }
            })
            .collect()
    }

    /// Exactly, on small lists, where dependence is strong: the binomial tails bound those of sums over rows.
    #[test]
    fn lists_are_within_the_binomial_law() {
        for (size, of, rows) in [
            (5, 20, vec![10, 3, 1]),
            (10, 20, vec![20, 7, 7]),
            (2, 9, vec![9, 9, 4, 2, 1]),
            (3, 4, vec![4, 3, 3, 2]),
            (250, 1000, vec![100, 40, 7, 1]),
        ] {
            let law = Null::List { size, of };
            let mut counts = vec![1.0];
            for &n in &rows {
                let one = hypergeometric(of, size, n);
                let mut both = vec![0.0; counts.len() + one.len() - 1];
                for (i, a) in counts.iter().enumerate() {
                    for (j, b) in one.iter().enumerate() {
                        both[i + j] += a * b;
                    }
                }
                counts = both;
            }
            let cells: u32 = rows.iter().sum();
            let mean = f64::from(cells) * law.mean();
            let (mut compared, mut strict) = (0, 0);
            for k in 0..=cells as usize {
                let (upper, lower): (f64, f64) =
                    (counts[k..].iter().sum(), counts[..=k].iter().sum());
                if k as f64 >= mean + 1.0 {
                    let bound = law.upper_tail(cells.into(), k as u64).ln().exp();
                    assert!(
                        upper <= bound * (1.0 + 1e-9),
                        "{law:?} {k}: {upper} {bound}"
                    );
                    compared += 1;
                    strict += usize::from(upper < 0.99 * bound);
                }
                if k as f64 <= mean - 1.0 {
                    let bound = law.lower_tail(cells.into(), k as u64).ln().exp();
                    assert!(
                        lower <= bound * (1.0 + 1e-9),
                        "{law:?} {k}: {lower} {bound}"
                    );
                }
            }
            assert!(compared > 2 && strict > 0, "{law:?}");
            // Chernoff's bound of a weighted sum, weights 1, 2, 3 by row in turn.
            let weights: Vec<(i64, u64)> = (1..)
                .map(|row: i64| 1 + row % 3)
                .zip(rows.iter().map(|&n| u64::from(n)))
                .collect();
            let mut sums = std::collections::BTreeMap::from([(0i128, 1.0)]);
            for (&n, &(weight, _)) in rows.iter().zip(&weights) {
                let mut next = std::collections::BTreeMap::new();
                for (k, p) in hypergeometric(of, size, n).into_iter().enumerate() {
                    for (sum, q) in &sums {
                        *next
                            .entry(sum + i128::from(weight) * k as i128)
                            .or_insert(0.0) += p * q;
                    }
                }
                sums = next;
            }
            let law = WeightedLaw::of_classes(law, weights);
            let most = *sums.keys().max().unwrap();
            for sum in 0..most {
                let tail: f64 = sums.range(sum..).map(|(_, p)| p).sum();
                let (p, method) = law.upper_tail(sum);
                assert!(tail.ln() <= p.ln() + 1e-9, "{sum}: {tail} {p}");
                let easy = p == LnP::ONE;
                assert!(easy || method == crate::stats::weighted::TailMethod::Chernoff);
            }
        }
    }

    proptest! {
        #[test]
        fn derivatives_are_differences(null in any_null(), t in -6.0..0.9f64) {
            prop_assume!(t.abs() > 1e-3);
            let h = 1e-4 * (1.0 - t).min(t.abs()).min(1.0);
            let (low, here, high) = (null.cumulant(t - h), null.cumulant(t), null.cumulant(t + h));
            let scale = 1.0 + here.k1.abs() + here.k2;
            prop_assert!(((high.k - low.k) / (2.0 * h) - here.k1).abs() < 1e-5 * scale);
            prop_assert!(((high.k1 - low.k1) / (2.0 * h) - here.k2).abs() < 1e-5 * scale.max(here.k2 / (1.0 - t)));
            prop_assert!(here.k2 > 0.0 && here.k > 0.0);
        }

        #[test]
        fn bound_is_never_below_the_ideal_law(null in any_null(), t in -50.0..0.99f64) {
            prop_assert!(null.cumulant(t).k >= null.ideal_cumulant(t).k);
        }

        #[test]
        fn tilt_moves_the_mean(null in any_null(), share in -0.95..0.95f64) {
            let shift = match null.max() {
                Some(max) if share > 0.0 => share * (max - null.mean()),
                _ => share * null.mean(),
            };
            let t = null.tilt(shift).unwrap();
            prop_assert!((null.ideal_cumulant(t).k1 - shift).abs() < 1e-9 * (1.0 + null.mean()));
        }
    }
}
