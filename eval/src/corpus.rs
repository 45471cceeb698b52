//! Source texts on disk, as documents to train on.

use std::path::{Path, PathBuf};

/// Texts of a corpus, some of them held out of training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corpus {
    /// Texts to train on.
    pub training: Vec<String>,
    /// Texts that are never trained on.
    pub held_out: Vec<String>,
}

/// Why a corpus could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// A file or folder cannot be read, or is not UTF-8.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No texts at all.
    #[error("{} holds no .txt files; fetch the corpus with corpora/fetch.sh", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// One text in this many is held out.
const HELD_OUT_EVERY: usize = 20;

impl Corpus {
    /// Reads every `.txt` file of a folder, in the order of their names; the tenth of every twenty is
    /// held out whole.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or there are no texts.
    pub fn read(folder: &Path) -> Result<Self, CorpusError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CorpusError::Io { path, source }
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                paths.push(path);
            }
        }
        paths.sort();
        if paths.is_empty() {
            return Err(CorpusError::Empty {
                path: folder.to_owned(),
            });
        }
        let mut corpus = Self::default();
        for (index, path) in paths.iter().enumerate() {
            let text = std::fs::read_to_string(path).map_err(failed(path))?;
            match index % HELD_OUT_EVERY == HELD_OUT_EVERY / 2 {
                true => corpus.held_out.push(text),
                false => corpus.training.push(text),
            }
        }
        Ok(corpus)
    }
}

/// Cuts a text at ends of sentences into passages of at least `least` bytes, the last one excepted.
///
/// Passages are the documents that the embedded model learns to start: whole speeches would teach it
/// their few opening formulas only.
#[must_use]
pub fn passages(text: &str, least: usize) -> Vec<&str> {
    let mut passages = Vec::new();
    let mut start = 0;
    for (end, _) in text.match_indices(". ") {
        if end + 1 - start >= least {
            passages.push(text[start..=end].trim());
            start = end + 2;
        }
    }
    passages.push(text[start..].trim());
    passages.retain(|passage| !passage.is_empty());
    passages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_end_with_sentences_and_lose_nothing() {
        let text = "One two. Three. Four five six. Seven";
        assert_eq!(
            passages(text, 8),
            ["One two.", "Three. Four five six.", "Seven"]
        );
        assert_eq!(passages(text, 8).join(" "), text);
        assert!(passages("  ", 8).is_empty());
    }

    #[test]
    fn whole_texts_are_held_out_and_an_empty_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            Corpus::read(folder.path()),
            Err(CorpusError::Empty { .. })
        ));
        for i in 0..40 {
            std::fs::write(
                folder.path().join(format!("{i:02}.txt")),
                format!("text {i}"),
            )
            .unwrap();
        }
        let corpus = Corpus::read(folder.path()).unwrap();
        assert_eq!(corpus.held_out, ["text 10", "text 30"]);
        assert_eq!(corpus.training.len(), 38);
    }
}
