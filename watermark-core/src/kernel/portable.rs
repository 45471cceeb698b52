//! The kernel for any machine: rand_chacha for keystreams, one block at a time for single words,
//! sha2 for rows.

use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng, SeedableRng};
use sha2::block_api::compress256;

pub(super) use super::slices::{add_neg_ln_q24, add_where, below, largest, may_win, play};
use super::{Midstates, Place, Stream, Threshold, Tiles};

/// What the two generators of rand_chacha have in common beyond their traits.
trait Seek: SeedableRng<Seed = [u8; 32]> + Rng {
    fn seek(&mut self, stream: u64, position: u128);
}

impl Seek for ChaCha8Rng {
    fn seek(&mut self, stream: u64, position: u128) {
        self.set_stream(stream);
        self.set_word_pos(position);
    }
}

impl Seek for ChaCha20Rng {
    fn seek(&mut self, stream: u64, position: u128) {
        self.set_stream(stream);
        self.set_word_pos(position);
    }
}

pub(super) fn keystream(key: &[u32; 8], stream: &Stream, first: u64, out: &mut [u32]) {
    if stream.double_rounds == 4 {
        fill::<ChaCha8Rng>(key, stream, first, out);
    } else {
        fill::<ChaCha20Rng>(key, stream, first, out);
    }
}

fn fill<R: Seek>(key: &[u32; 8], stream: &Stream, first: u64, out: &mut [u32]) {
    let mut seed = [0; 32];
    for (four, word) in seed.chunks_exact_mut(4).zip(key) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = R::from_seed(seed);
    let [low, high] = stream.nonce.map(u64::from);
    rng.seek(low | high << 32, u128::from(first) * 16);
    // In pieces: drawing word by word costs two hundred times as much.
    let mut bytes = [0; 4096];
    for words in out.chunks_mut(bytes.len() / 4) {
        let bytes = &mut bytes[..words.len() * 4];
        rng.fill_bytes(bytes);
        for (word, four) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*four);
        }
    }
}

pub(super) fn words(key: &[u32; 8], stream: &Stream, places: &[Place], out: &mut [u32]) {
    for (out, place) in out.iter_mut().zip(places) {
        *out = word(key, stream, *place);
    }
}

pub(super) fn words_of_rows(
    keys: &[[u32; 8]],
    which: &[u32],
    stream: &Stream,
    places: &[Place],
    out: &mut [u32],
) {
    for ((out, place), &row) in out.iter_mut().zip(places).zip(which) {
        *out = word(&keys[row as usize], stream, *place);
    }
}

pub(super) fn rows(
    midstates: &Midstates<'_>,
    ids: &[u32],
    stride: usize,
    width: usize,
    out: &mut [[u32; 8]],
) {
    for (index, out) in out.iter_mut().enumerate() {
        *out = row(midstates, &ids[index * stride..][..width]);
    }
}

/// HMAC-SHA256 of the head and the window, as the little-endian words that ChaCha takes.
pub(super) fn row(midstates: &Midstates<'_>, window: &[u32]) -> [u32; 8] {
    // One padded block: message, 0x80, zeros, length in bits (the key's block counts).
    let mut block = [0; 64];
    block[..10].copy_from_slice(&midstates.head);
    let end = 10 + 4 * window.len();
    for (four, token) in block[10..end].as_chunks_mut().0.iter_mut().zip(window) {
        *four = token.to_le_bytes();
    }
    block[end] = 0x80;
    block[62..].copy_from_slice(&(8 * (64 + end as u16)).to_be_bytes());
    let mut inner = *midstates.inner;
    compress256(&mut inner, &[block]);

    let mut block = [0; 64];
    for (four, word) in block.as_chunks_mut().0.iter_mut().zip(inner) {
        *four = word.to_be_bytes();
    }
    block[32] = 0x80;
    block[62..].copy_from_slice(&(8u16 * (64 + 32)).to_be_bytes());
    let mut outer = *midstates.outer;
    compress256(&mut outer, &[block]);
    outer.map(u32::swap_bytes)
}

/// One word, by one block; rand_chacha makes four where one is wanted.
pub(super) fn word(key: &[u32; 8], stream: &Stream, place: Place) -> u32 {
    let (row, column) = ((place.word >> 2 & 3) as usize, (place.word & 3) as usize);
    block(key, stream, place.block, stream.high)[row][column]
}

/// Four words at a time, in the shape of vector registers.
type Four = [u32; 4];

fn block(key: &[u32; 8], stream: &Stream, low: u32, high: u32) -> [Four; 4] {
    let mut a = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    let mut b = [key[0], key[1], key[2], key[3]];
    let mut c = [key[4], key[5], key[6], key[7]];
    let mut d = [low, high, stream.nonce[0], stream.nonce[1]];
    let start = [a, b, c, d];
    for _ in 0..stream.double_rounds {
        quarter_rounds(&mut a, &mut b, &mut c, &mut d);
        // The diagonals become columns, and back.
        (b, c, d) = (turn::<1>(b), turn::<2>(c), turn::<3>(d));
        quarter_rounds(&mut a, &mut b, &mut c, &mut d);
        (b, c, d) = (turn::<3>(b), turn::<2>(c), turn::<1>(d));
    }
    let end = [a, b, c, d];
    core::array::from_fn(|i| core::array::from_fn(|j| end[i][j].wrapping_add(start[i][j])))
}

#[inline(always)]
fn turn<const BY: usize>(x: Four) -> Four {
    core::array::from_fn(|i| x[(i + BY) % 4])
}

/// RFC 8439, section 2.1, on the four columns.
#[inline(always)]
fn quarter_rounds(a: &mut Four, b: &mut Four, c: &mut Four, d: &mut Four) {
    let add = |x: &mut Four, y: &Four| (0..4).for_each(|i| x[i] = x[i].wrapping_add(y[i]));
    let mix = |x: &mut Four, y: &Four, by| {
        (0..4).for_each(|i| x[i] = (x[i] ^ y[i]).rotate_left(by));
    };
    add(a, b);
    mix(d, a, 16);
    add(c, d);
    mix(b, c, 12);
    add(a, b);
    mix(d, a, 8);
    add(c, d);
    mix(b, c, 7);
}

pub(super) fn tally(
    key: &[u32; 8],
    stream: &Stream,
    number: u32,
    field: &Threshold,
    tiles: &mut Tiles,
) {
    for (high, counts) in (tiles.first..).zip(tiles.counts.as_chunks_mut::<16>().0) {
        let words = block(key, stream, number, high);
        for (word, count) in words.as_flattened().iter().zip(counts) {
            let value = word >> field.shift & field.mask;
            *count += u32::from(value < field.threshold);
        }
    }
}
