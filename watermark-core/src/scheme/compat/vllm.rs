//! vLLM's marks: Gumbel-max from Philox4x32-10 (J. K. Salmon et al., SC 2011), with one key or two.
//!
//! The window's tokens go through the block cipher four at a time into a state of 128 bits; the state, the token and the
//! key give the token's word, of which 24 bits make the uniform. A token wins with the largest
//! `logit - ln(-ln u)`. With two keys, derived from the one that is configured, a coin of the sampler takes
//! key B with probability alpha.
//!
//! **Score.** Of one key `-ln(1 - m / 2^24)`, m the 24 bits: it exceeds t with probability at most `e^-t`. Of two keys
//! the score uses the keys that say most about a weak mark: with alpha below 1 - 1/sqrt(2) that is key A alone, above
//! 1/sqrt(2) key B alone, and in between the sum of both, which is Gamma(2, 1). At the engine's alpha of 0.1
//! key A alone has 0.993 of the standard score of the best weights, and its law is exact.

use rand_core::Rng;
use sha2::{Digest, Sha256};

use super::{race, seed};
use crate::candidates::Candidates;
use crate::fixed::neg_ln_q24;
use crate::scheme::{Null, Row, Scheme, cell_of};

const CONTEXT_DOMAIN: u32 = 0x574d_4358;
const TOKEN_DOMAIN: u32 = 0x574d_544b;

/// Philox4x32-10.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let product = |multiplier: u32, value: u32| {
        let product = u64::from(multiplier) * u64::from(value);
        ((product >> 32) as u32, product as u32)
    };
    for _ in 0..10 {
        let (high_0, low_0) = product(0xd251_1f53, counter[0]);
        let (high_1, low_1) = product(0xcd9e_8d57, counter[2]);
        counter = [
            high_1 ^ counter[1] ^ key[0],
            low_1,
            high_0 ^ counter[3] ^ key[1],
            low_0,
        ];
        key[0] = key[0].wrapping_add(0x9e37_79b9);
        key[1] = key[1].wrapping_add(0xbb67_ae85);
    }
    counter
}

/// Which keys a score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scored {
    A,
    B,
    Both,
}

/// The mark, keyed.
pub struct Vllm {
    width: usize,
    /// One key, or keys A and B.
    keys: [[u32; 2]; 2],
    /// Probability of key B, where there are two.
    alpha: Option<f64>,
    scored: Scored,
}

impl core::fmt::Debug for Vllm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Vllm(h {}, alpha {:?})", self.width, self.alpha)
    }
}

/// Key A or B of dual-key marks: the first eight bytes of SHA-256, big-endian, as is the key in its input.
fn derived(key: u64, domain: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(domain)
        .chain_update(key.to_be_bytes())
        .finalize()
        .into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

impl Vllm {
    /// `alpha` makes it a dual-key mark.
    pub(crate) fn new(width: usize, key: u64, alpha: Option<f64>) -> Self {
        let keys = match alpha {
            None => [key, key],
            Some(_) => [derived(key, b"key_a"), derived(key, b"key_b")],
        };
        let scored = match alpha {
            None => Scored::A,
            Some(alpha) if alpha < 1.0 - core::f64::consts::FRAC_1_SQRT_2 => Scored::A,
            Some(alpha) if alpha > core::f64::consts::FRAC_1_SQRT_2 => Scored::B,
            Some(_) => Scored::Both,
        };
        Self {
            width,
            keys: keys.map(super::halves),
            alpha,
            scored,
        }
    }

    fn state(&self, which: usize, window: &[u32]) -> [u32; 4] {
        let [low, high] = self.keys[which];
        let mut state = [CONTEXT_DOMAIN, window.len() as u32, 0, 0];
        for (offset, block) in (0..).step_by(4).zip(window.chunks(4)) {
            for (index, word) in state.iter_mut().enumerate() {
                *word ^= block.get(index).copied().unwrap_or(!(index as u32));
            }
            state = philox(state, [low ^ offset, high]);
        }
        state
    }

    /// The 24 bits of a token.
    fn bits(&self, row: &Row, which: usize, token: u32) -> u32 {
        let [low, high] = self.keys[which];
        let state = row.seeds()[which.min(row.seeds().len() - 1)].state();
        let words = philox(
            [token >> 2, state[0], state[1], state[2]],
            [low ^ state[3], high ^ TOKEN_DOMAIN],
        );
        words[token as usize & 3] >> 8
    }

    /// The engine's 32-bit uniform of a token under key A or, where there are two, B.
    pub fn uniform(&self, row: &Row, key_b: bool, token: u32) -> f32 {
        uniform(self.bits(row, usize::from(key_b), token))
    }
}

fn uniform(bits: u32) -> f32 {
    ((f64::from(bits) + 1.0) / 16_777_217.0) as f32
}

/// `-ln((2^24 - bits) / 2^24)`, rounded down.
pub(crate) fn score_of_24(bits: u32) -> u64 {
    neg_ln_q24(!(bits << 8))
}

impl Scheme for Vllm {
    fn context_width(&self) -> usize {
        self.width
    }

    fn preserves_distribution(&self) -> bool {
        true
    }

    fn row(&self, window: &[u32]) -> Row {
        let a = seed(self.state(0, window));
        match self.alpha {
            None => Row::one(a),
            Some(_) => Row::of([a, seed(self.state(1, window))]).expect("two seeds"),
        }
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        let key_b = match self.alpha {
            None => false,
            Some(alpha) => f64::from(coins.next_u32()) < alpha * 4_294_967_296.0,
        };
        race(candidates, |token| {
            f64::from(self.uniform(row, key_b, token)).ln()
        })
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        let score = |which| score_of_24(self.bits(row, which, token));
        match self.scored {
            Scored::A => score(0),
            Scored::B => score(1),
            Scored::Both => score(0) + score(1),
        }
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(row.first().fingerprint(), token)
    }

    fn null(&self) -> Null {
        Null::Gamma {
            shape: if self.scored == Scored::Both { 2 } else { 1 },
        }
    }

    fn key_bits(&self) -> Option<u32> {
        Some(64)
    }
}
