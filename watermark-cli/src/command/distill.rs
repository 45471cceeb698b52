//! `watermark distill`.

use std::process::ExitCode;

use watermark_core::detect::TestId;
use watermark_core::distill::{Distillation, Logs, Open, distill};
use watermark_core::effect::DoseCurve;
use watermark_core::key::{ACTIVE_SLOTS, SLOTS};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::Mark;
use watermark_core::report::file::Dose;
use watermark_core::verdict::Verdict;
use watermark_eval::progress::bar;

use crate::cli::{Distill, Format};
use crate::error::CliError;
use crate::mark::Context;
use crate::render::{print_json, report_text, standing, write_file};

mod evidence;
mod file;
mod open;
mod watch;

use evidence::Evidence;

pub(super) fn run(arguments: &Distill) -> Result<ExitCode, CliError> {
    let policy = arguments.policy.policy()?;
    if let Some(state) = &arguments.watch.watch {
        return watch::run(arguments, state, &policy);
    }
    check(arguments)?;
    let context = arguments.mark.open()?;
    let mark = &context.mark;
    let decoys = decoys(arguments.decoys, &arguments.mark.profile, &context)?;
    let dose = arguments
        .dose_curve
        .as_deref()
        .map(dose_curve)
        .transpose()?;
    let evidence = Evidence::read(arguments, &context)?;
    let references: Vec<&[ScoredText]> =
        evidence.open_references.iter().map(Vec::as_slice).collect();
    let input = Distillation {
        mark,
        suspect: &evidence.suspect,
        control: evidence.control.as_ref(),
        reference: evidence.reference.as_deref(),
        corpus: evidence.corpus.as_deref(),
        open: evidence.open_suspect.as_deref().map(|suspect| Open {
            suspect,
            references: &references,
            control: evidence.open_control.as_deref(),
        }),
        logs: evidence.logs.as_ref().map(|logs| Logs {
            windows: &logs.windows,
            planned: arguments.logs.supervised_cells,
            effect: Some(logs.effect),
        }),
        reading: evidence.reading,
        tests: (!arguments.tests.is_empty()).then_some(&arguments.tests[..]),
        decoys: &decoys,
        two_sided: arguments.two_sided,
        threads: arguments.threads,
    };
    let bar = bar(
        (decoys.len() * input.batteries()) as u64,
        "keys that nobody used",
    );
    let mut report = distill(&input, &|done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    report.warnings.extend(evidence.warnings.iter().cloned());
    let dose = dose.map(|curve| Dose::of(curve, &report, &policy));
    let verdict = Verdict::of_report(&report, &policy);
    match arguments.format {
        Format::Human => {
            print!("{}", report_text(&report, &policy));
            print!("{}", rest_text(&evidence, dose.as_ref()));
        }
        Format::Json | Format::Jsonl => print_json(&serde_json::json!({
            "type": "watermark.distillation", "schema": 1, "verdict": verdict,
            "policy": policy, "plan": standing(&report), "read": evidence.counts,
            "reading": evidence.reading.map(|reading| serde_json::json!({
                "eLog10": reading.e, "cells": reading.cells, "windows": reading.windows,
            })),
            "exposure": dose.as_ref().map(|dose| serde_json::json!({
                "share": dose.exposure.share, "at_least": dose.exposure.at_least,
                "interval": dose.exposure.interval, "source": dose.curve.source,
            })),
            "prompts": report.influence.largest.iter().map(|without| serde_json::json!({
                "source": without.source, "name": evidence.prompt(without.source),
            })).collect::<Vec<_>>(),
            "report": report,
        })),
    }
    if let Some(path) = &arguments.out {
        let file = file::build(
            arguments, &context, &evidence, &decoys, policy, dose, report,
        )?;
        write_file(path, file.to_json().as_bytes())?;
    }
    Ok(arguments.policy.exit(verdict))
}

/// What the report does not hold, for people.
fn rest_text(evidence: &Evidence, dose: Option<&Dose>) -> String {
    let mut out = String::new();
    if let Some(reading) = &evidence.reading {
        out += &format!(
            "  reading    {} windows of the logs met for the first time\n",
            reading.windows
        );
    }
    if let Some(Dose {
        exposure, curve, ..
    }) = dose
    {
        let interval = exposure.interval.map_or(String::new(), |[low, high]| {
            format!(" ({low:.3} to {high:.3} at the ends of the effect's interval)")
        });
        out += &format!(
            "  exposure   {:.3} of the training data{interval}: the estimate of the calibration model, {}\n",
            exposure.share, curve.source
        );
    }
    out
}

/// What does not go together.
fn check(arguments: &Distill) -> Result<(), CliError> {
    let silent = arguments.suspect.is_empty();
    let of_text = [
        ("--control", !arguments.control.is_empty()),
        ("--reference", arguments.reference.is_some()),
        ("--corpus", !arguments.corpus.is_empty()),
        ("--logs", !arguments.logs.logs.is_empty()),
        ("--dose-curve", arguments.dose_curve.is_some()),
    ];
    if let Some((option, _)) = of_text.iter().find(|(_, given)| silent && *given) {
        return Err(CliError::Usage(format!(
            "{option} needs the suspect's generations: give SUSPECT files"
        )));
    }
    for &id in &arguments.tests {
        let missing = match id {
            TestId::ClosedCells | TestId::ClosedSqrt | TestId::ClosedInverseVariance => {
                silent.then_some("the suspect's generations")
            }
            TestId::ClosedCorpus => arguments.corpus.is_empty().then_some("--corpus"),
            TestId::ClosedReference => arguments.reference.is_none().then_some("--reference"),
            TestId::OpenArgmax | TestId::OpenSoft => arguments
                .open
                .open_suspect
                .is_none()
                .then_some("--open-suspect"),
            TestId::OpenContrast => arguments
                .open
                .open_reference
                .is_empty()
                .then_some("--open-reference"),
            TestId::Supervised => arguments
                .logs
                .supervised_cells
                .is_none()
                .then_some("--logs and --supervised-cells"),
            TestId::NeverEmitted => None,
        };
        if let Some(missing) = missing {
            return Err(CliError::Usage(format!("--tests {id} needs {missing}")));
        }
    }
    Ok(())
}

/// The profile under so many keys that nobody used.
pub(super) fn decoys(
    count: usize,
    profile: &str,
    context: &Context,
) -> Result<Vec<Mark>, CliError> {
    if count > (SLOTS - ACTIVE_SLOTS) as usize {
        return Err(CliError::TooManyDecoys { asked: count });
    }
    match (&context.keys.master, count) {
        (_, 0) => Ok(Vec::new()),
        (None, _) => Err(CliError::DecoysNeedMaster),
        (Some(master), count) => master
            .decoys(&context.keys.slot.label().epoch)
            .take(count)
            .map(|slot| context.mark.profile().bind(&slot))
            .collect::<Result<_, _>>()
            .map_err(|source| CliError::Profile {
                name: profile.to_owned(),
                source,
            }),
    }
}

/// A dose curve from its file.
pub(super) fn dose_curve(path: &std::path::Path) -> Result<DoseCurve, CliError> {
    let json = crate::input::read_text(path)?;
    DoseCurve::from_json(&json).map_err(|source| CliError::Dose {
        path: path.to_owned(),
        source,
    })
}
