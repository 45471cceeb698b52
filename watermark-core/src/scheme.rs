//! The one joint of the library: how a token is chosen, how it is scored, and what the score
//! looks like when nobody marked anything.

use core::fmt;

use rand_core::Rng;

use crate::candidates::Candidates;
use crate::kernel;
use crate::prf::{MAX_CONTEXT, RowSeed, Rows, Windows};

pub mod compat;
mod greenlist;
mod gumbel;
mod tournament;

pub use greenlist::{GreenList, GreenShare, SelfHash};
pub use gumbel::Gumbel;
pub use tournament::Tournament;

pub use crate::stats::draws::DrawSum;
pub use crate::stats::law::Null;

pub(crate) use greenlist::GreenListKey;
pub(crate) use gumbel::GumbelKey;
pub(crate) use tournament::TournamentKey;

/// A way to mark, under one slot key and fixed parameters.
///
/// The contract, tested for every implementation: text written by [`choose`](Self::choose)
/// raises the sum of [`score`](Self::score); under a key that the text is independent of, the
/// scores of distinct [`cell`](Self::cell)s are independent with the law of
/// [`null`](Self::null); where [`preserves_distribution`](Self::preserves_distribution) says so,
/// a token chosen under a random key has exactly the candidates' distribution.
pub trait Scheme: Send + Sync + fmt::Debug {
    /// Context tokens that seed a row, h.
    fn context_width(&self) -> usize;

    /// Whether one token under a random key keeps the candidates' distribution.
    fn preserves_distribution(&self) -> bool;

    /// The row of a window of [`context_width`](Self::context_width) tokens, oldest first.
    fn row(&self, window: &[u32]) -> Row;

    /// Index of the chosen candidate. All randomness beside the key is the caller's.
    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize;

    /// [`choose`](Self::choose) for a token of speculative decoding.
    ///
    /// With one key the role makes no difference, and a [draft](TokenRole::Draft) must not be asked for
    /// ([`marks_drafts`](Self::marks_drafts)).
    fn choose_as(
        &self,
        _role: TokenRole,
        row: &Row,
        candidates: &Candidates<'_>,
        coins: &mut dyn Rng,
    ) -> usize {
        self.choose(row, candidates, coins)
    }

    /// Whether drafts have a key of their own, so that a draft that is rejected leaves the key of the token in its
    /// place untouched.
    fn marks_drafts(&self) -> bool {
        false
    }

    /// The score of a token in a row, in units of the null's lattice.
    fn score(&self, row: &Row, token: u32) -> u64;

    /// A fingerprint of the effective input of the keyed function: two (window, token) pairs
    /// with one fingerprint are one coin. [`NOT_KEYED`] for a position that the key does not reach.
    fn cell(&self, row: &Row, token: u32) -> u64;

    /// Scores of up to [`BATCH`](crate::prf::BATCH) cells at once: token i in the row of window `which[i]`. Where `cells` is
    /// given, their [fingerprints](Self::cell) as well.
    ///
    /// The same numbers as one at a time, several times faster.
    fn score_batch(
        &self,
        windows: &Windows<'_>,
        which: &[u32],
        tokens: &[u32],
        scores: &mut [u64],
        cells: Option<&mut [u64]>,
    ) {
        let mut last: Option<(u32, Row)> = None;
        let mut row_of = |index: u32| match last {
            Some((known, row)) if known == index => row,
            _ => {
                let row = self.row(windows.get(index as usize));
                last = Some((index, row));
                row
            }
        };
        for ((score, &token), &which) in scores.iter_mut().zip(tokens).zip(which) {
            *score = self.score(&row_of(which), token);
        }
        for ((cell, &token), &which) in cells.into_iter().flatten().zip(tokens).zip(which) {
            *cell = self.cell(&row_of(which), token);
        }
    }

    /// Whether distinct (window, token) pairs always are distinct cells. Where they are not, or some of them
    /// are [`NOT_KEYED`], it is false.
    fn cells_are_pairs(&self) -> bool {
        true
    }

    /// Whether a row costs so much that a list of cells is better sorted by windows, even for one key.
    fn rows_are_dear(&self) -> bool {
        false
    }

    /// Bits of key that the function has in effect, where they are so few that a p-value can meet them: one of
    /// 2^bits keys gives the text its largest score, so no p-value below 2^-bits means what it says. `None` for
    /// keys of 256 bits.
    fn key_bits(&self) -> Option<u32> {
        None
    }

    /// The law of the sum of scores over distinct cells, text and key independent.
    fn null(&self) -> Null;

    /// Whether cells depend on each other in a way that no bound here covers: weighted tests then take Chernoff's bound
    /// for independent cells, whose slack is far above what the dependence can do.
    fn cells_depend(&self) -> bool {
        false
    }

    /// The law of the sum over these very cells, each once, where [`null`](Self::null) has their mean but is not exact
    /// because cells depend on each other. It does not depend on the key. None where `null` is exact or a bound.
    fn law_of(&self, cells: &[u64]) -> Option<DrawSum> {
        let _ = cells;
        None
    }

    /// The scheme as a change of logits, for engines that sample themselves.
    fn as_biaser(&self) -> Option<&dyn Biaser> {
        None
    }

    /// The scheme as a green list whose coins depend on the whole window.
    fn as_green_list(&self) -> Option<&GreenList> {
        None
    }
}

/// What a token is in speculative decoding by rejection sampling: a small model drafts, the target model keeps a draft
/// with probability min(1, p / q) of a coin that does not depend on the key, and draws the token in place of the first
/// rejected draft from what remains of p, (p - q)+ (Leviathan et al., arXiv 2211.17192; Chen et al., 2302.01318).
///
/// With dual keys a draft is chosen under key A and the others under key B. The token in place of a rejected draft then
/// is independent of that draft, and over random keys the text has the target's distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenRole {
    /// No speculation: a fair coin of the caller picks one of two keys.
    #[default]
    Ordinary,
    /// Drawn from the draft model's distribution q.
    Draft,
    /// In place of a rejected draft, drawn from (p - q)+.
    Recovered,
    /// After a run of drafts that were all kept, drawn from the target's distribution p.
    Bonus,
}

/// A scheme that adds a constant to the logits of a set of tokens.
pub trait Biaser: Scheme {
    /// The constant, in nats.
    fn delta(&self) -> f32;

    /// The set as bits: token `first + 32 i + j` is bit `j` of word `i`, the layout of
    /// constrained-decoding engines. Bits beyond the vocabulary are not cleared.
    ///
    /// # Panics
    /// `first` is no multiple of [`MASK_STEP`].
    fn fill_mask_from(&self, row: &Row, first: u32, mask: &mut [u32]);

    /// [`fill_mask_from`](Self::fill_mask_from) token 0.
    fn fill_mask(&self, row: &Row, mask: &mut [u32]) {
        self.fill_mask_from(row, 0, mask);
    }

    /// Adds [`delta`](Self::delta) to the logits of the set, in place.
    fn bias(&self, row: &Row, logits: &mut [f32]) {
        let mut mask = [0; MASK_STEP as usize / 32];
        let delta = self.delta();
        let pieces = logits.chunks_mut(MASK_STEP as usize);
        for (first, logits) in (0..).step_by(MASK_STEP as usize).zip(pieces) {
            let mask = &mut mask[..logits.len().div_ceil(32)];
            self.fill_mask_from(row, first, mask);
            kernel::add_where(logits, mask, delta);
        }
    }
}

/// The fingerprint of positions that do not count: the function gives them the same score under every key.
pub const NOT_KEYED: u64 = 0;

/// Tokens of a piece of a mask, 32,768: pieces lie in the fastest memory, and start at a whole block of words.
pub const MASK_STEP: u32 = 1 << 15;

/// What a window is to a scheme: one row seed, two for dual keys, up to h for self-hash.
#[derive(Clone, Copy)]
pub struct Row {
    seeds: [RowSeed; MAX_CONTEXT],
    len: usize,
}

impl Row {
    pub(crate) fn one(seed: RowSeed) -> Self {
        Self {
            seeds: [seed; MAX_CONTEXT],
            len: 1,
        }
    }

    /// From one to [`MAX_CONTEXT`] seeds; further ones are not taken.
    pub(crate) fn of(seeds: impl IntoIterator<Item = RowSeed>) -> Option<Self> {
        let mut seeds = seeds.into_iter().take(MAX_CONTEXT);
        let mut row = Self::one(seeds.next()?);
        for seed in seeds {
            row.seeds[row.len] = seed;
            row.len += 1;
        }
        Some(row)
    }

    /// The seeds, never empty.
    pub fn seeds(&self) -> &[RowSeed] {
        &self.seeds[..self.len]
    }

    pub(crate) fn first(&self) -> &RowSeed {
        &self.seeds[0]
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} seeds)", self.len)
    }
}

/// The fingerprints of a batch, where they are wanted, of schemes whose cells are pairs.
pub(crate) fn fill_cells(rows: &Rows, which: &[u32], tokens: &[u32], cells: Option<&mut [u64]>) {
    for ((cell, &which), &token) in cells.into_iter().flatten().zip(which).zip(tokens) {
        *cell = cell_of(rows.fingerprint(which), token);
    }
}

/// Fingerprint of (row seed's fingerprint, token); 64 bits, so that among n cells about n^2 / 2^65 pairs are
/// taken for one (0.0003 pairs at n = 1e8), which can only drop a cell.
pub(crate) fn cell_of(fingerprint: u64, token: u32) -> u64 {
    let x = fingerprint ^ (u64::from(token) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let product = u128::from(x) * 0xd6e8_feb8_6659_fd93_u128;
    (product >> 64) as u64 ^ product as u64
}
