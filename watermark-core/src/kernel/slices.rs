//! Loops over slices, written so that the compiler makes vector code of them for whatever features
//! the calling function is compiled for.

/// [`super::add_where`].
#[inline(always)]
pub(super) fn add_where(logits: &mut [f32], mask: &[u32], delta: f32) {
    // Whole words apart, in arrays: a test against constant bits becomes vector code on any
    // machine, which a shift by j does not. A select, not a branch: the bits are coin tosses.
    const BITS: [u32; 32] = {
        let mut bits = [0; 32];
        let mut j = 0;
        while j < 32 {
            bits[j] = 1 << j;
            j += 1;
        }
        bits
    };
    let add = |logit: &mut f32, word: u32, bit: u32| {
        // Adding -0 changes nothing, not even -0.
        *logit += if word & bit == bit { delta } else { -0.0 };
    };
    let (whole, rest) = logits.as_chunks_mut::<32>();
    for (logits, &word) in whole.iter_mut().zip(mask) {
        for (logit, bit) in logits.iter_mut().zip(BITS) {
            add(logit, word, bit);
        }
    }
    for (logit, bit) in rest.iter_mut().zip(BITS) {
        add(logit, mask[whole.len()], bit);
    }
}

/// [`super::below`].
#[inline(always)]
pub(super) fn below(words: &[u32], bits: u32, threshold: u32, mask: &mut [u32]) {
    match (bits, threshold) {
        // A field of one bit is below 1 where it is 0.
        (1, _) => {
            for (mask, word) in mask.iter_mut().zip(words) {
                *mask = !word;
            }
        }
        (2, 1) => pairs(words, mask, |high, low| !(high | low)),
        (2, 2) => pairs(words, mask, |high, _| !high),
        (2, _) => pairs(words, mask, |high, low| !(high & low)),
        (4, _) => fields::<4>(words, threshold, mask),
        (8, _) => fields::<8>(words, threshold, mask),
        (_, _) => fields::<16>(words, threshold, mask),
    }
}

/// One bit a field of two bits, by a function of both.
#[inline(always)]
fn pairs(words: &[u32], mask: &mut [u32], by: impl Fn(u32, u32) -> u32) {
    for (mask, two) in mask.iter_mut().zip(words.as_chunks::<2>().0) {
        let [low, high] = two.map(|word| even_bits(by(word >> 1, word)));
        *mask = low | high << 16;
    }
}

/// Bits 0, 2, 4, ... gathered into the low half.
#[inline(always)]
fn even_bits(word: u32) -> u32 {
    let mut x = word & 0x5555_5555;
    x = (x | x >> 1) & 0x3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff;
    (x | x >> 8) & 0x0000_ffff
}

#[inline(always)]
fn fields<const BITS: u32>(words: &[u32], threshold: u32, mask: &mut [u32]) {
    let per_word = 32 / BITS;
    for (mask, words) in mask.iter_mut().zip(words.chunks_exact(BITS as usize)) {
        *mask = 0;
        for (first, word) in (0..32).step_by(per_word as usize).zip(words) {
            for at in 0..per_word {
                let field = word >> (at * BITS) & (u32::MAX >> (32 - BITS));
                *mask |= u32::from(field < threshold) << (first + at);
            }
        }
    }
}

/// [`super::may_win`].
///
/// Compared as floats of 24 bits, from half the word (a signed conversion, which every vector unit has).
/// Halving rounds down and conversion adds 2^-24 at most, so a limit that is 2^-20 larger misses nothing.
#[inline(always)]
pub(super) fn may_win(words: &[u32], weights: &[f32], limit: f32, out: &mut [u64]) {
    let limit = limit * (2_147_483_648.0 * (1.0 + 1.0 / 1_048_576.0));
    let may = |word: u32, weight: f32| ((word >> 1) as i32 as f32) <= limit * weight;
    let (whole, rest) = words.as_chunks::<64>();
    let (whole_weights, rest_weights) = weights.as_chunks::<64>();
    let bits = |words: &[u32], weights: &[f32]| {
        let pairs = words.iter().zip(weights).rev();
        pairs.fold(0u64, |bits, (&word, &weight)| {
            bits << 1 | u64::from(may(word, weight))
        })
    };
    for ((words, weights), out) in whole.iter().zip(whole_weights).zip(out.iter_mut()) {
        let mut any = 0;
        for i in 0..64 {
            any |= u32::from(may(words[i], weights[i]));
        }
        *out = if any == 0 { 0 } else { bits(words, weights) };
    }
    if !rest.is_empty() {
        out[whole.len()] = bits(rest, rest_weights);
    }
}

/// [`super::add_neg_ln_q24`].
///
/// The integer logarithm of [`neg_ln_q24`](crate::fixed::neg_ln_q24) is the floor of `2^28 log2 x` less at most 2^-34 (its
/// squarings are cut to 63 bits). Here log2 is a float with an error below 2^-20 in the same unit, by
/// `log2 m = log2 c + 2 atanh((m - c) / (m + c)) / ln 2` with c near the root of 2 and eleven terms of the series: the
/// rest is below 2^-60, and some ten roundings of numbers below 1 make 2^-50, times 2^28. So the floor
/// is the same unless the float lies within 2^-19 of a whole number; there, four times in a million, the integer
/// algorithm decides.
#[inline(always)]
pub(super) fn add_neg_ln_q24(words: &[u32], scores: &mut [u64]) {
    let (whole, rest) = words.as_chunks::<8>();
    let (whole_scores, rest_scores) = scores.split_at_mut(8 * whole.len());
    for (words, scores) in whole.iter().zip(whole_scores.as_chunks_mut::<8>().0) {
        let mut values = [0; 8];
        let mut doubts = [0; 8];
        for i in 0..8 {
            (values[i], doubts[i]) = neg_ln_q24(words[i]);
        }
        if doubts.iter().any(|&doubt| doubt != 0) {
            values = words.map(crate::fixed::neg_ln_q24);
        }
        for (score, value) in scores.iter_mut().zip(values) {
            *score += value;
        }
    }
    for (score, &word) in rest_scores.iter_mut().zip(rest) {
        *score += crate::fixed::neg_ln_q24(word);
    }
}

/// The score, and whether it is in doubt.
#[inline(always)]
fn neg_ln_q24(word: u32) -> (u64, u64) {
    const ROOT: f64 = core::f64::consts::SQRT_2;
    const TWO_52: f64 = 4_503_599_627_370_496.0;
    const MANTISSA: u64 = (1 << 52) - 1;
    // Exact: at most 2^32. Below 2^52, the bits of 2^52 + n end in n.
    let x = f64::from_bits(TWO_52.to_bits() | u64::from(word)) - TWO_52 + 1.0;
    let exponent = (x.to_bits() >> 52) - 1023;
    let m = f64::from_bits(x.to_bits() & MANTISSA | 1023 << 52);
    let s = (m - ROOT) / (m + ROOT);
    let t = s * s;
    let mut sum = 1.0 / 21.0;
    let mut odd = 19.0;
    while odd > 0.0 {
        sum = sum * t + 1.0 / odd;
        odd -= 2.0;
    }
    let log2 = (0.5 + s * sum * (2.0 / core::f64::consts::LN_2)) * f64::from(1 << 28);
    let nearest = log2 + TWO_52;
    let beyond = log2 - (nearest - TWO_52);
    let floor = (nearest.to_bits() & MANTISSA).wrapping_sub(u64::from(beyond < 0.0));
    let doubt = u64::from(beyond.abs() < 1.0 / f64::from(1 << 19));
    let value = crate::fixed::from_log2((exponent << 28).wrapping_add(floor));
    (value, doubt)
}

/// [`super::largest`].
#[inline(always)]
pub(super) fn largest(weights: &[f32]) -> f32 {
    let mut largest = [0.0f32; 32];
    let larger = |a: &mut f32, b: f32| *a = if b > *a { b } else { *a };
    let (whole, rest) = weights.as_chunks::<32>();
    for weights in whole {
        for i in 0..32 {
            larger(&mut largest[i], weights[i]);
        }
    }
    for (i, &weight) in rest.iter().enumerate() {
        larger(&mut largest[i], weight);
    }
    largest.into_iter().fold(0.0, f32::max)
}

/// [`super::play`].
///
/// One pass a layer: it applies the factors of the layer before and sums what the next one needs, in eight
/// lanes, so that the order of additions is the same in every kernel.
#[inline(always)]
pub(super) fn play(mass: &mut [f64], words: &[u32], layers: u32, leaves: u32) {
    let (mut won, mut lost) = (1.0f64, 1.0f64);
    // Layer by layer the bit in question is shifted down; before the first layer all factors are 1.
    for layer in 0..=layers {
        let (mut one, mut all) = ([0.0; 8], [0.0; 8]);
        let before = layer.max(1) - 1;
        // By masks: a choice becomes a branch on random bits otherwise.
        let ones = |word: u32, bit: u32| (u64::from(word >> bit) & 1).wrapping_neg();
        let mut step = |mass: &mut f64, word: u32, lane: usize| {
            let mask = ones(word, before);
            let by = f64::from_bits(won.to_bits() & mask | lost.to_bits() & !mask);
            let now = *mass * by;
            *mass = now;
            all[lane] += now;
            one[lane] += f64::from_bits(now.to_bits() & ones(word, layer & 31));
        };
        let (whole, rest) = mass.as_chunks_mut::<8>();
        let (whole_words, rest_words) = words.as_chunks::<8>();
        for (mass, words) in whole.iter_mut().zip(whole_words) {
            for lane in 0..8 {
                step(&mut mass[lane], words[lane], lane);
            }
        }
        for (lane, (mass, &word)) in rest.iter_mut().zip(rest_words).enumerate() {
            step(mass, word, lane);
        }
        let sum = |x: [f64; 8]| ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
        let q = sum(one) / sum(all);
        let none = 1.0 - q;
        // A layer that all or none of the mass has decides nothing.
        (won, lost) = if q > 0.0 && none > 0.0 {
            if leaves == 2 {
                (1.0 + none, none)
            } else {
                let leaves = leaves as i32;
                ((1.0 - none.powi(leaves)) / q, none.powi(leaves - 1))
            }
        } else {
            (1.0, 1.0)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_bits_gathers() {
        assert_eq!(even_bits(0x5555_5555), 0xffff);
        assert_eq!(even_bits(0b01_00_01), 0b101);
    }
}
