//! Which test finds a trained student with how few tokens: the study behind `record/distill.md`.
//!
//! For every seed and mark a teacher writes text, students learn from it at several shares, and every
//! test reads them at growing budgets. An innocent student (trained on unmarked text) and another
//! one, from other unmarked text and another first state, are the control and the reference.
//!
//! [`make`] trains and asks, and keeps everything; [`read`] only reads, in minutes.

use std::num::NonZeroUsize;

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use watermark_core::battery::Battery;
use watermark_core::candidates::Sampling;
use watermark_core::detect::{Score, Test, TestId};
use watermark_core::key::{Epoch, MasterKey, SlotKey};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::{Mark, Profile, ProfileError};
use watermark_core::regime::{Chosen, ExactWindows};
use watermark_core::stats::LnP;
use watermark_core::stats::evalue::Mixture;
use watermark_core::window::Exhibit;

use crate::generate::{Answer, Generation, coins, generate};
use crate::measure::Texture;
use crate::model::{Model, ModelError};
use crate::reading::{ReadError, scored};
use crate::store::{Store, StoreError};
use crate::student::{DOCUMENT_START, Student, StudentConfig};
use crate::training::TrainingError;

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
    /// Keys that nobody used.
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
    /// Rotation of the answers' order.
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

/// Decoys of one test of one suspect.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// Profile.
    pub profile: String,
    /// Seed.
    pub seed: u64,
    /// Which test.
    pub test: String,
    /// Decoys.
    pub of: usize,
    /// log10 p of the Kolmogorov-Smirnov test that their p-values are uniform.
    pub ks_p_log10: f64,
    /// Mean and standard deviation of their standard scores.
    pub z: [f64; 2],
    /// Place of the key in use among them, 1 for the most striking.
    pub rank: usize,
}

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

/// Orders in which the answers are taken.
pub const ROTATIONS: usize = 4;

/// Budgets: six to a factor of ten.
fn budgets(all: usize) -> Vec<usize> {
    let mut budgets: Vec<usize> = (0..)
        .map(|step| 10f64.powf(f64::from(step) / 8.0).round() as usize)
        .take_while(|&n| n < all)
        .chain([all])
        .collect();
    budgets.dedup();
    budgets
}

/// Reads every student with every test.
///
/// # Errors
/// A model fails, or the store cannot be used.
pub fn read(
    study: &Study,
    cast: &Cast<'_>,
    hear: &(dyn Fn(usize, usize, &str) + Sync),
) -> Result<Findings, StudyError> {
    let of = study.seeds.len() * study.roles().len();
    let mut findings = Findings::default();
    let mut done = 0;
    for &seed in &study.seeds {
        let reference = study.train(cast, seed, Role::Reference)?;
        let control = study.train(cast, seed, Role::Control)?;
        let others = texts(&study.text(cast, seed, None, "other")?);
        let plain = study.text(cast, seed, None, "plain")?;
        let neutral = |model: &dyn Model| {
            scored(
                model,
                cast.neutral,
                DOCUMENT_START,
                study.top,
                cast.threads,
                &|_| (),
            )
        };
        let reference_reads = neutral(&reference)?;
        let shared = Shared {
            study,
            cast,
            seed,
            reference: &reference,
            reference_reads: &reference_reads,
            others: &others,
        };
        let innocent = Read::of(&shared, &control, "control")?;
        for profile in &study.profiles {
            let marked = study.text(cast, seed, Some(profile), "")?;
            findings.textures.push((
                profile.id.clone(),
                seed,
                Texture::of(&marked),
                Texture::of(&plain),
            ));
            let mark = profile.bind(&slot(seed))?;
            let mut logs = ExactWindows::new(profile.context_width());
            marked.iter().for_each(|answer| logs.push(&answer.tokens));
            shared.points(&mark, 0.0, &innocent, &logs, &mut findings.points);
            for &share in &study.shares {
                let role = Role::Suspect { profile, share };
                hear(done, of, &role.name(seed));
                let student = study.train(cast, seed, role)?;
                let suspect = Read::of(&shared, &student, &role.name(seed))?;
                shared.points(&mark, share, &suspect, &logs, &mut findings.points);
                if share == 1.0 {
                    shared.calibrate(&mark, &suspect, &mut findings.calibrations)?;
                }
                done += 1;
            }
        }
    }
    Ok(findings)
}

fn texts(answers: &[Answer]) -> Vec<Vec<u32>> {
    answers.iter().map(|answer| answer.tokens.clone()).collect()
}

struct Shared<'a> {
    study: &'a Study,
    cast: &'a Cast<'a>,
    seed: u64,
    reference: &'a Student,
    reference_reads: &'a [ScoredText],
    /// Unmarked text of the teacher that no suspect was trained on.
    others: &'a [Vec<u32>],
}

/// What a student says and how it reads.
struct Read {
    answers: Vec<Vec<u32>>,
    /// The reference on the answers.
    expected: Vec<ScoredText>,
    /// The student on neutral text.
    neutral: Vec<ScoredText>,
}

impl Read {
    fn of(shared: &Shared<'_>, student: &Student, name: &str) -> Result<Self, StudyError> {
        let Shared {
            study, cast, seed, ..
        } = *shared;
        let answers = texts(&study.ask(cast, seed, name, student)?);
        let reads = |model: &dyn Model, texts: &[Vec<u32>]| {
            scored(
                model,
                texts,
                DOCUMENT_START,
                study.top,
                cast.threads,
                &|_| (),
            )
        };
        Ok(Self {
            expected: reads(shared.reference, &answers)?,
            neutral: reads(student, cast.neutral)?,
            answers,
        })
    }
}

impl Shared<'_> {
    fn exhibit<'t>(&self, width: usize, answers: impl Iterator<Item = &'t Vec<u32>>) -> Exhibit {
        let mut exhibit = Exhibit::new(width);
        let openings = self.cast.openings;
        openings.iter().for_each(|opening| exhibit.exclude(opening));
        for (index, answer) in answers.enumerate() {
            exhibit.push_from((index % openings.len()) as u32, answer);
        }
        exhibit
    }

    fn points(
        &self,
        mark: &Mark,
        share: f64,
        read: &Read,
        logs: &ExactWindows,
        points: &mut Vec<Point>,
    ) {
        let width = mark.scheme().context_width();
        let all = read.answers.len();
        let point = |test: &str, rotation, tokens, cells, p: f64, z| Point {
            profile: mark.profile().id.clone(),
            share,
            seed: self.seed,
            test: test.to_owned(),
            rotation,
            tokens,
            cells,
            p_log10: p,
            z,
        };
        for rotation in 0..ROTATIONS {
            let order: Vec<usize> = (0..all)
                .map(|i| (i + rotation * all / ROTATIONS) % all)
                .collect();
            for budget in budgets(all) {
                let taken = &order[..budget];
                let exhibit = self.exhibit(width, taken.iter().map(|&i| &read.answers[i]));
                let tokens = exhibit.counts().tokens;
                let mut push = |test: &Test| {
                    points.push(point(
                        test.id.name(),
                        rotation,
                        tokens,
                        test.n_scored,
                        test.p.log10(),
                        test.z,
                    ));
                };
                let closed = Battery::closed(mark, &exhibit).tests(mark);
                closed.iter().for_each(&mut push);
                let expected: Vec<ScoredText> =
                    taken.iter().map(|&i| read.expected[i].clone()).collect();
                if let Ok(battery) = Battery::reference(mark, &exhibit, &expected) {
                    battery.tests(mark).iter().for_each(&mut push);
                }
                let corpus = Battery::corpus(mark, &exhibit, self.others);
                corpus.tests(mark).iter().for_each(&mut push);
                if let Ok(chosen) = Chosen::of(mark, &exhibit, logs) {
                    push(&chosen.first(mark, tokens / 4));
                    let e = chosen.e_value(mark);
                    points.push(point(
                        "supervised-e",
                        rotation,
                        tokens,
                        chosen.len() as u64,
                        -e.log10(),
                        0.0,
                    ));
                }
                // Published: every window once, with the token that followed it first.
                let mut met = std::collections::HashSet::new();
                let cells = exhibit.cells();
                let first = cells.filter(|index| met.insert(cells.get(index).0.to_vec()));
                let null = mark.scheme().null();
                let test =
                    Test::from_score(TestId::ClosedCells, null, Score::of(&first.scores(mark)));
                points.push(point(
                    "published-windows",
                    rotation,
                    tokens,
                    test.n_scored,
                    test.p.log10(),
                    test.z,
                ));
                let Score { cells, sum } = Score::of(&cells.scores(mark));
                let e = Mixture::standard(null).ln_e(cells, sum);
                points.push(point("any-time", rotation, tokens, cells, -e.log10(), 0.0));
            }
        }
        let all = read.neutral.len();
        for budget in budgets(all) {
            let suspect = &read.neutral[..budget];
            let reference = &self.reference_reads[..budget];
            let tokens = suspect.iter().map(|text| text.tokens().len() as u64).sum();
            let mut batteries = vec![Battery::argmax(mark, suspect), Battery::soft(mark, suspect)];
            batteries.extend(Battery::contrast(mark, suspect, &[reference]));
            for battery in batteries {
                for test in battery.tests(mark) {
                    points.push(point(
                        test.id.name(),
                        0,
                        tokens,
                        test.n_scored,
                        test.p.log10(),
                        test.z,
                    ));
                }
                let soft = battery.ids().any(|id| id == TestId::OpenSoft);
                if let Some(p) = battery.hoeffding(mark).filter(|_| soft) {
                    points.push(point("published-soft", 0, tokens, 0, p.log10(), 0.0));
                }
            }
        }
    }

    /// Every test of a suspect under keys that nobody used, and the invalid count of repeats.
    fn calibrate(
        &self,
        mark: &Mark,
        read: &Read,
        calibrations: &mut Vec<Calibration>,
    ) -> Result<(), StudyError> {
        let profile = mark.profile();
        let exhibit = self.exhibit(profile.context_width(), read.answers.iter());
        let mut decoys: Vec<Mark> = vec![profile.bind(&slot(self.seed))?];
        for key in master(self.seed).decoys(&epoch()).take(self.study.decoys) {
            decoys.push(profile.bind(&key)?);
        }
        let mut batteries = vec![
            Battery::closed(mark, &exhibit),
            Battery::corpus(mark, &exhibit, self.others),
            Battery::argmax(mark, &read.neutral),
            Battery::soft(mark, &read.neutral),
        ];
        batteries.extend(Battery::reference(mark, &exhibit, &read.expected));
        batteries.extend(Battery::contrast(
            mark,
            &read.neutral,
            &[self.reference_reads],
        ));
        for battery in &batteries {
            let tables = battery.tables();
            let marks: Vec<&Mark> = decoys.iter().collect();
            let glances = crate::model::worker::map(self.cast.threads, marks, |m| tables.glance(m));
            for (place, id) in battery.ids().enumerate() {
                let column: Vec<_> = glances.iter().map(|row| row[place]).collect();
                let p: Vec<LnP> = column.iter().map(|glance| glance.p).collect();
                let z: Vec<f64> = column.iter().map(|glance| glance.z).collect();
                calibrations.push(calibration(profile, self.seed, id.name(), &z, &p));
            }
        }
        let times = exhibit.times();
        let null = mark.scheme().null();
        let counted = |mark: &Mark| {
            let scores = exhibit.cells().scores(mark);
            let pairs = scores.values().iter().zip(&times);
            let sum: f64 = pairs
                .map(|(&score, &n)| f64::from(n) * (null.natural(score) - null.mean()))
                .sum();
            let n: f64 = times.iter().map(|&n| f64::from(n)).sum();
            sum / (n * null.variance()).sqrt()
        };
        let z: Vec<f64> = decoys.iter().map(counted).collect();
        calibrations.push(calibration(
            profile,
            self.seed,
            "invalid: repeats counted",
            &z,
            &[],
        ));
        Ok(())
    }
}

/// The first entry is the key in use.
fn calibration(profile: &Profile, seed: u64, test: &str, z: &[f64], p: &[LnP]) -> Calibration {
    let others = &z[1..];
    let n = others.len() as f64;
    let mean = others.iter().sum::<f64>() / n;
    let squares = others.iter().map(|z| (z - mean).powi(2)).sum::<f64>();
    let mut uniforms: Vec<f64> = p.iter().skip(1).map(|p| p.ln().exp()).collect();
    Calibration {
        profile: profile.id.clone(),
        seed,
        test: test.to_owned(),
        of: others.len(),
        ks_p_log10: watermark_core::stats::decoy::ks_attained(&mut uniforms)
            .p
            .log10(),
        z: [mean, (squares / (n - 1.0).max(1.0)).sqrt()],
        rank: 1 + others.iter().filter(|&&other| other >= z[0]).count(),
    }
}
