//! Texts of a model, to look at and to time.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use watermark_core::candidates::Sampling;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::generate::{Generation, generate};
use watermark_eval::model::gguf;

/// Sample unmarked texts from a GGUF model; entropy and speed go to stderr.
#[derive(Args)]
pub(crate) struct Sample {
    /// The GGUF file, of architecture llama or gemma3.
    #[arg(long)]
    model: PathBuf,
    /// What every text starts with, after the document start.
    #[arg(long, default_value = "")]
    prompt: String,
    /// Texts, written side by side.
    #[arg(long, default_value_t = 1)]
    texts: usize,
    /// Tokens a text at most.
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// Decides the texts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Sample {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let gguf::Pretrained { model, tokenizer } = gguf::load(&self.model)?;
        let tokenizer = HfTokenizer::new(tokenizer);
        let documents = model.documents();
        let prompt = [vec![documents.start], tokenizer.encode(&self.prompt)].concat();
        let generation = Generation {
            max_tokens: self.tokens,
            sampling: Sampling::default(),
            end: Some(documents.end),
            seed: self.seed,
            first: 0,
            batch: self.texts,
            threads: NonZeroUsize::MIN,
        };
        let clock = Instant::now();
        let prompts = vec![prompt; self.texts];
        let answers = generate(&model, None, &prompts, &generation, &|_| ())?;
        let seconds = clock.elapsed().as_secs_f64();
        for answer in &answers {
            println!("{}{}\n", self.prompt, tokenizer.decode(&answer.tokens));
        }
        let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
        let entropy: f64 = answers.iter().map(|answer| answer.entropy).sum();
        eprintln!(
            "{tokens} tokens, {:.3} nats of entropy a token, {:.0} tokens a second",
            entropy / answers.len().max(1) as f64,
            tokens as f64 / seconds
        );
        Ok(())
    }
}
