//! One slot of a commitment, opened.

use core::fmt;
use std::fmt::Write as _;

use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::{Commitment, leaf, value};
use crate::evidence::digest_from_hex;
use crate::evidence::merkle::{Hash, root_from};
use crate::key::{Epoch, SLOTS, SlotKey};

/// A slot's key and blinding, with the path from its leaf to the root. **It holds the key**: whoever has it can
/// forge and strip the slot's mark.
///
/// ```text
/// {"blinding","c","epoch","keyId","paramsSha256","path":[12 hashes, from the leaf up],"root","schema":1,"slot","slotKey","slots":4096,"type":"watermark.slot-opening"}
/// ```
///
/// All hashes and keys are 64 hexadecimal digits. `Debug` shows public parts only.
pub struct Opening {
    key: SlotKey,
    blinding: Zeroizing<[u8; 32]>,
    /// The committed value, as stated.
    c: Hash,
    key_id: String,
    params: Hash,
    path: Vec<Hash>,
    root: Hash,
}

/// Why an opening is none, or opens nothing. No variant carries any part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// Not the JSON of an opening. No value that stands there is repeated: it may be a key.
    #[error("line {line}, column {column}: no opening of this version: {message}")]
    Json {
        /// Line, from 1; 0 for the whole.
        line: usize,
        /// Column.
        column: usize,
        /// Which field.
        message: String,
    },
    /// A value that no opening has.
    #[error("field `{0}` is not that of an opening")]
    Field(&'static str),
    /// The opening is one of another commitment.
    #[error("the opening belongs to another commitment: its `{0}` differs")]
    OtherCommitment(&'static str),
    /// The committed value is not that of the key.
    #[error(
        "the opening fails: the committed value `c` is not that of this key, blinding and slot"
    )]
    Value,
    /// The leaf is not in the tree.
    #[error("the opening fails: the path does not lead from the committed value to the root")]
    Path,
    /// The key has another id.
    #[error("the opening fails: its key has another id than the one {0}")]
    KeyId(&'static str),
}

impl OpeningError {
    /// Whether the file is sound and does not hold, as opposed to a file that cannot be read.
    pub fn is_verification(&self) -> bool {
        !matches!(self, Self::Json { .. } | Self::Field(_))
    }
}

/// A slot's key and blinding, with the path from its leaf to the root of a commitment.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = TYPE)))]
    kind: String,
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    schema: u32,
    /// The epoch's label.
    epoch: String,
    /// The slot's index.
    #[cfg_attr(feature = "schema", schemars(range(max = 4095)))]
    slot: u32,
    /// All slots.
    #[cfg_attr(feature = "schema", schemars(extend("const" = SLOTS)))]
    slots: u32,
    /// The public name of the slot's key.
    key_id: String,
    /// The key itself.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    slot_key: String,
    /// What hides it in `c`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    blinding: String,
    /// SHA-256 of the recipe that the commitment binds.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    params_sha256: String,
    /// The committed value.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    c: String,
    /// Hashes from the leaf up to the root.
    path: Vec<String>,
    /// The commitment's root.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    root: String,
}

impl Drop for Form {
    fn drop(&mut self) {
        self.slot_key.zeroize();
        self.blinding.zeroize();
    }
}

const TYPE: &str = "watermark.slot-opening";

#[cfg(feature = "schema")]
crate::schema::by_form!(Opening, Form, "SlotOpening");

/// A field that is missing or unknown, by its name; of all else nothing. What is too long for a name may be a key
/// in its place.
fn shown(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let name = message.split('`').nth(1).filter(|name| name.len() <= 32);
    match name {
        Some(name) if message.starts_with("missing field ") => format!("no field `{name}`"),
        Some(name) if message.starts_with("unknown field ") => format!("unknown field `{name}`"),
        Some(name) if message.starts_with("duplicate field ") => {
            format!("field `{name}` stands twice")
        }
        _ => "a field is of the wrong form".to_owned(),
    }
}

impl Opening {
    pub(super) fn new(
        commitment: &Commitment,
        key: SlotKey,
        blinding: Zeroizing<[u8; 32]>,
        path: Vec<Hash>,
    ) -> Self {
        Self {
            c: value(&blinding, &commitment.params_digest, &key),
            key_id: key.id().to_string(),
            params: commitment.params_digest,
            root: commitment.root,
            key,
            blinding,
            path,
        }
    }

    /// Reads an opening; whether it holds, [`verify`](Self::verify) says.
    ///
    /// # Errors
    /// What is wrong, without what stands there.
    pub fn from_json(json: &str) -> Result<Self, OpeningError> {
        let form: Form = serde_json::from_str(json).map_err(|error| OpeningError::Json {
            line: error.line(),
            column: error.column(),
            message: shown(&error),
        })?;
        let hash = |name, hex: &str| digest_from_hex(hex).ok_or(OpeningError::Field(name));
        if form.kind != TYPE {
            return Err(OpeningError::Field("type"));
        }
        if form.schema != 1 {
            return Err(OpeningError::Field("schema"));
        }
        if form.slots != SLOTS || form.slot >= SLOTS {
            return Err(OpeningError::Field("slot"));
        }
        let epoch = Epoch::new(&form.epoch).map_err(|_| OpeningError::Field("epoch"))?;
        let key = Zeroizing::new(hash("slotKey", &form.slot_key)?);
        let blinding = Zeroizing::new(hash("blinding", &form.blinding)?);
        let path = form.path.iter().map(|hex| hash("path", hex));
        Ok(Self {
            key: SlotKey::from_parts(*key, epoch, form.slot),
            blinding,
            c: hash("c", &form.c)?,
            key_id: form.key_id.clone(),
            params: hash("paramsSha256", &form.params_sha256)?,
            path: path.collect::<Result<_, _>>()?,
            root: hash("root", &form.root)?,
        })
    }

    /// The file: canonical JSON and a line feed. **This is the key itself.**
    pub fn to_json(&self) -> Zeroizing<String> {
        let label = self.key.label();
        // Canonical as it stands, and made in one buffer, which is wiped.
        let mut out = Zeroizing::new(String::with_capacity(4096));
        let mut hex = |before: &str, bytes: &[u8], after: &str| {
            out.push_str(before);
            for byte in bytes {
                // Writing to a String cannot fail.
                let _ = write!(out, "{byte:02x}");
            }
            out.push_str(after);
        };
        hex(r#"{"blinding":""#, &*self.blinding, "\"");
        hex(r#","c":""#, &self.c, "\"");
        hex(
            &format!(
                r#","epoch":"{}","keyId":"{}","paramsSha256":""#,
                label.epoch, self.key_id
            ),
            &self.params,
            "\"",
        );
        for (place, beside) in self.path.iter().enumerate() {
            let before = if place == 0 { r#","path":[""# } else { ",\"" };
            hex(before, beside, "\"");
        }
        hex(r#"],"root":""#, &self.root, "\"");
        hex(
            &format!(r#","schema":1,"slot":{},"slotKey":""#, label.index),
            self.key.bytes(),
            "\"",
        );
        hex(&format!(r#","slots":{SLOTS},"type":"{TYPE}""#), &[], "}\n");
        out
    }

    /// Whether this key is the one that the commitment has in this slot.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(&self, commitment: &Commitment) -> Result<(), OpeningError> {
        let label = self.key.label();
        let id = self.key.id().to_string();
        if label.epoch != commitment.epoch {
            return Err(OpeningError::OtherCommitment("epoch"));
        }
        if self.root != commitment.root {
            return Err(OpeningError::OtherCommitment("root"));
        }
        if self.params != commitment.params_digest {
            return Err(OpeningError::OtherCommitment("paramsSha256"));
        }
        if value(&self.blinding, &self.params, &self.key) != self.c {
            return Err(OpeningError::Value);
        }
        let leaf = leaf(&self.c, label.epoch.as_str(), label.index);
        let slots = u64::from(SLOTS);
        if root_from(&leaf, u64::from(label.index), slots, &self.path) != Some(self.root) {
            return Err(OpeningError::Path);
        }
        if self.key_id != id {
            return Err(OpeningError::KeyId("that it states"));
        }
        let listed = commitment.form.active_keys.get(label.index as usize);
        if listed.is_some_and(|listed| *listed != id) {
            return Err(OpeningError::KeyId("that the commitment lists"));
        }
        Ok(())
    }

    /// The slot's key.
    pub fn key(&self) -> &SlotKey {
        &self.key
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({:?})", self.key)
    }
}
