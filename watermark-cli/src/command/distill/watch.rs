//! `watermark distill --watch`: one look at a test that may be looked at any time.

use std::path::Path;
use std::process::ExitCode;

use watermark_core::anytime::{Advice, Event, Look, Stopping, Watch};
use watermark_core::detect::TestId;
use watermark_core::profile::Vocabulary;
use watermark_core::report::{EXPLORATORY, KeyInfo};
use watermark_core::verdict::Verdict;
use watermark_core::warning::Warning;

use super::asked::Asked;
use super::dry_head;
use super::evidence::given;
use crate::cli::{Distill, Format};
use crate::command::detect::exhibit;
use crate::command::said::WatchSaid;
use crate::error::CliError;
use crate::input::{Item, read_all, read_text};
use crate::render::{headline, print_json, write_file};
use crate::schema::Version;

pub(super) fn run(arguments: &Distill, path: &Path, asked: &Asked) -> Result<ExitCode, CliError> {
    let policy = &asked.policy;
    let context = asked.open(arguments)?;
    let commitment = asked.commitment(arguments, &context)?;
    let mark = &context.mark;
    let inputs = read_all(
        &arguments.suspect,
        &arguments.form,
        &context.tokenizer,
        &context.mark.profile().special_tokens,
    )?;
    let vocabulary = Some(Vocabulary::of(&context.tokenizer));
    let plan = asked.plan_info(&given(arguments, &context, &inputs)?)?;
    let heading = match &plan {
        None => EXPLORATORY.to_owned(),
        Some(plan) => format!("under the plan sealed {}", plan.sealed_at),
    };
    let mut watch = match path.exists() {
        false => Watch::new(mark, vocabulary),
        true => Watch::resume(mark, vocabulary, &read_text(path)?).map_err(|source| {
            CliError::State {
                path: path.to_owned(),
                source,
            }
        })?,
    };
    let taken = take(&mut watch, &inputs.items).map_err(|answer| CliError::StateAnswers {
        path: path.to_owned(),
        answer,
    })?;
    if arguments.dry.dry_run {
        dry_head(arguments, asked, &context)
            .text(inputs.counts.answers, exhibit(mark, &inputs.items).counts())
            .test(Some(vec![TestId::ClosedCells]), policy, 0)
            .writes("state", [path])
            .print(arguments.format);
        return Ok(ExitCode::SUCCESS);
    }
    let look = watch.look(&Stopping {
        alpha: policy.alpha,
        planned: arguments.watch.planned_cells,
    });
    let state = watch.state();
    let json = serde_json::to_string(state).expect("a state is plain data");
    write_file(path, json.as_bytes())?;

    let verdict = if look.cells < policy.min_cells {
        Verdict::InsufficientEvidence
    } else if look.advice == Advice::Decided {
        Verdict::Rejected
    } else {
        Verdict::NotRejected
    };
    let counts = inputs.counts;
    let retokenised = (counts.answers_from_text > 0).then(|| Warning::Retokenised {
        answers: counts.answers_from_text,
        of: counts.answers,
        scored: look.cells as f64 / look.tokens.max(1) as f64,
    });
    let exposed = context.held.exposure().map(Warning::of_exposure);
    let warnings: Vec<Warning> = retokenised.into_iter().chain(exposed).collect();
    match arguments.format {
        Format::Human => {
            println!("{heading}");
            println!(
                "{verdict}: E = {}, {} by 1/E at alpha {:e}, key {} (epoch {}, slot {}), profile {}",
                look.e,
                headline(look.p),
                policy.alpha,
                mark.key_id(),
                mark.label().epoch,
                mark.label().index,
                mark.profile().id
            );
            println!("  {}", verdict.explanation());
            println!(
                "  look       {}: {} cells of {} tokens, {taken} new answers",
                state.looks, look.cells, look.tokens
            );
            println!(
                "  advice     {}",
                advice(&look, arguments.watch.planned_cells)
            );
            for warning in &warnings {
                println!("  warning    {}: {}", warning.meaning(), warning.remedy());
            }
        }
        Format::Json | Format::Jsonl => print_json(&WatchSaid {
            schema: Version,
            verdict,
            policy,
            plan: heading,
            sealed_plan: plan,
            commitment,
            profile: mark.profile(),
            key: KeyInfo::of(mark),
            read: counts,
            new_answers: taken,
            looks: state.looks,
            planned_cells: arguments.watch.planned_cells,
            look,
            warnings: &warnings,
        }),
    }
    Ok(arguments.policy.exit(verdict))
}

/// Takes in the answers behind those that the watch has; gives their number, or the number of the
/// first answer that is not the one that it has.
fn take(watch: &mut Watch<'_>, items: &[Item]) -> Result<usize, usize> {
    let mut given = items.iter().flat_map(|item| &item.segments);
    let known = watch.state().events.iter().filter_map(|event| match event {
        Event::Answer(answer) => Some(answer),
        Event::Prompt(_) => None,
    });
    for (index, answer) in known.enumerate() {
        if given.next() != Some(answer) {
            return Err(index + 1);
        }
    }
    // All prompts before the first of the new answers.
    let contexts = items.iter().flat_map(|item| &item.contexts);
    contexts.for_each(|context| watch.exclude(context));
    let new: Vec<_> = given.collect();
    new.iter().for_each(|answer| watch.push(answer));
    Ok(new.len())
}

fn advice(look: &Look, planned: Option<u64>) -> String {
    let reach = look.reach.map_or(String::new(), |reach| {
        format!(
            " (if the effect is as large as still plausible: probability {reach:.2} within {} cells)",
            planned.unwrap_or_default()
        )
    });
    match look.advice {
        Advice::Decided => "E has reached 1/alpha: stop here".to_owned(),
        Advice::Futile => format!("reaching 1/alpha has become improbable: stop{reach}"),
        Advice::GoOn => format!("go on{reach}"),
    }
}
