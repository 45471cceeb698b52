//! The clean regime: text, weights and key are independent, and every test of a battery has its law.
//!
//! Exact tests are counted against their attained size, which for a weighted sum on a lattice is
//! found by bisection of its own tail; bounds against alpha from above alone. What a bound leaves
//! open is seen in the standard scores: over keys their mean is 0 and their mean square 1, exactly.

use std::collections::HashMap;

use watermark_core::battery::{Battery, Tables};
use watermark_core::detect::{Score, TestId};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::{Mark, Profile};
use watermark_core::scheme::Null;
use watermark_core::stats::weighted::{TailMethod, WeightedLaw};
use watermark_core::window::Exhibit;

use super::look::{Claim, Looks, Moments, Subject, Tally};
use super::material::{Material, read};
use super::{NullError, Plan, attainable, fresh, in_blocks};

/// The levels that are looked at for every profile; the last one over all profiles together.
pub const ALPHAS: [f64; 4] = [1e-2, 1e-3, 1e-4, 1e-6];
/// How many of them are looked at a profile.
const NEAR: usize = 3;

/// Exhibits a kind of text.
const EXHIBITS: usize = 6;
/// Documents an exhibit, and tokens a document.
const DOCUMENTS: usize = 5;
const TOKENS: usize = 50;
/// Entries of a distribution that are kept.
const TOP: usize = 8;
/// Tokens of the neutral text of an exhibit.
const NEUTRAL: usize = 64;

/// Every so many keys all tests are run in full, whatever the quick look says.
const FULL: u64 = 256;

/// The kinds of text: the documents of an exhibit by number.
const KINDS: [(&str, [usize; DOCUMENTS]); 2] = [
    ("natural", [0, 1, 2, 3, 4]),
    ("20 % repeated", [0, 1, 2, 3, 0]),
];

/// What does not depend on scheme and key.
struct Evidence {
    documents: Vec<Vec<u32>>,
    /// Other passages.
    corpus: Vec<Vec<u32>>,
    /// The documents as the reference reads them.
    read: Vec<ScoredText>,
    /// Neutral text as the suspect and as the reference read it.
    suspect: Vec<ScoredText>,
    reference: Vec<ScoredText>,
}

impl Evidence {
    fn new(material: &Material, number: usize, kind: &[usize]) -> Result<Self, NullError> {
        let [suspect, reference] = &material.words;
        let passage = |place: usize| &material.passages[place % material.passages.len()];
        let first = number * (DOCUMENTS + 1);
        let documents: Vec<Vec<u32>> = kind
            .iter()
            .map(|&place| {
                passage(first + place)
                    .iter()
                    .take(TOKENS)
                    .copied()
                    .collect()
            })
            .collect();
        let read = documents
            .iter()
            .map(|document| read(reference, document, TOP))
            .collect::<Result<_, _>>()?;
        let neutral: Vec<u32> = passage(first + DOCUMENTS)
            .iter()
            .take(NEUTRAL)
            .copied()
            .collect();
        Ok(Self {
            suspect: vec![super::material::read(suspect, &neutral, TOP)?],
            reference: vec![super::material::read(reference, &neutral, TOP)?],
            corpus: (1..40)
                .map(|place| passage(first + DOCUMENTS + place).clone())
                .collect(),
            documents,
            read,
        })
    }

    fn exhibit(&self, width: usize) -> Exhibit {
        let mut exhibit = Exhibit::new(width);
        for document in &self.documents {
            exhibit.push(document);
        }
        exhibit
    }

    fn batteries<'a>(
        &self,
        mark: &Mark,
        exhibit: &'a Exhibit,
    ) -> Result<Vec<Battery<'a>>, NullError> {
        Ok(vec![
            Battery::closed(mark, exhibit),
            Battery::corpus(mark, exhibit, &self.corpus),
            Battery::reference(mark, exhibit, &self.read)?,
            Battery::argmax(mark, &self.suspect),
            Battery::soft(mark, &self.suspect),
            Battery::contrast(mark, &self.suspect, &[&self.reference])?,
        ])
    }
}

/// What is known of a test before any key.
struct Expectation {
    id: TestId,
    /// The probability of a rejection at each level: attained where known, else the most.
    sizes: [f64; ALPHAS.len()],
    claim: Claim,
    /// Cells share coins by the key, so the attained size is that of their number.
    by_coins: bool,
    /// A quick look above this p cannot hide a rejection.
    quick: f64,
}

impl Expectation {
    fn new((id, law): (TestId, WeightedLaw), null: Null, pairs: bool) -> Self {
        let attained = attained_sizes(&law, null);
        let unweighted = law.classes().all(|(weight, _)| weight == 1)
            && matches!(id, TestId::ClosedCells | TestId::OpenArgmax);
        let exact = attained.is_some() && (pairs || unweighted);
        Self {
            id,
            sizes: attained.filter(|_| exact).unwrap_or(ALPHAS),
            claim: if exact { Claim::Exact } else { Claim::AtMost },
            by_coins: !pairs && unweighted,
            // An exact p is the same in the quick look; a figure is within a factor of two of a
            // bound's own tail, and every FULL-th key shows whether that is so.
            quick: if exact { 0.0101 } else { 0.02 },
        }
    }
}

/// Every level's largest attainable size: alpha for continuous scores; none if the tail is a bound.
fn attained_sizes(law: &WeightedLaw, null: Null) -> Option<[f64; ALPHAS.len()]> {
    let tails = law.tails();
    let unit = law.z(1 << 40) - law.z(0);
    let at = |z: f64| ((z - law.z(0)) / unit * (1u64 << 40) as f64) as i128;
    let exact = |sum| tails.upper_tail(sum).1 == TailMethod::Exact;
    if !exact(at(2.5)) || !exact(at(4.0)) {
        return None;
    }
    let Null::Binomial { trials, .. } = null else {
        return Some(ALPHAS);
    };
    let most: i128 = law
        .classes()
        .map(|(weight, cells)| i128::from(weight.max(0)) * i128::from(cells))
        .sum::<i128>()
        * i128::from(trials);
    let size = |alpha: f64| {
        let rejects = |sum| tails.upper_tail(sum).0.ln() <= alpha.ln();
        let (mut low, mut high) = (at(0.0), most);
        if !rejects(high) {
            return 0.0;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if rejects(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        tails.upper_tail(high).0.ln().exp()
    };
    Some(ALPHAS.map(size))
}

/// One exhibit under one profile, ready for many keys.
struct Case<'a> {
    batteries: &'a [Battery<'a>],
    tables: Vec<Tables<'a>>,
    /// By battery.
    expectations: Vec<Vec<Expectation>>,
}

impl<'a> Case<'a> {
    fn new(batteries: &'a [Battery<'a>], mark: &Mark) -> Self {
        let (null, pairs) = (mark.scheme().null(), mark.scheme().cells_are_pairs());
        let expect = |battery: &Battery<'_>| {
            let laws = battery.laws();
            laws.map(|law| Expectation::new(law, null, pairs)).collect()
        };
        Self {
            batteries,
            tables: batteries.iter().map(Battery::tables).collect(),
            expectations: batteries.iter().map(expect).collect(),
        }
    }
}

/// One test over keys.
#[derive(Clone, Copy, Default)]
struct Sums {
    tallies: [Tally; ALPHAS.len()],
    z: Moments,
    z_squared: Moments,
}

impl Sums {
    fn merge(&mut self, other: &Self) {
        for (tally, other) in self.tallies.iter_mut().zip(&other.tallies) {
            tally.merge(other);
        }
        self.z.merge(&other.z);
        self.z_squared.merge(&other.z_squared);
    }
}

/// A block of keys: the sums of every test in the batteries' order, and disagreements.
struct Block {
    sums: Vec<Sums>,
    disagreements: u64,
}

/// Attained sizes by number of coins.
type Sizes = HashMap<u64, [f64; ALPHAS.len()]>;

impl Block {
    fn trial(&mut self, case: &Case<'_>, mark: &Mark, full: bool, known: &mut Sizes) {
        let mut place = 0;
        let parts = case.batteries.iter().zip(&case.tables);
        for ((battery, tables), expectations) in parts.zip(&case.expectations) {
            let glances = tables.glance(mark);
            let striking =
                |(glance, expected): (&watermark_core::battery::Glance, &Expectation)| {
                    glance.p.ln() <= expected.quick.ln()
                };
            let tests = (full || glances.iter().zip(expectations).any(striking))
                .then(|| battery.tests(mark));
            for (index, expected) in expectations.iter().enumerate() {
                let sums = &mut self.sums[place];
                place += 1;
                let glance = glances[index];
                sums.z.push(glance.z);
                sums.z_squared.push(glance.z * glance.z);
                // At least the largest level where the test was not run: nothing is counted.
                let ln_p = tests.as_ref().map_or(0.0, |tests| tests[index].p.ln());
                let hidden = ln_p <= ALPHAS[0].ln() && !striking((&glance, expected));
                let same = (glance.p.ln() - ln_p).abs() <= 1e-8 * (1.0 + ln_p.abs());
                let exact = expected.claim == Claim::Exact && tests.is_some();
                self.disagreements += u64::from(hidden || exact && !same);
                let sizes = if expected.by_coins {
                    let coins = Score::of(&battery.cells().scores(mark)).cells;
                    let null = mark.scheme().null();
                    *known
                        .entry(coins)
                        .or_insert_with(|| ALPHAS.map(|alpha| attainable(null, coins, alpha)))
                } else {
                    expected.sizes
                };
                for ((tally, alpha), size) in sums.tallies.iter_mut().zip(ALPHAS).zip(sizes) {
                    tally.push(ln_p <= alpha.ln(), size);
                }
            }
        }
    }
}

/// One profile on one kind of text.
struct Outcome {
    /// Test, sums over keys, and what is claimed of the counts.
    tests: Vec<(TestId, Sums, Claim)>,
    disagreements: u64,
}

fn profile(
    profile: &Profile,
    evidence: &[Evidence],
    text: &str,
    plan: &Plan,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Outcome, NullError> {
    let purpose = format!("clean/{text}");
    // For the law alone; its key is not one of the trials'.
    let sample = fresh(profile, "law", plan.seed, 0)?;
    let width = profile.context_width();
    let exhibits: Vec<Exhibit> = evidence.iter().map(|e| e.exhibit(width)).collect();
    let batteries = evidence
        .iter()
        .zip(&exhibits)
        .map(|(evidence, exhibit)| evidence.batteries(&sample, exhibit))
        .collect::<Result<Vec<_>, _>>()?;
    let cases: Vec<Case<'_>> = batteries
        .iter()
        .map(|batteries| Case::new(batteries, &sample))
        .collect();
    let ids: Vec<TestId> = cases[0]
        .expectations
        .iter()
        .flatten()
        .map(|e| e.id)
        .collect();
    let blocks = in_blocks(plan.clean, plan.threads, progress, |trials| {
        let mut block = Block {
            sums: vec![Sums::default(); ids.len()],
            disagreements: 0,
        };
        let mut known = Sizes::new();
        for trial in trials {
            let mark = fresh(profile, &purpose, plan.seed, trial)?;
            let case = &cases[trial as usize % cases.len()];
            // Full runs walk through the exhibits as well.
            let full = trial % FULL == trial / FULL % FULL;
            block.trial(case, &mark, full, &mut known);
        }
        Ok(block)
    })?;
    let mut outcome = Outcome {
        tests: Vec::new(),
        disagreements: blocks.iter().map(|block| block.disagreements).sum(),
    };
    for (place, &id) in ids.iter().enumerate() {
        let mut sums = Sums::default();
        for block in &blocks {
            sums.merge(&block.sums[place]);
        }
        let exact = |case: &Case<'_>| {
            let mut all = case.expectations.iter().flatten();
            all.nth(place).is_some_and(|e| e.claim == Claim::Exact)
        };
        let claim = if cases.iter().all(exact) {
            Claim::Exact
        } else {
            Claim::AtMost
        };
        outcome.tests.push((id, sums, claim));
    }
    Ok(outcome)
}

/// All profiles on both kinds of text.
///
/// # Errors
/// A profile is not valid, or a model fails.
pub fn run(
    material: &Material,
    profiles: &[Profile],
    plan: &Plan,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Looks, NullError> {
    let mut looks = Looks::default();
    // Over all profiles, for the smallest level.
    let mut deep: Vec<(TestId, Tally, Claim)> = Vec::new();
    for (text, kind) in KINDS {
        let evidence = (0..EXHIBITS)
            .map(|number| Evidence::new(material, number, &kind))
            .collect::<Result<Vec<_>, _>>()?;
        for one in profiles {
            let outcome = profile(one, &evidence, text, plan, progress)?;
            looks.disagreements += outcome.disagreements;
            for (id, sums, claim) in outcome.tests {
                let subject = Subject {
                    part: "clean",
                    profile: one.id.clone(),
                    test: id.name().to_owned(),
                    text,
                };
                for (tally, alpha) in sums.tallies.into_iter().zip(ALPHAS).take(NEAR) {
                    looks.count(&subject, alpha, tally, claim);
                }
                looks.mean(&subject, "z", sums.z, 0.0, Claim::Exact);
                looks.mean(&subject, "z^2", sums.z_squared, 1.0, Claim::Exact);
                looks.pairs += plan.clean;
                let last = sums.tallies[NEAR];
                match deep.iter_mut().find(|(known, ..)| *known == id) {
                    Some((_, tally, all)) => {
                        tally.merge(&last);
                        if claim == Claim::AtMost {
                            *all = claim;
                        }
                    }
                    None => deep.push((id, last, claim)),
                }
            }
        }
    }
    for (id, tally, claim) in deep {
        let subject = Subject {
            part: "clean",
            profile: "all".to_owned(),
            test: id.name().to_owned(),
            text: "both",
        };
        looks.count(&subject, ALPHAS[NEAR], tally, claim);
    }
    Ok(looks)
}
