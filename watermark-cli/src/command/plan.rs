//! `watermark plan`.

use std::path::Path;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::effect::DoseCurve;
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::profile::Profile;
use watermark_core::scheme::Null;
use watermark_core::stats::power::{cells_needed, simulated_stopping_cells};

use super::said::{OtherNeed, PowerSaid};
use crate::cli::{Format, Plan, Power};
use crate::error::CliError;
use crate::render::print_json;
use crate::schema::Version;

mod sealing;

/// Scores drawn for the simulation at most, about.
const DRAWS: u64 = 100_000_000;
const RUNS: std::ops::RangeInclusive<u64> = 200..=1000;
const SEED: u64 = 1;

pub(super) fn run(arguments: &Plan) -> Result<ExitCode, CliError> {
    match arguments {
        Plan::New(arguments) => sealing::new(arguments),
        Plan::Seal { plan, out, dry } => sealing::seal(plan, out, *dry),
        Plan::Power(arguments) => power(arguments),
        Plan::Preflight(arguments) => super::preflight::run(arguments),
    }
}

/// The effect that is assumed, and the law that it stands against.
struct Assumed {
    null: Null,
    excess: f64,
    curve: Option<DoseCurve>,
}

impl Assumed {
    /// `None` where nothing is assumed.
    fn of(
        profile: &Profile,
        mean_excess: Option<f64>,
        share: Option<f64>,
        dose_curve: Option<&Path>,
    ) -> Result<Option<Self>, CliError> {
        // The law of a score is the same under every key.
        let any = SlotKey::from_parts([0; 32], Epoch::new("any")?, 0);
        let mark = profile.bind(&any).map_err(|source| CliError::Profile {
            name: profile.id.clone(),
            source,
        })?;
        let null = mark.scheme().null();
        let curve = dose_curve.map(super::distill::dose_curve).transpose()?;
        let excess = match (mean_excess, share, &curve) {
            (Some(excess), ..) => excess,
            (None, Some(share), Some(curve)) => curve.excess_at(share),
            _ => return Ok(None),
        };
        let mean = null.mean() + excess;
        if excess <= 0.0 || !excess.is_finite() || null.max().is_some_and(|max| mean >= max) {
            let most = null.max().map_or(String::new(), |max| {
                format!(" and below {:.4}", max - null.mean())
            });
            return Err(CliError::Usage(format!(
                "a mean excess of {excess}: it must be above 0{most} under profile {}",
                profile.id
            )));
        }
        Ok(Some(Self {
            null,
            excess,
            curve,
        }))
    }

    fn mean(&self) -> f64 {
        self.null.mean() + self.excess
    }

    /// Cells of the plain closed test.
    fn cells(&self, alpha: f64, power: f64) -> Result<u64, CliError> {
        let excess = self.excess;
        cells_needed(self.null, self.mean(), alpha, power).ok_or_else(|| {
            CliError::Usage(format!(
                "a mean excess of {excess} is too small: more than 2^40 cells"
            ))
        })
    }
}

/// What one test will need.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Need {
    cells: u64,
    tokens: u64,
    /// `exact` or `simulated`.
    method: &'static str,
    /// Of a simulation.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<u64>,
}

fn power(arguments: &Power) -> Result<ExitCode, CliError> {
    check(arguments)?;
    let profile = crate::mark::profile(&arguments.profile)?;
    let assumed = Assumed::of(
        &profile,
        arguments.mean_excess,
        arguments.share,
        arguments.dose_curve.as_deref(),
    )?
    .ok_or_else(|| CliError::Usage("give --mean-excess, or --share and --dose-curve".into()))?;
    let (null, mean, excess) = (assumed.null, assumed.mean(), assumed.excess);
    let tokens = |cells: u64| (cells as f64 / arguments.cells_per_token).ceil() as u64;
    let need = |cells, method, runs| Need {
        cells,
        tokens: tokens(cells),
        method,
        runs,
    };
    let cells = assumed.cells(arguments.alpha, arguments.power)?;
    let plain = need(cells, "exact", None);
    let curve = assumed.curve;
    let watched = stopping(null, mean, cells, arguments)
        .map(|(cells, runs)| need(cells, "simulated", Some(runs)));
    let other = arguments
        .efficiency
        .map(|ratio| (plain.tokens as f64 / ratio).ceil() as u64);
    match arguments.format {
        Format::Human => {
            let from = match (&curve, arguments.share) {
                (Some(curve), Some(share)) => {
                    format!(
                        ", at share {share} of the calibration model, {}",
                        curve.source
                    )
                }
                _ => String::new(),
            };
            println!(
                "profile {}: mean score {:.4} by chance, {mean:.4} assumed ({excess:+.4}{from})",
                profile.id,
                null.mean()
            );
            println!(
                "rejection at alpha {:e} with probability {}, {} cells a token",
                arguments.alpha, arguments.power, arguments.cells_per_token
            );
            println!("  {:<14}{:>12} {:>12}", "test", "cells", "tokens");
            println!(
                "  {:<14}{:>12} {:>12}  exact",
                "closed-cells", plain.cells, plain.tokens
            );
            match &watched {
                Some(need) => println!(
                    "  {:<14}{:>12} {:>12}  simulated, {} runs: so many have stopped by then",
                    "any-time",
                    need.cells,
                    need.tokens,
                    need.runs.unwrap_or_default()
                ),
                None => println!(
                    "  {:<14}{:>12} {:>12}  too many cells to simulate",
                    "any-time", "-", "-"
                ),
            }
            if let (Some(ratio), Some(tokens)) = (arguments.efficiency, other) {
                println!(
                    "  {:<14}{:>12} {tokens:>12}  closed-cells over {ratio}, the efficiency given",
                    "other", "-"
                );
            }
        }
        Format::Json | Format::Jsonl => print_json(&PowerSaid {
            schema: Version,
            profile,
            null_mean: null.mean(),
            mean_excess: excess,
            share: arguments.share,
            calibration: curve.map(|curve| curve.source),
            alpha: arguments.alpha,
            power: arguments.power,
            cells_per_token: arguments.cells_per_token,
            closed_cells: plain,
            any_time: watched,
            other: arguments
                .efficiency
                .zip(other)
                .map(|(efficiency, tokens)| OtherNeed {
                    efficiency,
                    tokens,
                    method: "by the efficiency given",
                }),
        }),
    }
    Ok(ExitCode::SUCCESS)
}

/// Cells after which the share `power` of the runs has stopped, and the runs; none where that would take too
/// long.
fn stopping(null: Null, mean: f64, cells: u64, arguments: &Power) -> Option<(u64, u64)> {
    let coins = match null {
        Null::Binomial { trials, .. } => u64::from(trials),
        Null::List { .. } => 1,
        Null::Gamma { shape } => u64::from(shape),
    };
    let runs = (DRAWS / (cells * coins).max(1)).min(*RUNS.end());
    if runs < *RUNS.start() {
        return None;
    }
    let limit = cells.saturating_mul(4).saturating_add(1000);
    let (alpha, power) = (arguments.alpha, arguments.power);
    let stop = simulated_stopping_cells(null, mean, alpha, power, limit, runs as usize, SEED)?;
    Some((stop, runs))
}

fn check(arguments: &Power) -> Result<(), CliError> {
    let inside = |x: f64| x > 0.0 && x < 1.0;
    let share = arguments
        .share
        .is_none_or(|share| share > 0.0 && share <= 1.0);
    let efficiency = arguments
        .efficiency
        .is_none_or(|ratio| ratio > 0.0 && ratio.is_finite());
    let cells = arguments.cells_per_token > 0.0 && arguments.cells_per_token <= 1.0;
    for (option, holds, range) in [
        ("--alpha", inside(arguments.alpha), "above 0 and below 1"),
        ("--power", inside(arguments.power), "above 0 and below 1"),
        ("--share", share, "above 0 and at most 1"),
        ("--cells-per-token", cells, "above 0 and at most 1"),
        ("--efficiency", efficiency, "above 0"),
    ] {
        if !holds {
            return Err(CliError::Usage(format!("{option} must be {range}")));
        }
    }
    Ok(())
}
