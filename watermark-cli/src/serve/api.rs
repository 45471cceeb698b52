//! The bodies of the API. Their schemas, in `/openapi.json`, are made from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watermark_core::detect::Sample;
use watermark_core::verdict::Verdict;

use super::state::OpenMark;

/// One text, or several, to test. Exactly one of `text`, `token_ids` and `inputs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DetectRequest {
    /// A mark by its name in the service's configuration; the first one if absent.
    pub(super) mark: Option<String>,
    /// The text.
    pub(super) text: Option<String>,
    /// Its token ids, as they were sampled: better than the text, which need not give them again.
    pub(super) token_ids: Option<Vec<u32>>,
    /// What the model was given to read: what it repeats from there does not count.
    pub(super) prompt: Option<Prompt>,
    /// Several texts, each tested for itself.
    pub(super) inputs: Option<Vec<Input>>,
}

/// One text of several. Exactly one of `text` and `token_ids`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// The text.
    pub(super) text: Option<String>,
    /// Its token ids.
    pub(super) token_ids: Option<Vec<u32>>,
    /// What the model was given to read.
    pub(super) prompt: Option<Prompt>,
}

/// One text to explain. Exactly one of `text` and `token_ids`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainRequest {
    /// A mark by its name in the service's configuration; the first one if absent.
    pub(super) mark: Option<String>,
    /// The text.
    pub(super) text: Option<String>,
    /// Its token ids.
    pub(super) token_ids: Option<Vec<u32>>,
    /// What the model was given to read.
    pub(super) prompt: Option<Prompt>,
}

/// A prompt as text or as token ids.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "`prompt` is neither a text nor a list of token ids"
)]
pub(super) enum Prompt {
    /// Tokenised here.
    Text(String),
    /// As the model read it.
    Ids(Vec<u32>),
}

/// Whose request is to be answered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SlotRequest {
    /// The account, as a pseudonym; cohorts know its SHA-256.
    pub(super) account: String,
}

/// The mark to write an account's answers under, in the words of a session's record.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SlotResponse {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "watermark.slot"))]
    pub(super) kind: &'static str,
    #[schemars(extend("const" = 1))]
    pub(super) schema: u32,
    /// The mark's name in the service's configuration.
    pub(super) mark: String,
    /// Its profile's id.
    pub(super) profile: String,
    /// The epoch of the slot.
    pub(super) epoch: String,
    /// Its index.
    pub(super) slot: u32,
    /// The public name of its key.
    #[serde(rename = "keyId")]
    pub(super) key_id: String,
}

/// What is said about a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Verdict")]
pub(super) enum VerdictWord {
    /// Independence of text and key is rejected at `alpha`.
    Rejected,
    /// No dependence on the key was detected. That is not evidence of absence.
    NotRejected,
    /// Too few scored cells for any statement.
    InsufficientEvidence,
}

impl From<Verdict> for VerdictWord {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Rejected => Self::Rejected,
            Verdict::NotRejected => Self::NotRejected,
            Verdict::InsufficientEvidence => Self::InsufficientEvidence,
        }
    }
}

/// The answer to a request with one text, or with several.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum DetectResponse {
    /// To one text.
    One(Detection),
    /// To several.
    Many(Detections),
}

/// The verdict on one text.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Detection {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "watermark.detection"))]
    kind: &'static str,
    #[schemars(extend("const" = 1))]
    schema: u32,
    /// The mark it was tested for.
    mark: String,
    pub(super) verdict: VerdictWord,
    /// The probability of a rejection by chance, for each text.
    alpha: f64,
    /// For the role `scores` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Box<Scores>>,
}

/// Verdicts on several texts, in their order. Each is at `alpha`: of many texts, that share is rejected by chance.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Detections {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "watermark.detections"))]
    pub(super) kind: &'static str,
    #[schemars(extend("const" = 1))]
    pub(super) schema: u32,
    pub(super) inputs: Vec<Detection>,
}

/// The numbers behind a verdict.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Scores {
    /// log10 of the exact p-value.
    #[serde(rename = "pLog10")]
    p_log10: f64,
    /// Standard score: a figure, not the evidence.
    z: f64,
    /// Distinct cells.
    n_scored: u64,
    /// Mean score of a cell, in the null's natural units.
    mean: f64,
    /// The same expected by chance.
    null_mean: f64,
    /// Integer sum of the scores in lattice units; a string, as in reports.
    sum: String,
    counts: TokenCounts,
    /// SHA-256 of the cells.
    cells_digest: String,
    /// The profile's id.
    profile: String,
    /// The public name of the slot's key.
    key_id: String,
    epoch: String,
    slot: u32,
}

/// Where the tokens went: `tokens = partial + excluded + repeated + cells`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TokenCounts {
    tokens: u64,
    /// Without a full window.
    partial: u64,
    /// In a window that also stands in the prompt.
    excluded: u64,
    /// Cells met before.
    repeated: u64,
    /// Distinct cells.
    cells: u64,
}

impl Detection {
    /// The test's result under the mark's policy; its numbers only where asked for.
    pub(super) fn new(open: &OpenMark, sample: Sample, with_scores: bool) -> Self {
        let verdict = Verdict::of(&sample.test, &open.policy);
        let scores = with_scores.then(|| {
            let Sample {
                counts,
                cells_digest,
                test,
            } = sample;
            let label = open.mark.label();
            Box::new(Scores {
                p_log10: test.p.log10(),
                z: test.z,
                n_scored: test.n_scored,
                mean: test.mean,
                null_mean: test.null_mean,
                sum: test.sum.to_string(),
                counts: TokenCounts {
                    tokens: counts.tokens,
                    partial: counts.partial,
                    excluded: counts.excluded,
                    repeated: counts.repeated,
                    cells: counts.cells,
                },
                cells_digest,
                profile: open.mark.profile().id.clone(),
                key_id: open.mark.key_id().to_string(),
                epoch: label.epoch.to_string(),
                slot: label.index,
            })
        });
        Self {
            kind: "watermark.detection",
            schema: 1,
            mark: open.name.clone(),
            verdict: verdict.into(),
            alpha: open.policy.alpha,
            scores,
        }
    }
}

/// A text token by token.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExplainResponse {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "watermark.explanation"))]
    pub(super) kind: &'static str,
    #[schemars(extend("const" = 1))]
    pub(super) schema: u32,
    /// The mark it was read under.
    pub(super) mark: String,
    /// Mean score of a cell expected by chance.
    pub(super) null_mean: f64,
    pub(super) tokens: Vec<ExplainedToken>,
}

/// What became of one token.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ExplainedToken {
    /// Its place in the text, from 0.
    pub(super) at: usize,
    pub(super) id: u32,
    /// Its share of the text.
    pub(super) text: String,
    /// `scored`, `partial-context`, `in-prompt`, `repeated-cell` or `not-keyed`.
    pub(super) status: &'static str,
    /// In the null's natural units, where it is scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
}

/// Whether the service is alive, or ready.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    /// `alive` or `ready`.
    pub(super) status: &'static str,
}
