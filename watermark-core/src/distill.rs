//! A suspect's generations: was it trained on text under this key?
//!
//! The closed-model test, in the clean regime: prompts, suspect text and the decision to stop
//! are independent of the key. The suspect's cells are tested under the key, and the same cells
//! under decoy keys that nobody used; a control model's generations are tested beside them.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use crate::detect::{Sample, Test, score};
use crate::profile::Mark;
use crate::report::Report;
use crate::stats::LnP;
use crate::stats::decoy::{Ks, ks_attained, rank_p};
use crate::window::Exhibit;

/// What goes into [`distill`].
#[derive(Debug)]
pub struct Distillation<'a> {
    /// The mark in question.
    pub mark: &'a Mark,
    /// Everything that the suspect said.
    pub suspect: &'a Exhibit,
    /// The generations of a model known to be innocent.
    pub control: Option<&'a Exhibit>,
    /// The same profile under keys that nobody used.
    pub decoys: &'a [Mark],
    /// Threads for the decoys. The report does not depend on it.
    pub threads: NonZeroUsize,
}

/// Runs the closed-model test; `progress(done)` hears of decoys as they are scored.
pub fn distill(input: &Distillation<'_>, progress: &(dyn Fn(usize) + Sync)) -> Report {
    let suspect = Sample::of(input.mark, input.suspect);
    let control = input.control.map(|control| Sample::of(input.mark, control));
    let decoys = (!input.decoys.is_empty()).then(|| {
        let tests = decoy_tests(input, progress);
        Decoys::of(&suspect.test, &tests)
    });
    Report::new(input.mark, suspect, control, decoys)
}

/// The suspect's cells under keys that nobody used.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decoys {
    /// Decoys and the key in question together.
    pub of: u64,
    /// Place of the key in question among them, 1 for the most striking; ties count against it.
    pub rank: u64,
    /// `log10 (rank / of)`: exact where the text is independent of all these keys. It cannot
    /// fall below `1 / of` and stands beside the tail, never instead of it.
    #[serde(rename = "rankPLog10")]
    pub rank_p: LnP,
    /// Kolmogorov-Smirnov distance of the decoys' p-values from the uniform law. The law is
    /// discrete, which makes the test conservative.
    pub ks: Ks,
    /// Mean of the decoys' standard scores.
    pub mean_z: f64,
    /// Their standard deviation.
    pub sd_z: f64,
    /// log10 of the decoys' p-values, ascending.
    #[serde(rename = "pLog10")]
    pub p: Vec<LnP>,
}

impl Decoys {
    /// Ranks a test among the same test under decoy keys; there is at least one.
    fn of(real: &Test, decoys: &[Test]) -> Self {
        // The smaller p, the larger the striking value.
        let striking: Vec<f64> = decoys.iter().map(|decoy| -decoy.p.ln()).collect();
        let below = striking
            .iter()
            .filter(|&&value| value < -real.p.ln())
            .count();
        let count = decoys.len() as f64;
        let mean_z = decoys.iter().map(|decoy| decoy.z).sum::<f64>() / count;
        let squares = decoys.iter().map(|decoy| (decoy.z - mean_z).powi(2));
        let mut uniforms: Vec<f64> = decoys.iter().map(|decoy| decoy.p.ln().exp()).collect();
        let mut p: Vec<LnP> = decoys.iter().map(|decoy| decoy.p).collect();
        p.sort_by(|a, b| a.ln().total_cmp(&b.ln()));
        Self {
            of: decoys.len() as u64 + 1,
            rank: (decoys.len() + 1 - below) as u64,
            rank_p: rank_p(-real.p.ln(), &striking),
            ks: ks_attained(&mut uniforms),
            mean_z,
            sd_z: (squares.sum::<f64>() / (count - 1.0).max(1.0)).sqrt(),
            p,
        }
    }
}

/// The suspect's cells under every decoy, in the decoys' order.
fn decoy_tests(input: &Distillation<'_>, progress: &(dyn Fn(usize) + Sync)) -> Vec<Test> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let worker = || {
        let mut tests = Vec::new();
        while let Some((index, decoy)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            input.decoys.get(index).map(|decoy| (index, decoy))
        } {
            let score = score(decoy, input.suspect);
            tests.push((index, Test::from_score(decoy.scheme().null(), score)));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        tests
    };
    let mut tests: Vec<(usize, Test)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..input.threads.get())
            .map(|_| scope.spawn(worker))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    tests.sort_unstable_by_key(|(index, _)| *index);
    tests.into_iter().map(|(_, test)| test).collect()
}
