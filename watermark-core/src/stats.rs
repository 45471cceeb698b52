//! TEST: scores to p-values, in logarithms throughout.
//!
//! A p-value of this project is exact or it is not printed, and most of the interesting ones lie far
//! below the smallest `f64`. So a p-value is its logarithm, [`LnP`], from the tail to the report:
//!
//! - [`law`]: the laws of scores under the null hypothesis;
//! - [`tail`]: the exact tails of the binomial and the gamma law;
//! - [`weighted`]: the law of a sum of scores with fixed weights;
//! - [`decoy`]: ranks among decoy keys, and whether many p-values look uniform;
//! - [`evalue`]: evidence that may be looked at any time;
//! - [`combine`]: many tests at once;
//! - [`power`]: how many cells a test needs;
//! - [`size`]: what a discrete test can attain, and how many false alarms are too many.

pub mod combine;
pub mod decoy;
pub mod draws;
pub mod evalue;
pub mod law;
pub mod power;
pub mod size;
pub mod tail;
pub mod weighted;

use std::cmp::Ordering;
use std::f64::consts::LN_10;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Natural logarithm of a p-value: finite and never above 0.
///
/// Displayed as a p-value, never as `0`:
///
/// ```
/// use watermark_core::stats::LnP;
///
/// assert_eq!(LnP::ONE.to_string(), "1.00");
/// assert_eq!(LnP::from_ln(-3.38).to_string(), "0.034");
/// assert_eq!(LnP::from_ln(-662.09).to_string(), "2.9e-288");
/// assert_eq!(LnP::from_ln(-14389.8).to_string(), "10^-6249.4");
/// ```
///
/// Through serde it is the number log10 p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LnP(f64);

impl LnP {
    /// p = 1: nothing was observed, or nothing speaks against the null hypothesis.
    pub const ONE: Self = Self(0.0);

    /// The p-value with natural logarithm `ln`. Rounding noise above 0 becomes 0, and minus infinity the
    /// lowest finite number.
    ///
    /// NaN is a bug of the caller: debug builds panic, release builds take p = 1, the side on which
    /// nobody is accused.
    pub fn from_ln(ln: f64) -> Self {
        debug_assert!(!ln.is_nan(), "the logarithm of a p-value is NaN");
        // Not `min`: it may keep the sign of -0.0, and evidence would then say "-0.0".
        if ln < 0.0 {
            Self(ln.max(f64::MIN))
        } else {
            Self::ONE
        }
    }

    /// ln p.
    pub fn ln(self) -> f64 {
        self.0
    }

    /// log10 p.
    pub fn log10(self) -> f64 {
        self.0 / LN_10
    }

    /// The p-value of the best of `m` tests, however they depend on each other: min(1, m p).
    /// `m` counts every test that was run, not only those that are shown; 0 is read as 1.
    #[must_use]
    pub fn bonferroni(self, m: u64) -> Self {
        Self::from_ln(self.0 + (m.max(1) as f64).ln())
    }

    /// At least 2^-bits for a keyed function with so few bits of key: whoever tries all keys finds one that does as
    /// well.
    #[must_use]
    pub fn of_key_bits(self, bits: Option<u32>) -> Self {
        match bits {
            Some(bits) => self.max(Self(-f64::from(bits) * std::f64::consts::LN_2)),
            None => self,
        }
    }
}

// Total, because NaN is excluded by construction.
impl Eq for LnP {}

impl Ord for LnP {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for LnP {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Two digits: `0.50`, `0.034`, `2.9e-288`; below 1e-300 the exponent alone, `10^-6249.4`. A width is
/// honoured, a precision is not: it could cut off the exponent.
impl fmt::Display for LnP {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log10 = self.log10();
        let p = self.0.exp();
        let text = if log10 < -300.0 {
            format!("10^{log10:.1}")
        } else if p < 1e-3 {
            format!("{p:.1e}")
        } else {
            let decimals = (1.0 - log10.floor()).max(2.0) as usize;
            format!("{p:.decimals$}")
        };
        write!(f, "{text:>width$}", width = f.width().unwrap_or(0))
    }
}

impl Serialize for LnP {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.log10())
    }
}

impl<'de> Deserialize<'de> for LnP {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let log10 = f64::deserialize(deserializer)?;
        if log10 <= 0.0 {
            Ok(Self::from_ln(ln_of(log10)))
        } else {
            Err(de::Error::custom("log10 of a p-value must be at most 0"))
        }
    }
}

/// The natural logarithm that is written as this log10, so that what was read is written as it was. Of several
/// such the one nearest to the product; where there is none, the product.
fn ln_of(log10: f64) -> f64 {
    let product = log10 * LN_10;
    let (up, down) = (product.next_up(), product.next_down());
    [product, up, down, up.next_up(), down.next_down()]
        .into_iter()
        .find(|ln| ln / LN_10 == log10)
        .unwrap_or(product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn display_in_every_range() {
        let show = |p: f64| LnP::from_ln(p.ln()).to_string();
        for (p, text) in [
            (1.0, "1.00"),
            (0.996, "1.00"),
            (0.5, "0.50"),
            (0.1, "0.10"),
            (0.0996, "0.100"),
            (0.034, "0.034"),
            (0.00123, "0.0012"),
            (1.0 / 4064.0, "2.5e-4"),
            (9.96e-5, "1.0e-4"),
            (1.2e-299, "1.2e-299"),
        ] {
            assert_eq!(show(p), text, "{p}");
        }
        assert_eq!(LnP::from_ln(-301_030.0 * LN_10).to_string(), "10^-301030.0");
        assert_eq!(format!("[{:9}]", LnP::ONE), "[     1.00]");
        assert_eq!(format!("{:.1}", LnP::from_ln(-662.09)), "2.9e-288");
    }

    #[test]
    fn rounding_noise_and_extremes() {
        assert_eq!(LnP::from_ln(1e-16), LnP::ONE);
        assert!(LnP::from_ln(-0.0).ln().is_sign_positive());
        assert!(LnP::from_ln(f64::NEG_INFINITY).ln().is_finite());
        assert!(
            LnP::from_ln(f64::NEG_INFINITY)
                .bonferroni(7)
                .ln()
                .is_finite()
        );
        assert_eq!(LnP::from_ln(-1.0).bonferroni(3), LnP::ONE);
    }

    #[test]
    #[should_panic(expected = "NaN")]
    #[cfg(debug_assertions)]
    fn nan_is_a_bug() {
        LnP::from_ln(f64::NAN);
    }

    #[test]
    fn serialised_as_log10() {
        let p = LnP::from_ln(-301_030.0 * LN_10);
        let text = serde_json::to_string(&p).unwrap();
        assert_eq!(text, "-301030.0");
        assert_eq!(serde_json::from_str::<LnP>(&text).unwrap(), p);
        assert_eq!(serde_json::to_string(&LnP::ONE).unwrap(), "0.0");
        assert!(serde_json::from_str::<LnP>("0.1").is_err());
    }

    proptest! {
        #[test]
        fn what_was_read_is_written_as_it_was(ln in -1e9..0.0f64) {
            let json = serde_json::to_string(&LnP::from_ln(ln)).unwrap();
            let read: LnP = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }

        #[test]
        fn never_displayed_as_zero(magnitude in -20.0..308.0f64) {
            let text = LnP::from_ln(-(10f64.powf(magnitude))).to_string();
            let nonzero = text.starts_with("10^-") || text.parse::<f64>().unwrap() > 0.0;
            prop_assert!(nonzero, "{}", text);
        }
    }
}
