//! The agreed words for a result: what is claimed, by which numbers, and what is not.
//!
//! Renderers take their sentences from here, so that a terminal, a page and a Markdown file say the same.

use super::file::{DETECTION_POWER, ReportFile};
use super::{CommitmentCheck, Report};
use crate::distill::BettingId;
use crate::stats::LnP;
use crate::verdict::Verdict;
use crate::warning::Warning;

/// Said where the suspect may not have been trained at all, but pass on the service's own answers.
pub const RELAY: &str = "consistent with relaying our service; test that first";

/// A p-value for a headline, which stops at 1e-9; the exact one stands in the tables.
pub fn headline(p: LnP) -> String {
    if p.log10() < -9.0 {
        "p < 1e-9".to_owned()
    } else {
        format!("p = {p}")
    }
}

/// A result in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Under which plan.
    pub standing: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What is claimed, with the numbers that it rests on.
    pub claim: String,
    /// What that means, and what it does not show.
    pub meaning: String,
    /// [`RELAY`], where something speaks for it.
    pub relay: Option<&'static str>,
}

impl Statement {
    /// The statement of a report file.
    pub fn of(file: &ReportFile) -> Self {
        let report = &file.report;
        let verdict = file.verdict;
        let under = report.plan.as_ref().map_or(String::new(), |plan| {
            format!("under the plan sealed {}, ", plan.sealed_at)
        });
        let sealed = if report.commitment.is_some() {
            "sealed "
        } else {
            ""
        };
        let key = format!("{sealed}key {}", report.key.id);
        let numbers = numbers(file);
        let (claim, meaning) = match verdict {
            Verdict::Rejected => (
                format!("{under}independence of these outputs from {key} is rejected ({numbers})."),
                "Expected if the model was trained, directly or indirectly, on text under that key; also if it relays, retrieves or was prompted with such text. Does not show who obtained the text, how, whether that was permitted, or how much of it.".to_owned(),
            ),
            Verdict::NotRejected => (
                format!("{under}no dependence of these outputs on {key} was detected ({numbers})."),
                format!("{}Not evidence of absence.", power(file)),
            ),
            Verdict::InsufficientEvidence => (
                format!(
                    "{under}no test has as many as {} scored cells.",
                    file.configuration.policy.min_cells
                ),
                "No statement.".to_owned(),
            ),
        };
        Self {
            standing: report.heading(),
            verdict,
            claim: capital(&claim),
            meaning,
            relay: relay(report),
        }
    }
}

fn relay(report: &Report) -> Option<&'static str> {
    let speaks = |warning: &Warning| {
        matches!(
            warning,
            Warning::NeverEmittedFires { .. } | Warning::StrongTransfer { .. }
        )
    };
    report.warnings.iter().any(speaks).then_some(RELAY)
}

/// Adjusted p, e-value, rank.
fn numbers(file: &ReportFile) -> String {
    let report = &file.report;
    let mut numbers = Vec::new();
    if let Some(finding) = report.strongest(&file.configuration.policy) {
        let tests = match report.findings.len() {
            1 => "the only test".to_owned(),
            tests => format!("adjusted for {tests} tests"),
        };
        let adjusted = headline(finding.adjusted);
        numbers.push(format!("{adjusted} by {}, {tests}", finding.id()));
        let closed = report.bets.iter().find(|bet| bet.id == BettingId::Closed);
        numbers.extend(closed.map(|bet| format!("e-value {}", bet.e)));
        let decoys = finding.decoys.as_ref();
        numbers.extend(decoys.map(|decoys| {
            let sealed = report.commitment.as_ref();
            let sealed = sealed.is_some_and(|c| c.checked == CommitmentCheck::Root);
            let others = if sealed {
                "sealed unused keys"
            } else {
                "unused keys"
            };
            format!("rank {} of {} among the {others}", decoys.rank, decoys.of)
        }));
    }
    numbers.join("; ")
}

/// What would have been found.
fn power(file: &ReportFile) -> String {
    let Some(dose) = &file.dose else {
        return String::new();
    };
    let of_hundred = (100.0 * DETECTION_POWER).round();
    match dose.detectable_share {
        Some(share) => format!(
            "With this sample, exposure of at least {share:.3} of the training data would have been found with {of_hundred} % power in the calibration students ({}). ",
            dose.curve.source
        ),
        None => format!(
            "With this sample, not even students trained on marked text alone would have been found with {of_hundred} % power ({}). ",
            dose.curve.source
        ),
    }
}

fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
