//! A look after every answer, stopped at the first that shows it.

use watermark_core::anytime::{Stopping, Watch};
use watermark_core::profile::Profile;

use super::look::{Looks, Moments, Subject, Tally};
use super::material::Material;
use super::{NullError, Plan, fresh, in_blocks};

/// The level at which a watch stops, and the levels at which it is counted.
const ALPHAS: [f64; 2] = [1e-2, 1e-3];
/// Answers asked for at most, and tokens an answer.
const ANSWERS: usize = 12;
const TOKENS: usize = 25;

/// All profiles: half of the watches stop at each of the levels, and every sixth answer is the
/// first one again.
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
    for profile in profiles {
        let blocks = in_blocks(plan.anytime, plan.threads, progress, |range| {
            let mut results = ALPHAS.map(|_| (Tally::default(), Moments::default()));
            for trial in range {
                let mark = fresh(profile, "anytime", plan.seed, trial)?;
                let which = trial as usize % ALPHAS.len();
                let (alpha, (tally, e)) = (ALPHAS[which], &mut results[which]);
                let stopping = Stopping {
                    alpha,
                    planned: None,
                };
                let mut watch = Watch::new(&mark, None);
                let mut value = 1.0;
                let mut crossed = false;
                for answer in 0..ANSWERS {
                    let place = if answer % 6 == 5 { 0 } else { answer };
                    let passage = (trial as usize / 2 + place) % material.passages.len();
                    let text = &material.passages[passage];
                    watch.push(&text[..TOKENS.min(text.len())]);
                    let look = watch.look(&stopping);
                    value = look.e.ln().exp();
                    // As a reader decides it: by the p-value of the look.
                    crossed = look.p.ln() <= alpha.ln();
                    if crossed {
                        break;
                    }
                }
                tally.push(crossed, alpha);
                e.push(value);
            }
            Ok(results)
        })?;
        for (which, (alpha, text)) in ALPHAS
            .into_iter()
            .zip(["stops at 1e-2", "stops at 1e-3"])
            .enumerate()
        {
            let subject = Subject {
                part: "anytime",
                profile: profile.id.clone(),
                test: "any time, E".to_owned(),
                text,
            };
            let blocks: Vec<_> = blocks
                .iter()
                .map(|results| ([results[which].0], results[which].1))
                .collect();
            looks.settle(&subject, &[alpha], &blocks);
        }
        looks.pairs += plan.anytime;
    }
    Ok(looks)
}
