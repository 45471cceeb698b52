//! `watermark detect`.

use std::collections::HashMap;
use std::process::ExitCode;

use watermark_core::detect::{Sample, TestId};
use watermark_core::profile::Mark;
use watermark_core::report::KeyInfo;
use watermark_core::verdict::{Policy, Verdict};
use watermark_core::warning::Warning;
use watermark_core::window::Exhibit;

use super::said::DetectionsSaid;
use crate::cli::{Detect, FormArgs, Format, MarkArgs};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::input::{Item, read_all};
use crate::mark::Context;
use crate::render::{Detection, detection_line, print_json};
use crate::schema::Version;

pub(crate) mod windows;

pub(super) fn run(arguments: &Detect) -> Result<ExitCode, CliError> {
    let policy = arguments.policy.policy()?;
    let context = arguments.mark.open()?;
    let inputs = read_all(
        &arguments.inputs,
        &arguments.form,
        &context.tokenizer,
        &context.mark.profile().special_tokens,
    )?;
    let items = &inputs.items;
    let mark = &context.mark;
    if arguments.dry.dry_run {
        let decoys = context.decoys(arguments.decoys)?.len();
        read_by(DryRun::of("detect"), &arguments.mark, &arguments.form)
            .context(&context)
            .reads("input", &arguments.inputs)
            .text(inputs.counts.answers, exhibit(mark, items).counts())
            .test(Some(vec![TestId::ClosedCells]), &policy, decoys)
            .print(arguments.format);
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines: Vec<Detection> = items
        .iter()
        .map(|item| detection(mark, &item.name, std::slice::from_ref(item), &policy))
        .collect();
    if arguments.windows {
        let decoys = context.decoys(arguments.decoys)?;
        for (line, item) in lines.iter_mut().zip(items) {
            let Context { tokenizer, .. } = &context;
            let scanned = windows::scan(mark, tokenizer, item, &decoys, &policy)
                .map_err(|error| CliError::Usage(format!("--windows: {error}")))?;
            line.verdict = scanned.verdict(&policy);
            line.windows = Some(scanned);
        }
    }
    let all = detection(mark, "all inputs", items, &policy);
    let warning = Warning::of_function(mark);
    match arguments.format {
        Format::Human => {
            println!("profile {}, key {}", mark.profile().id, mark.key_id());
            if let Some(warning) = &warning {
                println!("note: {}; {}", warning.meaning(), warning.remedy());
            }
            lines.iter().chain([&all]).for_each(|line| {
                println!("{}", detection_line(line));
                if let Some(scanned) = &line.windows {
                    print!("{}", scanned.lines());
                }
            });
            if let Some(warning) = Warning::of_p(all.sample.test.p) {
                eprintln!("warning: {}: {}", warning.meaning(), warning.remedy());
            }
        }
        Format::Json => print_json(&DetectionsSaid {
            schema: Version,
            profile: mark.profile(),
            key: KeyInfo::of(mark),
            policy,
            read: inputs.counts,
            inputs: &lines,
            all: &all,
            warnings: Vec::from_iter(warning),
        }),
        Format::Jsonl => lines.iter().chain([&all]).for_each(print_json),
    }
    Ok(arguments.policy.exit(all.verdict))
}

/// The files that a mark and a form of inputs come from.
pub(super) fn read_by(dry: DryRun, mark: &MarkArgs, form: &FormArgs) -> DryRun {
    let built_in = watermark_core::profile::Profile::built_in(&mark.profile).is_some();
    let profile = (!built_in).then_some(&mark.profile);
    dry.key_source(&mark.key.source)
        .reads("profile", profile)
        .reads("tokenizer", &mark.tokenizer)
        .reads("requests", &form.requests)
}

/// Tests some inputs as one exhibit. The windows of what the model read do not count.
fn detection(mark: &Mark, name: &str, items: &[Item], policy: &Policy) -> Detection {
    let sample = Sample::of(mark, &exhibit(mark, items));
    Detection {
        kind: "watermark.detection",
        schema: 1,
        input: name.to_owned(),
        source: match items {
            [item] => item.source.clone(),
            _ => None,
        },
        verdict: Verdict::of(&sample.test, policy),
        windows: None,
        sample,
    }
}

/// The inputs' cells: windows of anything that a model read left out.
pub(crate) fn exhibit(mark: &Mark, items: &[Item]) -> Exhibit {
    let mut exhibit = Exhibit::new(mark.profile().context_width());
    let contexts = items.iter().flat_map(|item| &item.contexts);
    contexts.for_each(|context| exhibit.exclude(context));
    for (source, item) in sources(items).into_iter().zip(items) {
        let segments = item.segments.iter();
        segments.for_each(|segment| exhibit.push_from(source, segment));
    }
    exhibit
}

/// The number of each answer's prompt: answers to one prompt share it.
pub(super) fn sources(items: &[Item]) -> Vec<u32> {
    let mut known = HashMap::new();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next - 1
    };
    let number = |item: &Item| match &item.source {
        Some(source) => *known.entry(source.clone()).or_insert_with(&mut fresh),
        None => fresh(),
    };
    items.iter().map(number).collect()
}
