//! Which epochs there were, when each was in use, and which were compromised.
//!
//! ```text
//! {"type": "watermark.epochs", "schema": 1, "epochs": [
//!    {"epoch", "keyId": master key, "from"?, "until"?, "compromisedAt"?, "commitment"?: root}, ..]}
//! ```
//!
//! Times are those of whoever keeps the file. An epoch without `until` is current: its keys mark text.

use serde::{Deserialize, Serialize};

use super::digest_from_hex;
use super::time::is_rfc3339;
use crate::json::place_and_message;
use crate::key::Epoch;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Epochs {
    #[serde(rename = "type")]
    kind: EpochsType,
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    schema: u32,
    /// In the order in which they were taken into use.
    epochs: Vec<EpochEntry>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
enum EpochsType {
    #[default]
    #[serde(rename = "watermark.epochs")]
    Epochs,
}

/// One epoch of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EpochEntry {
    /// Its label.
    pub epoch: String,
    /// The master key's public name.
    pub key_id: String,
    /// Its first use; absent where nobody wrote it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its last use; absent while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// From when on others may have had one of its keys: text from then on may be forged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_at: Option<String>,
    /// Root of its commitment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<String>,
}

/// Why a file is none, or an epoch cannot follow another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochsError {
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
    /// Another version of the form.
    #[error("field `schema` is {0}; this version reads 1")]
    Schema(u32),
    /// A value that no such file has.
    #[error("epoch `{epoch}`, field `{field}`: {message}")]
    Field {
        /// The epoch.
        epoch: String,
        /// The field.
        field: &'static str,
        /// What is wrong.
        message: &'static str,
    },
    /// The epoch was in use before.
    #[error("epoch {0} is in the file already: the same label would give the same keys again")]
    Used(String),
    /// The epoch is not the current one.
    #[error("epoch {0} is not in use: rotate from the current one")]
    NotCurrent(String),
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            kind: EpochsType::Epochs,
            schema: 1,
            epochs: Vec::new(),
        }
    }
}

impl Epochs {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// What is wrong, by epoch and field.
    pub fn from_json(json: &str) -> Result<Self, EpochsError> {
        let read: Self = serde_json::from_str(json).map_err(|error| {
            let (line, column, message) = place_and_message(&error);
            EpochsError::Json {
                line,
                column,
                message,
            }
        })?;
        if read.schema != 1 {
            return Err(EpochsError::Schema(read.schema));
        }
        for (place, entry) in read.epochs.iter().enumerate() {
            let is_time = |text: &Option<String>| text.as_deref().is_none_or(is_rfc3339);
            let root = entry.commitment.as_deref();
            let rules = [
                (
                    "epoch",
                    Epoch::new(&entry.epoch).is_ok(),
                    "not an epoch label",
                ),
                (
                    "from",
                    is_time(&entry.from),
                    "not a time such as 2026-11-25T10:43:09Z",
                ),
                (
                    "until",
                    is_time(&entry.until),
                    "not a time such as 2026-11-25T10:43:09Z",
                ),
                (
                    "compromisedAt",
                    is_time(&entry.compromised_at),
                    "not a time such as 2026-11-25T10:43:09Z",
                ),
                (
                    "commitment",
                    root.is_none_or(|root| digest_from_hex(root).is_some()),
                    "not 64 lower-case hexadecimal digits",
                ),
            ];
            if let Some((field, _, message)) = rules.into_iter().find(|(_, holds, _)| !holds) {
                return Err(EpochsError::Field {
                    epoch: entry.epoch.chars().take(64).collect(),
                    field,
                    message,
                });
            }
            let same =
                |other: &EpochEntry| other.epoch == entry.epoch && other.key_id == entry.key_id;
            if read.epochs[..place].iter().any(same) {
                return Err(EpochsError::Used(entry.epoch.clone()));
            }
        }
        Ok(read)
    }

    /// The file, one line a field.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data") + "\n"
    }

    /// The epochs, in the order in which they were taken into use.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.epochs
    }

    /// The entry of an epoch under a master key.
    pub fn find(&self, epoch: &str, key_id: &str) -> Option<&EpochEntry> {
        let mut entries = self.epochs.iter();
        entries.find(|entry| entry.epoch == epoch && entry.key_id == key_id)
    }

    /// Whether an epoch is known to be out of use.
    pub fn is_retired(&self, epoch: &str, key_id: &str) -> bool {
        self.find(epoch, key_id)
            .is_some_and(|entry| entry.until.is_some())
    }

    /// Ends one epoch and begins another. An epoch that the file does not know is taken in.
    ///
    /// # Errors
    /// The first is out of use, or the second was used before.
    pub fn rotate(&mut self, ending: EpochEntry, next: EpochEntry) -> Result<(), EpochsError> {
        if self.find(&next.epoch, &next.key_id).is_some()
            || (next.epoch == ending.epoch && next.key_id == ending.key_id)
        {
            return Err(EpochsError::Used(next.epoch));
        }
        let known = self
            .epochs
            .iter_mut()
            .find(|entry| entry.epoch == ending.epoch && entry.key_id == ending.key_id);
        match known {
            Some(entry) if entry.until.is_some() => {
                return Err(EpochsError::NotCurrent(ending.epoch));
            }
            Some(entry) => {
                entry.until = ending.until;
                entry.compromised_at = ending.compromised_at;
            }
            None => self.epochs.push(ending),
        }
        self.epochs.push(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: &str, from: Option<&str>, until: Option<&str>) -> EpochEntry {
        EpochEntry {
            epoch: epoch.into(),
            key_id: "0123456789abcdef".into(),
            from: from.map(str::to_owned),
            until: until.map(str::to_owned),
            compromised_at: None,
            commitment: None,
        }
    }

    const T: &str = "2026-11-25T10:43:09Z";

    #[test]
    fn one_epoch_follows_another() {
        let mut epochs = Epochs::default();
        epochs
            .rotate(entry("e1", None, Some(T)), entry("e2", Some(T), None))
            .unwrap();
        let mut leaked = entry("e2", None, Some(T));
        leaked.compromised_at = Some(T.into());
        epochs.rotate(leaked, entry("e3", Some(T), None)).unwrap();
        let read = Epochs::from_json(&epochs.to_json()).unwrap();
        assert_eq!(read, epochs);
        let id = "0123456789abcdef";
        let retired = ["e1", "e2", "e3", "e4"].map(|epoch| read.is_retired(epoch, id));
        assert_eq!(retired, [true, true, false, false]);
        assert!(!read.is_retired("e1", "another key"));
        let second = read.find("e2", id).unwrap();
        assert_eq!(second.from.as_deref(), Some(T));
        assert_eq!(second.compromised_at.as_deref(), Some(T));
    }

    #[test]
    fn what_cannot_follow() {
        let mut epochs = Epochs::default();
        let used = |epoch: &str| Err(EpochsError::Used(epoch.into()));
        let same = epochs.rotate(entry("e1", None, Some(T)), entry("e1", Some(T), None));
        assert_eq!(same, used("e1"));
        epochs
            .rotate(entry("e1", None, Some(T)), entry("e2", Some(T), None))
            .unwrap();
        let again = epochs.rotate(entry("e2", None, Some(T)), entry("e1", Some(T), None));
        assert_eq!(again, used("e1"));
        let old = epochs.rotate(entry("e1", None, Some(T)), entry("e3", Some(T), None));
        assert_eq!(old, Err(EpochsError::NotCurrent("e1".into())));
        for (json, word) in [
            ("{}", "missing field"),
            (
                r#"{"type":"watermark.epochs","schema":1,"epochs":[{"epoch":"e1","keyId":"k","until":"now"}]}"#,
                "until",
            ),
            (
                r#"{"type":"watermark.epochs","schema":1,"epochs":[{"epoch":"E","keyId":"k"}]}"#,
                "label",
            ),
            (
                r#"{"type":"watermark.epochs","schema":1,"epochs":[{"epoch":"e","keyId":"k","commitment":"0"}]}"#,
                "commitment",
            ),
            (
                r#"{"type":"watermark.epochs","schema":1,"epochs":[{"epoch":"e","keyId":"k"},{"epoch":"e","keyId":"k"}]}"#,
                "already",
            ),
        ] {
            let error = Epochs::from_json(json).unwrap_err().to_string();
            assert!(error.contains(word), "{error} lacks {word}");
        }
    }
}
