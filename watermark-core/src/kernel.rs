//! The machine code behind the keyed function: portable, AVX2 and AVX-512, chosen at run time.
//!
//! Every kernel gives the same words, masks and sums, bit for bit; they differ in speed only. The
//! portable one, whose words are those of rand_chacha and sha2, is the oracle of the others
//! (this module's tests). ChaCha and SHA-256 are written once, over `lanes::Lanes`: a vector of
//! N words, one a lane. All of the library's `unsafe` code for vectors is in this module, for two
//! reasons: a function compiled for AVX2 or AVX-512 may run only where the processor has it, which
//! [`Kernel`] guarantees by construction; and loads and stores take pointers, whose lengths are
//! asserted beside them.

#![allow(
    unsafe_code,
    reason = "vector code runs only where the processor has it; see above"
)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_macros, unused_imports)
)]
mod lanes;
mod portable;
mod slices;

/// A set of machine code for the keyed function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kernel {
    /// Any machine; rand_chacha and sha2, which use what they find themselves.
    Portable = 1,
    /// x86-64 with AVX2: eight lanes.
    Avx2 = 2,
    /// x86-64 with AVX-512 F, BW, DQ and VL (every server since Skylake, Zen 4 and later): sixteen lanes.
    Avx512 = 3,
}

/// A kernel that this machine cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this processor cannot run the {} kernel", .0.name())]
pub struct UnsupportedKernel(pub Kernel);

/// The kernel in use, 0 before the first use.
static CURRENT: AtomicU8 = AtomicU8::new(0);

impl Kernel {
    /// Every kernel, from the slowest.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        matches!(self, Self::Portable)
    }

    /// Those that this machine can run, from the slowest.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.is_available())
    }

    /// The kernel in use: the fastest one available, unless another was [selected](Self::select).
    pub fn current() -> Self {
        match CURRENT.load(Ordering::Relaxed) {
            1 => Self::Portable,
            2 => Self::Avx2,
            3 => Self::Avx512,
            _ => {
                let best = Self::available().last().unwrap_or(Self::Portable);
                CURRENT.store(best as u8, Ordering::Relaxed);
                best
            }
        }
    }

    /// Makes this the kernel of the whole process, for measurements and checks: results do not depend on
    /// it.
    ///
    /// # Errors
    /// This machine cannot run it.
    pub fn select(self) -> Result<(), UnsupportedKernel> {
        if self.is_available() {
            CURRENT.store(self as u8, Ordering::Relaxed);
            Ok(())
        } else {
            Err(UnsupportedKernel(self))
        }
    }
}

impl core::str::FromStr for Kernel {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kernel| kernel.name() == name);
        found.ok_or_else(|| format!("no kernel is named {name:?}: portable, avx2 or avx512"))
    }
}

/// Where a word stands in the keystream of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Low half of the block's number.
    pub(crate) block: u32,
    /// Word of the block, below 16.
    pub(crate) word: u32,
}

/// What the blocks of a read have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// High half of the block's number.
    pub(crate) high: u32,
    /// Words 14 and 15.
    pub(crate) nonce: [u32; 2],
    /// 4 or 10.
    pub(crate) double_rounds: u32,
}

/// HMAC with both halves of the key taken in, and the first ten bytes of the message.
#[derive(Clone, Copy)]
pub(crate) struct Midstates<'a> {
    pub(crate) inner: &'a [u32; 8],
    pub(crate) outer: &'a [u32; 8],
    /// Domain, role and width.
    pub(crate) head: [u8; 10],
}

/// Runs an operation with a kernel, which must be available.
macro_rules! dispatch {
    ($kernel:expr, $name:ident ( $($argument:expr),* )) => {
        match $kernel {
            // SAFETY: the kernel is `current`, or one of `available` in tests, and so `is_available` found
            // the features that its functions are compiled for.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::$name($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Avx2 => unsafe { avx2::$name($($argument),*) },
            _ => portable::$name($($argument),*),
        }
    };
}

/// Consecutive blocks of one row from block `first` (of 2^64; `high` of the stream is not used), `out` from the first
/// word of the first.
pub(crate) fn keystream(key: &[u32; 8], stream: &Stream, first: u64, out: &mut [u32]) {
    dispatch!(Kernel::current(), keystream(key, stream, first, out));
}

/// One word of one row for every place.
pub(crate) fn words(key: &[u32; 8], stream: &Stream, places: &[Place], out: &mut [u32]) {
    assert_eq!(places.len(), out.len());
    dispatch!(Kernel::current(), words(key, stream, places, out));
}

/// One word a row: `out[i]` is that at `places[i]` of row `keys[which[i]]`.
pub(crate) fn words_of_rows(
    keys: &[[u32; 8]],
    which: &[u32],
    stream: &Stream,
    places: &[Place],
    out: &mut [u32],
) {
    assert_eq!(places.len(), out.len());
    assert_eq!(which.len(), out.len());
    dispatch!(
        Kernel::current(),
        words_of_rows(keys, which, stream, places, out)
    );
}

/// The row of every window. Window i is `ids[i * stride..][..width]`, `width` at most
/// [`MAX_CONTEXT`](crate::prf::MAX_CONTEXT).
pub(crate) fn rows(
    midstates: &Midstates<'_>,
    ids: &[u32],
    stride: usize,
    width: usize,
    out: &mut [[u32; 8]],
) {
    assert!(width <= crate::prf::MAX_CONTEXT);
    assert!(out.is_empty() || ids.len() >= (out.len() - 1) * stride + width);
    dispatch!(Kernel::current(), rows(midstates, ids, stride, width, out));
}

/// Adds `delta` to the logits whose bit is set: token `32 i + j` is bit j of word i.
pub(crate) fn add_where(logits: &mut [f32], mask: &[u32], delta: f32) {
    assert!(mask.len() * 32 >= logits.len());
    dispatch!(Kernel::current(), add_where(logits, mask, delta));
}

/// One bit a field of `bits` bits: is it below `threshold`? `words` holds `bits` words for every word of the mask.
pub(crate) fn below(words: &[u32], bits: u32, threshold: u32, mask: &mut [u32]) {
    assert_eq!(words.len(), mask.len() * bits as usize);
    dispatch!(Kernel::current(), below(words, bits, threshold, mask));
}

/// One bit an index (bit j of word i is `64 i + j`): may `word * 2^-32 <= limit * weight` hold? Bits may be set
/// where it just fails, and are where it holds. `limit` and weights that are not NaN are not negative.
pub(crate) fn may_win(words: &[u32], weights: &[f32], limit: f32, out: &mut [u64]) {
    assert_eq!(words.len(), weights.len());
    assert_eq!(out.len(), words.len().div_ceil(64));
    dispatch!(Kernel::current(), may_win(words, weights, limit, out));
}

/// Largest weight; NaN and what is not positive count as 0.
pub(crate) fn largest(weights: &[f32]) -> f32 {
    dispatch!(Kernel::current(), largest(weights))
}

/// Adds [`neg_ln_q24`](crate::fixed::neg_ln_q24) of every word to its score.
pub(crate) fn add_neg_ln_q24(words: &[u32], scores: &mut [u64]) {
    assert!(scores.len() >= words.len());
    dispatch!(Kernel::current(), add_neg_ln_q24(words, scores));
}

/// For 16 accounts a block, blocks `first..`: adds 1 to the count of every account whose field, of the row's
/// word `block` of its stream, is below the threshold. `counts` holds 16 counts a block, in order of accounts.
pub(crate) fn tally(
    key: &[u32; 8],
    stream: &Stream,
    block: u32,
    field: &Threshold,
    tiles: &mut Tiles,
) {
    dispatch!(tiles.kernel, tally(key, stream, block, field, tiles));
}

/// Plays layers 0 to `layers` of a tournament with `leaves` competitors a match: bit l of a word is the token's bit in
/// layer l. `mass` need not sum to 1, and keeps its sum.
pub(crate) fn play(mass: &mut [f64], words: &[u32], layers: u32, leaves: u32) {
    assert_eq!(mass.len(), words.len());
    dispatch!(Kernel::current(), play(mass, words, layers, leaves));
}

/// A field of a word, and the bound that it is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threshold {
    pub(crate) shift: u32,
    /// All ones in the field's width, at most 16 bits.
    pub(crate) mask: u32,
    pub(crate) threshold: u32,
}

/// Counts of consecutive tiles of 16 accounts, in the order that suits the kernel that made them.
#[derive(Debug)]
pub(crate) struct Tiles {
    kernel: Kernel,
    first: u32,
    /// Tiles a group: the kernel's lanes. A group holds word 0 of its tiles, then word 1, and so on.
    lanes: usize,
    counts: Vec<u32>,
}

impl Tiles {
    /// Zero counts of tiles `first..first + tiles`, for the kernel in use.
    pub(crate) fn new(first: u32, tiles: usize) -> Self {
        Self::of(Kernel::current(), first, tiles)
    }

    fn of(kernel: Kernel, first: u32, tiles: usize) -> Self {
        let lanes = match kernel {
            Kernel::Avx512 => 16,
            Kernel::Avx2 => 8,
            Kernel::Portable => 1,
        };
        Self {
            kernel,
            first,
            lanes,
            counts: vec![0; tiles.next_multiple_of(lanes) * 16],
        }
    }

    /// The count of every account of the tiles, and of some more, in order from `16 * first`.
    pub(crate) fn into_counts(self) -> Vec<u32> {
        let group = 16 * self.lanes;
        let place = |account: usize| {
            let (tile, word) = (account / 16, account % 16);
            (tile / self.lanes) * group + word * self.lanes + tile % self.lanes
        };
        (0..self.counts.len())
            .map(|account| self.counts[place(account)])
            .collect()
    }
}

/// The row of one window, as [`rows`] gives it.
pub(crate) fn row(midstates: &Midstates<'_>, window: &[u32]) -> [u32; 8] {
    portable::row(midstates, window)
}

/// One word of one row, as [`words`] gives it.
pub(crate) fn word(key: &[u32; 8], stream: &Stream, place: Place) -> u32 {
    portable::word(key, stream, place)
}

/// Memory of the thread for a step's numbers, in no particular state: once a thread has it, steps do not
/// allocate. Calls of one type may be nested; the inner one then allocates.
pub(crate) fn scratch<T: Number, R>(len: usize, with: impl FnOnce(&mut [T]) -> R) -> R {
    let mut memory = T::take();
    if memory.len() < len {
        memory.resize(len, T::default());
    }
    let result = with(&mut memory[..len]);
    T::keep(memory);
    result
}

/// A number that [`scratch`] has memory for.
pub(crate) trait Number: Copy + Default {
    fn take() -> Vec<Self>;
    fn keep(memory: Vec<Self>);
}

macro_rules! number {
    ($type:ty, $memory:ident) => {
        thread_local! {
            static $memory: Cell<Vec<$type>> = const { Cell::new(Vec::new()) };
        }
        impl Number for $type {
            fn take() -> Vec<Self> {
                $memory.take()
            }
            fn keep(memory: Vec<Self>) {
                $memory.set(memory);
            }
        }
    };
}
number!(f64, WEIGHTS);
number!(u32, WORDS);

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    fn others() -> Vec<Kernel> {
        Kernel::available().skip(1).collect()
    }

    fn draw(rng: &mut ChaCha8Rng, len: usize) -> Vec<u32> {
        (0..len).map(|_| rng.next_u32()).collect()
    }

    fn streams(rng: &mut ChaCha8Rng) -> Stream {
        Stream {
            high: rng.next_u32(),
            nonce: [rng.next_u32(), rng.next_u32()],
            double_rounds: if rng.next_u32().is_multiple_of(4) {
                10
            } else {
                4
            },
        }
    }

    /// Lengths around the lanes of every kernel.
    const LENGTHS: [usize; 12] = [0, 1, 7, 8, 9, 15, 16, 17, 31, 100, 256, 1031];

    #[test]
    fn keystreams_are_those_of_rand_chacha() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for length in LENGTHS {
            let key = draw(&mut rng, 8).try_into().unwrap();
            let stream = streams(&mut rng);
            // Also where the low half of the block number overflows.
            for first in [u64::from(rng.next_u32()), (7 << 32) - 3] {
                let mut expected = vec![0; length];
                portable::keystream(&key, &stream, first, &mut expected);
                for kernel in others() {
                    let mut words = vec![0; length];
                    dispatch!(kernel, keystream(&key, &stream, first, &mut words));
                    assert_eq!(words, expected, "{kernel:?}");
                }
            }
        }
    }

    #[test]
    fn single_words_are_those_of_keystreams() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for length in LENGTHS {
            let keys: Vec<[u32; 8]> = (0..5)
                .map(|_| draw(&mut rng, 8).try_into().unwrap())
                .collect();
            let stream = streams(&mut rng);
            let places: Vec<Place> = (0..length)
                .map(|_| Place {
                    block: rng.next_u32(),
                    word: rng.next_u32() % 16,
                })
                .collect();
            let which: Vec<u32> = (0..length).map(|_| rng.next_u32() % 5).collect();
            let expected = |row: &dyn Fn(usize) -> usize| -> Vec<u32> {
                let word = |i: usize| {
                    let (place, mut block) = (places[i], [0; 16]);
                    let number = u64::from(place.block) | u64::from(stream.high) << 32;
                    portable::keystream(&keys[row(i)], &stream, number, &mut block);
                    block[place.word as usize]
                };
                (0..length).map(word).collect()
            };
            let (of_one, of_many) = (expected(&|_| 0), expected(&|i| which[i] as usize));
            for kernel in Kernel::available() {
                let mut words = vec![0; length];
                dispatch!(kernel, words(&keys[0], &stream, &places, &mut words));
                assert_eq!(words, of_one, "{kernel:?}");
                dispatch!(
                    kernel,
                    words_of_rows(&keys, &which, &stream, &places, &mut words)
                );
                assert_eq!(words, of_many, "{kernel:?}");
            }
        }
    }

    #[test]
    fn rows_are_those_of_sha2() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for length in LENGTHS {
            for width in 0..=crate::prf::MAX_CONTEXT {
                let state: [[u32; 8]; 2] =
                    core::array::from_fn(|_| draw(&mut rng, 8).try_into().unwrap());
                let mut head = [0; 10];
                rng.fill_bytes(&mut head);
                let midstates = Midstates {
                    inner: &state[0],
                    outer: &state[1],
                    head,
                };
                let stride = width + (rng.next_u32() % 3) as usize;
                let ids = draw(&mut rng, length * stride + width);
                let mut expected = vec![[0; 8]; length];
                portable::rows(&midstates, &ids, stride, width, &mut expected);
                for kernel in others() {
                    let mut rows = vec![[0; 8]; length];
                    dispatch!(kernel, rows(&midstates, &ids, stride, width, &mut rows));
                    assert_eq!(rows, expected, "{kernel:?}, width {width}");
                }
            }
        }
    }

    #[test]
    fn masks_and_additions_are_the_same() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for length in LENGTHS {
            for (bits, threshold) in [
                (1, 1),
                (2, 1),
                (2, 2),
                (2, 3),
                (4, 7),
                (8, 1),
                (8, 255),
                (16, 6554),
            ] {
                let words = draw(&mut rng, length * bits as usize);
                let mut expected = vec![0; length];
                for (token, field) in (0..length as u32 * 32).enumerate() {
                    let at = field * bits;
                    let value = words[at as usize / 32] >> (at % 32) & (u32::MAX >> (32 - bits));
                    expected[token / 32] |= u32::from(value < threshold) << (token % 32);
                }
                for kernel in Kernel::available() {
                    let mut mask = vec![0; length];
                    dispatch!(kernel, below(&words, bits, threshold, &mut mask));
                    assert_eq!(mask, expected, "{kernel:?}, {bits} bits below {threshold}");
                }
            }
            let mask = draw(&mut rng, length.div_ceil(32));
            let mut logits: Vec<f32> = (0..length).map(|i| i as f32 - 40.0).collect();
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
            logits.iter_mut().zip(odd).for_each(|(x, odd)| *x = odd);
            let expected: Vec<u32> = (0..length)
                .map(|i| match mask[i / 32] >> (i % 32) & 1 {
                    0 => logits[i].to_bits(),
                    _ => (logits[i] + 1.5).to_bits(),
                })
                .collect();
            for kernel in Kernel::available() {
                let mut logits = logits.clone();
                dispatch!(kernel, add_where(&mut logits, &mask, 1.5));
                let bits: Vec<u32> = logits.iter().map(|x| x.to_bits()).collect();
                assert_eq!(bits, expected, "{kernel:?}");
            }
        }
    }

    #[test]
    fn no_winner_is_missed_and_few_are_kept() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for length in LENGTHS {
            let words: Vec<u32> = (0..length)
                .map(|_| rng.next_u32() >> (rng.next_u32() % 32))
                .collect();
            let mut weights: Vec<f32> = (0..length)
                .map(|_| rng.next_u32() as f32 * 2f32.powi((rng.next_u32() % 64) as i32 - 64))
                .collect();
            let odd = [f32::NAN, 0.0, f32::MIN_POSITIVE / 4.0, -1.0];
            weights.iter_mut().zip(odd).for_each(|(x, odd)| *x = odd);
            for limit in [1e-9f32, 1e-3, 1.0, 1e3] {
                for kernel in Kernel::available() {
                    let mut bits = vec![0; length.div_ceil(64)];
                    dispatch!(kernel, may_win(&words, &weights, limit, &mut bits));
                    for i in 0..length {
                        let kept = bits[i / 64] >> (i % 64) & 1 == 1;
                        let time = f64::from(words[i]) / 4_294_967_296.0;
                        let bound = f64::from(limit) * f64::from(weights[i]);
                        assert!(
                            kept || bound.is_nan() || time > bound,
                            "{kernel:?} misses {i}"
                        );
                        assert!(
                            !kept || time <= bound * 1.00001 + 3e-10,
                            "{kernel:?} keeps {i}: {time} above {bound}"
                        );
                    }
                }
            }
            // Sums are in one order, so that kernels agree to the last bit.
            for (layers, leaves) in [(30, 2), (5, 3)] {
                let mut expected: Vec<f64> = (0..length).map(|i| 1.0 / (i + 1) as f64).collect();
                let start = expected.clone();
                portable::play(&mut expected, &words, layers, leaves);
                for kernel in others() {
                    let mut mass = start.clone();
                    dispatch!(kernel, play(&mut mass, &words, layers, leaves));
                    assert_eq!(mass, expected, "{kernel:?}");
                }
            }
            for kernel in Kernel::available() {
                let largest = dispatch!(kernel, largest(&weights));
                let expected = weights.iter().copied().fold(0.0, f32::max);
                assert_eq!(largest, expected, "{kernel:?}");
            }
        }
    }

    #[test]
    fn logarithms_are_those_of_one_at_a_time() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let edges = (0..200).chain((3..32).flat_map(|bit| (1u32 << bit) - 3..(1 << bit) + 3));
        let words: Vec<u32> = edges
            .chain(u32::MAX - 200..=u32::MAX)
            // Of every size.
            .chain((0..300_000).map(|i| rng.next_u32() >> (i % 32)))
            .collect();
        for kernel in Kernel::available() {
            let mut scores = vec![5; words.len() + 1];
            dispatch!(kernel, add_neg_ln_q24(&words, &mut scores));
            assert_eq!(scores.pop(), Some(5));
            for (&word, score) in words.iter().zip(scores) {
                assert_eq!(
                    score,
                    5 + crate::fixed::neg_ln_q24(word),
                    "{kernel:?}, {word}"
                );
            }
        }
    }

    /// All of them: a minute of one core, in release.
    #[test]
    #[ignore = "2^32 words; run in release after a change of the logarithm"]
    fn every_logarithm_is_that_of_one_at_a_time() {
        let mut scores = vec![0; 1 << 16];
        for high in 0..1 << 16 {
            let words: Vec<u32> = (0..1 << 16).map(|low| high << 16 | low).collect();
            scores.fill(0);
            add_neg_ln_q24(&words, &mut scores);
            for (&word, &score) in words.iter().zip(&scores) {
                assert_eq!(score, crate::fixed::neg_ln_q24(word), "{word}");
            }
        }
    }

    #[test]
    fn tallies_are_those_of_single_words() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        for tiles in [1, 7, 16, 33] {
            let first = rng.next_u32() >> 8;
            let cells: Vec<([u32; 8], u32, Threshold)> = (0..20)
                .map(|_| {
                    let field = Threshold {
                        shift: 8 * (rng.next_u32() % 4),
                        mask: 255,
                        threshold: rng.next_u32() % 255 + 1,
                    };
                    (draw(&mut rng, 8).try_into().unwrap(), rng.next_u32(), field)
                })
                .collect();
            let stream = streams(&mut rng);
            let mut expected = vec![0; tiles * 16];
            for (key, block, field) in &cells {
                for (account, count) in expected.iter_mut().enumerate() {
                    let stream = Stream {
                        high: first + account as u32 / 16,
                        ..stream
                    };
                    let place = Place {
                        block: *block,
                        word: account as u32 % 16,
                    };
                    let value = portable::word(key, &stream, place) >> field.shift & field.mask;
                    *count += u32::from(value < field.threshold);
                }
            }
            for kernel in Kernel::available() {
                let mut counts = Tiles::of(kernel, first, tiles);
                for (key, block, field) in &cells {
                    tally(key, &stream, *block, field, &mut counts);
                }
                assert_eq!(counts.into_counts()[..tiles * 16], expected, "{kernel:?}");
            }
        }
    }

    #[test]
    fn kernels_have_names_and_the_best_one_runs() {
        for kernel in Kernel::ALL {
            assert_eq!(kernel.name().parse(), Ok(kernel));
        }
        assert!("sse9".parse::<Kernel>().is_err());
        assert_eq!(Some(Kernel::current()), Kernel::available().last());
    }
}
