//! The keyed function "wmk1": (scheme key, window) to a row seed; row seed to words.
//!
//! HMAC-SHA256 stands in front of the key: what runs per token (ChaCha) only ever sees a row
//! seed, a throw-away key of one window. SPEC.md has every byte.

use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng, SeedableRng};
use sha2::block_api::compress256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::key::SlotKey;

/// Widest context: with it the HMAC message still fits one block, so that a row seed costs
/// exactly two compressions.
pub const MAX_CONTEXT: usize = 11;

/// The initial state of SHA-256 (FIPS 180-4, section 5.3.3).
const SHA256_INIT: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Which of a row's independent word sequences is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Lane {
    /// Membership in the green list.
    Green = 0,
    /// The uniforms of Gumbel-max.
    Gumbel = 1,
    /// The layers of a tournament.
    Tournament = 2,
    /// Choices that must be independent of the score: the anchor of self-hash.
    Auxiliary = 3,
}

/// Why a row seed is drawn: different roles of one window give independent seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The only key, or key A of two.
    A = 0,
    /// Key B of dual-key schemes.
    B = 1,
    /// One context token of a self-hash window.
    Anchor = 2,
}

/// Rounds of ChaCha.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Rounds {
    /// ChaCha8, the default: it only runs under a throw-away key.
    #[default]
    Eight,
    /// ChaCha20, for whoever wants the conservative margin.
    Twenty,
}

impl From<Rounds> for u8 {
    fn from(rounds: Rounds) -> u8 {
        match rounds {
            Rounds::Eight => 8,
            Rounds::Twenty => 20,
        }
    }
}

impl TryFrom<u8> for Rounds {
    type Error = String;
    fn try_from(rounds: u8) -> Result<Self, String> {
        match rounds {
            8 => Ok(Self::Eight),
            20 => Ok(Self::Twenty),
            other => Err(format!("rounds must be 8 or 20, not {other}")),
        }
    }
}

/// How the words of a row are shared between accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Tile 1, account 0: one mark for all traffic. Distillation and campaigns read this.
    Provider,
    /// Tile 16, accounts from 1: a mark per account. For leaked texts, not for models.
    Leak,
}

impl Slot {
    /// The byte bound into the scheme key.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::Leak => 1,
        }
    }

    /// Accounts that share a block of words.
    pub fn tile(self) -> u8 {
        match self {
            Self::Provider => 1,
            Self::Leak => 16,
        }
    }
}

/// A field of `bits` bits for every token, at a fixed place in a row's words (SPEC.md section 5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) lane: Lane,
    /// Which 32 layers of a tournament; 0 for everything else.
    pub(crate) plane: u32,
    /// 1, 2, 4, 8, 16 or 32.
    pub(crate) bits: u32,
    pub(crate) slot: Slot,
    /// 0 for a provider slot, from 1 for a leak slot.
    pub(crate) account: u32,
}

impl Field {
    /// Index of the word of `token` among the words of the lane, and the shift in it.
    fn place(&self, token: u32) -> (u128, u32) {
        let at = u64::from(token) * u64::from(self.bits);
        let (index, shift) = (at >> 5, (at & 31) as u32);
        let account = u128::from(self.account);
        let position = match self.slot {
            Slot::Provider => (account << 36) + u128::from(index),
            Slot::Leak => ((account >> 4) << 36) + (u128::from(index) << 4) + (account & 15),
        };
        (position, shift)
    }

    fn mask(&self) -> u32 {
        u32::MAX >> (32 - self.bits)
    }
}

/// One row: the words of one window under one key and role.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RowSeed {
    bytes: [u8; 32],
    rounds: Rounds,
}

impl RowSeed {
    /// The 32 bytes C of SPEC.md section 3.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Eight of the bytes, for fingerprints.
    pub(crate) fn fingerprint(&self) -> u64 {
        u64::from_le_bytes(self.bytes[..8].try_into().expect("eight bytes"))
    }

    /// The field's value for one token: one block.
    pub(crate) fn value(&self, field: &Field, token: u32) -> u32 {
        let (position, shift) = field.place(token);
        (self.word(field, position) >> shift) & field.mask()
    }

    /// One word of the lane. rand_chacha, which [`fill`](Self::fill) uses, makes four blocks
    /// where one is wanted.
    fn word(&self, field: &Field, position: u128) -> u32 {
        let key: [u32; 8] = core::array::from_fn(|i| {
            u32::from_le_bytes(self.bytes[4 * i..4 * i + 4].try_into().expect("four bytes"))
        });
        let block = (position >> 4) as u64;
        let mut a = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
        let mut b = [key[0], key[1], key[2], key[3]];
        let mut c = [key[4], key[5], key[6], key[7]];
        let mut d = [
            block as u32,
            (block >> 32) as u32,
            field.lane as u32,
            field.plane,
        ];
        let start = [a, b, c, d];
        for _ in 0..u8::from(self.rounds) / 2 {
            quarter_rounds(&mut a, &mut b, &mut c, &mut d);
            // The diagonals become columns, and back.
            (b, c, d) = (turn::<1>(b), turn::<2>(c), turn::<3>(d));
            quarter_rounds(&mut a, &mut b, &mut c, &mut d);
            (b, c, d) = (turn::<3>(b), turn::<2>(c), turn::<1>(d));
        }
        let (row, column) = ((position >> 2 & 3) as usize, (position & 3) as usize);
        [a, b, c, d][row][column].wrapping_add(start[row][column])
    }

    /// The words that hold the fields of tokens `first`, `first + 1`, ... in order, `32 / bits`
    /// tokens a word, the first in the lowest bits; `first` starts a word. With one bit a token
    /// this is the mask layout of constrained-decoding engines: token `32 i + j` is bit `j` of
    /// word `i`.
    pub(crate) fn fill(&self, field: &Field, first: u32, out: &mut [u32]) {
        let (position, shift) = field.place(first);
        debug_assert_eq!(shift, 0, "a fill starts at a word");
        match (field.slot, self.rounds) {
            (Slot::Provider, Rounds::Eight) => fill::<ChaCha8Rng>(self.bytes, field, position, out),
            (Slot::Provider, Rounds::Twenty) => {
                fill::<ChaCha20Rng>(self.bytes, field, position, out);
            }
            // Neighbouring words of one account lie in different blocks.
            (Slot::Leak, _) => {
                let whole = Field { bits: 32, ..*field };
                for (token, word) in (first / (32 / field.bits)..).zip(out) {
                    *word = self.value(&whole, token);
                }
            }
        }
    }
}

impl core::fmt::Debug for RowSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RowSeed(..)")
    }
}

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

fn at<R: Seek>(seed: [u8; 32], field: &Field, position: u128) -> R {
    let mut rng = R::from_seed(seed);
    rng.seek(field.lane as u64 | (u64::from(field.plane) << 32), position);
    rng
}

/// Four words at a time, in the shape of vector registers.
type Four = [u32; 4];

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

fn fill<R: Seek>(seed: [u8; 32], field: &Field, position: u128, out: &mut [u32]) {
    let mut rng = at::<R>(seed, field, position);
    // In pieces: drawing word by word costs two hundred times as much.
    let mut bytes = [0; 4096];
    for words in out.chunks_mut(bytes.len() / 4) {
        let bytes = &mut bytes[..words.len() * 4];
        rng.fill_bytes(bytes);
        for (word, four) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(four.try_into().expect("four bytes"));
        }
    }
}

/// What is bound into the scheme key, so that the same slot key under other parameters is an
/// unrelated key (SPEC.md section 2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) scheme: u8,
    pub(crate) context_width: u8,
    pub(crate) bits: u8,
    pub(crate) parameter: u32,
    pub(crate) slot: Slot,
    pub(crate) rounds: Rounds,
}

/// The function from windows to row seeds under one scheme key K, with the two halves of HMAC
/// computed once: a row seed is then two compressions instead of four.
#[derive(ZeroizeOnDrop)]
pub(crate) struct Prf {
    inner: [u32; 8],
    outer: [u32; 8],
    #[zeroize(skip)]
    rounds: Rounds,
}

impl Prf {
    pub(crate) fn new(slot_key: &SlotKey, binding: &Binding) -> Self {
        let key = Self::scheme_key(slot_key, binding);
        let half = |pad: u8| {
            let mut block = Zeroizing::new([pad; 64]);
            block.iter_mut().zip(key.iter()).for_each(|(b, k)| *b ^= k);
            let mut state = SHA256_INIT;
            compress256(&mut state, &[*block]);
            state
        };
        Self {
            inner: half(0x36),
            outer: half(0x5c),
            rounds: binding.rounds,
        }
    }

    fn scheme_key(slot_key: &SlotKey, binding: &Binding) -> Zeroizing<[u8; 32]> {
        let parameters = [
            binding.slot.byte(),
            binding.scheme,
            binding.context_width,
            binding.slot.tile(),
            binding.bits,
            u8::from(binding.rounds),
        ];
        slot_key.derive(&[
            b"wmk1/scheme",
            &parameters,
            &binding.parameter.to_le_bytes(),
        ])
    }

    /// `C = H(K, "wmk1/ctx" || role u8 || h u8 || window, u32 LE each)`.
    pub(crate) fn row_seed(&self, role: Role, window: &[u32]) -> RowSeed {
        debug_assert!(window.len() <= MAX_CONTEXT);
        // One padded block: message, 0x80, zeros, length in bits (the key's block counts).
        let mut block = [0; 64];
        block[..8].copy_from_slice(b"wmk1/ctx");
        block[8] = role as u8;
        block[9] = window.len() as u8;
        let end = 10 + 4 * window.len();
        for (four, token) in block[10..end].chunks_exact_mut(4).zip(window) {
            four.copy_from_slice(&token.to_le_bytes());
        }
        block[end] = 0x80;
        block[62..].copy_from_slice(&(8 * (64 + end as u16)).to_be_bytes());
        let mut inner = self.inner;
        compress256(&mut inner, &[block]);

        let mut block = [0; 64];
        put_state(&inner, &mut block[..32]);
        block[32] = 0x80;
        block[62..].copy_from_slice(&(8u16 * (64 + 32)).to_be_bytes());
        let mut outer = self.outer;
        compress256(&mut outer, &[block]);
        let mut bytes = [0; 32];
        put_state(&outer, &mut bytes);
        RowSeed {
            bytes,
            rounds: self.rounds,
        }
    }
}

fn put_state(state: &[u32; 8], out: &mut [u8]) {
    for (four, word) in out.chunks_exact_mut(4).zip(state) {
        four.copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, hmac_sha256};

    fn binding(slot: Slot, rounds: Rounds) -> Binding {
        Binding {
            scheme: 1,
            context_width: 4,
            bits: 1,
            parameter: 1,
            slot,
            rounds,
        }
    }

    fn key() -> SlotKey {
        SlotKey::from_parts(
            core::array::from_fn(|i| i as u8),
            Epoch::new("t").unwrap(),
            0,
        )
    }

    #[test]
    fn midstates_equal_plain_hmac() {
        let binding = binding(Slot::Provider, Rounds::Eight);
        let scheme_key = Prf::scheme_key(&key(), &binding);
        let prf = Prf::new(&key(), &binding);
        for width in 0..=MAX_CONTEXT {
            let window: Vec<u32> = (0..width as u32).map(|i| i * 0x0101_0101 + 5).collect();
            let mut message = b"wmk1/ctx\x01".to_vec();
            message.push(width as u8);
            window
                .iter()
                .for_each(|token| message.extend(token.to_le_bytes()));
            assert_eq!(
                *prf.row_seed(Role::B, &window).as_bytes(),
                hmac_sha256(&*scheme_key, &[&message])
            );
        }
    }

    #[test]
    fn a_fill_equals_one_value_at_a_time() {
        for slot in [Slot::Provider, Slot::Leak] {
            for rounds in [Rounds::Eight, Rounds::Twenty] {
                let seed =
                    Prf::new(&key(), &binding(slot, rounds)).row_seed(Role::A, &[1, 2, 3, 4]);
                for bits in [1, 2, 4, 8, 16, 32] {
                    let account = if slot == Slot::Leak { 12345 } else { 0 };
                    let field = Field {
                        lane: Lane::Green,
                        plane: 0,
                        bits,
                        slot,
                        account,
                    };
                    // Past one piece of the fill.
                    let mut words = vec![0; 1100];
                    seed.fill(&field, 0, &mut words);
                    for token in (0..words.len() as u32 * 32 / bits).step_by(7) {
                        let at = token * bits;
                        let expected = (words[at as usize / 32] >> (at % 32)) & field.mask();
                        assert_eq!(seed.value(&field, token), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn every_bound_parameter_changes_the_key() {
        let base = binding(Slot::Provider, Rounds::Eight);
        let others = [
            Binding { scheme: 2, ..base },
            Binding {
                context_width: 3,
                ..base
            },
            Binding { bits: 2, ..base },
            Binding {
                parameter: 2,
                ..base
            },
            Binding {
                slot: Slot::Leak,
                ..base
            },
            Binding {
                rounds: Rounds::Twenty,
                ..base
            },
        ];
        let mut seeds: Vec<_> = others
            .iter()
            .chain([&base])
            .map(|binding| *Prf::new(&key(), binding).row_seed(Role::A, &[1]).as_bytes())
            .collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 7);
    }
}
