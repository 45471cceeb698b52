//! Gumbel-max: the exponential race with keyed uniforms.
//!
//! Aaronson 2022; Kuditipudi et al. (arXiv 2307.15593) for the form as a race: the token with
//! the smallest `-ln(1 - w) / p` wins, which a token of probability p does with probability p.
//! The score of a token is `-ln((r + 1) / 2^32)` of its word r: exponential when text and key are
//! independent, up to a grid that stays on the safe side ([`neg_ln_q24`]).
//!
//! With *dual keys* a coin of the caller, not of the window, picks one of two independent races,
//! so that a repeated prompt does not repeat its text. The reader does not know the coin and
//! scores both: the sum of the two scores is Gamma(2, 1) exactly, and for weak marks the most
//! powerful score of the mixture to first order. In speculative decoding the role of a token takes the coin's place
//! ([`TokenRole`]); the reader knows that as little.

use rand_core::Rng;

use super::{Null, Row, Scheme, TokenRole, cell_of, fill_cells};
use crate::candidates::Candidates;
use crate::fixed::neg_ln_q24;
use crate::kernel;
use crate::prf::{BATCH, Binding, Field, Lane, Prf, Role, RowSeed, Windows};

/// What the scheme is built from.
pub(crate) struct GumbelKey {
    pub(crate) prf: Prf,
    pub(crate) binding: Binding,
    pub(crate) account: u32,
    pub(crate) dual_key: bool,
}

/// Gumbel-max, with one key or two.
pub struct Gumbel {
    key: GumbelKey,
    field: Field,
}

impl core::fmt::Debug for Gumbel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Gumbel(h {}, dual key {})",
            self.key.binding.context_width, self.key.dual_key
        )
    }
}

impl Gumbel {
    pub(crate) fn new(key: GumbelKey) -> Self {
        let field = Field {
            lane: Lane::Gumbel,
            plane: 0,
            bits: 32,
            slot: key.binding.slot,
            account: key.account,
        };
        Self { key, field }
    }

    /// The race among the candidates; ties go to the lowest token id.
    ///
    /// As `-ln(1 - w) >= w`, a candidate can beat the time `best` only if `w < best * p`:
    /// nearly all are dismissed without a logarithm, and the result is exactly that of the
    /// full race. The most probable candidate runs first, to make `best` small at once.
    fn race(&self, seed: &RowSeed, candidates: &Candidates<'_>) -> usize {
        let favourite = candidates.favourite();
        let (token, weight) = candidates.get(favourite);
        let mut best = Runner {
            time: time(seed.value(&self.field, token), f64::from(weight)),
            token,
            index: favourite,
        };
        match candidates.tokens() {
            None => {
                const WORDS: usize = 1024;
                let mut words = [0; WORDS];
                let mut may_win = [0; WORDS / 64];
                let pieces = candidates.weights().chunks(WORDS);
                for (first, weights) in (0..).step_by(WORDS).zip(pieces) {
                    let words = &mut words[..weights.len()];
                    seed.fill(&self.field, first as u32, words);
                    let may_win = &mut may_win[..weights.len().div_ceil(64)];
                    kernel::may_win(words, weights, best.limit(), may_win);
                    for (at, &bits) in (0..).step_by(64).zip(&*may_win) {
                        let mut bits = bits;
                        while bits != 0 {
                            let at = at + bits.trailing_zeros() as usize;
                            bits &= bits - 1;
                            let index = first + at;
                            best.meet(words[at], weights[at], index as u32, index);
                        }
                    }
                }
            }
            Some(tokens) => {
                let mut words = [0; BATCH];
                for (first, tokens) in (0..).step_by(BATCH).zip(tokens.chunks(BATCH)) {
                    let words = &mut words[..tokens.len()];
                    seed.values(&self.field, tokens, words);
                    for (index, &word) in (first..).zip(&*words) {
                        let (token, weight) = candidates.get(index);
                        best.meet(word, weight, token, index);
                    }
                }
            }
        }
        best.index
    }
}

struct Runner {
    time: f64,
    token: u32,
    index: usize,
}

impl Runner {
    /// The time to beat, rounded up.
    fn limit(&self) -> f32 {
        (self.time as f32).next_up()
    }

    #[inline]
    fn meet(&mut self, word: u32, weight: f32, token: u32, index: usize) {
        let weight = f64::from(weight);
        // Also false for a weight that is NaN.
        if uniform(word) <= self.time * weight && weight > 0.0 {
            let time = time(word, weight);
            if time < self.time || (time == self.time && token < self.token) {
                *self = Runner { time, token, index };
            }
        }
    }
}

/// `w = (r + 1/2) * 2^-32`, never 0 or 1.
fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (1.0 / 4_294_967_296.0)
}

fn time(word: u32, weight: f64) -> f64 {
    -(-uniform(word)).ln_1p() / weight
}

impl Scheme for Gumbel {
    fn context_width(&self) -> usize {
        usize::from(self.key.binding.context_width)
    }

    fn preserves_distribution(&self) -> bool {
        true
    }

    fn row(&self, window: &[u32]) -> Row {
        let a = self.key.prf.row_seed(Role::A, window);
        if self.key.dual_key {
            Row::of([a, self.key.prf.row_seed(Role::B, window)]).expect("two seeds")
        } else {
            Row::one(a)
        }
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        self.choose_as(TokenRole::Ordinary, row, candidates, coins)
    }

    fn choose_as(
        &self,
        role: TokenRole,
        row: &Row,
        candidates: &Candidates<'_>,
        coins: &mut dyn Rng,
    ) -> usize {
        let key = match role {
            _ if !self.key.dual_key => 0,
            TokenRole::Ordinary => (coins.next_u32() >> 31) as usize,
            TokenRole::Draft => 0,
            TokenRole::Recovered | TokenRole::Bonus => 1,
        };
        self.race(&row.seeds()[key], candidates)
    }

    fn marks_drafts(&self) -> bool {
        self.key.dual_key
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        row.seeds()
            .iter()
            .map(|seed| neg_ln_q24(seed.value(&self.field, token)))
            .sum()
    }

    fn score_batch(
        &self,
        windows: &Windows<'_>,
        which: &[u32],
        tokens: &[u32],
        scores: &mut [u64],
        cells: Option<&mut [u64]>,
    ) {
        let mut values = [0; BATCH];
        let values = &mut values[..tokens.len()];
        let rows = self.key.prf.rows(Role::A, windows);
        rows.values(&self.field, which, tokens, values);
        scores[..tokens.len()].fill(0);
        kernel::add_neg_ln_q24(values, scores);
        fill_cells(&rows, which, tokens, cells);
        if self.key.dual_key {
            let rows = self.key.prf.rows(Role::B, windows);
            rows.values(&self.field, which, tokens, values);
            kernel::add_neg_ln_q24(values, scores);
        }
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(row.first().fingerprint(), token)
    }

    fn null(&self) -> Null {
        Null::Gamma {
            shape: if self.key.dual_key { 2 } else { 1 },
        }
    }
}
