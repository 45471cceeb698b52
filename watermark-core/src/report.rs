//! Numbers only: what was tested, under which key, and what came out.

use serde::{Deserialize, Serialize};

use crate::detect::{Sample, Test, TestId};
use crate::distill::{Betting, Decoys, Finding};
use crate::effect::{Effect, Influence};
use crate::profile::{Mark, Profile};
use crate::verdict::Policy;
use crate::warning::Warning;

pub mod contribution;
pub mod file;
mod json;
pub mod series;
pub mod words;
/// What heads a report without a sealed plan.
pub const EXPLORATORY: &str = "exploratory: no sealed plan";

/// The public part of the key that a report is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyInfo {
    /// The public name of the slot's key.
    pub id: String,
    /// The slot's epoch.
    pub epoch: String,
    /// The slot's index.
    pub slot: u32,
}

impl KeyInfo {
    /// The key of a mark.
    pub fn of(mark: &Mark) -> Self {
        Self {
            id: mark.key_id().to_string(),
            epoch: mark.label().epoch.to_string(),
            slot: mark.label().index,
        }
    }
}

/// The program that made a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// `watermark-core`, or the program around it.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The sealed plan that a report was made under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanInfo {
    /// A name for people.
    pub id: String,
    /// SHA-256 of the plan, in hexadecimal.
    pub digest: String,
    /// When it was sealed, by the sealer's clock.
    pub sealed_at: String,
    /// The tests that it names: the family of the verdict.
    pub tests: Vec<TestId>,
    /// The one that it expected most of.
    pub primary: TestId,
    /// Answers that it has a budget for.
    pub planned_answers: u64,
    /// Answers that were given.
    pub answers: u64,
    /// Answers whose prompt is known to be one of the plan's; the others come without a prompt that can be compared.
    pub answers_to_prompts: u64,
}

/// The commitment that a report's key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitmentInfo {
    /// Its root, in hexadecimal.
    pub root: String,
    /// SHA-256 of its file, in hexadecimal.
    pub digest: String,
    /// How far the key was checked.
    pub checked: CommitmentCheck,
}

/// How far a key was checked against a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CommitmentCheck {
    /// The root was computed again from the master key: key and decoys are those that were committed to.
    Root,
    /// The id of the slot's key stands in the file.
    KeyId,
}

/// The result of a distillation test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// `watermark.report`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = "watermark.report")))]
    pub kind: String,
    /// Version of this form.
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    pub schema: u32,
    /// What made it.
    pub tool: Tool,
    /// The mark's profile.
    pub profile: Profile,
    /// The key.
    pub key: KeyInfo,
    /// The sealed plan; without one the report is exploratory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanInfo>,
    /// The commitment that the key belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commitment: Option<CommitmentInfo>,
    /// Whether the p-values of the family count both tails.
    pub two_sided: bool,
    /// The tests that were asked for by name; absent where every test that the evidence allows was
    /// run. Picked after the results were seen, they would not make a family.
    #[serde(rename = "testsAsked", skip_serializing_if = "Option::is_none")]
    pub asked: Option<Vec<TestId>>,
    /// The suspect's text, and the plain test of it.
    pub suspect: Sample,
    /// That of a model known to be innocent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Sample>,
    /// Every test that was run: the family over which p-values are adjusted.
    pub findings: Vec<Finding>,
    /// Tests beyond the sealed plan: a family of their own, which no verdict reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exploratory: Vec<Finding>,
    /// E-values.
    pub bets: Vec<Betting>,
    /// Cells that were never emitted under the key: a control, and no part of the family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never_emitted: Option<Test>,
    /// The neutral text itself under the key: if it fires, it is not neutral.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neutral: Option<Test>,
    /// How large the effect is.
    pub effect: Effect,
    /// Which prompts carry it.
    pub influence: Influence,
    /// What a reader must know besides.
    pub warnings: Vec<Warning>,
}

/// What a report is put together from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// [`Report::two_sided`].
    pub two_sided: bool,
    /// [`Report::asked`].
    pub asked: Option<Vec<TestId>>,
    /// [`Report::suspect`].
    pub suspect: Sample,
    /// [`Report::control`].
    pub control: Option<Sample>,
    /// [`Report::findings`].
    pub findings: Vec<Finding>,
    /// [`Report::bets`].
    pub bets: Vec<Betting>,
    /// [`Report::never_emitted`].
    pub never_emitted: Option<Test>,
    /// [`Report::neutral`].
    pub neutral: Option<Test>,
    /// [`Report::effect`].
    pub effect: Effect,
    /// [`Report::influence`].
    pub influence: Influence,
}

impl Report {
    /// Puts the parts together and adds the warnings that they give rise to.
    pub fn new(mark: &Mark, parts: Parts) -> Self {
        let mut warnings = Warning::of(&parts);
        warnings.extend(Warning::of_function(mark));
        let Parts {
            two_sided,
            asked,
            suspect,
            control,
            findings,
            bets,
            never_emitted,
            neutral,
            effect,
            influence,
        } = parts;
        Self {
            kind: "watermark.report".to_owned(),
            schema: 1,
            tool: Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            profile: mark.profile().clone(),
            key: KeyInfo::of(mark),
            plan: None,
            commitment: None,
            two_sided,
            asked,
            suspect,
            control,
            findings,
            exploratory: Vec::new(),
            bets,
            never_emitted,
            neutral,
            effect,
            influence,
            warnings,
        }
    }

    /// The report as one under a sealed plan, which fixed beforehand what else nothing would show.
    #[must_use]
    pub fn under(mut self, plan: PlanInfo) -> Self {
        self.warnings
            .retain(|warning| *warning != Warning::PlanNotSealed);
        if plan.answers < plan.planned_answers {
            self.warnings.push(Warning::FewerAnswersThanPlanned {
                answers: plan.answers,
                planned: plan.planned_answers,
            });
        }
        if plan.answers_to_prompts < plan.answers {
            self.warnings.push(Warning::PromptsNotCompared {
                answers: plan.answers - plan.answers_to_prompts,
                of: plan.answers,
            });
        }
        self.plan = Some(plan);
        self
    }

    /// What heads the report.
    pub fn heading(&self) -> String {
        match &self.plan {
            None => EXPLORATORY.to_owned(),
            Some(plan) => format!("under the plan sealed {}", plan.sealed_at),
        }
    }

    /// The finding of a test, if it was run.
    pub fn finding(&self, id: TestId) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.id() == id)
    }

    /// The decoys of a test, if it was run among decoys.
    pub fn decoys(&self, id: TestId) -> Option<&Decoys> {
        self.finding(id).and_then(|finding| finding.decoys.as_ref())
    }

    /// The finding that the verdict rests on: of the tests with as many cells as the policy asks for, the one
    /// with the smallest adjusted p-value. `None` if no test has.
    pub fn strongest(&self, policy: &Policy) -> Option<&Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.test.n_scored >= policy.min_cells)
            .min_by_key(|finding| (finding.adjusted, finding.p))
    }
}
