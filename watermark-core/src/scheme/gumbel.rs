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
//! powerful score of the mixture to first order.

use rand_core::Rng;

use super::{Null, Row, Scheme, cell_of};
use crate::candidates::Candidates;
use crate::fixed::neg_ln_q24;
use crate::prf::{Binding, Field, Lane, Prf, Role, RowSeed};

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
        match candidates.dense_len() {
            Some(vocabulary) => {
                let mut words = [0; 1024];
                for first in (0..vocabulary).step_by(words.len()) {
                    let words = &mut words[..(vocabulary - first).min(1024)];
                    seed.fill(&self.field, first as u32, words);
                    for (index, &word) in (first..).zip(words.iter()) {
                        best.meet(
                            word,
                            f64::from(candidates.get(index).1),
                            index as u32,
                            index,
                        );
                    }
                }
            }
            None => {
                for index in 0..candidates.len() {
                    let (token, weight) = candidates.get(index);
                    if weight > 0.0 {
                        best.meet(
                            seed.value(&self.field, token),
                            f64::from(weight),
                            token,
                            index,
                        );
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
    #[inline]
    fn meet(&mut self, word: u32, weight: f64, token: u32, index: usize) {
        // Also false for a weight of zero or NaN.
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
        let seeds = row.seeds();
        let role = if self.key.dual_key {
            (coins.next_u32() >> 31) as usize
        } else {
            0
        };
        self.race(&seeds[role], candidates)
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        row.seeds()
            .iter()
            .map(|seed| neg_ln_q24(seed.value(&self.field, token)))
            .sum()
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(row.first(), token)
    }

    fn null(&self) -> Null {
        Null::Gamma {
            shape: if self.key.dual_key { 2 } else { 1 },
        }
    }
}
