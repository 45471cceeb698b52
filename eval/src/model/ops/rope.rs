//! Rotary position embedding.

use std::sync::Arc;

/// Cosines and sines of the rotations, one row a position.
///
/// Pair `i` of a head, entries `2i` and `2i + 1`, is turned at position `t` by the angle
/// `t base^(-2i / D)`: the interleaved form that `llama` GGUF files use.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    half: usize,
    turns: Arc<[(f32, f32)]>,
}

impl Rope {
    /// Tables for `positions` tokens and heads of `head_dim` entries.
    pub(crate) fn new(positions: usize, head_dim: usize, base: f32) -> Self {
        let half = head_dim / 2;
        let turn = |t: usize, i: usize| {
            let rate = f64::from(base).powf(-2.0 * i as f64 / head_dim as f64);
            let (sin, cos) = (t as f64 * rate).sin_cos();
            (cos as f32, sin as f32)
        };
        let turns = (0..positions)
            .flat_map(|t| (0..half).map(move |i| turn(t, i)))
            .collect();
        Self { half, turns }
    }

    /// Turns the pairs of one head at `position`.
    #[inline(always)]
    pub(crate) fn forward(&self, head: &mut [f32], position: usize) {
        for (pair, (cos, sin)) in head
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(self.row(position))
        {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }

    /// Turns back: the inverse of [`forward`](Self::forward), and its gradient.
    #[inline(always)]
    pub(crate) fn backward(&self, head: &mut [f32], position: usize) {
        for (pair, (cos, sin)) in head
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(self.row(position))
        {
            let [a, b] = *pair;
            *pair = [a * cos + b * sin, b * cos - a * sin];
        }
    }

    fn row(&self, position: usize) -> &[(f32, f32)] {
        &self.turns[position * self.half..(position + 1) * self.half]
    }
}
