//! Distinct cells, and their scores under a key.
//!
//! A cell is h context tokens and the token after them. Which cells there are never depends on a
//! key; what a key adds is a score for each.

use std::collections::HashMap;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::prf::{BATCH, Windows};
use crate::profile::Mark;
use crate::scheme::NOT_KEYED;

/// A list of distinct cells, in a fixed order.
#[derive(Clone, Debug)]
pub struct Cells {
    context_width: usize,
    /// Cells one after another, `context_width + 1` ids each.
    ids: Vec<u32>,
    sorted: OnceLock<Sorted>,
}

/// The cells in ascending order: neighbours share a window, and so a row.
#[derive(Clone, Debug)]
struct Sorted {
    /// Their indices in the list.
    indices: Vec<u32>,
    /// The distinct windows, one after another.
    windows: Vec<u32>,
    /// Which window each cell has.
    which: Vec<u32>,
    tokens: Vec<u32>,
}

impl Cells {
    /// An empty list of cells with `context_width` context tokens.
    pub fn new(context_width: usize) -> Self {
        Self {
            context_width,
            ids: Vec::new(),
            sorted: OnceLock::new(),
        }
    }

    /// Appends a cell, which must not be in the list: the window, oldest first, then the token.
    pub(crate) fn push(&mut self, cell: &[u32]) {
        debug_assert_eq!(cell.len(), self.context_width + 1);
        self.ids.extend_from_slice(cell);
        self.sorted.take();
    }

    /// h.
    pub fn context_width(&self) -> usize {
        self.context_width
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.ids.len() / (self.context_width + 1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The cell of an index: its window and its token.
    pub fn get(&self, index: usize) -> (&[u32], u32) {
        let width = self.context_width;
        let cell = &self.ids[index * (width + 1)..(index + 1) * (width + 1)];
        (&cell[..width], cell[width])
    }

    /// The cells in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u32], u32)> {
        let width = self.context_width;
        self.ids
            .chunks_exact(width + 1)
            .map(move |cell| (&cell[..width], cell[width]))
    }

    /// The cells for which `keep` says so, in the same order.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut kept = Self::new(self.context_width);
        for (index, cell) in self.ids.chunks_exact(self.context_width + 1).enumerate() {
            if keep(index) {
                kept.push(cell);
            }
        }
        kept
    }

    /// SHA-256 over `"wmk1/cells" || h u8 || n u64 LE || cells, u32 LE each`, cells in ascending
    /// order, so that it does not depend on the order of the list.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(b"wmk1/cells");
        digest.update([self.context_width as u8]);
        digest.update((self.len() as u64).to_le_bytes());
        for &index in &self.sorted().indices {
            let (window, token) = self.get(index as usize);
            for id in window.iter().chain([&token]) {
                digest.update(id.to_le_bytes());
            }
        }
        digest.finalize().into()
    }

    fn sorted(&self) -> &Sorted {
        self.sorted.get_or_init(|| {
            let mut indices: Vec<u32> = (0..self.len() as u32).collect();
            indices.sort_unstable_by_key(|&index| self.get(index as usize));
            let mut sorted = Sorted {
                windows: Vec::new(),
                which: Vec::with_capacity(self.len()),
                tokens: Vec::with_capacity(self.len()),
                indices,
            };
            let mut last = None;
            let mut count = 0;
            for &index in &sorted.indices {
                let (window, token) = self.get(index as usize);
                if last != Some(window) {
                    sorted.windows.extend_from_slice(window);
                    last = Some(window);
                    count += 1;
                }
                sorted.which.push(count - 1);
                sorted.tokens.push(token);
            }
            sorted
        })
    }

    /// Prepares the list for many keys: sorted, neighbours share a window, and a row is computed once
    /// for all of its cells. For a single key sorting costs more than it saves.
    pub(crate) fn prepare(&self) {
        self.sorted();
    }

    /// The score of every cell under a mark of the same context width, in the list's order.
    pub fn scores(&self, mark: &Mark) -> Scores {
        let mut scores = Scores {
            values: vec![0; self.len()],
            coins: (!mark.scheme().cells_are_pairs()).then(|| vec![0; self.len()]),
        };
        debug_assert_eq!(mark.scheme().context_width(), self.context_width);
        if mark.scheme().rows_are_dear() {
            self.prepare();
        }
        match self.sorted.get() {
            Some(sorted) => self.score_sorted(sorted, mark, &mut scores),
            None => self.score_listed(mark, &mut scores),
        }
        scores
    }

    fn score_sorted(&self, sorted: &Sorted, mark: &Mark, scores: &mut Scores) {
        let width = self.context_width;
        let (mut values, mut coins) = ([0; BATCH], [0; BATCH]);
        let batches = sorted
            .indices
            .chunks(BATCH)
            .zip(sorted.which.chunks(BATCH))
            .zip(sorted.tokens.chunks(BATCH));
        let mut which = [0; BATCH];
        for ((indices, all), tokens) in batches {
            let (first, last) = (all[0], all[all.len() - 1]);
            for (which, all) in which.iter_mut().zip(all) {
                *which = all - first;
            }
            let windows = Windows {
                ids: &sorted.windows[first as usize * width..],
                count: (last - first) as usize + 1,
                stride: width,
                width,
            };
            let of_coins = scores.coins.is_some().then_some(&mut coins[..]);
            let which = &which[..tokens.len()];
            mark.scheme()
                .score_batch(&windows, which, tokens, &mut values, of_coins);
            for (&index, value) in indices.iter().zip(values) {
                scores.values[index as usize] = value;
            }
            if let Some(all) = &mut scores.coins {
                for (&index, coin) in indices.iter().zip(coins) {
                    all[index as usize] = coin;
                }
            }
        }
    }

    /// The cells in batches: their windows and tokens, in the list's order.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (Windows<'_>, Batch)> {
        let width = self.context_width;
        self.ids.chunks(BATCH * (width + 1)).map(move |ids| {
            let windows = Windows {
                ids,
                count: ids.len() / (width + 1),
                stride: width + 1,
                width,
            };
            let mut tokens = [0; BATCH];
            for (token, cell) in tokens.iter_mut().zip(ids.chunks_exact(width + 1)) {
                *token = cell[width];
            }
            (windows, tokens)
        })
    }

    fn score_listed(&self, mark: &Mark, scores: &mut Scores) {
        let which: Batch = core::array::from_fn(|i| i as u32);
        let mut start = 0;
        for (windows, tokens) in self.batches() {
            let range = start..start + windows.count;
            start = range.end;
            mark.scheme().score_batch(
                &windows,
                &which[..windows.count],
                &tokens[..windows.count],
                &mut scores.values[range.clone()],
                scores.coins.as_mut().map(|coins| &mut coins[range]),
            );
        }
    }
}

/// One number a cell of a batch.
pub(crate) type Batch = [u32; BATCH];

/// The scores of a list of cells under one key.
#[derive(Clone, Debug)]
pub struct Scores {
    values: Vec<u64>,
    /// Where the scheme maps several cells to one coin: which coin.
    coins: Option<Vec<u64>>,
}

impl Scores {
    /// One a cell, in the list's order.
    pub fn values(&self) -> &[u64] {
        &self.values
    }

    /// Whether every cell is a coin of its own. Then the law of a weighted sum does not depend on
    /// the key.
    pub fn are_coins(&self) -> bool {
        self.coins.is_none()
    }

    /// The coin of a cell: equal for cells that share one.
    pub(crate) fn coin(&self, index: usize) -> u64 {
        match &self.coins {
            None => index as u64,
            Some(coins) => coins[index],
        }
    }

    /// Indices of the first cell of every coin, in the list's order.
    pub fn first_of_coin(&self) -> impl Iterator<Item = usize> {
        let mut met = crate::window::Fingerprints::default();
        (0..self.values.len()).filter(move |&index| match &self.coins {
            None => true,
            Some(coins) => coins[index] != NOT_KEYED && met.insert(coins[index]),
        })
    }

    /// The distinct coins that count; empty where every cell is a coin of its own.
    pub(crate) fn distinct(&self) -> Vec<u64> {
        match &self.coins {
            None => Vec::new(),
            Some(coins) => self.first_of_coin().map(|index| coins[index]).collect(),
        }
    }

    /// Whether the key reaches a cell at all: else it has no score.
    pub fn counts(&self, index: usize) -> bool {
        self.coins
            .as_ref()
            .is_none_or(|coins| coins[index] != NOT_KEYED)
    }

    /// The weighted sum over all cells, and the weight of every coin: a coin that several cells
    /// share has the sum of their weights. Which cells share a coin is decided by an independent
    /// part of the key, so given these weights the coins are as under the null law.
    pub fn weigh(&self, weights: &[i64]) -> Weighed {
        debug_assert_eq!(weights.len(), self.values.len());
        let pairs = self.values.iter().zip(weights).enumerate();
        let sum = pairs
            .filter(|&(index, _)| self.counts(index))
            .map(|(_, (&score, &weight))| i128::from(score) * i128::from(weight))
            .sum();
        let joined = self.coins.as_ref().map(|coins| {
            let mut joined: HashMap<u64, i64> = HashMap::new();
            let keyed = |pair: &(&u64, &i64)| *pair.0 != NOT_KEYED;
            for (&coin, &weight) in coins.iter().zip(weights).filter(keyed) {
                *joined.entry(coin).or_default() += weight;
            }
            joined.into_values().collect()
        });
        Weighed { sum, joined }
    }
}

/// A weighted sum of scores.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// Sum of weight times score.
    pub sum: i128,
    /// The weights of the coins, in no order, where they are not those of the cells.
    pub joined: Option<Vec<i64>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;

    fn mark(name: &str) -> Mark {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in(name).unwrap().bind(&key).unwrap()
    }

    #[test]
    fn scores_are_those_of_the_scheme_in_the_lists_order() {
        for name in ["greenlist-h2", "gumbel-dual-h2", "tournament-h2"] {
            let mark = mark(name);
            let mut cells = Cells::new(2);
            for i in 0..50u32 {
                cells.push(&[i * 7 % 11, i % 3, i]);
            }
            let scores = cells.scores(&mark);
            for ((window, token), &value) in cells.iter().zip(scores.values()) {
                let row = mark.scheme().row(window);
                assert_eq!(value, mark.scheme().score(&row, token));
            }
            assert!(scores.are_coins());
            let weights: Vec<i64> = (0..50).map(|i| i - 20).collect();
            let expected: i128 = scores
                .values()
                .iter()
                .zip(&weights)
                .map(|(&s, &w)| i128::from(s) * i128::from(w))
                .sum();
            assert_eq!(scores.weigh(&weights).sum, expected);
        }
    }

    #[test]
    fn cells_of_one_coin_pool_their_weights() {
        let mark = mark("selfhash-h4");
        let mut cells = Cells::new(4);
        // The same four context tokens in other orders: one anchor a token, so one coin.
        cells.push(&[1, 2, 3, 4, 9]);
        cells.push(&[4, 3, 2, 1, 9]);
        cells.push(&[5, 6, 7, 8, 9]);
        let scores = cells.scores(&mark);
        assert_eq!(scores.first_of_coin().collect::<Vec<_>>(), [0, 2]);
        let mut joined = scores.weigh(&[2, 3, 10]).joined.unwrap();
        joined.sort_unstable();
        assert_eq!(joined, [5, 10]);
    }
}
