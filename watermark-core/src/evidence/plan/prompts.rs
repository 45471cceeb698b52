//! The prompts' file: one JSON object `{"id", "prompt" or "messages"}` a line.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Prompts;

/// Why prompts are none, or not those of a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// A line that is no prompt.
    #[error(
        "line {line}: {message}; a prompt is {{\"id\": NAME, \"prompt\": TEXT}} or {{\"id\": NAME, \"messages\": [..]}}"
    )]
    Line {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No line at all.
    #[error("the file has no prompt")]
    Empty,
    /// Other bytes than those that were sealed.
    #[error(
        "the prompts are not those of the plan: the digest of the file is {found}, and the plan says {wanted}"
    )]
    Changed {
        /// What the plan says.
        wanted: String,
        /// What the file has.
        found: String,
    },
}

/// One prompt: exactly one of `prompt` and `messages`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("oneOf" = [{"required": ["prompt"]}, {"required": ["messages"]}])))]
#[serde(deny_unknown_fields)]
struct Line {
    /// A name of its own.
    id: String,
    /// A text.
    prompt: Option<String>,
    /// A conversation.
    messages: Option<Vec<Value>>,
}

/// The schema of a line of a plan's prompts.
#[cfg(feature = "schema")]
#[derive(Debug)]
pub struct PromptLine;

#[cfg(feature = "schema")]
crate::schema::by_form!(PromptLine, Line, "PlannedPrompt");

impl Prompts {
    /// Reads a file's bytes: every line is a prompt with a name of its own.
    ///
    /// # Errors
    /// The first line that is not.
    pub fn of(name: &str, bytes: &[u8]) -> Result<Self, PromptError> {
        let mut names = BTreeSet::new();
        let mut count = 0;
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let error = |message: String| PromptError::Line {
                line: index + 1,
                message,
            };
            let parsed: Line = serde_json::from_slice(line)
                .map_err(|e| error(crate::json::place_and_message(&e).2))?;
            if parsed.prompt.is_some() == parsed.messages.is_some() {
                return Err(error(
                    "one of `prompt` and `messages` is needed, and not both".into(),
                ));
            }
            if parsed.messages.is_some_and(|messages| messages.is_empty()) {
                return Err(error("`messages` is empty".into()));
            }
            if !names.insert(parsed.id.clone()) {
                return Err(error(format!("the id `{}` stands twice", parsed.id)));
            }
            count += 1;
        }
        if count == 0 {
            return Err(PromptError::Empty);
        }
        Ok(Self {
            name: name.to_owned(),
            count,
            sha256: crate::hex(&Sha256::digest(bytes)),
        })
    }

    /// Whether a file's bytes are those that were sealed.
    ///
    /// # Errors
    /// [`PromptError::Changed`].
    pub fn check(&self, bytes: &[u8]) -> Result<(), PromptError> {
        let found = crate::hex(&Sha256::digest(bytes));
        if found == self.sha256 {
            return Ok(());
        }
        Err(PromptError::Changed {
            wanted: self.sha256.clone(),
            found,
        })
    }
}
