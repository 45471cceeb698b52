//! transformers' green lists (`WatermarkLogitsProcessor`), as they are drawn on a CPU.
//!
//! A row's list is the head of a random permutation of the vocabulary, [`List`], seeded by the key:
//!
//! - *lefthash*: key times the token before, modulo 2^64 - 1. Token id 0 gives seed 0 whatever the key: what
//!   follows it never counts.
//! - *selfhash*: with f a permutation of 1,000,003 numbers, seeded by the key, the smallest of
//!   `key (f(w) + 1) (f(v) + 1)` over the tokens w of the window and the candidate v itself, products in 64-bit two's
//!   complement, then modulo 2^64 - 1. Which list is looked into depends on the candidate; a position's
//!   cell is (seed, candidate), whatever window it came from.
//!
//! The generator takes the low 32 bits of a seed. A list has `floor(V gamma)` of the V tokens; what follows
//! from its fixed size is said at [`Null::List`].
//!
//! Lists of generators on a GPU are others, and text that was written there is not read.

use std::cell::RefCell;

use rand_core::Rng;

use super::torch::{List, permutation};
use super::{mixed, row};
use crate::candidates::Candidates;
use crate::prf::{MAX_CONTEXT, RowSeed, Windows};
use crate::scheme::{Biaser, MASK_STEP, NOT_KEYED, Null, Row, Scheme};

/// Sizes of a list and its vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) list: u32,
    pub(crate) vocabulary: u32,
}

impl Sizes {
    /// `int(vocabulary * gamma)`; none unless some tokens are in the list and some are not.
    pub(crate) fn new(vocabulary: u32, gamma: f64) -> Option<Self> {
        let list = (f64::from(vocabulary) * gamma) as u32;
        (list > 0 && list < vocabulary).then_some(Self { list, vocabulary })
    }

    pub(crate) fn null(self) -> Null {
        Null::List {
            size: self.list,
            of: self.vocabulary,
        }
    }

    pub(crate) fn list(self, seed: u64) -> List {
        List::new(seed, self.list, self.vocabulary)
    }
}

/// Modulo 2^64 - 1 of a product of two 64-bit numbers.
fn product_mod(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(u64::MAX)) as u64
}

/// Scores for a batch of cells whose rows have seeds: consecutive cells of one row share its list.
pub(crate) fn score_lists(
    sizes: Sizes,
    seeds: impl Iterator<Item = Option<u64>>,
    tokens: &[u32],
    scores: &mut [u64],
    cells: Option<&mut [u64]>,
) {
    let mut last: Option<(u32, List)> = None;
    let mut coins = cells;
    for (at, (seed, &token)) in seeds.zip(tokens).enumerate() {
        let (score, coin) = match seed {
            None => (0, NOT_KEYED),
            Some(seed) => {
                if last.as_ref().is_none_or(|(known, _)| *known != seed as u32) {
                    last = Some((seed as u32, sizes.list(seed)));
                }
                let green = last.as_ref().is_some_and(|(_, list)| list.holds(token));
                (u64::from(green), cell(seed, token))
            }
        };
        scores[at] = score;
        if let Some(coins) = &mut coins {
            coins[at] = coin;
        }
    }
}

/// The coin of a token in the list of a seed.
pub(crate) fn cell(seed: u64, token: u32) -> u64 {
    mixed(seed << 32 | u64::from(token))
}

/// Draws with the weights of the list's tokens multiplied by `e^delta`.
pub(crate) fn draw_in_list(
    sizes: Sizes,
    seed: u64,
    delta: f32,
    candidates: &Candidates<'_>,
    coins: &mut dyn Rng,
) -> usize {
    let mask = List::mask(seed, sizes.list, sizes.vocabulary);
    let factor = f64::from(delta).exp();
    let green = |token: u32| {
        mask.get(token as usize / 32)
            .is_some_and(|word| word >> (token % 32) & 1 == 1)
    };
    candidates.draw(coins, |weights| {
        for (weight, (token, _)) in weights.iter_mut().zip(candidates.iter()) {
            if green(token) {
                *weight *= factor;
            }
        }
    })
}

/// Writes the bits of a list from token `first`.
pub(crate) fn fill_list(sizes: Sizes, seed: u64, first: u32, mask: &mut [u32]) {
    assert!(first.is_multiple_of(MASK_STEP), "a mask starts at a step");
    let all = List::mask(seed, sizes.list, sizes.vocabulary);
    let from = all.get(first as usize / 32..).unwrap_or_default();
    mask.fill(0);
    let len = mask.len().min(from.len());
    mask[..len].copy_from_slice(&from[..len]);
}

/// Adds `delta` to the logits of a list's tokens.
pub(crate) fn bias_list(sizes: Sizes, seed: u64, delta: f32, logits: &mut [f32]) {
    let mask = List::mask(seed, sizes.list, sizes.vocabulary);
    let len = logits.len().min(sizes.vocabulary as usize);
    crate::kernel::add_where(&mut logits[..len], &mask[..len.div_ceil(32)], delta);
}

/// *lefthash*: one preceding token.
pub struct LeftHash {
    key: u64,
    sizes: Sizes,
    delta: f32,
}

impl core::fmt::Debug for LeftHash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "LeftHash({:?}, delta {})", self.sizes, self.delta)
    }
}

impl LeftHash {
    pub(crate) fn new(key: u64, sizes: Sizes, delta: f32) -> Self {
        Self { key, sizes, delta }
    }

    fn seed(&self, window: &[u32]) -> Option<u64> {
        let &[token] = window else { return None };
        (token != 0).then(|| product_mod(self.key, u64::from(token)))
    }

    /// The generator's seed in a row; none after token id 0.
    pub fn seed_of(&self, row: &Row) -> Option<u64> {
        let words = row.first().words8();
        (words[2] != 0).then(|| super::joined(words))
    }
}

impl Scheme for LeftHash {
    fn context_width(&self) -> usize {
        1
    }

    fn preserves_distribution(&self) -> bool {
        false
    }

    fn row(&self, window: &[u32]) -> Row {
        let seed = self.seed(window);
        let [low, high] = super::halves(seed.unwrap_or(0));
        row([low, high, u32::from(seed.is_some())])
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        let seed = self.seed_of(row).unwrap_or(0);
        draw_in_list(self.sizes, seed, self.delta, candidates, coins)
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        let seed = self.seed_of(row);
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
        let seeds = which.iter().map(|&at| self.seed(windows.get(at as usize)));
        score_lists(self.sizes, seeds, tokens, scores, cells);
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        let seed = self.seed_of(row);
        seed.map_or(NOT_KEYED, |seed| cell(seed, token))
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

impl Biaser for LeftHash {
    fn delta(&self) -> f32 {
        self.delta
    }

    fn fill_mask_from(&self, row: &Row, first: u32, mask: &mut [u32]) {
        fill_list(self.sizes, self.seed_of(row).unwrap_or(0), first, mask);
    }

    fn bias(&self, row: &Row, logits: &mut [f32]) {
        let seed = self.seed_of(row).unwrap_or(0);
        bias_list(self.sizes, seed, self.delta, logits);
    }
}

/// Numbers of the fixed table.
const TABLE: u32 = 1_000_003;

/// Candidates that the writer looks at.
const LOOKED_AT: usize = 40;

/// *selfhash*: the candidate itself and the tokens before it.
pub struct HfSelfHash {
    /// Preceding tokens; the engine's `context_width` counts the candidate too.
    width: usize,
    key: u64,
    sizes: Sizes,
    delta: f32,
}

impl core::fmt::Debug for HfSelfHash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "HfSelfHash(h {}, {:?}, delta {})",
            self.width, self.sizes, self.delta
        )
    }
}

thread_local! {
    /// The table of the key met last: 4 MB, made in some ten milliseconds, and needed for one key after another.
    static FIXED: RefCell<Option<(u64, Vec<u32>)>> = const { RefCell::new(None) };
}

impl HfSelfHash {
    pub(crate) fn new(width: usize, key: u64, sizes: Sizes, delta: f32) -> Self {
        Self {
            width,
            key,
            sizes,
            delta,
        }
    }

    /// f(token) + 1 of some tokens.
    fn hashed<const K: usize>(&self, tokens: [u32; K]) -> [u64; K] {
        FIXED.with_borrow_mut(|fixed| {
            if fixed.as_ref().is_none_or(|(key, _)| *key != self.key) {
                *fixed = Some((self.key, permutation(self.key, TABLE)));
            }
            let table = fixed.as_ref().map_or(&[][..], |(_, table)| table);
            tokens.map(|token| u64::from(table[(token % TABLE) as usize]) + 1)
        })
    }

    /// The generator's seed for a candidate.
    pub fn seed(&self, row: &Row, token: u32) -> u64 {
        let [own] = self.hashed([token]);
        let window = row.seeds().iter().flat_map(RowSeed::words8);
        let hashes = window.take(self.width).map(|&hash| u64::from(hash));
        let least = hashes
            .chain([own])
            .map(|hash| self.key.wrapping_mul(hash).wrapping_mul(own) as i64)
            .min()
            .expect("the candidate is one of them");
        // Modulo 2^64 - 1, as Python takes it of a negative number.
        if least < 0 {
            (least as u64).wrapping_sub(1)
        } else {
            least as u64
        }
    }

    fn is_green(&self, row: &Row, token: u32) -> bool {
        self.sizes.list(self.seed(row, token)).holds(token)
    }
}

impl Scheme for HfSelfHash {
    fn context_width(&self) -> usize {
        self.width
    }

    fn preserves_distribution(&self) -> bool {
        false
    }

    /// The window's tokens, hashed.
    fn row(&self, window: &[u32]) -> Row {
        let mut tokens = [0; MAX_CONTEXT + 5];
        tokens[..window.len()].copy_from_slice(window);
        let hashed = self.hashed(tokens).map(|hash| hash as u32);
        let (first, second) = hashed.split_at(8);
        let eight = |half: &[u32]| super::seed::<8>(half.try_into().expect("half of sixteen"));
        Row::of([eight(first), eight(second)]).expect("two seeds")
    }

    /// Looks at the 40 most probable candidates, as the engine does, and favours those that are green.
    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        let all: Vec<(u32, f32)> = candidates.iter().collect();
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&a, &b| all[b].1.total_cmp(&all[a].1).then(all[a].0.cmp(&all[b].0)));
        let factor = f64::from(self.delta).exp();
        candidates.draw(coins, |weights| {
            for &index in order.iter().take(LOOKED_AT) {
                if self.is_green(row, all[index].0) {
                    weights[index] *= factor;
                }
            }
        })
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        u64::from(self.is_green(row, token))
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell(self.seed(row, token), token)
    }

    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn null(&self) -> Null {
        self.sizes.null()
    }

    fn key_bits(&self) -> Option<u32> {
        Some(32)
    }
}
