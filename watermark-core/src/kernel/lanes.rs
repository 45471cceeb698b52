//! ChaCha and SHA-256 over vectors of words, one independent block a lane.

use super::{Midstates, Place, Stream, Threshold, Tiles};

/// SHA-256 and ChaCha constants (FIPS 180-4, section 4.2.2; RFC 8439, section 2.3).
const K: [u32; 64] = round_constants();
const SIGMA: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Most lanes of a vector.
const MOST: usize = 16;

/// A vector of N words.
///
/// # Safety
/// All functions may be called only where the processor has the features of the implementation, and
/// are meant to be inlined into functions compiled for them.
pub(super) trait Lanes: Copy {
    const N: usize;
    unsafe fn splat(x: u32) -> Self;
    /// The first N words; panics if there are fewer.
    unsafe fn load(from: &[u32]) -> Self;
    /// To the first N words; panics if there are fewer.
    unsafe fn store(self, to: &mut [u32]);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    /// To the left by L, where L + R = 32.
    unsafe fn rotl<const L: i32, const R: i32>(self) -> Self;
    unsafe fn shr<const R: u32>(self) -> Self;
    /// The same number of bits in every lane, below 32.
    unsafe fn shr_by(self, bits: u32) -> Self;
    unsafe fn swap_bytes(self) -> Self;
    unsafe fn xor3(self, b: Self, c: Self) -> Self;
    /// Bits of `b` where self is 1, of `c` where it is 0.
    unsafe fn choose(self, b: Self, c: Self) -> Self;
    unsafe fn majority(self, b: Self, c: Self) -> Self;
    /// From 16 words by lane to N blocks of 16 words; panics unless `out` has room.
    unsafe fn store_blocks(words: &[Self; 16], out: &mut [u32]);
}

macro_rules! quarter_round {
    ($x:ident, $a:expr, $b:expr, $c:expr, $d:expr) => {
        $x[$a] = $x[$a].add($x[$b]);
        $x[$d] = $x[$d].xor($x[$a]).rotl::<16, 16>();
        $x[$c] = $x[$c].add($x[$d]);
        $x[$b] = $x[$b].xor($x[$c]).rotl::<12, 20>();
        $x[$a] = $x[$a].add($x[$b]);
        $x[$d] = $x[$d].xor($x[$a]).rotl::<8, 24>();
        $x[$c] = $x[$c].add($x[$d]);
        $x[$b] = $x[$b].xor($x[$c]).rotl::<7, 25>();
    };
}

/// One block a lane: RFC 8439, section 2.3, with a 64-bit block number and a 64-bit nonce.
#[inline(always)]
unsafe fn block<V: Lanes>(key: &[V; 8], low: V, high: V, stream: &Stream) -> [V; 16] {
    // SAFETY: the caller's features.
    unsafe {
        let start = [
            V::splat(SIGMA[0]),
            V::splat(SIGMA[1]),
            V::splat(SIGMA[2]),
            V::splat(SIGMA[3]),
            key[0],
            key[1],
            key[2],
            key[3],
            key[4],
            key[5],
            key[6],
            key[7],
            low,
            high,
            V::splat(stream.nonce[0]),
            V::splat(stream.nonce[1]),
        ];
        let mut x = start;
        for _ in 0..stream.double_rounds {
            quarter_round!(x, 0, 4, 8, 12);
            quarter_round!(x, 1, 5, 9, 13);
            quarter_round!(x, 2, 6, 10, 14);
            quarter_round!(x, 3, 7, 11, 15);
            quarter_round!(x, 0, 5, 10, 15);
            quarter_round!(x, 1, 6, 11, 12);
            quarter_round!(x, 2, 7, 8, 13);
            quarter_round!(x, 3, 4, 9, 14);
        }
        let mut i = 0;
        while i < 16 {
            x[i] = x[i].add(start[i]);
            i += 1;
        }
        x
    }
}

#[inline(always)]
unsafe fn splat_key<V: Lanes>(key: &[u32; 8]) -> [V; 8] {
    // SAFETY: the caller's features.
    unsafe { core::array::from_fn(|i| V::splat(key[i])) }
}

/// [`super::keystream`].
#[inline(always)]
pub(super) unsafe fn keystream<V: Lanes>(
    key: &[u32; 8],
    stream: &Stream,
    first: u64,
    out: &mut [u32],
) {
    // SAFETY: the caller's features.
    unsafe {
        let key = splat_key::<V>(key);
        let mut numbers = [[0; MOST]; 2];
        let mut rest = [0; MOST * 16];
        for (index, out) in (0u64..).zip(out.chunks_mut(16 * V::N)) {
            let [low, high] = &mut numbers;
            let lanes = low.iter_mut().zip(high).take(V::N);
            for (number, (low, high)) in (first + index * V::N as u64..).zip(lanes) {
                *low = number as u32;
                *high = (number >> 32) as u32;
            }
            let words = block(&key, V::load(&numbers[0]), V::load(&numbers[1]), stream);
            if out.len() == 16 * V::N {
                V::store_blocks(&words, out);
            } else {
                V::store_blocks(&words, &mut rest);
                out.copy_from_slice(&rest[..out.len()]);
            }
        }
    }
}

/// The block numbers of up to N places; lanes beyond repeat the last.
#[inline(always)]
unsafe fn numbers<V: Lanes>(places: &[Place]) -> V {
    let mut numbers = [0; MOST];
    for lane in 0..V::N {
        numbers[lane] = places[lane.min(places.len() - 1)].block;
    }
    // SAFETY: the caller's features.
    unsafe { V::load(&numbers) }
}

/// The places' words of N blocks.
#[inline(always)]
unsafe fn pick<V: Lanes>(words: &[V; 16], places: &[Place], out: &mut [u32]) {
    let mut all = [0; MOST * 16];
    for (word, column) in words.iter().zip(all.chunks_exact_mut(V::N)) {
        // SAFETY: the caller's features.
        unsafe { word.store(column) };
    }
    for (lane, (out, place)) in out.iter_mut().zip(places).enumerate() {
        *out = all[(place.word & 15) as usize * V::N + lane];
    }
}

/// [`super::words`].
#[inline(always)]
pub(super) unsafe fn words<V: Lanes>(
    key: &[u32; 8],
    stream: &Stream,
    places: &[Place],
    out: &mut [u32],
) {
    // SAFETY: the caller's features.
    unsafe {
        let key = splat_key::<V>(key);
        let high = V::splat(stream.high);
        for (out, places) in out.chunks_mut(V::N).zip(places.chunks(V::N)) {
            let words = block(&key, numbers(places), high, stream);
            pick(&words, places, out);
        }
    }
}

/// [`super::words_of_rows`].
#[inline(always)]
pub(super) unsafe fn words_of_rows<V: Lanes>(
    keys: &[[u32; 8]],
    which: &[u32],
    stream: &Stream,
    places: &[Place],
    out: &mut [u32],
) {
    // SAFETY: the caller's features.
    unsafe {
        let high = V::splat(stream.high);
        let batches = out
            .chunks_mut(V::N)
            .zip(places.chunks(V::N))
            .zip(which.chunks(V::N));
        for ((out, places), which) in batches {
            let mut columns = [[0; MOST]; 8];
            for lane in 0..V::N {
                let key = &keys[which[lane.min(which.len() - 1)] as usize];
                for (column, &word) in columns.iter_mut().zip(key) {
                    column[lane] = word;
                }
            }
            let key = core::array::from_fn(|i| V::load(&columns[i]));
            let words = block(&key, numbers(places), high, stream);
            pick(&words, places, out);
        }
    }
}

/// One block of SHA-256 a lane: FIPS 180-4, section 6.2.2.
#[inline(always)]
unsafe fn compress<V: Lanes>(state: &[V; 8], mut w: [V; 16]) -> [V; 8] {
    // SAFETY: the caller's features.
    unsafe {
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for rounds in 0..4 {
            for i in 0..16 {
                if rounds > 0 {
                    let (x, y) = (w[(i + 1) & 15], w[(i + 14) & 15]);
                    let s0 = x.rotl::<25, 7>().xor3(x.rotl::<14, 18>(), x.shr::<3>());
                    let s1 = y.rotl::<15, 17>().xor3(y.rotl::<13, 19>(), y.shr::<10>());
                    w[i] = w[i].add(s0).add(w[(i + 9) & 15].add(s1));
                }
                let s1 = e
                    .rotl::<26, 6>()
                    .xor3(e.rotl::<21, 11>(), e.rotl::<7, 25>());
                let t1 = h
                    .add(w[i].add(V::splat(K[16 * rounds + i])))
                    .add(s1)
                    .add(e.choose(f, g));
                let s0 = a
                    .rotl::<30, 2>()
                    .xor3(a.rotl::<19, 13>(), a.rotl::<10, 22>());
                let t2 = s0.add(a.majority(b, c));
                (h, g, f, e) = (g, f, e, d.add(t1));
                (d, c, b, a) = (c, b, a, t1.add(t2));
            }
        }
        let end = [a, b, c, d, e, f, g, h];
        core::array::from_fn(|i| end[i].add(state[i]))
    }
}

/// [`super::rows`].
#[inline(always)]
pub(super) unsafe fn rows<V: Lanes>(
    midstates: &Midstates<'_>,
    ids: &[u32],
    stride: usize,
    width: usize,
    out: &mut [[u32; 8]],
) {
    // SAFETY: the caller's features.
    unsafe {
        let inner: [V; 8] = splat_key(midstates.inner);
        let outer: [V; 8] = splat_key(midstates.outer);
        let zero = V::splat(0);
        let head = &midstates.head;
        let be = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // The message is ten bytes and the window: tokens straddle words by half.
        let length = 10 + 4 * width as u32;
        let mut template = [zero; 16];
        template[0] = V::splat(be(&head[0..4]));
        template[1] = V::splat(be(&head[4..8]));
        template[2] = V::splat(u32::from(head[8]) << 24 | u32::from(head[9]) << 16);
        template[15] = V::splat(8 * (64 + length));
        let mut column = [0; MOST];
        let last = out.len().saturating_sub(1);
        for (batch, out) in out.chunks_mut(V::N).enumerate() {
            let mut message = template;
            for at in 0..width {
                for lane in 0..V::N {
                    column[lane] = ids[(batch * V::N + lane).min(last) * stride + at];
                }
                let token = V::load(&column).swap_bytes();
                message[2 + at] = message[2 + at].xor(token.shr::<16>());
                // The low half of the token, in the high half of the word.
                message[3 + at] = token.rotl::<16, 16>().and(V::splat(0xffff_0000));
            }
            message[2 + width] = message[2 + width].xor(V::splat(0x8000));
            let state = compress(&inner, message);
            let mut message = [zero; 16];
            message[..8].copy_from_slice(&state);
            message[8] = V::splat(0x8000_0000);
            message[15] = V::splat(8 * (64 + 32));
            let state = compress(&outer, message);
            let mut columns = [[0; MOST]; 8];
            for (word, column) in state.iter().zip(&mut columns) {
                // SHA-256 is big-endian, the key's words little-endian.
                word.swap_bytes().store(column);
            }
            for (lane, row) in out.iter_mut().enumerate() {
                *row = core::array::from_fn(|i| columns[i][lane]);
            }
        }
    }
}

/// [`super::tally`].
#[inline(always)]
pub(super) unsafe fn tally<V: Lanes>(
    key: &[u32; 8],
    stream: &Stream,
    number: u32,
    field: &Threshold,
    tiles: &mut Tiles,
) {
    // SAFETY: the caller's features.
    unsafe {
        let key = splat_key::<V>(key);
        let number = V::splat(number);
        let mut lanes = [0; MOST];
        for (lane, tile) in lanes.iter_mut().zip(tiles.first..) {
            *lane = tile;
        }
        let mut high = V::load(&lanes);
        let step = V::splat(V::N as u32);
        let (mask, threshold) = (V::splat(field.mask), V::splat(field.threshold));
        assert_eq!(tiles.lanes, V::N, "the tiles of another kernel");
        for counts in tiles.counts.chunks_exact_mut(16 * V::N) {
            let words = block(&key, number, high, stream);
            for (word, counts) in words.iter().zip(counts.chunks_exact_mut(V::N)) {
                let value = word.shr_by(field.shift).and(mask);
                // Both are below 2^31, so the sign says which is smaller.
                let below = value.sub(threshold).shr::<31>();
                V::load(counts).add(below).store(counts);
            }
            high = high.add(step);
        }
    }
}

/// The entry points of a kernel, compiled for its features.
macro_rules! entry_points {
    ($lanes:ty, $features:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn keystream(key: &[u32; 8], stream: &Stream, first: u64, out: &mut [u32]) {
            // SAFETY: this function is compiled for the features, here and below.
            unsafe { lanes::keystream::<$lanes>(key, stream, first, out) }
        }

        #[target_feature(enable = $features)]
        pub(super) fn words(key: &[u32; 8], stream: &Stream, places: &[Place], out: &mut [u32]) {
            // SAFETY: as above.
            unsafe { lanes::words::<$lanes>(key, stream, places, out) }
        }

        #[target_feature(enable = $features)]
        pub(super) fn words_of_rows(
            keys: &[[u32; 8]],
            which: &[u32],
            stream: &Stream,
            places: &[Place],
            out: &mut [u32],
        ) {
            // SAFETY: as above.
            unsafe { lanes::words_of_rows::<$lanes>(keys, which, stream, places, out) }
        }

        #[target_feature(enable = $features)]
        pub(super) fn rows(
            midstates: &Midstates<'_>,
            ids: &[u32],
            stride: usize,
            width: usize,
            out: &mut [[u32; 8]],
        ) {
            // SAFETY: as above.
            unsafe { lanes::rows::<$lanes>(midstates, ids, stride, width, out) }
        }

        #[target_feature(enable = $features)]
        pub(super) fn tally(
            key: &[u32; 8],
            stream: &Stream,
            block: u32,
            field: &Threshold,
            tiles: &mut Tiles,
        ) {
            // SAFETY: as above.
            unsafe { lanes::tally::<$lanes>(key, stream, block, field, tiles) }
        }

        #[target_feature(enable = $features)]
        pub(super) fn may_win(words: &[u32], weights: &[f32], limit: f32, out: &mut [u64]) {
            slices::may_win(words, weights, limit, out);
        }

        #[target_feature(enable = $features)]
        pub(super) fn add_neg_ln_q24(words: &[u32], scores: &mut [u64]) {
            slices::add_neg_ln_q24(words, scores);
        }

        #[target_feature(enable = $features)]
        pub(super) fn play(mass: &mut [f64], words: &[u32], layers: u32, leaves: u32) {
            slices::play(mass, words, layers, leaves);
        }

        #[target_feature(enable = $features)]
        pub(super) fn largest(weights: &[f32]) -> f32 {
            slices::largest(weights)
        }
    };
}
pub(super) use entry_points;

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const fn round_constants() -> [u32; 64] {
    let mut constants = [0; 64];
    let (mut prime, mut found) = (2u128, 0);
    while found < 64 {
        let mut divisor = 2;
        while divisor * divisor <= prime && !prime.is_multiple_of(divisor) {
            divisor += 1;
        }
        if divisor * divisor > prime {
            // floor(cbrt(prime) * 2^32), bit by bit: x^3 <= prime * 2^96.
            let (mut root, mut bit) = (0u128, 1u128 << 35);
            while bit > 0 {
                let next = root | bit;
                if next * next * next <= prime << 96 {
                    root = next;
                }
                bit >>= 1;
            }
            constants[found] = root as u32;
            found += 1;
        }
        prime += 1;
    }
    constants
}
