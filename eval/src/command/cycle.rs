//! The whole loop with any teacher, kept on disk.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use watermark_core::detect::TestId;
use watermark_core::hex;
use watermark_core::profile::Profile;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::demo::{Outcome, Plan, Scene, run};
use watermark_eval::embedded;
use watermark_eval::generate::Answer;
use watermark_eval::lengths::{self, by_length};
use watermark_eval::model::{Transformer, gguf};
use watermark_eval::progress::Stages;
use watermark_eval::store::Store;
use watermark_eval::student::{StudentConfig, Vocabulary};
use watermark_eval::transcripts::Transcript;

use super::keep;
use crate::FileError;

/// A teacher writes under a key, one student learns from it and one from unmarked text, both are
/// tested: what `watermark demo` does, with any teacher, every finished part kept on disk.
#[derive(Args)]
pub(crate) struct Cycle {
    /// A GGUF file [default: the embedded model].
    #[arg(long, value_name = "FILE.gguf")]
    teacher: Option<PathBuf>,
    /// Built-in profile or profile file.
    #[arg(long, value_name = "NAME|FILE.json", default_value = watermark_core::profile::BUILT_IN[0])]
    profile: String,
    /// Decides everything else.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Answers that each student is trained on.
    #[arg(long, default_value_t = 1280)]
    answers: usize,
    /// Unmarked answers that the control is trained on, if fewer [default: as many].
    #[arg(long)]
    unmarked_answers: Option<usize>,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 160)]
    answer_tokens: usize,
    /// Answers that each student is asked for.
    #[arg(long, default_value_t = 256)]
    questions: usize,
    /// Keys that nobody used.
    #[arg(long, default_value_t = 1000)]
    decoys: usize,
    /// Passes of a student over its text.
    #[arg(long, default_value_t = StudentConfig::default().epochs)]
    epochs: f64,
    /// A student's width; heads have 32 entries.
    #[arg(long, default_value_t = StudentConfig::default().dim)]
    dim: usize,
    /// A student's blocks.
    #[arg(long, default_value_t = StudentConfig::default().layers)]
    layers: usize,
    /// Give students weights for the ids in their text only: for teachers of large vocabularies.
    #[arg(long)]
    observed_vocabulary: bool,
    /// The directory for all parts; a run that was interrupted goes on from what is there.
    #[arg(long)]
    out: PathBuf,
    /// Threads; the numbers do not depend on it.
    #[arg(long, default_value_t = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))]
    threads: NonZeroUsize,
}

impl Cycle {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let (teacher, tokenizer, identity) = open(self.teacher.as_deref())?;
        let profile = profile(&self.profile)?;
        profile.check_tokenizer(&tokenizer)?;
        let plan = Plan {
            profile,
            seed: self.seed,
            answers: self.answers,
            unmarked_answers: self.unmarked_answers,
            answer_tokens: self.answer_tokens,
            questions: self.questions,
            decoys: self.decoys,
            student: StudentConfig {
                dim: self.dim,
                layers: self.layers,
                heads: (self.dim / 32).max(1),
                hidden: self.dim * 8 / 3 / 32 * 32,
                context: (self.answer_tokens + 32).max(StudentConfig::default().window),
                epochs: self.epochs,
                vocabulary: match self.observed_vocabulary {
                    true => Vocabulary::Observed,
                    false => Vocabulary::Full,
                },
                ..StudentConfig::default()
            },
        };
        let encode = |texts: &mut dyn Iterator<Item = &'static str>| -> Vec<Vec<u32>> {
            texts.map(|text| tokenizer.encode(text)).collect()
        };
        let prompts = encode(&mut watermark_corpora::prompts());
        let openings = encode(&mut watermark_corpora::openings());
        let store = Store::open(&self.out, &identity)?;
        let scene = Scene {
            teacher: &teacher,
            documents: teacher.documents(),
            prompts: &prompts,
            openings: &openings,
            store: Some(&store),
            threads: self.threads,
        };
        let stages = Stages::default();
        let outcome = run(&scene, &plan, &|event| stages.hear(event))?;
        stages.finish();
        self.keep(&outcome, &prompts, &openings, &tokenizer)?;
        print(&outcome);
        let human: Vec<Vec<u32>> = watermark_corpora::held_out()
            .collect::<Vec<_>>()
            .chunks(4)
            .map(|passages| tokenizer.encode(&passages.join(" ")))
            .collect();
        let human: Vec<&[u32]> = human.iter().map(Vec::as_slice).collect();
        let marked = tokens(&outcome.marked_answers);
        let unmarked = tokens(&outcome.unmarked_answers);
        let rows = [
            by_length("marked", &outcome.mark, &marked),
            by_length("the same under another key", &outcome.other, &marked),
            by_length("unmarked, of the same model", &outcome.mark, &unmarked),
            by_length("human", &outcome.mark, &human),
        ]
        .concat();
        println!("\n{}", lengths::markdown(&rows));
        Ok(())
    }

    /// Report, figure, and what was said, as transcripts that `detect` and `distill` read.
    fn keep(
        &self,
        outcome: &Outcome,
        prompts: &[Vec<u32>],
        openings: &[Vec<u32>],
        tokenizer: &HfTokenizer,
    ) -> Result<(), Box<dyn Error>> {
        let figure = watermark_eval::plot::curve(outcome)?;
        keep(&self.out.join("figure.svg"), figure.as_bytes())?;
        let report = serde_json::to_string_pretty(outcome)?;
        keep(&self.out.join("report.json"), report.as_bytes())?;
        for (name, answers, asked) in [
            ("marked", &outcome.marked_answers, prompts),
            ("unmarked", &outcome.unmarked_answers, prompts),
            ("suspect", &outcome.suspect_answers, openings),
            ("control", &outcome.control_answers, openings),
        ] {
            let pairs = answers.iter().zip(asked.iter().cycle()).enumerate();
            let lines: String = pairs
                .map(|(index, (answer, prompt))| {
                    let text = tokenizer.decode(prompt);
                    let id = index.to_string();
                    Transcript::new(id, text, prompt.clone(), answer, tokenizer).to_line() + "\n"
                })
                .collect();
            keep(
                &self.out.join(format!("{name}-transcripts.jsonl")),
                lines.as_bytes(),
            )?;
        }
        Ok(())
    }
}

fn tokens(answers: &[Answer]) -> Vec<&[u32]> {
    answers
        .iter()
        .map(|answer| answer.tokens.as_slice())
        .collect()
}

/// A teacher with its tokenizer, and the digest that names it.
fn open(path: Option<&Path>) -> Result<(Transformer, HfTokenizer, String), Box<dyn Error>> {
    let Some(path) = path else {
        let tokenizer =
            HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "of the embedded model")?;
        let digest = Sha256::digest(watermark_corpora::teacher());
        return Ok((embedded::teacher()?, tokenizer, hex(&digest)));
    };
    let bytes = std::fs::read(path).map_err(|error| FileError {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let digest = hex(&Sha256::digest(&bytes));
    let name = path.display().to_string();
    let loaded = gguf::read(std::io::Cursor::new(bytes), &name)?;
    Ok((loaded.model, HfTokenizer::new(loaded.tokenizer), digest))
}

/// A built-in profile by name, or a file.
pub(super) fn profile(name: &str) -> Result<Profile, Box<dyn Error>> {
    match Profile::built_in(name) {
        Some(profile) => Ok(profile),
        None => {
            let text = std::fs::read_to_string(name).map_err(|error| FileError {
                path: name.into(),
                message: format!(
                    "no built-in profile ({}) and no file: {error}",
                    watermark_core::profile::BUILT_IN.join(", ")
                ),
            })?;
            Ok(Profile::from_json(&text)?)
        }
    }
}

/// The result as a Markdown table.
fn print(outcome: &Outcome) {
    let texture = |name: &str, texture: &watermark_eval::measure::Texture| {
        println!(
            "{name}: {} tokens, {:.2} nats a token, distinct-4 {:.3}",
            texture.tokens, texture.entropy, texture.distinct4
        );
    };
    texture("marked", &outcome.marked);
    texture("unmarked", &outcome.unmarked);
    texture("suspect", &outcome.suspect);
    println!(
        "losses {:.3} and {:.3}; {}\n",
        outcome.losses[0],
        outcome.losses[1],
        if outcome.collapsed {
            "collapsed"
        } else {
            "not collapsed"
        }
    );
    println!("| tokens | cells | log10 p, suspect | control | decoys, smallest |");
    println!("|---|---|---|---|---|");
    for point in &outcome.curve {
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.1} |",
            point.tokens, point.n_scored, point.suspect, point.control, point.decoys[0]
        );
    }
    if let Some(decoys) = outcome.report.decoys(TestId::ClosedCells) {
        println!(
            "\nrank {} of {}; decoys uniform: p = {}",
            decoys.rank, decoys.of, decoys.ks.p
        );
    }
}
