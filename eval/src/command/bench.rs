//! Speeds.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use watermark_core::kernel::Kernel;
use watermark_eval::bench::{self, Extent};

/// What a step of writing and a token of reading cost, in thread CPU time.
#[derive(Args)]
pub(crate) struct Bench {
    /// Rounds; every number is the median over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The machine code: portable, avx2 or avx512; the fastest that runs here if none is given.
    #[arg(long)]
    kernel: Option<Kernel>,
    /// A tenth of the cells, with times scaled to a million, and a tenth of the text.
    #[arg(long)]
    quick: bool,
    /// Instead: corpora of these numbers of tokens, streamed from files.
    #[arg(long, value_delimiter = ',')]
    growth: Vec<u64>,
    /// Cells in memory at most, where growth measures a bounded reader.
    #[arg(long, default_value_t = 4_000_000)]
    bounded_cells: usize,
    /// Where growth keeps its files while it runs.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Text for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Format {
    Text,
    Json,
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        if let Some(kernel) = self.kernel {
            kernel.select()?;
        }
        if self.rounds == 0 {
            return Err("--rounds: at least 1".into());
        }
        let bar = ProgressBar::new_spinner();
        let hear = |what: &str| {
            bar.set_message(what.to_owned());
            bar.tick();
        };
        let value = if self.growth.is_empty() {
            let part = if self.quick { 10 } else { 1 };
            let extent = Extent {
                rounds: self.rounds,
                cells: 1_000_000 / part,
                tokens: 2_000_000 / part,
            };
            serde_json::to_value(bench::run(&extent, &hear))?
        } else {
            let directory = self.dir.clone().unwrap_or_else(std::env::temp_dir);
            let growth = bench::growth::run(&self.growth, self.bounded_cells, &directory, &hear)
                .map_err(|error| format!("{}: {error}", directory.display()))?;
            serde_json::json!({
                "kernel": Kernel::current().name(),
                "boundedCells": self.bounded_cells,
                "growth": growth,
            })
        };
        bar.finish_and_clear();
        if self.format == Format::Json {
            println!("{}", serde_json::to_string_pretty(&value)?);
            return Ok(());
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::Array(rows) => rows.iter().for_each(|row| println!("{row}")),
                serde_json::Value::Object(_) => {}
                value => match value.as_f64() {
                    Some(number) => println!("{name:40} {number:>14.3}"),
                    None => println!("{name:40} {value:>14}"),
                },
            }
        }
        Ok(())
    }
}
