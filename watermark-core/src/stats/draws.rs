//! The exact law of a sum of independent draws from one finite set of integers.

use super::LnP;

/// Below this a probability of the table may have lost digits to underflow.
const SAFE: f64 = 1e-280;

/// S = X_1 + .. + X_m, the X independent with one law on the integers: of N equally likely outcomes, so many give
/// each value.
///
/// Tails are sums of positive products, so they keep their digits (1e-12 relative) down to 1e-280; beyond it is
/// Chernoff's bound.
#[derive(Clone, Debug)]
pub struct DrawSum {
    draws: u32,
    /// Smallest value of one draw, and the probabilities from there on.
    least: u64,
    one: Vec<f64>,
    /// P(S >= m least + i).
    upper: Vec<f64>,
    /// P(S <= m least + i).
    lower: Vec<f64>,
}

impl DrawSum {
    /// The law for `draws` draws, where the outcomes of one draw have these values. None for no draws or no outcomes.
    pub fn new(values: &[u64], draws: u32) -> Option<Self> {
        let (&least, &most) = (values.iter().min()?, values.iter().max()?);
        let mut one = vec![0.0; (most - least) as usize + 1];
        for &value in values {
            one[(value - least) as usize] += 1.0 / values.len() as f64;
        }
        let mut sum = vec![1.0];
        // From the highest bit down.
        for bit in (0..u32::BITS - draws.leading_zeros()).rev() {
            sum = convolved(&sum, &sum);
            if draws >> bit & 1 == 1 {
                sum = convolved(&sum, &one);
            }
        }
        let mut upper = sum.clone();
        for i in (1..upper.len()).rev() {
            upper[i - 1] += upper[i];
        }
        for i in 1..sum.len() {
            sum[i] += sum[i - 1];
        }
        (draws > 0).then_some(Self {
            draws,
            least,
            one,
            upper,
            lower: sum,
        })
    }

    /// Mean of S.
    pub fn mean(&self) -> f64 {
        let mean: f64 = self.terms().map(|(value, p)| value * p).sum();
        f64::from(self.draws) * mean
    }

    /// Variance of S.
    pub fn variance(&self) -> f64 {
        let mean = self.mean() / f64::from(self.draws);
        let squares = self.terms().map(|(value, p)| (value - mean).powi(2) * p);
        f64::from(self.draws) * squares.sum::<f64>()
    }

    /// Standard score of a sum; 0 where it cannot vary.
    pub fn z(&self, sum: u64) -> f64 {
        let sd = self.variance().sqrt();
        if sd > 0.0 {
            (sum as f64 - self.mean()) / sd
        } else {
            0.0
        }
    }

    fn terms(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let values = (0..).map(|i: u64| (self.least + i) as f64);
        values.zip(self.one.iter().copied())
    }

    /// `ln P(S >= sum)`.
    pub fn upper_tail(&self, sum: u64) -> LnP {
        let start = u64::from(self.draws) * self.least;
        if sum <= start {
            return LnP::ONE;
        }
        match self.upper.get((sum - start) as usize) {
            Some(&p) if p > SAFE => LnP::from_ln(p.ln().min(0.0)),
            _ => self.chernoff(sum as f64, 1.0),
        }
    }

    /// `ln P(S <= sum)`.
    pub fn lower_tail(&self, sum: u64) -> LnP {
        let start = u64::from(self.draws) * self.least;
        let last = self.lower.len() - 1;
        match sum
            .checked_sub(start)
            .map(|at| self.lower[(at as usize).min(last)])
        {
            Some(p) if p > SAFE => LnP::from_ln(p.ln().min(0.0)),
            _ => self.chernoff(sum as f64, -1.0),
        }
    }

    /// The least over tilts of `m ln E e^(t X) - t sum`, t of one sign: any t bounds the tail.
    fn chernoff(&self, sum: f64, sign: f64) -> LnP {
        let mean = self.mean() / f64::from(self.draws);
        let target = sum / f64::from(self.draws) - mean;
        let bound = |t: f64| {
            // In a form that cannot overflow.
            let largest = self
                .terms()
                .filter(|&(_, p)| p > 0.0)
                .map(|(value, _)| t * (value - mean))
                .fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = self
                .terms()
                .map(|(value, p)| p * (t * (value - mean) - largest).exp())
                .sum();
            f64::from(self.draws) * (largest + sum.ln() - t * target)
        };
        // The bound is convex in t: the golden section of its logarithmic scale.
        let (mut low, mut high) = (-20.0f64, 5.0f64);
        for _ in 0..60 {
            let (a, b) = (low + 0.382 * (high - low), low + 0.618 * (high - low));
            if bound(sign * a.exp()) < bound(sign * b.exp()) {
                high = b;
            } else {
                low = a;
            }
        }
        LnP::from_ln(bound(sign * (0.5 * (low + high)).exp()).min(0.0))
    }
}

fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut both = vec![0.0; a.len() + b.len() - 1];
    for (i, &x) in a.iter().enumerate().filter(|&(_, &x)| x > 0.0) {
        for (to, &y) in both[i..].iter_mut().zip(b) {
            *to += x * y;
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tail::{ln_binomial_cdf, ln_binomial_sf};

    /// Draws of one coin in four are a binomial law; so are its bounds beyond the table.
    #[test]
    fn coins_give_the_binomial_law() {
        let law = DrawSum::new(&[3, 2, 2, 2], 30).unwrap();
        assert!((law.mean() - 67.5).abs() < 1e-12 && (law.variance() - 5.625).abs() < 1e-12);
        for k in 0..=30 {
            let (upper, lower) = (law.upper_tail(60 + k).ln(), law.lower_tail(60 + k).ln());
            assert!((upper - ln_binomial_sf(k, 30, 0.25, 0.75).ln()).abs() < 1e-11);
            assert!((lower - ln_binomial_cdf(k, 30, 0.25, 0.75).ln()).abs() < 1e-11);
        }
        assert_eq!(law.upper_tail(0), LnP::ONE);
        assert!((DrawSum::new(&[1, 0], 255).unwrap().upper_tail(255).ln() + 176.75).abs() < 0.01);
        let far = DrawSum::new(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 400).unwrap();
        let (bound, exact) = (
            far.upper_tail(390).ln(),
            ln_binomial_sf(390, 400, 0.1, 0.9).ln(),
        );
        assert!(
            exact < -800.0 && bound >= exact && bound < exact + 5.0,
            "{bound} {exact}"
        );
        assert!(DrawSum::new(&[], 3).is_none() && DrawSum::new(&[1], 0).is_none());
    }
}
