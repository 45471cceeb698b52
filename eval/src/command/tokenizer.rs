//! `watermark-eval train-tokenizer`

use std::path::PathBuf;

use clap::Args;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::CommandError;
use watermark_eval::corpus::Corpus;

/// Starts every document; the first id.
pub(crate) const START: &str = "<|endoftext|>";

/// Train a byte-level BPE tokenizer on a folder of texts
#[derive(Debug, Args)]
pub(crate) struct TrainTokenizer {
    /// Folder of .txt files; one in twenty is held out
    corpus: PathBuf,
    /// The tokenizer.json to write
    #[arg(long)]
    out: PathBuf,
    /// Number of token ids, the 256 bytes and the document start included
    #[arg(long, default_value_t = 4096)]
    ids: usize,
}

impl TrainTokenizer {
    pub(crate) fn run(&self) -> Result<(), CommandError> {
        let corpus = Corpus::read(&self.corpus)?;
        let failed = |source| CommandError::Tokenizer {
            path: self.out.clone(),
            source,
        };
        let mut tokenizer = Tokenizer::new(BPE::default());
        // No space is put before a text: ids of a text's start equal those of its middle.
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
        let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
            .vocab_size(self.ids)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from(START, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        tokenizer
            .train(&mut trainer, corpus.training.iter())
            .map_err(failed)?;
        let json = tokenizer.to_string(false).map_err(failed)?;
        let io = |source| CommandError::Io {
            path: self.out.clone(),
            source,
        };
        let parent = self
            .out
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(parent.unwrap_or(".".as_ref())).map_err(io)?;
        std::fs::write(file.path(), json).map_err(io)?;
        file.persist(&self.out).map_err(|error| io(error.error))?;
        Ok(())
    }
}
