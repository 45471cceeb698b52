//! READ: an exhibit's cells, scored once each and tested against the scheme's exact null.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::cells::Scores;
use crate::profile::Mark;
use crate::regime::Regime;
use crate::scheme::Null;
use crate::stats::LnP;
use crate::stats::draws::DrawSum;
use crate::stats::weighted::{TailMethod, WeightedLaw};
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

/// The law of the sum of some cells' scores, each once, under a mark.
#[derive(Debug)]
pub(crate) struct PlainLaw {
    null: Null,
    /// Where cells depend on each other: that of these very cells.
    pub(crate) own: Option<DrawSum>,
    key_bits: Option<u32>,
}

impl PlainLaw {
    /// The law for these distinct coins. It does not depend on the key.
    pub(crate) fn of(mark: &Mark, coins: impl FnOnce() -> Vec<u64>) -> Self {
        let scheme = mark.scheme();
        Self {
            null: scheme.null(),
            own: scheme
                .cells_depend()
                .then(|| scheme.law_of(&coins()))
                .flatten(),
            key_bits: scheme.key_bits(),
        }
    }

    /// The upper tail, as the plain test has it.
    pub(crate) fn upper_tail(&self, Score { cells, sum }: Score) -> LnP {
        match &self.own {
            Some(law) => law.upper_tail(sum),
            None => self.null.upper_tail(cells, sum),
        }
        .of_key_bits(self.key_bits)
    }

    /// The standard score.
    pub(crate) fn z(&self, Score { cells, sum }: Score) -> f64 {
        match &self.own {
            Some(law) => law.z(sum),
            None => self.null.z(cells, sum),
        }
    }
}

/// One test under one key: numbers, and no opinion about them.
///
/// H0: prompts and text together are independent of the key. (Prompts that derive from marked text are not, and
/// no exclusion of their windows makes up for it.) Under H0, for an ideal keyed
/// function, scores of distinct cells are independent with the law `null`. The statistic is their
/// sum, each with a weight that does not depend on the key, and p the probability of so large a sum:
/// exact, or an upper bound where `method` says so (and for scores that are rounded down).
/// Condition: those of the `regime`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Test {
    /// Which test.
    pub id: TestId,
    /// The conditions under which it holds: assumed, not found.
    #[serde(rename = "assumes")]
    pub regime: Regime,
    /// The law of a cell's score.
    pub null: Null,
    /// Distinct cells with a weight.
    pub n_scored: u64,
    /// `(sum of weights)^2 / sum of squared weights`: so many cells of equal weight would give as
    /// much. Small where weights of both signs cancel by design; then a figure without meaning.
    pub effective_cells: f64,
    /// Integer sum of weight times score, in lattice units of the null law; a string, since it can
    /// exceed what JSON readers keep exactly.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::IntegerText"))]
    #[serde(serialize_with = "as_string", deserialize_with = "from_string")]
    pub sum: i128,
    /// Mean score of a cell by weight, in the null's natural units (share of ones, or nats); the
    /// null's own where the weights cancel.
    pub mean: f64,
    /// Mean score of a cell expected under the null.
    pub null_mean: f64,
    /// Standard score: a figure, not the evidence.
    pub z: f64,
    /// `log10 P(S >= s)`: the evidence.
    #[serde(rename = "pLog10")]
    pub p: LnP,
    /// Whether p is the exact tail or Chernoff's bound of it.
    pub method: TailMethod,
    /// `log10 P(S <= s)`: a small value means a mark that is being avoided. A diagnostic.
    #[serde(rename = "lowerPLog10")]
    pub lower_p: LnP,
    /// Where p is a bound: log10 of the saddlepoint approximation of the tail. A figure without
    /// guarantee, never the evidence.
    #[serde(rename = "saddlepointPLog10", skip_serializing_if = "Option::is_none")]
    pub saddlepoint: Option<f64>,
    /// Where the keyed function has few: its bits of key in effect. No p-value here is below 2^-bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_bits: Option<u32>,
}

/// The tests that this version runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TestId {
    /// Closed model, text only, every cell once with weight one: the published practice.
    ClosedCells,
    /// The same with the square root of the cell's count in the suspect's own text as weight.
    ClosedSqrt,
    /// The same with the inverse of the variance that repeats give to the window.
    ClosedInverseVariance,
    /// Square root of the cell's count in the suspect's text and a clean corpus together.
    ClosedCorpus,
    /// What a reference model expected is taken from every count.
    ClosedReference,
    /// Open weights: the most probable token at every position of neutral text, each cell once.
    OpenArgmax,
    /// Open weights: the suspect's probabilities on neutral text.
    OpenSoft,
    /// Open weights: the suspect's probabilities less a reference's on neutral text.
    OpenContrast,
    /// Cells whose windows were emitted under the key, the first n in order of emission.
    Supervised,
    /// Cells whose windows were never emitted under the key: a control.
    NeverEmitted,
}

impl TestId {
    /// Every test, in the order in which they are reported.
    pub const ALL: [Self; 10] = [
        Self::ClosedCells,
        Self::ClosedSqrt,
        Self::ClosedInverseVariance,
        Self::ClosedCorpus,
        Self::ClosedReference,
        Self::OpenArgmax,
        Self::OpenSoft,
        Self::OpenContrast,
        Self::Supervised,
        Self::NeverEmitted,
    ];

    /// Its name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClosedCells => "closed-cells",
            Self::ClosedSqrt => "closed-sqrt",
            Self::ClosedInverseVariance => "closed-inverse-variance",
            Self::ClosedCorpus => "closed-corpus",
            Self::ClosedReference => "closed-reference",
            Self::OpenArgmax => "open-argmax",
            Self::OpenSoft => "open-soft",
            Self::OpenContrast => "open-contrast",
            Self::Supervised => "supervised",
            Self::NeverEmitted => "never-emitted",
        }
    }
}

impl core::fmt::Display for TestId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

impl Test {
    /// Every cell of an exhibit once: [`TestId::ClosedCells`].
    pub fn of(mark: &Mark, exhibit: &Exhibit) -> Self {
        Self::of_scores(TestId::ClosedCells, mark, &exhibit.cells().scores(mark))
    }

    /// The unweighted test of cells that have these scores.
    pub(crate) fn of_scores(id: TestId, mark: &Mark, scores: &Scores) -> Self {
        let score = Score::of(scores);
        let mut test = Self::from_score(id, mark.scheme().null(), score);
        if let Some(law) = PlainLaw::of(mark, || scores.distinct()).own {
            test.p = law.upper_tail(score.sum);
            test.lower_p = law.lower_tail(score.sum);
            test.z = law.z(score.sum);
        }
        test.under(mark)
    }

    /// The test with what the mark's function adds: p-values are at least 2^-bits, if it has so few
    /// [bits of key](crate::scheme::Scheme::key_bits).
    #[must_use]
    pub fn under(self, mark: &Mark) -> Self {
        let bits = mark.scheme().key_bits();
        Self {
            p: self.p.of_key_bits(bits),
            lower_p: self.lower_p.of_key_bits(bits),
            key_bits: bits,
            ..self
        }
    }

    /// The unweighted test of a statistic that was computed elsewhere.
    pub fn from_score(id: TestId, null: Null, score: Score) -> Self {
        let Score { cells, sum } = score;
        let cell_mean = if cells == 0 {
            null.mean()
        } else {
            null.natural(sum) / cells as f64
        };
        Self {
            id,
            regime: Regime::Clean,
            null,
            n_scored: cells,
            effective_cells: cells as f64,
            sum: i128::from(sum),
            mean: cell_mean,
            null_mean: null.mean(),
            z: null.z(cells, sum),
            p: null.upper_tail(cells, sum),
            method: TailMethod::Exact,
            lower_p: null.lower_tail(cells, sum),
            saddlepoint: None,
            key_bits: None,
        }
    }

    /// The test of a weighted sum with Chernoff's bound in place of the exact tail.
    pub(crate) fn bounded(self, law: &WeightedLaw) -> Self {
        let mirror = law.classes().map(|(weight, cells)| (-weight, cells));
        Self {
            p: law.chernoff(self.sum),
            lower_p: WeightedLaw::of_classes(self.null, mirror).chernoff(-self.sum),
            method: TailMethod::Chernoff,
            saddlepoint: Some(law.saddlepoint(self.sum) / std::f64::consts::LN_10),
            ..self
        }
    }

    /// The test of a weighted sum under its law.
    pub(crate) fn from_law(id: TestId, null: Null, law: &WeightedLaw, sum: i128) -> Self {
        let (p, method) = law.upper_tail(sum);
        let mirror = law.classes().map(|(weight, cells)| (-weight, cells));
        let (lower_p, _) = WeightedLaw::of_classes(null, mirror).upper_tail(-sum);
        let (mut total, mut size, mut squares) = (0.0, 0.0, 0.0);
        for (weight, cells) in law.classes() {
            let (weight, cells) = (weight as f64, cells as f64);
            total += weight * cells;
            size += weight.abs() * cells;
            squares += weight * weight * cells;
        }
        // Weights that cancel have no mean score.
        let cancels = total <= 1e-3 * size;
        let excess = law.z(sum) * law.variance().sqrt();
        Self {
            id,
            regime: Regime::Clean,
            null,
            n_scored: law.cells(),
            effective_cells: if squares > 0.0 {
                total * total / squares
            } else {
                0.0
            },
            sum,
            mean: null.mean() + if cancels { 0.0 } else { excess / total },
            null_mean: null.mean(),
            z: law.z(sum),
            p,
            method,
            lower_p,
            saddlepoint: (method == TailMethod::Chernoff)
                .then(|| law.saddlepoint(sum) / std::f64::consts::LN_10),
            key_bits: None,
        }
    }
}

pub(crate) fn as_string<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn from_string<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| de::Error::custom(format!("`{text}` is not an integer, as a string")))
}

/// A tested exhibit: where its tokens went, which cells remained, what the test gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
