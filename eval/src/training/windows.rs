//! A text cut into windows for training.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::TrainingError;

/// Documents joined into one stream, read in windows of a fixed length.
#[derive(Clone, Debug)]
pub struct Windows {
    stream: Vec<u32>,
    length: usize,
}

impl Windows {
    /// Joins documents, each after the token `start`, to be read `context` tokens at a time.
    ///
    /// A stream shorter than that is one shorter window.
    ///
    /// # Errors
    /// There are fewer than two tokens in all.
    pub fn new<D: AsRef<[u32]>>(
        documents: &[D],
        start: u32,
        context: usize,
    ) -> Result<Self, TrainingError> {
        let mut stream = Vec::new();
        for document in documents {
            stream.push(start);
            stream.extend_from_slice(document.as_ref());
        }
        if stream.len() < 2 {
            return Err(TrainingError::NoText);
        }
        let length = context.clamp(1, stream.len() - 1);
        Ok(Self { stream, length })
    }

    /// All tokens, document starts included.
    #[must_use]
    pub fn stream(&self) -> &[u32] {
        &self.stream
    }

    /// Tokens in a window.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Windows in an epoch: as many as fit behind every offset that an epoch may start from.
    #[must_use]
    pub fn per_epoch(&self) -> usize {
        (self.stream.len() / self.length).saturating_sub(1).max(1)
    }

    /// Inputs and targets of a step, `batch` windows one after the other.
    ///
    /// Windows are numbered through all epochs. Each epoch starts from its own random offset, so that
    /// the text is not cut at the same places again, and has its own order; both depend on the seed
    /// and the epoch alone, so any step can be computed without those before it.
    #[must_use]
    pub fn batch(&self, seed: u64, step: usize, batch: usize) -> (Vec<u32>, Vec<u32>) {
        let mut inputs = Vec::with_capacity(batch * self.length);
        let mut targets = Vec::with_capacity(batch * self.length);
        let mut epoch = None;
        for window in step * batch..(step + 1) * batch {
            let (number, index) = (window / self.per_epoch(), window % self.per_epoch());
            let starts = match epoch.take() {
                Some((known, starts)) if known == number => starts,
                _ => self.starts(seed, number),
            };
            let from = starts[index];
            inputs.extend_from_slice(&self.stream[from..from + self.length]);
            targets.extend_from_slice(&self.stream[from + 1..from + 1 + self.length]);
            epoch = Some((number, starts));
        }
        (inputs, targets)
    }

    /// First tokens of an epoch's windows, in their order.
    fn starts(&self, seed: u64, epoch: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch as u64 + 1);
        let spare = self.stream.len() - 1 - self.per_epoch() * self.length;
        let offset = below(&mut rng, spare.min(self.length - 1) + 1);
        let mut starts: Vec<usize> = (0..self.per_epoch())
            .map(|i| offset + i * self.length)
            .collect();
        for i in (1..starts.len()).rev() {
            starts.swap(i, below(&mut rng, i + 1));
        }
        starts
    }
}

/// A number below `bound`, with a bias below `bound / 2^64`.
fn below(rng: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_covers_the_stream_and_targets_follow_inputs() {
        let document: Vec<u32> = (1..1000).collect();
        let windows = Windows::new(&[document], 0, 64).unwrap();
        let (inputs, targets) = windows.batch(7, 0, windows.per_epoch());
        assert!(inputs.iter().zip(&targets).all(|(i, t)| i + 1 == *t));
        let mut seen = inputs.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), windows.per_epoch() * 64);
        assert_ne!(windows.batch(7, 1, windows.per_epoch()).0, inputs);
        assert_ne!(windows.batch(8, 0, windows.per_epoch()).0, inputs);
    }

    #[test]
    fn short_streams_are_one_window() {
        let windows = Windows::new(&[[5u32, 6]], 0, 64).unwrap();
        assert_eq!(windows.batch(1, 3, 1), (vec![0, 5], vec![5, 6]));
        assert!(matches!(
            Windows::new(&[[0u32; 0]], 0, 64),
            Err(TrainingError::NoText)
        ));
    }
}
