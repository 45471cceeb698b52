//! The whole loop: a teacher writes marked text, a student is trained on it and a control student
//! on unmarked text of the same teacher, and both are asked for text and tested.
//!
//! Every number follows from the seed: the keys, the coins of every answer, the initialisation
//! of the students and the order in which they read.

use std::num::NonZeroUsize;
use std::time::Instant;

use rand_core::Rng;
use serde::Serialize;
use watermark_core::candidates::Sampling;
use watermark_core::detect::{Test, score};
use watermark_core::distill::{Distillation, distill};
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::{Mark, Profile, ProfileError};
use watermark_core::report::Report;
use watermark_core::window::Exhibit;

use crate::generate::{Answer, Generation, coins, generate};
use crate::measure::Texture;
use crate::model::{Architecture, Model, ModelError, Transformer, TransformerConfig, worker};
use crate::training::{TrainingConfig, TrainingError, Windows, train};

/// The sizes of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The mark.
    pub profile: Profile,
    /// Decides everything else.
    pub seed: u64,
    /// Answers that each student is trained on.
    pub answers: usize,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Passes of a student over its text.
    pub epochs: f64,
    /// Answers that each student is asked for.
    pub questions: usize,
    /// Keys that nobody used.
    pub decoys: usize,
    /// Width of a student.
    pub dim: usize,
    /// Blocks of a student.
    pub layers: usize,
}

impl Plan {
    /// The sizes of `watermark demo`: a few minutes on two cores.
    pub fn demo(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            seed,
            answers: 1280,
            answer_tokens: 160,
            epochs: 4.0,
            questions: 256,
            decoys: 1000,
            dim: 128,
            layers: 2,
        }
    }
}

/// What happens while a run goes on.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A stage begins, with the work it has to do.
    Stage(&'static str, u64),
    /// So much of it is done.
    Done(u64),
}

/// p at a number of observed tokens.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Tokens that the suspect gave.
    pub tokens: u64,
    /// Distinct cells among them.
    pub n_scored: u64,
    /// log10 p of the student trained on marked text.
    pub suspect: f64,
    /// log10 p of the control.
    pub control: f64,
    /// log10 p of the decoys on the suspect's cells: smallest, 5 %, median, 95 %, largest.
    pub decoys: [f64; 5],
}

/// A run and its result.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The sizes.
    pub plan: Plan,
    /// The closed-model test, with decoys and control.
    pub report: Report,
    /// p against tokens.
    pub curve: Vec<Point>,
    /// The marked text.
    pub marked: Texture,
    /// The unmarked text.
    pub unmarked: Texture,
    /// The suspect's text.
    pub suspect: Texture,
    /// The mark made the text much less diverse: the p-value is easy, and no headline.
    pub collapsed: bool,
    /// Final training losses of student and control, nats a token.
    pub losses: [f64; 2],
    /// Seconds a stage: writing, training, asking, testing.
    pub seconds: [f64; 4],
    /// The first marked answers, to look at.
    #[serde(skip)]
    pub examples: Vec<Answer>,
    /// What the suspect said.
    #[serde(skip)]
    pub suspect_answers: Vec<Answer>,
    /// What the control said.
    #[serde(skip)]
    pub control_answers: Vec<Answer>,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A training.
    #[error(transparent)]
    Training(#[from] TrainingError),
}

/// Marked text has to keep this share of the unmarked text's distinct runs of four tokens.
const LEAST_DIVERSITY: f64 = 0.7;

/// Runs the loop with `teacher`, whose document start is token 0. `openings` are the token ids of
/// the texts' first words, document start left out: the teacher is asked with `prompts`, a
/// student with `openings`.
///
/// # Errors
/// The profile is not valid, or a model fails.
pub fn run(
    teacher: &Transformer,
    prompts: &[Vec<u32>],
    openings: &[Vec<u32>],
    plan: &Plan,
    threads: NonZeroUsize,
    hear: &(dyn Fn(Event) + Sync),
) -> Result<Outcome, DemoError> {
    let mut bytes = [0; 32];
    coins(plan.seed, "master key", 0).fill_bytes(&mut bytes);
    let master = MasterKey::from_bytes(bytes);
    let epoch = Epoch::new("demo").expect("a label");
    let mark = plan.profile.bind(&master.slot(&epoch, 0))?;
    let decoys: Vec<Mark> = master
        .decoys(&epoch)
        .take(plan.decoys)
        .map(|slot| plan.profile.bind(&slot))
        .collect::<Result<_, _>>()?;

    let mut seconds = [0.0; 4];
    let mut clock = Instant::now();
    let mut lap = |stage: usize| {
        seconds[stage] = clock.elapsed().as_secs_f64();
        clock = Instant::now();
    };

    let generation = |purpose: &str| Generation {
        max_tokens: plan.answer_tokens,
        sampling: Sampling::default(),
        end: Some(0),
        seed: coins(plan.seed, purpose, 0).next_u64(),
        batch: 64,
        threads,
    };
    let write = |mark, purpose, stage| {
        hear(Event::Stage(
            stage,
            (plan.answers * plan.answer_tokens) as u64,
        ));
        let asked = ask(prompts, plan.answers);
        generate(teacher, mark, &asked, &generation(purpose), &|n| {
            hear(Event::Done(n));
        })
    };
    let marked = write(Some(&mark), "marked", "the teacher writes under the key")?;
    let unmarked = write(None, "unmarked", "the teacher writes without a key")?;
    lap(0);

    let students = train_both(teacher, prompts, [&marked, &unmarked], plan, threads, hear)?;
    lap(1);

    let question = |student: &(Transformer, f64), purpose, stage| {
        hear(Event::Stage(
            stage,
            (plan.questions * plan.answer_tokens) as u64,
        ));
        let asked = ask(openings, plan.questions);
        generate(&student.0, None, &asked, &generation(purpose), &|n| {
            hear(Event::Done(n));
        })
    };
    let suspect = question(&students[0], "suspect", "the suspect answers")?;
    let control = question(&students[1], "control", "the control answers")?;
    lap(2);

    let exhibit = |answers: &[Answer]| {
        let mut exhibit = Exhibit::new(mark.profile().context_width());
        openings.iter().for_each(|opening| exhibit.exclude(opening));
        answers
            .iter()
            .for_each(|answer| exhibit.push(&answer.tokens));
        exhibit
    };
    hear(Event::Stage("keys that nobody used", plan.decoys as u64));
    let report = distill(
        &Distillation {
            mark: &mark,
            suspect: &exhibit(&suspect),
            control: Some(&exhibit(&control)),
            decoys: &decoys,
            threads,
        },
        &|done| hear(Event::Done(done as u64)),
    );
    let curve = curve(&mark, &decoys, &suspect, &control, &exhibit, threads);
    lap(3);

    let textures = [&marked, &unmarked, &suspect].map(|answers| Texture::of(answers));
    Ok(Outcome {
        plan: plan.clone(),
        report,
        curve,
        marked: textures[0],
        unmarked: textures[1],
        suspect: textures[2],
        collapsed: textures[0].distinct4 < LEAST_DIVERSITY * textures[1].distinct4,
        losses: [students[0].1, students[1].1],
        seconds,
        examples: marked.into_iter().take(3).collect(),
        suspect_answers: suspect,
        control_answers: control,
    })
}

/// Prompts, each after a document start, in turn until there are `count`.
fn ask(prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let started = prompts.iter().map(|prompt| {
        let mut tokens = vec![0];
        tokens.extend(prompt);
        tokens
    });
    started.cycle().take(count).collect()
}

/// Trains a student on each of two sets of answers, alike but for the text: same shape, same
/// initialisation, same order. Returns models and final losses.
fn train_both(
    teacher: &Transformer,
    prompts: &[Vec<u32>],
    texts: [&[Answer]; 2],
    plan: &Plan,
    threads: NonZeroUsize,
    hear: &(dyn Fn(Event) + Sync),
) -> Result<Vec<(Transformer, f64)>, DemoError> {
    let config = TransformerConfig {
        vocab: teacher.vocab_size(),
        dim: plan.dim,
        layers: plan.layers,
        heads: (plan.dim / 32).max(1),
        kv_heads: (plan.dim / 32).max(1),
        hidden: plan.dim * 8 / 3 / 32 * 32,
        context: plan.answer_tokens + 32,
        architecture: Architecture::Llama,
        ..teacher.config().clone()
    };
    let training = TrainingConfig {
        epochs: plan.epochs,
        batch: 16,
        learning_rate: 4e-3,
        weight_decay: 0.05,
        seed: coins(plan.seed, "order", 0).next_u64(),
    };
    let init = coins(plan.seed, "initialisation", 0).next_u64();
    // The answers with their prompts, as a distiller has them.
    let windows: Vec<Windows> = texts
        .into_iter()
        .map(|answers| {
            let documents: Vec<Vec<u32>> = answers
                .iter()
                .zip(prompts.iter().cycle())
                .map(|(answer, prompt)| [prompt.as_slice(), &answer.tokens].concat())
                .collect();
            Windows::new(&documents, 0, 128)
        })
        .collect::<Result<_, _>>()?;
    let steps: u64 = windows.iter().map(|w| training.steps(w) as u64).sum();
    hear(Event::Stage("two students learn", steps));
    let done = std::sync::atomic::AtomicU64::new(0);
    worker::map(threads, windows, |windows| {
        let student = Transformer::random(config.clone(), init)?;
        let trained = train(&student, &windows, &training, None, &mut |_| {
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            hear(Event::Done(done));
        })?;
        let last = trained.losses.len().min(20);
        let tail = &trained.losses[trained.losses.len() - last..];
        let loss = tail.iter().map(|&loss| f64::from(loss)).sum::<f64>() / last.max(1) as f64;
        Ok((trained.model, loss))
    })
    .into_iter()
    .collect()
}

/// p at growing numbers of answers, fixed beforehand: an eighth, a quarter, a half, all.
fn curve(
    mark: &Mark,
    decoys: &[Mark],
    suspect: &[Answer],
    control: &[Answer],
    exhibit: &dyn Fn(&[Answer]) -> Exhibit,
    threads: NonZeroUsize,
) -> Vec<Point> {
    [32, 16, 8, 4, 2, 1]
        .into_iter()
        .map(|part| {
            let seen = exhibit(&suspect[..suspect.len().div_ceil(part)]);
            let beside = exhibit(&control[..control.len().div_ceil(part)]);
            let null = mark.scheme().null();
            let items: Vec<&Mark> = decoys.iter().collect();
            let mut others: Vec<f64> = worker::map(threads, items, |decoy| {
                Test::from_score(null, score(decoy, &seen)).p.log10()
            });
            others.sort_by(f64::total_cmp);
            let at = |share: f64| {
                others
                    .get((share * (others.len() - 1) as f64).round() as usize)
                    .copied()
            };
            let band = if others.is_empty() {
                [0.0; 5]
            } else {
                [0.0, 0.05, 0.5, 0.95, 1.0].map(|share| at(share).unwrap_or(0.0))
            };
            Point {
                tokens: seen.counts().tokens,
                n_scored: seen.counts().cells,
                suspect: Test::of(mark, &seen).p.log10(),
                control: Test::of(mark, &beside).p.log10(),
                decoys: band,
            }
        })
        .collect()
}
