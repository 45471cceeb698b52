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

use super::{Null, Row, Scheme, cell_of, fill_cells};
use crate::candidates::Candidates;
use crate::kernel;
use crate::prf::{BATCH, Binding, Field, Lane, Prf, Role, Windows};

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
        candidates.draw(coins, |mass| {
            for (plane, layers) in self.planes() {
                let field = self.plane(plane);
                kernel::scratch(mass.len(), |words| {
                    match candidates.tokens() {
                        None => seed.fill(&field, 0, words),
                        Some(tokens) => seed.values(&field, tokens, words),
                    }
                    play(mass, words, layers, self.key.leaves);
                });
            }
        })
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        self.planes()
            .map(|(plane, layers)| {
                let word = row.first().value(&self.plane(plane), token);
                u64::from((word & (u32::MAX >> (32 - layers))).count_ones())
            })
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
        scores[..tokens.len()].fill(0);
        for (plane, layers) in self.planes() {
            rows.values(&self.plane(plane), which, tokens, values);
            for (score, &value) in scores.iter_mut().zip(&*values) {
                *score += u64::from((value & (u32::MAX >> (32 - layers))).count_ones());
            }
        }
        fill_cells(&rows, which, tokens, cells);
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(row.first().fingerprint(), token)
    }

    fn null(&self) -> Null {
        Null::Binomial {
            trials: self.key.depth,
            numerator: 1,
            bits: 1,
        }
    }
}

/// Above so many tokens it pays to play several layers at once.
const FEW: usize = 2048;

/// Layers played at once on a large vocabulary.
const AT_ONCE: u32 = 10;

/// Plays `layers` layers of one plane: bit l of a word is the token's bit in layer l. `mass` need not sum to 1,
/// and keeps its sum.
pub(super) fn play(mass: &mut [f64], words: &[u32], layers: u32, leaves: u32) {
    if mass.len() <= FEW {
        kernel::play(mass, words, layers, leaves);
        return;
    }
    // Tokens with the same bits in these layers share their factor: the layers are played by the sums of
    // such tokens, and then every token takes its factor. The same products in another order.
    let mut sums = [0.0; 1 << AT_ONCE];
    let mut factors = [0.0; 1 << AT_ONCE];
    for first in (0..layers).step_by(AT_ONCE as usize) {
        let layers = AT_ONCE.min(layers - first);
        let of = |word: u32| (word >> first & ((1 << layers) - 1)) as usize;
        let count = 1 << layers;
        sums[..count].fill(0.0);
        for (&mass, &word) in mass.iter().zip(words) {
            sums[of(word)] += mass;
        }
        factors[..count].copy_from_slice(&sums[..count]);
        kernel::play(&mut factors[..count], &NUMBERS[..count], layers, leaves);
        for (factor, &before) in factors.iter_mut().zip(&sums[..count]) {
            *factor = if before > 0.0 { *factor / before } else { 0.0 };
        }
        for (mass, &word) in mass.iter_mut().zip(words) {
            *mass *= factors[of(word)];
        }
    }
}

/// The numbers from 0.
const NUMBERS: [u32; 1 << AT_ONCE] = {
    let mut numbers = [0; 1 << AT_ONCE];
    let mut i = 0;
    while i < numbers.len() {
        numbers[i] = i as u32;
        i += 1;
    }
    numbers
};

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    /// Layer by layer, as the module says it.
    fn one_by_one(mass: &mut [f64], words: &[u32], layers: u32, leaves: u32) {
        for layer in 0..layers {
            let is_one = |word: u32| word >> layer & 1 == 1;
            let total: f64 = mass.iter().sum();
            let pairs = mass.iter().zip(words);
            let one: f64 = pairs
                .filter(|(_, word)| is_one(**word))
                .map(|(m, _)| m)
                .sum();
            let (q, none) = (one / total, 1.0 - one / total);
            if q > 0.0 && none > 0.0 {
                let won = (1.0 - none.powi(leaves as i32)) / q;
                let lost = none.powi(leaves as i32 - 1);
                for (mass, &word) in mass.iter_mut().zip(words) {
                    *mass *= if is_one(word) { won } else { lost };
                }
            }
        }
    }

    #[test]
    fn a_tournament_is_the_same_by_any_grouping() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for len in [1usize, 2, 7, 8, 50, 2048, 2049, 5000] {
            for (layers, leaves) in [(1, 2), (9, 2), (10, 2), (30, 2), (32, 3)] {
                let words: Vec<u32> = (0..len).map(|_| rng.next_u32()).collect();
                let start: Vec<f64> = (0..len).map(|i| 1.0 / (1 + i * i) as f64).collect();
                let (mut expected, mut got) = (start.clone(), start);
                one_by_one(&mut expected, &words, layers, leaves);
                play(&mut got, &words, layers, leaves);
                for (a, b) in expected.iter().zip(&got) {
                    // Of a total of about 1: a tiny mass is the difference of large ones.
                    assert!((a - b).abs() <= 1e-13, "{len} tokens: {a} and {b}");
                }
            }
        }
    }
}
