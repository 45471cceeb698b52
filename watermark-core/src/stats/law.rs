//! The laws that scores have when text and key are independent. A scheme names one; everything
//! in [`stats`](super) works from it.

use super::LnP;
use super::tail::{ln_binomial_cdf, ln_binomial_sf, ln_gamma_cdf, ln_gamma_sf};

/// The law of a sum of scores over n distinct cells when text and key are independent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "law")]
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
}

impl Null {
    /// Success probability of a coin, exactly representable; 1 for [`Null::Gamma`].
    fn probability(&self) -> f64 {
        match *self {
            Self::Binomial {
                numerator, bits, ..
            } => f64::from(numerator) / (1u64 << bits) as f64,
            Self::Gamma { .. } => 1.0,
        }
    }

    fn unit(&self) -> f64 {
        match self {
            Self::Binomial { .. } => 1.0,
            Self::Gamma { .. } => f64::from(1u32 << crate::fixed::SCORE_BITS),
        }
    }

    /// Mean of a cell's score, in natural units.
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Binomial { trials, .. } => f64::from(trials) * self.probability(),
            Self::Gamma { shape } => f64::from(shape),
        }
    }

    /// Variance of a cell's score, in natural units.
    pub fn variance(&self) -> f64 {
        match *self {
            Self::Binomial { .. } => self.mean() * (1.0 - self.probability()),
            Self::Gamma { shape } => f64::from(shape),
        }
    }

    /// A sum of scores in natural units (successes, or nats).
    pub fn natural(&self, sum: u64) -> f64 {
        sum as f64 / self.unit()
    }

    /// `ln P(S >= sum)` over `cells` cells; 0 where there are none.
    pub fn upper_tail(&self, cells: u64, sum: u64) -> LnP {
        self.tail(cells, sum, ln_binomial_sf, ln_gamma_sf)
    }

    /// `ln P(S <= sum)`, for the diagnostic reading of a strongly negative z.
    pub fn lower_tail(&self, cells: u64, sum: u64) -> LnP {
        self.tail(cells, sum, ln_binomial_cdf, ln_gamma_cdf)
    }

    fn tail(
        &self,
        cells: u64,
        sum: u64,
        binomial: fn(u64, u64, f64, f64) -> LnP,
        gamma: fn(f64, f64) -> LnP,
    ) -> LnP {
        if cells == 0 {
            return LnP::ONE;
        }
        match *self {
            Self::Binomial { trials, .. } => {
                let p = self.probability();
                binomial(sum, cells * u64::from(trials), p, 1.0 - p)
            }
            Self::Gamma { shape } => gamma(cells as f64 * f64::from(shape), self.natural(sum)),
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
