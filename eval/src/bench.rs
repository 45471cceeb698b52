//! What a step of writing and a token of reading cost, in thread CPU time.
//!
//! Everything is measured in rounds, one thing after another in each, so that a slow spell of the
//! machine touches all of them; a number is the median over rounds. Times depend on the machine and on what else
//! runs there: ratios within one run are what can be compared.

use std::collections::BTreeMap;

use serde::Serialize;
use watermark_core::kernel::Kernel;
use watermark_core::key::{Epoch, MasterKey, SlotKey};
use watermark_core::prf::Slot;
use watermark_core::profile::{Mark, Profile, SchemeSpec};

pub mod growth;
mod read;
mod write;

/// Tokens of the large vocabulary.
pub const VOCABULARY: usize = 128_000;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rounds.
    pub rounds: usize,
    /// Distinct cells that are read under many keys and accounts; the times are given for a million.
    pub cells: usize,
    /// Tokens of the text that detectors read.
    pub tokens: usize,
}

/// The measurements.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Which machine code ran.
    pub kernel: &'static str,
    /// Rounds; every number is a median over them.
    pub rounds: usize,
    /// Cells behind the times for a million.
    pub cells_measured: usize,
    /// A whole step of a green list, gamma 1/2, over a loop that adds a constant to every logit.
    #[serde(rename = "greenStepOverBiasAdd128k")]
    pub green_step_over_bias_add: f64,
    /// A whole step of Gumbel-max over a vocabulary, over its words alone.
    #[serde(rename = "gumbelVocabOverKeystream128k")]
    pub gumbel_vocab_over_keystream: f64,
    /// Tokens a second of one core: green list, h 4, every cell once, exact p.
    pub detect_tokens_per_core_second: f64,
    /// The same for Gumbel-max.
    pub detect_gumbel_tokens_per_core_second: f64,
    /// The same for a tournament of 30 layers.
    pub detect_tournament_tokens_per_core_second: f64,
    /// One key on one cell of a list that is read under many keys, in nanoseconds.
    pub ns_per_cell_key: f64,
    /// A thousand independent keys on a million cells, in seconds.
    #[serde(rename = "slotDecoys1000Seconds1M")]
    pub slot_decoys: f64,
    /// A thousand accounts of one tile row as decoys on a million cells, in seconds.
    #[serde(rename = "accountTile1000Seconds1M")]
    pub account_tile: f64,
    /// 24,000 accounts on a million cells, ranked by exact tails, in seconds.
    #[serde(rename = "accounts24kSeconds1M")]
    pub accounts: f64,
    /// Steps and parts of steps, in microseconds: the median.
    #[serde(flatten)]
    pub micros: BTreeMap<&'static str, f64>,
    /// First and third quartile of every measurement, in its own unit: microseconds a step, nanoseconds a token or
    /// cell and key, seconds for accounts.
    pub quartiles: BTreeMap<&'static str, [f64; 2]>,
}

/// CPU time of this thread, in seconds; elapsed time where the system does not tell.
fn cpu_seconds() -> f64 {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    }
    #[cfg(not(unix))]
    {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_secs_f64()
    }
}

/// One thing that is measured.
struct Item<'a> {
    name: &'static str,
    /// Calls a round.
    calls: usize,
    /// What a second of a call is in the item's unit.
    scale: f64,
    step: Box<dyn FnMut() + 'a>,
}

impl<'a> Item<'a> {
    /// In microseconds a call.
    fn micros(name: &'static str, calls: usize, step: impl FnMut() + 'a) -> Self {
        Self {
            name,
            calls,
            scale: 1e6,
            step: Box::new(step),
        }
    }
}

/// Every item's times, sorted.
type Times = BTreeMap<&'static str, Vec<f64>>;

fn measure(mut items: Vec<Item<'_>>, rounds: usize, hear: &dyn Fn(&str)) -> Times {
    let mut times = Times::new();
    for round in 0..=rounds {
        for item in &mut items {
            hear(item.name);
            let start = cpu_seconds();
            (0..item.calls).for_each(|_| (item.step)());
            let time = (cpu_seconds() - start) / item.calls as f64 * item.scale;
            // The first round warms up.
            if round > 0 {
                times.entry(item.name).or_default().push(time);
            }
        }
    }
    for times in times.values_mut() {
        times.sort_unstable_by(f64::total_cmp);
    }
    times
}

fn slot() -> SlotKey {
    MasterKey::from_bytes([1; 32]).slot(&Epoch::new("bench").expect("a label"), 0)
}

fn mark(scheme: SchemeSpec) -> Mark {
    let profile = Profile::new("bench", scheme);
    profile.bind(&slot()).expect("a valid profile")
}

fn green(gamma: f64) -> Mark {
    mark(SchemeSpec::Greenlist {
        context_width: 4,
        gamma,
        delta: 2.0,
    })
}

/// A green list of a leak slot, whose words lie sixteen blocks apart.
fn leak() -> Profile {
    Profile {
        slot: Slot::Leak,
        ..Profile::new(
            "leak",
            SchemeSpec::Greenlist {
                context_width: 4,
                gamma: 0.5,
                delta: 2.0,
            },
        )
    }
}

fn self_hash() -> Mark {
    mark(SchemeSpec::GreenlistSelfhash {
        context_width: 4,
        gamma: 0.5,
        delta: 2.0,
    })
}

fn gumbel() -> Mark {
    mark(SchemeSpec::Gumbel { context_width: 4 })
}

fn tournament() -> Mark {
    mark(SchemeSpec::Tournament {
        context_width: 4,
        depth: 30,
        leaves: 2,
    })
}

/// Measures everything with the kernel in use. `hear` is told what is being measured.
#[must_use]
pub fn run(extent: &Extent, hear: &dyn Fn(&str)) -> Measured {
    let Extent { rounds, cells, .. } = *extent;
    let mut times = write::steps(rounds, hear);
    let micros = times
        .iter()
        .map(|(&name, times)| (name, middle(times)))
        .collect::<BTreeMap<_, _>>();
    times.append(&mut read::reads(extent, hear));
    let of = |name| middle(&times[name]);
    let million = 1e6 / cells as f64;
    Measured {
        kernel: Kernel::current().name(),
        rounds,
        cells_measured: cells,
        green_step_over_bias_add: of("greenStepUs128k") / of("biasAddUs128k"),
        gumbel_vocab_over_keystream: of("gumbelVocabUs128k") / of("keystreamUs128k"),
        detect_tokens_per_core_second: 1e9 / of("detectGreenNs"),
        detect_gumbel_tokens_per_core_second: 1e9 / of("detectGumbelNs"),
        detect_tournament_tokens_per_core_second: 1e9 / of("detectTournamentNs"),
        ns_per_cell_key: of("cellKeyNs"),
        // A nanosecond a cell and key is a second for a thousand keys on a million cells.
        slot_decoys: of("cellKeyNs"),
        account_tile: of("accountTile1000Seconds") * million,
        accounts: of("accounts24kSeconds") * million,
        quartiles: times
            .iter()
            .map(|(&name, times)| (name, [times[times.len() / 4], times[times.len() * 3 / 4]]))
            .collect(),
        micros,
    }
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
