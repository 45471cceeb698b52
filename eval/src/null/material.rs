//! What the tier reads: held-out human text, as subword tokens and as letters, and small models
//! of it. Nothing here depends on a key.

use watermark_core::candidates::{CandidateBuffer, Sampling};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::Mark;
use watermark_core::sampler::Session;
use watermark_core::text::{HfTokenizer, Tokenizer};

use super::NullError;
use crate::generate::coins;
use crate::model::Model;
use crate::model::ngram::NGram;

/// Ids of the letters: a start, a gap, and a to z.
pub const LETTERS: usize = 28;
/// The start of a document, in both alphabets.
pub const START: u32 = 0;

/// Fixed texts and models.
#[derive(Debug)]
pub struct Material {
    /// Passages in subword tokens, none of which a model read.
    pub passages: Vec<Vec<u32>>,
    /// A suspect and a reference over subword tokens, trained on different passages.
    pub words: [NGram; 2],
    /// Passages in letters, none of which a model read.
    pub letters: Vec<Vec<u32>>,
    /// A writer and a reader over letters, trained on different passages.
    pub spellers: [NGram; 2],
}

impl Material {
    /// Of the held-out text: the first `trained` passages for the models, the `read` after them to be
    /// read.
    ///
    /// # Errors
    /// The embedded tokenizer is damaged.
    pub fn new(trained: usize, read: usize) -> Result<Self, NullError> {
        let json = watermark_corpora::tokenizer_json();
        let tokenizer = HfTokenizer::from_bytes(json, "of the embedded model")?;
        let held_out: Vec<&str> = watermark_corpora::held_out().take(trained + read).collect();
        let tokens = |texts: &[&str]| -> Vec<Vec<u32>> {
            texts.iter().map(|text| tokenizer.encode(text)).collect()
        };
        let letters = |texts: &[&str]| texts.iter().map(|text| spell(text)).collect::<Vec<_>>();
        let [first, second] = [&held_out[..trained / 2], &held_out[trained / 2..trained]];
        let size = tokenizer.vocab_size();
        let word = |texts| NGram::train(&tokens(texts), START, size, NGram::ORDER);
        let speller = |texts| NGram::train(&letters(texts), START, LETTERS, NGram::ORDER);
        Ok(Self {
            passages: tokens(&held_out[trained..]),
            words: [word(first)?, word(second)?],
            letters: letters(&held_out[trained..]),
            spellers: [speller(first)?, speller(second)?],
        })
    }
}

/// A text in letters: what is no letter is a gap, and gaps are single.
fn spell(text: &str) -> Vec<u32> {
    let mut letters = vec![1];
    for byte in text.bytes().map(|byte| byte.to_ascii_lowercase()) {
        if byte.is_ascii_lowercase() {
            letters.push(u32::from(byte - b'a') + 2);
        } else if letters.last() != Some(&1) {
            letters.push(1);
        }
    }
    letters
}

/// The distributions of a model along a text that follows the start of a document: the `top` most
/// probable tokens of each.
///
/// # Errors
/// The text has ids outside the model's vocabulary.
pub fn read(model: &dyn Model, text: &[u32], top: usize) -> Result<ScoredText, NullError> {
    let mut batch = model.start(&[&[START]])?;
    let mut buffer = CandidateBuffer::default();
    let sampling = Sampling {
        top_k: top,
        ..Sampling::default()
    };
    let mut lists = Vec::with_capacity(text.len());
    for (at, &token) in text.iter().enumerate() {
        let logits = batch.logits().row(0).to_vec();
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let kept: Vec<(u32, f64)> = buffer
            .fill(&logits, &sampling)
            .map_err(|_| NullError::NoCandidate)?
            .iter()
            .map(|(token, _)| (token, f64::from(logits[token as usize]).exp() / total))
            .collect();
        lists.push(kept);
        if at + 1 < text.len() {
            batch.step(&[token])?;
        }
    }
    Ok(ScoredText::new(
        model.vocab_size(),
        text.to_vec(),
        0,
        lists,
    )?)
}

/// Writes `tokens` tokens, under a mark or without one, from coins of their own. The start of a
/// document is never written.
///
/// # Errors
/// The model fails.
pub fn write(
    model: &dyn Model,
    mark: Option<&Mark>,
    tokens: usize,
    (seed, purpose, index): (u64, &str, u64),
) -> Result<Vec<u32>, NullError> {
    let mut rng = coins(seed, purpose, index);
    let mut session = mark.map(Session::new);
    let mut batch = model.start(&[&[START]])?;
    let mut buffer = CandidateBuffer::default();
    let mut written = Vec::with_capacity(tokens);
    loop {
        let mut logits = batch.logits().row(0).to_vec();
        logits[START as usize] = f32::NEG_INFINITY;
        let candidates = buffer
            .fill(&logits, &Sampling::default())
            .map_err(|_| NullError::NoCandidate)?;
        let token = match &mut session {
            None => candidates.get(candidates.sample(&mut rng)).0,
            Some(session) => {
                let (token, outcome) = session.step(&candidates, 1.0, &mut rng);
                session.accept(token, outcome);
                token
            }
        };
        written.push(token);
        if written.len() == tokens {
            return Ok(written);
        }
        batch.step(&[token])?;
    }
}
