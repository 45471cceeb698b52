//! `watermark-eval sample`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::CommandError;
use watermark_eval::model::{Model, ModelError, gguf};
use watermark_eval::student::DOCUMENT_START;

/// Sample texts from a GGUF model; entropy and speed go to stderr
#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// GGUF file of a llama-architecture model
    #[arg(long)]
    model: PathBuf,
    /// What every text starts with, after the document start
    #[arg(long, default_value = "")]
    prompt: String,
    /// Texts sampled side by side
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Tokens in each text
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// Divides the logits; 0 takes the likeliest token
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Decides the texts
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Sample {
    pub(crate) fn run(&self) -> Result<(), CommandError> {
        let pretrained = gguf::load(&self.model)?;
        let failed = |source| CommandError::Tokenizer {
            path: self.model.clone(),
            source,
        };
        let mut prompt = vec![DOCUMENT_START];
        let encoding = pretrained
            .tokenizer
            .encode_fast(self.prompt.as_str(), false)
            .map_err(failed)?;
        prompt.extend_from_slice(encoding.get_ids());
        let started = Instant::now();
        let samples = sample(
            &pretrained.model,
            &vec![prompt.as_slice(); self.batch],
            self.tokens,
            self.temperature,
            self.seed,
        )?;
        let speed = (self.batch * self.tokens) as f64 / started.elapsed().as_secs_f64();
        for text in &samples.texts {
            println!(
                "{}{}\n",
                self.prompt,
                pretrained.tokenizer.decode(text, false).map_err(failed)?
            );
        }
        eprintln!(
            "{:.3} nats a token at temperature 1, {speed:.0} tokens/s",
            samples.entropy
        );
        Ok(())
    }
}

/// Sampled continuations.
pub(crate) struct Samples {
    pub(crate) texts: Vec<Vec<u32>>,
    /// Mean entropy of the next token at temperature 1, in nats.
    pub(crate) entropy: f64,
}

/// Continues equally long prompts by `tokens` tokens each.
pub(crate) fn sample(
    model: &dyn Model,
    prompts: &[&[u32]],
    tokens: usize,
    temperature: f64,
    seed: u64,
) -> Result<Samples, ModelError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut texts = vec![Vec::with_capacity(tokens); prompts.len()];
    let mut entropy = 0.0;
    let mut batch = model.start(prompts)?;
    for index in 0..tokens {
        let mut chosen = Vec::with_capacity(prompts.len());
        for logits in batch.logits().rows() {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shifted: Vec<f32> = logits.iter().map(|logit| logit - top).collect();
            entropy += entropy_of(&shifted);
            chosen.push(choose(&shifted, temperature as f32, &mut rng));
        }
        for (text, token) in texts.iter_mut().zip(&chosen) {
            text.push(*token);
        }
        if index + 1 < tokens {
            batch.step(&chosen)?;
        }
    }
    let count = (tokens * prompts.len()).max(1) as f64;
    Ok(Samples {
        texts,
        entropy: entropy / count,
    })
}

/// Entropy in nats of the softmax of logits whose largest is zero.
fn entropy_of(shifted: &[f32]) -> f64 {
    let (mut total, mut product) = (0.0, 0.0);
    for x in shifted.iter().filter(|x| x.is_finite()) {
        let weight = f64::from(x.exp());
        total += weight;
        product += f64::from(*x) * weight;
    }
    total.ln() - product / total
}

/// Draws an id from logits whose largest is zero.
fn choose(shifted: &[f32], temperature: f32, rng: &mut impl Rng) -> u32 {
    let weight = |x: &f32| match temperature > 0.0 {
        true => f64::from((x / temperature).exp()),
        false => f64::from(u8::from(*x == 0.0)),
    };
    let total: f64 = shifted.iter().map(weight).sum();
    let mut left = total * (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut last = 0;
    for (id, weight) in shifted.iter().map(weight).enumerate().filter(|(_, weight)| *weight > 0.0) {
        last = id as u32;
        if left < weight {
            break;
        }
        left -= weight;
    }
    last
}
