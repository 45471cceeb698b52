//! How large an effect is, and which prompts carry it: estimates that stand beside the tests.
//!
//! Nothing here is evidence. Intervals are approximate and say so.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::battery::Battery;
use crate::cells::Scores;
use crate::detect::TestId;
use crate::profile::Mark;
use crate::window::Exhibit;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// Mean excess of a counted position's score over chance, with an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Effect {
    /// In the null's natural units (share of ones, or nats): every counted position of the text,
    /// repeats included.
    pub excess: f64,
    /// Approximate 95 % interval, absent with fewer than two prompts: the percentiles of a bootstrap over prompts
    /// (1000 resamples, seed fixed), widened by [`null_sd`](Self::null_sd), because prompts share
    /// cells, whose coins a bootstrap does not toss again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Standard deviation of the excess over keys, for this text if it is independent of the key: exact.
    pub null_sd: f64,
    /// The excess as a share of that of the text that was written under the key, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<f64>,
    /// Prompts.
    pub sources: usize,
}

/// Sums over the positions of one source.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    excess: f64,
    positions: f64,
}

fn by_source(mark: &Mark, exhibit: &Exhibit, scores: &Scores) -> Vec<(u32, Sum)> {
    let null = mark.scheme().null();
    let mut sums: std::collections::BTreeMap<u32, Sum> = std::collections::BTreeMap::new();
    for (source, places) in exhibit.stretches() {
        let sum = sums.entry(source).or_default();
        for &place in places {
            if !scores.counts(place as usize) {
                continue;
            }
            sum.excess += null.natural(scores.values()[place as usize]) - null.mean();
            sum.positions += 1.0;
        }
    }
    sums.into_iter().collect()
}

fn ratio(sums: impl Iterator<Item = Sum>) -> f64 {
    let total = sums.fold(Sum::default(), |a, b| Sum {
        excess: a.excess + b.excess,
        positions: a.positions + b.positions,
    });
    total.excess / total.positions.max(1.0)
}

impl Effect {
    /// Of an exhibit whose cells have these scores. `teacher` is the mean excess of the text that
    /// was written under the key.
    pub fn of(mark: &Mark, exhibit: &Exhibit, scores: &Scores, teacher: Option<f64>) -> Self {
        let sums: Vec<Sum> = by_source(mark, exhibit, scores)
            .into_iter()
            .map(|(_, sum)| sum)
            .collect();
        let excess = ratio(sums.iter().copied());
        let null_sd = null_sd(mark, exhibit, scores);
        let interval = (sums.len() > 1).then(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let mut means: Vec<f64> = (0..RESAMPLES)
                .map(|_| {
                    ratio((0..sums.len()).map(|_| {
                        let place = (u64::from(rng.next_u32()) * sums.len() as u64) >> 32;
                        sums[place as usize]
                    }))
                })
                .collect();
            means.sort_unstable_by(f64::total_cmp);
            let widened = |end: f64| (end - excess).hypot(1.96 * null_sd);
            [
                excess - widened(means[RESAMPLES / 40]),
                excess + widened(means[RESAMPLES - 1 - RESAMPLES / 40]),
            ]
        });
        Self {
            excess,
            interval,
            null_sd,
            transfer: teacher.filter(|&t| t > 0.0).map(|teacher| excess / teacher),
            sources: sums.len(),
        }
    }
}

fn null_sd(mark: &Mark, exhibit: &Exhibit, scores: &Scores) -> f64 {
    let times = exhibit.times();
    let weights: Vec<i64> = times.iter().map(|&n| i64::from(n)).collect();
    let positions: f64 = times.iter().map(|&n| f64::from(n)).sum();
    let coins = scores.weigh(&weights).joined.unwrap_or(weights);
    let squares: f64 = coins.iter().map(|&n| (n as f64).powi(2)).sum();
    (squares * mark.scheme().null().variance()).sqrt() / positions.max(1.0)
}

/// Mean excess of a position's score over chance in text that was written under the key, repeats
/// included: what [`Effect::transfer`] divides by.
pub fn written_excess(mark: &Mark, written: &Exhibit) -> f64 {
    let scores = written.cells().scores(mark);
    ratio(
        by_source(mark, written, &scores)
            .into_iter()
            .map(|(_, sum)| sum),
    )
}

/// What single prompts contribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Influence {
    /// The test that is taken apart.
    pub id: TestId,
    /// Prompts by the standard score that is lost without them, largest first; at most twenty.
    pub largest: Vec<Without>,
    /// Prompts.
    pub sources: usize,
}

/// The test without one prompt's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Without {
    /// The prompt's number in the exhibit.
    pub source: u32,
    /// Its counted positions.
    pub positions: u64,
    /// Mean excess of its positions.
    pub excess: f64,
    /// Standard score of the exhibit without it.
    pub z: f64,
    /// log10 p of the exhibit without it.
    #[serde(rename = "pLog10")]
    pub p: crate::stats::LnP,
}

/// Prompts that are left out one at a time.
const LEFT_OUT: usize = 20;

impl Influence {
    /// Takes the square-root test apart: the twenty prompts with the largest sum of excess are
    /// left out one at a time. Empty with fewer than two prompts.
    pub fn of(mark: &Mark, exhibit: &Exhibit, scores: &Scores) -> Self {
        let mut sums = by_source(mark, exhibit, scores);
        let sources = sums.len();
        sums.sort_by(|a, b| b.1.excess.total_cmp(&a.1.excess));
        if sources < 2 {
            sums.clear();
        }
        sums.truncate(LEFT_OUT);
        let mut largest: Vec<Without> = sums
            .into_iter()
            .map(|(source, sum)| {
                let rest = exhibit.without(source);
                let tests = Battery::closed(mark, &rest).tests(mark);
                let test = tests.iter().find(|test| test.id == TestId::ClosedSqrt);
                let test = test.expect("one of the closed tests");
                Without {
                    source,
                    positions: sum.positions as u64,
                    excess: sum.excess / sum.positions.max(1.0),
                    z: test.z,
                    p: test.p,
                }
            })
            .collect();
        largest.sort_by(|a, b| a.z.total_cmp(&b.z));
        Self {
            id: TestId::ClosedSqrt,
            largest,
            sources,
        }
    }
}

/// Effects of calibration students at known shares of marked training data.
///
/// Same profile, same kind of student, same questions: the curve is theirs, and an exposure that is
/// read from it is the calibration model's estimate, without the spread between calibration students.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DoseCurve {
    /// `watermark.dose-curve/1`.
    #[cfg_attr(feature = "schema", schemars(extend("const" = DOSE_SCHEMA)))]
    pub schema: String,
    /// Where it comes from, for the report.
    pub source: String,
    /// Share of marked training data and [`Effect::excess`], by ascending share.
    pub points: Vec<(f64, f64)>,
}

/// The value of a dose curve's `schema` field.
pub const DOSE_SCHEMA: &str = "watermark.dose-curve/1";

/// Why a dose curve cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoseError {
    /// Another schema.
    #[error("`schema` is `{0}`; this version reads `{DOSE_SCHEMA}`")]
    Schema(String),
    /// Too few points, shares out of order, not from 0, above 1, or numbers that are none.
    #[error(
        "`points` must be at least two pairs [share, excess], shares ascending from 0 (students that saw no mark) to at most 1"
    )]
    Points,
    /// Not JSON of this form.
    #[error("{0}")]
    Json(String),
}

/// An estimate of the share of marked text in a suspect's training data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Exposure {
    /// The share whose calibration students show this effect.
    pub share: f64,
    /// The effect is that of the curve's last point or more: the share is at least this.
    pub at_least: bool,
    /// The same at the ends of the effect's interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

impl DoseCurve {
    /// Parses and checks the JSON form.
    ///
    /// # Errors
    /// It is not of this form.
    pub fn from_json(json: &str) -> Result<Self, DoseError> {
        let curve: Self = serde_json::from_str(json)
            .map_err(|error| DoseError::Json(crate::json::message(&error)))?;
        if curve.schema != DOSE_SCHEMA {
            return Err(DoseError::Schema(curve.schema));
        }
        let valid = curve.points.len() >= 2
            && curve.points[0].0 == 0.0
            && curve.points.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && curve
                .points
                .iter()
                .all(|&(share, excess)| (0.0..=1.0).contains(&share) && excess.is_finite());
        if valid {
            Ok(curve)
        } else {
            Err(DoseError::Points)
        }
    }

    /// The share at an effect: along the least-squares ascending curve through the points (pooled
    /// adjacent violators), linear between them, and its ends beyond them.
    pub fn share_at(&self, excess: f64) -> f64 {
        let curve = self.ascending();
        let first = curve[0];
        if excess <= first.1 {
            return first.0;
        }
        for pair in curve.windows(2) {
            let ((a, low), (b, high)) = (pair[0], pair[1]);
            if excess <= high {
                return if high > low {
                    a + (b - a) * (excess - low) / (high - low)
                } else {
                    a
                };
            }
        }
        curve[curve.len() - 1].0
    }

    /// The excess at a share between 0 and 1: along the same curve, and its ends beyond them.
    pub fn excess_at(&self, share: f64) -> f64 {
        let curve = self.ascending();
        let first = curve[0];
        if share <= first.0 {
            return first.1;
        }
        for pair in curve.windows(2) {
            let ((a, low), (b, high)) = (pair[0], pair[1]);
            if share <= b {
                return low + (high - low) * (share - a) / (b - a);
            }
        }
        curve[curve.len() - 1].1
    }

    fn ascending(&self) -> Vec<(f64, f64)> {
        // Blocks of points that share one value: sum, number.
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        for &(_, excess) in &self.points {
            blocks.push((excess, 1));
            while let [.., (a, n), (b, m)] = blocks[..] {
                if a / n as f64 <= b / m as f64 {
                    break;
                }
                blocks.pop();
                blocks.pop();
                blocks.push((a + b, n + m));
            }
        }
        let values = blocks
            .into_iter()
            .flat_map(|(sum, n)| std::iter::repeat_n(sum / n as f64, n));
        self.points
            .iter()
            .map(|&(share, _)| share)
            .zip(values)
            .collect()
    }

    /// The exposure that an effect speaks for.
    pub fn exposure(&self, effect: &Effect) -> Exposure {
        Exposure {
            share: self.share_at(effect.excess),
            at_least: self
                .ascending()
                .last()
                .is_some_and(|&(_, last)| effect.excess >= last),
            interval: effect
                .interval
                .map(|[low, high]| [self.share_at(low), self.share_at(high)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;

    #[test]
    fn doses_are_read_from_an_ascending_curve() {
        let curve = DoseCurve::from_json(
            r#"{"schema":"watermark.dose-curve/1","source":"t","points":[[0,0.0],[0.1,0.03],[0.3,0.01],[1,0.1]]}"#,
        )
        .unwrap();
        assert_eq!(curve.share_at(-1.0), 0.0);
        assert!((curve.share_at(0.02) - 0.1).abs() < 1e-12);
        assert!((curve.share_at(0.06) - 0.65).abs() < 1e-12);
        assert_eq!(curve.share_at(7.0), 1.0);
        assert!((curve.excess_at(0.65) - 0.06).abs() < 1e-12);
        assert!((curve.excess_at(0.2) - 0.02).abs() < 1e-12);
        assert_eq!((curve.excess_at(0.0), curve.excess_at(1.0)), (0.0, 0.1));
        for (json, word) in [
            (r#"{"schema":"x","source":"","points":[]}"#, "schema"),
            (
                r#"{"schema":"watermark.dose-curve/1","source":"","points":[[0.1,1],[0.5,2]]}"#,
                "points",
            ),
            ("{", "EOF"),
        ] {
            let error = DoseCurve::from_json(json).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn one_prompt_that_carries_all_is_found() {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        let mark = Profile::built_in("greenlist-h1")
            .unwrap()
            .bind(&key)
            .unwrap();
        let scheme = mark.scheme();
        let green = |window: u32, from: u32| {
            let row = scheme.row(&[window]);
            (from..)
                .find(|&token| scheme.score(&row, token) == 1)
                .unwrap()
        };
        let mut exhibit = Exhibit::new(1);
        let mut carrier = vec![5];
        while carrier.len() < 200 {
            let last = carrier[carrier.len() - 1];
            carrier.push(green(last, 17 * carrier.len() as u32));
        }
        exhibit.push_from(7, &carrier);
        for source in 0..5 {
            let plain: Vec<u32> = (0..200).map(|i| i * (source + 3) % 977).collect();
            exhibit.push_from(source, &plain);
        }
        let scores = exhibit.cells().scores(&mark);
        let influence = Influence::of(&mark, &exhibit, &scores);
        assert_eq!((influence.sources, influence.largest[0].source), (6, 7));
        assert!(influence.largest[0].z < 3.0 && influence.largest[1].z > 6.0);
        let effect = Effect::of(&mark, &exhibit, &scores, Some(0.75));
        let [low, high] = effect.interval.unwrap();
        assert!(low <= effect.excess && effect.excess <= high);
        assert!((effect.transfer.unwrap() - effect.excess / 0.75).abs() < 1e-12);
    }
}
