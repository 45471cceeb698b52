//! Interpolated Kneser-Ney n-gram models: instant, for smoke tests.
//!
//! A model of this kind copies its table of counts. That a mark shows in it says that the plumbing
//! works, nothing about what survives in the weights of a network.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView2};

use super::{Batch, Model, ModelError, check_prompts, check_step, check_tokens};

/// What followed one context.
#[derive(Clone, Debug, Default)]
struct Row {
    total: u32,
    /// Next token and its count, in increasing order of tokens.
    next: Vec<(u32, u32)>,
}

/// All contexts of one length.
#[derive(Clone, Debug)]
struct Level {
    rows: HashMap<Box<[u32]>, Row>,
    discount: f64,
}

/// An interpolated Kneser-Ney model.
///
/// `p(w | h) = max(c(hw) - d, 0) / c(h) + d n(h) / c(h) p(w | h')` with `n(h)` the number of distinct
/// tokens after `h` and `h'` the context without its oldest token; the last resort is uniform. Below
/// the highest order `c` counts distinct tokens to the left instead of occurrences. `d = n1 / (n1 + 2
/// n2)` from the numbers of n-grams counted once and twice (Ney, Essen and Kneser 1994).
#[derive(Clone, Debug)]
pub struct NGram {
    vocab: usize,
    /// By context length, from none to `order - 1` tokens.
    levels: Vec<Level>,
}

impl NGram {
    /// The order used by default.
    pub const ORDER: usize = 3;

    /// Counts the n-grams of documents, each after the token `start`.
    ///
    /// An order of zero is taken for one.
    ///
    /// # Errors
    /// An id is outside the vocabulary.
    pub fn train(
        documents: &[Vec<u32>],
        start: u32,
        vocab: usize,
        order: usize,
    ) -> Result<Self, ModelError> {
        let mut stream = Vec::new();
        for (row, document) in documents.iter().enumerate() {
            check_tokens(row, document, vocab)?;
            stream.push(start);
            stream.extend_from_slice(document);
        }
        let order = order.max(1);
        let mut grams: HashMap<&[u32], u32> = HashMap::new();
        for gram in stream.windows(order) {
            *grams.entry(gram).or_default() += 1;
        }
        let mut levels = vec![Level::new(&grams)];
        for _ in 1..order {
            let mut shorter: HashMap<&[u32], u32> = HashMap::new();
            for gram in grams.keys() {
                *shorter.entry(&gram[1..]).or_default() += 1;
            }
            levels.push(Level::new(&shorter));
            grams = shorter;
        }
        levels.reverse();
        Ok(Self { vocab, levels })
    }

    /// Log-probabilities of the token after `history`, in nats.
    fn next(&self, history: &[u32]) -> Vec<f32> {
        let mut p = vec![1.0 / self.vocab as f64; self.vocab];
        for (length, level) in self.levels.iter().enumerate() {
            let context = history
                .len()
                .checked_sub(length)
                .map(|from| &history[from..]);
            let Some(row) = context.and_then(|context| level.rows.get(context)) else {
                break;
            };
            let total = f64::from(row.total);
            let rest = level.discount * row.next.len() as f64 / total;
            for p in &mut p {
                *p *= rest;
            }
            for (token, count) in &row.next {
                p[*token as usize] += (f64::from(*count) - level.discount) / total;
            }
        }
        p.into_iter().map(|p| p.ln() as f32).collect()
    }
}

impl Level {
    fn new(grams: &HashMap<&[u32], u32>) -> Self {
        let mut rows: HashMap<Box<[u32]>, Row> = HashMap::new();
        let (mut once, mut twice) = (0u32, 0u32);
        for (gram, count) in grams {
            if let [context @ .., token] = gram {
                let row = rows.entry(context.into()).or_default();
                row.total += count;
                row.next.push((*token, *count));
            }
            once += u32::from(*count == 1);
            twice += u32::from(*count == 2);
        }
        for row in rows.values_mut() {
            row.next.sort_unstable();
        }
        // Strictly between zero and one, so that no token is ever impossible.
        let (once, twice) = (f64::from(once) + 0.5, f64::from(twice) + 0.5);
        Self {
            rows,
            discount: once / (once + 2.0 * twice),
        }
    }
}

impl Model for NGram {
    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context_length(&self) -> usize {
        usize::MAX
    }

    fn start(&self, prompts: &[&[u32]]) -> Result<Box<dyn Batch + '_>, ModelError> {
        let len = check_prompts(prompts, self.vocab, usize::MAX)?;
        let histories = prompts.iter().map(|prompt| prompt.to_vec()).collect();
        let logits = Array2::default((prompts.len(), self.vocab));
        let mut batch = NGramBatch {
            model: self,
            histories,
            logits,
            len,
        };
        batch.compute();
        Ok(Box::new(batch))
    }
}

struct NGramBatch<'a> {
    model: &'a NGram,
    histories: Vec<Vec<u32>>,
    logits: Array2<f32>,
    len: usize,
}

impl NGramBatch<'_> {
    fn compute(&mut self) {
        for (mut logits, history) in self.logits.rows_mut().into_iter().zip(&self.histories) {
            let next = self.model.next(history);
            logits
                .iter_mut()
                .zip(next)
                .for_each(|(logit, next)| *logit = next);
        }
    }
}

impl Batch for NGramBatch<'_> {
    fn logits(&self) -> ArrayView2<'_, f32> {
        self.logits.view()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        check_step(
            tokens,
            self.histories.len(),
            self.len,
            self.model.vocab,
            usize::MAX,
        )?;
        for (history, token) in self.histories.iter_mut().zip(tokens) {
            history.push(*token);
        }
        self.len += 1;
        self.compute();
        Ok(())
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_after_any_history() {
        let documents: Vec<Vec<u32>> = (0..20)
            .map(|d| (0..50).map(|i| (i * i + d * 3) % 23).collect())
            .collect();
        for order in 0..5 {
            let model = NGram::train(&documents, 0, 30, order).unwrap();
            for history in [&[0][..], &[1, 4], &[29, 29], &[4, 9, 16, 2], &[29, 4]] {
                let total: f64 = model
                    .next(history)
                    .iter()
                    .map(|x| f64::from(*x).exp())
                    .sum();
                assert!(
                    (total - 1.0).abs() < 1e-5,
                    "order {order}, {history:?}: {total}"
                );
            }
        }
    }

    #[test]
    fn a_known_context_predicts_what_followed_it() {
        let documents = vec![vec![1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 2, 5]];
        let model = NGram::train(&documents, 0, 10, 3).unwrap();
        let mut batch = model.start(&[&[1], &[4]]).unwrap();
        batch.step(&[2, 2]).unwrap();
        let top = |row: usize| {
            let row = batch.logits().row(row).to_vec();
            (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap()
        };
        assert_eq!((top(0), top(1)), (3, 5));
    }

    #[test]
    fn without_text_it_is_uniform() {
        let model = NGram::train(&[], 0, 4, 3).unwrap();
        assert!(
            model
                .next(&[1])
                .iter()
                .all(|x| (x - 0.25f32.ln()).abs() < 1e-6)
        );
    }
}
