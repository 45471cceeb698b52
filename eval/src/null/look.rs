//! What is counted, and the bands that it must lie in.

use serde::Serialize;
use watermark_core::stats::size::simultaneous_band;
use watermark_core::stats::tail::ln_gamma_sf;

/// Probability that all bands hold, if every test does.
pub const CONFIDENCE: f64 = 0.999;

/// What is claimed of a number, and so what its band is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// It is this: a band on both sides.
    Exact,
    /// It is at most this: a band above.
    AtMost,
    /// Nothing: a practice that is known not to hold, shown beside those that do.
    Invalid,
}

/// What a number is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The part of the tier.
    pub part: &'static str,
    /// The profile, or all of them.
    pub profile: String,
    /// The test.
    pub test: String,
    /// What text it was applied to.
    pub text: &'static str,
}

/// Rejections of a test at one level.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Of what.
    #[serde(flatten)]
    pub subject: Subject,
    /// Nominal level.
    pub alpha: f64,
    /// Trials, each under a key of its own.
    pub trials: u64,
    /// Rejections.
    pub rejected: u64,
    /// Mean probability of a rejection, or the most that it may be.
    pub size: f64,
    /// Which of the two.
    pub claim: Claim,
    /// Least and most that pass.
    pub band: (u64, u64),
    /// Whether the count lies in the band.
    pub holds: bool,
}

/// A mean over keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mean {
    /// Of what.
    #[serde(flatten)]
    pub subject: Subject,
    /// `z`, `z^2` or `e`.
    pub quantity: &'static str,
    /// Trials, each under a key of its own.
    pub trials: u64,
    /// The mean.
    pub mean: f64,
    /// Its standard error: from the trials, or the null's own where that is larger. A few trials of a skewed number
    /// often underestimate it, and then an honest mean would fall out of its band.
    pub error: f64,
    /// Under the null hypothesis.
    pub expected: f64,
    /// Whether exactly so.
    pub claim: Claim,
    /// Least and most that pass: normal limits, so about right for this many trials.
    pub band: (f64, f64),
    /// Whether the mean lies in the band.
    pub holds: bool,
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Looks {
    /// Rejections.
    pub counts: Vec<Count>,
    /// Means.
    pub means: Vec<Mean>,
    /// (test, key) pairs tried.
    pub pairs: u64,
    /// Times that a quick look and the whole test disagreed; must be 0.
    pub disagreements: u64,
}

impl Looks {
    /// Takes in rejections, without a band yet.
    pub fn count(&mut self, subject: &Subject, alpha: f64, tally: Tally, claim: Claim) {
        self.counts.push(Count {
            subject: subject.clone(),
            alpha,
            trials: tally.trials,
            rejected: tally.rejected,
            size: tally.size / tally.trials.max(1) as f64,
            claim,
            band: (0, 0),
            holds: false,
        });
    }

    /// Takes in a mean, without a band yet.
    pub fn mean(
        &mut self,
        subject: &Subject,
        quantity: &'static str,
        moments: Moments,
        expected: f64,
        claim: Claim,
    ) {
        self.means.push(Mean {
            subject: subject.clone(),
            quantity,
            trials: moments.trials,
            mean: moments.mean(),
            error: moments.error().max(null_error(quantity, moments.trials)),
            expected,
            claim,
            band: (0.0, 0.0),
            holds: false,
        });
    }

    /// Takes in an e-value, tried in blocks: its mean, and how often 1 / E is at most each level.
    pub fn settle<const N: usize>(
        &mut self,
        subject: &Subject,
        alphas: &[f64; N],
        blocks: &[([Tally; N], Moments)],
    ) {
        let (mut tallies, mut e) = ([Tally::default(); N], Moments::default());
        for (block, moments) in blocks {
            for (tally, other) in tallies.iter_mut().zip(block) {
                tally.merge(other);
            }
            e.merge(moments);
        }
        for (tally, &alpha) in tallies.into_iter().zip(alphas) {
            self.count(subject, alpha, tally, Claim::AtMost);
        }
        self.mean(subject, "e", e, 1.0, Claim::AtMost);
    }

    /// Adds another part.
    pub fn extend(&mut self, other: Self) {
        self.counts.extend(other.counts);
        self.means.extend(other.means);
        self.pairs += other.pairs;
        self.disagreements += other.disagreements;
    }

    /// Numbers about which something is claimed.
    pub fn claims(&self) -> u64 {
        let counts = self.counts.iter().map(|count| count.claim);
        let means = self.means.iter().map(|mean| mean.claim);
        let valid = |claim: &Claim| *claim != Claim::Invalid;
        counts.chain(means).filter(valid).count() as u64
    }

    /// Gives every number its band; all of them hold together with probability [`CONFIDENCE`].
    pub fn judge(&mut self) {
        let looks = self.claims();
        for count in &mut self.counts {
            let band = simultaneous_band(count.trials, count.size, looks, CONFIDENCE);
            let low = match count.claim {
                Claim::Exact => *band.start(),
                _ => 0,
            };
            count.band = (low, *band.end());
            count.holds = (low..=*band.end()).contains(&count.rejected);
        }
        let quantile = normal_quantile((1.0 - CONFIDENCE) / (2.0 * looks.max(1) as f64));
        for mean in &mut self.means {
            let slack = quantile * mean.error;
            let low = match mean.claim {
                Claim::Exact => mean.expected - slack,
                _ => f64::NEG_INFINITY,
            };
            mean.band = (low, mean.expected + slack);
            mean.holds = (low..=mean.expected + slack).contains(&mean.mean);
        }
    }

    /// Lines about the claims that did not hold.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for count in &self.counts {
            if !count.holds && count.claim != Claim::Invalid {
                failures.push(format!("{count:?}"));
            }
        }
        for mean in &self.means {
            if !mean.holds && mean.claim != Claim::Invalid {
                failures.push(format!("{mean:?}"));
            }
        }
        if self.disagreements > 0 {
            failures.push(format!(
                "{} quick looks and whole tests disagree",
                self.disagreements
            ));
        }
        failures
    }
}

/// The standard score that a normal variable exceeds with probability `p`, below one half.
fn normal_quantile(p: f64) -> f64 {
    // P(|Z| >= z) is the upper tail of Gamma(1/2) at z^2 / 2.
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..60 {
        let middle: f64 = 0.5 * (low + high);
        if ln_gamma_sf(0.5, 0.5 * middle * middle).ln() > (2.0 * p).ln() {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The standard error of a mean of standard scores or of their squares, of normal variables: the variances are 1 and 2.
fn null_error(quantity: &str, trials: u64) -> f64 {
    let variance: f64 = match quantity {
        "z" => 1.0,
        "z^2" => 2.0,
        _ => 0.0,
    };
    (variance / trials.max(1) as f64).sqrt()
}

/// Rejections being counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Trials.
    pub trials: u64,
    /// Rejections.
    pub rejected: u64,
    /// Sum over trials of the probability of a rejection.
    pub size: f64,
}

impl Tally {
    /// One more trial.
    pub fn push(&mut self, rejects: bool, size: f64) {
        self.trials += 1;
        self.rejected += u64::from(rejects);
        self.size += size;
    }

    /// Other trials of the same.
    pub fn merge(&mut self, other: &Self) {
        self.trials += other.trials;
        self.rejected += other.rejected;
        self.size += other.size;
    }
}

/// A mean being taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    trials: u64,
    sum: f64,
    squares: f64,
}

impl Moments {
    /// One more trial.
    pub fn push(&mut self, value: f64) {
        self.trials += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// Other trials of the same.
    pub fn merge(&mut self, other: &Self) {
        self.trials += other.trials;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.sum / self.trials.max(1) as f64
    }

    fn error(&self) -> f64 {
        let trials = self.trials.max(1) as f64;
        let variance = self.squares / trials - self.mean().powi(2);
        (variance.max(0.0) / trials).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_normal_law() {
        for (p, z) in [(0.025, 1.959_964), (1e-6, 4.753_424)] {
            assert!((normal_quantile(p) - z).abs() < 1e-5);
        }
    }

    /// Twenty squares that happen to lie close together, 1.8 standard errors below 1: no finding.
    #[test]
    fn few_trials_do_not_narrow_a_band() {
        let subject = Subject {
            part: "test",
            profile: String::new(),
            test: String::new(),
            text: "none",
        };
        let mut looks = Looks::default();
        let mut squares = Moments::default();
        (0..20).for_each(|i| squares.push(0.4 + f64::from(i % 3) * 0.03));
        looks.mean(&subject, "z^2", squares, 1.0, Claim::Exact);
        looks.judge();
        assert!(looks.means[0].holds);
    }

    /// A count of 30 where 10 are expected fails a claim, above or on both sides; 1 fails only the
    /// latter; neither fails where nothing is claimed.
    #[test]
    fn bands_are_those_of_the_claims() {
        let subject = Subject {
            part: "test",
            profile: String::new(),
            test: String::new(),
            text: "none",
        };
        let mut looks = Looks::default();
        for rejected in [30, 1] {
            for claim in [Claim::Exact, Claim::AtMost, Claim::Invalid] {
                let tally = Tally {
                    trials: 1000,
                    rejected: rejected * 3,
                    size: 30.0,
                };
                looks.count(&subject, 0.03, tally, claim);
            }
        }
        looks.judge();
        let holds: Vec<bool> = looks.counts.iter().map(|count| count.holds).collect();
        assert_eq!(holds, [false, false, false, false, true, true]);
        assert_eq!(looks.failures().len(), 3);
        assert_eq!(looks.claims(), 4);
    }
}
