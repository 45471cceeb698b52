//! The whole loop: a teacher writes marked text, a student is trained on it and a control student
//! on unmarked text of the same teacher, and both are asked for text and tested.
//!
//! Every number follows from the seed: the keys, the coins of every answer, the initialisation
//! of the students and the order in which they read.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use watermark_core::candidates::Sampling;
use watermark_core::detect::{Score, Test, score};
use watermark_core::distill::{DistillError, Distillation, distill};
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::{Mark, Profile, ProfileError};
use watermark_core::report::Report;
use watermark_core::window::Exhibit;

use crate::generate::{Answer, Generation, coins, generate};
use crate::measure::Texture;
use crate::model::{DocumentTokens, Model, ModelError, worker};
use crate::store::{Store, StoreError};
use crate::student::{DOCUMENT_START, Student, StudentConfig};
use crate::training::TrainingError;

/// The sizes of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DemoPlan")
)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The mark.
    pub profile: Profile,
    /// Decides everything else.
    pub seed: u64,
    /// Answers that each student is trained on.
    pub answers: usize,
    /// Unmarked answers, where the control is to read fewer; it reads them as often as the student
    /// reads the marked ones.
    pub unmarked_answers: Option<usize>,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Answers that each student is asked for.
    pub questions: usize,
    /// Keys that nobody used.
    pub decoys: usize,
    /// A student's shape and training; its seeds follow from the plan's.
    pub student: StudentConfig,
}

impl Plan {
    /// The sizes of `watermark demo`: a few minutes on two cores.
    pub fn demo(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            seed,
            answers: 1280,
            unmarked_answers: None,
            answer_tokens: 160,
            questions: 256,
            decoys: 1000,
            student: StudentConfig::default(),
        }
    }

    /// The student's settings under this plan's seed.
    pub fn student(&self) -> StudentConfig {
        StudentConfig {
            seed: coins(self.seed, "initialisation", 0).next_u64(),
            order: coins(self.seed, "order", 0).next_u64(),
            ..self.student.clone()
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// What the teacher wrote under the key.
    #[serde(skip)]
    pub marked_answers: Vec<Answer>,
    /// What it wrote without one.
    #[serde(skip)]
    pub unmarked_answers: Vec<Answer>,
    /// The mark.
    #[serde(skip)]
    pub mark: Mark,
    /// The same profile under the epoch's next slot.
    #[serde(skip)]
    pub other: Mark,
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
    /// What is kept on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tests.
    #[error(transparent)]
    Distill(#[from] DistillError),
}

/// Who writes, and what is asked.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The model that writes.
    pub teacher: &'a dyn Model,
    /// Between which tokens it expects a document.
    pub documents: DocumentTokens,
    /// What it is asked with: token ids, document start left out.
    pub prompts: &'a [Vec<u32>],
    /// First words for the students.
    pub openings: &'a [Vec<u32>],
    /// Where finished parts are kept, so that an interrupted run goes on.
    pub store: Option<&'a Store>,
    /// Threads; the numbers do not depend on it.
    pub threads: NonZeroUsize,
}

/// Marked text has to keep this share of the unmarked text's distinct runs of four tokens.
const LEAST_DIVERSITY: f64 = 0.7;

/// Runs the loop.
///
/// # Errors
/// The profile is not valid, a model fails, or the store cannot be used.
pub fn run(
    scene: &Scene<'_>,
    plan: &Plan,
    hear: &(dyn Fn(Event) + Sync),
) -> Result<Outcome, DemoError> {
    let &Scene {
        teacher,
        prompts,
        openings,
        threads,
        ..
    } = scene;
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

    let write =
        |store: Option<&Store>, name: &str, model: &dyn Model, mark, asked: &[_], end, stage| {
            let generation = Generation {
                max_tokens: plan.answer_tokens,
                sampling: Sampling::default(),
                end: Some(end),
                seed: coins(plan.seed, name, 0).next_u64(),
                first: 0,
                batch: 64,
                threads,
            };
            let work = (asked.len() * plan.answer_tokens) as u64;
            hear(Event::Stage(stage, work));
            let progress = |tokens| hear(Event::Done(tokens));
            Ok::<_, DemoError>(match store {
                Some(store) => store.answers(name, model, mark, asked, &generation, &progress)?,
                None => generate(model, mark, asked, &generation, &progress)?,
            })
        };
    let DocumentTokens { start, end } = scene.documents;
    let asked = ask(prompts, start, plan.answers);
    let under_key = Some(&mark);
    let marked = write(
        scene.store,
        "marked",
        teacher,
        under_key,
        &asked,
        end,
        "the teacher writes under the key",
    )?;
    let fewer = plan.unmarked_answers.unwrap_or(plan.answers);
    let unmarked = write(
        scene.store,
        "unmarked",
        teacher,
        None,
        &asked[..fewer.min(plan.answers)],
        end,
        "the teacher writes without a key",
    )?;
    lap(0);

    let [learned, innocent] = train_both(scene, [&marked, &unmarked], plan, hear)?;
    lap(1);

    // A student's answers are written in seconds: they are not kept.
    let asked = ask(openings, DOCUMENT_START, plan.questions);
    let suspect = write(
        None,
        "suspect",
        &learned,
        None,
        &asked,
        DOCUMENT_START,
        "the suspect answers",
    )?;
    let control = write(
        None,
        "control",
        &innocent,
        None,
        &asked,
        DOCUMENT_START,
        "the control answers",
    )?;
    lap(2);

    let exhibit = |answers: &[Answer]| {
        let mut exhibit = Exhibit::new(mark.profile().context_width());
        openings.iter().for_each(|opening| exhibit.exclude(opening));
        for (index, answer) in answers.iter().enumerate() {
            exhibit.push_from((index % openings.len()) as u32, &answer.tokens);
        }
        exhibit
    };
    hear(Event::Stage("keys that nobody used", plan.decoys as u64));
    let report = distill(
        &Distillation {
            control: Some(&exhibit(&control)),
            threads,
            ..Distillation::new(&mark, &exhibit(&suspect), &decoys)
        },
        &|done| hear(Event::Done(done as u64)),
    )?;
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
        losses: [learned.loss(), innocent.loss()],
        seconds,
        marked_answers: marked,
        unmarked_answers: unmarked,
        other: plan.profile.bind(&master.slot(&epoch, 1))?,
        mark,
        suspect_answers: suspect,
        control_answers: control,
    })
}

/// Prompts, each after a document start, in turn until there are `count`.
fn ask(prompts: &[Vec<u32>], start: u32, count: usize) -> Vec<Vec<u32>> {
    let started = prompts
        .iter()
        .map(|prompt| [&[start], prompt.as_slice()].concat());
    started.cycle().take(count).collect()
}

/// Trains a student on marked and one on unmarked answers, alike but for the text: same shape,
/// same initialisation, same order.
fn train_both(
    scene: &Scene<'_>,
    texts: [&[Answer]; 2],
    plan: &Plan,
    hear: &(dyn Fn(Event) + Sync),
) -> Result<[Student; 2], DemoError> {
    let config = plan.student();
    // The answers with their prompts, as a distiller has them.
    let documents = texts.map(|answers| -> Vec<Vec<u32>> {
        let pairs = answers.iter().zip(scene.prompts.iter().cycle());
        pairs
            .map(|(answer, prompt)| [prompt.as_slice(), &answer.tokens].concat())
            .collect()
    });
    let steps = documents.iter().map(|text| config.steps(text)).sum();
    hear(Event::Stage("two students learn", steps));
    let done = AtomicU64::new(0);
    let named = documents.iter().zip(["learned", "innocent"]).collect();
    let mut students = worker::map(scene.threads, named, |(documents, name)| {
        let checkpoint = scene.store.map(|store| store.checkpoint(name));
        let vocabulary = scene.teacher.vocab_size();
        Student::train(
            documents,
            vocabulary,
            &config,
            checkpoint.as_ref(),
            &mut |_| {
                hear(Event::Done(done.fetch_add(1, Ordering::Relaxed) + 1));
            },
        )
    })
    .into_iter();
    let mut next = || {
        students
            .next()
            .expect("one a text")
            .map_err(DemoError::from)
    };
    Ok([next()?, next()?])
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
                let Score { cells, sum } = score(decoy, &seen);
                null.upper_tail(cells, sum).log10()
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
