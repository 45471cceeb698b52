//! What commands print as JSON, as types: their schemas are derived from these.
//!
//! Every object has `type` and `schema`. Numbers that are not known are `null`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::anytime::Look;
use watermark_core::evidence::plan::{Budget, Forecast};
use watermark_core::explain::Token;
use watermark_core::key::KeyId;
use watermark_core::profile::{Function, Profile};
use watermark_core::report::{CommitmentInfo, KeyInfo, PlanInfo, Report};
use watermark_core::stats::evalue::LnE;
use watermark_core::verdict::{Policy, Verdict};
use watermark_core::warning::Warning;

use super::collect::forms::Status;
use super::distill::Read;
use super::doctor::Check;
use super::plan::Need;
use crate::input::Counts;
use crate::render::Detection;
use crate::schema::{Type, Version};

#[cfg(test)]
pub(crate) use super::preflight::Report as PreflightSaid;

/// `schema list`: the schemas.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.schemas")]
#[schemars(transform = Type("watermark.schemas"))]
pub(crate) struct SchemasSaid {
    pub(crate) schema: Version,
    pub(crate) schemas: Vec<SchemaSaid>,
}

/// One schema.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SchemaSaid {
    /// For `schema show`.
    pub(crate) name: &'static str,
    /// What it is of.
    pub(crate) about: &'static str,
}

/// `key new`, `key slot` and `key inspect`: a key by its public names.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.key", rename_all = "camelCase")]
#[schemars(transform = Type("watermark.key"))]
pub(crate) struct KeySaid {
    pub(crate) schema: Version,
    pub(crate) kind: KeyKind,
    pub(crate) key_id: KeyId,
    /// Of a slot's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<String>,
    /// Of a slot's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<u32>,
    /// The file that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// The commitment that the key belongs to, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<CommitmentInfo>,
    /// Of another engine's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function: Option<Function>,
    /// Integers of another engine's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) integers: Option<usize>,
}

/// `key engine-config`: an engine's configuration that was written.
#[derive(Serialize, JsonSchema)]
#[serde(
    tag = "type",
    rename = "watermark.engine-config",
    rename_all = "camelCase"
)]
#[schemars(transform = Type("watermark.engine-config"))]
pub(crate) struct EngineConfigSaid {
    pub(crate) schema: Version,
    /// The profile's id.
    pub(crate) profile: String,
    pub(crate) function: Function,
    pub(crate) key_id: KeyId,
    /// The file, which holds the key.
    pub(crate) file: PathBuf,
}

/// Kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyKind {
    /// All slots of all epochs are derived from it.
    Master,
    /// One slot of one epoch.
    Slot,
    /// Another engine's.
    Engine,
}

/// `key commit`: a commitment that was made.
#[derive(Serialize, JsonSchema)]
#[serde(
    tag = "type",
    rename = "watermark.commitment-made",
    rename_all = "camelCase"
)]
#[schemars(transform = Type("watermark.commitment-made"))]
pub(crate) struct CommitmentMade {
    pub(crate) schema: Version,
    pub(crate) file: PathBuf,
    /// The master key's public name.
    pub(crate) key_id: String,
    pub(crate) epoch: String,
    pub(crate) root: String,
    /// What to publish: SHA-256 of the file's canonical JSON.
    pub(crate) digest: String,
    pub(crate) created: String,
}

/// `key open`: an opening that was made, or verified.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.opening", rename_all = "camelCase")]
#[schemars(transform = Type("watermark.opening"))]
pub(crate) struct OpeningSaid {
    pub(crate) schema: Version,
    pub(crate) result: OpeningResult,
    pub(crate) epoch: String,
    pub(crate) slot: u32,
    pub(crate) key_id: KeyId,
    pub(crate) kind: SlotKind,
    /// The commitment's root.
    pub(crate) root: String,
    /// The commitment's digest.
    pub(crate) digest: String,
}

/// What was done with an opening.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OpeningResult {
    Opened,
    Verified,
}

/// Kinds of slots.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SlotKind {
    /// It may mark text.
    Active,
    /// It never does.
    Decoy,
}

/// `key rotate`: one epoch ended, another begun.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.rotation", rename_all = "camelCase")]
#[schemars(transform = Type("watermark.rotation"))]
pub(crate) struct Rotation {
    pub(crate) schema: Version,
    pub(crate) from: String,
    pub(crate) to: String,
    /// The file of epochs.
    pub(crate) epochs: PathBuf,
    /// The file of a new master key, where one was made.
    pub(crate) new_key: Option<PathBuf>,
    /// That of the new epoch.
    pub(crate) commitment: CommitmentMade,
}

/// `plan new`: a plan that was written.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.plan-written")]
#[schemars(transform = Type("watermark.plan-written"))]
pub(crate) struct PlanWritten {
    pub(crate) schema: Version,
    pub(crate) file: PathBuf,
    pub(crate) forecast: Option<Forecast>,
    pub(crate) budget: Budget,
}

/// `plan seal`: a plan that was sealed.
#[derive(Serialize, JsonSchema)]
#[serde(
    tag = "type",
    rename = "watermark.plan-sealed",
    rename_all = "camelCase"
)]
#[schemars(transform = Type("watermark.plan-sealed"))]
pub(crate) struct PlanSealed {
    pub(crate) schema: Version,
    pub(crate) file: PathBuf,
    /// What to publish: SHA-256 of the plan's canonical JSON.
    pub(crate) digest: String,
    pub(crate) sealed_at: String,
}

/// `plan power`: how much a test will need.
#[derive(Serialize, JsonSchema)]
#[serde(
    tag = "type",
    rename = "watermark.power-forecast",
    rename_all = "camelCase"
)]
#[schemars(transform = Type("watermark.power-forecast"))]
pub(crate) struct PowerSaid {
    pub(crate) schema: Version,
    pub(crate) profile: Profile,
    pub(crate) null_mean: f64,
    /// Assumed mean excess of a cell's score over chance.
    pub(crate) mean_excess: f64,
    /// Share of marked training data that the excess was read for.
    pub(crate) share: Option<f64>,
    /// Source of the calibration that it was read from.
    pub(crate) calibration: Option<String>,
    pub(crate) alpha: f64,
    pub(crate) power: f64,
    pub(crate) cells_per_token: f64,
    /// The plain closed test.
    pub(crate) closed_cells: Need,
    /// The any-time test; `null` where it has too many cells to be simulated.
    pub(crate) any_time: Option<Need>,
    pub(crate) other: Option<OtherNeed>,
}

/// A test whose efficiency was given.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OtherNeed {
    pub(crate) efficiency: f64,
    pub(crate) tokens: u64,
    #[schemars(extend("const" = "by the efficiency given"))]
    pub(crate) method: &'static str,
}

/// `detect`: every input, and all together.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.detections")]
#[schemars(transform = Type("watermark.detections"))]
pub(crate) struct DetectionsSaid<'a> {
    pub(crate) schema: Version,
    pub(crate) profile: &'a Profile,
    pub(crate) key: KeyInfo,
    pub(crate) policy: Policy,
    /// How much was read.
    pub(crate) read: Counts,
    pub(crate) inputs: &'a [Detection],
    /// All inputs as one.
    pub(crate) all: &'a Detection,
    /// What a reader must know besides.
    pub(crate) warnings: Vec<Warning>,
}

/// `explain`: one answer token by token.
#[derive(Serialize, JsonSchema)]
#[serde(
    tag = "type",
    rename = "watermark.explanation",
    rename_all = "camelCase"
)]
#[schemars(transform = Type("watermark.explanation"))]
pub(crate) struct ExplanationSaid<'a> {
    pub(crate) schema: Version,
    pub(crate) input: &'a str,
    /// Mean score of a cell expected by chance.
    pub(crate) null_mean: f64,
    pub(crate) tokens: &'a [Token],
}

/// `distill`: what the test says.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.distillation")]
#[schemars(transform = Type("watermark.distillation"))]
pub(crate) struct DistillationSaid<'a> {
    pub(crate) schema: Version,
    pub(crate) verdict: Verdict,
    pub(crate) policy: Policy,
    /// Under which plan.
    pub(crate) plan: String,
    /// How much was read, by what it was given as.
    pub(crate) read: &'a BTreeMap<&'static str, Read>,
    /// The suspect's reading of the logs.
    pub(crate) reading: Option<ReadingSaid>,
    /// What the effect says of the training data, by the calibration model.
    pub(crate) exposure: Option<ExposureSaid<'a>>,
    /// Names of the prompts that the report numbers.
    pub(crate) prompts: Vec<PromptSaid<'a>>,
    pub(crate) report: &'a Report,
}

/// A bet on the suspect's reading of the logs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ReadingSaid {
    #[serde(rename = "eLog10")]
    pub(crate) e: LnE,
    pub(crate) cells: u64,
    /// Windows of the logs met for the first time.
    pub(crate) windows: u64,
}

/// The calibration model's estimate.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ExposureSaid<'a> {
    pub(crate) share: f64,
    pub(crate) at_least: bool,
    pub(crate) interval: Option<[f64; 2]>,
    /// Where the calibration comes from.
    pub(crate) source: &'a str,
}

/// A prompt's number and name.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PromptSaid<'a> {
    pub(crate) source: u32,
    pub(crate) name: Option<&'a str>,
}

/// `distill --watch`: one look at a test that may be looked at any time.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.watch", rename_all = "camelCase")]
#[schemars(transform = Type("watermark.watch"))]
pub(crate) struct WatchSaid<'a> {
    pub(crate) schema: Version,
    pub(crate) verdict: Verdict,
    pub(crate) policy: &'a Policy,
    /// Under which plan.
    pub(crate) plan: String,
    pub(crate) sealed_plan: Option<PlanInfo>,
    pub(crate) commitment: Option<CommitmentInfo>,
    pub(crate) profile: &'a Profile,
    pub(crate) key: KeyInfo,
    /// How much was read.
    pub(crate) read: Counts,
    pub(crate) new_answers: usize,
    /// Looks so far.
    pub(crate) looks: u64,
    pub(crate) planned_cells: Option<u64>,
    pub(crate) look: Look,
    pub(crate) warnings: &'a [Warning],
}

/// `doctor`: what works here, and what is missing.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.doctor")]
#[schemars(transform = Type("watermark.doctor"))]
pub(crate) struct DoctorSaid {
    pub(crate) schema: Version,
    pub(crate) version: &'static str,
    pub(crate) checks: Vec<Check>,
}

/// `collect run` and `collect resume`: how a run ended.
#[derive(Serialize, JsonSchema)]
#[serde(
    tag = "type",
    rename = "watermark.collection-run",
    rename_all = "camelCase"
)]
#[schemars(transform = Type("watermark.collection-run"))]
pub(crate) struct CollectionRun {
    pub(crate) schema: Version,
    /// In one word.
    pub(crate) ending: &'static str,
    pub(crate) message: String,
    pub(crate) exit_code: u8,
    pub(crate) status: Status,
    /// The last look of an any-time test.
    pub(crate) look: Option<Look>,
}
