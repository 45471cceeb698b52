//! Tests of the clean regime that share a list of cells: scored once a key, weighed once a test.
//!
//! Every statistic is `T = sum over cells of w_c (s_c - mean)` with weights that do not depend on the
//! key. Under H0 the scores are independent with the scheme's null law, whatever the weights
//! are, so p comes from [`WeightedLaw`]: exact or Chernoff's bound. What the tests differ in is how the
//! weights are made:
//!
//! | test | weight of cell (window, token) |
//! |---|---|
//! | closed-cells | 1 |
//! | closed-sqrt | square root of its count n in the suspect's text |
//! | closed-inverse-variance | n N / sum over the window's tokens of n^2, N the window's count |
//! | closed-corpus | square root of n plus its count in a clean corpus of the teacher's kind |
//! | closed-reference | sum over positions at the window of `1[token said] - p_R(token)` |
//! | open-argmax | 1 if the suspect finds the token most probable at some position at the window |
//! | open-soft | sum over positions at the window of `p_S(token)` |
//! | open-contrast | sum over positions at the window of `p_S(token) - p_R(token)` |
//!
//! S is the suspect, R a reference fixed before the key's first use, and the open tests read a
//! neutral text fixed before it as well. Aggregation comes first: a cell that occurs a hundred times is one
//! coin with one weight.
//!
//! Why a square root: a cell that comes n times shows what the suspect learned of it with a standard error of about
//! `1 / sqrt n`. Weights between 1 (which drowns well-learned cells in rare ones) and n (which lets a few
//! cells decide) follow the balance of signal and noise.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::cells::Cells;
use crate::detect::{PlainLaw, Score, Test, TestId};
use crate::openweights::ScoredText;
use crate::profile::Mark;
use crate::scheme::Null;
use crate::stats::LnP;
use crate::stats::weighted::{TailMethod, Tails, WeightedLaw};
use crate::window::{Exhibit, Identity, fingerprint, window};

/// Weights from probabilities are in units of 2^-20.
const PROBABILITY_BITS: u32 = 20;

/// Those of the reference-weighted test are in units of 2^-6: few and small enough for the exact
/// tail of a binomial law on exhibits of some thousand tokens, where a bound would cost a decade of p.
const REFERENCE_BITS: u32 = 6;

/// Weights by inverse variance are in units of 1/8.
const VARIANCE_SCALE: f64 = 8.0;

/// Tests that share a list of cells.
#[derive(Debug)]
pub struct Battery<'a> {
    null: Null,
    cells: std::borrow::Cow<'a, Cells>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    id: TestId,
    /// One a cell; `None` where every cell counts once.
    weights: Option<Weights>,
}

#[derive(Debug)]
struct Weights {
    values: Vec<i64>,
    /// The law where every cell is a coin of its own.
    law: WeightedLaw,
}

impl<'a> Battery<'a> {
    fn new(mark: &Mark, cells: std::borrow::Cow<'a, Cells>) -> Self {
        Self {
            null: mark.scheme().null(),
            cells,
            members: Vec::new(),
        }
    }

    fn add(&mut self, id: TestId, values: Vec<i64>) {
        debug_assert_eq!(values.len(), self.cells.len());
        let law = WeightedLaw::new(self.null, values.iter().copied());
        let weights = Some(Weights { values, law });
        self.members.push(Member { id, weights });
    }

    /// The tests of a suspect's text: [`TestId::ClosedCells`], [`TestId::ClosedSqrt`] and
    /// [`TestId::ClosedInverseVariance`].
    pub fn closed(mark: &Mark, exhibit: &'a Exhibit) -> Self {
        let mut battery = Self::new(mark, std::borrow::Cow::Borrowed(exhibit.cells()));
        battery.members.push(Member {
            id: TestId::ClosedCells,
            weights: None,
        });
        let times = exhibit.times();
        // Eight times the root, rounded down: small integers, so that the sum has an exact law.
        let roots = times.iter().map(|&n| (64 * u64::from(n)).isqrt() as i64);
        battery.add(TestId::ClosedSqrt, roots.collect());
        let mut windows: HashMap<&[u32], (f64, f64)> = HashMap::new();
        for ((window, _), &n) in exhibit.cells().iter().zip(&times) {
            let (sum, squares) = windows.entry(window).or_default();
            *sum += f64::from(n);
            *squares += f64::from(n).powi(2);
        }
        let inverse = exhibit.cells().iter().zip(&times).map(|((window, _), &n)| {
            let (sum, squares) = windows[window];
            (f64::from(n) * sum / squares * VARIANCE_SCALE).round() as i64
        });
        battery.add(TestId::ClosedInverseVariance, inverse.collect());
        battery
    }

    /// The reference-weighted test of a suspect's text: `read` are the exhibit's own segments, in
    /// order, as the reference sees them. Positions that the exhibit does not count are left out.
    /// Segments that differ from the exhibit's have no place in it, and give [`Mismatch`].
    ///
    /// # Errors
    /// A text of `read` has a cell that the exhibit does not have.
    pub fn reference(
        mark: &Mark,
        exhibit: &Exhibit,
        read: &[ScoredText],
    ) -> Result<Battery<'static>, Mismatch> {
        let width = exhibit.context_width();
        let mut sums = Sums::new(width);
        for (index, text) in read.iter().enumerate() {
            let segment = &text.tokens()[text.first()..];
            for position in text.positions() {
                let at = position.at - text.first();
                let Some(window) = window(segment, at, width) else {
                    continue;
                };
                let outside = if width == 0 {
                    &[position.token][..]
                } else {
                    window
                };
                if exhibit.excludes(outside) {
                    continue;
                }
                if exhibit.find(window, position.token).is_none() {
                    return Err(Mismatch { text: index, at });
                }
                sums.add(window, position.token, 1.0);
                for &(token, p) in position.top {
                    sums.add(window, token, -f64::from(p));
                }
            }
        }
        let (cells, values) = sums.finish(REFERENCE_BITS);
        let mut battery = Battery::new(mark, std::borrow::Cow::Owned(cells));
        battery.add(TestId::ClosedReference, values);
        Ok(battery)
    }

    /// [`TestId::ClosedCorpus`]: like the square-root test, with the cell's count in a clean corpus
    /// added to that in the suspect's own text. The corpus, text of the teacher's kind that nobody
    /// marked and that was fixed before the key's first use, says from the first token on which cells a
    /// student has met often.
    pub fn corpus(mark: &Mark, exhibit: &Exhibit, corpus: &[Vec<u32>]) -> Battery<'static> {
        let width = exhibit.context_width();
        let mut counts: Vec<u64> = exhibit.times().into_iter().map(u64::from).collect();
        for text in corpus {
            for cell in text.windows(width + 1) {
                if let Some(index) = exhibit.find(&cell[..width], cell[width]) {
                    counts[index] += 1;
                }
            }
        }
        let cells = exhibit.cells().clone();
        let mut battery = Battery::new(mark, std::borrow::Cow::Owned(cells));
        let roots = counts.iter().map(|&n| (64 * n).isqrt() as i64);
        battery.add(TestId::ClosedCorpus, roots.collect());
        battery
    }

    /// [`TestId::OpenSoft`]: the suspect's probabilities on neutral text.
    pub fn soft(mark: &Mark, suspect: &[ScoredText]) -> Battery<'static> {
        let mut sums = Sums::new(mark.scheme().context_width());
        sums.add_all(suspect, 1.0);
        let (cells, values) = sums.finish(PROBABILITY_BITS);
        let mut battery = Battery::new(mark, std::borrow::Cow::Owned(cells));
        battery.add(TestId::OpenSoft, values);
        battery
    }

    /// [`TestId::OpenContrast`]: the suspect's probabilities less the reference's on the same
    /// neutral text. Several references are averaged by giving each its share.
    ///
    /// A token that is missing from a model's list counts as probability 0 there: that costs
    /// evidence at most, since any weights fixed without the key are valid.
    ///
    /// # Errors
    /// The two did not read the same texts.
    pub fn contrast(
        mark: &Mark,
        suspect: &[ScoredText],
        references: &[&[ScoredText]],
    ) -> Result<Battery<'static>, Mismatch> {
        let mut sums = Sums::new(mark.scheme().context_width());
        sums.add_all(suspect, 1.0);
        for reference in references {
            check_same(suspect, reference)?;
            sums.add_all(reference, -1.0 / references.len() as f64);
        }
        let (cells, values) = sums.finish(PROBABILITY_BITS);
        let mut battery = Battery::new(mark, std::borrow::Cow::Owned(cells));
        battery.add(TestId::OpenContrast, values);
        Ok(battery)
    }

    /// [`TestId::OpenArgmax`]: every cell of a window of the neutral text and the token that the
    /// suspect finds most probable there, once. The published reading of open weights.
    pub fn argmax(mark: &Mark, suspect: &[ScoredText]) -> Battery<'static> {
        let width = mark.scheme().context_width();
        let mut sums = Sums::new(width);
        for text in suspect {
            for position in text.positions() {
                let best = position
                    .top
                    .iter()
                    .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
                if let (Some(window), Some(&(token, _))) =
                    (window(text.tokens(), position.at, width), best)
                {
                    sums.add(window, token, 1.0);
                }
            }
        }
        let (cells, _) = sums.finish(PROBABILITY_BITS);
        let mut battery = Battery::new(mark, std::borrow::Cow::Owned(cells));
        battery.members.push(Member {
            id: TestId::OpenArgmax,
            weights: None,
        });
        battery
    }

    /// The battery with those of its tests that `keep` names; `None` if it names none.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(TestId) -> bool) -> Option<Self> {
        self.members.retain(|member| keep(member.id));
        (!self.members.is_empty()).then_some(self)
    }

    /// The cells.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The tests, in the order of [`tests`](Self::tests).
    pub fn ids(&self) -> impl Iterator<Item = TestId> {
        self.members.iter().map(|member| member.id)
    }

    /// The cells of one of the tests with their weights, in the order of [`cells`](Self::cells) and without
    /// those of weight 0; `None` if the test is not in the battery. Where every coin counts once, cells that share
    /// one are all listed, with weight 1.
    pub fn weights(&self, id: TestId) -> Option<impl Iterator<Item = (&[u32], u32, i64)>> {
        let member = self.members.iter().find(|member| member.id == id)?;
        let weight = move |index: usize| match &member.weights {
            Some(Weights { values, .. }) => values[index],
            None => 1,
        };
        let weighed = self.cells.iter().enumerate();
        Some(weighed.filter_map(move |(index, (window, token))| {
            let weight = weight(index);
            (weight != 0).then_some((window, token, weight))
        }))
    }

    /// The law of every test's sum under the null hypothesis, in the order of [`tests`](Self::tests),
    /// where every cell is a coin of its own. Under a self-hash mark cells can share a coin, by the
    /// key, and the law of the test is then that of the joined weights.
    pub fn laws(&self) -> impl Iterator<Item = (TestId, WeightedLaw)> {
        self.members.iter().map(|member| {
            let law = match &member.weights {
                Some(Weights { law, .. }) => law.clone(),
                None => WeightedLaw::of_classes(self.null, [(1, self.cells.len() as u64)]),
            };
            (member.id, law)
        })
    }

    /// All tests under a mark of the profile that the battery was made for.
    pub fn tests(&self, mark: &Mark) -> Vec<Test> {
        let scores = self.cells.scores(mark);
        let test = |member: &Member| match &member.weights {
            None => Test::of_scores(member.id, mark, &scores),
            Some(Weights { values, law }) => {
                let weighed = scores.weigh(values);
                let joined = weighed
                    .joined
                    .map(|joined| WeightedLaw::new(self.null, joined));
                let law = joined.as_ref().unwrap_or(law);
                let test = Test::from_law(member.id, self.null, law, weighed.sum);
                if mark.scheme().cells_depend() {
                    test.bounded(law)
                } else {
                    test
                }
            }
        };
        self.members
            .iter()
            .map(test)
            .map(|test| test.under(mark))
            .collect()
    }

    /// Hoeffding's bound of a battery's weighted test, as published for soft scores of green lists
    /// (arXiv 2602.03812): for comparison. `None` where scores are not within 0 and 1, or where every cell
    /// counts once.
    pub fn hoeffding(&self, mark: &Mark) -> Option<LnP> {
        let bounded = matches!(self.null, Null::Binomial { trials: 1, .. });
        let weights = self
            .members
            .iter()
            .find_map(|member| member.weights.as_ref());
        let (true, Some(weights), true) = (bounded, weights, mark.scheme().cells_are_pairs())
        else {
            return None;
        };
        let sum = self.cells.scores(mark).weigh(&weights.values).sum as f64;
        let squares: f64 = weights.values.iter().map(|&w| (w as f64).powi(2)).sum();
        let excess = (sum - weights.law.mean()).max(0.0);
        Some(LnP::from_ln(-2.0 * excess * excess / squares))
    }

    /// What is computed once for many keys.
    pub fn tables(&self) -> Tables<'_> {
        self.cells.prepare();
        let tables = self
            .members
            .iter()
            .map(|member| Some(Table::new(&member.weights.as_ref()?.law)));
        Tables {
            battery: self,
            tables: tables.collect(),
            plain: std::sync::OnceLock::new(),
        }
    }
}

/// The texts of two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "text {}, token {at}: the two sides differ; both must have read the same texts with the same tokenizer, in the same order",
    text + 1
)]
pub struct Mismatch {
    /// The text, from 0.
    pub text: usize,
    /// The token in it, from 0.
    pub at: usize,
}

fn check_same(a: &[ScoredText], b: &[ScoredText]) -> Result<(), Mismatch> {
    for (text, pair) in a.iter().zip(b).enumerate() {
        let (a, b) = (pair.0.tokens(), pair.1.tokens());
        let at = a.iter().zip(b).position(|(a, b)| a != b);
        let shorter = (a.len() != b.len()).then(|| a.len().min(b.len()));
        if let Some(at) = at.or(shorter) {
            return Err(Mismatch { text, at });
        }
    }
    if a.len() == b.len() {
        Ok(())
    } else {
        let text = a.len().min(b.len());
        Err(Mismatch { text, at: 0 })
    }
}

/// Real weights by cell, being summed.
struct Sums {
    width: usize,
    places: HashMap<u64, usize, BuildHasherDefault<Identity>>,
    cells: Cells,
    sums: Vec<f64>,
}

impl Sums {
    fn new(width: usize) -> Self {
        Self {
            width,
            places: HashMap::default(),
            cells: Cells::new(width),
            sums: Vec::new(),
        }
    }

    fn add(&mut self, window: &[u32], token: u32, weight: f64) {
        let mut cell = [0; crate::prf::MAX_CONTEXT + 1];
        let cell = &mut cell[..=self.width];
        cell[..self.width].copy_from_slice(window);
        cell[self.width] = token;
        // Two cells of one fingerprint would pool their weights: as good as never, and no weight comes to
        // depend on a key.
        let next = self.sums.len();
        let place = *self.places.entry(fingerprint(cell)).or_insert(next);
        if place == next {
            self.cells.push(cell);
            self.sums.push(0.0);
        }
        self.sums[place] += weight;
    }

    fn add_all(&mut self, texts: &[ScoredText], scale: f64) {
        for text in texts {
            for position in text.positions() {
                let Some(window) = window(text.tokens(), position.at, self.width) else {
                    continue;
                };
                for &(token, p) in position.top {
                    self.add(window, token, scale * f64::from(p));
                }
            }
        }
    }

    /// Cells and weights in fixed point; what rounds to 0 is left out.
    fn finish(self, bits: u32) -> (Cells, Vec<i64>) {
        let scale = f64::from(1u32 << bits);
        let all: Vec<i64> = self
            .sums
            .iter()
            .map(|sum| (sum * scale).round() as i64)
            .collect();
        let cells = self.cells.filter(|index| all[index] != 0);
        (cells, all.into_iter().filter(|&w| w != 0).collect())
    }
}

/// A battery with what its laws need for many keys.
#[derive(Debug)]
pub struct Tables<'a> {
    battery: &'a Battery<'a>,
    tables: Vec<Option<Table<'a>>>,
    /// The law of these cells, each once; found with the first key, and that of them all.
    plain: std::sync::OnceLock<PlainLaw>,
}

/// One test under one of many keys: enough for ranks and figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Glance {
    /// Standard score.
    pub z: f64,
    /// The tail: exact where the test's own is, else the saddlepoint figure.
    pub p: LnP,
}

impl Tables<'_> {
    /// Every test under another key of the same profile.
    pub fn glance(&self, mark: &Mark) -> Vec<Glance> {
        let scores = self.battery.cells.scores(mark);
        let null = self.battery.null;
        let glance = |(member, table): (&Member, &Option<Table<'_>>)| match (&member.weights, table)
        {
            (Some(Weights { values, .. }), Some(table)) => {
                let weighed = scores.weigh(values);
                match weighed.joined {
                    None => table.glance(weighed.sum),
                    Some(joined) => {
                        let law = WeightedLaw::new(null, joined);
                        Glance {
                            z: law.z(weighed.sum),
                            p: LnP::from_ln(law.saddlepoint(weighed.sum)),
                        }
                    }
                }
            }
            _ => {
                let score = Score::of(&scores);
                let law = || PlainLaw::of(mark, || scores.distinct());
                let law = self.plain.get_or_init(law);
                Glance {
                    z: law.z(score),
                    p: law.upper_tail(score),
                }
            }
        };
        self.battery
            .members
            .iter()
            .zip(&self.tables)
            .map(glance)
            .collect()
    }
}

/// The tail of one law at many sums.
#[derive(Debug)]
enum Table<'a> {
    Exact(Box<Tails<'a>>),
    /// Standard scores of p at evenly spaced z, by the saddlepoint approximation.
    Figure {
        law: &'a WeightedLaw,
        scores: Vec<f64>,
    },
}

/// Steps of the figure's table a standard deviation, and its reach.
const STEPS: i32 = 4;
const REACH: i32 = 6;

impl<'a> Table<'a> {
    fn new(law: &'a WeightedLaw) -> Self {
        let tails = law.tails();
        let middle = sum_at(law, 0.0);
        match tails.upper_tail(middle).1 {
            TailMethod::Exact => Self::Exact(Box::new(tails)),
            TailMethod::Chernoff => Self::Figure {
                law,
                scores: (-REACH * STEPS..=REACH * STEPS)
                    .map(|step| {
                        let z = f64::from(step) / f64::from(STEPS);
                        probit(law.saddlepoint(sum_at(law, z)))
                    })
                    .collect(),
            },
        }
    }

    fn glance(&self, sum: i128) -> Glance {
        match self {
            Self::Exact(tails) => Glance {
                z: tails.law().z(sum),
                // Bounds among exact tails would look like p-values that are not uniform.
                p: match tails.upper_tail(sum) {
                    (p, TailMethod::Exact) => p,
                    (_, TailMethod::Chernoff) => LnP::from_ln(tails.law().saddlepoint(sum)),
                },
            },
            Self::Figure { law, scores } => {
                let z = law.z(sum);
                let place = (z + f64::from(REACH)) * f64::from(STEPS);
                let below = place.floor();
                let p = match scores.get(below as usize..) {
                    Some([low, high, ..]) if place >= 0.0 => {
                        let score = low + (place - below) * (high - low);
                        normal_tail(score)
                    }
                    _ => law.saddlepoint(sum),
                };
                Glance {
                    z,
                    p: LnP::from_ln(p),
                }
            }
        }
    }
}

/// The sum whose standard score is z, about.
fn sum_at(law: &WeightedLaw, z: f64) -> i128 {
    let unit = law.z(1 << 40) - law.z(0);
    ((z - law.z(0)) / unit * (1u64 << 40) as f64) as i128
}

/// The standard score whose upper normal tail is e^`ln_p`.
fn probit(ln_p: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal};
    let p = ln_p.exp().clamp(1e-15, 1.0 - 1e-15);
    -Normal::standard().inverse_cdf(p)
}

/// ln of the upper normal tail, for standard scores of moderate size.
fn normal_tail(score: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal};
    Normal::standard().sf(score).ln()
}
