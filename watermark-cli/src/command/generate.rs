//! `watermark generate`.

use std::io::Write;
use std::process::ExitCode;

use watermark_core::candidates::Sampling;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::generate::{Generation, generate};
use watermark_eval::model::{Model, gguf};
use watermark_eval::transcripts::Transcript;

use crate::cli::{Format, Generate};
use crate::dry::DryRun;
use crate::error::CliError;
use watermark_eval::progress::bar;

pub(super) fn run(arguments: &Generate) -> Result<ExitCode, CliError> {
    let sampling = Sampling {
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        top_k: 0,
    }
    .checked()?;
    let context = arguments.mark.open()?;
    // The model's own tokenizer, unless another file was named; the profile decides if it fits.
    let (model, tokenizer) = match (&arguments.model, &arguments.mark.tokenizer) {
        (Some(path), None) => {
            let loaded = gguf::load(path)?;
            (loaded.model, HfTokenizer::new(loaded.tokenizer))
        }
        (Some(path), Some(_)) => (gguf::load_model(path)?, context.tokenizer),
        (None, _) => (watermark_eval::embedded::teacher()?, context.tokenizer),
    };
    context
        .mark
        .profile()
        .check_tokenizer(&tokenizer)
        .map_err(|source| CliError::Profile {
            name: arguments.mark.profile.clone(),
            source,
        })?;
    if tokenizer.vocab_size() > model.vocab_size() {
        return Err(CliError::Usage(format!(
            "the tokenizer has {} ids and the model {}: give the model's own tokenizer with --tokenizer",
            tokenizer.vocab_size(),
            model.vocab_size()
        )));
    }

    let prompts = match &arguments.prompts {
        Some(path) => crate::input::read_prompts(path, &tokenizer)?,
        None => watermark_corpora::prompts()
            .map(|prompt| (prompt.to_owned(), tokenizer.encode(prompt)))
            .collect(),
    };
    if prompts.is_empty() {
        return Err(CliError::Usage(
            "there is no prompt in the prompt file".into(),
        ));
    }
    let count = arguments.count.unwrap_or(prompts.len());
    let documents = model.documents();
    let asked: Vec<Vec<u32>> = prompts
        .iter()
        .cycle()
        .take(count)
        .map(|(_, tokens)| [&[documents.start], tokens.as_slice()].concat())
        .collect();
    let too_long = asked
        .iter()
        .position(|prompt| prompt.len() >= model.context_length());
    if let Some(index) = too_long {
        return Err(CliError::Usage(format!(
            "prompt {} has {} tokens; the model reads {}",
            index + 1,
            asked[index].len() - 1,
            model.context_length()
        )));
    }
    if arguments.dry.dry_run {
        let built_in = watermark_core::profile::Profile::built_in(&arguments.mark.profile);
        let profile = built_in.is_none().then_some(&arguments.mark.profile);
        DryRun::of("generate")
            .key_source(&arguments.mark.key.source)
            .held(&context.held, &context.mark)
            .reads("profile", profile)
            .reads("tokenizer", &arguments.mark.tokenizer)
            .reads("model", &arguments.model)
            .reads("prompts", &arguments.prompts)
            .makes(
                count as u64,
                count.saturating_mul(arguments.max_tokens) as u64,
            )
            .writes("answers", &arguments.out)
            .print(Format::Json);
        return Ok(ExitCode::SUCCESS);
    }
    let generation = Generation {
        max_tokens: arguments.max_tokens,
        sampling,
        end: Some(documents.end),
        seed: arguments.seed,
        first: 0,
        batch: 64,
        threads: arguments.threads,
    };
    let mark = (!arguments.unmarked).then_some(&context.mark);
    let bar = bar((count * arguments.max_tokens) as u64, "writing");
    let answers = generate(&model, mark, &asked, &generation, &|tokens| {
        bar.set_position(tokens);
    })?;
    bar.finish_and_clear();

    let mut lines = String::new();
    for (index, (answer, (text, tokens))) in answers.iter().zip(prompts.iter().cycle()).enumerate()
    {
        let id = index.to_string();
        let transcript = Transcript::new(id, text.clone(), tokens.clone(), answer, &tokenizer);
        lines.push_str(&transcript.to_line());
        lines.push('\n');
    }
    match &arguments.out {
        Some(path) => crate::render::write_file(path, lines.as_bytes())?,
        None => std::io::stdout()
            .write_all(lines.as_bytes())
            .map_err(CliError::io("standard output"))?,
    }
    Ok(ExitCode::SUCCESS)
}
