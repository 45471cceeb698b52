//! The embedded teacher and its tokenizer.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::model::{Architecture, Transformer, TransformerConfig, gguf};
use watermark_eval::source::{Source, train_tokenizer};
use watermark_eval::training::{Checkpoint, TrainingConfig, Windows, train};

use crate::FileError;

/// Where text comes from.
#[derive(Args)]
pub(super) struct Text {
    /// Directory of .txt files.
    #[arg(long)]
    pub(super) text: PathBuf,
    /// Hold out every N-th file.
    #[arg(long, default_value_t = 12, value_name = "N")]
    pub(super) hold_out: usize,
}

/// Train a byte-level BPE tokenizer on a directory of text files.
#[derive(Args)]
pub(crate) struct TrainTokenizer {
    #[command(flatten)]
    text: Text,
    /// Number of token ids.
    #[arg(long, default_value_t = 4096)]
    vocabulary: usize,
    /// The tokenizer.json to write.
    #[arg(long)]
    out: PathBuf,
}

impl TrainTokenizer {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let source = Source::read(&self.text.text, self.text.hold_out)?;
        let tokenizer = train_tokenizer(&source.train, self.vocabulary)?;
        let fail = |error: tokenizers::Error| FileError {
            path: self.out.clone(),
            message: error.to_string(),
        };
        tokenizer.save(&self.out, false).map_err(fail)?;
        println!("{}", self.out.display());
        Ok(())
    }
}

/// Train a small decoder-only transformer on a directory of text files.
#[derive(Args)]
pub(crate) struct TrainTeacher {
    #[command(flatten)]
    text: Text,
    /// Its tokenizer.json.
    #[arg(long)]
    tokenizer: PathBuf,
    /// The GGUF file to write.
    #[arg(long)]
    out: PathBuf,
    /// Checkpoint, to go on after an interruption; default: the GGUF's name with `.state`.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Width of the residual stream.
    #[arg(long, default_value_t = 192)]
    dim: usize,
    /// Blocks.
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Attention heads.
    #[arg(long, default_value_t = 6)]
    heads: usize,
    /// Width of the feed-forward layer.
    #[arg(long, default_value_t = 512)]
    hidden: usize,
    /// Tokens of context.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Passes over the text.
    #[arg(long, default_value_t = 4.0)]
    epochs: f64,
    /// Windows a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    /// Weight decay.
    #[arg(long, default_value_t = 0.05)]
    weight_decay: f64,
    /// Decides initialisation and order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl TrainTeacher {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let tokenizer = HfTokenizer::from_file(&self.tokenizer)?;
        let source = Source::read(&self.text.text, self.text.hold_out)?;
        let encode = |texts: &[String]| -> Vec<Vec<u32>> {
            texts.iter().map(|text| tokenizer.encode(text)).collect()
        };
        let windows = Windows::new(&encode(&source.train), 0, self.context)?;
        let held_out = Windows::new(&encode(&source.held_out), 0, self.context)?;
        let model = Transformer::random(
            TransformerConfig {
                vocab: tokenizer.vocab_size(),
                dim: self.dim,
                layers: self.layers,
                heads: self.heads,
                kv_heads: self.heads,
                hidden: self.hidden,
                context: self.context,
                rope_base: 10_000.0,
                epsilon: 1e-5,
                tied: true,
                architecture: Architecture::Llama,
            },
            self.seed,
        )?;
        let config = TrainingConfig {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            seed: self.seed,
        };
        let steps = config.steps(&windows);
        eprintln!(
            "{} parameters, {} tokens, {} held out, {steps} steps",
            model.config().parameters(),
            windows.stream().len(),
            held_out.stream().len()
        );
        let checkpoint = Checkpoint {
            path: self
                .checkpoint
                .unwrap_or_else(|| self.out.with_extension("state")),
            every: 200,
        };
        let bar = ProgressBar::new(steps as u64).with_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps  {msg}  ETA {eta}",
        )?);
        let trained = train(
            &model,
            &windows,
            &config,
            Some(&checkpoint),
            &mut |progress| {
                bar.set_position(progress.step as u64);
                bar.set_message(format!("loss {:.3}", progress.loss));
                if bar.is_hidden() && progress.step % 100 == 0 {
                    eprintln!(
                        "step {} of {steps}: loss {:.4}",
                        progress.step, progress.loss
                    );
                }
            },
        )?;
        bar.finish_and_clear();
        let losses = trained.model.surprisals(held_out.stream())?;
        let loss = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        gguf::save(
            &self.out,
            "watermark embedded teacher",
            &trained.model,
            tokenizer.inner(),
        )?;
        let saved = gguf::load(&self.out)?.model;
        let losses = saved.surprisals(held_out.stream())?;
        let saved_loss = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        println!("held-out loss {loss:.4} nats a token; as saved, in eight bits, {saved_loss:.4}");
        Ok(())
    }
}
