//! The subcommands, one a file.

pub(crate) mod sample;
pub(crate) mod teacher;
pub(crate) mod tokenizer;

use std::path::PathBuf;

use watermark_eval::corpus::CorpusError;
use watermark_eval::model::{ModelError, gguf::GgufError};
use watermark_eval::training::TrainingError;

/// What ends a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Training(#[from] TrainingError),
    #[error("tokenizer {}: {source}; make it with `watermark-eval train-tokenizer`", path.display())]
    Tokenizer {
        path: PathBuf,
        source: tokenizers::Error,
    },
    #[error("cannot access {}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}
