//! Cells chosen by logs that were really written under the key.
//!
//! A model of letters writes logs under a fresh key; an innocent suspect's text, which was there before,
//! overlaps their windows. Valid are the first n cells in order of emission, and the e-value. The
//! plain tail over all chosen cells is not, and stands beside them: a Gumbel mark sends every
//! document down the same paths, so that which windows are reached tells something about their rows.
//!
//! A guilty student, trained on the logs, says what they say. The windows that they never emitted
//! must not fire all the same.

use watermark_core::detect::Test;
use watermark_core::profile::{Mark, Profile};
use watermark_core::regime::{Chosen, ExactWindows, never_emitted};
use watermark_core::scheme::Null;
use watermark_core::window::Exhibit;

use super::look::{Claim, Looks, Moments, Subject, Tally};
use super::material::{LETTERS, Material, START, write};
use super::{NullError, Plan, attainable, fresh, in_blocks, supervised};
use crate::model::ngram::NGram;

/// The levels that are looked at.
pub const ALPHAS: [f64; 3] = [0.05, 1e-2, 1e-3];

/// Letters that an innocent suspect said.
const SUSPECT: usize = 400;
/// Letters that a student says.
const STUDENT: usize = 200;

/// A size of logs.
struct Logs {
    part: &'static str,
    text: &'static str,
    /// Of a trial: documents, and letters a document.
    shape: fn(u64) -> (u64, usize),
    /// Cells of the supervised test.
    planned: u64,
    trials: fn(&Plan) -> u64,
}

const LOGS: [Logs; 2] = [
    Logs {
        part: "chosen",
        text: "logs of 30 to 100",
        shape: |trial| (5, 6 + (trial % 15) as usize),
        planned: 12,
        trials: |plan| plan.tiny,
    },
    Logs {
        part: "chosen",
        text: "logs of 3,000",
        shape: |_| (30, 100),
        planned: 60,
        trials: |plan| plan.large,
    },
];

/// Tests with a count of rejections.
const COUNTED: [(&str, Claim); 6] = [
    // Where fewer cells than planned are reached, p is 1: from above alone.
    ("supervised, first n", Claim::AtMost),
    ("supervised, 1 / E", Claim::AtMost),
    ("never-emitted", Claim::Exact),
    ("never-emitted, guilty student", Claim::Exact),
    ("INVALID: tail of all chosen cells", Claim::Invalid),
    ("(control: guilty student, closed-cells)", Claim::Invalid),
];

#[derive(Clone, Copy, Default)]
struct Sums {
    tallies: [[Tally; ALPHAS.len()]; COUNTED.len()],
    e: Moments,
}

impl Sums {
    fn push(&mut self, place: usize, ln_p: f64, size: impl Fn(f64) -> f64) {
        for (tally, alpha) in self.tallies[place].iter_mut().zip(ALPHAS) {
            tally.push(ln_p <= alpha.ln(), size(alpha));
        }
    }

    fn merge(&mut self, other: &Self) {
        let tallies = self.tallies.iter_mut().flatten();
        for (tally, other) in tallies.zip(other.tallies.iter().flatten()) {
            tally.merge(other);
        }
        self.e.merge(&other.e);
    }
}

fn of(test: &Test, null: Null) -> (f64, impl Fn(f64) -> f64 + use<>) {
    let cells = test.n_scored;
    (test.p.ln(), move |alpha| attainable(null, cells, alpha))
}

fn trial(
    sums: &mut Sums,
    (writer, suspect): (&NGram, &Exhibit),
    mark: &Mark,
    logs: &Logs,
    (seed, purpose, number): (u64, &str, u64),
) -> Result<(), NullError> {
    let null = mark.scheme().null();
    let width = mark.scheme().context_width();
    let (documents, letters) = (logs.shape)(number);
    let mut windows = ExactWindows::new(width);
    let mut written = Vec::new();
    for document in 0..documents {
        let coins = (seed, purpose, number * documents + document);
        let text = write(writer, Some(mark), letters, coins)?;
        windows.push(&text);
        written.push(text);
    }

    let chosen = Chosen::of(mark, suspect, &windows)?;
    let first = chosen.first(mark, logs.planned);
    sums.push(0, first.p.ln(), |alpha| {
        attainable(null, logs.planned, alpha)
    });
    let e = chosen.e_value(mark);
    sums.push(1, e.to_p().ln(), |alpha| alpha);
    sums.e.push(e.ln().exp());
    let (ln_p, size) = of(&never_emitted(mark, suspect, &windows)?, null);
    sums.push(2, ln_p, size);
    // The misuse: the number of cells is taken from the logs instead of being fixed beforehand.
    let (ln_p, size) = of(&chosen.first(mark, chosen.len() as u64), null);
    sums.push(4, ln_p, size);

    let student = NGram::train(&written, START, LETTERS, NGram::ORDER)?;
    let said = write(&student, None, STUDENT, (seed, "student", number))?;
    let mut guilty = Exhibit::new(width);
    guilty.push(&said);
    let (ln_p, size) = of(&never_emitted(mark, &guilty, &windows)?, null);
    sums.push(3, ln_p, size);
    let (ln_p, size) = of(&Test::of(mark, &guilty), null);
    sums.push(5, ln_p, size);
    Ok(())
}

/// All profiles but those of self-hash, which have no such test.
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
    for logs in &LOGS {
        for profile in supervised(profiles) {
            let suspects: Vec<Exhibit> = material
                .letters
                .iter()
                .map(|text| {
                    let mut suspect = Exhibit::new(profile.context_width());
                    suspect.push(&text[..SUSPECT.min(text.len())]);
                    suspect
                })
                .collect();
            let trials = (logs.trials)(plan);
            let purpose = format!("{}/{}", logs.text, profile.id);
            let blocks = in_blocks(trials, plan.threads, progress, |range| {
                let mut sums = Sums::default();
                for number in range {
                    let mark = fresh(profile, logs.text, plan.seed, number)?;
                    let suspect = &suspects[number as usize % suspects.len()];
                    let coins = (plan.seed, purpose.as_str(), number);
                    trial(
                        &mut sums,
                        (&material.spellers[0], suspect),
                        &mark,
                        logs,
                        coins,
                    )?;
                }
                Ok(sums)
            })?;
            let mut sums = Sums::default();
            blocks.iter().for_each(|block| sums.merge(block));
            let subject = |test: &str| Subject {
                part: logs.part,
                profile: profile.id.clone(),
                test: test.to_owned(),
                text: logs.text,
            };
            for ((test, claim), tallies) in COUNTED.iter().zip(sums.tallies) {
                for (tally, alpha) in tallies.into_iter().zip(ALPHAS) {
                    looks.count(&subject(test), alpha, tally, *claim);
                }
            }
            looks.mean(&subject("supervised, E"), "e", sums.e, 1.0, Claim::AtMost);
            looks.pairs += 4 * trials;
        }
    }
    Ok(looks)
}
