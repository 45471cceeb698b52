//! SynthID-Text as transformers and the PyPI package deploy it, and as its repository has it since: a tournament
//! over bits from a linear congruential hash.
//!
//! The hash takes numbers one by one: `x -> (x + number) 6364136223846793005 + 1`, modulo 2^64. It takes the window, the
//! token and then the key of each layer. Of the result g
//! - [`HfSynthId`] (transformers; PyPI `synthid-text` 0.2.1) looks up the low 16 bits in a table of 65,536 bits
//!   that everyone has. The low bits of this hash depend on the low bits of its input alone, so the window and
//!   the token act as one *residue* of 16 bits, and so does each layer's key;
//! - [`SynthIdText`] (the repository) starts from a number that depends on all keys, then twelve times takes
//!   one more step of the hash with the number 1 and shifts right by 5, signed; g is bit 30.
//!
//! **Cells.** Of [`HfSynthId`] there are 65,536, the residues: however long a text, it holds no more. With all of them the
//! unweighted sum is the same under every key, and p is 1: long exhibits are better read in a part, some 20,000 tokens,
//! that was fixed beforehand.
//!
//! **Law.** A layer's bit is 1 for `ones` of the 65,536 keys that it can have, so that is the chance of a coin, exactly. Layers
//! are independent, since their keys are (but that no two are the same in 16 bits: the variance is 1 part in 2,000 below
//! that of independent ones, whose law is taken). The residues of one layer are not: all are read at one
//! unknown shift of the table. Over shifts their number of ones has the binomial law's mean, and a variance of `1 -
//! (n - 1) / 65535` times the binomial one, give or take 0.6 % for what the table's own bits happen to be:
//! [`Scheme::law_of`] has the law itself for the residues at hand, and every test with weight 1 takes it.
//! Weighted tests take Chernoff's bound for the binomial law, which is above the true tail by a factor of some `2.5 z`; the
//! dependence, where it adds at all, adds to the variance about one part in a hundred. E-values take the binomial law.

use std::sync::OnceLock;

use rand_core::Rng;
use sha2::{Digest, Sha256};

use super::torch::Generator;
use super::{halves, joined, mixed, row};
use crate::candidates::Candidates;
use crate::kernel;
use crate::scheme::tournament::play;
use crate::scheme::{DrawSum, Null, Row, Scheme};

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// One step of the hash.
fn step(state: u64, number: u64) -> u64 {
    state
        .wrapping_add(number)
        .wrapping_mul(MULTIPLIER)
        .wrapping_add(1)
}

fn absorb(state: u64, window: &[u32]) -> u64 {
    window
        .iter()
        .fold(state, |state, &token| step(state, token.into()))
}

/// Residues, and entries of the table.
const RESIDUES: usize = 1 << 16;

/// A choice by `depth` layers whose bits a function gives, two competitors a match unless said otherwise.
fn tournament(
    depth: usize,
    leaves: u32,
    candidates: &Candidates<'_>,
    coins: &mut dyn Rng,
    bit: impl Fn(u32, usize) -> bool,
) -> usize {
    candidates.draw(coins, |mass| {
        for first in (0..depth).step_by(32) {
            let layers = (depth - first).min(32);
            kernel::scratch(mass.len(), |words: &mut [u32]| {
                for (word, (token, _)) in words.iter_mut().zip(candidates.iter()) {
                    *word = (0..layers).fold(0, |word, layer| {
                        word | u32::from(bit(token, first + layer)) << layer
                    });
                }
                play(mass, words, layers as u32, leaves);
            });
        }
    })
}

/// The mark of transformers and of the PyPI package, keyed.
pub struct HfSynthId {
    width: usize,
    keys: Vec<u16>,
    /// Bit i of the table in bit `i % 64` of word `i / 64`.
    table: Box<[u64]>,
    ones: u32,
    /// The score of every residue, made when first needed.
    scores: OnceLock<Box<[u8]>>,
}

impl core::fmt::Debug for HfSynthId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HfSynthId(h {}, depth {})", self.width, self.keys.len())
    }
}

impl HfSynthId {
    /// `keys`, one a layer, in two's complement; at most 255.
    pub(crate) fn new(width: usize, keys: &[u64], table_seed: u64) -> Self {
        let mut generator = Generator::new(table_seed);
        let table: Box<[u64]> = (0..RESIDUES / 64)
            .map(|_| (0..64).fold(0, |word, bit| word | u64::from(generator.bit()) << bit))
            .collect();
        Self {
            width,
            keys: keys.iter().map(|&key| key as u16).collect(),
            ones: table.iter().map(|word| word.count_ones()).sum(),
            table,
            scores: OnceLock::new(),
        }
    }

    /// Entries of the table that are 1.
    pub fn ones(&self) -> u32 {
        self.ones
    }

    /// The residue of a token in a row.
    fn residue(row: &Row, token: u32) -> u16 {
        step(joined(row.first().words8()), token.into()) as u16
    }

    /// g of a residue and a layer.
    fn bit(&self, residue: u16, layer: usize) -> bool {
        let at = step(residue.into(), self.keys[layer].into()) as u16;
        self.table[usize::from(at) / 64] >> (at % 64) & 1 == 1
    }

    /// g of a token in a layer.
    pub fn g(&self, row: &Row, token: u32, layer: usize) -> bool {
        self.bit(Self::residue(row, token), layer)
    }

    /// For each of the 65,536 keys of one layer, how many of some residues have g = 1.
    fn ones_by_key(&self, residues: &[u16]) -> Vec<u64> {
        const WORDS: usize = RESIDUES / 64;
        // Which residues, and the table in the order of residue plus key, as bits.
        let (mut held, mut table) = (vec![0u64; WORDS], vec![0u64; WORDS]);
        for &residue in residues {
            held[usize::from(residue) / 64] |= 1 << (residue % 64);
        }
        for sum in 0..=u16::MAX {
            let at = step(sum.into(), 0) as u16;
            let bit = self.table[usize::from(at) / 64] >> (at % 64) & 1;
            table[usize::from(sum) / 64] |= bit << (sum % 64);
        }
        let used: Vec<(usize, u64)> = (0..WORDS)
            .filter(|&word| held[word] != 0)
            .map(|word| (word, held[word]))
            .collect();
        let mut ones = vec![0; RESIDUES];
        for low in 0..64 {
            // The table from key `low` on; then key 64 high + low is a matter of whole words.
            let shifted: Vec<u64> = (0..2 * WORDS)
                .map(|word| {
                    let (here, next) = (table[word % WORDS], table[(word + 1) % WORDS]);
                    if low == 0 {
                        here
                    } else {
                        here >> low | next << (64 - low)
                    }
                })
                .collect();
            for high in 0..WORDS {
                let shifted = &shifted[high..];
                let counts = used
                    .iter()
                    .map(|&(word, held)| (held & shifted[word]).count_ones());
                ones[64 * high + low] = u64::from(counts.sum::<u32>());
            }
        }
        ones
    }

    fn scores(&self) -> &[u8] {
        self.scores.get_or_init(|| {
            (0..=u16::MAX)
                .map(|residue| {
                    let ones = (0..self.keys.len()).filter(|&layer| self.bit(residue, layer));
                    ones.count() as u8
                })
                .collect()
        })
    }
}

impl Scheme for HfSynthId {
    fn context_width(&self) -> usize {
        self.width
    }

    /// One choice under a random key does, up to what the table's ones differ from half.
    fn preserves_distribution(&self) -> bool {
        true
    }

    fn row(&self, window: &[u32]) -> Row {
        row(halves(absorb(1, window)))
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        tournament(self.keys.len(), 2, candidates, coins, |token, layer| {
            self.g(row, token, layer)
        })
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        u64::from(self.scores()[usize::from(Self::residue(row, token))])
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        mixed(Self::residue(row, token).into())
    }

    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn null(&self) -> Null {
        Null::Binomial {
            trials: self.keys.len() as u32,
            numerator: self.ones,
            bits: 16,
        }
    }

    fn cells_depend(&self) -> bool {
        true
    }

    fn law_of(&self, cells: &[u64]) -> Option<DrawSum> {
        let cells: std::collections::HashSet<u64> = cells.iter().copied().collect();
        let residues: Vec<u16> = (0..=u16::MAX)
            .filter(|&residue| cells.contains(&mixed(residue.into())))
            .collect();
        DrawSum::new(&self.ones_by_key(&residues), self.keys.len() as u32)
    }

    /// 16 bits a layer, and the order of layers changes no score.
    fn key_bits(&self) -> Option<u32> {
        let orders: f64 = (1..=self.keys.len()).map(|i| (i as f64).log2()).sum();
        Some((16 * self.keys.len()) as u32 - orders.ceil() as u32)
    }
}

/// The mark of the repository, keyed.
pub struct SynthIdText {
    width: usize,
    start: u64,
    keys: Vec<u64>,
    leaves: u32,
}

impl core::fmt::Debug for SynthIdText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "SynthIdText(h {}, depth {}, leaves {})",
            self.width,
            self.keys.len(),
            self.leaves
        )
    }
}

impl SynthIdText {
    /// `keys`, one a layer, in two's complement; at most 255.
    pub(crate) fn new(width: usize, keys: &[u64], leaves: u32) -> Self {
        let mut digest = Sha256::new();
        keys.iter().for_each(|key| digest.update(key.to_le_bytes()));
        // The digest as a big-endian number, modulo 2^63 - 1.
        let modulus = u128::from(u64::MAX >> 1);
        let start = digest
            .finalize()
            .iter()
            .fold(0, |rest, &byte| (rest << 8 | u128::from(byte)) % modulus);
        Self {
            width,
            start: start as u64,
            keys: keys.to_vec(),
            leaves,
        }
    }

    /// g of a token in a layer.
    pub fn g(&self, row: &Row, token: u32, layer: usize) -> bool {
        self.bit(step(joined(row.first().words8()), token.into()), layer)
    }

    fn bit(&self, state: u64, layer: usize) -> bool {
        let mut x = step(state, self.keys[layer]);
        for _ in 0..12 {
            x = (step(x, 1) as i64 >> 5) as u64;
        }
        x >> 30 & 1 == 1
    }
}

impl Scheme for SynthIdText {
    fn context_width(&self) -> usize {
        self.width
    }

    fn preserves_distribution(&self) -> bool {
        self.leaves == 2
    }

    fn row(&self, window: &[u32]) -> Row {
        row(halves(absorb(self.start, window)))
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        let depth = self.keys.len();
        tournament(depth, self.leaves, candidates, coins, |token, layer| {
            self.g(row, token, layer)
        })
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        let state = step(joined(row.first().words8()), token.into());
        (0..self.keys.len())
            .filter(|&layer| self.bit(state, layer))
            .count() as u64
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        mixed(step(joined(row.first().words8()), token.into()))
    }

    /// Windows and tokens enter a linear hash: two of them may come to one state.
    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn null(&self) -> Null {
        Null::Binomial {
            trials: self.keys.len() as u32,
            numerator: 1,
            bits: 1,
        }
    }

    fn key_bits(&self) -> Option<u32> {
        let orders: f64 = (1..=self.keys.len()).map(|i| (i as f64).log2()).sum();
        Some((63 * self.keys.len()) as u32 - orders.ceil() as u32)
    }
}
