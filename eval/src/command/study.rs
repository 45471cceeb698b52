//! Which test finds a trained student with how few tokens.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};
use watermark_core::hex;
use watermark_core::profile::{Profile, SchemeSpec};
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::embedded;
use watermark_eval::store::Store;
use watermark_eval::student::StudentConfig;
use watermark_eval::study::{Cast, Findings, Study, make, read};
use watermark_eval::{plot, table};

use super::keep;

/// Which test finds a trained student with how few tokens.
#[derive(Args)]
pub(crate) struct StudyCommand {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Subcommand)]
enum Stage {
    /// Write every text and train every student that is not there yet; goes on after an interruption.
    Make(Sizes),
    /// Read every student with every test; writes points.json, tables and figures beside the rest.
    Read(Sizes),
    /// Make the tables and figures anew from points.json.
    Table {
        /// The directory of the study.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Args)]
struct Sizes {
    /// Seeds, fixed before looking.
    #[arg(long, value_delimiter = ',', default_value = "101,102,103")]
    seeds: Vec<u64>,
    /// Shares of marked answers.
    #[arg(long, value_delimiter = ',', default_value = "1,0.3,0.1")]
    shares: Vec<f64>,
    /// Marks, of those of the study; default all.
    #[arg(long, value_delimiter = ',')]
    marks: Vec<String>,
    /// Keys that nobody used, on the first seed; a fifth of them on the others.
    #[arg(long, default_value_t = 1000)]
    decoys: usize,
    /// The directory for everything.
    #[arg(long)]
    out: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))]
    threads: NonZeroUsize,
}

/// Green lists, Gumbel under one key and two, and a tournament, with h = 1 and 2.
fn profiles() -> Vec<Profile> {
    let schemes = |h| {
        [
            (
                "greenlist",
                SchemeSpec::Greenlist {
                    context_width: h,
                    gamma: 0.25,
                    delta: 3.0,
                },
            ),
            ("gumbel", SchemeSpec::Gumbel { context_width: h }),
            ("gumbel-dual", SchemeSpec::GumbelDual { context_width: h }),
            (
                "tournament",
                SchemeSpec::Tournament {
                    context_width: h,
                    depth: 30,
                    leaves: 2,
                },
            ),
        ]
    };
    [1, 2]
        .into_iter()
        .flat_map(|h| {
            schemes(h).map(|(name, scheme)| Profile::new(&format!("{name}-h{h}"), scheme))
        })
        .collect()
}

/// Tokens of neutral text.
const NEUTRAL: usize = 25_600;

impl StudyCommand {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        match self.stage {
            Stage::Make(sizes) => sizes.run(false),
            Stage::Read(sizes) => sizes.run(true),
            Stage::Table { out } => {
                let text = std::fs::read_to_string(out.join("points.json"))?;
                let findings: Findings = serde_json::from_str(&text)?;
                tables(&findings, &out)
            }
        }
    }
}

impl Sizes {
    fn run(self, reads: bool) -> Result<(), Box<dyn Error>> {
        let tokenizer =
            HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "of the embedded model")?;
        let teacher = embedded::teacher()?;
        let encode = |texts: &mut dyn Iterator<Item = &'static str>| -> Vec<Vec<u32>> {
            texts.map(|text| tokenizer.encode(text)).collect()
        };
        let mut neutral = Vec::new();
        let mut tokens = 0;
        for passage in encode(&mut watermark_corpora::held_out()) {
            if tokens < NEUTRAL {
                tokens += passage.len();
                neutral.push(passage);
            }
        }
        let study = Study {
            profiles: profiles()
                .into_iter()
                .filter(|profile| self.marks.is_empty() || self.marks.contains(&profile.id))
                .collect(),
            shares: self.shares,
            seeds: self.seeds,
            answers: 1280,
            answer_tokens: 160,
            questions: 384,
            decoys: self.decoys,
            top: 32,
            student: StudentConfig::default(),
        };
        let identity = hex(&Sha256::digest(watermark_corpora::teacher()));
        let store = Store::open(&self.out, &identity)?;
        let cast = Cast {
            teacher: &teacher,
            prompts: &encode(&mut watermark_corpora::prompts()),
            openings: &encode(&mut watermark_corpora::openings()),
            neutral: &neutral,
            store: &store,
            threads: self.threads,
        };
        let hear = |done: usize, of: usize, name: &str| eprintln!("{done} of {of}: {name}");
        if !reads {
            return Ok(make(&study, &cast, &hear)?);
        }
        // Every seed's findings are kept with what they are findings of, so that a later run goes on.
        let settings = serde_json::to_value(&study)?;
        let mut findings = Findings::default();
        for (place, seed) in study.seeds.iter().enumerate() {
            let path = self.out.join(format!("s{seed}-points.json"));
            let known = std::fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<OfSeed>(&bytes).ok());
            let of_seed = match known.filter(|known| known.study == settings) {
                Some(known) => known,
                None => OfSeed {
                    findings: read(&study, &cast, place, &hear)?,
                    study: settings.clone(),
                },
            };
            keep(&path, serde_json::to_string(&of_seed)?.as_bytes())?;
            findings.extend(of_seed.findings);
        }
        keep(
            &self.out.join("points.json"),
            serde_json::to_string(&findings)?.as_bytes(),
        )?;
        tables(&findings, &self.out)
    }
}

/// What one seed gave.
#[derive(serde::Serialize, serde::Deserialize)]
struct OfSeed {
    study: serde_json::Value,
    findings: Findings,
}

fn tables(findings: &Findings, out: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let summary = table::summary(findings);
    let json = serde_json::to_string_pretty(&summary)? + "\n";
    keep(&out.join("distill.json"), json.as_bytes())?;
    let text = table::markdown(findings, &summary);
    keep(&out.join("distill-tables.md"), text.as_bytes())?;
    let tokens = plot::tokens(findings)?;
    keep(&out.join("distill-tokens.svg"), tokens.as_bytes())?;
    let repeats = plot::repeats(findings)?;
    keep(&out.join("distill-repeats.svg"), repeats.as_bytes())?;
    println!("{text}");
    Ok(())
}
