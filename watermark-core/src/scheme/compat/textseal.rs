//! TextSeal's Gumbel-max (Meta; PyPI `textseal`): uniforms of 8,191 values from a multiplicative hash.
//!
//! In 64-bit two's complement: the window's tokens times a prime for each place, plus the token and the key times
//! theirs, all times two more primes, the result exchanged with itself shifted right by 13, and the rest
//! modulo 8,191. A token wins with the largest `u^(1/p)`, u the rest over 8,191.
//!
//! The key enters as a summand, so what a cell is can be said without it: the sum of the other terms. The score is
//! `-ln(1 - j / 8191)`, j the rest: it exceeds t with probability at most `e^-t`. The grid costs 0.0007 of a
//! cell's mean, on the safe side.

use rand_core::Rng;

use super::{joined, mixed, race, row};
use crate::candidates::Candidates;
use crate::fixed::neg_ln_q24;
use crate::scheme::{Null, Row, Scheme};

/// Primes of the window's places, oldest first: as many as the function has.
const PLACES: [i64; 10] = [
    10_000_019, 10_000_247, 10_000_439, 10_000_643, 10_000_747, 10_000_867, 10_000_993, 10_001_213,
    10_001_357, 10_001_501,
];
const OF_TOKEN: i64 = 100_000_007;
const OF_KEY: i64 = 500_001_713;
const OF_SUM: i64 = 15_485_863;
const MIXING: i64 = 40_499;
const VALUES: i64 = 8191;

/// The widest window.
pub(crate) const MAX_WIDTH: usize = PLACES.len();

/// The mark, keyed.
pub struct TextSeal {
    width: usize,
    /// The key's summand.
    key: i64,
}

impl core::fmt::Debug for TextSeal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TextSeal(h {})", self.width)
    }
}

/// What the function makes of everything but the key.
fn input(row: &Row, token: u32) -> i64 {
    let token = i64::from(token).wrapping_mul(OF_TOKEN);
    (joined(row.first().words8()) as i64).wrapping_add(token)
}

impl TextSeal {
    pub(crate) fn new(width: usize, key: i64) -> Self {
        Self {
            width,
            key: key.wrapping_mul(OF_KEY),
        }
    }

    /// A token's value, 0 to 8190.
    fn value(&self, row: &Row, token: u32) -> u32 {
        let sum = input(row, token).wrapping_add(self.key);
        let hash = sum.wrapping_mul(OF_SUM).wrapping_mul(MIXING);
        (hash ^ hash >> 13).rem_euclid(VALUES) as u32
    }

    /// The 32-bit uniform of a token.
    pub fn uniform(&self, row: &Row, token: u32) -> f32 {
        self.value(row, token) as f32 / VALUES as f32
    }
}

impl Scheme for TextSeal {
    fn context_width(&self) -> usize {
        self.width
    }

    /// But for the grid: a token less likely than one in 8,191 starves.
    fn preserves_distribution(&self) -> bool {
        true
    }

    fn row(&self, window: &[u32]) -> Row {
        let terms = window.iter().zip(PLACES);
        let sum = terms.fold(0i64, |sum, (&token, prime)| {
            sum.wrapping_add(i64::from(token).wrapping_mul(prime))
        });
        row(super::halves(sum as u64))
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, _: &mut dyn Rng) -> usize {
        race(candidates, |token| {
            (f64::from(self.value(row, token)) / VALUES as f64).ln()
        })
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        // (r + 1) / 2^32 is the next grid point not below 1 - j / 8191.
        let rest = (VALUES - i64::from(self.value(row, token))) as u64;
        neg_ln_q24(((rest << 32).div_ceil(VALUES as u64) - 1) as u32)
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        mixed(input(row, token) as u64)
    }

    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn null(&self) -> Null {
        Null::Gamma { shape: 1 }
    }

    fn key_bits(&self) -> Option<u32> {
        Some(64)
    }
}
