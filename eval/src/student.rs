//! Students: small models trained from scratch on token sequences.

use serde::{Deserialize, Serialize};

use crate::model::{Architecture, Batch, Model, ModelError};
use crate::model::{Transformer, TransformerConfig, Trimmed};
use crate::training::{Checkpoint, Progress, TrainingConfig, TrainingError, Windows, train};

/// Starts every document: `<|endoftext|>` of the embedded teacher and of SmolLM2 alike.
pub const DOCUMENT_START: u32 = 0;

/// Which ids a student has weights for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "StudentVocabulary")
)]
#[serde(rename_all = "kebab-case")]
pub enum Vocabulary {
    /// Every id of the teacher's vocabulary.
    Full,
    /// The ids that occur in the training documents, for vocabularies much larger than the text.
    Observed,
}

/// A student's shape and training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StudentConfig {
    /// Width of the model.
    pub dim: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub hidden: usize,
    /// Tokens in a sequence at most.
    pub context: usize,
    /// Tokens in a training window.
    pub window: usize,
    /// Passes over the documents.
    pub epochs: f64,
    /// Windows in a step.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of matrices toward zero, per unit of learning rate.
    pub weight_decay: f64,
    /// Decides the first weights.
    pub seed: u64,
    /// Decides the order of the text.
    pub order: u64,
    /// Which ids have weights.
    pub vocabulary: Vocabulary,
}

impl Default for StudentConfig {
    /// A student of 0.90 M parameters at a vocabulary of 4096.
    fn default() -> Self {
        Self {
            dim: 128,
            layers: 2,
            heads: 4,
            hidden: 320,
            context: 192,
            window: 128,
            epochs: 4.0,
            batch: 16,
            learning_rate: 4e-3,
            weight_decay: 0.05,
            seed: 1,
            order: 1,
            vocabulary: Vocabulary::Full,
        }
    }
}

/// A trained student.
#[derive(Clone, Debug)]
pub struct Student {
    model: Trimmed,
    losses: Vec<f32>,
}

impl Student {
    /// Trains a student on documents over a vocabulary of `vocab` ids; resumes from the checkpoint if
    /// there is one. The same documents and settings give the same student to the bit.
    ///
    /// # Errors
    /// A document has an id outside the vocabulary, the settings contradict each other, the checkpoint
    /// belongs to another training or cannot be accessed, or the loss diverges.
    pub fn train(
        documents: &[Vec<u32>],
        vocab: usize,
        config: &StudentConfig,
        checkpoint: Option<&Checkpoint>,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Self, TrainingError> {
        for (row, document) in documents.iter().enumerate() {
            if let Some(&token) = document.iter().find(|&&token| token as usize >= vocab) {
                return Err(ModelError::UnknownToken {
                    row,
                    token,
                    vocabulary: vocab,
                }
                .into());
            }
        }
        let ids = match config.vocabulary {
            Vocabulary::Full => (0..vocab as u32).collect(),
            Vocabulary::Observed => observed(documents),
        };
        let trim = |document: &Vec<u32>| -> Vec<u32> {
            document
                .iter()
                .map(|token| Trimmed::index(&ids, *token))
                .collect()
        };
        let trimmed: Vec<Vec<u32>> = documents.iter().map(trim).collect();
        let start = Trimmed::index(&ids, DOCUMENT_START);
        let windows = Windows::new(&trimmed, start, config.window)?;
        let model = Transformer::random(config.shape(ids.len()), config.seed)?;
        let trained = train(&model, &windows, &config.training(), checkpoint, progress)?;
        Ok(Self {
            model: Trimmed::new(trained.model, ids, vocab),
            losses: trained.losses,
        })
    }

    /// The loss of every step in nats a token.
    #[must_use]
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// Mean loss of the last twenty steps, nats a token.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let last = &self.losses[self.losses.len().saturating_sub(20)..];
        last.iter().map(|&loss| f64::from(loss)).sum::<f64>() / last.len().max(1) as f64
    }

    /// The weights. With [`Vocabulary::Observed`], their ids are places in the list of observed ids.
    #[must_use]
    pub fn transformer(&self) -> &Transformer {
        self.model.inner()
    }

    /// Number of weights.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.model.inner().config().parameters()
    }
}

impl StudentConfig {
    fn shape(&self, vocab: usize) -> TransformerConfig {
        TransformerConfig {
            vocab,
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
        }
    }

    /// Steps of a training on documents of so many tokens in all, starts included, about.
    pub fn steps(&self, documents: &[Vec<u32>]) -> u64 {
        let tokens: usize = documents.iter().map(|document| document.len() + 1).sum();
        let windows = (tokens / self.window.max(1)).saturating_sub(1).max(1);
        (windows as f64 * self.epochs / self.batch as f64).ceil() as u64
    }

    fn training(&self) -> TrainingConfig {
        TrainingConfig {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            seed: self.order,
        }
    }
}

/// The ids that occur, and the document start, in increasing order.
fn observed(documents: &[Vec<u32>]) -> Vec<u32> {
    let mut ids: Vec<u32> = documents.concat();
    ids.push(DOCUMENT_START);
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl Model for Student {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn context_length(&self) -> usize {
        self.model.context_length()
    }

    fn start(&self, prompts: &[&[u32]]) -> Result<Box<dyn Batch + '_>, ModelError> {
        self.model.start(prompts)
    }

    fn read(
        &self,
        tokens: &[u32],
        visit: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<(), ModelError> {
        self.model.read(tokens, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Vec<u32>> {
        (0..8)
            .map(|d| (0..60).map(|i| 10 + (i * (d % 2 + 1)) % 7).collect())
            .collect()
    }

    fn config() -> StudentConfig {
        StudentConfig {
            dim: 16,
            layers: 1,
            heads: 2,
            hidden: 32,
            context: 16,
            window: 16,
            epochs: 20.0,
            batch: 4,
            learning_rate: 1e-2,
            weight_decay: 0.1,
            seed: 3,
            order: 3,
            vocabulary: Vocabulary::Observed,
        }
    }

    fn logits(student: &Student) -> Vec<f32> {
        student
            .start(&[&[0, 10, 11]])
            .unwrap()
            .logits()
            .iter()
            .copied()
            .collect()
    }

    #[test]
    fn a_student_learns_a_tiny_text_and_presents_the_full_vocabulary() {
        let student = Student::train(&documents(), 50, &config(), None, &mut |_| ()).unwrap();
        let last = student.losses().last().copied().unwrap();
        assert!(student.losses()[0] > 1.9 && last < 0.5, "{last}");
        let logits = logits(&student);
        assert_eq!(logits.len(), 50);
        let known = |id: usize| id == 0 || (10..17).contains(&id);
        assert!(
            logits
                .iter()
                .enumerate()
                .all(|(id, x)| x.is_finite() == known(id))
        );
    }

    #[test]
    fn an_interrupted_training_ends_the_same_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint {
            path: folder.path().join("student"),
            every: 10,
        };
        let whole = Student::train(&documents(), 50, &config(), None, &mut |_| ()).unwrap();
        // Killed between two checkpoints: what came after the last one is lost and done again.
        let killed = std::panic::catch_unwind(|| {
            Student::train(
                &documents(),
                50,
                &config(),
                Some(&checkpoint),
                &mut |progress| {
                    assert!(progress.step < 57);
                },
            )
        });
        assert!(killed.is_err());
        let mut first = None;
        let resumed = Student::train(
            &documents(),
            50,
            &config(),
            Some(&checkpoint),
            &mut |progress| {
                first.get_or_insert(progress.step);
            },
        )
        .unwrap();
        assert_eq!(first, Some(51));
        assert_eq!(resumed.losses(), whole.losses());
        assert_eq!(logits(&resumed), logits(&whole));
    }

    #[test]
    fn a_checkpoint_of_another_training_or_no_checkpoint_at_all_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint {
            path: folder.path().join("student"),
            every: 10,
        };
        let short = StudentConfig {
            epochs: 1.0,
            ..config()
        };
        let train = |config: &StudentConfig| {
            Student::train(&documents(), 50, config, Some(&checkpoint), &mut |_| ())
        };
        train(&short).unwrap();
        let other = train(&StudentConfig {
            seed: 4,
            ..short.clone()
        });
        assert!(matches!(other, Err(TrainingError::OtherTraining { .. })));
        std::fs::write(&checkpoint.path, b"not a checkpoint").unwrap();
        assert!(matches!(
            train(&short),
            Err(TrainingError::BadCheckpoint { .. })
        ));
    }

    #[test]
    fn unknown_ids_and_empty_texts_are_refused() {
        let train = |documents: &[Vec<u32>], config| {
            Student::train(documents, 50, &config, None, &mut |_| ()).unwrap_err()
        };
        assert!(matches!(
            train(&[vec![1], vec![50]], config()),
            TrainingError::Model(ModelError::UnknownToken {
                row: 1,
                token: 50,
                ..
            })
        ));
        assert!(matches!(train(&[], config()), TrainingError::NoText));
        let still = StudentConfig {
            learning_rate: 0.0,
            ..config()
        };
        assert!(matches!(
            train(&documents(), still),
            TrainingError::NotPositive { .. }
        ));
        let short = StudentConfig {
            context: config().window - 1,
            ..config()
        };
        assert!(matches!(
            train(&documents(), short),
            TrainingError::Window { .. }
        ));
    }
}
