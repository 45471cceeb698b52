//! The calibration tier.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use watermark_eval::null::material::Material;
use watermark_eval::null::{Plan, profiles, run, table};

/// Count false alarms of every test and scheme, a fresh key a trial.
#[derive(Args)]
pub(crate) struct Null {
    /// Keys a scheme and context width in the clean regime; the other parts follow in proportion.
    #[arg(long, default_value_t = 20_000)]
    trials: u64,
    /// Fixed before looking.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; the counts do not depend on it.
    #[arg(long, default_value_t = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))]
    threads: NonZeroUsize,
    /// Write every look to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Null {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        let material = Material::new(200, 173)?;
        let profiles = profiles();
        let plan = Plan::of(self.trials, self.seed, self.threads);
        let bar = ProgressBar::new(plan.keys(&profiles));
        let looks = run(&material, &profiles, &plan, &|keys| bar.set_position(keys))?;
        bar.finish_and_clear();
        println!(
            "{} pairs of a test and a key, {} looks whose bands hold together with probability 0.999; {} s.",
            looks.pairs,
            looks.claims(),
            begun.elapsed().as_secs()
        );
        println!("{}", table::markdown(&looks));
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&looks)?)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let failures = looks.failures();
        for failure in &failures {
            println!("FAILS: {failure}");
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(format!("{} looks are outside their band", failures.len()).into())
        }
    }
}
