//! The marks of three_bricks and radioactive-watermark (Fernandez et al. 2023, arXiv 2308.00113; Sander et al. 2024,
//! arXiv 2402.14904), with their `hash` seeding, on a CPU, without a message.
//!
//! The seed of a row goes through the window, oldest token first: `seed -> seed salt + token`, modulo 2^64 - 1, from
//! the configured seed on; the generator takes the low 32 bits. Then
//! - a green list is the head of a random permutation, [`List`](super::torch::List), of `floor(gamma V)` tokens;
//! - for Gumbel-max the uniform of token v is the v-th of the generator's; a token wins with the largest `u^(1/p)`.
//!
//! Both seed and salt are the key. Where the configured seed is 0, as it is unless told otherwise, a window of
//! zeros but for its last token does not reach the salt, and never counts; with h = 1 that is every window.

use rand_core::Rng;

use super::kgw::{Sizes, bias_list, cell, draw_in_list, fill_list, score_lists};
use super::torch::Generator;
use super::vllm::score_of_24;
use super::{halves, joined, race, row};
use crate::candidates::Candidates;
use crate::prf::Windows;
use crate::scheme::{Biaser, NOT_KEYED, Null, Row, Scheme};

/// Seed and salt.
struct Key {
    seed: u64,
    salt: u64,
}

impl Key {
    /// The generator's seed after a window, and whether the salt has entered it.
    fn after(&self, window: &[u32]) -> (u64, bool) {
        let modulus = u128::from(u64::MAX);
        let (mut state, mut salted) = (u128::from(self.seed) % modulus, false);
        for &token in window {
            salted |= state != 0;
            state = (state * u128::from(self.salt) + u128::from(token)) % modulus;
        }
        (state as u64, salted)
    }

    fn row(&self, window: &[u32]) -> Row {
        let (seed, salted) = self.after(window);
        let [low, high] = halves(seed);
        row([low, high, u32::from(salted)])
    }
}

/// The generator's seed in a row, with which the engine writes whether the key reaches it or not.
fn any_seed(row: &Row) -> u64 {
    joined(row.first().words8())
}

/// The generator's seed in a row, if the key reaches it.
fn seed_of(row: &Row) -> Option<u64> {
    let words = row.first().words8();
    (words[2] != 0).then(|| joined(words))
}

/// The green list, keyed.
pub struct BricksList {
    width: usize,
    key: Key,
    sizes: Sizes,
    delta: f32,
}

impl core::fmt::Debug for BricksList {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "BricksList(h {}, {:?}, delta {})",
            self.width, self.sizes, self.delta
        )
    }
}

impl BricksList {
    pub(crate) fn new(width: usize, [seed, salt]: [u64; 2], sizes: Sizes, delta: f32) -> Self {
        Self {
            width,
            key: Key { seed, salt },
            sizes,
            delta,
        }
    }

    /// The generator's seed in a row, if the key reaches it.
    pub fn seed_of(&self, row: &Row) -> Option<u64> {
        seed_of(row)
    }
}

impl Scheme for BricksList {
    fn context_width(&self) -> usize {
        self.width
    }

    fn preserves_distribution(&self) -> bool {
        false
    }

    fn row(&self, window: &[u32]) -> Row {
        self.key.row(window)
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        draw_in_list(self.sizes, any_seed(row), self.delta, candidates, coins)
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        let seed = seed_of(row);
        seed.map_or(0, |seed| u64::from(self.sizes.list(seed).holds(token)))
    }

    fn score_batch(
        &self,
        windows: &Windows<'_>,
        which: &[u32],
        tokens: &[u32],
        scores: &mut [u64],
        cells: Option<&mut [u64]>,
    ) {
        let seeds = which
            .iter()
            .map(|&at| self.key.after(windows.get(at as usize)))
            .map(|(seed, salted)| salted.then_some(seed));
        score_lists(self.sizes, seeds, tokens, scores, cells);
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        seed_of(row).map_or(NOT_KEYED, |seed| cell(seed, token))
    }

    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn rows_are_dear(&self) -> bool {
        true
    }

    fn null(&self) -> Null {
        self.sizes.null()
    }

    fn key_bits(&self) -> Option<u32> {
        Some(32)
    }

    fn as_biaser(&self) -> Option<&dyn Biaser> {
        Some(self)
    }
}

impl Biaser for BricksList {
    fn delta(&self) -> f32 {
        self.delta
    }

    fn fill_mask_from(&self, row: &Row, first: u32, mask: &mut [u32]) {
        fill_list(self.sizes, any_seed(row), first, mask);
    }

    fn bias(&self, row: &Row, logits: &mut [f32]) {
        bias_list(self.sizes, any_seed(row), self.delta, logits);
    }
}

/// Gumbel-max, keyed.
pub struct BricksGumbel {
    width: usize,
    key: Key,
}

impl core::fmt::Debug for BricksGumbel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "BricksGumbel(h {})", self.width)
    }
}

impl BricksGumbel {
    pub(crate) fn new(width: usize, [seed, salt]: [u64; 2]) -> Self {
        Self {
            width,
            key: Key { seed, salt },
        }
    }

    /// The 24 bits of a token's uniform.
    fn bits(seed: u64, token: u32) -> u32 {
        let mut generator = Generator::new(seed);
        generator.skip(token as usize);
        generator.uniform24()
    }

    /// The 32-bit uniform of a token.
    pub fn uniform(&self, row: &Row, token: u32) -> f32 {
        Self::bits(any_seed(row), token) as f32 / 16_777_216.0
    }
}

impl Scheme for BricksGumbel {
    fn context_width(&self) -> usize {
        self.width
    }

    fn preserves_distribution(&self) -> bool {
        true
    }

    fn row(&self, window: &[u32]) -> Row {
        self.key.row(window)
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, _: &mut dyn Rng) -> usize {
        let most = candidates.iter().map(|(token, _)| token).max().unwrap_or(0);
        let mut generator = Generator::new(any_seed(row));
        let ln_u: Vec<f64> = (0..=most)
            .map(|_| (f64::from(generator.uniform24()) / 16_777_216.0).ln())
            .collect();
        race(candidates, |token| ln_u[token as usize])
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        seed_of(row).map_or(0, |seed| score_of_24(Self::bits(seed, token)))
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        seed_of(row).map_or(NOT_KEYED, |seed| cell(seed, token))
    }

    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn null(&self) -> Null {
        Null::Gamma { shape: 1 }
    }

    fn key_bits(&self) -> Option<u32> {
        Some(32)
    }
}
