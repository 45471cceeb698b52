//! The one-line, checksummed text form of a key.
//!
//! Bech32m (BIP 350) in upper case. A master key is `WMK-SECRET-KEY-1...` over 32 bytes; a slot
//! key is `WMK-SLOT-KEY-1...` over `index u32 LE || length of epoch u8 || epoch || 32 bytes`.

use bech32::{Bech32m, Hrp};
use zeroize::Zeroizing;

use super::{Epoch, MasterKey, SlotKey};

const MASTER_PREFIX: &str = "wmk-secret-key-";
const SLOT_PREFIX: &str = "wmk-slot-key-";

/// Either kind of key that a key file can hold.
#[derive(Debug)]
pub enum SecretKey {
    /// All slots of all epochs.
    Master(MasterKey),
    /// One slot; decoys cannot be made from it.
    Slot(SlotKey),
}

/// Why a line is not a key. No variant carries any part of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyLineError {
    /// The line does not start as a key does.
    #[error(
        "this is not a key: a key file holds one line that starts with WMK-SECRET-KEY-1 or WMK-SLOT-KEY-1"
    )]
    NotAKey,
    /// It starts as a key does, but the checksum does not match.
    #[error("the key is garbled: its checksum does not match; restore the file from its backup")]
    Garbled,
    /// The checksum matches, but the payload is not that of a key of this version.
    #[error("the key has a form that this version does not know")]
    UnknownForm,
}

fn encode(prefix: &str, payload: &[u8]) -> Zeroizing<String> {
    let hrp = Hrp::parse(prefix).expect("a constant prefix");
    Zeroizing::new(
        bech32::encode_upper::<Bech32m>(hrp, payload).expect("a key is shorter than the code"),
    )
}

impl MasterKey {
    /// The line for a key file. This is the secret itself.
    pub fn to_line(&self) -> Zeroizing<String> {
        encode(MASTER_PREFIX, &self.0)
    }
}

impl SlotKey {
    /// The line for a key file. This is the secret itself.
    pub fn to_line(&self) -> Zeroizing<String> {
        let epoch = self.label.epoch.as_str().as_bytes();
        let mut payload = Zeroizing::new(Vec::with_capacity(37 + epoch.len()));
        payload.extend_from_slice(&self.label.index.to_le_bytes());
        payload.push(epoch.len() as u8);
        payload.extend_from_slice(epoch);
        payload.extend_from_slice(&self.bytes);
        encode(SLOT_PREFIX, &payload)
    }
}

impl SecretKey {
    /// Parses the line of a key file; surrounding white space is ignored.
    pub fn from_line(line: &str) -> Result<Self, KeyLineError> {
        let line = line.trim();
        let starts = |prefix: &str| {
            line.get(..prefix.len() + 1)
                .is_some_and(|head| head.eq_ignore_ascii_case(&format!("{prefix}1")))
        };
        let master = starts(MASTER_PREFIX);
        if !master && !starts(SLOT_PREFIX) {
            return Err(KeyLineError::NotAKey);
        }
        // `bech32::decode` would accept the older checksum too.
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(line)
            .map_err(|_| KeyLineError::Garbled)?;
        // Spare bits must be zero, so that a key has one line only.
        checked
            .validate_segwit_padding()
            .map_err(|_| KeyLineError::UnknownForm)?;
        let payload: Zeroizing<Vec<u8>> = Zeroizing::new(checked.byte_iter().collect());
        if master {
            let bytes: [u8; 32] = payload
                .as_slice()
                .try_into()
                .map_err(|_| KeyLineError::UnknownForm)?;
            return Ok(Self::Master(MasterKey::from_bytes(bytes)));
        }
        let slot = || {
            let (index, rest) = payload.split_first_chunk::<4>()?;
            let (&len, rest) = rest.split_first()?;
            let (epoch, key) = rest.split_at_checked(usize::from(len))?;
            let epoch = Epoch::new(core::str::from_utf8(epoch).ok()?).ok()?;
            let bytes: [u8; 32] = key.try_into().ok()?;
            Some(SlotKey::from_parts(
                bytes,
                epoch,
                u32::from_le_bytes(*index),
            ))
        };
        slot().map(Self::Slot).ok_or(KeyLineError::UnknownForm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> SlotKey {
        MasterKey::from_bytes([7; 32]).slot(&Epoch::new("2026q4").unwrap(), 3)
    }

    #[test]
    fn both_kinds_survive_a_round_trip() {
        let master = MasterKey::from_bytes([7; 32]);
        let Ok(SecretKey::Master(read)) = SecretKey::from_line(&master.to_line()) else {
            panic!("a master key");
        };
        assert_eq!(read.id(), master.id());
        let Ok(SecretKey::Slot(read)) = SecretKey::from_line(&format!("{}\n", *slot().to_line()))
        else {
            panic!("a slot key");
        };
        assert_eq!(read.id(), slot().id());
        assert_eq!(read.label(), slot().label());
    }

    #[test]
    fn a_changed_character_is_noticed_and_never_shown() {
        let line = slot().to_line();
        for at in [20, 30, line.len() - 1] {
            let mut bytes = line.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'Q' { b'P' } else { b'Q' };
            let garbled = String::from_utf8(bytes).unwrap();
            let error = SecretKey::from_line(&garbled).unwrap_err();
            assert_eq!(error, KeyLineError::Garbled);
            assert!(!error.to_string().contains(&garbled[16..24]));
        }
    }

    #[test]
    fn other_lines_are_not_keys() {
        for line in [
            "",
            "hello",
            "WMK-SECRET-KEY",
            "AGE-SECRET-KEY-1QQ",
            "é".repeat(40).as_str(),
        ] {
            assert_eq!(
                SecretKey::from_line(line).unwrap_err(),
                KeyLineError::NotAKey
            );
        }
    }

    #[test]
    fn debug_shows_no_key_bytes() {
        let shown = format!("{:?} {:?}", slot(), MasterKey::from_bytes([7; 32]));
        assert!(!shown.contains("7, 7") && !shown.contains("0707"));
    }
}
