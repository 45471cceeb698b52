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
                3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10,
                9, 8, 15, 14, 13, 12,
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
                for i in 0..4 {
                    let low = _mm256_permute2x128_si256::<0x20>(fours[0][i], fours[1][i]);
                    let high = _mm256_permute2x128_si256::<0x31>(fours[0][i], fours[1][i]);
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
    slices::add_where(logits, mask, delta);
}
