//! A model that has weights for some ids of its vocabulary only.

use ndarray::{Array2, ArrayView2};

use super::{Batch, Model, ModelError, Transformer, check_tokens};

/// Presents a transformer over a few ids as a model over all of them.
///
/// Ids that it does not know have logit `-inf`; in prompts they are read as the first known id, which
/// is the document start.
#[derive(Clone, Debug)]
pub struct Trimmed {
    inner: Transformer,
    /// The known ids in increasing order: index in the transformer's vocabulary to id.
    ids: Vec<u32>,
    vocab: usize,
}

impl Trimmed {
    pub(crate) fn new(inner: Transformer, ids: Vec<u32>, vocab: usize) -> Self {
        Self { inner, ids, vocab }
    }

    /// The index of an id among the known ones; zero if it is unknown.
    pub(crate) fn index(ids: &[u32], token: u32) -> u32 {
        ids.binary_search(&token).unwrap_or(0) as u32
    }

    pub(crate) fn inner(&self) -> &Transformer {
        &self.inner
    }

    fn trim(&self, row: usize, tokens: &[u32]) -> Result<Vec<u32>, ModelError> {
        check_tokens(row, tokens, self.vocab)?;
        Ok(tokens
            .iter()
            .map(|token| Self::index(&self.ids, *token))
            .collect())
    }
}

impl Model for Trimmed {
    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context_length(&self) -> usize {
        self.inner.context_length()
    }

    fn start(&self, prompts: &[&[u32]]) -> Result<Box<dyn Batch + '_>, ModelError> {
        if self.ids.len() == self.vocab {
            return self.inner.start(prompts);
        }
        let trimmed = prompts
            .iter()
            .enumerate()
            .map(|(row, prompt)| self.trim(row, prompt));
        let trimmed: Vec<Vec<u32>> = trimmed.collect::<Result<_, _>>()?;
        let inner = self
            .inner
            .start(&trimmed.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let logits = Array2::from_elem((prompts.len(), self.vocab), f32::NEG_INFINITY);
        let mut batch = TrimmedBatch {
            model: self,
            inner,
            logits,
        };
        batch.spread();
        Ok(Box::new(batch))
    }

    fn read(
        &self,
        tokens: &[u32],
        visit: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<(), ModelError> {
        if self.ids.len() == self.vocab {
            return self.inner.read(tokens, visit);
        }
        let mut all = vec![f32::NEG_INFINITY; self.vocab];
        self.inner.read(&self.trim(0, tokens)?, &mut |at, known| {
            for (id, logit) in self.ids.iter().zip(known) {
                all[*id as usize] = *logit;
            }
            visit(at, &all);
        })
    }
}

struct TrimmedBatch<'a> {
    model: &'a Trimmed,
    inner: Box<dyn Batch + 'a>,
    logits: Array2<f32>,
}

impl TrimmedBatch<'_> {
    /// Copies the known logits to their places; the others stay `-inf`.
    fn spread(&mut self) {
        for (mut all, known) in self
            .logits
            .rows_mut()
            .into_iter()
            .zip(self.inner.logits().rows())
        {
            for (id, logit) in self.model.ids.iter().zip(known) {
                all[*id as usize] = *logit;
            }
        }
    }
}

impl Batch for TrimmedBatch<'_> {
    fn logits(&self) -> ArrayView2<'_, f32> {
        self.logits.view()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        let mut trimmed = Vec::with_capacity(tokens.len());
        for (row, token) in tokens.iter().enumerate() {
            trimmed.extend(self.model.trim(row, std::slice::from_ref(token))?);
        }
        self.inner.step(&trimmed)?;
        self.spread();
        Ok(())
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}
