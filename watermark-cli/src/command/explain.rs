//! `watermark explain`.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::process::ExitCode;

use serde::Serialize;
use watermark_core::scheme::NOT_KEYED;
use watermark_core::text::Tokenizer;
use watermark_core::window::{Exhibit, window};

use crate::cli::{Explain, Format};
use crate::error::CliError;
use crate::input::{Item, read_all};
use crate::mark::Context;
use crate::render::print_json;

/// What became of one token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    at: usize,
    id: u32,
    text: String,
    status: Status,
    /// In the null's natural units.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    Scored,
    PartialContext,
    InPrompt,
    RepeatedCell,
    NotKeyed,
}

pub(super) fn run(arguments: &Explain) -> Result<ExitCode, CliError> {
    let context = arguments.mark.open()?;
    let inputs = [arguments.input_file.clone()];
    let items = read_all(
        &inputs,
        &arguments.form,
        &context.tokenizer,
        &context.mark.profile().special_tokens,
    )?
    .items;
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let null = context.mark.scheme().null();
    for item in &items {
        let tokens = explain(&context, item);
        match arguments.format {
            Format::Human => {
                println!(
                    "{} (mean score expected by chance: {:.2})",
                    item.name,
                    null.mean()
                );
                for token in &tokens {
                    println!("{}", line(token, null.mean(), colour));
                }
            }
            Format::Json | Format::Jsonl => print_json(&serde_json::json!({
                "type": "watermark.explanation", "schema": 1, "input": item.name,
                "nullMean": (null.mean()), "tokens": tokens,
            })),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the detector's own exhibit what it does with each further token.
fn explain(context: &Context, item: &Item) -> Vec<Token> {
    let scheme = context.mark.scheme();
    let width = scheme.context_width();
    let mut read = Exhibit::new(width);
    item.contexts
        .iter()
        .for_each(|context| read.exclude(context));
    let mut met = HashSet::new();
    let mut tokens = Vec::new();
    for segment in &item.segments {
        for (at, &id) in segment.iter().enumerate() {
            let (status, score) = match window(segment, at, width) {
                None => (Status::PartialContext, None),
                Some(window) => {
                    let mut one = read.clone();
                    one.push(&segment[at - width..=at]);
                    let row = scheme.row(window);
                    if one.counts().excluded > 0 {
                        (Status::InPrompt, None)
                    } else if scheme.cell(&row, id) == NOT_KEYED {
                        (Status::NotKeyed, None)
                    } else if !met.insert(scheme.cell(&row, id)) {
                        (Status::RepeatedCell, None)
                    } else {
                        let score = scheme.null().natural(scheme.score(&row, id));
                        (Status::Scored, Some(score))
                    }
                }
            };
            tokens.push(Token {
                at: tokens.len(),
                id,
                text: context.tokenizer.decode(&[id]),
                status,
                score,
            });
        }
    }
    tokens
}

fn line(token: &Token, chance: f64, colour: bool) -> String {
    let (note, code) = match (token.status, token.score) {
        (Status::Scored, Some(score)) => (
            format!("{score:.2}"),
            if score > chance { "32" } else { "31" },
        ),
        (Status::PartialContext, _) => ("- partial context".to_owned(), "2"),
        (Status::NotKeyed, _) => ("- the function has no key here".to_owned(), "2"),
        (Status::InPrompt, _) => ("- window stands in the prompt".to_owned(), "2"),
        _ => ("- cell met before".to_owned(), "2"),
    };
    let text = format!("{:?}", token.text);
    if colour {
        format!(
            "{:>5}  {:>6}  \x1b[{code}m{text:<20}\x1b[0m  {note}",
            token.at, token.id
        )
    } else {
        format!("{:>5}  {:>6}  {text:<20}  {note}", token.at, token.id)
    }
}
