//! The calibration tier: how often every test rejects when nothing is there, a fresh key a trial.
//!
//! H0 holds by construction: what is tested was fixed before the key was drawn, or, where logs were
//! written under the key, the suspect never met them. Every count must lie in a band around what the
//! law allows, and every mean in one around what it is; the bands of all looks hold jointly with
//! probability [`CONFIDENCE`](look::CONFIDENCE).
//!
//! | part | what is tried |
//! |---|---|
//! | [`clean`] | every test of the clean regime, on natural and on repetitive text |
//! | [`chosen`] | cells chosen by logs that were really written under the key |
//! | [`reading`] | an innocent model's reading of such logs |
//! | [`anytime`] | a look after every answer, stopped at the first that shows it |
//! | [`repeats`] | what counting repeats does: an invalid practice, shown |

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_core::Rng;
use watermark_core::battery::Mismatch;
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::openweights::ScoredTextError;
use watermark_core::profile::{Mark, Profile, ProfileError, SchemeSpec};
use watermark_core::reading::ReadingError;
use watermark_core::regime::ChosenError;
use watermark_core::scheme::Null;
use watermark_core::stats::size::attainable_size;
use watermark_core::text::TokenizerError;

use crate::generate::coins;
use crate::model::{ModelError, worker};

pub mod anytime;
pub mod chosen;
pub mod clean;
pub mod look;
pub mod material;
pub mod reading;
pub mod repeats;
pub mod table;

use look::Looks;
use material::Material;

/// Why the tier could not run.
#[derive(Debug, thiserror::Error)]
pub enum NullError {
    /// A profile is not valid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer is damaged.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A model's distributions are none.
    #[error(transparent)]
    Scored(#[from] ScoredTextError),
    /// Readings that do not belong together.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Logs that cannot choose cells.
    #[error(transparent)]
    Chosen(#[from] ChosenError),
    /// Readings that are no bet.
    #[error(transparent)]
    Reading(#[from] ReadingError),
    /// Nothing to choose from.
    #[error("a model leaves no token to choose from")]
    NoCandidate,
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Keys a profile and kind of text, clean regime.
    pub clean: u64,
    /// Keys a profile, chosen cells, tiny logs.
    pub tiny: u64,
    /// Keys a profile, chosen cells, larger logs.
    pub large: u64,
    /// Keys a profile, reading.
    pub reading: u64,
    /// Keys a profile, any time.
    pub anytime: u64,
    /// Keys a profile, repeats.
    pub repeats: u64,
    /// Fixed before looking.
    pub seed: u64,
    /// Threads; the counts do not depend on it.
    pub threads: NonZeroUsize,
}

impl Plan {
    /// The parts in the proportion that gives each its share of the time, `trials` keys a profile in
    /// the clean regime.
    pub fn of(trials: u64, seed: u64, threads: NonZeroUsize) -> Self {
        Self {
            clean: (trials / 2).max(1),
            tiny: (trials / 5).max(1),
            large: (trials / 100).max(1),
            reading: (trials / 40).max(1),
            anytime: (trials / 5).max(1),
            repeats: (trials / 50).max(1),
            seed,
            threads,
        }
    }

    /// Keys altogether.
    pub fn keys(&self, profiles: &[Profile]) -> u64 {
        let all = profiles.len() as u64;
        let pairs = supervised(profiles).count() as u64;
        all * (2 * self.clean + self.anytime)
            + pairs * (self.tiny + self.large + self.reading + 2 * self.repeats)
    }
}

/// The schemes, each with h = 1, 2, 4.
pub fn profiles() -> Vec<Profile> {
    let mut profiles = Vec::new();
    for h in [1, 2, 4] {
        let schemes = [
            (
                "greenlist",
                SchemeSpec::Greenlist {
                    context_width: h,
                    gamma: 0.25,
                    delta: 2.0,
                },
            ),
            (
                "selfhash",
                SchemeSpec::GreenlistSelfhash {
                    context_width: h,
                    gamma: 0.25,
                    delta: 2.0,
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
        ];
        for (name, scheme) in schemes {
            profiles.push(Profile::new(&format!("{name}-h{h}"), scheme));
        }
    }
    profiles
}

/// Runs all parts; `progress(keys)` hears of the keys tried so far.
///
/// # Errors
/// A profile is not valid, or a model fails.
pub fn run(
    material: &Material,
    profiles: &[Profile],
    plan: &Plan,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Looks, NullError> {
    let tried = AtomicU64::new(0);
    let progress = |keys| progress(tried.fetch_add(keys, Ordering::Relaxed) + keys);
    let mut looks = clean::run(material, profiles, plan, &progress)?;
    looks.extend(chosen::run(material, profiles, plan, &progress)?);
    looks.extend(reading::run(material, profiles, plan, &progress)?);
    looks.extend(anytime::run(material, profiles, plan, &progress)?);
    looks.extend(repeats::run(material, profiles, plan, &progress)?);
    looks.judge();
    Ok(looks)
}

/// The profiles that have tests by emitted windows.
fn supervised(profiles: &[Profile]) -> impl Iterator<Item = &Profile> {
    profiles
        .iter()
        .filter(|profile| !matches!(profile.scheme, SchemeSpec::GreenlistSelfhash { .. }))
}

/// A profile under a key that nobody used.
fn fresh(profile: &Profile, purpose: &str, seed: u64, trial: u64) -> Result<Mark, NullError> {
    let mut key = [0; 32];
    coins(seed, &format!("{purpose}/{}", profile.id), trial).fill_bytes(&mut key);
    let epoch = Epoch::new("null").expect("a label");
    Ok(profile.bind(&SlotKey::from_parts(key, epoch, 0))?)
}

/// The largest probability at most `alpha` with which the unweighted test of `cells` cells rejects.
fn attainable(null: Null, cells: u64, alpha: f64) -> f64 {
    match null {
        _ if cells == 0 => 0.0,
        // Of a keyed list: the binomial law that bounds it.
        Null::List { size, of } => {
            let p = f64::from(size) / f64::from(of);
            attainable_size(cells, p, 1.0 - p, alpha).attained
        }
        Null::Gamma { .. } => alpha,
        Null::Binomial {
            trials,
            numerator,
            bits,
        } => {
            let p = f64::from(numerator) / (1u64 << bits) as f64;
            attainable_size(cells * u64::from(trials), p, 1.0 - p, alpha).attained
        }
    }
}

/// Trials that a worker takes at once.
const BLOCK: u64 = 250;

/// Does `work` on every block of trials and gives the results in order.
fn in_blocks<T: Send>(
    trials: u64,
    threads: NonZeroUsize,
    progress: &(dyn Fn(u64) + Sync),
    work: impl Fn(Range<u64>) -> Result<T, NullError> + Sync,
) -> Result<Vec<T>, NullError> {
    let blocks: Vec<u64> = (0..trials.div_ceil(BLOCK)).collect();
    let results = worker::map(threads, blocks, |block| {
        let range = block * BLOCK..trials.min((block + 1) * BLOCK);
        let keys = range.end - range.start;
        let result = work(range);
        progress(keys);
        result
    });
    results.into_iter().collect()
}

#[cfg(test)]
mod tests;
