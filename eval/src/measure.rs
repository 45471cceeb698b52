//! What a text is like, in numbers that stand beside every p-value.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::generate::Answer;

/// Diversity and entropy of a set of answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Texture {
    /// Tokens.
    pub tokens: u64,
    /// Mean entropy of the model's distribution along the text, nats a token.
    pub entropy: f64,
    /// Distinct runs of four tokens over all runs of four.
    pub distinct4: f64,
}

impl Texture {
    /// Measures answers.
    pub fn of(answers: &[Answer]) -> Self {
        let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
        let nats = answers
            .iter()
            .map(|answer| answer.entropy * answer.tokens.len() as f64);
        Self {
            tokens: tokens as u64,
            entropy: nats.sum::<f64>() / tokens.max(1) as f64,
            distinct4: distinct(answers.iter().map(|answer| answer.tokens.as_slice()), 4),
        }
    }
}

/// Distinct runs of `n` tokens over all runs of `n`, none of which crosses a text's end;
/// 1 where there is no run.
pub fn distinct<'a>(texts: impl Iterator<Item = &'a [u32]>, n: usize) -> f64 {
    let mut seen = HashSet::new();
    let mut all = 0usize;
    for run in texts.flat_map(|text| text.windows(n)) {
        all += 1;
        seen.insert(run);
    }
    if all == 0 {
        1.0
    } else {
        seen.len() as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_counts_runs_within_texts() {
        let texts: [&[u32]; 3] = [&[1, 2, 3, 1, 2], &[1, 2], &[]];
        assert_eq!(distinct(texts.into_iter(), 2), 3.0 / 5.0);
        assert_eq!(distinct([&[1u32][..]].into_iter(), 2), 1.0);
    }
}
