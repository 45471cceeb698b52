//! Green lists: a keyed coin for every (window, token); the green tokens' logits get a bonus.
//!
//! Kirchenbauer et al. 2023 (arXiv 2301.10226), with Bernoulli membership instead of a list of
//! fixed size: O(1) a cell, and the number of green cells under the null is exactly binomial.
//! [`SelfHash`] is the variant whose coin depends on one context token only, picked by the
//! candidate itself (2306.04634, their anchored minimum hash), so that an edit in the window
//! rarely changes it.

use rand_core::Rng;

use super::{Biaser, Null, Row, Scheme, cell_of, fill_cells};
use crate::candidates::Candidates;
use crate::kernel::{self, Tiles};
use crate::prf::{BATCH, Binding, Field, Lane, Prf, Role, RowSeed, Windows};
use crate::scheme::MASK_STEP;

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
    green: impl Fn(&[u32], &mut [bool]),
) -> usize {
    let factor = f64::from(delta).exp();
    let tilt = |green: bool, weight: f64| if green { weight * factor } else { weight };
    candidates.draw(coins, |weights| match candidates.tokens() {
        None => {
            let mut mask = [0; MASK_STEP as usize / 32];
            let pieces = weights.chunks_mut(MASK_STEP as usize);
            for (first, weights) in (0..).step_by(MASK_STEP as usize).zip(pieces) {
                scheme.fill_mask_from(row, first, &mut mask[..weights.len().div_ceil(32)]);
                for (index, weight) in weights.iter_mut().enumerate() {
                    *weight = tilt(mask[index / 32] >> (index % 32) & 1 == 1, *weight);
                }
            }
        }
        Some(tokens) => {
            let mut is_green = [false; BATCH];
            for (tokens, weights) in tokens.chunks(BATCH).zip(weights.chunks_mut(BATCH)) {
                green(tokens, &mut is_green[..tokens.len()]);
                for (weight, &green) in weights.iter_mut().zip(&is_green) {
                    *weight = tilt(green, *weight);
                }
            }
        }
    })
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

impl GreenList {
    /// Adds 1 to the count of every account of the tiles under which a cell is green, for a batch of cells.
    pub(crate) fn tally(&self, windows: &Windows<'_>, tokens: &[u32], tiles: &mut [Tiles]) {
        let rows = self.key.prf.rows(Role::A, windows);
        for tiles in tiles {
            for (row, &token) in tokens.iter().enumerate() {
                rows.tally(row, &self.field, self.key.share.threshold, token, tiles);
            }
        }
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
        let green = |tokens: &[u32], green: &mut [bool]| {
            let mut values = [0; BATCH];
            let values = &mut values[..tokens.len()];
            row.first().values(&self.field, tokens, values);
            for (green, &value) in green.iter_mut().zip(&*values) {
                *green = value < self.key.share.threshold;
            }
        };
        draw_tilted(self, self.key.delta, row, candidates, coins, green)
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        u64::from(self.is_green(row, token))
    }

    fn score_batch(
        &self,
        windows: &Windows<'_>,
        which: &[u32],
        tokens: &[u32],
        scores: &mut [u64],
        cells: Option<&mut [u64]>,
    ) {
        let rows = self.key.prf.rows(Role::A, windows);
        let mut values = [0; BATCH];
        let values = &mut values[..tokens.len()];
        rows.values(&self.field, which, tokens, values);
        for (score, &value) in scores.iter_mut().zip(&*values) {
            *score = u64::from(value < self.key.share.threshold);
        }
        fill_cells(&rows, which, tokens, cells);
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(row.first().fingerprint(), token)
    }

    fn null(&self) -> Null {
        self.key.share.null()
    }

    fn as_biaser(&self) -> Option<&dyn Biaser> {
        Some(self)
    }

    fn as_green_list(&self) -> Option<&GreenList> {
        Some(self)
    }
}

impl Biaser for GreenList {
    fn delta(&self) -> f32 {
        self.key.delta
    }

    fn fill_mask_from(&self, row: &Row, first: u32, mask: &mut [u32]) {
        assert!(first.is_multiple_of(MASK_STEP), "a mask starts at a step");
        fill_green(row.first(), &self.field, self.key.share, first, mask);
    }
}

/// Writes one bit a token from token `first`: is its field below the threshold?
fn fill_green(seed: &RowSeed, field: &Field, share: GreenShare, first: u32, mask: &mut [u32]) {
    const WORDS: usize = 2048;
    let mut words = [0; WORDS];
    let step = WORDS / share.bits as usize;
    let tokens = (first..).step_by(32 * step);
    for (first, mask) in tokens.zip(mask.chunks_mut(step)) {
        let words = &mut words[..mask.len() * share.bits as usize];
        seed.fill(field, first, words);
        kernel::below(words, share.bits, share.threshold, mask);
    }
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
        let green = |tokens: &[u32], green: &mut [bool]| {
            let mut nearest = [u32::MAX; BATCH];
            let (mut distance, mut coin) = ([0; BATCH], [0; BATCH]);
            // Descending, with "not greater", so that ties go to the first seed.
            for seed in row.seeds().iter().rev() {
                seed.values(&self.anchor, tokens, &mut distance[..tokens.len()]);
                seed.values(&self.green, tokens, &mut coin[..tokens.len()]);
                for (i, green) in green.iter_mut().enumerate() {
                    if distance[i] <= nearest[i] {
                        nearest[i] = distance[i];
                        *green = coin[i] < self.key.share.threshold;
                    }
                }
            }
        };
        draw_tilted(self, self.key.delta, row, candidates, coins, green)
    }

    fn score(&self, row: &Row, token: u32) -> u64 {
        u64::from(self.is_green(row, token))
    }

    fn cell(&self, row: &Row, token: u32) -> u64 {
        cell_of(self.anchor(row, token).fingerprint(), token)
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

    fn fill_mask_from(&self, row: &Row, first: u32, mask: &mut [u32]) {
        assert!(first.is_multiple_of(MASK_STEP), "a mask starts at a step");
        const WORDS: usize = 32;
        let tokens = (first..).step_by(32 * WORDS);
        let (mut best, mut distance, mut green) = ([0; 32 * WORDS], [0; 32 * WORDS], [0; WORDS]);
        for (first, mask) in tokens.zip(mask.chunks_mut(WORDS)) {
            best.fill(u32::MAX);
            // Descending, with "not greater", so that ties go to the first seed.
            for seed in row.seeds().iter().rev() {
                seed.fill(&self.anchor, first, &mut distance);
                fill_green(seed, &self.green, self.key.share, first, &mut green);
                for (((mask, green), best), distance) in mask
                    .iter_mut()
                    .zip(&green)
                    .zip(best.as_chunks_mut::<32>().0)
                    .zip(distance.as_chunks::<32>().0)
                {
                    let mut nearer = 0;
                    for j in 0..32 {
                        nearer |= u32::from(distance[j] <= best[j]) << j;
                        best[j] = best[j].min(distance[j]);
                    }
                    *mask = *mask & !nearer | green & nearer;
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
}
