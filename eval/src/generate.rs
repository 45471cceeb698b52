//! A model writes: prompts in, answers out, under a mark or without one.
//!
//! Every answer has a generator of its own, derived from the seed and the prompt's place in the
//! list, so what is written depends neither on threads nor on how the work is split.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use watermark_core::candidates::{CandidateBuffer, Candidates, Sampling};
use watermark_core::profile::Mark;
use watermark_core::sampler::{Session, SessionRecord};

use crate::model::{Batch, Model, ModelError, worker};

/// How answers are written.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Tokens an answer has at most.
    pub max_tokens: usize,
    /// Temperature and truncation.
    pub sampling: Sampling,
    /// The token that ends an answer; it is not part of it.
    pub end: Option<u32>,
    /// Decides everything that the mark does not.
    pub seed: u64,
    /// Place of the first prompt in the whole list, where only a part of it is written.
    pub first: u64,
    /// Sequences that the model reads together.
    pub batch: usize,
    /// Threads; the answers do not depend on it.
    pub threads: NonZeroUsize,
}

/// What the model wrote for one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Token ids, without prompt and end.
    pub tokens: Vec<u32>,
    /// Mean entropy of the model's next-token distribution (after temperature and truncation),
    /// nats a token.
    pub entropy: f64,
    /// What the mark did; `None` where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<SessionRecord>,
}

/// A generator for a named purpose, derived from a seed.
pub fn coins(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut digest = Sha256::new();
    digest.update(b"watermark-eval/coins");
    digest.update(seed.to_le_bytes());
    digest.update(index.to_le_bytes());
    digest.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(digest.finalize().into())
}

/// The next token: by the mark where it marks, by ordinary sampling elsewhere and without a session, which accepts it.
/// This is all that a sampler has to be replaced by; `examples/candle_loop.rs` has it in a loop of candle's usual form.
pub fn next_token(
    session: Option<&mut Session<'_>>,
    candidates: &Candidates<'_>,
    temperature: f32,
    coins: &mut ChaCha8Rng,
) -> u32 {
    let Some(session) = session else {
        return candidates.get(candidates.sample(coins)).0;
    };
    let (token, outcome) = session.step(candidates, temperature, coins);
    session.accept(token, outcome);
    token
}

/// Writes an answer to every prompt, in the prompts' order. `progress(tokens)` hears of the
/// tokens written so far.
///
/// # Errors
/// A prompt is empty, too long or has unknown ids, or the model fails.
pub fn generate(
    model: &dyn Model,
    mark: Option<&Mark>,
    prompts: &[Vec<u32>],
    generation: &Generation,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Answer>, ModelError> {
    // A batch holds prompts of one length.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&index| prompts[index].len());
    let batches: Vec<&[usize]> = order
        .chunk_by(|&a, &b| prompts[a].len() == prompts[b].len())
        .flat_map(|group| group.chunks(generation.batch.max(1)))
        .collect();
    let written = AtomicU64::new(0);
    let results = worker::map(generation.threads, batches, |indices| {
        let answers = write_batch(model, mark, prompts, indices, generation, &|tokens| {
            progress(written.fetch_add(tokens, Ordering::Relaxed) + tokens);
        })?;
        Ok::<_, ModelError>((indices, answers))
    });
    let mut answers: Vec<Option<Answer>> = vec![None; prompts.len()];
    for result in results {
        let (indices, batch) = result?;
        for (&index, answer) in indices.iter().zip(batch) {
            answers[index] = Some(answer);
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// One sequence being written.
struct Writer<'m> {
    session: Option<Session<'m>>,
    tokens: Vec<u32>,
    coins: ChaCha8Rng,
    entropy: f64,
    /// The end token was drawn.
    ended: bool,
    /// The model's logits admit no token.
    stuck: bool,
}

impl Writer<'_> {
    fn open(&self, generation: &Generation) -> bool {
        !self.ended && !self.stuck && self.tokens.len() < generation.max_tokens
    }

    fn next(&mut self, candidates: &Candidates<'_>, temperature: f32) -> u32 {
        self.entropy += candidates.entropy();
        let session = self.session.as_mut();
        next_token(session, candidates, temperature, &mut self.coins)
    }

    fn finish(mut self) -> Answer {
        let drawn = self.tokens.len() + usize::from(self.ended);
        if self.ended
            && let Some(session) = &mut self.session
        {
            // The end token is not part of the answer.
            session.rollback(1);
        }
        Answer {
            entropy: self.entropy / drawn.max(1) as f64,
            record: self.session.map(|session| session.record()),
            tokens: self.tokens,
        }
    }
}

fn write_batch(
    model: &dyn Model,
    mark: Option<&Mark>,
    prompts: &[Vec<u32>],
    indices: &[usize],
    generation: &Generation,
    progress: &dyn Fn(u64),
) -> Result<Vec<Answer>, ModelError> {
    let starts: Vec<&[u32]> = indices.iter().map(|&i| prompts[i].as_slice()).collect();
    let mut batch = model.start(&starts)?;
    let mut writers: Vec<Writer<'_>> = indices
        .iter()
        .map(|&index| Writer {
            session: mark.map(Session::new),
            tokens: Vec::with_capacity(generation.max_tokens),
            coins: coins(generation.seed, "answer", generation.first + index as u64),
            entropy: 0.0,
            ended: false,
            stuck: false,
        })
        .collect();
    let mut buffer = CandidateBuffer::default();
    let mut next = vec![0; writers.len()];
    loop {
        let mut written = 0;
        draw(
            &*batch,
            &mut writers,
            generation,
            &mut buffer,
            &mut next,
            &mut written,
        );
        progress(written);
        let room = batch.len() < model.context_length();
        if !room || !writers.iter().any(|writer| writer.open(generation)) {
            break;
        }
        batch.step(&next)?;
    }
    Ok(writers.into_iter().map(Writer::finish).collect())
}

/// One token for every sequence that is still open; the others are fed their last one.
fn draw(
    batch: &dyn Batch,
    writers: &mut [Writer<'_>],
    generation: &Generation,
    buffer: &mut CandidateBuffer,
    next: &mut [u32],
    written: &mut u64,
) {
    let rows = batch.logits();
    for ((writer, logits), next) in writers.iter_mut().zip(rows.rows()).zip(next) {
        if !writer.open(generation) {
            continue;
        }
        let logits = logits
            .to_slice()
            .map_or_else(|| logits.to_vec().into(), std::borrow::Cow::from);
        let Ok(candidates) = buffer.fill(&logits, &generation.sampling) else {
            writer.stuck = true;
            continue;
        };
        let token = writer.next(&candidates, generation.sampling.temperature);
        *next = token;
        if Some(token) == generation.end {
            writer.ended = true;
        } else {
            writer.tokens.push(token);
            *written += 1;
        }
    }
}
