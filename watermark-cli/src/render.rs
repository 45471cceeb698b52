//! Results as text and JSON.

use std::fmt::Write as _;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::detect::{Sample, TestId};
use watermark_core::distill::Finding;
pub(crate) use watermark_core::report::words::headline;
use watermark_core::report::{CommitmentCheck, Report};
use watermark_core::stats::LnP;
use watermark_core::stats::weighted::TailMethod;
use watermark_core::verdict::{Policy, Verdict};
use watermark_eval::demo::Outcome;

use crate::command::Scanned;
use crate::error::CliError;
use crate::schema::{Type, Version};

pub(crate) mod document;
pub(crate) mod figure;
pub(crate) mod html;
pub(crate) mod markdown;

/// One line of `detect`: what a test says of one input, or of all together.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Detection {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "watermark.detection"))]
    pub(crate) kind: &'static str,
    #[schemars(extend("const" = 1))]
    pub(crate) schema: u32,
    pub(crate) input: String,
    /// Which prompt this answers; absent where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) verdict: Verdict,
    /// Marked passages, where they were asked for; the verdict is by these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) windows: Option<Scanned>,
    #[serde(flatten)]
    pub(crate) sample: Sample,
}

/// One line of JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("error: cannot print the result: {error}"),
    }
}

/// A file that appears when it is complete.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    watermark_eval::files::replace(path, bytes).map_err(CliError::io(path))
}

/// A new file, complete or not at all; what stands there is never overwritten.
pub(crate) fn write_new_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    check_new_file(path)?;
    write_file(path, bytes)
}

/// Whether there is room for a new file.
pub(crate) fn check_new_file(path: &Path) -> Result<(), CliError> {
    match path.exists() {
        true => Err(CliError::FileExists(path.to_owned())),
        false => Ok(()),
    }
}

/// `detect`, for people.
pub(crate) fn detection_line(line: &Detection) -> String {
    let Sample { counts, test, .. } = &line.sample;
    format!(
        "{:<22} {}  p = {}  {} of {} tokens scored, mean {:.4} ({:.4} by chance)",
        line.verdict.to_string(),
        line.input,
        test.p,
        test.n_scored,
        counts.tokens,
        test.mean,
        test.null_mean,
    )
}

/// `distill`, for people.
pub(crate) fn report_text(report: &Report, policy: &Policy) -> String {
    let mut out = String::new();
    let verdict = Verdict::of_report(report, policy);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", report.heading());
    let strongest = report
        .strongest(policy)
        .map_or_else(String::new, |finding| {
            let tests = match report.findings.len() {
                1 => "the only test".to_owned(),
                tests => format!("adjusted for {tests} tests"),
            };
            format!(
                " {} by {}, {tests},",
                headline(finding.adjusted),
                finding.id()
            )
        });
    let _ = writeln!(
        out,
        "{verdict}:{strongest} at alpha {:e}, key {} (epoch {}, slot {}), profile {}",
        policy.alpha, report.key.id, report.key.epoch, report.key.slot, report.profile.id
    );
    let under = match (&report.plan, verdict) {
        (Some(plan), Verdict::Rejected | Verdict::NotRejected) => {
            format!("under the plan sealed {}, ", plan.sealed_at)
        }
        _ => String::new(),
    };
    let _ = writeln!(out, "  {under}{}", verdict.explanation());
    sealed_text(&mut out, report);
    if let (Some(asked), None) = (&report.asked, &report.plan) {
        let names: Vec<_> = asked.iter().map(|id| id.name()).collect();
        let _ = writeln!(
            out,
            "  family     only {}, as asked: a family if it was chosen before any result was seen",
            names.join(", ")
        );
    }
    if report.two_sided {
        let _ = writeln!(out, "  two-sided  p is twice the smaller tail");
    }
    counts_text(&mut out, "suspect", &report.suspect);
    if let Some(control) = &report.control {
        counts_text(&mut out, "control", control);
    }
    findings_text(&mut out, &report.findings);
    if !report.exploratory.is_empty() {
        let _ = writeln!(
            out,
            "  exploratory: beyond the plan, a family of their own, and no part of the verdict"
        );
        findings_text(&mut out, &report.exploratory);
    }
    for bet in &report.bets {
        let _ = writeln!(
            out,
            "  bet        {:<10} e = {}, {} cells",
            format!("{:?}", bet.id).to_lowercase(),
            bet.e,
            bet.cells
        );
    }
    if let Some(never) = &report.never_emitted {
        let _ = writeln!(
            out,
            "  never emitted: p = {}, z {:+.2}, {} cells (a control: exact even for a model trained on the logs)",
            never.p, never.z, never.n_scored
        );
    }
    effect_text(&mut out, report);
    for warning in &report.warnings {
        let _ = writeln!(
            out,
            "  warning    {}: {}",
            warning.meaning(),
            warning.remedy()
        );
    }
    out
}

fn counts_text(out: &mut String, who: &str, sample: &Sample) {
    let counts = &sample.counts;
    if counts.segments == 0 {
        return;
    }
    let _ = writeln!(
        out,
        "  {who:<10} {} cells of {} tokens ({} repeated, {} excluded, {} without context at the starts of {} segments)",
        counts.cells,
        counts.tokens,
        counts.repeated,
        counts.excluded,
        counts.partial,
        counts.segments
    );
}

/// What was fixed beforehand.
fn sealed_text(out: &mut String, report: &Report) {
    if let Some(plan) = &report.plan {
        let tests: Vec<_> = plan.tests.iter().map(|id| id.name()).collect();
        let _ = writeln!(
            out,
            "  plan       {}, sha256 {}, by the sealer's clock {}",
            plan.id, plan.digest, plan.sealed_at
        );
        let _ = writeln!(
            out,
            "  family     {}, as sealed; {} was expected to be the strongest",
            tests.join(", "),
            plan.primary
        );
    }
    if let Some(commitment) = &report.commitment {
        let checked = match commitment.checked {
            CommitmentCheck::Root => "key and decoys are those that it binds",
            CommitmentCheck::KeyId => "the id of the key stands in it",
        };
        let _ = writeln!(out, "  commitment root {}: {checked}", commitment.root);
    }
}

fn findings_text(out: &mut String, findings: &[Finding]) {
    let _ = writeln!(
        out,
        "  {:<24}{:>10} {:>10} {:>8} {:>9}  {:>13} {:>9}",
        "test", "p", "adjusted", "z", "cells", "decoy rank", "control p"
    );
    for finding in findings {
        let test = &finding.test;
        let rank = finding
            .decoys
            .as_ref()
            .map_or("-".to_owned(), |d| format!("{} of {}", d.rank, d.of));
        let control = finding
            .control
            .as_ref()
            .map_or("-".to_owned(), |test| test.p.to_string());
        let bound = match test.method {
            TailMethod::Exact => "",
            TailMethod::Chernoff => "  (bound)",
        };
        let _ = writeln!(
            out,
            "  {:<24}{:>10} {:>10} {:>+8.2} {:>9}  {rank:>13} {control:>9}{bound}",
            test.id, finding.p, finding.adjusted, test.z, test.n_scored
        );
    }
    for finding in findings {
        if let Some(decoys) = &finding.decoys {
            let _ = writeln!(
                out,
                "  decoys     {:<24} mean z {:+.3}, s.d. {:.3}, uniform: p = {}",
                finding.id(),
                decoys.mean_z,
                decoys.sd_z,
                decoys.ks.p
            );
        }
    }
}

fn effect_text(out: &mut String, report: &Report) {
    let effect = &report.effect;
    if effect.sources == 0 {
        return;
    }
    let interval = effect.interval.map_or(String::new(), |[low, high]| {
        format!(" ({low:+.4} to {high:+.4}, 95 %, by prompt, approximate)")
    });
    let transfer = effect.transfer.map_or(String::new(), |share| {
        format!(", {share:.3} of the marked text's own")
    });
    let _ = writeln!(
        out,
        "  effect     {:+.4} a token above chance{interval}{transfer}",
        effect.excess
    );
    if let Some(without) = report.influence.largest.first() {
        let _ = writeln!(
            out,
            "  leave one  without prompt {} of {}, which carries most: p = {} by {}",
            without.source, report.influence.sources, without.p, report.influence.id
        );
    }
}

/// `demo`, for people.
pub(crate) fn demo_text(outcome: &Outcome, policy: &Policy, seconds: f64, out: &Path) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "marked text    {} tokens, entropy {:.2} nats a token, distinct-4 {:.3}{}",
        outcome.marked.tokens,
        outcome.marked.entropy,
        outcome.marked.distinct4,
        if outcome.collapsed {
            " (collapsed: the p-values below are easy)"
        } else {
            ""
        }
    );
    let _ = writeln!(
        text,
        "unmarked text  {} tokens, entropy {:.2} nats a token, distinct-4 {:.3}",
        outcome.unmarked.tokens, outcome.unmarked.entropy, outcome.unmarked.distinct4
    );
    let _ = writeln!(
        text,
        "tokens of the suspect, log10 p of suspect and control:"
    );
    for point in &outcome.curve {
        let _ = writeln!(
            text,
            "  {:>7}  {:>8.1}  {:>6.1}   decoys {:>5.1} to {:.1}",
            point.tokens, point.suspect, point.control, point.decoys[0], point.decoys[4]
        );
    }
    text.push_str(&report_text(&outcome.report, policy));
    let _ = writeln!(
        text,
        "{seconds:.0} s; figure, report and texts in {}",
        out.display()
    );
    text
}

/// `demo`, and its `report.json`: the whole loop in numbers.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.demo")]
#[schemars(transform = Type("watermark.demo"))]
pub(crate) struct DemoSaid<'a> {
    schema: Version,
    seed: u64,
    verdict: Verdict,
    suspect: DemoSuspect,
    control: DemoControl,
    decoys: DemoDecoys,
    /// The mark made the text much less diverse: the p-value is easy, and no headline.
    collapsed: bool,
    seconds: f64,
    run: &'a Outcome,
}

/// The student of marked text.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DemoSuspect {
    #[serde(rename = "pLog10")]
    p: LnP,
    n_scored: u64,
}

/// The student of unmarked text.
#[derive(Serialize, JsonSchema)]
struct DemoControl {
    #[serde(rename = "pLog10")]
    p: Option<LnP>,
}

/// The suspect's text under keys that nobody used.
#[derive(Serialize, JsonSchema)]
struct DemoDecoys {
    rank: Option<u64>,
    of: Option<u64>,
    #[serde(rename = "ksPLog10")]
    ks: Option<LnP>,
}

/// `demo`, for programs.
pub(crate) fn demo_json<'a>(outcome: &'a Outcome, policy: &Policy, seconds: f64) -> DemoSaid<'a> {
    let report = &outcome.report;
    let decoys = report.decoys(TestId::ClosedCells);
    DemoSaid {
        schema: Version,
        seed: outcome.plan.seed,
        verdict: Verdict::of_report(report, policy),
        suspect: DemoSuspect {
            p: report.suspect.test.p,
            n_scored: report.suspect.test.n_scored,
        },
        control: DemoControl {
            p: report.control.as_ref().map(|control| control.test.p),
        },
        decoys: DemoDecoys {
            rank: decoys.map(|decoys| decoys.rank),
            of: decoys.map(|decoys| decoys.of),
            ks: decoys.map(|decoys| decoys.ks.p),
        },
        collapsed: outcome.collapsed,
        seconds,
        run: outcome,
    }
}
