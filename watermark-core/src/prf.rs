//! The keyed function "wmk1": (scheme key, window) to a row seed; row seed to words.
//!
//! HMAC-SHA256 stands in front of the key: what runs per token (ChaCha) only ever sees a row
//! seed, a throw-away key of one window. SPEC.md has every byte.

use sha2::block_api::compress256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::kernel::{self, Midstates, Place, Stream, Threshold, Tiles};
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("enum" = [8, 20])))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Where the token's word is, and the shift of the field in it.
    #[inline]
    fn place(&self, token: u32) -> (Place, u32) {
        let at = u64::from(token) * u64::from(self.bits);
        let (index, shift) = (at >> 5, (at & 31) as u32);
        let place = match self.slot {
            Slot::Provider => Place {
                block: (index >> 4) as u32,
                word: (index & 15) as u32,
            },
            Slot::Leak => Place {
                block: index as u32,
                word: self.account & 15,
            },
        };
        (place, shift)
    }

    fn stream(&self, rounds: Rounds) -> Stream {
        Stream {
            high: match self.slot {
                Slot::Provider => self.account,
                Slot::Leak => self.account >> 4,
            },
            nonce: [self.lane as u32, self.plane],
            double_rounds: u32::from(u8::from(rounds)) / 2,
        }
    }

    fn mask(&self) -> u32 {
        u32::MAX >> (32 - self.bits)
    }
}

/// One row: the words of one window under one key and role.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RowSeed {
    /// The 32 bytes as little-endian words: a key of ChaCha.
    key: [u32; 8],
    rounds: Rounds,
}

/// Eight bytes of a row seed.
fn fingerprint(key: &[u32; 8]) -> u64 {
    u64::from(key[0]) | u64::from(key[1]) << 32
}

/// Tokens of one call to a kernel.
const PIECE: usize = BATCH;

impl RowSeed {
    /// Eight words of a foreign function's row.
    pub(crate) fn of_words(key: [u32; 8]) -> Self {
        Self {
            key,
            rounds: Rounds::Eight,
        }
    }

    /// The eight words.
    pub(crate) fn words8(&self) -> &[u32; 8] {
        &self.key
    }

    /// The first four words.
    pub(crate) fn state(&self) -> [u32; 4] {
        [self.key[0], self.key[1], self.key[2], self.key[3]]
    }

    /// The 32 bytes C of SPEC.md section 3.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (four, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.key) {
            *four = word.to_le_bytes();
        }
        bytes
    }

    /// The first words of a lane of a provider slot, for measurements and other implementations.
    pub fn words(&self, lane: Lane, out: &mut [u32]) {
        let field = Field {
            lane,
            plane: 0,
            bits: 32,
            slot: Slot::Provider,
            account: 0,
        };
        self.fill(&field, 0, out);
    }

    /// Eight of the bytes, for fingerprints.
    pub(crate) fn fingerprint(&self) -> u64 {
        fingerprint(&self.key)
    }

    /// The field's value for one token: one block.
    pub(crate) fn value(&self, field: &Field, token: u32) -> u32 {
        let (place, shift) = field.place(token);
        (kernel::word(&self.key, &field.stream(self.rounds), place) >> shift) & field.mask()
    }

    /// The field's value for every token, all of one row.
    pub(crate) fn values(&self, field: &Field, tokens: &[u32], out: &mut [u32]) {
        let stream = field.stream(self.rounds);
        in_pieces(field, tokens, out, |_, places, out| {
            kernel::words(&self.key, &stream, places, out);
        });
    }

    /// The words that hold the fields of tokens `first`, `first + 1`, ... in order, `32 / bits`
    /// tokens a word, the first in the lowest bits; `first` starts a block: it is a multiple of 512. With one bit a token
    /// this is the mask layout of constrained-decoding engines: token `32 i + j` is bit `j` of
    /// word `i`.
    pub(crate) fn fill(&self, field: &Field, first: u32, out: &mut [u32]) {
        let (place, shift) = field.place(first);
        let stream = field.stream(self.rounds);
        match field.slot {
            Slot::Provider => {
                debug_assert_eq!((place.word, shift), (0, 0), "a fill starts at a block");
                let block = u64::from(place.block) | u64::from(stream.high) << 32;
                kernel::keystream(&self.key, &stream, block, out);
            }
            // Neighbouring words of one account lie in different blocks.
            Slot::Leak => {
                let mut blocks = place.block..;
                for out in out.chunks_mut(PIECE) {
                    let mut places = [place; PIECE];
                    for (place, block) in places.iter_mut().zip(&mut blocks).take(out.len()) {
                        place.block = block;
                    }
                    kernel::words(&self.key, &stream, &places[..out.len()], out);
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

/// Reads words for tokens a piece at a time and takes the fields out of them; `read` is told where the
/// piece starts.
fn in_pieces(
    field: &Field,
    tokens: &[u32],
    out: &mut [u32],
    read: impl Fn(usize, &[Place], &mut [u32]),
) {
    let pieces = tokens.chunks(PIECE).zip(out.chunks_mut(PIECE));
    for (index, (tokens, out)) in pieces.enumerate() {
        let mut places = [Place { block: 0, word: 0 }; PIECE];
        for (place, &token) in places.iter_mut().zip(tokens) {
            *place = field.place(token).0;
        }
        read(index * PIECE, &places[..tokens.len()], out);
        for (value, &token) in out.iter_mut().zip(tokens) {
            *value = *value >> field.place(token).1 & field.mask();
        }
    }
}

/// Cells that are read together.
pub const BATCH: usize = 64;

/// Windows of one width, at even distances in a list of ids: at most [`BATCH`].
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    /// Ids; window i is `ids[i * stride..][..width]`.
    pub ids: &'a [u32],
    /// Number of windows.
    pub count: usize,
    /// From the start of one to that of the next.
    pub stride: usize,
    /// Tokens of one, h.
    pub width: usize,
}

impl<'a> Windows<'a> {
    /// One of them.
    pub fn get(&self, index: usize) -> &'a [u32] {
        &self.ids[index * self.stride..][..self.width]
    }
}

/// The rows of up to [`BATCH`] windows.
pub(crate) struct Rows {
    keys: [[u32; 8]; BATCH],
    rounds: Rounds,
}

impl Rows {
    pub(crate) fn fingerprint(&self, row: u32) -> u64 {
        fingerprint(&self.keys[row as usize])
    }

    /// Adds 1 to every account of the tiles whose field for the token is below the threshold.
    pub(crate) fn tally(
        &self,
        row: usize,
        field: &Field,
        threshold: u32,
        token: u32,
        tiles: &mut Tiles,
    ) {
        debug_assert_eq!(field.slot, Slot::Leak);
        let (place, shift) = field.place(token);
        let threshold = Threshold {
            shift,
            mask: field.mask(),
            threshold,
        };
        let stream = field.stream(self.rounds);
        kernel::tally(&self.keys[row], &stream, place.block, &threshold, tiles);
    }

    /// The field's value for every token, `tokens[i]` in row `which[i]`.
    pub(crate) fn values(&self, field: &Field, which: &[u32], tokens: &[u32], out: &mut [u32]) {
        let stream = field.stream(self.rounds);
        in_pieces(field, tokens, out, |start, places, out| {
            let which = &which[start..][..out.len()];
            kernel::words_of_rows(&self.keys, which, &stream, places, out);
        });
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

    fn midstates(&self, role: Role, width: usize) -> Midstates<'_> {
        debug_assert!(width <= MAX_CONTEXT);
        let mut head = *b"wmk1/ctx..";
        head[8..].copy_from_slice(&[role as u8, width as u8]);
        Midstates {
            inner: &self.inner,
            outer: &self.outer,
            head,
        }
    }

    /// `C = H(K, "wmk1/ctx" || role u8 || h u8 || window, u32 LE each)`.
    pub(crate) fn row_seed(&self, role: Role, window: &[u32]) -> RowSeed {
        RowSeed {
            key: kernel::row(&self.midstates(role, window.len()), window),
            rounds: self.rounds,
        }
    }

    /// The same for a batch.
    pub(crate) fn rows(&self, role: Role, windows: &Windows<'_>) -> Rows {
        let mut rows = Rows {
            keys: [[0; 8]; BATCH],
            rounds: self.rounds,
        };
        let Windows {
            ids,
            count,
            stride,
            width,
        } = *windows;
        let midstates = self.midstates(role, width);
        kernel::rows(&midstates, ids, stride, width, &mut rows.keys[..count]);
        rows
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
                prf.row_seed(Role::B, &window).to_bytes(),
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
            .map(|binding| Prf::new(&key(), binding).row_seed(Role::A, &[1]).to_bytes())
            .collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 7);
    }
}
