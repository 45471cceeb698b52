//! `watermark plan preflight`.

use std::path::PathBuf;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::effect::DoseCurve;
use watermark_core::profile::Mark;
use watermark_core::sampler::SessionRecord;
use watermark_core::stats::power::cells_needed;
use watermark_eval::files;

use super::detect::{exhibit, read_by};
use crate::cli::{Format, Preflight};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::input::{InputError, read_all, read_sessions};
use crate::preflight::{Diversity, Growth, Single, Skips, Strength};
use crate::render::{headline, print_json};

/// Fewer answers give rough figures.
const FEW: usize = 200;
/// Below this p a control shows the mark, and at or above it a log does not.
const ALPHA: f64 = 1e-5;

/// What a suspect of one kind would have to give.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Need {
    /// `transfer`, a share of the logs' own effect; or `share`, of training data by the dose curve.
    by: &'static str,
    value: f64,
    /// Mean excess of a cell that is assumed.
    excess: f64,
    /// Absent where the effect is none, or too small for 2^40 cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    cells: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    /// More than the logs have: `tokens` is a lower bound, at the rate of new cells in their last tenth.
    at_least: bool,
}

/// The logs beside text without the mark.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    marked: Diversity,
    unmarked: Diversity,
    /// The control under the key: it should show nothing.
    unmarked_strength: Strength,
    /// `1 - marked / unmarked`; negative where the marked text is the more varied one.
    lost: Lost,
}

/// Diversity that the mark cost.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Lost {
    distinct1: f64,
    distinct2: f64,
    distinct4: f64,
    bigram_entropy: f64,
}

/// `plan preflight`: what logged answers carry, and what a suspect would have to give.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "watermark.preflight"))]
    kind: &'static str,
    #[schemars(extend("const" = 1))]
    schema: u32,
    profile: watermark_core::profile::Profile,
    key: watermark_core::report::KeyInfo,
    answers: usize,
    strength: Strength,
    skips: Skips,
    diversity: Diversity,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    single: Single,
    alpha: f64,
    power: f64,
    /// As given; absent where new cells come as in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    cells_per_token: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<String>,
    needs: Vec<Need>,
    warnings: Vec<String>,
}

pub(super) fn run(arguments: &Preflight) -> Result<ExitCode, CliError> {
    check(arguments)?;
    let context = arguments.mark.open()?;
    let mark = &context.mark;
    let special = &mark.profile().special_tokens;
    let read = |inputs: &[PathBuf]| read_all(inputs, &arguments.form, &context.tokenizer, special);
    let items = read(&arguments.logs)?.items;
    let logged = exhibit(mark, &items);
    let sessions = sessions(arguments, mark)?;
    if arguments.dry.dry_run {
        read(&arguments.unmarked)?;
        let curve = arguments.dose_curve.as_deref();
        curve.map(super::distill::dose_curve).transpose()?;
        read_by(
            DryRun::of("plan preflight"),
            &arguments.mark,
            &arguments.form,
        )
        .context(&context)
        .reads("logs", &arguments.logs)
        .reads("unmarked", &arguments.unmarked)
        .reads("dose-curve", &arguments.dose_curve)
        .text(items.len() as u64, logged.counts())
        .print(arguments.format);
        return Ok(ExitCode::SUCCESS);
    }
    let strength = Strength::of(mark, &logged);
    let skips = match sessions.as_slice() {
        [] => Skips::estimated(mark, &items),
        sessions => Skips::recorded(sessions),
    };
    let comparison = match arguments.unmarked.as_slice() {
        [] => None,
        inputs => {
            let unmarked = read(inputs)?.items;
            let control = Strength::of(mark, &exhibit(mark, &unmarked));
            let tokens = strength.counts.tokens.min(control.counts.tokens);
            let marked = Diversity::of(&items, tokens);
            let unmarked = Diversity::of(&unmarked, tokens);
            let lost = |marked: f64, unmarked: f64| 1.0 - marked / unmarked.max(f64::MIN_POSITIVE);
            let lost = Lost {
                distinct1: lost(marked.distinct1, unmarked.distinct1),
                distinct2: lost(marked.distinct2, unmarked.distinct2),
                distinct4: lost(marked.distinct4, unmarked.distinct4),
                bigram_entropy: lost(marked.bigram_entropy, unmarked.bigram_entropy),
            };
            Some(Comparison {
                marked,
                unmarked,
                unmarked_strength: control,
                lost,
            })
        }
    };
    let curve = arguments
        .dose_curve
        .as_deref()
        .map(super::distill::dose_curve)
        .transpose()?;
    let growth = Growth::of(mark, &items);
    let report = Report {
        kind: "watermark.preflight",
        schema: 1,
        profile: mark.profile().clone(),
        key: watermark_core::report::KeyInfo::of(mark),
        answers: items.len(),
        diversity: Diversity::of(&items, u64::MAX),
        single: Single::of(mark, &items, arguments.alpha),
        alpha: arguments.alpha,
        power: arguments.power,
        cells_per_token: arguments.cells_per_token,
        needs: needs(arguments, mark, strength.excess, curve.as_ref(), &growth),
        calibration: curve.map(|curve| curve.source),
        warnings: warnings(&strength, comparison.as_ref(), items.len()),
        strength,
        skips,
        comparison,
    };
    match arguments.format {
        Format::Human => print!("{}", text(&report)),
        Format::Json | Format::Jsonl => print_json(&report),
    }
    Ok(ExitCode::SUCCESS)
}

/// The session records of the logs. One of another key or profile means that the logs are not this mark's.
fn sessions(arguments: &Preflight, mark: &Mark) -> Result<Vec<SessionRecord>, CliError> {
    let mut sessions = Vec::new();
    for input in &arguments.logs {
        let files = match input.is_dir() {
            true => files::below(input, &["jsonl"]).map_err(InputError::from)?,
            false => vec![input.clone()],
        };
        let lines = files.iter().filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "jsonl")
        });
        for file in lines {
            for session in read_sessions(file)? {
                let (own, theirs) = (mark.key_id().to_string(), &session.key_id);
                if *theirs != own || session.profile != mark.profile().id {
                    return Err(CliError::Usage(format!(
                        "{}: a session was written under key {theirs}, profile {}; --key-file and --profile give key {own}, profile {}",
                        file.display(),
                        session.profile,
                        mark.profile().id
                    )));
                }
                sessions.push(session);
            }
        }
    }
    Ok(sessions)
}

fn needs(
    arguments: &Preflight,
    mark: &Mark,
    own: f64,
    curve: Option<&DoseCurve>,
    growth: &Growth,
) -> Vec<Need> {
    let null = mark.scheme().null();
    let need = |by, value, excess: f64| {
        let cells = (excess > 0.0)
            .then(|| cells_needed(null, null.mean() + excess, arguments.alpha, arguments.power))
            .flatten();
        let tokens = cells.and_then(|cells| match arguments.cells_per_token {
            Some(rate) => Some(((cells as f64 / rate).ceil() as u64, false)),
            None => growth.tokens(cells),
        });
        Need {
            by,
            value,
            excess,
            cells,
            tokens: tokens.map(|(tokens, _)| tokens),
            at_least: tokens.is_some_and(|(_, more)| more),
        }
    };
    let transfers = arguments.transfer.iter();
    let transfers = transfers.map(|&share| need("transfer", share, share * own));
    let shares = curve.map(|curve| {
        let shares = arguments.share.iter();
        shares.map(|&share| need("share", share, curve.excess_at(share)))
    });
    transfers.chain(shares.into_iter().flatten()).collect()
}

fn warnings(strength: &Strength, comparison: Option<&Comparison>, answers: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if answers < FEW {
        warnings.push(format!(
            "{answers} answers give rough figures; take about 1,000"
        ));
    }
    if strength.p.ln() > ALPHA.ln() {
        warnings.push(format!(
            "the logs do not show the mark (p = {}): check key, epoch, slot, profile and tokenizer, and that the engine marks at all",
            strength.p
        ));
    }
    if let Some(control) = comparison.map(|comparison| &comparison.unmarked_strength)
        && control.p.ln() <= ALPHA.ln()
    {
        warnings.push(format!(
            "the unmarked answers show the mark (p = {}): they are no control",
            control.p
        ));
    }
    warnings
}

fn text(report: &Report) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let percent = |share: f64| format!("{:.1} in 100", 100.0 * share);
    let Strength { counts, .. } = report.strength;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} logged answers, {} tokens; profile {}, key {}",
        report.answers, counts.tokens, report.profile.id, report.key.id
    );
    let _ = writeln!(
        out,
        "  strength     {:+.4} a distinct cell over {:.4} by chance ({:+.4} a position), {} over all",
        report.strength.excess,
        report.strength.null_mean,
        report.strength.position_excess,
        headline(report.strength.p)
    );
    let _ = writeln!(
        out,
        "  scored       {} tokens are distinct cells ({} repeated, {} excluded, {} without context)",
        percent(report.strength.scored_share),
        counts.repeated,
        counts.excluded,
        counts.partial
    );
    let reasons: Vec<String> = report
        .skips
        .reasons
        .iter()
        .map(|(reason, share)| {
            let name = serde_json::to_value(reason).unwrap_or_default();
            let name = name.as_str().unwrap_or_default().replace('_', " ");
            format!("{} {name}", percent(*share))
        })
        .collect();
    let source = match report.skips.source {
        "sessions" => format!("from {} session records", report.skips.answers),
        _ => "estimated from the text; an entropy gate cannot be seen there".to_owned(),
    };
    let _ = writeln!(
        out,
        "  skipped      {} tokens ({}), {source}",
        percent(report.skips.rate),
        reasons.join(", ")
    );
    diversity_text(&mut out, report);
    let single = &report.single;
    let median = single
        .median_tokens
        .map_or("more than half of them never".to_owned(), |tokens| {
            format!("half of them after {tokens} tokens or fewer")
        });
    let _ = writeln!(
        out,
        "  one answer   {} of {} rejected alone at alpha {:e}; {median} (median length {})",
        single.rejected, single.answers, report.alpha, single.median_length
    );
    let _ = writeln!(
        out,
        "A suspect would have to give, for rejection at alpha {:e} with probability {} by closed-cells, {}:",
        report.alpha,
        report.power,
        report
            .cells_per_token
            .map_or("with new cells as in the logs".to_owned(), |rate| format!(
                "at {rate} cells a token"
            ))
    );
    for need in &report.needs {
        let who = match need.by {
            "transfer" => format!("{} of the logs' effect a cell", need.value),
            _ => format!("{} of its training data marked", need.value),
        };
        let what = match (need.cells, need.tokens) {
            (Some(cells), Some(tokens)) if need.at_least => {
                format!("more than {tokens} tokens ({cells} cells; the logs have fewer)")
            }
            (Some(cells), Some(tokens)) => format!("{tokens} tokens ({cells} cells)"),
            (Some(cells), None) => format!("{cells} cells; the logs say not in how many tokens"),
            _ => "no number of tokens is enough".to_owned(),
        };
        let _ = writeln!(out, "  {who:<40} {:>+9.5}  {what}", need.excess);
    }
    if let Some(source) = &report.calibration {
        let _ = writeln!(
            out,
            "Shares of training data are those of the calibration students, {source}."
        );
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "  warning      {warning}");
    }
    out
}

fn diversity_text(out: &mut String, report: &Report) {
    use std::fmt::Write as _;
    let line = |d: &Diversity| {
        format!(
            "distinct-1 {:.4}, distinct-2 {:.4}, distinct-4 {:.4}, {:.3} nats after a token, {:.4} of runs of four in another answer too; {} tokens",
            d.distinct1, d.distinct2, d.distinct4, d.bigram_entropy, d.self_overlap4, d.tokens
        )
    };
    match &report.comparison {
        None => {
            let _ = writeln!(out, "  diversity    {}", line(&report.diversity));
            let _ = writeln!(
                out,
                "               what the mark cost needs a control: --unmarked answers to the same prompts"
            );
        }
        Some(comparison) => {
            let lost = &comparison.lost;
            let share = |x: f64| format!("{:.1}", 100.0 * x);
            let _ = writeln!(out, "  diversity    marked    {}", line(&comparison.marked));
            let _ = writeln!(
                out,
                "               unmarked  {}",
                line(&comparison.unmarked)
            );
            let _ = writeln!(
                out,
                "               lost, in 100: {} of distinct-1, {} of distinct-2, {} of distinct-4, {} of the nats",
                share(lost.distinct1),
                share(lost.distinct2),
                share(lost.distinct4),
                share(lost.bigram_entropy)
            );
        }
    }
}

fn check(arguments: &Preflight) -> Result<(), CliError> {
    let inside = |x: f64| x > 0.0 && x < 1.0;
    let share = |x: f64| x > 0.0 && x <= 1.0;
    for (option, holds, range) in [
        ("--alpha", inside(arguments.alpha), "above 0 and below 1"),
        ("--power", inside(arguments.power), "above 0 and below 1"),
        (
            "--transfer",
            arguments.transfer.iter().all(|&x| share(x)),
            "above 0 and at most 1",
        ),
        (
            "--share",
            arguments.share.iter().all(|&x| share(x)),
            "above 0 and at most 1",
        ),
        (
            "--cells-per-token",
            arguments.cells_per_token.is_none_or(share),
            "above 0 and at most 1",
        ),
    ] {
        if !holds {
            return Err(CliError::Usage(format!("{option} must be {range}")));
        }
    }
    Ok(())
}
