//! Sixteen lanes: AVX-512 F and BW.

use core::arch::x86_64::*;

use super::lanes::{self, Lanes};
use super::{Midstates, Place, Stream, Threshold, Tiles, slices};

/// Sixteen words.
#[derive(Clone, Copy)]
struct Sixteen(__m512i);

// SAFETY, for every function: the trait's condition is that the processor has AVX-512 F and BW; loads and
// stores are unaligned ones, and assert the length of the slice.
impl Lanes for Sixteen {
    const N: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        Self(unsafe { _mm512_set1_epi32(x as i32) })
    }
    #[inline(always)]
    unsafe fn load(from: &[u32]) -> Self {
        assert!(from.len() >= 16);
        Self(unsafe { _mm512_loadu_si512(from.as_ptr().cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, to: &mut [u32]) {
        assert!(to.len() >= 16);
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        Self(unsafe { _mm512_and_si512(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn rotl<const L: i32, const R: i32>(self) -> Self {
        Self(unsafe { _mm512_rol_epi32::<L>(self.0) })
    }
    #[inline(always)]
    unsafe fn shr<const R: u32>(self) -> Self {
        Self(unsafe { _mm512_srli_epi32::<R>(self.0) })
    }
    #[inline(always)]
    unsafe fn shr_by(self, bits: u32) -> Self {
        Self(unsafe { _mm512_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }
    #[inline(always)]
    unsafe fn swap_bytes(self) -> Self {
        unsafe {
            let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
            Self(_mm512_shuffle_epi8(self.0, _mm512_broadcast_i32x4(order)))
        }
    }
    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_ternarylogic_epi32::<0x96>(self.0, b.0, c.0) })
    }
    #[inline(always)]
    unsafe fn choose(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_ternarylogic_epi32::<0xca>(self.0, b.0, c.0) })
    }
    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_ternarylogic_epi32::<0xe8>(self.0, b.0, c.0) })
    }
    #[inline(always)]
    unsafe fn store_blocks(words: &[Self; 16], out: &mut [u32]) {
        assert!(out.len() >= 256);
        unsafe {
            // Four words by four blocks in every quarter of a register, then the quarters.
            let mut quarters = [[_mm512_setzero_si512(); 4]; 4];
            for (quarter, w) in quarters.iter_mut().zip(words.as_chunks::<4>().0) {
                let a = _mm512_unpacklo_epi32(w[0].0, w[1].0);
                let b = _mm512_unpackhi_epi32(w[0].0, w[1].0);
                let c = _mm512_unpacklo_epi32(w[2].0, w[3].0);
                let d = _mm512_unpackhi_epi32(w[2].0, w[3].0);
                // Blocks 0, 4, 8, 12; then 1, 5, 9, 13; and so on.
                *quarter = [
                    _mm512_unpacklo_epi64(a, c),
                    _mm512_unpackhi_epi64(a, c),
                    _mm512_unpacklo_epi64(b, d),
                    _mm512_unpackhi_epi64(b, d),
                ];
            }
            let [q0, q1, q2, q3] = quarters;
            for i in 0..4 {
                let a = _mm512_shuffle_i32x4::<0x88>(q0[i], q1[i]);
                let b = _mm512_shuffle_i32x4::<0xdd>(q0[i], q1[i]);
                let c = _mm512_shuffle_i32x4::<0x88>(q2[i], q3[i]);
                let d = _mm512_shuffle_i32x4::<0xdd>(q2[i], q3[i]);
                let blocks = [
                    _mm512_shuffle_i32x4::<0x88>(a, c),
                    _mm512_shuffle_i32x4::<0x88>(b, d),
                    _mm512_shuffle_i32x4::<0xdd>(a, c),
                    _mm512_shuffle_i32x4::<0xdd>(b, d),
                ];
                for (quarter, block) in blocks.into_iter().enumerate() {
                    let at = (4 * quarter + i) * 16;
                    _mm512_storeu_si512(out[at..at + 16].as_mut_ptr().cast(), block);
                }
            }
        }
    }
}

super::lanes::entry_points!(Sixteen, "avx2,avx512f,avx512bw,avx512dq,avx512vl");

/// [`super::add_where`]. Half a line at a time: rows of logits need not start at a line, and then every load of
/// a whole line takes two.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn add_where(logits: &mut [f32], mask: &[u32], delta: f32) {
    super::avx2::add_where(logits, mask, delta);
}

/// [`super::below`]: fields of bytes and half words are compared where they stand.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn below(words: &[u32], bits: u32, threshold: u32, mask: &mut [u32]) {
    match bits {
        8 | 16 => super::avx2::below(words, bits, threshold, mask),
        _ => slices::below(words, bits, threshold, mask),
    }
}
