//! What a model wrote, one JSON object a line: the form that `generate` writes and that
//! `detect` and `distill` read.

use serde::{Deserialize, Serialize};
use watermark_core::sampler::SessionRecord;
use watermark_core::text::Tokenizer;

use crate::generate::Answer;

/// One prompt and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Transcript {
    /// `watermark.transcript`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = "watermark.transcript")))]
    pub kind: String,
    /// Version of this form.
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    pub schema: u32,
    /// Place in the run.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// Its token ids, the document start left out.
    pub prompt_token_ids: Vec<u32>,
    /// The answer.
    pub text: String,
    /// Its token ids.
    pub token_ids: Vec<u32>,
    /// What the mark did; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionRecord>,
}

impl Transcript {
    /// Joins a prompt and its answer.
    pub fn new(
        id: String,
        prompt: String,
        prompt_token_ids: Vec<u32>,
        answer: &Answer,
        tokenizer: &dyn Tokenizer,
    ) -> Self {
        Self {
            kind: "watermark.transcript".to_owned(),
            schema: 1,
            id,
            prompt,
            prompt_token_ids,
            text: tokenizer.decode(&answer.tokens),
            token_ids: answer.tokens.clone(),
            session: answer.record.clone(),
        }
    }

    /// One line of JSON, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a transcript is plain data")
    }
}
