//! A mark as a processor of logits that is shown the whole sequence at every step, the form of mistral.rs'
//! `CustomLogitsProcessor::apply(&Tensor, &[u32])`: `cargo run -p watermark-eval --example logits_processor`.
//!
//! The processor does temperature and truncation itself and leaves one token, so that what the engine does afterwards
//! changes nothing. It may be called twice for a position (a grammar refuses the token): the session takes in what the
//! sequence shows, and a token that was not taken leaves no trace. Every sequence has a processor of its own, behind a
//! mutex, as engines call it through `&self`.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use watermark_core::candidates::{CandidateBuffer, Sampling};
use watermark_core::detect::Test;
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::{Mark, Profile};
use watermark_core::sampler::{Outcome, Session};
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_core::window::Exhibit;
use watermark_eval::model::Model;

/// The mark of one sequence.
struct MarkProcessor {
    sampling: Sampling,
    state: Mutex<State>,
}

struct State {
    session: Session<'static>,
    /// Tokens of the prompt: all of the sequence at the first call.
    prompt: Option<usize>,
    /// The last answer.
    decided: Option<(u32, Outcome)>,
    buffer: CandidateBuffer,
    coins: ChaCha8Rng,
}

impl MarkProcessor {
    fn new(mark: Arc<Mark>, sampling: Sampling, coins: ChaCha8Rng) -> Self {
        let state = Mutex::new(State {
            session: Session::shared(mark),
            prompt: None,
            decided: None,
            buffer: CandidateBuffer::default(),
            coins,
        });
        Self { sampling, state }
    }

    /// Logits of the next token, and prompt and tokens so far; gives the logits of which one token is left.
    fn apply(&self, logits: &Tensor, context: &[u32]) -> candle_core::Result<Tensor> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            session,
            prompt,
            decided,
            buffer,
            coins,
        } = &mut *state;
        let prompt = *prompt.get_or_insert(context.len());
        session.follow(&context[prompt..], decided.take());
        let mut row: Vec<f32> = logits.to_vec1()?;
        let candidates = buffer
            .fill(&row, &self.sampling)
            .map_err(candle_core::Error::wrap)?;
        let (token, outcome) = session.step(&candidates, self.sampling.temperature, coins);
        *decided = Some((token, outcome));
        row.fill(f32::NEG_INFINITY);
        row[token as usize] = 0.0;
        Tensor::from_vec(row, logits.shape(), logits.device())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A fixed key for an example; 32 bytes of the system's generator in earnest.
    let slot_key = MasterKey::from_bytes([7; 32]).slot(&Epoch::new("2026q4")?, 0);
    let mark = Arc::new(
        Profile::built_in("tournament-h2")
            .ok_or("no such profile")?
            .bind(&slot_key)?,
    );
    let sampling = Sampling {
        top_p: 0.95,
        ..Sampling::default()
    };
    let processor = MarkProcessor::new(mark.clone(), sampling, ChaCha8Rng::seed_from_u64(1));

    let model = watermark_eval::embedded::teacher()?;
    let tokenizer = HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "embedded")?;
    let mut sequence = vec![model.documents().start];
    sequence.extend(tokenizer.encode("The state of the union"));
    let prompt = sequence.len();

    let mut batch = model.start(&[&sequence])?;
    while sequence.len() < prompt + 200 && batch.len() < model.context_length() {
        let row = batch.logits().row(0).to_vec();
        let logits = Tensor::from_vec(row, model.vocab_size(), &Device::Cpu)?;
        // The engine: its own sampler, here the largest logit, behind the processor.
        let token = processor
            .apply(&logits, &sequence)?
            .argmax(0)?
            .to_scalar::<u32>()?;
        if token == model.documents().end {
            break;
        }
        sequence.push(token);
        batch.step(&[token])?;
    }

    println!("{}", tokenizer.decode(&sequence[prompt..]));
    let mut exhibit = Exhibit::new(mark.profile().context_width());
    exhibit.exclude(&sequence[..prompt]);
    exhibit.push(&sequence[prompt..]);
    let test = Test::of(&mark, &exhibit);
    println!("{} cells scored, p = {}", test.n_scored, test.p);
    Ok(())
}
