//! Eight lanes: AVX2.

use core::arch::x86_64::*;

use super::lanes::{self, Lanes};
use super::{Midstates, Place, Stream, Threshold, Tiles, slices};

/// Eight words.
#[derive(Clone, Copy)]
struct Eight(__m256i);

// SAFETY, for every function: the trait's condition is that the processor has AVX2; loads and stores are
// unaligned ones, and assert the length of the slice.
impl Lanes for Eight {
    const N: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        Self(unsafe { _mm256_set1_epi32(x as i32) })
    }
    #[inline(always)]
    unsafe fn load(from: &[u32]) -> Self {
        assert!(from.len() >= 8);
        Self(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, to: &mut [u32]) {
        assert!(to.len() >= 8);
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        Self(unsafe { _mm256_and_si256(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn rotl<const L: i32, const R: i32>(self) -> Self {
        // Whole bytes turn by one shuffle.
        let bytes = |a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p| unsafe {
            let order = _mm256_setr_epi8(
                a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h, i, j, k, l,
                m, n, o, p,
            );
            _mm256_shuffle_epi8(self.0, order)
        };
        Self(match L {
            8 => bytes(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14),
            16 => bytes(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13),
            _ => unsafe {
                _mm256_or_si256(
                    _mm256_slli_epi32::<L>(self.0),
                    _mm256_srli_epi32::<R>(self.0),
                )
            },
        })
    }
    #[inline(always)]
    unsafe fn shr<const R: u32>(self) -> Self {
        Self(unsafe { _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(R as i32)) })
    }
    #[inline(always)]
    unsafe fn shr_by(self, bits: u32) -> Self {
        Self(unsafe { _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }
    #[inline(always)]
    unsafe fn swap_bytes(self) -> Self {
        unsafe {
            let order = _mm256_setr_epi8(
                3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 3, 2, 1, 0, 7, 6, 5, 4, 11,
                10, 9, 8, 15, 14, 13, 12,
            );
            Self(_mm256_shuffle_epi8(self.0, order))
        }
    }
    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        unsafe { self.xor(b).xor(c) }
    }
    #[inline(always)]
    unsafe fn choose(self, b: Self, c: Self) -> Self {
        unsafe { self.and(b.xor(c)).xor(c) }
    }
    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        unsafe { self.xor(b).and(b.xor(c)).xor(b) }
    }
    #[inline(always)]
    unsafe fn store_blocks(words: &[Self; 16], out: &mut [u32]) {
        assert!(out.len() >= 128);
        unsafe {
            for (half, w) in words.as_chunks::<8>().0.iter().enumerate() {
                let mut fours = [[_mm256_setzero_si256(); 4]; 2];
                for (four, w) in fours.iter_mut().zip(w.as_chunks::<4>().0) {
                    let a = _mm256_unpacklo_epi32(w[0].0, w[1].0);
                    let b = _mm256_unpackhi_epi32(w[0].0, w[1].0);
                    let c = _mm256_unpacklo_epi32(w[2].0, w[3].0);
                    let d = _mm256_unpackhi_epi32(w[2].0, w[3].0);
                    // Blocks 0 and 4; then 1 and 5; and so on.
                    *four = [
                        _mm256_unpacklo_epi64(a, c),
                        _mm256_unpackhi_epi64(a, c),
                        _mm256_unpacklo_epi64(b, d),
                        _mm256_unpackhi_epi64(b, d),
                    ];
                }
                let [first, second] = fours;
                for (i, (a, b)) in first.into_iter().zip(second).enumerate() {
                    let low = _mm256_permute2x128_si256::<0x20>(a, b);
                    let high = _mm256_permute2x128_si256::<0x31>(a, b);
                    for (block, value) in [(i, low), (i + 4, high)] {
                        let at = block * 16 + 8 * half;
                        _mm256_storeu_si256(out[at..at + 8].as_mut_ptr().cast(), value);
                    }
                }
            }
        }
    }
}

super::lanes::entry_points!(Eight, "avx2");

/// [`super::add_where`].
#[target_feature(enable = "avx2")]
pub(super) fn add_where(logits: &mut [f32], mask: &[u32], delta: f32) {
    let (whole, rest) = logits.as_chunks_mut::<32>();
    let bits: [__m256i; 4] = core::array::from_fn(|i| {
        let first = 8 * i as i32;
        let ones = _mm256_set1_epi32(1);
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_sllv_epi32(ones, _mm256_add_epi32(lanes, _mm256_set1_epi32(first)))
    });
    let by = _mm256_set1_ps(delta);
    // Adding -0 changes nothing, not even -0; a masked store would cost ten times as much on some machines.
    let nothing = _mm256_set1_ps(-0.0);
    for (logits, &word) in whole.iter_mut().zip(mask) {
        let word = _mm256_set1_epi32(word as i32);
        for (logits, bits) in logits.as_chunks_mut::<8>().0.iter_mut().zip(bits) {
            let set = _mm256_cmpeq_epi32(_mm256_and_si256(word, bits), bits);
            let by = _mm256_blendv_ps(nothing, by, _mm256_castsi256_ps(set));
            // SAFETY: eight floats are read and written, unaligned.
            unsafe {
                let x = _mm256_loadu_ps(logits.as_ptr());
                _mm256_storeu_ps(logits.as_mut_ptr(), _mm256_add_ps(x, by));
            }
        }
    }
    if !rest.is_empty() {
        slices::add_where(rest, &mask[whole.len()..], delta);
    }
}

/// [`super::below`]: fields of bytes and half words are compared where they stand.
#[target_feature(enable = "avx2")]
pub(super) fn below(words: &[u32], bits: u32, threshold: u32, mask: &mut [u32]) {
    match bits {
        8 => {
            let most = _mm256_set1_epi8((threshold - 1) as i8);
            for (mask, words) in mask.iter_mut().zip(words.as_chunks::<8>().0) {
                // SAFETY: eight words are read, unaligned.
                let x = unsafe { _mm256_loadu_si256(words.as_ptr().cast()) };
                let below = _mm256_cmpeq_epi8(_mm256_min_epu8(x, most), x);
                *mask = _mm256_movemask_epi8(below) as u32;
            }
        }
        16 => {
            let most = _mm256_set1_epi16((threshold - 1) as i16);
            for (mask, words) in mask.iter_mut().zip(words.as_chunks::<16>().0) {
                let [low, high] = [0, 8].map(|at| {
                    // SAFETY: eight words are read, unaligned, at 0 and at 8 of sixteen.
                    let x = unsafe { _mm256_loadu_si256(words.as_ptr().add(at).cast()) };
                    _mm256_cmpeq_epi16(_mm256_min_epu16(x, most), x)
                });
                // Packing takes 64 bits of each by turns.
                let packed = _mm256_packs_epi16(low, high);
                let below = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
                *mask = _mm256_movemask_epi8(below) as u32;
            }
        }
        _ => slices::below(words, bits, threshold, mask),
    }
}
