//! Which test finds a trained student with how few tokens: the study behind `record/distill.md`.
//!
//! For every seed and mark a teacher writes text, students learn from it at several shares, and every
//! test reads them at growing budgets. An innocent student (trained on unmarked text) and another
//! one, from other unmarked text and another first state, are the control and the reference.
//!
//! [`make`] trains and keeps everything; [`read`] asks and reads.

use std::num::NonZeroUsize;

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use watermark_core::candidates::Sampling;
use watermark_core::key::{Epoch, MasterKey, SlotKey};
use watermark_core::profile::{Profile, ProfileError};
use watermark_core::regime::ExactWindows;

use crate::generate::{Answer, Generation, coins, generate};
use crate::measure::Texture;
use crate::model::{Model, ModelError};
use crate::reading::ReadError;
use crate::store::{Store, StoreError};
use crate::student::{DOCUMENT_START, Student, StudentConfig};
use crate::training::TrainingError;

mod decoys;
mod points;

use points::{Read, Shared};

/// What is studied.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Study {
    /// Marks.
    pub profiles: Vec<Profile>,
    /// Shares of marked answers in a student's text.
    pub shares: Vec<f64>,
    /// One teacher's text, key, and set of first weights each.
    pub seeds: Vec<u64>,
    /// Answers that a student is trained on.
    pub answers: usize,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Answers that a student is asked for.
    pub questions: usize,
    /// Keys that nobody used: so many on the first seed, a fifth of them on the others.
    pub decoys: usize,
    /// Entries kept of a distribution.
    pub top: usize,
    /// A student's shape and training.
    pub student: StudentConfig,
}

/// Who takes part.
#[derive(Clone, Copy)]
pub struct Cast<'a> {
    /// The teacher; its document start is token 0.
    pub teacher: &'a dyn Model,
    /// What it is asked with.
    pub prompts: &'a [Vec<u32>],
    /// What students are asked with.
    pub openings: &'a [Vec<u32>],
    /// Neutral text for open weights.
    pub neutral: &'a [Vec<u32>],
    /// Where everything is kept.
    pub store: &'a Store,
    /// Threads.
    pub threads: NonZeroUsize,
}

/// Why a study stopped.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A mark.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What is kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A training.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// Open weights.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A student's place in the study; `profile` is `None` for the two innocent ones.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role<'a> {
    Suspect { profile: &'a Profile, share: f64 },
    Control,
    Reference,
}

impl Role<'_> {
    fn name(&self, seed: u64) -> String {
        match self {
            Self::Suspect { profile, share } => format!("s{seed}-{}-{share}", profile.id),
            Self::Control => format!("s{seed}-control"),
            Self::Reference => format!("s{seed}-reference"),
        }
    }
}

/// The keys of a seed: the one in use, and decoys.
fn master(seed: u64) -> MasterKey {
    let mut bytes = [0; 32];
    coins(seed, "study master key", 0).fill_bytes(&mut bytes);
    MasterKey::from_bytes(bytes)
}

fn epoch() -> Epoch {
    Epoch::new("study").expect("a label")
}

fn slot(seed: u64) -> SlotKey {
    master(seed).slot(&epoch(), 0)
}

impl Study {
    fn generation(&self, seed: u64, purpose: &str, threads: NonZeroUsize) -> Generation {
        Generation {
            max_tokens: self.answer_tokens,
            sampling: Sampling::default(),
            end: Some(DOCUMENT_START),
            seed: coins(seed, purpose, 0).next_u64(),
            first: 0,
            batch: 64,
            threads,
        }
    }

    /// The teacher's answers, under a mark or as one of several unmarked sets.
    fn text(
        &self,
        cast: &Cast<'_>,
        seed: u64,
        profile: Option<&Profile>,
        set: &str,
    ) -> Result<Vec<Answer>, StudyError> {
        let mark = profile.map(|p| p.bind(&slot(seed))).transpose()?;
        let name = match profile {
            Some(profile) => format!("s{seed}-text-{}", profile.id),
            None => format!("s{seed}-text-{set}"),
        };
        let asked = started(cast.prompts, self.answers);
        let generation = self.generation(seed, &name, cast.threads);
        Ok(cast.store.answers(
            &name,
            cast.teacher,
            mark.as_ref(),
            &asked,
            &generation,
            &|_| (),
        )?)
    }

    /// What a student is trained on: answers with their prompts, as a distiller has them. A share
    /// is spread evenly over the answers.
    fn documents(
        &self,
        cast: &Cast<'_>,
        seed: u64,
        role: Role<'_>,
    ) -> Result<Vec<Vec<u32>>, StudyError> {
        let plain = match role {
            Role::Reference => self.text(cast, seed, None, "other")?,
            _ => self.text(cast, seed, None, "plain")?,
        };
        let marked = match role {
            Role::Suspect { profile, share } => {
                Some((self.text(cast, seed, Some(profile), "")?, share))
            }
            _ => None,
        };
        let pairs = plain.iter().zip(cast.prompts.iter().cycle()).enumerate();
        Ok(pairs
            .map(|(index, (plain, prompt))| {
                let answer = match &marked {
                    // Bresenham: the marked ones are spread evenly.
                    Some((marked, share))
                        if ((index + 1) as f64 * share).floor()
                            > (index as f64 * share).floor() =>
                    {
                        &marked[index]
                    }
                    _ => plain,
                };
                [prompt.as_slice(), &answer.tokens].concat()
            })
            .collect())
    }

    fn train(&self, cast: &Cast<'_>, seed: u64, role: Role<'_>) -> Result<Student, StudyError> {
        let documents = self.documents(cast, seed, role)?;
        let start = match role {
            Role::Reference => "reference",
            _ => "student",
        };
        let config = StudentConfig {
            seed: coins(seed, start, 1).next_u64(),
            order: coins(seed, start, 2).next_u64(),
            ..self.student.clone()
        };
        let checkpoint = cast.store.checkpoint(&role.name(seed));
        Ok(Student::train(
            &documents,
            cast.teacher.vocab_size(),
            &config,
            Some(&checkpoint),
            &mut |_| (),
        )?)
    }

    /// What a model says to the openings.
    fn ask(
        &self,
        cast: &Cast<'_>,
        seed: u64,
        name: &str,
        model: &dyn Model,
    ) -> Result<Vec<Answer>, StudyError> {
        let asked = started(cast.openings, self.questions);
        let generation = self.generation(seed, name, cast.threads);
        Ok(generate(model, None, &asked, &generation, &|_| ())?)
    }

    fn roles(&self) -> Vec<Role<'_>> {
        let suspects = self.shares.iter().flat_map(|&share| {
            self.profiles
                .iter()
                .map(move |profile| Role::Suspect { profile, share })
        });
        [Role::Control, Role::Reference]
            .into_iter()
            .chain(suspects)
            .collect()
    }
}

fn started(prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let started = prompts
        .iter()
        .map(|prompt| [&[DOCUMENT_START], prompt.as_slice()].concat());
    started.cycle().take(count).collect()
}

/// Writes every text and trains every student that is not there yet. `hear(done, of, name)`.
///
/// # Errors
/// A model or a training fails, or the store cannot be used.
pub fn make(
    study: &Study,
    cast: &Cast<'_>,
    hear: &(dyn Fn(usize, usize, &str) + Sync),
) -> Result<(), StudyError> {
    let of = study.seeds.len() * study.roles().len();
    let mut done = 0;
    for &seed in &study.seeds {
        // Texts on all threads; then one student a thread.
        for set in ["plain", "other"] {
            study.text(cast, seed, None, set)?;
        }
        for profile in &study.profiles {
            hear(done, of, &format!("s{seed}-text-{}", profile.id));
            study.text(cast, seed, Some(profile), "")?;
        }
        let finished = std::sync::atomic::AtomicUsize::new(done);
        let results = crate::model::worker::map(cast.threads, study.roles(), |role| {
            let student = study.train(cast, seed, role).map(drop);
            let done = finished.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            hear(done, of, &role.name(seed));
            student
        });
        results.into_iter().collect::<Result<Vec<()>, _>>()?;
        done = finished.into_inner();
    }
    Ok(())
}

/// One test of one student at one budget.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Profile.
    pub profile: String,
    /// Share of marked training data; 0 for the control.
    pub share: f64,
    /// Seed.
    pub seed: u64,
    /// Which test.
    pub test: String,
    /// Rotation of the order of answers or texts.
    pub rotation: usize,
    /// Tokens of the suspect, or positions of neutral text read.
    pub tokens: u64,
    /// Cells with a weight.
    pub cells: u64,
    /// log10 p, or of 1 / E.
    pub p_log10: f64,
    /// Standard score.
    pub z: f64,
}

/// Whose text is read under keys that nobody used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspect {
    /// A student of marked text alone.
    Marked,
    /// A student of unmarked text.
    Control,
    /// The teacher without a mark: no student at all.
    Clean,
}

impl Suspect {
    /// In tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Marked => "marked student",
            Self::Control => "control student",
            Self::Clean => "clean model",
        }
    }
}

/// One test of one suspect under keys that nobody used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// Profile.
    pub profile: String,
    /// Seed.
    pub seed: u64,
    /// Whose text.
    pub suspect: Suspect,
    /// Which test.
    pub test: String,
    /// Decoys.
    pub of: usize,
    /// log10 p of the Kolmogorov-Smirnov test that their p-values are uniform.
    pub ks_p_log10: f64,
    /// Mean and standard deviation of their standard scores.
    pub z: [f64; 2],
    /// How many of their p-values are at most 1e-2, 1e-3, 1e-5.
    pub alarms: [usize; 3],
    /// Place of the key in use among them, 1 for the most striking.
    pub rank: usize,
    /// log10 of their p-values, ascending, where a figure is drawn of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub p_log10: Vec<f32>,
}

/// The name of the practice that counts repeats, among the tests.
pub const REPEATS: &str = "invalid: repeats counted";

/// What a study found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Every test at every budget.
    pub points: Vec<Point>,
    /// Keys that nobody used.
    pub calibrations: Vec<Calibration>,
    /// Texture of the marked texts, and of the unmarked one of the same seed.
    pub textures: Vec<(String, u64, Texture, Texture)>,
}

/// Reads every student of one of the study's seeds, the one of this place, with every test.
///
/// # Errors
/// A model fails, or the store cannot be used.
pub fn read(
    study: &Study,
    cast: &Cast<'_>,
    place: usize,
    hear: &(dyn Fn(usize, usize, &str) + Sync),
) -> Result<Findings, StudyError> {
    let seed = study.seeds[place];
    let of = study.profiles.len() * (study.shares.len() + 1);
    let mut findings = Findings::default();
    let mut done = 0;
    let reference = study.train(cast, seed, Role::Reference)?;
    let control = study.train(cast, seed, Role::Control)?;
    let others = texts(&study.text(cast, seed, None, "other")?);
    let plain = study.text(cast, seed, None, "plain")?;
    let shared = Shared::new(study, cast, seed, &reference, &others)?;
    let innocent = Read::of(&shared, &control, "control")?;
    let clean: Vec<Vec<u32>> = texts(&plain).into_iter().take(study.questions).collect();
    let decoys = if place == 0 {
        study.decoys
    } else {
        study.decoys.div_ceil(5)
    };
    for profile in &study.profiles {
        let marked = study.text(cast, seed, Some(profile), "")?;
        findings.textures.push((
            profile.id.clone(),
            seed,
            Texture::of(&marked),
            Texture::of(&plain),
        ));
        let keys = decoys::Keys::of(profile, seed, decoys)?;
        let mut logs = ExactWindows::new(profile.context_width());
        marked.iter().for_each(|answer| logs.push(&answer.tokens));
        hear(done, of, &format!("s{seed}-{}: control", profile.id));
        let points = &mut findings.points;
        points.extend(shared.points(keys.in_use(), 0.0, &innocent, &logs));
        let found = &mut findings.calibrations;
        found.extend(shared.calibrate(&keys, Suspect::Control, &innocent, place == 0));
        found.extend(shared.calibrate_text(&keys, Suspect::Clean, &clean));
        done += 1;
        for &share in &study.shares {
            let role = Role::Suspect { profile, share };
            hear(done, of, &role.name(seed));
            let student = study.train(cast, seed, role)?;
            let suspect = Read::of(&shared, &student, &role.name(seed))?;
            let points = &mut findings.points;
            points.extend(shared.points(keys.in_use(), share, &suspect, &logs));
            if share == 1.0 {
                let found = &mut findings.calibrations;
                found.extend(shared.calibrate(&keys, Suspect::Marked, &suspect, false));
            }
            done += 1;
        }
    }
    Ok(findings)
}

impl Findings {
    /// Adds those of another seed.
    pub fn extend(&mut self, other: Self) {
        self.points.extend(other.points);
        self.calibrations.extend(other.calibrations);
        self.textures.extend(other.textures);
    }
}

fn texts(answers: &[Answer]) -> Vec<Vec<u32>> {
    answers.iter().map(|answer| answer.tokens.clone()).collect()
}
