//! Green lists: a keyed coin for every (window, token); the green tokens' logits get a bonus.
//!
//! Kirchenbauer et al. 2023 (arXiv 2301.10226), with Bernoulli membership instead of a list of
//! fixed size: O(1) a cell, and the number of green cells under the null is exactly binomial.
//! [`SelfHash`] is the variant whose coin depends on one context token only, picked by the
//! candidate itself (2306.04634, their anchored minimum hash), so that an edit in the window
//! rarely changes it.

use rand_core::Rng;

use super::{Biaser, Null, Row, Scheme, cell_of};
use crate::candidates::Candidates;
use crate::prf::{Binding, Field, Lane, Prf, Role, RowSeed};

/// The share of green tokens, gamma = T / 2^bits exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreenShare {
    threshold: u32,
    bits: u32,
}

impl GreenShare {
    /// The nearest share that can be represented: exact with 1, 2, 4 or 8 bits where that is
    /// possible, else the nearest multiple of 2^-16. `None` unless `0 < gamma < 1` after
    /// rounding.
    pub fn nearest(gamma: f64) -> Option<Self> {
        for bits in [1u32, 2, 4, 8] {
            let scaled = gamma * f64::from(1 << bits);
            if scaled.fract() == 0.0 {
                return Self::exact(scaled, bits);
            }
        }
        Self::exact((gamma * 65536.0).round(), 16)
    }

    fn exact(threshold: f64, bits: u32) -> Option<Self> {
        (threshold >= 1.0 && threshold < f64::from(1 << bits)).then_some(Self {
            threshold: threshold as u32,
            bits,
        })
    }

    /// gamma.
    pub fn value(&self) -> f64 {
        f64::from(self.threshold) / f64::from(1 << self.bits)
    }

    pub(crate) fn threshold(&self) -> u32 {
        self.threshold
    }

    pub(crate) fn bits(&self) -> u32 {
        self.bits
    }

    fn null(&self) -> Null {
        Null::Binomial {
            trials: 1,
            numerator: self.threshold,
            bits: self.bits,
        }
    }
}

/// What both variants are built from.
pub(crate) struct GreenListKey {
    pub(crate) prf: Prf,
    pub(crate) binding: Binding,
    pub(crate) account: u32,
    pub(crate) share: GreenShare,
    pub(crate) delta: f32,
}

impl GreenListKey {
    fn field(&self) -> Field {
        Field {
            lane: Lane::Green,
            plane: 0,
            bits: self.share.bits,
            slot: self.binding.slot,
            account: self.account,
        }
    }

    fn width(&self) -> usize {
        usize::from(self.binding.context_width)
    }
}

/// Draws from weights multiplied by `e^delta` where green: a whole vocabulary by its mask, some
/// candidates one by one.
fn draw_tilted(
    scheme: &impl Biaser,
    delta: f32,
    row: &Row,
    candidates: &Candidates<'_>,
    coins: &mut dyn Rng,
) -> usize {
    let factor = f64::from(delta).exp();
    let tilt = |green: bool, weight: f64| if green { weight * factor } else { weight };
    match candidates.dense_len() {
        Some(vocabulary) => {
            let mut mask = vec![0; vocabulary.div_ceil(32)];
            scheme.fill_mask(row, &mut mask);
            candidates.draw(coins, |token, weight| {
                tilt((mask[token as usize / 32] >> (token % 32)) & 1 == 1, weight)
            })
        }
        // The score of a green list is whether the token is green.
        None => candidates.draw(coins, |token, weight| {
            tilt(scheme.score(row, token) == 1, weight)
        }),
    }
}

impl core::fmt::Debug for GreenListKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "h {}, gamma {}, delta {}",
            self.width(),
            self.share.value(),
            self.delta
        )
    }
}

/// The green list whose coin depends on the whole window.
#[derive(Debug)]
pub struct GreenList {
    key: GreenListKey,
    field: Field,
}

impl GreenList {
    pub(crate) fn new(key: GreenListKey) -> Self {
        let field = key.field();
        Self { key, field }
    }

    fn is_green(&self, row: &Row, token: u32) -> bool {
        row.first().value(&self.field, token) < self.key.share.threshold
    }
}

impl Scheme for GreenList {
    fn context_width(&self) -> usize {
        self.key.width()
    }

    fn preserves_distribution(&self) -> bool {
        false
    }

    fn row(&self, window: &[u32]) -> Row {
        Row::one(self.key.prf.row_seed(Role::A, window))
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        draw_tilted(self, self.key.delta, row, candidates, coins)
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        u64::from(self.is_green(row, token))
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(row.first(), token)
    }

    fn null(&self) -> Null {
        self.key.share.null()
    }

    fn as_biaser(&self) -> Option<&dyn Biaser> {
        Some(self)
    }
}

impl Biaser for GreenList {
    fn delta(&self) -> f32 {
        self.key.delta
    }

    fn fill_mask(&self, row: &Row, mask: &mut [u32]) {
        fill_green(row.first(), &self.field, self.key.share, mask);
    }
}

/// Writes one bit a token: is its field below the threshold?
fn fill_green(seed: &RowSeed, field: &Field, share: GreenShare, mask: &mut [u32]) {
    if share.bits == 1 {
        // T can only be 1: green is bit 0.
        seed.fill(field, 0, mask);
        mask.iter_mut().for_each(|word| *word = !*word);
        return;
    }
    let words_a_mask = share.bits as usize;
    let mut words = vec![0; mask.len() * words_a_mask];
    seed.fill(field, 0, &mut words);
    for (out, words) in mask.iter_mut().zip(words.chunks_exact(words_a_mask)) {
        *out = match (share.bits, share.threshold) {
            (2, 1) => words
                .iter()
                .rev()
                .fold(0, |mask, word| mask << 16 | even_bits(!(word | word >> 1))),
            (2, threshold) => below::<2>(words, threshold),
            (4, threshold) => below::<4>(words, threshold),
            (8, threshold) => below::<8>(words, threshold),
            (_, threshold) => below::<16>(words, threshold),
        };
    }
}

/// One bit a field: is it below the threshold? The width is constant so that fields are compared
/// side by side.
fn below<const BITS: u32>(words: &[u32], threshold: u32) -> u32 {
    let per_word = 32 / BITS;
    let mut mask = 0;
    for (first, word) in (0..32).step_by(per_word as usize).zip(words) {
        for at in 0..per_word {
            let field = word >> (at * BITS) & (u32::MAX >> (32 - BITS));
            mask |= u32::from(field < threshold) << (first + at);
        }
    }
    mask
}

/// Bits 0, 2, 4, ... gathered into the low half.
fn even_bits(word: u32) -> u32 {
    let mut x = word & 0x5555_5555;
    x = (x | x >> 1) & 0x3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff;
    (x | x >> 8) & 0x0000_ffff
}

/// The green list whose coin depends on one context token and the candidate.
///
/// Among the window's tokens the anchor of candidate v is the one whose auxiliary word for v is
/// smallest. The coin is the green field of v in the anchor's own row, so that choice and coin
/// are independent, and distinct (anchor, v) pairs have independent coins.
#[derive(Debug)]
pub struct SelfHash {
    key: GreenListKey,
    green: Field,
    anchor: Field,
}

impl SelfHash {
    pub(crate) fn new(key: GreenListKey) -> Self {
        let green = key.field();
        let anchor = Field {
            lane: Lane::Auxiliary,
            bits: 32,
            ..green
        };
        Self { key, green, anchor }
    }

    /// The anchor's row. Ties go to the smaller context token, which stands first.
    fn anchor<'r>(&self, row: &'r Row, token: u32) -> &'r RowSeed {
        row.seeds()
            .iter()
            .min_by_key(|seed| seed.value(&self.anchor, token))
            .expect("a row has at least one seed")
    }

    fn is_green(&self, row: &Row, token: u32) -> bool {
        self.anchor(row, token).value(&self.green, token) < self.key.share.threshold
    }
}

impl Scheme for SelfHash {
    fn context_width(&self) -> usize {
        self.key.width()
    }

    fn preserves_distribution(&self) -> bool {
        false
    }

    /// One seed a distinct context token, in ascending order of tokens: the order in the window
    /// does not matter.
    fn row(&self, window: &[u32]) -> Row {
        let mut tokens = [0; crate::prf::MAX_CONTEXT];
        let tokens = &mut tokens[..window.len()];
        tokens.copy_from_slice(window);
        tokens.sort_unstable();
        let distinct = (0..tokens.len()).filter(|&i| i == 0 || tokens[i] != tokens[i - 1]);
        Row::of(distinct.map(|i| self.key.prf.row_seed(Role::Anchor, &tokens[i..=i])))
            .expect("a self-hash profile has at least one context token")
    }

    fn choose(&self, row: &Row, candidates: &Candidates<'_>, coins: &mut dyn Rng) -> usize {
        draw_tilted(self, self.key.delta, row, candidates, coins)
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        u64::from(self.is_green(row, token))
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(self.anchor(row, token), token)
    }

    fn cells_are_pairs(&self) -> bool {
        false
    }

    fn null(&self) -> Null {
        self.key.share.null()
    }

    fn as_biaser(&self) -> Option<&dyn Biaser> {
        Some(self)
    }
}

impl Biaser for SelfHash {
    fn delta(&self) -> f32 {
        self.key.delta
    }

    fn fill_mask(&self, row: &Row, mask: &mut [u32]) {
        let mut best = vec![u32::MAX; mask.len() * 32];
        let mut distance = vec![0; best.len()];
        let mut green = vec![0; mask.len()];
        // Descending, with "not greater", so that ties go to the first seed.
        for seed in row.seeds().iter().rev() {
            seed.fill(&self.anchor, 0, &mut distance);
            fill_green(seed, &self.green, self.key.share, &mut green);
            for (((mask, green), best), distance) in mask
                .iter_mut()
                .zip(&green)
                .zip(best.chunks_exact_mut(32))
                .zip(distance.chunks_exact(32))
            {
                for j in 0..32 {
                    if distance[j] <= best[j] {
                        best[j] = distance[j];
                        *mask = *mask & !(1 << j) | green & 1 << j;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_where_they_can_be() {
        let share = |gamma| GreenShare::nearest(gamma).map(|s| (s.threshold, s.bits));
        assert_eq!(share(0.5), Some((1, 1)));
        assert_eq!(share(0.25), Some((1, 2)));
        assert_eq!(share(0.75), Some((3, 2)));
        assert_eq!(share(0.0625), Some((1, 4)));
        assert_eq!(share(77.0 / 256.0), Some((77, 8)));
        assert_eq!(share(0.1), Some((6554, 16)));
        for bad in [0.0, 1.0, -0.25, 1e-9, 1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(share(bad), None, "{bad}");
        }
    }

    #[test]
    fn even_bits_gathers() {
        assert_eq!(even_bits(0x5555_5555), 0xffff);
        assert_eq!(even_bits(0b01_00_01), 0b101);
    }
}
