//! READ: an exhibit's cells, scored once each and tested against the scheme's exact null.

use serde::{Serialize, Serializer};

use crate::cells::Scores;
use crate::profile::Mark;
use crate::scheme::Null;
use crate::stats::LnP;
use crate::window::{Counts, Exhibit};

/// The statistic: how many distinct cells, and the integer sum of their scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Distinct cells.
    pub cells: u64,
    /// Sum of their scores, in units of the null's lattice.
    pub sum: u64,
}

/// Scores the cells of an exhibit under a mark.
///
/// The exhibit holds distinct (window, token) pairs. Where the scheme maps several of them to
/// one cell, only the first is scored.
pub fn score(mark: &Mark, exhibit: &Exhibit) -> Score {
    Score::of(&exhibit.cells().scores(mark))
}

impl Score {
    /// Every coin once.
    pub fn of(scores: &Scores) -> Self {
        let mut score = Self::default();
        for index in scores.first_of_coin() {
            score.cells += 1;
            score.sum += scores.values()[index];
        }
        score
    }
}

/// One test of one exhibit under one key: numbers, and no opinion about them.
///
/// H0: the exhibit's text is independent of the key, given the prompts. Under H0, for an ideal
/// keyed function, scores of distinct cells are independent with the law `null`, so `p_log10`
/// is exact (for a sum rounded down: an upper bound). Condition: text, prompts and the decision
/// to stop do not depend on the key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Test {
    /// Which test.
    pub id: TestId,
    /// The law of a cell's score.
    pub null: Null,
    /// Distinct cells.
    pub n_scored: u64,
    /// Integer sum of scores; a string, since it can exceed what JSON readers keep exactly.
    #[serde(serialize_with = "as_string")]
    pub sum: u64,
    /// Mean score of a cell, in the null's natural units (share of ones, or nats).
    pub mean: f64,
    /// Mean score of a cell expected under the null.
    pub null_mean: f64,
    /// Standard score: a figure, not the evidence.
    pub z: f64,
    /// `log10 P(S >= s)`: the evidence.
    #[serde(rename = "pLog10")]
    pub p: LnP,
    /// `log10 P(S <= s)`: a small value means a mark that is being avoided. A diagnostic.
    #[serde(rename = "lowerPLog10")]
    pub lower_p: LnP,
}

/// The tests that this version runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestId {
    /// Closed model, text only, every cell once with weight one.
    ClosedCells,
}

impl Test {
    /// Scores and tests.
    pub fn of(mark: &Mark, exhibit: &Exhibit) -> Self {
        Self::from_score(mark.scheme().null(), score(mark, exhibit))
    }

    /// The test of a statistic that was computed elsewhere.
    pub fn from_score(null: Null, score: Score) -> Self {
        let Score { cells, sum } = score;
        let cell_mean = if cells == 0 {
            null.mean()
        } else {
            null.natural(sum) / cells as f64
        };
        Self {
            id: TestId::ClosedCells,
            null,
            n_scored: cells,
            sum,
            mean: cell_mean,
            null_mean: null.mean(),
            z: null.z(cells, sum),
            p: null.upper_tail(cells, sum),
            lower_p: null.lower_tail(cells, sum),
        }
    }
}

fn as_string<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A tested exhibit: where its tokens went, which cells remained, what the test gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Where the tokens went.
    pub counts: Counts,
    /// SHA-256 of the surviving cells, in hexadecimal.
    pub cells_digest: String,
    /// The test.
    pub test: Test,
}

impl Sample {
    /// Tests an exhibit.
    pub fn of(mark: &Mark, exhibit: &Exhibit) -> Self {
        Self {
            counts: *exhibit.counts(),
            cells_digest: crate::hex(&exhibit.digest()),
            test: Test::of(mark, exhibit),
        }
    }
}
