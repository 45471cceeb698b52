//! `watermark-eval train-teacher`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokenizers::Tokenizer;

use super::CommandError;
use watermark_eval::corpus::{Corpus, passages};
use watermark_eval::model::{Model, Transformer, TransformerConfig, gguf};
use watermark_eval::training::{Checkpoint, Progress, TrainingConfig, Windows, train};

/// Bytes in the passages that a text is cut into: about two hundred tokens.
const PASSAGE: usize = 800;

/// Train the embedded teacher on a folder of texts
#[derive(Debug, Args)]
pub(crate) struct TrainTeacher {
    /// Folder of .txt files; one in twenty is held out
    corpus: PathBuf,
    /// The tokenizer.json to use
    #[arg(long)]
    tokenizer: PathBuf,
    /// The checkpoint to write, and to resume from if it exists
    #[arg(long)]
    checkpoint: PathBuf,
    /// The GGUF file to write at the end
    #[arg(long)]
    out: PathBuf,
    /// Passes over the text
    #[arg(long, default_value_t = 2.0)]
    epochs: f64,
    /// Windows in a step
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Peak learning rate
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    /// Width of the model
    #[arg(long, default_value_t = 192)]
    dim: usize,
    /// Blocks of the model
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Query heads
    #[arg(long, default_value_t = 6)]
    heads: usize,
    /// Key and value heads
    #[arg(long, default_value_t = 6)]
    kv_heads: usize,
    /// Width of the feed-forward layer
    #[arg(long, default_value_t = 512)]
    hidden: usize,
    /// Tokens in a window
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Steps between checkpoints and held-out losses
    #[arg(long, default_value_t = 200)]
    every: usize,
    /// Decides the first weights and the order of the text
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl TrainTeacher {
    pub(crate) fn run(&self) -> Result<(), CommandError> {
        let tokenizer =
            Tokenizer::from_file(&self.tokenizer).map_err(|source| CommandError::Tokenizer {
                path: self.tokenizer.clone(),
                source,
            })?;
        let corpus = Corpus::read(&self.corpus)?;
        let windows = Windows::new(&self.encode(&tokenizer, &corpus.training)?, 0, self.context)?;
        let held_out = self.encode(&tokenizer, &corpus.held_out)?;
        let held_out = Windows::new(&held_out, 0, self.context)?;
        let shape = TransformerConfig {
            vocab: tokenizer.get_vocab_size(true),
            dim: self.dim,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            hidden: self.hidden,
            context: self.context,
            rope_base: 10_000.0,
            epsilon: 1e-5,
            tied: true,
        };
        let model = Transformer::random(shape, self.seed)?;
        let config = TrainingConfig {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            weight_decay: 0.1,
            seed: self.seed,
        };
        let steps = config.steps(&windows);
        eprintln!(
            "{} parameters, {} training tokens, {} held out, {steps} steps of {} tokens",
            model.config().parameters(),
            windows.stream().len(),
            held_out.stream().len(),
            self.batch * self.context,
        );
        let checkpoint = Checkpoint {
            path: self.checkpoint.clone(),
            every: self.every,
        };
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} left {msg}") {
            bar.set_style(style);
        }
        let mut meter = Meter::default();
        let trained = train(
            &model,
            &windows,
            &config,
            Some(&checkpoint),
            &mut |progress| {
                bar.set_position(progress.step as u64);
                bar.set_message(format!("loss {:.3}", progress.loss));
                meter.add(&progress, self.batch * self.context);
                if progress.step % self.every == 0 || progress.step == progress.steps {
                    let line = meter.line(&progress, held_out.stream());
                    bar.suspend(|| eprintln!("{line}"));
                }
            },
        )?;
        bar.finish_and_clear();
        gguf::save(&self.out, "watermark teacher", &trained.model, &tokenizer)?;
        let saved = gguf::load(&self.out)?;
        println!(
            "{}: {} ids, held-out loss {:.4} nats a token ({:.4} before eight-bit rounding)",
            self.out.display(),
            saved.model.vocab_size(),
            mean(&saved.model.surprisals(held_out.stream())?),
            mean(&trained.model.surprisals(held_out.stream())?),
        );
        Ok(())
    }

    fn encode(
        &self,
        tokenizer: &Tokenizer,
        texts: &[String],
    ) -> Result<Vec<Vec<u32>>, CommandError> {
        let mut documents = Vec::new();
        for passage in texts.iter().flat_map(|text| passages(text, PASSAGE)) {
            let encoding = tokenizer.encode_fast(passage, false).map_err(|source| {
                CommandError::Tokenizer {
                    path: self.tokenizer.clone(),
                    source,
                }
            })?;
            documents.push(encoding.get_ids().to_vec());
        }
        Ok(documents)
    }
}

/// Loss and speed since the last line of the log.
struct Meter {
    since: Instant,
    steps: usize,
    loss: f64,
    tokens: usize,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            steps: 0,
            loss: 0.0,
            tokens: 0,
        }
    }
}

impl Meter {
    fn add(&mut self, progress: &Progress<'_>, tokens: usize) {
        self.steps += 1;
        self.loss += f64::from(progress.loss);
        self.tokens += tokens;
    }

    /// One line of the log; starts afresh.
    fn line(&mut self, progress: &Progress<'_>, held_out: &[u32]) -> String {
        let speed = self.tokens as f64 / self.since.elapsed().as_secs_f64();
        let held_out = progress
            .model
            .surprisals(held_out)
            .map(|losses| mean(&losses));
        let line = format!(
            "step {}/{}: loss {:.4}, held out {:.4}, {speed:.0} tokens/s",
            progress.step,
            progress.steps,
            self.loss / self.steps.max(1) as f64,
            held_out.unwrap_or(f64::NAN),
        );
        *self = Self::default();
        line
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
