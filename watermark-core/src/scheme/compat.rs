//! Marks that other engines write, bit for bit: to read them, and to write them where an engine cannot.
//!
//! | module | whose | keyed function | law of a cell |
//! |---|---|---|---|
//! | [`vllm`] | vLLM's Gumbel and dual-key Gumbel | Philox4x32-10 | exponential, 24-bit grid |
//! | [`sglang`] | SGLang's Gumbel and dual-key Gumbel | MurmurHash3, 32 bits | exponential, 32-bit grid |
//! | [`kgw`] | transformers' `WatermarkLogitsProcessor`, on a CPU | MT19937 permutation | member of a list of fixed size |
//! | [`synthid`] | transformers' and synthid-text's tournaments | an LCG and a table | ones in `depth` draws |
//! | [`bricks`] | three_bricks and radioactive-watermark | MT19937 | list of fixed size, or exponential |
//! | [`textseal`] | TextSeal's Gumbel-max | a multiplicative hash | exponential, 8,191 values |
//!
//! The functions are weak: small keys, linear hashes, inputs that collide. A reader has to know three things, and
//! each scheme says them: what the *effective input* of its function is, so that two positions with one draw
//! count once; which positions its key does not reach at all, which never count; and how many
//! [bits of key](super::Scheme::key_bits) it has, below whose power of two no p-value is reported.
//!
//! Windows lie within the tokens that were generated. Engines also mark the first h tokens of an answer, with a
//! padded window (vLLM, transformers' SynthID) or one that reaches into the prompt (SGLang, transformers'
//! green lists); these are not scored, and [`Session`](crate::sampler::Session) does not mark them.

pub mod bricks;
pub mod kgw;
pub mod sglang;
pub mod synthid;
pub mod textseal;
pub mod torch;
pub mod vllm;

#[cfg(test)]
mod tests;

use crate::candidates::Candidates;
use crate::prf::RowSeed;
use crate::scheme::Row;

/// A fingerprint of one 64-bit word, by a bijection (the finaliser of SplitMix64), so that different words
/// never share one.
pub(crate) fn mixed(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let x = x ^ x >> 31;
    // 0 is kept for positions that do not count.
    if x == super::NOT_KEYED { 1 } else { x }
}

/// Rows of foreign functions: up to eight words each.
pub(crate) fn row<const N: usize>(words: [u32; N]) -> Row {
    Row::one(seed(words))
}

pub(crate) fn seed<const N: usize>(words: [u32; N]) -> RowSeed {
    const { assert!(N <= 8, "a row holds eight words") };
    let mut all = [0; 8];
    all[..N].copy_from_slice(&words);
    RowSeed::of_words(all)
}

pub(crate) fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

pub(crate) fn joined(words: &[u32; 8]) -> u64 {
    u64::from(words[0]) | u64::from(words[1]) << 32
}

/// The winner of a Gumbel race: the largest `ln(u) / weight`, the lowest token id of equal ones. `ln_u` is at
/// most 0; weights that are not positive do not run.
pub(crate) fn race(candidates: &Candidates<'_>, ln_u: impl Fn(u32) -> f64) -> usize {
    let mut best = candidates.favourite();
    let (mut winner, mut value) = (candidates.get(best).0, f64::NEG_INFINITY);
    for (index, (token, weight)) in candidates.iter().enumerate() {
        if weight > 0.0 {
            let time = ln_u(token) / f64::from(weight);
            if time > value || (time == value && token < winner) {
                (best, winner, value) = (index, token, time);
            }
        }
    }
    best
}
