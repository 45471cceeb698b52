//! `watermark distill`.

use std::process::ExitCode;

use watermark_core::distill::{Distillation, Logs, Open, distill};
use watermark_core::effect::DoseCurve;
use watermark_core::openweights::ScoredText;
use watermark_core::report::file::Dose;
use watermark_core::verdict::Verdict;
use watermark_core::warning::Warning;
use watermark_eval::progress::bar;

use super::said::{DistillationSaid, ExposureSaid, PromptSaid, ReadingSaid};
use crate::cli::{Distill, Format};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::mark::Context;
use crate::render::{print_json, report_text, write_file};
use crate::schema::Version;

mod asked;
mod evidence;
mod file;
mod open;
mod watch;

use asked::Asked;
pub(crate) use asked::UnderPlan;
pub(super) use evidence::Read;
use evidence::{Evidence, Parsed};

pub(super) fn run(arguments: &Distill) -> Result<ExitCode, CliError> {
    let asked = Asked::of(arguments)?;
    let policy = asked.policy;
    if let Some(state) = &arguments.watch.watch {
        return watch::run(arguments, state, &asked);
    }
    asked.check(arguments)?;
    let context = asked.open(arguments)?;
    let mark = &context.mark;
    let commitment = asked.commitment(arguments, &context)?;
    let decoys = asked.decoys(&context)?;
    let dose = arguments
        .dose_curve
        .as_deref()
        .map(dose_curve)
        .transpose()?;
    if arguments.dry.dry_run {
        return dry_run(arguments, &asked, &context, decoys.len());
    }
    let evidence = Evidence::read(arguments, &context)?;
    let plan = asked.plan_info(&evidence.given)?;
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
            planned: asked.supervised_cells,
            effect: Some(logs.effect),
        }),
        reading: evidence.reading,
        tests: (!asked.tests.is_empty()).then_some(&asked.tests[..]),
        decoys: &decoys,
        two_sided: asked.two_sided,
        threads: arguments.threads,
    };
    let beyond = Distillation {
        tests: Some(&asked.explore),
        ..input
    };
    let work = input.batteries() + beyond.batteries();
    let bar = bar((decoys.len() * work) as u64, "keys that nobody used");
    let mut report = distill(&input, &|done| bar.set_position(done as u64))?;
    if !asked.explore.is_empty() {
        let before = decoys.len() * input.batteries();
        let beyond = distill(&beyond, &|done| bar.set_position((before + done) as u64))?;
        report.exploratory = beyond.findings;
    }
    bar.finish_and_clear();
    report.warnings.extend(evidence.warnings.iter().cloned());
    report
        .warnings
        .extend(context.held.exposure().map(Warning::of_exposure));
    report.commitment = commitment;
    if let Some(plan) = plan {
        report = report.under(plan);
    }
    let dose = dose.map(|curve| Dose::of(curve, &report, &policy));
    let verdict = Verdict::of_report(&report, &policy);
    match arguments.format {
        Format::Human => {
            print!("{}", report_text(&report, &policy));
            print!("{}", rest_text(&evidence, dose.as_ref()));
        }
        Format::Json | Format::Jsonl => print_json(&DistillationSaid {
            schema: Version,
            verdict,
            policy,
            plan: report.heading(),
            read: &evidence.counts,
            reading: evidence.reading.map(|reading| ReadingSaid {
                e: reading.e,
                cells: reading.cells,
                windows: reading.windows,
            }),
            exposure: dose.as_ref().map(|dose| ExposureSaid {
                share: dose.exposure.share,
                at_least: dose.exposure.at_least,
                interval: dose.exposure.interval,
                source: &dose.curve.source,
            }),
            prompts: report
                .influence
                .largest
                .iter()
                .map(|without| PromptSaid {
                    source: without.source,
                    name: evidence.prompt(without.source),
                })
                .collect(),
            report: &report,
        }),
    }
    if let Some(path) = &arguments.out {
        let file = file::build(
            arguments, &asked, &context, &evidence, &decoys, dose, report,
        )?;
        write_file(path, file.to_json().as_bytes())?;
    }
    Ok(arguments.policy.exit(verdict))
}

/// Everything is read, and no test is made.
fn dry_run(
    arguments: &Distill,
    asked: &Asked,
    context: &Context,
    decoys: usize,
) -> Result<ExitCode, CliError> {
    let parsed = Parsed::of(arguments, context)?;
    open::check(&arguments.open, context)?;
    let suspect = parsed.suspect(arguments, context)?;
    let given = suspect.map(|(given, _)| given).unwrap_or_default();
    asked.plan_info(&given)?;
    let dry = dry_head(arguments, asked, context).writes("report", &arguments.out);
    let dry = match suspect {
        Some((given, counts)) => dry.text(given.answers, &counts),
        None => dry,
    };
    let tests = (!asked.tests.is_empty()).then(|| asked.tests.clone());
    dry.test(tests, &asked.policy, decoys)
        .print(arguments.format);
    Ok(ExitCode::SUCCESS)
}

/// Keys, files and plan of a dry run.
fn dry_head(arguments: &Distill, asked: &Asked, context: &Context) -> DryRun {
    let dry = DryRun::of("distill")
        .key_source(&arguments.mark.key.source)
        .context(context)
        .plan(asked.plan.as_ref());
    let files = file::given(arguments).into_iter();
    files.fold(dry, |dry, (role, paths)| dry.reads(role, paths))
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

/// A dose curve from its file.
pub(super) fn dose_curve(path: &std::path::Path) -> Result<DoseCurve, CliError> {
    let json = crate::input::read_text(path)?;
    DoseCurve::from_json(&json).map_err(|source| CliError::Dose {
        path: path.to_owned(),
        source,
    })
}
