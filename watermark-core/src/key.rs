//! Keys: a master key that never meets data, and the slot keys derived from it that do.
//!
//! A *slot* is one derived key: an epoch (a label such as `2026q4`) and an index. Of the
//! [`SLOTS`] slots of an epoch the first [`ACTIVE_SLOTS`] may mark text; the rest are sealed
//! decoys, which nobody uses and against which every result is ranked.
//!
//! `Debug` and `Display` of every type here show identifiers only. Key bytes leave a type in
//! one way, [`MasterKey::to_line`] and [`SlotKey::to_line`], for the key file.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

mod config;
mod engine;
mod file;
mod line;

pub use engine::{ENGINE_KEY_SCHEMA, EngineKey, EngineKeyError};
pub use file::{
    AnyKey, Exposure, KeyFileError, read_any_key_file, read_any_key_from, read_engine_key_file,
    read_exposed_key_file, read_key_file, read_key_from, write_key_file,
};
pub use line::{KeyLineError, SecretKey};

/// Slots of one epoch.
pub const SLOTS: u32 = 4096;
/// Slots of an epoch that may mark text: indices below this. The others are decoys.
pub const ACTIVE_SLOTS: u32 = 33;

/// HMAC-SHA256, written H in SPEC.md.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A label for a span of time in which one set of slots is in use.
///
/// One to 32 characters out of `a-z`, `0-9`, `.`, `_`, `-`, so that the derivation string of
/// SPEC.md section 1 is unambiguous.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Epoch(String);

/// Why a string is not an [`Epoch`].
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not an epoch label: use 1 to 32 characters out of a-z, 0-9, `.`, `_`, `-`, for example 2026q4"
)]
pub struct EpochError(String);

impl Epoch {
    /// Checks the label.
    pub fn new(label: &str) -> Result<Self, EpochError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
        if label.is_empty() || label.len() > 32 || !label.bytes().all(allowed) {
            return Err(EpochError(label.chars().take(64).collect()));
        }
        Ok(Self(label.to_owned()))
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({})", self.0)
    }
}

/// A public name of a key: eight bytes, printed as 16 hexadecimal digits.
///
/// `SHA256("wmk-keyid/v1\0" || H(key, "id"))[..8]`: whoever holds only the slot key can name it,
/// and the name tells nothing about the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    fn of(key: &[u8; 32]) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"wmk-keyid/v1\0");
        digest.update(hmac_sha256(key, &[b"id"]));
        let digest: [u8; 32] = digest.finalize().into();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }

    /// The name of a decoy key that anyone can make.
    pub(crate) fn of_decoy(index: u32) -> Self {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&index.to_le_bytes());
        Self::of(&key)
    }

    /// The eight bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl serde::Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Thirty-two secret bytes from which every slot key of every epoch is derived.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Takes 32 bytes of a cryptographic generator.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public name of the master key.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// The key of slot `index` of `epoch`:
    /// `HKDF-SHA256(salt "wmk/v1", ikm master, info "slot|" epoch "|" index)`, index in decimal.
    pub fn slot(&self, epoch: &Epoch, index: u32) -> SlotKey {
        SlotKey {
            bytes: *self.expand("slot", epoch, index),
            label: SlotLabel {
                epoch: epoch.clone(),
                index,
            },
        }
    }

    /// What hides slot `index` of `epoch` in a commitment:
    /// `HKDF-SHA256(salt "wmk/v1", ikm master, info "open|" epoch "|" index)`, index in decimal.
    #[cfg(feature = "evidence")]
    pub(crate) fn blinding(&self, epoch: &Epoch, index: u32) -> Zeroizing<[u8; 32]> {
        self.expand("open", epoch, index)
    }

    fn expand(&self, label: &str, epoch: &Epoch, index: u32) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<Sha256>::new(Some(b"wmk/v1"), &self.0)
            .expand(format!("{label}|{epoch}|{index}").as_bytes(), &mut *bytes)
            .expect("32 bytes are within HKDF's limit");
        bytes
    }

    /// The decoy slots of `epoch`, from the first: at most `SLOTS - ACTIVE_SLOTS` of them.
    pub fn decoys(&self, epoch: &Epoch) -> impl Iterator<Item = SlotKey> {
        (ACTIVE_SLOTS..SLOTS).map(|index| self.slot(epoch, index))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

/// Which slot a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotLabel {
    /// The epoch.
    pub epoch: Epoch,
    /// The index in the epoch, below [`SLOTS`] for slots of the convention above.
    pub index: u32,
}

/// The key that meets data: one slot of one epoch.
///
/// Not `Clone`: a scheme takes what it needs from a reference when it is built.
#[derive(ZeroizeOnDrop)]
pub struct SlotKey {
    bytes: [u8; 32],
    #[zeroize(skip)]
    label: SlotLabel,
}

impl SlotKey {
    /// A slot key from its parts, as a server that never sees the master holds it.
    pub fn from_parts(bytes: [u8; 32], epoch: Epoch, index: u32) -> Self {
        Self {
            bytes,
            label: SlotLabel { epoch, index },
        }
    }

    /// The public name of this slot's key.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.bytes)
    }

    /// Epoch and index.
    pub fn label(&self) -> &SlotLabel {
        &self.label
    }

    /// The key itself, for what binds it.
    #[cfg(feature = "evidence")]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// `H(slot_key, parts)`, for the derivations of SPEC.md that start at a slot.
    pub(crate) fn derive(&self, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(hmac_sha256(&self.bytes, parts))
    }
}

impl fmt::Debug for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SlotKey({}, {}/{})",
            self.id(),
            self.label.epoch,
            self.label.index
        )
    }
}
