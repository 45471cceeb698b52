//! A suspect's generations: was it trained on text under this key?
//!
//! All evidence is of one suspect, and every test asks the same null hypothesis: what the suspect
//! says is independent of the key. The tests of a report are one family; its p-values are adjusted
//! after Holm, so that a verdict that picks the best of them keeps its error rate. Beside each
//! test stand the same numbers under decoy keys that nobody used, and of a control model.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::battery::{Battery, Glance, Mismatch};
use crate::detect::{Sample, Score, Test, TestId};
use crate::effect::{Effect, Influence};
use crate::openweights::ScoredText;
use crate::parallel::in_parallel;
use crate::profile::Mark;
use crate::reading::ReadingResult;
use crate::regime::{Chosen, ChosenError, WindowCounts, never_emitted};
use crate::report::Report;
use crate::stats::LnP;
use crate::stats::combine::holm;
use crate::stats::decoy::{Ks, ks_attained, rank_p};
use crate::stats::evalue::{LnE, Mixture};
use crate::window::Exhibit;

/// What goes into [`distill`].
#[derive(Clone, Copy)]
pub struct Distillation<'a> {
    /// The mark in question.
    pub mark: &'a Mark,
    /// Everything that the suspect said. Without a segment (nothing was asked, which is not the same
    /// as an empty answer) no test of its text is run.
    pub suspect: &'a Exhibit,
    /// The generations of a model known to be innocent.
    pub control: Option<&'a Exhibit>,
    /// The suspect's own segments as a reference model reads them.
    pub reference: Option<&'a [ScoredText]>,
    /// Clean text of the teacher's kind, fixed before the key's first use.
    pub corpus: Option<&'a [Vec<u32>]>,
    /// What the suspect's weights say about neutral text.
    pub open: Option<Open<'a>>,
    /// What is known of the text that was written under the key.
    pub logs: Option<Logs<'a>>,
    /// The suspect's reading of the logs themselves.
    pub reading: Option<ReadingResult>,
    /// The family, chosen before the results were seen: of these tests those that the evidence
    /// allows. By default all but [`TestId::OpenArgmax`], which another test replaces.
    pub tests: Option<&'a [TestId]>,
    /// The same profile under keys that nobody used.
    pub decoys: &'a [Mark],
    /// Ask in both directions: p becomes twice the smaller tail.
    pub two_sided: bool,
    /// Threads for the decoys. The report does not depend on it.
    pub threads: NonZeroUsize,
}

impl<'a> Distillation<'a> {
    /// The closed test of a suspect's text among decoys; further evidence is added by its fields.
    pub fn new(mark: &'a Mark, suspect: &'a Exhibit, decoys: &'a [Mark]) -> Self {
        Self {
            mark,
            suspect,
            control: None,
            reference: None,
            corpus: None,
            open: None,
            logs: None,
            reading: None,
            tests: None,
            decoys,
            two_sided: false,
            threads: NonZeroUsize::MIN,
        }
    }
}

/// Open weights: next-token distributions along neutral text that was fixed before the key's
/// first use.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The suspect's.
    pub suspect: &'a [ScoredText],
    /// A reference's, on the same texts; several are averaged. Without one there is no contrast.
    pub references: &'a [&'a [ScoredText]],
    /// Those of a model known to be innocent, on the same texts.
    pub control: Option<&'a [ScoredText]>,
}

/// Complete logs of what was written under the key.
#[derive(Clone, Copy)]
pub struct Logs<'a> {
    /// Which windows were emitted, and when first.
    pub windows: &'a dyn WindowCounts,
    /// Cells of the supervised test, fixed before the logs were read. Without it the supervised
    /// evidence is an e-value alone.
    pub planned: Option<u64>,
    /// Mean excess of a cell's score over chance in the logs themselves, in natural units.
    pub effect: Option<f64>,
}

/// Why evidence does not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DistillError {
    /// The reference did not read the suspect's answers.
    #[error("the reference on the suspect's answers: {0}")]
    Reference(Mismatch),
    /// Suspect and reference did not read the same neutral text.
    #[error("suspect and reference on neutral text: {0}")]
    Contrast(Mismatch),
    /// Suspect and control did not read the same neutral text.
    #[error("control and reference on neutral text: {0}")]
    Control(Mismatch),
    /// The logs cannot choose cells.
    #[error(transparent)]
    Chosen(#[from] ChosenError),
}

/// One test with what stands beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Finding {
    /// The suspect.
    pub test: Test,
    /// The p-value that enters the family: the upper tail, or twice the smaller one if the report
    /// is two-sided.
    #[serde(rename = "familyPLog10")]
    pub p: LnP,
    /// The same after Holm, over all findings of the report.
    #[serde(rename = "adjustedPLog10")]
    pub adjusted: LnP,
    /// The suspect under keys that nobody used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoys: Option<Decoys>,
    /// The control under this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Test>,
}

/// An e-value with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Betting {
    /// What it is of.
    pub id: BettingId,
    /// log10 E: against the null hypothesis, E is at most 1 on average.
    #[serde(rename = "eLog10")]
    pub e: LnE,
    /// Cells.
    pub cells: u64,
    /// SHA-256 of these cells, in hexadecimal; where several cells share a coin, of all of them.
    pub cells_digest: String,
    /// SHA-256 of the texts that were read, in their order, in hexadecimal: of a [reading](BettingId::Reading).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts_digest: Option<String>,
}

/// E-values of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BettingId {
    /// The suspect's cells in order of appearance.
    Closed,
    /// Cells whose windows the logs emitted, in order of emission.
    Supervised,
    /// The suspect's reading of the logs.
    Reading,
}

/// Runs every test of the family that the evidence allows; `progress(done)` hears of decoys as they
/// are scored, out of `decoys` times [`Distillation::batteries`].
///
/// # Errors
/// Parts of the evidence do not belong together.
pub fn distill(
    input: &Distillation<'_>,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Report, DistillError> {
    let mark = input.mark;
    let suspect = Sample::of(mark, input.suspect);
    let control = input.control.map(|control| Sample::of(mark, control));
    let mut findings = Vec::new();
    let done = AtomicUsize::new(0);
    let mut run = |battery: Battery<'_>, beside: Option<Battery<'_>>| {
        let asked = |id| input.asks(id);
        let Some(battery) = battery.only(asked) else {
            return;
        };
        let beside = beside.and_then(|battery| battery.only(asked));
        let decoys = decoys(&battery, input, &|| {
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        });
        let controls = beside.map(|battery| battery.tests(mark));
        for (place, test) in battery.tests(mark).into_iter().enumerate() {
            findings.push(Finding {
                p: family_p(&test, input.two_sided),
                adjusted: LnP::ONE,
                decoys: decoys.get(place).cloned(),
                control: controls.as_ref().map(|tests| tests[place].clone()),
                test,
            });
        }
    };
    let said = input.said();
    if said {
        let closed = |exhibit| Battery::closed(mark, exhibit);
        run(closed(input.suspect), input.control.map(closed));
    }
    if let Some(corpus) = input.corpus.filter(|_| said) {
        let weighed = |exhibit| Battery::corpus(mark, exhibit, corpus);
        run(weighed(input.suspect), input.control.map(weighed));
    }
    if let Some(read) = input.reference.filter(|_| said) {
        let battery =
            Battery::reference(mark, input.suspect, read).map_err(DistillError::Reference)?;
        run(battery, None);
    }
    if let Some(open) = input.open {
        if input.asks(TestId::OpenArgmax) {
            let argmax = |texts| Battery::argmax(mark, texts);
            run(argmax(open.suspect), open.control.map(argmax));
        }
        let soft = |texts| Battery::soft(mark, texts);
        run(soft(open.suspect), open.control.map(soft));
        if !open.references.is_empty() {
            let contrast = |texts| Battery::contrast(mark, texts, open.references);
            let beside = open.control.map(contrast).transpose();
            run(
                contrast(open.suspect).map_err(DistillError::Contrast)?,
                beside.map_err(DistillError::Control)?,
            );
        }
    }
    let neutral = input.open.map(|open| {
        let mut read = Exhibit::new(mark.scheme().context_width());
        open.suspect
            .iter()
            .for_each(|text| read.push(text.tokens()));
        Test::of(mark, &read)
    });
    let mut bets = Vec::new();
    if said {
        bets.push(closed_bet(mark, input.suspect));
    }
    let mut never = None;
    if let Some(logs) = input.logs.filter(|_| said) {
        let chosen = Chosen::of(mark, input.suspect, logs.windows)?;
        bets.push(Betting {
            id: BettingId::Supervised,
            e: chosen.e_value(mark),
            cells: chosen.len() as u64,
            cells_digest: chosen.digest(),
            texts_digest: None,
        });
        let planned = logs.planned.filter(|_| input.asks(TestId::Supervised));
        if let Some(planned) = planned {
            let test = chosen.first(mark, planned);
            findings.push(Finding {
                p: family_p(&test, input.two_sided),
                adjusted: LnP::ONE,
                decoys: None,
                control: None,
                test,
            });
        }
        never = Some(never_emitted(mark, input.suspect, logs.windows)?);
    }
    if let Some(reading) = input.reading {
        bets.push(Betting {
            id: BettingId::Reading,
            e: reading.e,
            cells: reading.cells,
            cells_digest: crate::hex(&reading.cells_digest),
            texts_digest: Some(crate::hex(&reading.texts_digest)),
        });
    }
    let family: Vec<LnP> = findings.iter().map(|finding| finding.p).collect();
    for (finding, adjusted) in findings.iter_mut().zip(holm(&family)) {
        finding.adjusted = adjusted;
    }
    let scores = input.suspect.cells().scores(mark);
    Ok(Report::new(
        mark,
        crate::report::Parts {
            effect: Effect::of(
                mark,
                input.suspect,
                &scores,
                input.logs.and_then(|l| l.effect),
            ),
            influence: Influence::of(mark, input.suspect, &scores),
            two_sided: input.two_sided,
            asked: input.tests.map(<[TestId]>::to_vec),
            suspect,
            control,
            findings,
            bets,
            never_emitted: never,
            neutral,
        },
    ))
}

impl Distillation<'_> {
    /// Whether the suspect was asked for text.
    fn said(&self) -> bool {
        self.suspect.counts().segments > 0
    }

    /// Whether a test belongs to the family.
    fn asks(&self, id: TestId) -> bool {
        match self.tests {
            Some(tests) => tests.contains(&id),
            None => id != TestId::OpenArgmax,
        }
    }

    /// How many lists of cells are scored under each decoy.
    pub fn batteries(&self) -> usize {
        use TestId as T;
        let any = |ids: &[TestId]| ids.iter().any(|&id| self.asks(id));
        let said = self.said();
        let contrast = self.open.is_some_and(|open| !open.references.is_empty());
        [
            said && any(&[T::ClosedCells, T::ClosedSqrt, T::ClosedInverseVariance]),
            said && self.corpus.is_some() && any(&[T::ClosedCorpus]),
            said && self.reference.is_some() && any(&[T::ClosedReference]),
            self.open.is_some() && any(&[T::OpenArgmax]),
            self.open.is_some() && any(&[T::OpenSoft]),
            contrast && any(&[T::OpenContrast]),
        ]
        .into_iter()
        .filter(|&runs| runs)
        .count()
    }
}

/// Twice the smaller tail, but for the tests against a reference: a low sum there says that the reference
/// knows the key, which is nothing against the suspect.
fn family_p(test: &Test, two_sided: bool) -> LnP {
    let against_reference = matches!(test.id, TestId::ClosedReference | TestId::OpenContrast);
    if two_sided && !against_reference {
        test.p.min(test.lower_p).bonferroni(2)
    } else {
        test.p
    }
}

fn closed_bet(mark: &Mark, exhibit: &Exhibit) -> Betting {
    let Score { cells, sum } = Score::of(&exhibit.cells().scores(mark));
    Betting {
        id: BettingId::Closed,
        e: Mixture::standard(mark.scheme().null())
            .ln_e(cells, sum)
            .of_key_bits(mark.scheme().key_bits()),
        cells,
        cells_digest: crate::hex(&exhibit.digest()),
        texts_digest: None,
    }
}

/// The suspect's cells under keys that nobody used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decoys {
    /// Decoys and the key in question together.
    pub of: u64,
    /// Place of the key in question among them by standard score, 1 for the most striking; ties
    /// count against it.
    pub rank: u64,
    /// `log10 (rank / of)`: exact where the text is independent of all these keys. It cannot
    /// fall below `1 / of` and stands beside the tail, never instead of it.
    #[serde(rename = "rankPLog10")]
    pub rank_p: LnP,
    /// Kolmogorov-Smirnov distance of the decoys' p-values from the uniform law. A discrete law
    /// makes the test conservative.
    pub ks: Ks,
    /// Mean of the decoys' standard scores.
    pub mean_z: f64,
    /// Their standard deviation.
    pub sd_z: f64,
    /// log10 of the decoys' p-values, ascending: exact tails, or the saddlepoint figure where the
    /// test's own p is a bound (bounds would not look uniform).
    #[serde(rename = "pLog10")]
    pub p: Vec<LnP>,
    /// The decoys' standard scores, ascending: figures.
    pub z: Vec<f64>,
}

impl Decoys {
    /// Ranks a test among the same test under decoy keys; there is at least one.
    fn of(real: Glance, decoys: &[Glance]) -> Self {
        let striking: Vec<f64> = decoys.iter().map(|decoy| decoy.z).collect();
        let mut z = striking.clone();
        z.sort_unstable_by(f64::total_cmp);
        let below = striking.iter().filter(|&&z| z < real.z).count();
        let count = decoys.len() as f64;
        let mean_z = striking.iter().sum::<f64>() / count;
        let squares = striking.iter().map(|z| (z - mean_z).powi(2));
        let mut uniforms: Vec<f64> = decoys.iter().map(|decoy| decoy.p.ln().exp()).collect();
        let mut p: Vec<LnP> = decoys.iter().map(|decoy| decoy.p).collect();
        p.sort_unstable();
        Self {
            of: decoys.len() as u64 + 1,
            rank: (decoys.len() + 1 - below) as u64,
            rank_p: rank_p(real.z, &striking),
            ks: ks_attained(&mut uniforms),
            mean_z,
            sd_z: (squares.sum::<f64>() / (count - 1.0).max(1.0)).sqrt(),
            p,
            z,
        }
    }
}

/// Every test of a battery among its decoys, in the battery's order; empty without decoys.
pub fn decoys(
    battery: &Battery<'_>,
    input: &Distillation<'_>,
    progress: &(dyn Fn() + Sync),
) -> Vec<Decoys> {
    if input.decoys.is_empty() {
        return Vec::new();
    }
    let tables = battery.tables();
    let glances = in_parallel(input.threads, input.decoys, &|decoy| {
        let glance = tables.glance(decoy);
        progress();
        glance
    });
    let real = tables.glance(input.mark);
    let of_test = |place: usize| {
        let column: Vec<Glance> = glances.iter().map(|glance| glance[place]).collect();
        Decoys::of(real[place], &column)
    };
    (0..real.len()).map(of_test).collect()
}

impl Finding {
    /// Its test.
    pub fn id(&self) -> TestId {
        self.test.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;
    use crate::verdict::{Policy, Verdict};

    fn mark(byte: u8) -> Mark {
        let key = SlotKey::from_parts([byte; 32], Epoch::new("t").unwrap(), 0);
        let profile = Profile::built_in("greenlist-h1").unwrap();
        profile.bind(&key).unwrap()
    }

    fn ids(report: &Report) -> Vec<TestId> {
        report.findings.iter().map(Finding::id).collect()
    }

    /// Which tests make the family, not what they find.
    #[test]
    fn the_family_is_what_was_asked_and_can_be_run() {
        use TestId as T;
        let (mark, decoys) = (mark(1), [mark(2), mark(3)]);
        let silent = Exhibit::new(1);
        let mut spoken = Exhibit::new(1);
        spoken.push(&[1, 2, 3, 4, 5]);
        let read = [ScoredText::new(9, vec![1, 2, 3], 1, [[(2, 0.5)], [(3, 0.5)]]).unwrap()];
        let references = [read.as_slice()];
        let corpus = [vec![1, 2, 3]];
        let all = Distillation {
            mark: &mark,
            suspect: &spoken,
            control: None,
            reference: None,
            corpus: Some(&corpus),
            open: Some(Open {
                suspect: &read,
                references: &references,
                control: None,
            }),
            logs: None,
            reading: None,
            tests: None,
            decoys: &decoys,
            two_sided: false,
            threads: NonZeroUsize::MIN,
        };
        let run = |input: &Distillation<'_>| {
            let heard = AtomicUsize::new(0);
            let report = distill(input, &|_| {
                heard.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(heard.into_inner(), input.batteries() * input.decoys.len());
            report.unwrap()
        };
        let closed = [
            T::ClosedCells,
            T::ClosedSqrt,
            T::ClosedInverseVariance,
            T::ClosedCorpus,
        ];
        let open = [T::OpenSoft, T::OpenContrast];
        assert_eq!(ids(&run(&all)), [&closed[..], &open].concat());

        let asked = [T::ClosedSqrt, T::OpenArgmax, T::Supervised];
        let few = run(&Distillation {
            tests: Some(&asked),
            ..all
        });
        assert_eq!(ids(&few), [T::ClosedSqrt, T::OpenArgmax]);
        assert_eq!(few.asked.as_deref(), Some(&asked[..]));
        // Holm over two, not over seven.
        let smallest = few.findings.iter().map(|f| f.p).min().unwrap();
        let any = Policy {
            min_cells: 0,
            ..Policy::default()
        };
        assert_eq!(
            few.strongest(&any).unwrap().adjusted,
            smallest.bonferroni(2)
        );

        // Nothing was asked: no test of text, and no word that it is missing.
        let unasked = run(&Distillation {
            suspect: &silent,
            ..all
        });
        assert_eq!(ids(&unasked), open);
        assert!(unasked.bets.is_empty());
        let nothing = crate::warning::Warning::NothingScored;
        assert!(!unasked.warnings.contains(&nothing));
        // An empty answer is an answer.
        let mut empty = Exhibit::new(1);
        empty.push(&[]);
        let answered = run(&Distillation {
            suspect: &empty,
            ..all
        });
        assert_eq!(ids(&answered).len(), 6);
        assert!(answered.warnings.contains(&nothing));
        let policy = Policy::default();
        let verdict = Verdict::of_report(&answered, &policy);
        assert_eq!(verdict, Verdict::InsufficientEvidence);
    }

    /// Two tests of one report: the one with the smaller p-value has the fewer cells. As text is drawn from green
    /// tokens, no chance is in it.
    #[test]
    fn too_few_cells_are_never_the_strongest() {
        let mark = mark(1);
        let scheme = mark.scheme();
        let mut text = vec![1];
        for step in 0..120u32 {
            let row = scheme.row(&text[text.len() - 1..]);
            let mut fresh = (10 + step * 7..).filter(|&token| scheme.score(&row, token) == 1);
            // Six of ten green, and some more by chance.
            text.push(match step % 10 {
                0..=3 => 5000 + step,
                _ => fresh.next().unwrap(),
            });
        }
        let mut spoken = Exhibit::new(1);
        spoken.push(&text);
        // The open test reads one position at which all its entries are green.
        let row = scheme.row(&[3]);
        let green = (0..2000).filter(|&token| scheme.score(&row, token) == 1);
        let entries: Vec<(u32, f64)> = green.take(90).map(|token| (token, 0.01)).collect();
        let read = [ScoredText::new(2000, vec![3, 4], 1, [entries]).unwrap()];
        let tests = [TestId::ClosedCells, TestId::OpenSoft];
        let input = Distillation {
            open: Some(Open {
                suspect: &read,
                references: &[],
                control: None,
            }),
            tests: Some(&tests),
            ..Distillation::new(&mark, &spoken, &[])
        };
        let report = distill(&input, &|_| {}).unwrap();
        let [closed, open] = &report.findings[..] else {
            panic!("{:?}", report.findings)
        };
        assert!(open.adjusted < closed.adjusted && open.test.n_scored < closed.test.n_scored);
        let policy = |min_cells| Policy {
            min_cells,
            ..Policy::default()
        };
        for (min_cells, id) in [
            (90, Some(TestId::OpenSoft)),
            (91, Some(TestId::ClosedCells)),
            (1000, None),
        ] {
            let policy = policy(min_cells);
            let strongest = report.strongest(&policy);
            assert_eq!(strongest.map(Finding::id), id);
            let verdict = Verdict::of_report(&report, &policy);
            let expected = id.map_or(Verdict::InsufficientEvidence, |_| Verdict::Rejected);
            assert_eq!(verdict, expected);
        }
    }
}
