//! The calibration tier.

use std::error::Error;
use std::num::NonZeroUsize;

use clap::Args;
use indicatif::ProgressBar;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::null::{profiles, run};

/// Count false alarms of every scheme on held-out human text, a fresh key a trial.
#[derive(Args)]
pub(crate) struct Null {
    /// Trials a scheme.
    #[arg(long, default_value_t = 100_000)]
    trials: u64,
    /// Fixed before looking.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; the counts do not depend on it.
    #[arg(long, default_value_t = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))]
    threads: NonZeroUsize,
}

impl Null {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let json = watermark_corpora::tokenizer_json();
        let tokenizer = HfTokenizer::from_bytes(json, "of the embedded model")?;
        let passages: Vec<Vec<u32>> = watermark_corpora::held_out()
            .map(|passage| tokenizer.encode(passage).into_iter().take(80).collect())
            .collect();
        let profiles = profiles();
        let bar = ProgressBar::new(profiles.len() as u64 * self.trials);
        let looks = run(
            &passages,
            &profiles,
            self.trials,
            self.seed,
            self.threads,
            &|done| {
                bar.set_position(done);
            },
        )?;
        bar.finish_and_clear();
        println!(
            "| profile | alpha | size | expected | rejected | band | |\n|---|---|---|---|---|---|---|"
        );
        for look in &looks {
            println!(
                "| {} | {} | {:.6} | {:.1} | {} | {} to {} | {} |",
                look.profile,
                look.alpha,
                look.size,
                look.size * look.trials as f64,
                look.rejected,
                look.band.0,
                look.band.1,
                if look.holds { "holds" } else { "FAILS" }
            );
        }
        match looks.iter().filter(|look| !look.holds).count() {
            0 => Ok(()),
            failed => {
                Err(format!("{failed} of {} looks are outside their band", looks.len()).into())
            }
        }
    }
}
