//! How often each scheme rejects when nothing is there: exhibits of natural, repetitive text
//! under fresh keys, one a trial.
//!
//! H0 holds by construction: the text was fixed before the key was drawn. The count of rejections
//! at each alpha must lie in a band around the expected one, the bands of all looks holding jointly
//! with probability 0.999. The expected count of a discrete law is the sum of its attainable sizes,
//! which lie below alpha; of a continuous law it is alpha a trial.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use rand_core::Rng;
use serde::Serialize;
use watermark_core::detect::Test;
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::profile::{Profile, ProfileError, SchemeSpec};
use watermark_core::scheme::Null;
use watermark_core::stats::size::{attainable_size, simultaneous_band};
use watermark_core::window::Exhibit;

use crate::generate::coins;
use crate::model::worker;

/// The levels that are looked at.
pub const ALPHAS: [f64; 4] = [0.05, 0.01, 0.001, 1e-4];

/// One scheme at one level.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// The profile.
    pub profile: String,
    /// Nominal level.
    pub alpha: f64,
    /// Trials.
    pub trials: u64,
    /// Mean probability of a rejection that the law allows.
    pub size: f64,
    /// Rejections.
    pub rejected: u64,
    /// Least and most that pass.
    pub band: (u64, u64),
    /// Whether the count lies in the band.
    pub holds: bool,
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

/// Runs `trials` for every profile over `passages`: every exhibit is three passages, one of them
/// twice.
///
/// # Errors
/// A profile is not valid.
pub fn run(
    passages: &[Vec<u32>],
    profiles: &[Profile],
    trials: u64,
    seed: u64,
    threads: NonZeroUsize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Look>, ProfileError> {
    let looks = (profiles.len() * ALPHAS.len()) as u64;
    let mut results = Vec::new();
    for (place, profile) in profiles.iter().enumerate() {
        let exhibits: Vec<Exhibit> = (0..passages.len())
            .map(|first| {
                let mut exhibit = Exhibit::new(profile.context_width());
                for offset in [0, 1, 0, 2] {
                    exhibit.push(&passages[(first + offset) % passages.len()]);
                }
                exhibit
            })
            .collect();
        let blocks: Vec<u64> = (0..trials.div_ceil(BLOCK)).collect();
        let tallies = worker::map(threads, blocks, |block| {
            let until = trials.min((block + 1) * BLOCK);
            let tally = tally(profile, &exhibits, seed, block * BLOCK..=until - 1);
            progress(place as u64 * trials + until);
            tally
        });
        let mut total = [Tally::default(); ALPHAS.len()];
        for block in tallies {
            for (sum, part) in total.iter_mut().zip(block?) {
                sum.rejected += part.rejected;
                sum.size += part.size;
            }
        }
        for (alpha, Tally { rejected, size }) in ALPHAS.into_iter().zip(total) {
            let size = size / trials as f64;
            let band = simultaneous_band(trials, size, looks, 0.999);
            results.push(Look {
                profile: profile.id.clone(),
                alpha,
                trials,
                size,
                rejected,
                band: (*band.start(), *band.end()),
                holds: band.contains(&rejected),
            });
        }
    }
    Ok(results)
}

/// Trials that a worker takes at once.
const BLOCK: u64 = 1000;

#[derive(Clone, Copy, Default)]
struct Tally {
    rejected: u64,
    size: f64,
}

fn tally(
    profile: &Profile,
    exhibits: &[Exhibit],
    seed: u64,
    trials: RangeInclusive<u64>,
) -> Result<[Tally; ALPHAS.len()], ProfileError> {
    let epoch = Epoch::new("null").expect("a label");
    let mut tallies = [Tally::default(); ALPHAS.len()];
    for trial in trials {
        let mut key = [0; 32];
        coins(seed, &profile.id, trial).fill_bytes(&mut key);
        let mark = profile.bind(&SlotKey::from_parts(key, epoch.clone(), 0))?;
        let exhibit = &exhibits[trial as usize % exhibits.len()];
        let test = Test::of(&mark, exhibit);
        for (tally, alpha) in tallies.iter_mut().zip(ALPHAS) {
            tally.rejected += u64::from(test.p.ln() <= alpha.ln());
            tally.size += match test.null {
                Null::Gamma { .. } => alpha,
                Null::Binomial {
                    trials,
                    numerator,
                    bits,
                } => {
                    let p = f64::from(numerator) / (1u64 << bits) as f64;
                    attainable_size(test.n_scored * u64::from(trials), p, 1.0 - p, alpha).attained
                }
            };
        }
    }
    Ok(tallies)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alpha 0.001 over 60 looks. At 3000 trials a true rate of 0.05 is told from one of 0.075,
    /// and a test that counts repeats fails at once.
    #[test]
    fn false_alarms_are_as_many_as_the_law_allows() {
        let passages: Vec<Vec<u32>> = (0..8u64)
            .map(|text| {
                let mut rng = coins(7, "words", text);
                // Skewed and repetitive, as natural text.
                (0..120)
                    .map(|_| (rng.next_u32() % 60) * (rng.next_u32() % 60) / 30)
                    .collect()
            })
            .collect();
        let looks = run(
            &passages,
            &profiles(),
            3000,
            1,
            NonZeroUsize::new(2).unwrap(),
            &|_| {},
        )
        .unwrap();
        assert_eq!(looks.len(), 60);
        for look in looks {
            assert!(look.holds, "{look:?}");
        }
    }
}
