//! A plan: what will be tested, under which key, with which prompts and how many answers, written down
//! before anything is collected.
//!
//! A plan is edited as plain JSON and then [sealed](SealedPlan::seal): a digest over its canonical form.
//! The digest says that the plan is the one that was sealed; that this was before the answers were taken,
//! it says to those only who know the digest from that time (a timestamp, a letter, a notary).

use serde::{Deserialize, Serialize};

use crate::detect::TestId;
use crate::key::{ACTIVE_SLOTS, Epoch, SLOTS};
use crate::profile::{Profile, ProfileError, Vocabulary};
use crate::report::KeyInfo;
use crate::verdict::Policy;

mod prompts;
mod sealed;

pub use prompts::PromptError;
#[cfg(feature = "schema")]
pub use prompts::PromptLine;
pub use sealed::SealedPlan;

/// What will be tested. Every field is part of what is sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// `watermark.plan`.
    #[serde(rename = "type")]
    pub kind: PlanType,
    /// [`PLAN_SCHEMA`].
    #[cfg_attr(feature = "schema", schemars(extend("const" = PLAN_SCHEMA)))]
    pub schema: u32,
    /// A name for people: case, suspect, matter.
    pub id: String,
    /// Scheme and parameters, in full.
    pub profile: Profile,
    /// The tokenizer by whose ids everything is read.
    pub tokenizer: Vocabulary,
    /// The key.
    pub key: PlannedKey,
    /// The family: every test over which p-values will be adjusted.
    pub tests: Vec<TestId>,
    /// The test of the family that was expected to be the strongest; the forecast is for it. The
    /// verdict is by the family.
    pub primary: TestId,
    /// Whether p-values count both tails.
    pub two_sided: bool,
    /// Reject at an adjusted p of at most this.
    pub alpha: f64,
    /// Fewer scored cells are insufficient evidence.
    pub min_cells: u64,
    /// How often the result may be looked at.
    pub looks: Looks,
    /// Keys that nobody used, to be scored beside the key.
    pub decoys: u32,
    /// Cells of the supervised test: with it, and only with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervised_cells: Option<u64>,
    /// Models known to be innocent that will be tested beside the suspect.
    pub controls: Vec<Control>,
    /// What the suspect will be asked.
    pub prompts: Prompts,
    /// How it will be asked.
    pub request: Request,
    /// How much will be collected at most.
    pub budget: Budget,
    /// What the plan was expected to find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

/// Version of the form of a plan.
pub const PLAN_SCHEMA: u32 = 1;

/// The value of a plan's `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PlanType {
    /// A plan.
    #[default]
    #[serde(rename = "watermark.plan")]
    Plan,
}

/// The key of a plan, by its public names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedKey {
    /// Id of the slot's key, 16 hexadecimal digits.
    pub id: String,
    /// The slot's epoch.
    pub epoch: String,
    /// The slot's index.
    pub slot: u32,
    /// Root of the commitment that the key and its decoys belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<String>,
}

impl PlannedKey {
    /// Whether a report's key is this one.
    pub fn is(&self, key: &KeyInfo) -> bool {
        self.id == key.id && self.epoch == key.epoch && self.slot == key.slot
    }
}

/// How often the result may be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Looks {
    /// Once, when everything is collected: p-values.
    #[default]
    Once,
    /// After every answer: the e-value of the closed test alone.
    Anytime,
}

/// A model known to be innocent, tested beside the suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// By its answers.
    Answers,
    /// By its distributions on the neutral text.
    OpenWeights,
}

/// The prompts, by the digest of their file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prompts {
    /// A name for people, such as the file's.
    pub name: String,
    /// How many.
    pub count: u64,
    /// SHA-256 of the file's bytes: one JSON object `{"id", "prompt" or "messages"}` a line.
    pub sha256: String,
}

/// Which interface is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// Chat completions.
    #[default]
    Chat,
    /// Completions of a text.
    Completions,
}

/// Parameters of every request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// The interface.
    pub api: Api,
    /// The model's name there.
    pub model: String,
    /// Tokens of an answer at most.
    pub max_tokens: u32,
    /// Temperature, at least 0.
    pub temperature: f64,
    /// Most probable tokens up to this probability, above 0 and at most 1.
    pub top_p: f64,
    /// Answers to each prompt.
    pub samples: u32,
}

/// How much is collected at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// Answers.
    pub answers: u64,
    /// Tokens of all answers together.
    pub tokens: u64,
}

/// What the plan was expected to find: the assumption and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forecast {
    /// Assumed mean excess of a cell's score over chance, in the score's natural units.
    pub mean_excess: f64,
    /// Share of marked training data that this excess was read for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Source of the calibration that it was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// Probability of rejection.
    pub power: f64,
    /// Level of one test: alpha over the number of tests.
    pub alpha: f64,
    /// Assumed share of the suspect's tokens that are new cells.
    pub cells_per_token: f64,
    /// Cells that the closed test needs.
    pub cells: u64,
    /// Tokens of the suspect that hold so many.
    pub tokens: u64,
}

/// Why a plan is none, or not the one that was sealed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
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
    /// A plan without a seal.
    #[error("the plan is not sealed: seal it (`watermark plan seal`) before anything is collected")]
    NotSealed,
    /// A sealed plan where an open one belongs.
    #[error("the plan is sealed already; change the plan that it was made from, and seal that")]
    Sealed,
    /// Another kind of file.
    #[error("field `type` is `{found}`; a {wanted} was expected")]
    Type {
        /// What was expected.
        wanted: &'static str,
        /// As given.
        found: String,
    },
    /// The plan is not the one that the digest is of.
    #[error(
        "the plan was changed after it was sealed: its digest is {found}, and the seal says {stated}"
    )]
    Digest {
        /// What the seal says.
        stated: String,
        /// What the plan has.
        found: String,
    },
    /// A value that no plan can have.
    #[error("field `{field}`: {message}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The profile is none.
    #[error("field `profile`: {0}")]
    Profile(ProfileError),
    /// The prompts are none.
    #[error(transparent)]
    Prompts(#[from] PromptError),
}

impl PlanError {
    /// An error of serde_json, with the place as fields.
    fn json(error: &serde_json::Error) -> Self {
        let (line, column, message) = crate::json::place_and_message(error);
        Self::Json {
            line,
            column,
            message,
        }
    }
}

impl Plan {
    /// Parses and checks a plan that is not sealed.
    ///
    /// # Errors
    /// [`PlanError::Sealed`] for a sealed one; otherwise what is wrong, by field.
    pub fn from_json(json: &str) -> Result<Self, PlanError> {
        match sealed::type_of(json)?.as_str() {
            "watermark.plan" => {}
            "watermark.sealed-plan" => return Err(PlanError::Sealed),
            found => {
                return Err(PlanError::Type {
                    wanted: "watermark.plan",
                    found: found.to_owned(),
                });
            }
        }
        let plan: Self = serde_json::from_str(json).map_err(|error| PlanError::json(&error))?;
        plan.check()?;
        Ok(plan)
    }

    /// The JSON form, one line a field, to be edited.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan is plain data")
    }

    /// The policy that the plan's verdict is by.
    pub fn policy(&self) -> Policy {
        Policy {
            alpha: self.alpha,
            min_cells: self.min_cells,
        }
    }

    /// Whether the fields are in range and fit each other.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn check(&self) -> Result<(), PlanError> {
        let inside = |x: f64| x > 0.0 && x < 1.0;
        let is_digest = |hex: &str| super::digest_from_hex(hex).is_some();
        let tests = &self.tests;
        let known = |id: &TestId| *id != TestId::NeverEmitted;
        let once = |id: &TestId| tests.iter().filter(|other| *other == id).count() == 1;
        let one_closed = *tests == [TestId::ClosedCells];
        let supervised = tests.contains(&TestId::Supervised);
        let most = self
            .prompts
            .count
            .saturating_mul(u64::from(self.request.samples));
        let rules: [(&'static str, bool, String); 25] = [
            (
                "schema",
                self.schema == PLAN_SCHEMA,
                format!("{}; this version reads {PLAN_SCHEMA}", self.schema),
            ),
            (
                "tokenizer.sha256",
                is_digest(&self.tokenizer.sha256),
                "not 64 lower-case hexadecimal digits".into(),
            ),
            (
                "profile.vocabulary",
                self.profile
                    .vocabulary
                    .as_ref()
                    .is_none_or(|pinned| *pinned == self.tokenizer),
                "the profile is pinned to another vocabulary than `tokenizer`".into(),
            ),
            (
                "key.id",
                is_key_id(&self.key.id),
                "not 16 lower-case hexadecimal digits".into(),
            ),
            (
                "key.epoch",
                Epoch::new(&self.key.epoch).is_ok(),
                "not an epoch label".into(),
            ),
            (
                "key.slot",
                self.key.slot < ACTIVE_SLOTS,
                format!(
                    "{}: slots 0 to {} may mark text",
                    self.key.slot,
                    ACTIVE_SLOTS - 1
                ),
            ),
            (
                "key.commitment",
                self.key.commitment.as_deref().is_none_or(is_digest),
                "not 64 lower-case hexadecimal digits".into(),
            ),
            ("tests", !tests.is_empty(), "a plan has a test".into()),
            (
                "tests",
                tests.iter().all(known),
                "never-emitted is a control, and no test of the family".into(),
            ),
            (
                "tests",
                tests.iter().all(once),
                "a test stands twice".into(),
            ),
            (
                "primary",
                tests.contains(&self.primary),
                format!("{} is not among `tests`", self.primary),
            ),
            (
                "alpha",
                inside(self.alpha),
                format!("{}: it must be above 0 and below 1", self.alpha),
            ),
            (
                "looks",
                self.looks == Looks::Once || one_closed,
                "at any time closed-cells alone may be looked at: `tests` must be that one".into(),
            ),
            (
                "twoSided",
                !(self.two_sided && self.looks == Looks::Anytime),
                "an e-value that may be looked at any time has one side".into(),
            ),
            (
                "controls",
                self.looks == Looks::Once || self.controls.is_empty(),
                "a test that may be looked at any time has no control beside it".into(),
            ),
            (
                "decoys",
                self.decoys <= SLOTS - ACTIVE_SLOTS,
                format!(
                    "{}: an epoch has {} sealed decoys",
                    self.decoys,
                    SLOTS - ACTIVE_SLOTS
                ),
            ),
            (
                "supervisedCells",
                self.supervised_cells.is_some() == supervised && self.supervised_cells != Some(0),
                "needed for the supervised test, at least 1, and for no other".into(),
            ),
            (
                "prompts.count",
                self.prompts.count > 0,
                "a plan has a prompt".into(),
            ),
            (
                "prompts.sha256",
                is_digest(&self.prompts.sha256),
                "not 64 lower-case hexadecimal digits".into(),
            ),
            (
                "request.model",
                !self.request.model.is_empty(),
                "the model's name is missing".into(),
            ),
            (
                "request.maxTokens",
                self.request.max_tokens > 0,
                "0: an answer has at least one token".into(),
            ),
            (
                "request.temperature",
                self.request.temperature >= 0.0 && self.request.temperature.is_finite(),
                format!("{}: it must be at least 0", self.request.temperature),
            ),
            (
                "request.topP",
                self.request.top_p > 0.0 && self.request.top_p <= 1.0,
                format!("{}: it must be above 0 and at most 1", self.request.top_p),
            ),
            (
                "request.samples",
                self.request.samples > 0,
                "0: a prompt has at least one answer".into(),
            ),
            (
                "budget.answers",
                self.budget.answers > 0 && self.budget.answers <= most,
                format!(
                    "{}: the prompts and samples give 1 to {most}",
                    self.budget.answers
                ),
            ),
        ];
        for (field, holds, message) in rules {
            if !holds {
                return Err(PlanError::Field { field, message });
            }
        }
        if self.budget.tokens == 0 {
            return Err(PlanError::Field {
                field: "budget.tokens",
                message: "0: a budget has tokens".into(),
            });
        }
        // Its own checks, by way of its own reader.
        Profile::from_json(&self.profile.to_json()).map_err(PlanError::Profile)?;
        Ok(())
    }
}

fn is_key_id(text: &str) -> bool {
    let lower = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.len() == 16 && text.bytes().all(lower)
}

#[cfg(test)]
mod tests;
