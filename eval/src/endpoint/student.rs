//! Students of a finished `cycle`, read back from its directory.
//!
//! A checkpoint holds weights and the identity of its training, not the shape. Both are found again in the directory: the
//! plan in `report.json`, the text in the transcripts. The training is then asked to go on, finds
//! that it is done, and has checked that the weights are those of this text.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::demo::Plan;
use crate::store::{Store, StoreError};
use crate::student::Student;
use crate::training::TrainingError;
use crate::transcripts::Transcript;

/// Which of the two students.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Trained on marked text.
    Learned,
    /// Trained on unmarked text.
    Innocent,
}

impl Which {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Learned => ("learned", "marked-transcripts.jsonl"),
            Self::Innocent => ("innocent", "unmarked-transcripts.jsonl"),
        }
    }
}

/// Why a student cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The operating system refused.
    #[error("{}: {source}; a finished `cycle --out` has it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not what a cycle writes.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The directory cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint is of another training, or damaged.
    #[error(transparent)]
    Training(#[from] TrainingError),
}

/// Reads a student back. `vocab` is the size of the teacher's vocabulary.
///
/// # Errors
/// The directory is not that of a finished cycle, or the checkpoint not of its text.
pub fn recall(directory: &Path, which: Which, vocab: usize) -> Result<Student, RecallError> {
    let read = |name: &str| {
        let path = directory.join(name);
        let text = std::fs::read_to_string(&path);
        text.map(|text| (path.clone(), text))
            .map_err(|source| RecallError::Io { path, source })
    };
    let content = |path: &Path, message: String| RecallError::Content {
        path: path.to_owned(),
        message,
    };
    let (name, transcripts) = which.names();
    let (path, report) = read("report.json")?;
    let report: Value =
        serde_json::from_str(&report).map_err(|error| content(&path, error.to_string()))?;
    let plan = Plan::deserialize(&report["plan"])
        .map_err(|error| content(&path, format!("`plan`: {error}")))?;
    let (path, text) = read(transcripts)?;
    let documents = text.lines().enumerate().map(|(index, line)| {
        let transcript: Transcript = serde_json::from_str(line)
            .map_err(|error| content(&path, format!("line {}: {error}", index + 1)))?;
        Ok([transcript.prompt_token_ids, transcript.token_ids].concat())
    });
    let documents = documents.collect::<Result<Vec<_>, RecallError>>()?;
    // The teacher's name matters for answers, not for checkpoints.
    let checkpoint = Store::open(directory, "")?.checkpoint(name);
    if let Err(source) = std::fs::metadata(&checkpoint.path) {
        return Err(RecallError::Io {
            path: checkpoint.path,
            source,
        });
    }
    let config = plan.student();
    Ok(Student::train(
        &documents,
        vocab,
        &config,
        Some(&checkpoint),
        &mut |_| {},
    )?)
}
