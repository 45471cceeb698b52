//! What a long run has finished, kept on disk: an interrupted run goes on where it stopped.
//!
//! Answers are one JSON object a line, in order, after a first line that says which run they
//! belong to. What an interruption cut off is dropped and written again, back to the last whole
//! chunk: the last bits of a logit depend on which sequences a model reads together.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use watermark_core::profile::Mark;

use crate::generate::{Answer, Generation, generate};
use crate::model::{Model, ModelError};
use crate::training::Checkpoint;

/// A directory for the parts of one run.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    /// What the run's answers depend on beside mark, prompts and settings: the teacher's name.
    identity: String,
}

/// Why a part could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another run's part is there.
    #[error(
        "{} belongs to a run with another model, key, seed, prompts or settings; \
         give another directory, or delete it to start over", .0.display()
    )]
    OtherRun(PathBuf),
    /// A line cannot be read back, and is not the last one.
    #[error("{}, line {line}: {message}; delete the file to write it again", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    schema: u32,
    run: String,
}

/// Answers written between two saves.
const CHUNK: usize = 256;

impl Store {
    /// Opens a directory, which is made if it is not there. `identity` names what the answers
    /// depend on that this module cannot see: the teacher, by the digest of its file.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: &Path, identity: &str) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError::Io {
            path: directory.to_owned(),
            source,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            identity: identity.to_owned(),
        })
    }

    /// Where a training under this name keeps its state.
    #[must_use]
    pub fn checkpoint(&self, name: &str) -> Checkpoint {
        Checkpoint {
            path: self.directory.join(format!("{name}.state")),
            every: 200,
        }
    }

    /// The answers of [`generate`], as far as they are there from the file `NAME.jsonl`, the
    /// others written now and saved as they come.
    ///
    /// # Errors
    /// The file belongs to another run, cannot be read or written, or the model fails.
    pub fn answers(
        &self,
        name: &str,
        model: &dyn Model,
        mark: Option<&Mark>,
        prompts: &[Vec<u32>],
        generation: &Generation,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Answer>, StoreError> {
        let path = self.directory.join(format!("{name}.jsonl"));
        let io = |source| StoreError::Io {
            path: path.clone(),
            source,
        };
        let head = Head {
            kind: "watermark.answers".to_owned(),
            schema: 1,
            run: self.run(mark, prompts, generation),
        };
        let (mut file, mut answers) = resume(&path, &head, prompts.len())?;
        answers.truncate(prompts.len());
        let tokens = |answers: &[Answer]| -> u64 {
            answers
                .iter()
                .map(|answer| answer.tokens.len() as u64)
                .sum()
        };
        while answers.len() < prompts.len() {
            let from = answers.len();
            let chunk = &prompts[from..prompts.len().min(from + CHUNK)];
            let before = tokens(&answers);
            let generation = Generation {
                first: generation.first + from as u64,
                ..*generation
            };
            let new = generate(model, mark, chunk, &generation, &|n| progress(before + n))?;
            let mut lines = Vec::new();
            for answer in &new {
                serde_json::to_writer(&mut lines, answer).map_err(|error| io(error.into()))?;
                lines.push(b'\n');
            }
            file.write_all(&lines)
                .and_then(|()| file.sync_data())
                .map_err(io)?;
            answers.extend(new);
        }
        progress(tokens(&answers));
        Ok(answers)
    }

    /// A digest of everything that the answers depend on.
    fn run(&self, mark: Option<&Mark>, prompts: &[Vec<u32>], generation: &Generation) -> String {
        let mut digest = Sha256::new();
        let mut put = |part: &str| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        put(&self.identity);
        put(&mark.map_or_else(
            || "unmarked".to_owned(),
            |mark| {
                let profile = serde_json::to_string(mark.profile()).expect("plain data");
                format!("{profile} {}", mark.key_id())
            },
        ));
        let Generation {
            max_tokens,
            sampling,
            end,
            seed,
            first,
            ..
        } = generation;
        put(&format!(
            "{max_tokens} {sampling:?} {end:?} {seed} {first} {prompts:?}"
        ));
        watermark_core::hex(&digest.finalize())
    }
}

/// The answers in a file that is to have `expected` of them, ready to be appended to; a new file
/// gets its head.
fn resume(path: &Path, head: &Head, expected: usize) -> Result<(File, Vec<Answer>), StoreError> {
    let io = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io)?;
    // Only what ends with a line break was written whole, and only whole chunks are kept, unless
    // the last one is as short as it has to be.
    let mut ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    if ends.len() <= expected {
        ends.truncate(1 + ends.len().saturating_sub(1) / CHUNK * CHUNK);
    }
    let whole = ends.last().copied().unwrap_or(0);
    let mut lines = text[..whole].lines().enumerate();
    match lines.next() {
        Some((_, line)) if serde_json::from_str::<Head>(line).is_ok_and(|found| found == *head) => {
        }
        Some(_) => return Err(StoreError::OtherRun(path.to_owned())),
        None => {
            file.set_len(0).map_err(io)?;
            file.rewind().map_err(io)?;
            let line = serde_json::to_string(head).expect("plain data");
            file.write_all(format!("{line}\n").as_bytes())
                .and_then(|()| file.sync_data())
                .map_err(io)?;
            return Ok((file, Vec::new()));
        }
    }
    let answers = lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| StoreError::Line {
                path: path.to_owned(),
                line: index + 1,
                message: error.to_string(),
            })
        })
        .collect::<Result<_, _>>()?;
    file.set_len(whole as u64).map_err(io)?;
    file.seek(SeekFrom::End(0)).map_err(io)?;
    Ok((file, answers))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use watermark_core::candidates::Sampling;

    use super::*;
    use crate::model::{Architecture, Transformer, TransformerConfig};

    #[test]
    fn an_interrupted_run_goes_on_and_ends_the_same() {
        let config = TransformerConfig {
            vocab: 40,
            dim: 16,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            hidden: 16,
            context: 24,
            rope_base: 1e4,
            epsilon: 1e-5,
            tied: true,
            architecture: Architecture::Llama,
        };
        let model = Transformer::random(config, 1).unwrap();
        let generation = Generation {
            max_tokens: 8,
            sampling: Sampling::default(),
            end: Some(0),
            seed: 3,
            first: 0,
            batch: 16,
            threads: NonZeroUsize::new(2).unwrap(),
        };
        let prompts: Vec<Vec<u32>> = (0..600u32).map(|i| vec![0, 1 + i % 30]).collect();
        let straight = generate(&model, None, &prompts, &generation, &|_| ()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "a model").unwrap();
        let write = |store: &Store, prompts: &[Vec<u32>]| {
            store.answers("x", &model, None, prompts, &generation, &|_| ())
        };
        assert_eq!(write(&store, &prompts).unwrap(), straight);
        // Cut anywhere: torn lines, a torn head, nothing at all.
        let path = folder.path().join("x.jsonl");
        let bytes = std::fs::read(&path).unwrap();
        for kept in [0, 10, 140, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
            std::fs::write(&path, &bytes[..kept]).unwrap();
            assert_eq!(write(&store, &prompts).unwrap(), straight, "{kept} bytes");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        let other = Store::open(folder.path(), "another model").unwrap();
        assert!(matches!(
            write(&other, &prompts),
            Err(StoreError::OtherRun(_))
        ));
        let damaged = String::from_utf8(bytes).unwrap().replacen("tokens", "x", 1);
        std::fs::write(&path, damaged).unwrap();
        let error = write(&store, &prompts).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
