//! Reading mode: a suspect's open weights read the very text that was written under the key.
//!
//! A model that was trained on marked text predicts the marked continuation of that text. But the
//! text depends on the key, so the clean regime's tails do not hold. What holds is a bet:
//! - the logs are read in the order in which they were written, all of them, none chosen later (with
//!   texts picked for quality an innocent model reached p = 1e-6, arXiv 2512.16904);
//! - a window counts only where it stands for the first time: until then the logs have not used its
//!   row, so its scores are independent of everything before;
//! - the weights, the suspect's probabilities given the text so far, are known before the scores. A server that
//!   lists the text's own token beside the most probable ones breaks this: that token was drawn from the very
//!   row. So only a fixed number of the most probable entries is read, and a list that holds nothing
//!   but the text's own tokens is refused.
//!
//! The product of the bets is a supermartingale under H0 "the suspect is independent of the key",
//! so its value at the end is an e-value, and no other statement is made.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::cells::Cells;
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
    /// Entries of each list that are read.
    top: usize,
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
    /// SHA-256 of the texts that were read, in their order ([`Reading::texts_digest`]).
    pub texts_digest: [u8; 32],
    /// SHA-256 of the cells that were bet on ([`Cells::digest`]); which of the texts' windows are fresh and what
    /// the suspect lists there decide which they are.
    pub cells_digest: [u8; 32],
}

/// Why a reading is no bet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// The logs do not say where every answer starts.
    #[error("{texts} texts were read, and the starts of {answers} answers given")]
    Starts {
        /// Texts.
        texts: usize,
        /// Starts.
        answers: usize,
    },
    /// No entries are to be read.
    #[error("0 entries a position: ask for the most probable tokens, and say how many")]
    NoEntries,
    /// A list is shorter than it was asked to be.
    #[error(
        "text {}, token {at}: {found} entries where {asked} most probable ones were asked for; which are missing may depend on the key",
        text + 1
    )]
    Short {
        /// The text, from 0.
        text: usize,
        /// The token in it.
        at: usize,
        /// Entries there.
        found: usize,
        /// Entries asked for.
        asked: usize,
    },
    /// The lists are not the model's most probable tokens.
    #[error(
        "the text's own token stands in every one of {positions} lists: these are its own probabilities, not the most probable tokens, and a bet on them would be a bet on what was drawn"
    )]
    OwnTokens {
        /// Positions read.
        positions: u64,
    },
    /// The mark has no such test.
    #[error(transparent)]
    Chosen(#[from] ChosenError),
}

/// If every list holds the text's own token although the lists' own probabilities give that e^-40 at
/// most, it is no coincidence.
const SUSPICIOUS: f64 = -40.0;

impl<'a> Reading<'a> {
    /// `texts` are the logs in the order in which they were written; `answers[i]` is the index of
    /// the first token of text i that was written under the key, and `top` the number of most
    /// probable tokens that every list was asked to hold, fixed beforehand. Further entries, such as the text's
    /// own token, are not read.
    ///
    /// Every text must be whole: what was cut off in front has used rows that would count as fresh. A text
    /// that is missing because it failed or was long is a selection by the key.
    ///
    /// # Errors
    /// There is not one start a text, a list of an answer's position is shorter than `top`, or `top` is 0.
    pub fn new(
        texts: &'a [ScoredText],
        answers: &'a [usize],
        top: usize,
    ) -> Result<Self, ReadingError> {
        if texts.len() != answers.len() {
            return Err(ReadingError::Starts {
                texts: texts.len(),
                answers: answers.len(),
            });
        }
        if top == 0 {
            return Err(ReadingError::NoEntries);
        }
        for (text, (read, &answer)) in texts.iter().zip(answers).enumerate() {
            let short = read
                .positions()
                .find(|position| position.at >= answer && position.top.len() < top);
            if let Some(position) = short {
                return Err(ReadingError::Short {
                    text,
                    at: position.at,
                    found: position.top.len(),
                    asked: top,
                });
            }
        }
        Ok(Self {
            texts,
            answers,
            top,
        })
    }

    /// SHA-256 over `"wmk1/texts" || n u64 LE`, then for every text in order
    /// `start u64 LE || length u64 LE || ids, u32 LE each`, where start is the index of the answer's first token.
    /// The suspect's probabilities are not in it.
    pub fn texts_digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(b"wmk1/texts");
        digest.update((self.texts.len() as u64).to_le_bytes());
        for (text, &answer) in self.texts.iter().zip(self.answers) {
            let tokens = text.tokens();
            digest.update((answer as u64).to_le_bytes());
            digest.update((tokens.len() as u64).to_le_bytes());
            tokens.iter().for_each(|id| digest.update(id.to_le_bytes()));
        }
        digest.finalize().into()
    }

    /// Bets the suspect's probabilities on the scores under a mark.
    ///
    /// Windows in prompts are met too: a repeated prompt cannot make a window fresh again.
    ///
    /// # Errors
    /// The mark is one of self-hash, or the lists hold the text's own tokens throughout.
    pub fn e_value(&self, mark: &Mark) -> Result<ReadingResult, ReadingError> {
        let scheme = mark.scheme();
        if !scheme.cells_are_pairs() {
            return Err(ChosenError::SharedCoins.into());
        }
        let width = scheme.context_width();
        let null = scheme.null();
        let mut process = TiltProcess::new(null);
        let mut met: HashSet<Box<[u32]>> = HashSet::new();
        let (mut windows, mut own, mut ln_chance) = (0, 0, 0.0);
        let mut step = Vec::new();
        let mut cells = Cells::new(width);
        for (text, &answer) in self.texts.iter().zip(self.answers) {
            // A window that reaches from the prompt into the answer may have been one of the writer's, had the
            // answer been cut elsewhere: it is never fresh again.
            let all = text.tokens();
            let prompt = &all[..answer.min(all.len())];
            let head = &all[..all.len().min(prompt.len() + width.saturating_sub(1))];
            for window in head.windows(width.max(1)) {
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
                let top = most_probable(position.top, self.top);
                let mass: f32 = top.iter().map(|&(_, p)| p).sum();
                let holds_own = top.iter().any(|&(token, _)| token == position.token);
                own += u64::from(holds_own);
                ln_chance += f64::from(mass.clamp(f32::MIN_POSITIVE, 1.0)).ln();
                step.clear();
                step.extend(top.iter().map(|&(token, p)| {
                    let score = null.natural(scheme.score(&row, token));
                    (f64::from(p).min(1.0), score)
                }));
                for &(token, _) in top.iter().filter(|&&(_, p)| p != 0.0) {
                    cells.push(&[window, &[token]].concat());
                }
                process
                    .push(&step)
                    .expect("probabilities, and scores of this law");
            }
        }
        if own == windows && ln_chance < SUSPICIOUS {
            return Err(ReadingError::OwnTokens { positions: windows });
        }
        Ok(ReadingResult {
            e: process.value(),
            cells: process.cells(),
            windows,
            texts_digest: self.texts_digest(),
            cells_digest: cells.digest(),
        })
    }
}

/// The `top` most probable entries; of equal ones those of the lower ids.
fn most_probable(entries: &[(u32, f32)], top: usize) -> Vec<(u32, f32)> {
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    entries.truncate(top);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;

    fn mark() -> Mark {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in("greenlist-h1")
            .unwrap()
            .bind(&key)
            .unwrap()
    }

    /// A text of green tokens, each position with the given entries beside the text's own token.
    fn text(mark: &Mark, beside: &[(u32, f64)], own: f64) -> ScoredText {
        let scheme = mark.scheme();
        let mut tokens = vec![1];
        for step in 0..120u32 {
            let row = scheme.row(&tokens[tokens.len() - 1..]);
            let next = (10 + step * 7..)
                .find(|&token| scheme.score(&row, token) == 1)
                .unwrap();
            tokens.push(next);
        }
        let lists = tokens.clone().into_iter().map(|token| {
            let mut list: Vec<(u32, f64)> = beside.to_vec();
            if own > 0.0 && !list.iter().any(|&(id, _)| id == token) {
                list.push((token, own));
            }
            list
        });
        ScoredText::new(2000, tokens.clone(), 0, lists).unwrap()
    }

    #[test]
    fn the_texts_own_token_beside_the_most_probable_ones_is_not_read() {
        let mark = mark();
        let beside = [(3, 0.3), (4, 0.2)];
        let value = |own, top| {
            let texts = [text(&mark, &beside, own)];
            Reading::new(&texts, &[0], top)
                .unwrap()
                .e_value(&mark)
                .unwrap()
        };
        assert_eq!(value(0.1, 2), value(0.0, 2));
        assert_ne!(value(0.0, 1).cells_digest, value(0.0, 2).cells_digest);
        // What would happen if it were: the marked text bets on itself.
        let texts = [text(&mark, &beside, 0.1)];
        let read = Reading::new(&texts, &[0], 3).unwrap();
        assert!(matches!(
            read.e_value(&mark),
            Err(ReadingError::OwnTokens { .. })
        ));
    }

    #[test]
    fn what_is_no_bet_is_refused() {
        let mark = mark();
        let own_only = [text(&mark, &[], 0.5)];
        assert!(matches!(
            Reading::new(&own_only, &[0], 0),
            Err(ReadingError::NoEntries)
        ));
        assert!(matches!(
            Reading::new(&own_only, &[0], 2),
            Err(ReadingError::Short {
                text: 0,
                at: 0,
                found: 1,
                asked: 2
            })
        ));
        assert!(matches!(
            Reading::new(&own_only, &[], 1),
            Err(ReadingError::Starts { .. })
        ));
        let error = Reading::new(&own_only, &[0], 1)
            .unwrap()
            .e_value(&mark)
            .unwrap_err();
        assert!(error.to_string().contains("own token"), "{error}");
    }

    #[test]
    fn a_suspect_that_learned_the_text_wins_its_bets() {
        let mark = mark();
        let tokens = text(&mark, &[], 0.5).tokens().to_vec();
        // It finds the text's own tokens likely at all but every tenth position.
        let lists = tokens.iter().enumerate().map(|(at, &token)| {
            let other = if at % 10 == 0 { 0.9 } else { 0.1 };
            vec![(token, 1.0 - other), (1999 - at as u32, other)]
        });
        let texts = [ScoredText::new(2000, tokens.clone(), 0, lists).unwrap()];
        let found = Reading::new(&texts, &[0], 1)
            .unwrap()
            .e_value(&mark)
            .unwrap();
        assert!(found.e.log10() > 5.0, "{found:?}");
        let twice = [texts[0].clone(), texts[0].clone()];
        let again = Reading::new(&twice, &[0, 0], 1)
            .unwrap()
            .e_value(&mark)
            .unwrap();
        assert_eq!(again.windows, found.windows);
        // The same cells, and not the same texts.
        assert_eq!(again.cells_digest, found.cells_digest);
        assert_ne!(again.texts_digest, found.texts_digest);
    }

    /// Digests say what was read: the cells that were bet on, and which texts, from where, in which order.
    #[test]
    fn digests_of_what_was_read() {
        let mark = mark();
        let read = |tokens: &[u32], from: usize| {
            let lists = tokens[from..]
                .iter()
                .map(|&token| [(token + 1, 0.5), (token, 0.0)]);
            ScoredText::new(99, tokens.to_vec(), from, lists).unwrap()
        };
        let result = |texts: &[ScoredText], starts: &[usize]| {
            let read = Reading::new(texts, starts, 2).unwrap();
            read.e_value(&mark).unwrap()
        };
        let texts = [read(&[9, 1, 2, 3], 1), read(&[1, 4], 0)];
        let found = result(&texts, &[1, 0]);
        // Windows 1 and 2; of their lists the entry with a weight. Window 1 stands again in the second text.
        let mut cells = Cells::new(1);
        cells.push(&[1, 3]);
        cells.push(&[2, 4]);
        assert_eq!((found.cells, found.windows), (2, 2));
        assert_eq!(found.cells_digest, cells.digest());
        let [first, second] = texts;
        let swapped = result(&[second.clone(), first.clone()], &[0, 1]);
        let shifted = result(&[first.clone(), second.clone()], &[1, 1]);
        let fewer = result(&[first], &[1]);
        for other in [swapped, shifted, fewer] {
            assert_ne!(other.texts_digest, found.texts_digest);
        }
    }
}
