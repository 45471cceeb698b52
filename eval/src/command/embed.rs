//! The embedded teacher, put in its place.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use watermark_core::candidates::Sampling;
use watermark_core::hex;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::generate::{Generation, generate};
use watermark_eval::model::{Transformer, gguf};
use watermark_eval::source::Source;
use watermark_eval::student::DOCUMENT_START;

use super::keep;
use super::teacher::Text;
use crate::FileError;

/// Put a trained teacher and its tokenizer into the corpora crate, and measure it for the manifest.
#[derive(Args)]
pub(crate) struct Embed {
    #[command(flatten)]
    text: Text,
    /// The trained teacher, a GGUF file.
    #[arg(long)]
    teacher: PathBuf,
    /// Its tokenizer.json.
    #[arg(long)]
    tokenizer: PathBuf,
    /// How the teacher was trained: the command, for the manifest.
    #[arg(long)]
    made: String,
    /// The folder of the corpora crate.
    #[arg(long, default_value = "corpora")]
    out: PathBuf,
}

/// The manifest of the corpora crate.
#[derive(Deserialize, Serialize)]
struct Manifest {
    file: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    path: String,
    source: String,
    licence: String,
    made: String,
    sha256: String,
    bytes: usize,
}

impl Embed {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let source = Source::read(&self.text.text, self.text.hold_out)?;
        let tokenizer = HfTokenizer::from_file(&self.tokenizer)?;
        let model = gguf::load(&self.teacher)?.model;
        let loss = held_out_loss(&model, &tokenizer, &source.held_out)?;
        let measured = format!(
            "held-out loss {loss:.4} nats a token, entropy of its own text at temperature 1 {:.4} \
             nats a token",
            entropy(&model)?
        );
        println!("{measured}");
        let manifest = self.out.join("manifest.toml");
        let text = String::from_utf8(read(&manifest)?)?;
        let mut entries: Manifest = toml::from_str(&text)?;
        let made = format!("{}; {measured}", self.made);
        for (name, from, made) in [
            ("data/teacher.gguf", &self.teacher, Some(made)),
            ("data/tokenizer.json", &self.tokenizer, None),
        ] {
            let bytes = read(from)?;
            keep(&self.out.join(name), &bytes)?;
            for entry in entries.file.iter_mut().filter(|entry| entry.path == name) {
                entry.bytes = bytes.len();
                entry.sha256 = hex(&Sha256::digest(&bytes));
                entry.made = made.clone().unwrap_or(std::mem::take(&mut entry.made));
            }
        }
        // The comment at the head of the manifest stays.
        let head: Vec<&str> = text
            .lines()
            .take_while(|line| line.starts_with('#'))
            .collect();
        let text = format!("{}\n\n{}", head.join("\n"), toml::to_string(&entries)?);
        keep(&manifest, text.as_bytes())?;
        Ok(())
    }
}

/// Mean surprisal of held-out passages, each after a document start, in nats a token.
fn held_out_loss(
    model: &Transformer,
    tokenizer: &HfTokenizer,
    passages: &[String],
) -> Result<f64, Box<dyn Error>> {
    let mut stream = Vec::new();
    for passage in passages {
        stream.push(DOCUMENT_START);
        stream.extend(tokenizer.encode(passage));
    }
    let losses = model.surprisals(&stream)?;
    Ok(losses.iter().sum::<f64>() / losses.len().max(1) as f64)
}

/// Mean entropy of the next token in the model's own text, in nats.
fn entropy(model: &Transformer) -> Result<f64, Box<dyn Error>> {
    let generation = Generation {
        max_tokens: 128,
        sampling: Sampling::default(),
        end: Some(DOCUMENT_START),
        seed: 0,
        first: 0,
        batch: 64,
        threads: NonZeroUsize::MIN,
    };
    let prompts = vec![vec![DOCUMENT_START]; 128];
    let answers = generate(model, None, &prompts, &generation, &|_| ())?;
    let weighted = answers
        .iter()
        .map(|answer| answer.entropy * answer.tokens.len() as f64);
    let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    Ok(weighted.sum::<f64>() / tokens.max(1) as f64)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> FileError {
    FileError {
        path: path.to_owned(),
        message: error.to_string(),
    }
}
