//! Reading mode: innocent models read logs that were really written under the key.
//!
//! Two readers take turns: one that was trained on other text, and the writer itself without its mark, the
//! hardest innocent reader, since it expects just what the mark chose from.

use watermark_core::profile::Profile;
use watermark_core::reading::Reading;

use super::look::{Looks, Moments, Subject, Tally};
use super::material::{Material, read, write};
use super::{NullError, Plan, fresh, in_blocks, supervised};

/// The levels that are looked at.
const ALPHAS: [f64; 3] = [0.05, 1e-2, 1e-3];
/// Documents a log, and letters a document.
const DOCUMENTS: u64 = 4;
const TOKENS: usize = 40;
/// Most probable letters that the reader names.
const TOP: usize = 12;

/// All profiles but those of self-hash, which have no such test.
///
/// # Errors
/// A profile is not valid, or a model fails.
pub fn run(
    material: &Material,
    profiles: &[Profile],
    plan: &Plan,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Looks, NullError> {
    let mut looks = Looks::default();
    for profile in supervised(profiles) {
        let purpose = format!("reading/{}", profile.id);
        let blocks = in_blocks(plan.reading, plan.threads, progress, |range| {
            let (mut tallies, mut e) = ([Tally::default(); ALPHAS.len()], Moments::default());
            for trial in range {
                let mark = fresh(profile, "reading", plan.seed, trial)?;
                let reader = &material.spellers[trial as usize % 2];
                let mut texts = Vec::new();
                for document in 0..DOCUMENTS {
                    let coins = (plan.seed, purpose.as_str(), trial * DOCUMENTS + document);
                    let text = write(&material.spellers[0], Some(&mark), TOKENS, coins)?;
                    texts.push(read(reader, &text, TOP)?);
                }
                let starts = vec![0; texts.len()];
                let value = Reading::new(&texts, &starts, TOP)?.e_value(&mark)?.e;
                e.push(value.ln().exp());
                for (tally, alpha) in tallies.iter_mut().zip(ALPHAS) {
                    tally.push(value.to_p().ln() <= alpha.ln(), alpha);
                }
            }
            Ok((tallies, e))
        })?;
        let subject = Subject {
            part: "reading",
            profile: profile.id.clone(),
            test: "reading, E".to_owned(),
            text: "logs of 160",
        };
        looks.settle(&subject, &ALPHAS, &blocks);
        looks.pairs += plan.reading;
    }
    Ok(looks)
}
