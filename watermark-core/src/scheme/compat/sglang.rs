//! SGLang's marks: Gumbel-max from MurmurHash3 (x86, 32 bits), with one key or two.
//!
//! A token's uniform is `(hash + 1/2) / 2^32` of the words (key low, key high, hash of the window, token); it
//! wins with the largest `ln(u) / p`. Of two keys a hash of both keys and the window takes key A with the
//! mixing probability, so that the reader knows which it was and scores that one: the law is
//! that of a single key.
//!
//! Two key words enter a state of 32 bits: of 2^64 keys 2^32 differ. The window enters as 32 bits: windows that
//! collide are one cell. The score is `-ln((2^32 - hash) / 2^32)`, which exceeds t with probability at
//! most `e^-t`.

use rand_core::Rng;

use super::{mixed, race, row};
use crate::candidates::Candidates;
use crate::fixed::neg_ln_q24;
use crate::scheme::{Null, Row, Scheme};

fn mix(state: u32, value: u32) -> u32 {
    let value = value
        .wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593);
    (state ^ value)
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}

/// The end of the hash of so many words.
fn finish(state: u32, words: usize) -> u32 {
    let mut x = state ^ (4 * words) as u32;
    x = (x ^ x >> 16).wrapping_mul(0x85eb_ca6b);
    x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
    x ^ x >> 16
}

/// The hash of a window.
pub fn hash_window(window: &[u32]) -> u32 {
    let state = window.iter().fold(0, |state, &token| mix(state, token));
    finish(state, window.len())
}

/// What of a key there is left after its two words.
fn absorbed(state: u32, key: u64) -> u32 {
    super::halves(key).into_iter().fold(state, mix)
}

/// The mark, keyed.
pub struct Sglang {
    width: usize,
    /// States after the words of key A and, where there is one, key B.
    states: [u32; 2],
    /// State after both keys, and the threshold below which the coin takes key A.
    coin: Option<(u32, u64)>,
}

impl core::fmt::Debug for Sglang {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Sglang(h {}, dual key {})",
            self.width,
            self.coin.is_some()
        )
    }
}

impl Sglang {
    /// `second` is key B with the probability of key A.
    pub(crate) fn new(width: usize, key: u64, second: Option<(u64, f64)>) -> Self {
        let a = absorbed(0, key);
        Self {
            width,
            states: [a, second.map_or(a, |(key_b, _)| absorbed(0, key_b))],
            coin: second.map(|(key_b, mixing)| {
                // Down to a whole number, as the engine does.
                (absorbed(a, key_b), (mixing * 4_294_967_296.0) as u64)
            }),
        }
    }

    /// The 32-bit hash of a token in a row, under the key that the window's coin takes.
    pub fn hash(&self, row: &Row, token: u32) -> u32 {
        let [window, which, ..] = *row.first().words8();
        let state = mix(self.states[which as usize], window);
        finish(mix(state, token), 4)
    }

    /// The coin of a window, where there are two keys.
    pub fn coin(&self, hash_of_window: u32) -> Option<u32> {
        let (state, _) = self.coin?;
        Some(finish(mix(state, hash_of_window), 5))
    }
}

impl Scheme for Sglang {
    fn context_width(&self) -> usize {
        self.width
    }

    fn preserves_distribution(&self) -> bool {
        true
    }

    fn row(&self, window: &[u32]) -> Row {
        let hash = hash_window(window);
        let key_b = match (self.coin(hash), self.coin) {
            (Some(coin), Some((_, threshold))) => u64::from(coin) >= threshold,
            _ => false,
        };
        row([hash, u32::from(key_b)])
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, _: &mut dyn Rng) -> usize {
        race(candidates, |token| {
            let hash = self.hash(row, token);
            // Near 1 by the complement, where the difference would cancel.
            if hash < 1 << 31 {
                ((f64::from(hash) + 0.5) / 4_294_967_296.0).ln()
            } else {
                (-(f64::from(!hash) + 0.5) / 4_294_967_296.0).ln_1p()
            }
        })
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        neg_ln_q24(!self.hash(row, token))
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        mixed(u64::from(row.first().words8()[0]) << 32 | u64::from(token))
    }

    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn null(&self) -> Null {
        Null::Gamma { shape: 1 }
    }

    /// Two keys: their two states.
    fn key_bits(&self) -> Option<u32> {
        Some(if self.coin.is_some() { 64 } else { 32 })
    }
}
