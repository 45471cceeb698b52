//! `watermark demo`.

use std::process::ExitCode;
use std::time::Instant;

use watermark_core::text::Tokenizer;
use watermark_core::verdict::Policy;
use watermark_eval::demo::{Plan, Scene, run as run_demo};
use watermark_eval::generate::Answer;
use watermark_eval::transcripts::Transcript;

use crate::cli::{Demo, Format};
use crate::error::CliError;
use crate::render::{demo_json, demo_text, print_json, write_file};
use watermark_eval::progress::Stages;

pub(super) fn run(arguments: &Demo) -> Result<ExitCode, CliError> {
    let started = Instant::now();
    let tokenizer = crate::mark::tokenizer(None)?;
    let teacher = watermark_eval::embedded::teacher()?;
    let encode = |texts: &mut dyn Iterator<Item = &'static str>| -> Vec<Vec<u32>> {
        texts.map(|text| tokenizer.encode(text)).collect()
    };
    let prompts = encode(&mut watermark_corpora::prompts());
    let openings = encode(&mut watermark_corpora::openings());
    let profile = crate::mark::profile(&arguments.profile)?;
    let plan = Plan::demo(profile, arguments.seed);
    let stages = Stages::default();
    let scene = Scene {
        teacher: &teacher,
        documents: teacher.documents(),
        prompts: &prompts,
        openings: &openings,
        store: None,
        threads: arguments.threads,
    };
    let outcome = run_demo(&scene, &plan, &|event| stages.hear(event))?;
    stages.finish();
    let seconds = started.elapsed().as_secs_f64();

    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(CliError::io(out))?;
    let lines = |answers: &[Answer], asked: &[Vec<u32>]| -> String {
        let pairs = answers.iter().zip(asked.iter().cycle()).enumerate();
        pairs
            .map(|(index, (answer, prompt))| {
                let text = tokenizer.decode(prompt);
                let id = index.to_string();
                let transcript = Transcript::new(id, text, prompt.clone(), answer, &tokenizer);
                transcript.to_line() + "\n"
            })
            .collect()
    };
    let policy = Policy::default();
    let json = demo_json(&outcome, &policy, seconds);
    write_file(
        &out.join("suspect.jsonl"),
        lines(&outcome.suspect_answers, &openings).as_bytes(),
    )?;
    write_file(
        &out.join("control.jsonl"),
        lines(&outcome.control_answers, &openings).as_bytes(),
    )?;
    write_file(
        &out.join("marked-sample.jsonl"),
        lines(
            &outcome.marked_answers[..outcome.marked_answers.len().min(3)],
            &prompts,
        )
        .as_bytes(),
    )?;
    let pretty = serde_json::to_string_pretty(&json).expect("plain data");
    write_file(&out.join("report.json"), format!("{pretty}\n").as_bytes())?;
    let figure = watermark_eval::plot::curve(&outcome)?;
    write_file(&out.join("figure.svg"), figure.as_bytes())?;
    match arguments.format {
        Format::Human => print!("{}", demo_text(&outcome, &policy, seconds, out)),
        Format::Json | Format::Jsonl => print_json(&json),
    }
    Ok(ExitCode::SUCCESS)
}
