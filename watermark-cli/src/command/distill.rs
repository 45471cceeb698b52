//! `watermark distill`.

use std::process::ExitCode;

use watermark_core::distill::{Distillation, distill};
use watermark_core::key::{ACTIVE_SLOTS, SLOTS};
use watermark_core::profile::Mark;
use watermark_core::verdict::Verdict;

use super::detect::exhibit;
use crate::cli::{Distill, Format};
use crate::error::CliError;
use crate::input::read_all;
use crate::render::{print_json, report_text};
use watermark_eval::progress::bar;

pub(super) fn run(arguments: &Distill) -> Result<ExitCode, CliError> {
    let policy = arguments.policy.policy()?;
    if arguments.decoys > (SLOTS - ACTIVE_SLOTS) as usize {
        return Err(CliError::TooManyDecoys {
            asked: arguments.decoys,
        });
    }
    let context = arguments.mark.open()?;
    let mark = &context.mark;
    let decoys: Vec<Mark> = match (&context.keys.master, arguments.decoys) {
        (_, 0) => Vec::new(),
        (None, _) => return Err(CliError::DecoysNeedMaster),
        (Some(master), count) => master
            .decoys(&context.keys.slot.label().epoch)
            .take(count)
            .map(|slot| mark.profile().bind(&slot))
            .collect::<Result<_, _>>()
            .map_err(|source| CliError::Profile {
                name: arguments.mark.profile.clone(),
                source,
            })?,
    };
    let form = &arguments.form;
    let suspect = exhibit(
        mark,
        &read_all(&arguments.suspect, form, &context.tokenizer)?.items,
    );
    let control = match arguments.control.as_slice() {
        [] => None,
        paths => Some(exhibit(
            mark,
            &read_all(paths, form, &context.tokenizer)?.items,
        )),
    };
    let bar = bar(decoys.len() as u64, "keys that nobody used");
    let report = distill(
        &Distillation {
            mark,
            suspect: &suspect,
            control: control.as_ref(),
            reference: None,
            open: None,
            logs: None,
            reading: None,
            corpus: None,
            tests: None,
            decoys: &decoys,
            two_sided: false,
            threads: arguments.threads,
        },
        &|done| bar.set_position(done as u64),
    )?;
    bar.finish_and_clear();
    let verdict = Verdict::of_report(&report, &policy);
    match arguments.format {
        Format::Human => print!("{}", report_text(&report, &policy)),
        Format::Json | Format::Jsonl => print_json(&serde_json::json!({
            "type": "watermark.distillation", "schema": 1, "verdict": verdict,
            "policy": policy, "plan": "exploratory: no sealed plan", "report": report,
        })),
    }
    Ok(arguments.policy.exit(verdict))
}
