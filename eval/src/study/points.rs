//! Every test of one student at growing budgets.

use std::collections::HashSet;

use watermark_core::battery::Battery;
use watermark_core::detect::{Score, Test, TestId};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::Mark;
use watermark_core::regime::{Chosen, ExactWindows};
use watermark_core::stats::evalue::Mixture;
use watermark_core::window::Exhibit;

use super::{Cast, Point, Study, StudyError, texts};
use crate::model::{Model, worker};
use crate::reading::scored;
use crate::student::{DOCUMENT_START, Student};

/// Orders in which answers and neutral texts are taken.
const ROTATIONS: usize = 4;

/// What the readings of one seed have in common.
pub(super) struct Shared<'a> {
    pub(super) study: &'a Study,
    pub(super) cast: &'a Cast<'a>,
    pub(super) seed: u64,
    reference: &'a Student,
    pub(super) reference_reads: Vec<ScoredText>,
    /// Unmarked text of the teacher that no suspect was trained on.
    pub(super) others: &'a [Vec<u32>],
}

/// What a student says and how it reads.
pub(super) struct Read {
    pub(super) answers: Vec<Vec<u32>>,
    /// The reference on the answers.
    pub(super) expected: Vec<ScoredText>,
    /// The student on neutral text.
    pub(super) neutral: Vec<ScoredText>,
}

impl Read {
    pub(super) fn of(
        shared: &Shared<'_>,
        student: &Student,
        name: &str,
    ) -> Result<Self, StudyError> {
        let Shared {
            study, cast, seed, ..
        } = *shared;
        let answers = texts(&study.ask(cast, seed, name, student)?);
        Ok(Self {
            expected: shared.reads(shared.reference, &answers)?,
            neutral: shared.reads(student, cast.neutral)?,
            answers,
        })
    }
}

/// The exhibit of answers to prompts that were asked by turns, each with its number.
pub(super) fn asked<'t>(
    prompts: &[Vec<u32>],
    width: usize,
    answers: impl Iterator<Item = (usize, &'t [u32])>,
) -> Exhibit {
    let mut exhibit = Exhibit::new(width);
    prompts.iter().for_each(|prompt| exhibit.exclude(prompt));
    for (index, answer) in answers {
        exhibit.push_from((index % prompts.len()) as u32, answer);
    }
    exhibit
}

/// Six budgets to a factor of ten, from ten tokens to all.
fn budgets(all: usize) -> Vec<usize> {
    let mut budgets: Vec<usize> = (6..)
        .map(|step| 10f64.powf(f64::from(step) / 6.0).round() as usize)
        .take_while(|&tokens| tokens < all)
        .collect();
    budgets.push(all);
    budgets
}

/// The first `budget` tokens of texts in an order: which text, and how much of it.
fn taken(order: &[usize], texts: &[&[u32]], budget: usize) -> Vec<(usize, usize)> {
    let mut left = budget;
    let mut taken = Vec::new();
    for &index in order {
        if left == 0 {
            break;
        }
        let len = texts[index].len().min(left);
        left -= len;
        taken.push((index, len));
    }
    taken
}

fn rotated(len: usize, rotation: usize) -> Vec<usize> {
    (0..len)
        .map(|i| (i + rotation * len / ROTATIONS) % len)
        .collect()
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        study: &'a Study,
        cast: &'a Cast<'a>,
        seed: u64,
        reference: &'a Student,
        others: &'a [Vec<u32>],
    ) -> Result<Self, StudyError> {
        let mut shared = Self {
            study,
            cast,
            seed,
            reference,
            reference_reads: Vec::new(),
            others,
        };
        shared.reference_reads = shared.reads(reference, cast.neutral)?;
        Ok(shared)
    }

    fn reads(&self, model: &dyn Model, texts: &[Vec<u32>]) -> Result<Vec<ScoredText>, StudyError> {
        let Self { study, cast, .. } = self;
        Ok(scored(
            model,
            texts,
            DOCUMENT_START,
            study.top,
            cast.threads,
            &|_| (),
        )?)
    }

    /// The exhibit of answers to the openings, each with its number, which says what it was asked.
    pub(super) fn exhibit<'t>(
        &self,
        width: usize,
        answers: impl Iterator<Item = (usize, &'t [u32])>,
    ) -> Exhibit {
        asked(self.cast.openings, width, answers)
    }

    pub(super) fn points(
        &self,
        mark: &Mark,
        share: f64,
        read: &Read,
        logs: &ExactWindows,
    ) -> Vec<Point> {
        let point = |rotation, tokens, test: &str, cells, p_log10, z| Point {
            profile: mark.profile().id.clone(),
            share,
            seed: self.seed,
            test: test.to_owned(),
            rotation,
            tokens: tokens as u64,
            cells,
            p_log10,
            z,
        };
        let rotations: Vec<usize> = (0..ROTATIONS).collect();
        let found = worker::map(self.cast.threads, rotations, |rotation| {
            let mut points = Vec::new();
            let mut put = |tokens, test: &str, cells, p_log10, z| {
                points.push(point(rotation, tokens, test, cells, p_log10, z));
            };
            self.closed(mark, read, logs, rotation, &mut put);
            self.open(mark, read, rotation, &mut put);
            points
        });
        found.concat()
    }

    fn closed(
        &self,
        mark: &Mark,
        read: &Read,
        logs: &ExactWindows,
        rotation: usize,
        put: &mut dyn FnMut(usize, &str, u64, f64, f64),
    ) {
        let answers: Vec<&[u32]> = read.answers.iter().map(Vec::as_slice).collect();
        let order = rotated(answers.len(), rotation);
        let all = answers.iter().map(|answer| answer.len()).sum();
        let null = mark.scheme().null();
        for tokens in budgets(all) {
            let mut put = |test: &str, cells, p, z| put(tokens, test, cells, p, z);
            let mut put_test = |test: &Test| {
                put(test.id.name(), test.n_scored, test.p.log10(), test.z);
            };
            let taken = taken(&order, &answers, tokens);
            let parts = taken.iter().map(|&(i, len)| (i, &answers[i][..len]));
            let exhibit = self.exhibit(mark.scheme().context_width(), parts);
            let mut batteries = vec![Battery::closed(mark, &exhibit)];
            let parts = taken.iter();
            let expected: Vec<ScoredText> = parts
                .map(|&(i, len)| read.expected[i].part(0, len))
                .collect();
            batteries.extend(Battery::reference(mark, &exhibit, &expected));
            batteries.push(Battery::corpus(mark, &exhibit, self.others));
            for battery in batteries {
                battery.tests(mark).iter().for_each(&mut put_test);
            }
            if let Ok(chosen) = Chosen::of(mark, &exhibit, logs) {
                put_test(&chosen.first(mark, tokens as u64 / 4));
                let e = chosen.e_value(mark);
                put("supervised-e", chosen.len() as u64, -e.log10(), 0.0);
            }
            // Published: every window once, with the token that followed it first.
            let mut met = HashSet::new();
            let cells = exhibit.cells();
            let first = cells.filter(|index| met.insert(cells.get(index).0.to_vec()));
            let score = Score::of(&first.scores(mark));
            let test = Test::from_score(TestId::ClosedCells, null, score);
            put("published-windows", test.n_scored, test.p.log10(), test.z);
            let Score { cells, sum } = Score::of(&cells.scores(mark));
            let e = Mixture::standard(null).ln_e(cells, sum);
            put("any-time", cells, -e.log10(), 0.0);
        }
    }

    fn open(
        &self,
        mark: &Mark,
        read: &Read,
        rotation: usize,
        put: &mut dyn FnMut(usize, &str, u64, f64, f64),
    ) {
        let neutral: Vec<&[u32]> = read.neutral.iter().map(ScoredText::tokens).collect();
        let order = rotated(neutral.len(), rotation);
        let all = neutral.iter().map(|text| text.len()).sum();
        for tokens in budgets(all) {
            let taken = taken(&order, &neutral, tokens);
            let part = |of: &[ScoredText]| -> Vec<ScoredText> {
                let parts = taken.iter();
                parts.map(|&(i, len)| of[i].part(0, len)).collect()
            };
            let (suspect, reference) = (part(&read.neutral), part(&self.reference_reads));
            let soft = Battery::soft(mark, &suspect);
            if let Some(p) = soft.hoeffding(mark) {
                put(tokens, "published-soft", 0, p.log10(), 0.0);
            }
            let mut batteries = vec![Battery::argmax(mark, &suspect), soft];
            batteries.extend(Battery::contrast(mark, &suspect, &[&reference]));
            for test in batteries.iter().flat_map(|battery| battery.tests(mark)) {
                put(
                    tokens,
                    test.id.name(),
                    test.n_scored,
                    test.p.log10(),
                    test.z,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_tokens_and_the_last_text_is_cut() {
        assert_eq!(budgets(100), [10, 15, 22, 32, 46, 68, 100]);
        assert_eq!(budgets(7), [7]);
        let texts: [&[u32]; 3] = [&[1, 2, 3], &[4], &[5, 6, 7]];
        assert_eq!(taken(&[1, 2, 0], &texts, 3), [(1, 1), (2, 2)]);
        assert_eq!(taken(&[1, 2, 0], &texts, 9), [(1, 1), (2, 3), (0, 3)]);
        assert_eq!(rotated(4, 1), [1, 2, 3, 0]);
    }
}
