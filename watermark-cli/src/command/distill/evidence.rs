//! The files of a distillation test, read and put together.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::distill::DistillError;
use watermark_core::effect::written_excess;
use watermark_core::openweights::ScoredText;
use watermark_core::profile::Mark;
use watermark_core::reading::{Reading, ReadingResult};
use watermark_core::regime::ExactWindows;
use watermark_core::warning::Warning;
use watermark_core::window::{Counts as WindowCounts, Exhibit};

use super::asked::Given;
use super::open;
use crate::cli::Distill;
use crate::command::detect::{exhibit, sources};
use crate::error::CliError;
use crate::input::aligned::{Aligned, align};
use crate::input::logprobs::{self, LogProbs};
use crate::input::{Counts, Inputs, Item, prompt_sources, read_all};
use crate::mark::Context;

/// Everything that was given.
pub(super) struct Evidence {
    pub(super) suspect: Exhibit,
    pub(super) control: Option<Exhibit>,
    pub(super) reference: Option<Vec<ScoredText>>,
    pub(super) corpus: Option<Vec<Vec<u32>>>,
    pub(super) open_suspect: Option<Vec<ScoredText>>,
    pub(super) open_references: Vec<Vec<ScoredText>>,
    pub(super) open_control: Option<Vec<ScoredText>>,
    pub(super) logs: Option<Written>,
    pub(super) reading: Option<ReadingResult>,
    pub(super) warnings: Vec<Warning>,
    /// How much of the suspect.
    pub(super) given: Given,
    /// What was read, by option.
    pub(super) counts: BTreeMap<&'static str, Read>,
    /// The name of each prompt of the suspect, by its number.
    prompts: BTreeMap<u32, String>,
    /// The domain of each, where records name one.
    domains: BTreeMap<u32, String>,
}

/// What was written under the key.
pub(super) struct Written {
    pub(super) windows: ExactWindows,
    /// Mean excess of its cells.
    pub(super) effect: f64,
}

/// How much was read.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Read {
    Answers(Counts),
    Distributions(LogProbCounts),
}

/// Texts with distributions.
#[derive(Clone, Copy, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogProbCounts {
    /// Texts.
    pub(super) texts: u64,
    /// Positions with a distribution.
    pub(super) positions: u64,
    /// Entries without an id, dropped.
    pub(super) dropped: u64,
    /// Tokens of texts without an id.
    pub(super) unknown: u64,
    /// Failed requests.
    pub(super) skipped: u64,
}

impl LogProbCounts {
    pub(super) fn of(found: &LogProbs) -> Self {
        let positions = found
            .texts
            .iter()
            .map(|(_, text)| text.positions().len() as u64);
        Self {
            texts: found.texts.len() as u64,
            positions: positions.sum(),
            dropped: found.dropped,
            unknown: found.unknown,
            skipped: found.skipped,
        }
    }
}

impl Evidence {
    /// Reads what the arguments name.
    pub(super) fn read(arguments: &Distill, context: &Context) -> Result<Self, CliError> {
        let mark = &context.mark;
        let Parsed {
            mut counts,
            suspect,
            control,
            corpus,
            reference,
            logs,
            reading,
        } = Parsed::of(arguments, context)?;
        let reading = reading
            .map(|(aligned, top)| read_logs(mark, aligned, top))
            .transpose()?;
        let open = open::read(&arguments.open, context, arguments.threads)?;
        counts.extend(open.counts);
        let warnings = suspect.as_ref().map_or_else(Vec::new, |inputs| {
            let log_counts = logs.as_ref().map(|logs| logs.counts);
            warnings(mark, inputs, log_counts)
        });
        let given = match &suspect {
            None => Given::default(),
            Some(inputs) => given(arguments, context, inputs)?,
        };
        Ok(Self {
            given,
            prompts: suspect.as_ref().map(prompts).unwrap_or_default(),
            domains: suspect.as_ref().map(domains).unwrap_or_default(),
            suspect: match &suspect {
                Some(inputs) => exhibit(mark, &inputs.items),
                None => Exhibit::new(mark.scheme().context_width()),
            },
            control: control.map(|inputs| exhibit(mark, &inputs.items)),
            reference,
            corpus: corpus.map(|inputs| segments(inputs.items)),
            open_suspect: open.suspect,
            open_references: open.references,
            open_control: open.control,
            logs: logs.map(|logs| written(mark, &logs.items)),
            reading,
            warnings,
            counts,
        })
    }

    /// What a prompt is called in the inputs.
    pub(super) fn prompt(&self, source: u32) -> Option<&str> {
        self.prompts.get(&source).map(String::as_str)
    }

    /// The domain of a prompt.
    pub(super) fn domain(&self, source: u32) -> Option<&str> {
        self.domains.get(&source).map(String::as_str)
    }

    /// Whether records name domains.
    pub(super) fn has_domains(&self) -> bool {
        !self.domains.is_empty()
    }
}

/// Files as they are read, before anything is made of them.
pub(super) struct Parsed {
    counts: BTreeMap<&'static str, Read>,
    suspect: Option<Inputs>,
    control: Option<Inputs>,
    corpus: Option<Inputs>,
    reference: Option<Vec<ScoredText>>,
    logs: Option<Inputs>,
    reading: Option<(Vec<Aligned>, usize)>,
}

impl Parsed {
    /// Reads all but the neutral text.
    pub(super) fn of(arguments: &Distill, context: &Context) -> Result<Self, CliError> {
        let mut files = Files {
            arguments,
            context,
            counts: BTreeMap::new(),
        };
        let suspect = files.answers("suspect", &arguments.suspect)?;
        let control = files.answers("control", &arguments.control)?;
        let corpus = files.answers("corpus", &arguments.corpus)?;
        let reference = match &arguments.reference {
            None => None,
            Some(path) => {
                let items = suspect.as_ref().map_or(&[][..], |inputs| &inputs.items);
                let aligned = files.aligned("reference", path, items, |mismatch| {
                    DistillError::Reference(mismatch).into()
                })?;
                Some(aligned.into_iter().map(|aligned| aligned.text).collect())
            }
        };
        let logs = files.answers("logs", &arguments.logs.logs)?;
        let reading = match (&arguments.logs.reading, &logs, arguments.logs.reading_top) {
            (Some(path), Some(logs), Some(top)) => {
                let aligned = files.aligned("reading", path, &logs.items, CliError::Reading)?;
                files.complete("reading", path)?;
                Some((aligned, top))
            }
            _ => None,
        };
        Ok(Self {
            counts: files.counts,
            suspect,
            control,
            corpus,
            reference,
            logs,
            reading,
        })
    }

    /// How much of the suspect there is, and its cells.
    pub(super) fn suspect(
        &self,
        arguments: &Distill,
        context: &Context,
    ) -> Result<Option<(Given, WindowCounts)>, CliError> {
        let Some(inputs) = &self.suspect else {
            return Ok(None);
        };
        let cells = *exhibit(&context.mark, &inputs.items).counts();
        Ok(Some((given(arguments, context, inputs)?, cells)))
    }
}

struct Files<'a> {
    arguments: &'a Distill,
    context: &'a Context,
    counts: BTreeMap<&'static str, Read>,
}

impl Files<'_> {
    /// Answers; `None` where no path was given.
    fn answers(
        &mut self,
        name: &'static str,
        paths: &[PathBuf],
    ) -> Result<Option<Inputs>, CliError> {
        if paths.is_empty() {
            return Ok(None);
        }
        let inputs = read_all(
            paths,
            &self.arguments.form,
            &self.context.tokenizer,
            &self.context.mark.profile().special_tokens,
        )?;
        self.counts.insert(name, Read::Answers(inputs.counts));
        Ok(Some(inputs))
    }

    /// Refuses distributions of which some were lost: what is missing may depend on the key.
    fn complete(&self, name: &'static str, path: &Path) -> Result<(), CliError> {
        match self.counts.get(name) {
            Some(Read::Distributions(counts)) if counts.skipped + counts.unknown > 0 => {
                Err(CliError::IncompleteReading {
                    path: path.to_owned(),
                    skipped: counts.skipped,
                    unknown: counts.unknown,
                })
            }
            _ => Ok(()),
        }
    }

    /// Distributions along answers that are known.
    fn aligned(
        &mut self,
        name: &'static str,
        path: &Path,
        items: &[Item],
        error: impl Fn(watermark_core::battery::Mismatch) -> CliError,
    ) -> Result<Vec<Aligned>, CliError> {
        let found = log_probs(path, self.context)?;
        let counts = LogProbCounts::of(&found);
        self.counts.insert(name, Read::Distributions(counts));
        align(found.texts.iter().map(|(_, text)| text), items).map_err(error)
    }
}

/// A file of log-probabilities; what was lost is said on standard error.
pub(super) fn log_probs(path: &Path, context: &Context) -> Result<LogProbs, CliError> {
    let found = logprobs::read(path, &context.tokenizer)?;
    let LogProbs {
        dropped,
        unknown,
        skipped,
        ..
    } = found;
    let name = path.display();
    if skipped > 0 {
        eprintln!("warning: {name}: {skipped} failed requests skipped");
    }
    if unknown > 0 {
        eprintln!(
            "warning: {name}: {unknown} printed tokens of texts are no token's exact bytes; each ends its text there. Ask the server for token ids"
        );
    }
    if dropped > 0 {
        eprintln!("warning: {name}: {dropped} entries without a token id left out");
    }
    Ok(found)
}

fn segments(items: Vec<Item>) -> Vec<Vec<u32>> {
    items.into_iter().flat_map(|item| item.segments).collect()
}

/// The logs, taken in in the order given.
fn written(mark: &Mark, items: &[Item]) -> Written {
    let mut windows = ExactWindows::new(mark.scheme().context_width());
    let segments = items.iter().flat_map(|item| &item.segments);
    segments.for_each(|segment| windows.push(segment));
    Written {
        windows,
        effect: written_excess(mark, &exhibit(mark, items)),
    }
}

fn read_logs(mark: &Mark, aligned: Vec<Aligned>, top: usize) -> Result<ReadingResult, CliError> {
    let (texts, starts): (Vec<ScoredText>, Vec<usize>) = aligned
        .into_iter()
        .map(|aligned| (aligned.text, aligned.start))
        .unzip();
    Ok(Reading::new(&texts, &starts, top)?.e_value(mark)?)
}

/// How much was given, and to which prompts.
pub(super) fn given(
    arguments: &Distill,
    context: &Context,
    suspect: &Inputs,
) -> Result<Given, CliError> {
    let segments = suspect.items.iter().flat_map(|item| &item.segments);
    let planned = match &arguments.sealed.prompts {
        None => BTreeSet::new(),
        Some(path) => prompt_sources(path, &context.tokenizer)?,
    };
    let named: BTreeSet<&str> = suspect
        .items
        .iter()
        .filter_map(|i| i.source.as_deref())
        .collect();
    let known = |item: &&Item| {
        item.source
            .as_ref()
            .is_some_and(|source| planned.contains(source))
    };
    Ok(Given {
        answers: suspect.counts.answers,
        tokens: match suspect.counts.answers_from_text {
            0 => segments.map(|segment| segment.len() as u64).sum(),
            // Tokenised again a text can have more tokens than were sampled.
            _ => 0,
        },
        prompts: named.len() as u64,
        answers_to_prompts: suspect.items.iter().filter(known).count() as u64,
    })
}

/// What the inputs say that the numbers do not.
fn warnings(mark: &Mark, suspect: &Inputs, logs: Option<Counts>) -> Vec<Warning> {
    let mut prompts = Exhibit::new(mark.scheme().context_width());
    let contexts = suspect.items.iter().flat_map(|item| &item.contexts);
    contexts.for_each(|context| prompts.push(context));
    let Counts {
        answers,
        answers_from_text,
        ..
    } = suspect.counts;
    if let Some(logs) = logs.filter(|logs| logs.answers_from_text > 0) {
        eprintln!(
            "warning: {} of {} answers of the logs come as text; tokenised here they need not be the tokens that were written, and windows that were emitted can be missed: give token ids",
            logs.answers_from_text, logs.answers
        );
    }
    let said = exhibit(mark, &suspect.items);
    [
        Warning::of_prompts(mark, &prompts),
        Warning::of_text_form(answers_from_text, answers, said.counts()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What each prompt is called: by the first of its records, unless another prompt has that name.
fn prompts(suspect: &Inputs) -> BTreeMap<u32, String> {
    let numbered = sources(&suspect.items).into_iter().zip(&suspect.items);
    let mut names = BTreeMap::new();
    let mut taken = HashSet::new();
    for (number, item) in numbered {
        names.entry(number).or_insert_with(|| {
            let label = item.label.as_ref();
            let free = label.filter(|&label| taken.insert(label.clone()));
            free.or(item.source.as_ref()).unwrap_or(&item.name).clone()
        });
    }
    names
}

fn domains(suspect: &Inputs) -> BTreeMap<u32, String> {
    let numbered = sources(&suspect.items).into_iter().zip(&suspect.items);
    let named = numbered.filter_map(|(number, item)| Some((number, item.domain.clone()?)));
    named.collect()
}
