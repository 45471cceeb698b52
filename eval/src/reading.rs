//! A model reads: texts in, the next-token distribution at every position out.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use watermark_core::openweights::{ScoredText, ScoredTextError};

use crate::model::{Model, ModelError, worker};

/// Why texts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's output is no distribution.
    #[error("text {}: {source}", text + 1)]
    Distribution {
        /// The text, from 0.
        text: usize,
        /// What is wrong with it.
        source: ScoredTextError,
    },
}

/// Distributions along every text, each read after the token `start` and cut into stretches that
/// fit the model's context. Of each distribution the `top` most probable entries are kept.
///
/// A stretch after the first of a text is a text of its own here: its first token has no
/// distribution, and no window reaches across the cut. `progress(tokens)` hears of tokens read.
///
/// # Errors
/// An id is outside the vocabulary, or the model fails.
pub fn scored(
    model: &dyn Model,
    texts: &[Vec<u32>],
    start: u32,
    top: usize,
    threads: NonZeroUsize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<ScoredText>, ReadError> {
    let room = model.context_length().saturating_sub(1).max(1);
    let stretches: Vec<(usize, &[u32])> = texts
        .iter()
        .enumerate()
        .flat_map(|(text, tokens)| {
            // An empty text is one empty stretch, so that short texts keep their places.
            let stretches = tokens.len().div_ceil(room).max(1);
            (0..stretches).map(move |at| {
                let end = tokens.len().min((at + 1) * room);
                (text, &tokens[at * room..end])
            })
        })
        .collect();
    let done = AtomicU64::new(0);
    worker::map(threads, stretches, |(text, tokens)| {
        let input = [&[start], tokens].concat();
        let mut positions = Vec::with_capacity(tokens.len());
        model.read(&input, &mut |at, logits| {
            if at < tokens.len() {
                positions.push(most_probable(logits, top));
            }
        })?;
        let read = tokens.len() as u64;
        progress(done.fetch_add(read, Ordering::Relaxed) + read);
        ScoredText::new(model.vocab_size(), tokens.to_vec(), 0, positions)
            .map_err(|source| ReadError::Distribution { text, source })
    })
    .into_iter()
    .collect()
}

/// The `top` most probable tokens with their probabilities.
fn most_probable(logits: &[f32], top: usize) -> Vec<(u32, f64)> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from(logit - highest).exp();
    let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let order = |a: &u32, b: &u32| {
        let (a, b) = (logits[*a as usize], logits[*b as usize]);
        b.total_cmp(&a)
    };
    if top < ids.len() {
        ids.select_nth_unstable_by(top.saturating_sub(1), order);
        ids.truncate(top);
    }
    ids.into_iter()
        .map(|id| (id, weight(logits[id as usize]) / total))
        .filter(|&(_, p)| p > 0.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Transformer, TransformerConfig};

    #[test]
    fn every_position_has_the_distribution_after_what_precedes_it() {
        let config = TransformerConfig {
            vocab: 30,
            dim: 16,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            hidden: 16,
            context: 16,
            rope_base: 1e4,
            epsilon: 1e-5,
            tied: true,
            architecture: Architecture::Llama,
        };
        let model = Transformer::random(config, 1).unwrap();
        let texts = vec![(1..25).collect::<Vec<u32>>(), vec![3, 4], vec![]];
        let two = NonZeroUsize::new(2).unwrap();
        let read = scored(&model, &texts, 0, 30, two, &|_| ()).unwrap();
        let lengths: Vec<usize> = read.iter().map(|text| text.tokens().len()).collect();
        assert_eq!(lengths, [15, 9, 2, 0]);
        let position = read[2].positions().nth(1).unwrap();
        let batch = model.start(&[&[0, 3]]).unwrap();
        let logits = batch.logits();
        let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
        for &(id, p) in position.top {
            let expected = logits[[0, id as usize]].exp() / total;
            assert!((p - expected).abs() < 1e-5);
        }
        let few = scored(&model, &texts, 0, 4, two, &|_| ()).unwrap();
        let top: Vec<u32> = few[2]
            .positions()
            .nth(1)
            .unwrap()
            .top
            .iter()
            .map(|e| e.0)
            .collect();
        let mut ranked: Vec<_> = position.top.to_vec();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert!(ranked[..4].iter().all(|(id, _)| top.contains(id)));
    }
}
