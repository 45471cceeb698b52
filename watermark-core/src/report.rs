//! Numbers only: what was tested, under which key, and what came out.

use serde::Serialize;

use crate::detect::Sample;
use crate::distill::Decoys;
use crate::profile::{Mark, Profile};
use crate::warning::Warning;

/// The public part of the key that a report is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tool {
    /// `watermark-core`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// Under which conditions the p-values hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Regime {
    /// Prompts, text, weights and stopping are independent of the key.
    Clean,
}

/// The result of a distillation test.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `watermark.report`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Version of this form.
    pub schema: u32,
    /// What made it.
    pub tool: Tool,
    /// Under which conditions the p-values hold.
    pub regime: Regime,
    /// The mark's profile.
    pub profile: Profile,
    /// The key.
    pub key: KeyInfo,
    /// The suspect.
    pub suspect: Sample,
    /// A model known to be innocent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Sample>,
    /// The suspect's cells under keys that nobody used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoys: Option<Decoys>,
    /// What a reader must know besides.
    pub warnings: Vec<Warning>,
}

impl Report {
    /// Puts the parts together and adds the warnings that they give rise to.
    pub fn new(
        mark: &Mark,
        suspect: Sample,
        control: Option<Sample>,
        decoys: Option<Decoys>,
    ) -> Self {
        let warnings = Warning::of(&suspect, control.as_ref(), decoys.as_ref());
        Self {
            kind: "watermark.report",
            schema: 1,
            tool: Tool {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
            },
            regime: Regime::Clean,
            profile: mark.profile().clone(),
            key: KeyInfo::of(mark),
            suspect,
            control,
            decoys,
            warnings,
        }
    }
}
