//! Tournament sampling: candidates drawn from the model meet in `depth` rounds; in each, those
//! with the larger keyed bit go on.
//!
//! Dathathri et al. 2024 (Nature 634, SynthID-Text), with a keyed bit of every layer drawn from
//! the key's own function, so that layers are independent. The winner is not played out: with
//! `leaves` competitors a match, a layer turns the distribution p into
//! `p_v * ((1 - (1 - q)^leaves) / q)` where the bit of v is 1 and `p_v * (1 - q)^(leaves - 1)`
//! where it is 0, q being the mass of the tokens whose bit is 1. After the last layer the
//! caller's coin draws. The score of a token is its number of ones.

use rand_core::Rng;

use super::{Null, Row, Scheme, cell_of};
use crate::candidates::Candidates;
use crate::prf::{Binding, Field, Lane, Prf, Role};

/// What the scheme is built from.
pub(crate) struct TournamentKey {
    pub(crate) prf: Prf,
    pub(crate) binding: Binding,
    pub(crate) account: u32,
    pub(crate) depth: u32,
    pub(crate) leaves: u32,
}

/// Tournament sampling of any depth.
pub struct Tournament {
    key: TournamentKey,
}

impl core::fmt::Debug for Tournament {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Tournament(h {}, depth {}, leaves {})",
            self.key.binding.context_width, self.key.depth, self.key.leaves
        )
    }
}

impl Tournament {
    pub(crate) fn new(key: TournamentKey) -> Self {
        Self { key }
    }

    /// The word that holds layers `32 plane ..` of a token, one a bit.
    fn plane(&self, plane: u32) -> Field {
        Field {
            lane: Lane::Tournament,
            plane,
            bits: 32,
            slot: self.key.binding.slot,
            account: self.key.account,
        }
    }

    /// (plane, its number of layers), in order.
    fn planes(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let depth = self.key.depth;
        (0..depth.div_ceil(32)).map(move |plane| (plane, (depth - 32 * plane).min(32)))
    }
}

impl Scheme for Tournament {
    fn context_width(&self) -> usize {
        usize::from(self.key.binding.context_width)
    }

    /// Only with two leaves: of three competitors u, u, v the odd one goes on with probability
    /// 5/12 instead of 1/3, since the two u share their bit; more leaves flatten.
    fn preserves_distribution(&self) -> bool {
        self.key.leaves == 2
    }

    fn row(&self, window: &[u32]) -> Row {
        Row::one(self.key.prf.row_seed(Role::A, window))
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        let seed = row.first();
        let total: f64 = candidates.iter().map(|(_, weight)| f64::from(weight)).sum();
        let mut mass: Vec<f64> = candidates
            .iter()
            .map(|(_, weight)| f64::from(weight) / total)
            .collect();
        let mut words = vec![0; mass.len()];
        for (plane, layers) in self.planes() {
            let field = self.plane(plane);
            if candidates.dense_len().is_some() {
                seed.fill(&field, 0, &mut words);
            } else {
                for (word, (token, _)) in words.iter_mut().zip(candidates.iter()) {
                    *word = seed.value(&field, token);
                }
            }
            for layer in 0..layers {
                let one: f64 = mass
                    .iter()
                    .zip(&words)
                    .filter(|(_, word)| *word >> layer & 1 == 1)
                    .map(|(mass, _)| mass)
                    .sum();
                let none = 1.0 - one;
                // A layer that all or none of the mass has decides nothing.
                if one <= 0.0 || none <= 0.0 {
                    continue;
                }
                let exponent = self.key.leaves as i32;
                let won = (1.0 - none.powi(exponent)) / one;
                let lost = none.powi(exponent - 1);
                for (mass, word) in mass.iter_mut().zip(&words) {
                    *mass *= if word >> layer & 1 == 1 { won } else { lost };
                }
                // Rounding must not add up over hundreds of layers.
                let sum: f64 = mass.iter().sum();
                mass.iter_mut().for_each(|mass| *mass /= sum);
            }
        }
        candidates.draw_by_index(coins, |index| mass[index])
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        self.planes()
            .map(|(plane, layers)| {
                let word = row.first().value(&self.plane(plane), token);
                u64::from((word & (u32::MAX >> (32 - layers))).count_ones())
            })
            .sum()
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(row.first(), token)
    }

    fn null(&self) -> Null {
        Null::Binomial {
            trials: self.key.depth,
            numerator: 1,
            bits: 1,
        }
    }
}
