//! Results as text and JSON.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use watermark_core::detect::Sample;
use watermark_core::report::Report;
use watermark_core::stats::LnP;
use watermark_core::verdict::{Policy, Verdict};
use watermark_eval::demo::Outcome;

use crate::error::CliError;

/// One line of `detect`.
#[derive(Serialize)]
pub(crate) struct Detection {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) schema: u32,
    pub(crate) input: String,
    /// Which prompt this answers; absent where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) verdict: Verdict,
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
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map_err(CliError::io(path)).map(drop)
}

/// A p-value for a headline, which stops at 1e-9; the exact one stands in the details.
fn headline(p: LnP) -> String {
    if p.log10() < -9.0 {
        "p < 1e-9".to_owned()
    } else {
        format!("p = {p}")
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
    let verdict = Verdict::of(&report.suspect.test, policy);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "exploratory: no sealed plan");
    let _ = writeln!(
        out,
        "{verdict}: {} at alpha {:e}, key {} (epoch {}, slot {}), profile {}",
        headline(report.suspect.test.p),
        policy.alpha,
        report.key.id,
        report.key.epoch,
        report.key.slot,
        report.profile.id
    );
    let _ = writeln!(out, "  {}", verdict.explanation());
    sample_text(&mut out, "suspect", &report.suspect);
    if let Some(control) = &report.control {
        sample_text(&mut out, "control", control);
    }
    if let Some(decoys) = &report.decoys {
        let _ = writeln!(
            out,
            "  decoys     rank {} of {} (rank p {}), mean z {:+.3}, s.d. {:.3}, uniform: p = {}",
            decoys.rank, decoys.of, decoys.rank_p, decoys.mean_z, decoys.sd_z, decoys.ks.p
        );
    }
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

fn sample_text(out: &mut String, who: &str, sample: &Sample) {
    let Sample { counts, test, .. } = sample;
    let _ = writeln!(
        out,
        "  {who:<10} p = {}, z {:+.2}, mean {:.4} ({:.4} by chance), {} cells of {} tokens ({} repeated, {} excluded, {} without context)",
        test.p,
        test.z,
        test.mean,
        test.null_mean,
        test.n_scored,
        counts.tokens,
        counts.repeated,
        counts.excluded,
        counts.partial
    );
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

/// `demo`, for programs.
pub(crate) fn demo_json(outcome: &Outcome, policy: &Policy, seconds: f64) -> serde_json::Value {
    let report = &outcome.report;
    let decoys = report.decoys.as_ref();
    serde_json::json!({
        "type": "watermark.demo", "schema": 1,
        "seed": outcome.plan.seed,
        "verdict": Verdict::of(&report.suspect.test, policy),
        "suspect": { "pLog10": report.suspect.test.p, "nScored": report.suspect.test.n_scored },
        "control": { "pLog10": report.control.as_ref().map(|control| control.test.p) },
        "decoys": {
            "rank": decoys.map(|decoys| decoys.rank), "of": decoys.map(|decoys| decoys.of),
            "ksPLog10": decoys.map(|decoys| decoys.ks.p),
        },
        "collapsed": outcome.collapsed,
        "seconds": seconds,
        "run": outcome,
    })
}
