//! A generation loop in candle's usual form, marked: `cargo run -p watermark-eval --example candle_loop`.
//!
//! candle-transformers' `LogitsProcessor::sample_f(&logits, f)` lets a closure change the probabilities after temperature,
//! before it draws. `Sampler` below has this method in the same form (the crate itself, with all its models, is not
//! needed for it); with the original the closure is the same. The mark does the truncation, so the original should be
//! made with `Sampling::All { temperature }`. `ArgMax` never calls the closure: greedy decoding carries no such mark.

use std::error::Error;

use candle_core::{D, DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watermark_core::candidates::Candidates;
use watermark_core::detect::Test;
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::Profile;
use watermark_core::sampler::Session;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_core::window::Exhibit;
use watermark_eval::generate::next_token;
use watermark_eval::model::Model;

/// candle's sampler, with one temperature and no truncation.
struct Sampler {
    temperature: f64,
    coins: ChaCha8Rng,
}

impl Sampler {
    fn sample_f(
        &mut self,
        logits: &Tensor,
        f: impl FnOnce(&mut [f32]),
    ) -> candle_core::Result<u32> {
        let logits = (logits.to_dtype(DType::F32)? / self.temperature)?;
        let exp = logits
            .broadcast_sub(&logits.max_keepdim(D::Minus1)?)?
            .exp()?;
        let mut prs: Vec<f32> = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_vec1()?;
        f(&mut prs);
        let drawn = f64::from(self.coins.next_u32()) / 2f64.powi(32);
        let total: f64 = prs.iter().copied().map(f64::from).sum();
        let mut sum = 0.0;
        let at = prs.iter().position(|&p| {
            sum += f64::from(p);
            sum > drawn * total
        });
        Ok(at.unwrap_or(prs.len() - 1) as u32)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A fixed key for an example; 32 bytes of the system's generator in earnest.
    let master = MasterKey::from_bytes([7; 32]);
    let epoch = Epoch::new("2026q4")?;
    let profile = Profile::built_in("gumbel-dual-h2").ok_or("no such profile")?;
    let mark = profile.bind(&master.slot(&epoch, 0))?;

    let model = watermark_eval::embedded::teacher()?;
    let tokenizer = HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "embedded")?;
    let documents = model.documents();
    let mut prompt = vec![documents.start];
    prompt.extend(tokenizer.encode("The state of the union"));

    let mut sampler = Sampler {
        temperature: 1.0,
        coins: ChaCha8Rng::seed_from_u64(1),
    };
    // What the mark draws itself: the choice between its two keys.
    let mut coins = ChaCha8Rng::seed_from_u64(2);
    let mut session = Session::new(&mark);

    let mut batch = model.start(&[&prompt])?;
    while session.tokens().len() < 200 && batch.len() < model.context_length() {
        let row = batch.logits().row(0).to_vec();
        let logits = Tensor::from_vec(row, model.vocab_size(), &Device::Cpu)?;
        let temperature = sampler.temperature as f32;
        let token = sampler.sample_f(&logits, |prs| {
            let Ok(candidates) = Candidates::dense(prs) else {
                return;
            };
            let token = next_token(Some(&mut session), &candidates, temperature, &mut coins);
            prs.fill(0.0);
            prs[token as usize] = 1.0;
        })?;
        if token == documents.end {
            // It is no part of the answer.
            session.rollback(1);
            break;
        }
        batch.step(&[token])?;
    }

    println!("{}", tokenizer.decode(session.tokens()));
    let mut exhibit = Exhibit::new(profile.context_width());
    exhibit.exclude(&prompt);
    exhibit.push(session.tokens());
    for (what, slot) in [("this key", 0), ("another", 1)] {
        let test = Test::of(&profile.bind(&master.slot(&epoch, slot))?, &exhibit);
        println!("{what}: {} cells scored, p = {}", test.n_scored, test.p);
    }
    Ok(())
}
