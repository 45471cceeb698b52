//! `watermark explain`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use watermark_core::explain::{Explanation, Status, Strength, Token};

use super::detect::{exhibit, read_by};
use super::said::ExplanationSaid;
use crate::cli::{Explain, ExplainFormat, Format};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::input::read_all;
use crate::render::html::explain::page;
use crate::render::print_json;
use crate::schema::Version;

pub(super) fn run(arguments: &Explain) -> Result<ExitCode, CliError> {
    let context = arguments.mark.open()?;
    let mark = &context.mark;
    let inputs = [arguments.input_file.clone()];
    let items = read_all(
        &inputs,
        &arguments.form,
        &context.tokenizer,
        &mark.profile().special_tokens,
    )?
    .items;
    if arguments.dry.dry_run {
        let format = match arguments.format {
            ExplainFormat::Human | ExplainFormat::Html => Format::Human,
            ExplainFormat::Json | ExplainFormat::Jsonl => Format::Json,
        };
        read_by(DryRun::of("explain"), &arguments.mark, &arguments.form)
            .context(&context)
            .reads("input", &inputs)
            .text(items.len() as u64, exhibit(mark, &items).counts())
            .print(format);
        return Ok(ExitCode::SUCCESS);
    }
    let explained = items.iter().map(|item| {
        let explanation = Explanation::of(mark, &context.tokenizer, &item.contexts, &item.segments);
        (item.name.as_str(), explanation)
    });
    match arguments.format {
        ExplainFormat::Human => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let mut out = std::io::stdout().lock();
            for (name, explanation) in explained {
                out.write_all(text(name, &explanation, colour).as_bytes())
                    .map_err(CliError::io("standard output"))?;
            }
        }
        ExplainFormat::Json | ExplainFormat::Jsonl => {
            for (name, explanation) in explained {
                print_json(&ExplanationSaid {
                    schema: Version,
                    input: name,
                    null_mean: explanation.null.mean(),
                    tokens: &explanation.tokens,
                });
            }
        }
        ExplainFormat::Html => {
            let answers: Vec<_> = explained.collect();
            std::io::stdout()
                .write_all(page(mark, &answers).as_bytes())
                .map_err(CliError::io("standard output"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One token a line: place, id, sign, text, score or reason.
fn text(name: &str, explanation: &Explanation, colour: bool) -> String {
    let mut out = format!(
        "{name} (mean score {:.2}, {:.2} expected by chance; - below it, + above, # far above)\n",
        explanation.mean(),
        explanation.null.mean()
    );
    for token in &explanation.tokens {
        out += &line(token, colour);
        out.push('\n');
    }
    out
}

fn line(token: &Token, colour: bool) -> String {
    let code = match token.strength {
        Some(Strength::FarAbove) => "1;32",
        Some(Strength::Above) => "32",
        Some(Strength::Below) => "31",
        None => "2",
    };
    let note = match (token.status, token.score) {
        (Status::PartialContext, _) => "partial context".to_owned(),
        (Status::InPrompt, _) => "window stands in the prompt".to_owned(),
        (Status::NotKeyed, _) => "the function has no key here".to_owned(),
        (Status::RepeatedCell, _) => "cell met before".to_owned(),
        (Status::Scored, score) => format!("{:.2}", score.unwrap_or_default()),
    };
    let sign = token.strength.map_or(' ', Strength::sign);
    let Token { at, id, .. } = token;
    let text = format!("{:?}", token.text);
    if colour {
        format!("{at:>5}  {id:>6}  \x1b[{code}m{sign} {text:<20}\x1b[0m  {note}")
    } else {
        format!("{at:>5}  {id:>6}  {sign} {text:<20}  {note}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_the_same_without_colour() {
        let token = Token {
            at: 3,
            id: 17,
            text: " a\u{1b}[2J".into(),
            status: Status::Scored,
            score: Some(1.0),
            strength: Some(Strength::FarAbove),
        };
        let plain = line(&token, false);
        assert!(plain.contains("# \" a\\u{1b}[2J\"") && plain.ends_with("1.00"));
        assert!(!plain.contains('\x1b'));
        let coloured = line(&token, true);
        assert_eq!(
            coloured.replace("\x1b[1;32m", "").replace("\x1b[0m", ""),
            plain
        );
    }
}
