//! Reading mode: a suspect's open weights read the very text that was written under the key.
//!
//! A model that was trained on marked text predicts the marked continuation of that text. But the
//! text depends on the key, so the clean regime's tails do not hold. What holds is a bet:
//! - the logs are read in the order in which they were written, all of them, none chosen later (with
//!   texts picked for quality an innocent model reached p = 1e-6, arXiv 2512.16904);
//! - a window counts only where it stands for the first time: until then the logs have not used its
//!   row, so its scores are independent of everything before;
//! - the weights, the suspect's probabilities given the text so far, are known before the scores.
//!
//! The product of the bets is a supermartingale under H0 "the suspect is independent of the key",
//! so its value at the end is an e-value, and no other statement is made.

use std::collections::HashSet;

use crate::openweights::ScoredText;
use crate::profile::Mark;
use crate::regime::ChosenError;
use crate::stats::evalue::LnE;
use crate::stats::evalue::process::TiltProcess;
use crate::window::window;

/// The logs as a suspect reads them, in the order in which they were written.
#[derive(Debug)]
pub struct Reading<'a> {
    texts: &'a [ScoredText],
    /// Where the answer starts in each text: what stands before it is a prompt.
    answers: &'a [usize],
}

/// What a reading gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadingResult {
    /// The e-value.
    pub e: LnE,
    /// Cells with a weight.
    pub cells: u64,
    /// Windows met for the first time.
    pub windows: u64,
}

/// The logs do not say where every answer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{texts} texts were read, and the starts of {answers} answers given")]
pub struct StartsError {
    /// Texts.
    pub texts: usize,
    /// Starts.
    pub answers: usize,
}

impl<'a> Reading<'a> {
    /// `texts` are the logs in the order in which they were written; `answers[i]` is the index of
    /// the first token of text i that was written under the key.
    ///
    /// # Errors
    /// There is not one start a text.
    pub fn new(texts: &'a [ScoredText], answers: &'a [usize]) -> Result<Self, StartsError> {
        if texts.len() != answers.len() {
            return Err(StartsError {
                texts: texts.len(),
                answers: answers.len(),
            });
        }
        Ok(Self { texts, answers })
    }

    /// Bets the suspect's probabilities on the scores under a mark.
    ///
    /// Windows in prompts are met too: a repeated prompt cannot make a window fresh again.
    ///
    /// # Errors
    /// The mark is one of self-hash.
    pub fn e_value(&self, mark: &Mark) -> Result<ReadingResult, ChosenError> {
        let scheme = mark.scheme();
        if !scheme.cells_are_pairs() {
            return Err(ChosenError::SharedCoins);
        }
        let width = scheme.context_width();
        let null = scheme.null();
        let mut process = TiltProcess::new(null);
        let mut met: HashSet<Box<[u32]>> = HashSet::new();
        let mut windows = 0;
        let mut step = Vec::new();
        for (text, &answer) in self.texts.iter().zip(self.answers) {
            let prompt = &text.tokens()[..answer.min(text.tokens().len())];
            for window in prompt.windows(width.max(1)) {
                met.insert(window.into());
            }
            let segment = &text.tokens()[prompt.len()..];
            let mut read = text.positions().peekable();
            for at in 0..=segment.len() {
                let Some(window) = window(segment, at, width) else {
                    continue;
                };
                let fresh = met.insert(window.into());
                while read
                    .next_if(|position| position.at < prompt.len() + at)
                    .is_some()
                {}
                let here = read.next_if(|position| position.at == prompt.len() + at);
                let (true, Some(position)) = (fresh, here) else {
                    continue;
                };
                windows += 1;
                let row = scheme.row(window);
                step.clear();
                step.extend(position.top.iter().map(|&(token, p)| {
                    let score = null.natural(scheme.score(&row, token));
                    (f64::from(p).min(1.0), score)
                }));
                process
                    .push(&step)
                    .expect("probabilities, and scores of this law");
            }
        }
        Ok(ReadingResult {
            e: process.value(),
            cells: process.cells(),
            windows,
        })
    }
}
