//! An invalid practice, shown: every position counted, repeats and all.
//!
//! A repeated cell is the same coin again. It adds no information, and counting it multiplies the
//! variance of the sum, while the z that is computed takes every position for a coin of its own.

use watermark_core::detect::{Score, TestId};
use watermark_core::profile::Profile;
use watermark_core::window::Exhibit;

use super::look::{Claim, Looks, Moments, Subject, Tally};
use super::material::Material;
use super::{NullError, Plan, fresh, in_blocks};

/// The level.
const ALPHA: f64 = 1e-3;
/// Passages of the short and of the long text.
const PASSAGES: [(&str, usize); 2] = [("2 passages, one twice", 3), ("20 passages", 20)];

/// All profiles where every cell is a coin of its own.
///
/// # Errors
/// A profile is not valid.
pub fn run(
    material: &Material,
    profiles: &[Profile],
    plan: &Plan,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Looks, NullError> {
    let mut looks = Looks::default();
    for (text, passages) in PASSAGES {
        for profile in super::supervised(profiles) {
            let mut exhibit = Exhibit::new(profile.context_width());
            for place in 0..passages {
                let place = if passages == 3 { place % 2 } else { place };
                exhibit.push(&material.passages[place % material.passages.len()]);
            }
            let times = exhibit.times();
            let positions: u64 = times.iter().copied().map(u64::from).sum();
            let blocks = in_blocks(plan.repeats, plan.threads, progress, |range| {
                let mut results = [(); 2].map(|()| ([Tally::default()], Moments::default()));
                for trial in range {
                    let mark = fresh(profile, text, plan.seed, trial)?;
                    let null = mark.scheme().null();
                    let scores = exhibit.cells().scores(&mark);
                    let all = scores.values().iter().zip(&times);
                    let all = Score {
                        cells: positions,
                        sum: all.map(|(&score, &n)| score * u64::from(n)).sum(),
                    };
                    for (score, (tally, z_squared)) in
                        [all, Score::of(&scores)].into_iter().zip(&mut results)
                    {
                        let p = null.upper_tail(score.cells, score.sum);
                        let size = super::attainable(null, score.cells, ALPHA);
                        tally[0].push(p.ln() <= ALPHA.ln(), size);
                        z_squared.push(null.z(score.cells, score.sum).powi(2));
                    }
                }
                Ok(results)
            })?;
            for (which, (test, claim)) in [
                ("INVALID: every position counted", Claim::Invalid),
                (TestId::ClosedCells.name(), Claim::Exact),
            ]
            .into_iter()
            .enumerate()
            {
                let subject = Subject {
                    part: "repeats",
                    profile: profile.id.clone(),
                    test: test.to_owned(),
                    text,
                };
                let (mut tally, mut z_squared) = (Tally::default(), Moments::default());
                for block in &blocks {
                    tally.merge(&block[which].0[0]);
                    z_squared.merge(&block[which].1);
                }
                looks.count(&subject, ALPHA, tally, claim);
                looks.mean(&subject, "z^2", z_squared, 1.0, claim);
            }
            looks.pairs += plan.repeats;
        }
    }
    Ok(looks)
}
