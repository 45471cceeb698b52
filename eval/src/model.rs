//! Language models as seen by a sampler: tokens in, logits of the next token out.
//!
//! [`transformer`] is the one engine: trained here from scratch, run here with a cache, and loaded
//! from GGUF files of pretrained models ([`gguf`]). [`ngram`] is an instant stand-in for tests.

mod architecture;
mod decode;
pub mod gguf;
pub mod ngram;
mod ops;
pub mod transformer;
mod trimmed;
pub mod worker;

pub use architecture::{Architecture, DocumentTokens, Gemma3};
pub(crate) use ops::{lanes::dot, lanes::wide, with_values};
pub use transformer::{Transformer, TransformerConfig};
pub use trimmed::Trimmed;

/// A language model over a fixed vocabulary.
pub trait Model: Send + Sync {
    /// Number of token ids: every id is below it.
    fn vocab_size(&self) -> usize;

    /// Largest number of tokens in a sequence, prompt included.
    fn context_length(&self) -> usize;

    /// Reads the prompts and starts a batch of one sequence each.
    ///
    /// # Errors
    /// The prompts must be at least one, and of the same non-zero length within
    /// [`context_length`](Self::context_length), with ids below [`vocab_size`](Self::vocab_size).
    fn start(&self, prompts: &[&[u32]]) -> Result<Box<dyn Batch + '_>, ModelError>;

    /// Reads a text and shows the logits after each of its tokens, in order: `visit(at, logits)`
    /// gets what follows `tokens[..=at]`.
    ///
    /// # Errors
    /// The text is empty, longer than the context, or has ids outside the vocabulary.
    fn read(
        &self,
        tokens: &[u32],
        visit: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<(), ModelError> {
        check_prompts(&[tokens], self.vocab_size(), self.context_length())?;
        let mut batch = self.start(&[&tokens[..1]])?;
        for at in 0..tokens.len() {
            if at > 0 {
                batch.step(&tokens[at..=at])?;
            }
            visit(at, &batch.logits().row(0).to_vec());
        }
        Ok(())
    }
}

/// Sequences that grow together, one token a row at a time.
#[expect(
    clippy::len_without_is_empty,
    reason = "a batch holds at least one token a row"
)]
pub trait Batch {
    /// Logits of the next token: `[rows, vocabulary]`, natural-log scale, `-inf` where impossible.
    fn logits(&self) -> ndarray::ArrayView2<'_, f32>;

    /// Appends one token to each row and computes the next logits.
    ///
    /// # Errors
    /// One known token a row is needed, and room in the context; the batch is unchanged otherwise.
    fn step(&mut self, tokens: &[u32]) -> Result<(), ModelError>;

    /// Number of tokens in each row so far, prompt included; never zero.
    fn len(&self) -> usize;
}

/// Why a model could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A batch of no sequences.
    #[error("no prompts were given; a batch needs at least one")]
    NoPrompts,
    /// A sequence of no tokens has no next-token logits.
    #[error("prompt {row} is empty; start it with the document-start token")]
    EmptyPrompt {
        /// Index of the prompt.
        row: usize,
    },
    /// Prompts of one batch share their length.
    #[error("prompt {row} has {found} tokens but prompt 0 has {expected}; group prompts by length")]
    UnequalPrompts {
        /// Index of the first prompt that differs.
        row: usize,
        /// Length of prompt 0.
        expected: usize,
        /// Length of the prompt that differs.
        found: usize,
    },
    /// A step takes one token a row.
    #[error("a step of {expected} rows was given {found} tokens; give one a row")]
    Rows {
        /// Rows of the batch.
        expected: usize,
        /// Tokens given.
        found: usize,
    },
    /// An id outside the vocabulary.
    #[error(
        "token {token} in row {row} is outside the vocabulary of {vocabulary}; \
         was the text encoded with another model's tokenizer?"
    )]
    UnknownToken {
        /// Row of the batch.
        row: usize,
        /// The id.
        token: u32,
        /// Number of ids.
        vocabulary: usize,
    },
    /// The sequence would not fit.
    #[error(
        "{needed} tokens do not fit in the model's context of {limit}; stop or shorten the prompt"
    )]
    ContextFull {
        /// Tokens that the sequence would have.
        needed: usize,
        /// The model's context length.
        limit: usize,
    },
    /// There are no gradients for it.
    #[error("a model of architecture `{architecture}` can be run but not trained; train a `llama`")]
    NotTrainable {
        /// Its architecture.
        architecture: &'static str,
    },
    /// A model's shape is contradictory.
    #[error("invalid model shape: {0}")]
    Shape(#[from] transformer::ShapeError),
    /// The tensor engine failed: out of memory, or a defect here.
    #[error("the tensor engine failed: {0}; please report this with the command that led to it")]
    Tensor(#[from] candle_core::Error),
}

/// Checks what [`Model::start`] promises; returns the common length of the prompts.
fn check_prompts(prompts: &[&[u32]], vocabulary: usize, limit: usize) -> Result<usize, ModelError> {
    let expected = prompts.first().ok_or(ModelError::NoPrompts)?.len();
    for (row, prompt) in prompts.iter().enumerate() {
        match prompt.len() {
            0 => return Err(ModelError::EmptyPrompt { row }),
            found if found != expected => {
                return Err(ModelError::UnequalPrompts {
                    row,
                    expected,
                    found,
                });
            }
            needed if needed > limit => return Err(ModelError::ContextFull { needed, limit }),
            _ => {}
        }
        check_tokens(row, prompt, vocabulary)?;
    }
    Ok(expected)
}

/// Checks what [`Batch::step`] promises.
fn check_step(
    tokens: &[u32],
    rows: usize,
    len: usize,
    vocabulary: usize,
    limit: usize,
) -> Result<(), ModelError> {
    if tokens.len() != rows {
        return Err(ModelError::Rows {
            expected: rows,
            found: tokens.len(),
        });
    }
    if len >= limit {
        return Err(ModelError::ContextFull {
            needed: len + 1,
            limit,
        });
    }
    for (row, token) in tokens.iter().enumerate() {
        check_tokens(row, std::slice::from_ref(token), vocabulary)?;
    }
    Ok(())
}

/// Checks that the tokens of one row are below the vocabulary's size.
fn check_tokens(row: usize, tokens: &[u32], vocabulary: usize) -> Result<(), ModelError> {
    match tokens.iter().find(|&&token| token as usize >= vocabulary) {
        Some(&token) => Err(ModelError::UnknownToken {
            row,
            token,
            vocabulary,
        }),
        None => Ok(()),
    }
}
