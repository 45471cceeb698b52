//! One sequence that is being written, with its coins.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ndarray::{Ix1, Ix2};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rand_chacha::ChaCha8Rng;
use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, IntoDeserializer};
use watermark_core::batch::{self, BatchError};
use watermark_core::candidates::{CandidateBuffer, Candidates, NoCandidate, Sampling};
use watermark_core::sampler::{self, Outcome, SkipReason};
use watermark_core::scheme::{Biaser, MASK_STEP, Row};

use crate::arrays::{floats, floats_mut, ids, in_one_piece};
use crate::coins::{Pool, generator};
use crate::error::{value, wrong_type};
use crate::keys::to_python;
use crate::scheme::Scheme;

thread_local! {
    static BUFFER: RefCell<CandidateBuffer> = RefCell::new(CandidateBuffer::default());
}

/// Words of the generator set aside for a position. A position draws three 64-bit numbers at most.
const COINS_A_POSITION: u128 = 64;

/// What a session says about the next token: by the mark, or why not.
#[derive(Clone, Copy)]
#[pyclass(frozen, module = "watermark", from_py_object)]
pub(crate) struct Decision {
    outcome: Outcome,
    /// Candidate and token, where the mark chose one.
    chosen: Option<(usize, u32)>,
}

impl Decision {
    fn skipped(reason: SkipReason) -> Self {
        Self {
            outcome: Outcome::Skipped(reason),
            chosen: None,
        }
    }
}

#[pymethods]
impl Decision {
    /// Whether the position is marked: by a chosen token, or by a bonus on green logits.
    #[getter]
    fn marked(&self) -> bool {
        self.outcome == Outcome::Marked
    }

    /// The chosen candidate's index.
    #[getter]
    fn index(&self) -> Option<usize> {
        self.chosen.map(|(index, _)| index)
    }

    /// The chosen token.
    #[getter]
    fn token(&self) -> Option<u32> {
        self.chosen.map(|(_, token)| token)
    }

    /// Why the position is left to ordinary sampling.
    #[getter]
    fn reason(&self) -> Option<String> {
        match self.outcome {
            Outcome::Marked => None,
            Outcome::Skipped(reason) => Some(name(reason)),
        }
    }

    fn __repr__(&self) -> String {
        match (self.outcome, self.chosen) {
            (Outcome::Skipped(reason), _) => format!("Decision(reason='{}')", name(reason)),
            (_, Some((index, token))) => format!("Decision(index={index}, token={token})"),
            (_, None) => "Decision(marked=True)".to_owned(),
        }
    }
}

/// A reason by the name that records have.
fn name(reason: SkipReason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{reason:?}"),
    }
}

fn outcome(given: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    if let Ok(decision) = given.cast::<Decision>() {
        return Ok(decision.get().outcome);
    }
    let Ok(word) = given.cast::<PyString>() else {
        return Err(wrong_type(
            "outcome is a Decision, \"marked\", or a reason such as \"disabled\"",
        ));
    };
    let word = word.to_str()?;
    if word == "marked" {
        return Ok(Outcome::Marked);
    }
    let word: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
    SkipReason::deserialize(word)
        .map(Outcome::Skipped)
        .map_err(|error| value(format!("outcome: {error}")))
}

fn sampling(temperature: f32, top_p: f32, top_k: usize) -> PyResult<Sampling> {
    let sampling = Sampling {
        temperature,
        top_p,
        top_k,
    };
    sampling.checked().map_err(value)
}

/// The state of one sequence: its tokens since the prompt, the windows met, and its coins.
#[pyclass(module = "watermark")]
pub(crate) struct Session {
    inner: sampler::Session<'static>,
    scheme: Py<Scheme>,
    coins: ChaCha8Rng,
    enabled: bool,
    budget: Option<u64>,
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (scheme, *, seed=None, stream=0))]
    fn new(scheme: Bound<'_, Scheme>, seed: Option<u64>, stream: u64) -> PyResult<Self> {
        let coins = generator(scheme.py(), seed, stream)?;
        Ok(Self {
            inner: sampler::Session::shared(scheme.get().mark.clone()),
            scheme: scheme.unbind(),
            coins,
            enabled: true,
            budget: None,
        })
    }

    #[getter]
    fn scheme(&self, py: Python<'_>) -> Py<Scheme> {
        self.scheme.clone_ref(py)
    }

    /// The tokens accepted so far.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_slice(py, self.inner.tokens())
    }

    fn __len__(&self) -> usize {
        self.inner.tokens().len()
    }

    /// The window of the next token.
    #[getter]
    fn window<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.inner
            .window()
            .map(|window| PyTuple::new(py, window))
            .transpose()
    }

    /// Whether positions are marked from here on.
    #[getter]
    fn enabled(&self) -> bool {
        self.enabled
    }

    #[setter]
    fn set_enabled(&mut self, enabled: bool) -> PyResult<()> {
        self.inner.set_enabled(enabled).map_err(value)?;
        self.enabled = enabled;
        Ok(())
    }

    /// At most so many marked tokens.
    #[getter]
    fn budget(&self) -> Option<u64> {
        self.budget
    }

    #[setter]
    fn set_budget(&mut self, budget: Option<u64>) -> PyResult<()> {
        self.inner.set_budget(budget).map_err(value)?;
        self.budget = budget;
        Ok(())
    }

    /// The next token's candidate, or the reason to sample ordinarily. Changes nothing.
    #[pyo3(signature = (probabilities, tokens=None, *, temperature=1.0))]
    fn decide(
        &self,
        py: Python<'_>,
        probabilities: &Bound<'_, PyAny>,
        tokens: Option<&Bound<'_, PyAny>>,
        temperature: f32,
    ) -> PyResult<Decision> {
        sampling(temperature, 1.0, 0)?;
        let weights = floats::<Ix1>("probabilities", probabilities)?;
        let weights = in_one_piece(weights.as_array());
        let tokens = tokens.map(|tokens| ids("tokens", tokens)).transpose()?;
        let tokens = tokens.as_ref().map(|tokens| tokens.to_slice());
        let (inner, mut coins) = (&self.inner, self.coins.clone());
        let candidates = match &tokens {
            Some(tokens) if tokens.len() != weights.len() => {
                return Err(value(format!(
                    "{} tokens for {} probabilities",
                    tokens.len(),
                    weights.len()
                )));
            }
            Some(tokens) => Candidates::pairs(tokens, &weights),
            None => Candidates::dense(&weights),
        };
        let candidates = candidates.map_err(value)?;
        Ok(py.detach(|| decide(inner, &candidates, temperature, &mut coins)))
    }

    /// Writes the decision into a row of logits: a green list's bonus, or minus infinity everywhere but at the chosen
    /// token. A position that is not marked is left as it is.
    ///
    /// Logits are as they stand before temperature, top-k and top-p are applied by the engine; a Gumbel or tournament
    /// mark applies them first, since it must choose from what they leave.
    #[pyo3(signature = (logits, *, temperature=1.0, top_p=1.0, top_k=0))]
    fn mark_(
        &self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        temperature: f32,
        top_p: f32,
        top_k: usize,
    ) -> PyResult<Decision> {
        let sampling = sampling(temperature, top_p, top_k)?;
        let mut logits = floats_mut::<Ix1>("logits", logits)?;
        let logits = logits.as_array_mut();
        let (inner, mark) = (&self.inner, &self.scheme.get().mark);
        let mut coins = self.coins.clone();
        let (biaser, min_entropy) = (mark.scheme().as_biaser(), mark.profile().min_entropy);
        let mut write = |logits: &mut [f32]| match biaser {
            Some(biaser) => bias(inner, biaser, min_entropy, logits, &sampling),
            None => choose(inner, logits, &sampling, &mut coins),
        };
        let decided = py.detach(|| {
            let mut logits = logits;
            match logits.as_slice_mut() {
                Some(logits) => write(logits),
                None => {
                    let mut copy = logits.to_vec();
                    let decided = write(&mut copy);
                    logits
                        .iter_mut()
                        .zip(copy)
                        .for_each(|(to, from)| *to = from);
                    decided
                }
            }
        });
        decided.map_err(value)
    }

    /// A whole step: logits to token, marked or sampled ordinarily, and accepted.
    #[pyo3(signature = (logits, *, temperature=1.0, top_p=1.0, top_k=0))]
    fn sample(
        &mut self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        temperature: f32,
        top_p: f32,
        top_k: usize,
    ) -> PyResult<u32> {
        let sampling = sampling(temperature, top_p, top_k)?;
        let logits = floats::<Ix1>("logits", logits)?;
        let logits = in_one_piece(logits.as_array());
        let (inner, coins) = (&mut self.inner, &mut self.coins);
        py.detach(|| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut step = coins.clone();
                let token = inner.sample(&logits, &sampling, buffer, &mut step)?;
                next_position(coins);
                Ok(token)
            })
        })
        .map_err(|error: NoCandidate| value(error))
    }

    /// Appends the token that the engine took, with how it came about.
    fn accept(&mut self, token: i64, outcome: &Bound<'_, PyAny>) -> PyResult<()> {
        let token = u32::try_from(token).map_err(|_| {
            value(format!(
                "{token} is not a token id; ids are from 0 to 4294967295"
            ))
        })?;
        self.inner.accept(token, self::outcome(outcome)?);
        next_position(&mut self.coins);
        Ok(())
    }

    /// Takes back the last tokens accepted (all, if there are fewer). Coins are not taken back: what is written
    /// instead is drawn anew.
    fn rollback(&mut self, tokens: usize) {
        self.inner.rollback(tokens);
    }

    /// Back to an empty sequence; switch and budget stay, and coins go on.
    fn reset(&mut self) {
        self.inner.reset();
    }

    /// Starts a segment: no window crosses this point.
    fn begin_segment(&mut self) {
        self.inner.begin_segment();
    }

    /// Makes room for so many more tokens.
    fn reserve(&mut self, tokens: usize) -> PyResult<()> {
        if tokens > 1 << 28 {
            return Err(value(format!(
                "{tokens} tokens are more than one sequence has"
            )));
        }
        self.inner.reserve(tokens);
        Ok(())
    }

    /// An independent continuation; with `stream`, under coins of its own.
    #[pyo3(signature = (*, stream=None))]
    fn clone(&self, py: Python<'_>, stream: Option<u64>) -> Self {
        let mut coins = self.coins.clone();
        if let Some(stream) = stream {
            coins.set_stream(stream);
        }
        Self {
            inner: self.inner.clone(),
            scheme: self.scheme.clone_ref(py),
            coins,
            enabled: self.enabled,
            budget: self.budget,
        }
    }

    fn __copy__(&self, py: Python<'_>) -> Self {
        self.clone(py, None)
    }

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyAny>) -> Self {
        self.clone(py, None)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a Session is bound to a key and is not pickled; keep its record() instead",
        ))
    }

    /// How many positions were marked, and how many skipped for each reason.
    #[getter]
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let record = self.inner.record();
        let mut counts = BTreeMap::new();
        for skip in &record.skips {
            *counts.entry(skip.reason).or_insert(0) += skip.len;
        }
        let dict = PyDict::new(py);
        dict.set_item("marked", record.marked)?;
        for (reason, count) in counts {
            dict.set_item(name(reason), count)?;
        }
        Ok(dict)
    }

    /// What was written, in the form that a ledger reads.
    fn record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner.record())
    }

    fn __repr__(&self) -> String {
        let scheme = &self.scheme.get().mark;
        format!(
            "Session(profile='{}', key_id='{}', tokens={})",
            scheme.profile().id,
            scheme.key_id(),
            self.inner.tokens().len()
        )
    }
}

/// Leaves what this position may have drawn behind, whether it drew or not.
fn next_position(coins: &mut ChaCha8Rng) {
    coins.set_word_pos(coins.get_word_pos() + COINS_A_POSITION);
}

fn decide(
    session: &sampler::Session<'_>,
    candidates: &Candidates<'_>,
    temperature: f32,
    coins: &mut ChaCha8Rng,
) -> Decision {
    match session.decide(candidates, temperature, coins) {
        sampler::Decision::Marked(index) => Decision {
            outcome: Outcome::Marked,
            chosen: Some((index, candidates.get(index).0)),
        },
        sampler::Decision::Skip(reason) => Decision::skipped(reason),
    }
}

/// One hot at the chosen token.
fn choose(
    session: &sampler::Session<'_>,
    logits: &mut [f32],
    sampling: &Sampling,
    coins: &mut ChaCha8Rng,
) -> Result<Decision, NoCandidate> {
    let decision = BUFFER.with_borrow_mut(|buffer| {
        let candidates = buffer.fill(logits, sampling)?;
        Ok(decide(session, &candidates, sampling.temperature, coins))
    })?;
    if let Some((_, token)) = decision.chosen {
        logits.fill(f32::NEG_INFINITY);
        logits[token as usize] = 0.0;
    }
    Ok(decision)
}

/// The bonus, in the units of logits that the engine will divide by its temperature. Greedy decoding takes it too.
fn bias(
    session: &sampler::Session<'_>,
    biaser: &dyn Biaser,
    min_entropy: f64,
    logits: &mut [f32],
    sampling: &Sampling,
) -> Result<Decision, NoCandidate> {
    let window = match session.due() {
        Ok(window) => window,
        Err(reason) => return Ok(Decision::skipped(reason)),
    };
    if min_entropy > 0.0 {
        let entropy = BUFFER.with_borrow_mut(|buffer| {
            let candidates = buffer.fill(logits, sampling)?;
            Ok(candidates.entropy())
        })?;
        if entropy < min_entropy {
            return Ok(Decision::skipped(SkipReason::LowEntropy));
        }
    }
    let row = biaser.row(window);
    if sampling.temperature == 1.0 || sampling.temperature == 0.0 {
        biaser.bias(&row, logits);
    } else {
        add_scaled(biaser, &row, logits, biaser.delta() * sampling.temperature);
    }
    Ok(Decision {
        outcome: Outcome::Marked,
        chosen: None,
    })
}

fn add_scaled(biaser: &dyn Biaser, row: &Row, logits: &mut [f32], delta: f32) {
    let mut mask = [0; MASK_STEP as usize / 32];
    let pieces = logits.chunks_mut(MASK_STEP as usize);
    for (first, logits) in (0..).step_by(MASK_STEP as usize).zip(pieces) {
        biaser.fill_mask_from(row, first, &mut mask[..logits.len().div_ceil(32)]);
        for (logits, word) in logits.chunks_mut(32).zip(mask) {
            for (bit, logit) in logits.iter_mut().enumerate() {
                *logit += if word >> bit & 1 == 1 { delta } else { -0.0 };
            }
        }
    }
}

/// One step of every session: row i of logits to the next token of `sessions[i]`, accepted.
#[pyfunction]
#[pyo3(signature = (sessions, logits, *, temperature=1.0, top_p=1.0, top_k=0, pool=None))]
pub(crate) fn sample_rows<'py>(
    py: Python<'py>,
    sessions: &Bound<'py, PyAny>,
    logits: &Bound<'py, PyAny>,
    temperature: f32,
    top_p: f32,
    top_k: usize,
    pool: Option<&Pool>,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let sampling = sampling(temperature, top_p, top_k)?;
    let logits = floats::<Ix2>("logits", logits)?;
    let logits = logits.as_array();
    let mut held = Vec::new();
    for (index, session) in sessions.try_iter()?.enumerate() {
        let session = session?;
        let Ok(session) = session.cast::<Session>() else {
            return Err(wrong_type(format!("sessions[{index}] is not a Session")));
        };
        held.push(session.try_borrow_mut().map_err(|_| {
            value(format!(
                "sessions[{index}] is in use, or stands in the list twice"
            ))
        })?);
    }
    if held.len() != logits.nrows() {
        return Err(value(format!(
            "{} sessions for {} rows of logits",
            held.len(),
            logits.nrows()
        )));
    }
    // The core takes sessions that lie side by side: they are moved out and back.
    let empty = |session: &Session| sampler::Session::shared(session.scheme.get().mark.clone());
    let mut sessions = Vec::with_capacity(held.len());
    let mut coins = Vec::with_capacity(held.len());
    for session in &mut held {
        let placeholder = empty(session);
        sessions.push(std::mem::replace(&mut session.inner, placeholder));
        coins.push(session.coins.clone());
    }
    let before: Vec<usize> = sessions
        .iter()
        .map(|session| session.tokens().len())
        .collect();
    let mut tokens = vec![0; held.len()];
    let done = py.detach(|| match pool {
        Some(pool) => {
            pool.threads
                .sample_rows(&mut sessions, logits, &sampling, &mut coins, &mut tokens)
        }
        None => BUFFER.with_borrow_mut(|buffer| {
            batch::sample_rows(
                &mut sessions,
                logits,
                &sampling,
                buffer,
                &mut coins,
                &mut tokens,
            )
        }),
    });
    for ((session, inner), before) in held.iter_mut().zip(sessions).zip(before) {
        if inner.tokens().len() > before {
            next_position(&mut session.coins);
        }
        session.inner = inner;
    }
    done.map_err(|error: BatchError| value(error))?;
    Ok(tokens.into_pyarray(py))
}
