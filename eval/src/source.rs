//! Texts to train on: a directory of plain-text files, cut into passages.

use std::path::{Path, PathBuf};

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer};

use crate::files;

/// The token that starts every document; its id is 0.
pub const DOCUMENT_START: &str = "<|endoftext|>";

/// Bytes that a passage reaches before it ends with its paragraph.
const PASSAGE: usize = 1200;

/// Passages for training, and passages of files that training never sees.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// For training.
    pub train: Vec<String>,
    /// Held out, whole files.
    pub held_out: Vec<String>,
}

/// Why a source could not be read or a tokenizer made of it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system refused.
    #[error("text {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No text.
    #[error("{}: no .txt file with text in it", .0.display())]
    Empty(PathBuf),
    /// The directory cannot be listed.
    #[error("text {0}")]
    List(#[from] files::ListError),
    /// The trainer failed.
    #[error("cannot train a tokenizer: {0}")]
    Tokenizer(tokenizers::Error),
}

impl Source {
    /// Reads the `.txt` files below `directory` in the order of their paths; of the non-empty
    /// ones, every `hold_out`-th is held out (0: none).
    ///
    /// # Errors
    /// The directory or a file cannot be read, a file is not UTF-8, or there is no text.
    pub fn read(directory: &Path, hold_out: usize) -> Result<Self, SourceError> {
        let mut source = Self::default();
        let mut kept = 0;
        for path in files::below(directory, &["txt"])? {
            let text = std::fs::read_to_string(&path).map_err(|error| SourceError::Io {
                path: path.clone(),
                source: error,
            })?;
            if text.trim().is_empty() {
                continue;
            }
            kept += 1;
            let held_out = hold_out > 0 && kept % hold_out == 0;
            let into = if held_out {
                &mut source.held_out
            } else {
                &mut source.train
            };
            into.extend(passages(&text));
        }
        if source.train.is_empty() {
            return Err(SourceError::Empty(directory.to_owned()));
        }
        Ok(source)
    }
}

/// Sentences joined until [`PASSAGE`] bytes are reached; line breaks and runs of spaces become
/// one space.
fn passages(text: &str) -> Vec<String> {
    let mut passages = Vec::new();
    let mut passage = String::new();
    for word in text.split_whitespace() {
        if !passage.is_empty() {
            passage.push(' ');
        }
        passage.push_str(word);
        if passage.len() >= PASSAGE && word.ends_with(['.', '!', '?']) {
            passages.push(std::mem::take(&mut passage));
        }
    }
    if !passage.is_empty() {
        passages.push(passage);
    }
    passages
}

/// Trains a byte-level BPE tokenizer of `vocabulary` ids, [`DOCUMENT_START`] first.
///
/// # Errors
/// The trainer failed.
pub fn train_tokenizer(texts: &[String], vocabulary: usize) -> Result<Tokenizer, SourceError> {
    let mut tokenizer = Tokenizer::new(BPE::default());
    let byte_level = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(byte_level));
    tokenizer.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::default())));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(DOCUMENT_START, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    tokenizer
        .train(&mut trainer, texts.iter().map(String::as_str))
        .map_err(SourceError::Tokenizer)?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use watermark_core::text::{HfTokenizer, Tokenizer as _};

    #[test]
    fn passages_keep_every_word_in_order() {
        let text = "One two.  Three\n\nfour! ".repeat(200);
        let passages = passages(&text);
        assert!(passages.len() > 2);
        let joined: Vec<_> = passages.iter().flat_map(|p| p.split(' ')).collect();
        assert_eq!(joined, text.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn a_trained_tokenizer_gives_any_text_back() {
        let texts = vec!["the cat sat on the mat ".repeat(50)];
        let tokenizer = HfTokenizer::new(train_tokenizer(&texts, 300).unwrap());
        for text in ["the cat", " naïve ☃ text\n", ""] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text);
        }
        assert_eq!(tokenizer.token(0).as_deref(), Some(DOCUMENT_START));
    }
}
