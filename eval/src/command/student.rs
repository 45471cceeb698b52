//! A student on somebody's answers, kept as a model file.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::model::gguf;
use watermark_eval::student::{Student, StudentConfig};
use watermark_eval::training::Checkpoint;
use watermark_eval::transcripts::Transcript;

use crate::FileError;

/// Train a small student from scratch on answers that `watermark generate` wrote, prompts included,
/// as a distiller would.
#[derive(Args)]
pub(crate) struct TrainStudent {
    /// Answers, JSONL as `watermark generate` writes them; several files are one text.
    #[arg(required = true)]
    answers: Vec<PathBuf>,
    /// The tokenizer of their token ids [default: that of the embedded model].
    #[arg(long, value_name = "FILE.json")]
    tokenizer: Option<PathBuf>,
    /// The GGUF file to write.
    #[arg(long)]
    out: PathBuf,
    /// Passes over the text.
    #[arg(long, default_value_t = StudentConfig::default().epochs)]
    epochs: f64,
    /// Width of the student; heads have 32 entries.
    #[arg(long, default_value_t = StudentConfig::default().dim)]
    dim: usize,
    /// Blocks.
    #[arg(long, default_value_t = StudentConfig::default().layers)]
    layers: usize,
    /// Tokens of context.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Decides initialisation and order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl TrainStudent {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let tokenizer = match &self.tokenizer {
            Some(path) => HfTokenizer::from_file(path)?,
            None => HfTokenizer::from_bytes(
                watermark_corpora::tokenizer_json(),
                "of the embedded model",
            )?,
        };
        let mut documents = Vec::new();
        for path in &self.answers {
            documents.extend(read(path)?);
        }
        let config = StudentConfig {
            dim: self.dim,
            layers: self.layers,
            heads: (self.dim / 32).max(1),
            hidden: self.dim * 5 / 2,
            context: self.context,
            epochs: self.epochs,
            seed: self.seed,
            order: self.seed,
            ..StudentConfig::default()
        };
        let checkpoint = Checkpoint {
            path: self.out.with_extension("state"),
            every: 200,
        };
        let steps = config.steps(&documents);
        let bar = ProgressBar::new(steps).with_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps  {msg}  ETA {eta}",
        )?);
        let student = Student::train(
            &documents,
            tokenizer.vocab_size(),
            &config,
            Some(&checkpoint),
            &mut |progress| {
                bar.set_position(progress.step as u64);
                bar.set_message(format!("loss {:.3}", progress.loss));
            },
        )?;
        bar.finish_and_clear();
        gguf::save(
            &self.out,
            "watermark student",
            student.transformer(),
            tokenizer.inner(),
        )?;
        // The model is whole; what it could go on from is not needed any more.
        let _ = std::fs::remove_file(&checkpoint.path);
        let tokens: usize = documents.iter().map(Vec::len).sum();
        println!(
            "{}",
            serde_json::json!({
                "type": "watermark.student", "schema": 1, "file": self.out,
                "parameters": student.parameters(), "documents": documents.len(), "tokens": tokens,
                "steps": student.losses().len(), "loss": student.loss(),
            })
        );
        Ok(())
    }
}

/// Prompt and answer of every line.
fn read(path: &Path) -> Result<Vec<Vec<u32>>, FileError> {
    let fail = |message: String| FileError {
        path: path.to_owned(),
        message,
    };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let mut documents = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let answer: Transcript = serde_json::from_str(line).map_err(|error| {
            fail(format!(
                "line {}: {error}; give the file that `watermark generate` wrote",
                at + 1
            ))
        })?;
        documents.push([answer.prompt_token_ids, answer.token_ids].concat());
    }
    Ok(documents)
}
