//! Speculative decoding under a mark with dual keys, with two toy models: `cargo run -p watermark-core --example speculative`.
//!
//! A small model drafts four tokens at a time, the target keeps those that pass, and the reader finds the mark in the
//! text that comes of it. Prints how many drafts were kept, how the tokens came about, and p under the key and under
//! another one.

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use watermark_core::candidates::{CandidateBuffer, Sampling};
use watermark_core::detect::Test;
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::Profile;
use watermark_core::sampler::{Session, TokenRole};
use watermark_core::speculative::{Residual, Settled, settle};
use watermark_core::window::Exhibit;

const VOCABULARY: u32 = 2000;
const DRAFTS: usize = 4;
const TOKENS: usize = 400;

/// Next-token logits: what is likely depends on the last two tokens. The small model sees it less clearly.
fn logits(text: &[u32], clarity: f32) -> Vec<f32> {
    let [.., a, b] = *text else {
        return vec![0.0; VOCABULARY as usize];
    };
    let rank = |token: u32| {
        let mixed = token.wrapping_mul(2_654_435_761) ^ a.wrapping_mul(97) ^ b.wrapping_mul(8191);
        mixed.wrapping_mul(2_246_822_519) >> 16
    };
    (0..VOCABULARY)
        .map(|token| -clarity * (rank(token) as f32 / 60.0 + 1.0).ln())
        .collect()
}

fn target(text: &[u32]) -> Vec<f32> {
    logits(text, 1.6)
}

fn small(text: &[u32]) -> Vec<f32> {
    logits(text, 1.2)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A fixed key for an example; 32 bytes of the system's generator in earnest.
    let master = MasterKey::from_bytes([7; 32]);
    let epoch = Epoch::new("2026q4")?;
    let profile = Profile::built_in("gumbel-dual-h2").ok_or("no such profile")?;
    let mark = profile.bind(&master.slot(&epoch, 0))?;

    let sampling = Sampling::default();
    let mut coins = ChaCha8Rng::seed_from_u64(1);
    let mut session = Session::new(&mark);
    session.reserve(TOKENS + DRAFTS);
    let mut residual = Residual::default();
    let (mut of_target, mut of_small) = (CandidateBuffer::default(), CandidateBuffer::default());
    let (mut drafted, mut kept) = (0, 0);

    while session.tokens().len() < TOKENS {
        // The small model goes ahead, under key A.
        let start = session.tokens().len();
        for _ in 0..DRAFTS {
            let logits = small(session.tokens());
            let candidates = of_small.fill(&logits, &sampling)?;
            let (token, outcome) = session.step_as(
                TokenRole::Draft,
                &candidates,
                sampling.temperature,
                &mut coins,
            );
            session.accept(token, outcome);
        }
        drafted += DRAFTS;
        // The target reads all drafts at once (here: one by one) and settles them in order. It draws under key B.
        let mut all_kept = true;
        for at in 0..DRAFTS {
            let before = &session.tokens()[..start + at];
            let (p, q) = (target(before), small(before));
            let settled = settle(
                &mut session,
                DRAFTS - at,
                &of_target.fill(&p, &sampling)?,
                &of_small.fill(&q, &sampling)?,
                sampling.temperature,
                &mut residual,
                &mut coins,
            );
            if settled != Settled::Kept {
                all_kept = false;
                break;
            }
            kept += 1;
        }
        if all_kept {
            let logits = target(session.tokens());
            let candidates = of_target.fill(&logits, &sampling)?;
            let (token, outcome) = session.step_as(
                TokenRole::Bonus,
                &candidates,
                sampling.temperature,
                &mut coins,
            );
            session.accept(token, outcome);
        }
    }

    println!(
        "{kept} of {drafted} drafts kept ({:.0} %), {} tokens",
        100.0 * f64::from(kept) / drafted as f64,
        session.tokens().len()
    );
    print!("{}", session.skips().prometheus(""));
    let mut exhibit = Exhibit::new(mark.profile().context_width());
    exhibit.push(session.tokens());
    for (what, slot) in [("this key", 0), ("another", 1)] {
        let test = Test::of(&profile.bind(&master.slot(&epoch, slot))?, &exhibit);
        println!("{what}: {} cells scored, p = {}", test.n_scored, test.p);
    }
    Ok(())
}
