//! How far a collection is: read from its records, whose chain is verified on the way.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;

use super::bar::duration;
use super::budget::Spent;
use super::folder::{PlanInfo, Repeats, View, is_locked};
use super::transcript::Origin;
use crate::cli::{CollectStatus, Format};
use crate::error::CliError;
use crate::render::print_json;

/// Answers that the present rate is taken from.
const RECENT: usize = 100;

/// A collection in numbers.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "watermark.collection-status"))]
    kind: &'static str,
    #[schemars(extend("const" = 1))]
    schema: u32,
    dir: PathBuf,
    origin: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanInfo>,
    collector_held_key: bool,
    /// A collector is at work.
    running: bool,
    requests: u64,
    answered: u64,
    /// For good; not asked again.
    refused: u64,
    remaining: u64,
    failed_attempts: u64,
    /// Sent, without a record: on their way, or lost when a run was killed.
    unrecorded: u64,
    /// Answers to ids that the collection did not ask.
    #[serde(skip_serializing_if = "is_zero")]
    foreign: u64,
    spent: Spent,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    /// Answers a second, of late.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
    repeats: Repeats,
    chain: ChainInfo,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The chain of the transcript.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChainInfo {
    /// A broken one has no status but an error.
    verified: bool,
    lines: u64,
    /// SHA-256 of the last line, or of collection.json where there is none: who has it from that day can tell later
    /// whether the transcript is the same.
    head: String,
    /// Bytes of a last line without its end.
    unfinished_bytes: usize,
}

impl Status {
    pub(super) fn of(view: &View, head: &str, unfinished_bytes: usize, running: bool) -> Self {
        let book = &view.book;
        let collection = &view.collection;
        let requests = match collection.origin {
            Origin::Observed => view.asks.len() as u64,
            Origin::Imported => book.answered() + book.refused(),
        };
        let remaining = match collection.origin {
            Origin::Observed => view
                .asks
                .iter()
                .filter(|ask| !book.is_done(&ask.id))
                .count(),
            Origin::Imported => 0,
        } as u64;
        let rate = match collection.origin {
            Origin::Observed => rate(&book.times),
            Origin::Imported => None,
        };
        let spent = book.spent;
        Self {
            kind: "watermark.collection-status",
            schema: 1,
            dir: view.dir.clone(),
            origin: collection.origin,
            endpoint: collection.endpoint.clone(),
            model: collection.model.clone(),
            plan: collection.plan.clone(),
            collector_held_key: collection.collector_held_key,
            running,
            requests,
            answered: book.answered(),
            refused: book.refused(),
            remaining,
            failed_attempts: book.failed_attempts,
            unrecorded: book.open(),
            foreign: book.foreign,
            spent,
            cost: collection
                .caps
                .cost_of(spent.input_tokens, spent.output_tokens),
            rate,
            seconds_left: rate.map(|rate| remaining as f64 / rate),
            repeats: book.repeats(),
            chain: ChainInfo {
                verified: true,
                lines: book.lines,
                head: head.to_owned(),
                unfinished_bytes,
            },
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| out += &format!("  {name:<11}{value}\n");
        let of = match (&self.model, &self.endpoint) {
            (Some(model), Some(endpoint)) => format!("{model} at {endpoint}"),
            _ => "imported answers".to_owned(),
        };
        if let Some(plan) = &self.plan {
            line(
                "plan",
                format!(
                    "{}, digest {}, sealed {}",
                    plan.id, plan.digest, plan.sealed_at
                ),
            );
        }
        line(
            "collector",
            match (self.origin, self.collector_held_key) {
                (Origin::Imported, _) => "others; their custody is as good as theirs",
                (_, true) => {
                    "held the key: whoever checks this has to rely on more than the collector"
                }
                (_, false) => "did not use the key",
            }
            .to_owned(),
        );
        line(
            "requests",
            format!(
                "{} of {} answered, {} refused for good, {} to ask; {} failed attempts",
                self.answered, self.requests, self.refused, self.remaining, self.failed_attempts
            ),
        );
        if self.unrecorded > 0 {
            let what = match self.running {
                true => "on their way, or lost",
                false => "lost: sent, and their responses never recorded",
            };
            line("unrecorded", format!("{} requests {what}", self.unrecorded));
        }
        let cost = self
            .cost
            .map_or(String::new(), |cost| format!(", cost {cost:.4}"));
        let estimated = match self.spent.estimated {
            0 => String::new(),
            n => format!("; {n} requests at their worst case, since nobody told"),
        };
        line(
            "spent",
            format!(
                "{} requests, {} tokens read and {} written{cost}{estimated}",
                self.spent.requests, self.spent.input_tokens, self.spent.output_tokens
            ),
        );
        if let (Some(rate), Some(left)) = (self.rate, self.seconds_left.filter(|&s| s > 0.0)) {
            line(
                "rate",
                format!("{rate:.2} answers a second, {} left", duration(left)),
            );
        }
        line(
            "chain",
            format!(
                "holds: {} lines, head {}",
                self.chain.lines, self.chain.head
            ),
        );
        if self.chain.unfinished_bytes > 0 {
            line(
                "unfinished",
                format!(
                    "{} bytes of a last line{}",
                    self.chain.unfinished_bytes,
                    match self.running {
                        true => "",
                        false => "; resume drops or completes it",
                    }
                ),
            );
        }
        for warning in self.warnings() {
            line("warning", warning);
        }
        let dir = self.dir.display();
        let running = match self.running {
            true => ", a collector is at work",
            false => "",
        };
        format!("{dir}: {of}{running}\n{out}")
    }

    /// What a reader of the numbers must know.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let Repeats {
            same_prompt,
            other_prompt,
        } = self.repeats;
        if other_prompt > 0 {
            warnings.push(format!(
                "{other_prompt} answers stand under several prompts word for word: a cache, a refusal or a fixed text; they add no evidence"
            ));
        }
        if same_prompt > 0 {
            warnings.push(format!(
                "{same_prompt} answers repeat an answer to the same prompt although the temperature is above 0: a cache, or a low-entropy prompt; they add no evidence"
            ));
        }
        if self.foreign > 0 {
            warnings.push(format!(
                "{} lines have ids that are not in prompts.jsonl",
                self.foreign
            ));
        }
        warnings
    }
}

/// Answers a second over the latest ones.
fn rate(times: &[SystemTime]) -> Option<f64> {
    let recent = &times[times.len().saturating_sub(RECENT)..];
    let (first, last) = (recent.iter().min()?, recent.iter().max()?);
    let seconds = last.duration_since(*first).ok()?.as_secs_f64();
    (recent.len() > 1 && seconds > 0.0).then(|| (recent.len() - 1) as f64 / seconds)
}

pub(super) fn run(arguments: &CollectStatus) -> Result<ExitCode, CliError> {
    let running = is_locked(&arguments.dir);
    let (view, head, rest) = View::look(&arguments.dir)?;
    let status = Status::of(&view, &head, rest, running);
    match arguments.format {
        Format::Human => print!("{}", status.text()),
        Format::Json | Format::Jsonl => print_json(&status),
    }
    Ok(ExitCode::SUCCESS)
}
