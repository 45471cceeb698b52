//! What is kept of a sequence that was written: ids, slot and skips. No text and no key.

use serde::{Deserialize, Serialize};

use super::SkipReason;

/// The `type` of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RecordKind {
    /// One sequence.
    #[serde(rename = "watermark.session")]
    Session,
}

/// One sequence as written: ids, slot and skips. No text and no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionRecord {
    /// Says what this object is.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// Version of this form.
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    pub schema: u32,
    /// The profile's id.
    pub profile: String,
    /// The public name of the slot's key.
    pub key_id: String,
    /// The slot's epoch.
    pub epoch: String,
    /// The slot's index.
    pub slot: u32,
    /// Token ids, without the prompt.
    pub tokens: Vec<u32>,
    /// Positions where segments start.
    pub segments: Vec<usize>,
    /// How many tokens the mark chose.
    pub marked: u64,
    /// The others, as runs.
    pub skips: Vec<Skip>,
}

/// A run of positions that were sampled ordinarily for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// First position.
    pub at: usize,
    /// Number of positions.
    pub len: usize,
    /// The reason.
    pub reason: SkipReason,
}
