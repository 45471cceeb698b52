//! A policy applied to a test's numbers, in the agreed words.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::detect::Test;
use crate::report::Report;

/// When a result counts as a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Reject at p at most this.
    pub alpha: f64,
    /// Fewer scored cells than this are insufficient evidence.
    pub min_cells: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            alpha: 1e-5,
            min_cells: 50,
        }
    }
}

/// The three possible statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Independence of text and key is rejected.
    Rejected,
    /// No dependence was detected.
    NotRejected,
    /// Too few cells for a statement.
    InsufficientEvidence,
}

impl Verdict {
    /// Applies a policy to the family of a report: rejected if a test with enough cells has an
    /// adjusted p-value of at most alpha, that is, if the [strongest](Report::strongest) has.
    ///
    /// Tests with too few cells can only be hidden by this, not found: they were counted when the
    /// others were adjusted.
    pub fn of_report(report: &Report, policy: &Policy) -> Self {
        match report.strongest(policy) {
            None => Self::InsufficientEvidence,
            Some(finding) if finding.adjusted.ln() <= policy.alpha.ln() => Self::Rejected,
            Some(_) => Self::NotRejected,
        }
    }

    /// Applies a policy to one test.
    pub fn of(test: &Test, policy: &Policy) -> Self {
        if test.n_scored < policy.min_cells {
            Self::InsufficientEvidence
        } else if test.p.ln() <= policy.alpha.ln() {
            Self::Rejected
        } else {
            Self::NotRejected
        }
    }

    /// What the verdict says, and what it does not say, about a model's training.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Rejected => {
                "independence of these outputs from the key is rejected. Expected if the model was trained, directly or indirectly, on text under that key; also if it relays, retrieves or was prompted with such text. Does not show who obtained the text, how, whether that was permitted, or how much of it."
            }
            Self::NotRejected => {
                "no dependence on the key was detected in this sample. That is not evidence of absence."
            }
            Self::InsufficientEvidence => "too few scored cells for any statement.",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "rejected",
            Self::NotRejected => "not rejected",
            Self::InsufficientEvidence => "insufficient evidence",
        })
    }
}
