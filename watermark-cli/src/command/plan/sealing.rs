//! `watermark plan new` and `watermark plan seal`.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use watermark_core::detect::TestId;
use watermark_core::evidence::plan::{
    Api, Budget, Control, Forecast, Looks, PLAN_SCHEMA, Plan, PlanType, PlannedKey, Prompts,
    Request, SealedPlan,
};
use watermark_core::key::{Epoch, SlotLabel};
use watermark_core::profile::{Profile, Vocabulary};

use super::Assumed;
use crate::cli::{ApiArg, ControlArg, DryArgs, Format, KeyArgs, LooksArg, New};
use crate::command::key::commitment;
use crate::command::said::{PlanSealed, PlanWritten};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::render::{check_new_file, print_json, write_new_file};
use crate::schema::Version;

pub(super) fn new(arguments: &New) -> Result<ExitCode, CliError> {
    let (profile, tokenizer, key) = key(arguments)?;
    let (tests, suspect) = (&arguments.tests, &arguments.suspect);
    let family = match (tests.tests.as_slice(), tests.looks) {
        ([], LooksArg::Once) => vec![
            TestId::ClosedCells,
            TestId::ClosedSqrt,
            TestId::ClosedInverseVariance,
        ],
        ([], LooksArg::Anytime) => vec![TestId::ClosedCells],
        (given, _) => given.to_vec(),
    };
    let strongest = family.iter().find(|&&id| id == TestId::ClosedSqrt);
    let primary = tests.primary.or(strongest.copied()).unwrap_or(family[0]);
    let bytes = std::fs::read(&suspect.prompts).map_err(CliError::io(&suspect.prompts))?;
    let name = suspect.prompts.file_name().unwrap_or_default();
    let prompts =
        Prompts::of(&name.to_string_lossy(), &bytes).map_err(|source| CliError::Prompts {
            path: suspect.prompts.clone(),
            source,
        })?;
    let answers = suspect
        .budget_answers
        .unwrap_or(prompts.count.saturating_mul(u64::from(suspect.samples)));
    let tokens = suspect
        .budget_tokens
        .unwrap_or(answers.saturating_mul(u64::from(suspect.max_tokens)));
    let forecast = forecast(arguments, &profile, family.len())?;
    let plan = Plan {
        kind: PlanType::Plan,
        schema: PLAN_SCHEMA,
        id: arguments.id.clone(),
        profile,
        tokenizer,
        key,
        tests: family,
        primary,
        two_sided: tests.two_sided,
        alpha: tests.alpha,
        min_cells: tests.min_cells,
        looks: match tests.looks {
            LooksArg::Once => Looks::Once,
            LooksArg::Anytime => Looks::Anytime,
        },
        decoys: tests.decoys,
        supervised_cells: tests.supervised_cells,
        controls: tests
            .controls
            .iter()
            .map(|control| match control {
                ControlArg::Answers => Control::Answers,
                ControlArg::OpenWeights => Control::OpenWeights,
            })
            .collect(),
        prompts,
        request: Request {
            api: match suspect.api {
                ApiArg::Chat => Api::Chat,
                ApiArg::Completions => Api::Completions,
            },
            model: suspect.model.clone(),
            max_tokens: suspect.max_tokens,
            temperature: suspect.temperature,
            top_p: suspect.top_p,
            samples: suspect.samples,
        },
        budget: Budget { answers, tokens },
        forecast,
    };
    plan.check().map_err(|source| CliError::Plan {
        path: arguments.out.clone(),
        source,
    })?;
    if arguments.dry.dry_run {
        check_new_file(&arguments.out)?;
        let source = arguments.key.source();
        let given = arguments.commitment.is_none();
        let dry = match given {
            true => DryRun::of("plan new").key_source(&source),
            false => DryRun::of("plan new"),
        };
        let label = SlotLabel {
            epoch: Epoch::new(&plan.key.epoch)?,
            index: plan.key.slot,
        };
        dry.slot(plan.key.id.clone(), &label)
            .reads("commitment", &arguments.commitment)
            .reads("prompts", [&suspect.prompts])
            .reads("dose-curve", &arguments.forecast.dose_curve)
            .reads("tokenizer", &arguments.tokenizer)
            .test(
                Some(plan.tests.clone()),
                &plan.policy(),
                plan.decoys as usize,
            )
            .writes("plan", [&arguments.out])
            .print(Format::Json);
        return Ok(ExitCode::SUCCESS);
    }
    write_new_file(&arguments.out, (plan.to_json() + "\n").as_bytes())?;
    if let Some(forecast) = &plan.forecast
        && forecast.tokens > plan.budget.tokens
    {
        eprintln!(
            "warning: by the forecast {} tokens are needed, and the budget is {}",
            forecast.tokens, plan.budget.tokens
        );
    }
    print_json(&PlanWritten {
        schema: Version,
        file: arguments.out.clone(),
        forecast: plan.forecast,
        budget: plan.budget,
    });
    Ok(ExitCode::SUCCESS)
}

/// Profile, vocabulary and key: from the commitment, or from the arguments.
fn key(arguments: &New) -> Result<(Profile, Vocabulary, PlannedKey), CliError> {
    let slot = arguments.slot.unwrap_or(0);
    let Some(path) = &arguments.commitment else {
        let (profile, tokenizer) =
            crate::mark::recipe(&arguments.profile, arguments.tokenizer.as_deref())?;
        let keys = KeyArgs {
            source: arguments.key.source(),
            epoch: arguments.epoch.clone(),
            slot: arguments.slot,
        }
        .read()?;
        let label = keys.slot.label();
        let key = PlannedKey {
            id: keys.slot.id().to_string(),
            epoch: label.epoch.to_string(),
            slot: label.index,
            commitment: None,
        };
        return Ok((profile, Vocabulary::of(&tokenizer), key));
    };
    let found = commitment(path)?;
    let id = found.active_key(slot).ok_or(CliError::DecoySlot(slot))?;
    let key = PlannedKey {
        id: id.to_owned(),
        epoch: found.epoch().to_string(),
        slot,
        commitment: Some(found.root().to_owned()),
    };
    let params = found.params();
    if let Some(path) = &arguments.tokenizer {
        let given = Vocabulary::of(&crate::mark::tokenizer(Some(path))?);
        found
            .check_recipe(&params.profile, &given)
            .map_err(|source| CliError::Commitment {
                path: path.clone(),
                source,
            })?;
    }
    Ok((params.profile.clone(), params.tokenizer.clone(), key))
}

/// Cells and tokens that the closed test needs at its share of alpha.
fn forecast(
    arguments: &New,
    profile: &Profile,
    tests: usize,
) -> Result<Option<Forecast>, CliError> {
    let given = &arguments.forecast;
    let curve = given.dose_curve.as_deref();
    let Some(assumed) = Assumed::of(profile, given.mean_excess, given.share, curve)? else {
        return Ok(None);
    };
    let inside = |x: f64| x > 0.0 && x < 1.0;
    for (option, holds, range) in [
        (
            "--alpha",
            inside(arguments.tests.alpha),
            "above 0 and below 1",
        ),
        ("--power", inside(given.power), "above 0 and below 1"),
        (
            "--cells-per-token",
            given.cells_per_token > 0.0 && given.cells_per_token <= 1.0,
            "above 0 and at most 1",
        ),
    ] {
        if !holds {
            return Err(CliError::Usage(format!("{option} must be {range}")));
        }
    }
    let alpha = arguments.tests.alpha / tests as f64;
    let cells = assumed.cells(alpha, given.power)?;
    Ok(Some(Forecast {
        mean_excess: assumed.excess,
        share: given.share,
        calibration: assumed.curve.map(|curve| curve.source),
        power: given.power,
        alpha,
        cells_per_token: given.cells_per_token,
        cells,
        tokens: (cells as f64 / given.cells_per_token).ceil() as u64,
    }))
}

pub(super) fn seal(path: &Path, out: &Path, dry: DryArgs) -> Result<ExitCode, CliError> {
    let json = crate::input::read_text(path)?;
    let wrap = |source| CliError::Plan {
        path: path.to_owned(),
        source,
    };
    let plan = Plan::from_json(&json).map_err(wrap)?;
    let sealed = SealedPlan::seal(plan, SystemTime::now()).map_err(wrap)?;
    if dry.dry_run {
        check_new_file(out)?;
        let plan = sealed.plan();
        DryRun::of("plan seal")
            .reads("plan", [path])
            .plan(Some(&sealed))
            .test(
                Some(plan.tests.clone()),
                &plan.policy(),
                plan.decoys as usize,
            )
            .writes("sealed-plan", [out])
            .print(Format::Json);
        return Ok(ExitCode::SUCCESS);
    }
    write_new_file(out, sealed.to_json().as_bytes())?;
    print_json(&PlanSealed {
        schema: Version,
        file: out.to_owned(),
        digest: sealed.digest().to_owned(),
        sealed_at: sealed.sealed_at().to_owned(),
    });
    eprintln!(
        "publish the digest, or have a time put on it, before anything is collected: sha256 {}",
        sealed.digest()
    );
    Ok(ExitCode::SUCCESS)
}
