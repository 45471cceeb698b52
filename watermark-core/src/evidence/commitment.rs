//! A commitment to all slot keys of an epoch, made before the first of them is used.
//!
//! ```text
//! r_i    = HKDF-SHA256(salt "wmk/v1", ikm master, info "open|" epoch "|" i)
//! c_i    = HMAC-SHA256(r_i, "wmk-commit/v1" || 0x00 || SHA256(params) || i as u32, big-endian || slot_key_i)
//! leaf_i = {"c":hex(c_i),"epoch":epoch,"slot":i,"v":1}          canonical JSON
//! root   = the Merkle tree of RFC 6962 over leaf_0 .. leaf_4095
//! ```
//!
//! `params` is the whole [recipe](Params) as canonical JSON. What it promises, if HMAC-SHA256 is a
//! pseudo-random function and SHA-256 resists collisions: the root *binds* to one key for each slot and
//! to one recipe, and *hides* them. The blinding r keeps even a guess at a key from being tested.
//!
//! The file is public. Its time is what others can say of the [digest](Commitment::digest) of it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::canonical::{canonical, digest};
use super::digest_from_hex;
use super::merkle::{self, Hash};
use super::time::{is_rfc3339, rfc3339};
use crate::detect::TestId;
use crate::key::{ACTIVE_SLOTS, Epoch, EpochError, MasterKey, SLOTS, SlotKey, hmac_sha256};
use crate::profile::{Profile, Vocabulary};

mod opening;

pub use opening::{Opening, OpeningError};

/// The recipe that a commitment binds beside the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Params {
    /// `watermark.params/1`.
    pub schema: ParamsSchema,
    /// Keyed function, scheme with its parameters, context width, the writer's rules.
    pub profile: Profile,
    /// The vocabulary that token ids refer to.
    pub tokenizer: Vocabulary,
    /// How a cell is scored.
    pub score: ScoreRule,
    /// What counts, and how often.
    pub cells: CellRule,
    /// The test that results are stated by.
    pub primary: TestId,
}

/// The form of a recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ParamsSchema {
    /// The only one of this version.
    #[default]
    #[serde(rename = "watermark.params/1")]
    One,
}

/// How a cell is scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ScoreRule {
    /// Section 5 of SPEC.md, for the profile's scheme.
    #[default]
    #[serde(rename = "wmk1-section-5")]
    Wmk1,
}

/// What counts, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CellRule {
    /// Section 7 of SPEC.md: windows of prompts left out, every cell once over the whole exhibit.
    #[default]
    #[serde(rename = "wmk1-section-7")]
    Wmk1,
}

impl Params {
    /// The recipe of this version for a profile and a vocabulary.
    pub fn new(profile: Profile, tokenizer: Vocabulary, primary: TestId) -> Self {
        Self {
            schema: ParamsSchema::One,
            profile,
            tokenizer,
            score: ScoreRule::Wmk1,
            cells: CellRule::Wmk1,
            primary,
        }
    }
}

/// The public file.
#[derive(Clone, Debug, PartialEq)]
pub struct Commitment {
    form: Form,
    epoch: Epoch,
    params: Params,
    params_digest: Hash,
    root: Hash,
}

/// A commitment to all slot keys of an epoch, and to the recipe that they are used with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = TYPE)))]
    kind: String,
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    schema: u32,
    /// When it was made, by the maker's clock: RFC 3339.
    created: String,
    /// The epoch's label.
    epoch: String,
    /// All slots.
    #[cfg_attr(feature = "schema", schemars(extend("const" = SLOTS)))]
    slots: u32,
    /// Slots that may mark text; the others are decoys.
    #[cfg_attr(feature = "schema", schemars(extend("const" = ACTIVE_SLOTS)))]
    active: u32,
    /// The master key's public name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{16}$")))]
    key_id: String,
    /// The public names of the slots that may mark text, from slot 0.
    active_keys: Vec<String>,
    /// The recipe that is bound beside the keys.
    #[cfg_attr(feature = "schema", schemars(with = "Params"))]
    params: Value,
    /// SHA-256 of its canonical JSON.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    params_sha256: String,
    /// Root of the tree over all slots.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    root: String,
}

const TYPE: &str = "watermark.key-commitment";

#[cfg(feature = "schema")]
crate::schema::by_form!(Commitment, Form, "KeyCommitment");

/// Why a file is no commitment, or a key not one of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommitmentError {
    /// Not JSON, an unknown field, a missing one, a value of the wrong type.
    #[error("line {line}, column {column}: {message}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A value that no commitment has.
    #[error("field `{field}`: {message}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The recipe is not the one that was committed to.
    #[error(
        "the recipe was changed: the digest of `params` is {found}, and the commitment says {stated}"
    )]
    Params {
        /// What the file says.
        stated: String,
        /// What the recipe has.
        found: String,
    },
    /// Another key, or another epoch of it.
    #[error(
        "the key does not belong to the commitment: the slots of epoch {epoch} under key {key} give the root {found}, and the commitment's is {root}"
    )]
    OtherKey {
        /// Id of the key given.
        key: String,
        /// The epoch.
        epoch: String,
        /// The root that this key gives.
        found: String,
        /// That of the commitment.
        root: String,
    },
    /// A slot's key that the commitment does not list.
    #[error(
        "the key does not belong to the commitment: {key} is not the id of slot {slot} of epoch {epoch} there"
    )]
    OtherSlot {
        /// Id of the key given.
        key: String,
        /// Its epoch.
        epoch: String,
        /// Its slot.
        slot: u32,
    },
    /// Results by another recipe.
    #[error("{0} is not the one that the commitment binds; give that one")]
    OtherRecipe(&'static str),
    /// A slot that no epoch has.
    #[error("slot {0}: an epoch has slots 0 to {last}", last = SLOTS - 1)]
    NoSlot(u32),
}

impl CommitmentError {
    /// Whether the file is sound and something does not belong to it, as opposed to a file that cannot be read.
    pub fn is_verification(&self) -> bool {
        !matches!(
            self,
            Self::Json { .. } | Self::Field { .. } | Self::NoSlot(_)
        )
    }
}

/// The committed value of one slot.
fn value(blinding: &[u8; 32], params: &Hash, slot: &SlotKey) -> Hash {
    let index = slot.label().index.to_be_bytes();
    hmac_sha256(
        blinding,
        &[b"wmk-commit/v1\0", params, &index, slot.bytes()],
    )
}

fn leaf(value: &Hash, epoch: &str, slot: u32) -> Hash {
    // Canonical as it stands: the keys are sorted, and an epoch has no character to escape.
    let c = crate::hex(value);
    merkle::leaf(format!(r#"{{"c":"{c}","epoch":"{epoch}","slot":{slot},"v":1}}"#).as_bytes())
}

/// The leaf hashes of an epoch.
fn leaves(master: &MasterKey, epoch: &Epoch, params: &Hash) -> Vec<Hash> {
    (0..SLOTS)
        .map(|index| {
            let value = value(
                &master.blinding(epoch, index),
                params,
                &master.slot(epoch, index),
            );
            leaf(&value, epoch.as_str(), index)
        })
        .collect()
}

/// A value as its canonical form reads: `3.0` and `3` are one number.
fn normal(value: &impl Serialize) -> Value {
    serde_json::from_slice(&canonical(value)).expect("what was just written")
}

impl Commitment {
    /// Commits to all slots of an epoch.
    pub fn new(master: &MasterKey, epoch: &Epoch, params: Params, now: SystemTime) -> Self {
        let params_digest = digest(&params);
        let root = merkle::root(&leaves(master, epoch, &params_digest));
        let form = Form {
            kind: TYPE.to_owned(),
            schema: 1,
            created: rfc3339(now),
            epoch: epoch.to_string(),
            slots: SLOTS,
            active: ACTIVE_SLOTS,
            key_id: master.id().to_string(),
            active_keys: (0..ACTIVE_SLOTS)
                .map(|index| master.slot(epoch, index).id().to_string())
                .collect(),
            params: normal(&params),
            params_sha256: crate::hex(&params_digest),
            root: crate::hex(&root),
        };
        Self {
            form,
            epoch: epoch.clone(),
            params,
            params_digest,
            root,
        }
    }

    /// Reads the file, and finds out whether its recipe is the one that was committed to.
    ///
    /// # Errors
    /// What is wrong, by field; [`CommitmentError::Params`] for a recipe that was changed.
    pub fn from_json(json: &str) -> Result<Self, CommitmentError> {
        let json_error = |error: serde_json::Error| {
            let (line, column, message) = crate::json::place_and_message(&error);
            CommitmentError::Json {
                line,
                column,
                message,
            }
        };
        let mut form: Form = serde_json::from_str(json).map_err(json_error)?;
        form.params = normal(&form.params);
        let field = |field, message: String| CommitmentError::Field { field, message };
        let hash = |name, hex: &str| {
            digest_from_hex(hex)
                .ok_or_else(|| field(name, "not 64 lower-case hexadecimal digits".into()))
        };
        if form.kind != TYPE {
            return Err(field("type", format!("`{}` is not {TYPE}", form.kind)));
        }
        let fixed = [
            ("schema", form.schema, 1),
            ("slots", form.slots, SLOTS),
            ("active", form.active, ACTIVE_SLOTS),
            ("activeKeys", form.active_keys.len() as u32, ACTIVE_SLOTS),
        ];
        for (name, found, wanted) in fixed {
            if found != wanted {
                return Err(field(name, format!("{found}; this version has {wanted}")));
            }
        }
        if !is_rfc3339(&form.created) {
            return Err(field(
                "created",
                "not a time such as 2026-11-25T10:43:09Z".into(),
            ));
        }
        let epoch = Epoch::new(&form.epoch)
            .map_err(|error: EpochError| field("epoch", error.to_string()))?;
        let root = hash("root", &form.root)?;
        let stated = hash("paramsSha256", &form.params_sha256)?;
        let params_digest = digest(&form.params);
        if params_digest != stated {
            return Err(CommitmentError::Params {
                stated: form.params_sha256,
                found: crate::hex(&params_digest),
            });
        }
        let params: Params = serde_json::from_str(&form.params.to_string())
            .map_err(|error| field("params", crate::json::place_and_message(&error).2))?;
        Profile::from_json(&params.profile.to_json())
            .map_err(|error| field("params.profile", error.to_string()))?;
        Ok(Self {
            form,
            epoch,
            params,
            params_digest,
            root,
        })
    }

    /// The file: canonical JSON and a line feed.
    pub fn to_json(&self) -> String {
        String::from_utf8(canonical(&self.form)).expect("JSON is UTF-8") + "\n"
    }

    /// SHA-256 of the file's canonical JSON: what to publish, or have a time put on, before the first use.
    pub fn digest(&self) -> String {
        crate::hex(&digest(&self.form))
    }

    /// The root, in hexadecimal.
    pub fn root(&self) -> &str {
        &self.form.root
    }

    /// The epoch.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The recipe.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// When it was made, by the maker's clock.
    pub fn created(&self) -> &str {
        &self.form.created
    }

    /// The public name of the master key.
    pub fn key_id(&self) -> &str {
        &self.form.key_id
    }

    /// The listed id of a slot that may mark text.
    pub fn active_key(&self, slot: u32) -> Option<&str> {
        let listed = self.form.active_keys.get(slot as usize);
        listed.map(String::as_str)
    }

    /// Whether every slot of a master key is the one that was committed to: the root is computed again.
    ///
    /// # Errors
    /// [`CommitmentError::OtherKey`].
    pub fn check_master(&self, master: &MasterKey) -> Result<(), CommitmentError> {
        self.leaves_of(master).map(drop)
    }

    fn leaves_of(&self, master: &MasterKey) -> Result<Vec<Hash>, CommitmentError> {
        let leaves = leaves(master, &self.epoch, &self.params_digest);
        let found = merkle::root(&leaves);
        if found == self.root {
            return Ok(leaves);
        }
        Err(CommitmentError::OtherKey {
            key: master.id().to_string(),
            epoch: self.epoch.to_string(),
            found: crate::hex(&found),
            root: self.form.root.clone(),
        })
    }

    /// Whether a slot's key has the id that the commitment lists for it. The list is not under the root:
    /// this is as good as the digest of the file, and an id has 64 bits. An [`Opening`] is the full check.
    ///
    /// # Errors
    /// [`CommitmentError::OtherSlot`], also for decoys, which are not listed.
    pub fn check_slot(&self, slot: &SlotKey) -> Result<(), CommitmentError> {
        let label = slot.label();
        let listed = self.form.active_keys.get(label.index as usize);
        let key = slot.id().to_string();
        if label.epoch == self.epoch && listed == Some(&key) {
            return Ok(());
        }
        Err(CommitmentError::OtherSlot {
            key,
            epoch: label.epoch.to_string(),
            slot: label.index,
        })
    }

    /// Whether results by this profile and vocabulary are results by the recipe.
    ///
    /// # Errors
    /// [`CommitmentError::OtherRecipe`].
    pub fn check_recipe(
        &self,
        profile: &Profile,
        tokenizer: &Vocabulary,
    ) -> Result<(), CommitmentError> {
        if *profile != self.params.profile {
            return Err(CommitmentError::OtherRecipe("the profile"));
        }
        if *tokenizer != self.params.tokenizer {
            return Err(CommitmentError::OtherRecipe("the tokenizer"));
        }
        Ok(())
    }

    /// Opens one slot: whoever has the opening can check the slot's key, and can use it.
    ///
    /// # Errors
    /// The key is not the commitment's, or there is no such slot.
    pub fn open(&self, master: &MasterKey, slot: u32) -> Result<Opening, CommitmentError> {
        let leaves = self.leaves_of(master)?;
        let path =
            merkle::inclusion(&leaves, slot as usize).ok_or(CommitmentError::NoSlot(slot))?;
        let key = master.slot(&self.epoch, slot);
        let blinding = Zeroizing::new(*master.blinding(&self.epoch, slot));
        Ok(Opening::new(self, key, blinding, path))
    }
}

#[cfg(test)]
mod tests;
