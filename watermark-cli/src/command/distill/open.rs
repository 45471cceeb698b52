//! Distributions along neutral text: from files, or from models that are read here.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use watermark_core::openweights::ScoredText;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::model::gguf;
use watermark_eval::progress::bar;
use watermark_eval::reading::scored;

use super::evidence::{LogProbCounts, Read, log_probs};
use crate::cli::{FormArgs, InputForm, OpenArgs};
use crate::error::CliError;
use crate::input::read_all;
use crate::mark::Context;

/// Entries kept of a distribution that is read here.
const TOP: usize = 64;

/// All models on the neutral text.
#[derive(Default)]
pub(super) struct Models {
    pub(super) suspect: Option<Vec<ScoredText>>,
    pub(super) references: Vec<Vec<ScoredText>>,
    pub(super) control: Option<Vec<ScoredText>>,
    pub(super) counts: Vec<(&'static str, Read)>,
}

/// Distributions that stand in files, with the texts that models are to read.
struct Listed<'a> {
    /// Suspect, references, control; `None` where a model has to read.
    read: Vec<(&'a Path, Option<FromFile>)>,
    neutral: Vec<Vec<u32>>,
}

type FromFile = (Vec<ScoredText>, LogProbCounts);

fn listed<'a>(
    arguments: &'a OpenArgs,
    suspect: &'a Path,
    context: &Context,
) -> Result<Listed<'a>, CliError> {
    let paths: Vec<&Path> = [suspect]
        .into_iter()
        .chain(arguments.open_reference.iter().map(PathBuf::as_path))
        .chain(arguments.open_control.as_deref())
        .collect();
    if let (Some(neutral), true) = (&arguments.neutral, !paths.iter().any(|path| is_model(path))) {
        return Err(CliError::Usage(format!(
            "--neutral {}: it is what models read here, and no .gguf file was given",
            neutral.display()
        )));
    }
    let mut read = Vec::new();
    for path in paths {
        let found = match is_model(path) {
            true => None,
            false => {
                let found = log_probs(path, context)?;
                let counts = LogProbCounts::of(&found);
                let texts: Vec<ScoredText> =
                    found.texts.into_iter().map(|(_, text)| text).collect();
                Some((texts, counts))
            }
        };
        read.push((path, found));
    }
    let in_files = read.iter().find_map(|(_, found)| found.as_ref());
    let neutral = neutral(arguments, context, in_files.map(|(texts, _)| &texts[..]))?;
    Ok(Listed { read, neutral })
}

fn is_model(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "gguf")
}

/// Checks what can be without a model that reads.
pub(super) fn check(arguments: &OpenArgs, context: &Context) -> Result<(), CliError> {
    let Some(suspect) = &arguments.open_suspect else {
        return Ok(());
    };
    let listed = listed(arguments, suspect, context)?;
    let mut models = listed.read.iter().filter(|(_, found)| found.is_none());
    models.try_for_each(|(path, _)| {
        std::fs::File::open(path)
            .map(drop)
            .map_err(CliError::io(*path))
    })
}

/// Reads files first: models then read the texts that stand in them.
pub(super) fn read(
    arguments: &OpenArgs,
    context: &Context,
    threads: NonZeroUsize,
) -> Result<Models, CliError> {
    let Some(suspect) = &arguments.open_suspect else {
        return Ok(Models::default());
    };
    let Listed { read, neutral } = listed(arguments, suspect, context)?;
    let mut texts = Vec::new();
    let mut counts = Vec::new();
    for (path, read) in read {
        let (found, count) = match read {
            Some(read) => read,
            None => by_model(path, &neutral, context, threads)?,
        };
        texts.push(found);
        counts.push(count);
    }
    let control = arguments.open_control.as_ref().and_then(|_| texts.pop());
    let suspect = texts.remove(0);
    let mut named = vec![("openSuspect", Read::Distributions(counts[0]))];
    if control.is_some()
        && let Some(count) = counts.pop()
    {
        named.push(("openControl", Read::Distributions(count)));
    }
    if let Some(count) = counts.get(1) {
        // The references read the same texts, or are refused.
        named.push(("openReference", Read::Distributions(*count)));
    }
    Ok(Models {
        suspect: Some(suspect),
        references: texts,
        control,
        counts: named,
    })
}

/// The texts that models read.
fn neutral(
    arguments: &OpenArgs,
    context: &Context,
    in_files: Option<&[ScoredText]>,
) -> Result<Vec<Vec<u32>>, CliError> {
    let texts: Vec<Vec<u32>> = match (&arguments.neutral, in_files) {
        (Some(path), _) => {
            let form = FormArgs {
                input: InputForm::Auto,
                requests: Vec::new(),
            };
            let items = read_all(
                std::slice::from_ref(path),
                &form,
                &context.tokenizer,
                &context.mark.profile().special_tokens,
            )?
            .items;
            items.into_iter().flat_map(|item| item.segments).collect()
        }
        (None, Some(texts)) => texts.iter().map(|text| text.tokens().to_vec()).collect(),
        (None, None) => watermark_corpora::held_out()
            .map(|text| context.tokenizer.encode(text))
            .collect(),
    };
    Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
}

/// A model reads the texts here.
fn by_model(
    path: &Path,
    texts: &[Vec<u32>],
    context: &Context,
    threads: NonZeroUsize,
) -> Result<(Vec<ScoredText>, LogProbCounts), CliError> {
    let loaded = gguf::load(path)?;
    if HfTokenizer::new(loaded.tokenizer).digest() != context.tokenizer.digest() {
        return Err(CliError::OtherTokenizer(path.to_owned()));
    }
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let bar = bar(tokens as u64, "reading neutral text");
    let start = loaded.model.documents().start;
    let read = scored(&loaded.model, texts, start, TOP, threads, &|tokens| {
        bar.set_position(tokens);
    })?;
    bar.finish_and_clear();
    let counts = LogProbCounts {
        texts: read.len() as u64,
        positions: read.iter().map(|text| text.positions().len() as u64).sum(),
        ..LogProbCounts::default()
    };
    Ok((read, counts))
}
