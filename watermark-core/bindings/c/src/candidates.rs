//! What a token is chosen from.

use watermark_core::candidates as core;
use watermark_core::candidates::CandidateBuffer;

use crate::coins::coins;
use crate::memory::{handle, put, read, slice, tokens, versioned};
use crate::scheme::Scheme;
use crate::status::{Failure, Status, guard};

/// What the numbers of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Input {
    /// Logits: divided by the temperature, and truncated. NaN counts as minus infinity.
    Logits = 0,
    /// Probabilities after temperature and truncation, not necessarily of sum 1: temperature must be 1, top_p 1 and top_k
    /// 0. What is not positive counts as 0.
    Weights = 1,
}

/// How numbers become weights. All zeros is refused: say temperature 1 and top_p 1 where nothing is to be done.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sampling {
    /// sizeof(wmk_sampling).
    pub struct_size: usize,
    /// Logits are divided by it; 0 is greedy decoding, which is never marked.
    pub temperature: f32,
    /// Keep the fewest most probable tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many of the most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// A wmk_input.
    pub input: i32,
}
versioned!(Sampling, "wmk_sampling");

/// A candidate, laid out as llama.cpp's llama_token_data.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TokenData {
    /// The token.
    pub id: i32,
    /// Its logit.
    pub logit: f32,
    /// Not read.
    pub p: f32,
}

/// The candidates of one step, in one of two forms: values, with tokens or without; or data. The other pointers are NULL.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Candidates {
    /// sizeof(wmk_candidates).
    pub struct_size: usize,
    /// A number a candidate, or NULL.
    pub values: *const f32,
    /// Their tokens, in any order, none twice; NULL: value i is that of token i.
    pub tokens: *const i32,
    /// Candidates with their logits as llama.cpp keeps them, in any order, none twice; or NULL.
    pub data: *const TokenData,
    /// Number of candidates.
    pub len: usize,
}
versioned!(Candidates, "wmk_candidates");

/// Sampling parameters after the checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) sampling: core::Sampling,
    input: Input,
}

impl Checked {
    /// Logits as they are.
    pub(crate) fn plain() -> Self {
        Self {
            sampling: core::Sampling::default(),
            input: Input::Logits,
        }
    }

    /// # Safety
    /// As [`read`].
    pub(crate) unsafe fn read(sampling: *const Sampling) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let given = unsafe { read(sampling) }?;
        let input = match given.input {
            0 => Input::Logits,
            1 => Input::Weights,
            other => {
                let message = format!("input of wmk_sampling is {other}; a wmk_input is 0 or 1");
                return Err(Failure::new(Status::Argument, message));
            }
        };
        let sampling = core::Sampling {
            temperature: given.temperature,
            top_p: given.top_p,
            top_k: given.top_k as usize,
        };
        let sampling = sampling
            .checked()
            .map_err(|error| Failure::new(Status::Sampling, error.to_string()))?;
        if input == Input::Weights && sampling != core::Sampling::default() {
            let message = "weights are taken as they are: set temperature 1, top_p 1 and top_k 0, or give logits";
            return Err(Failure::new(Status::Sampling, message));
        }
        Ok(Self { sampling, input })
    }
}

/// Memory that candidates are made in.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    buffer: CandidateBuffer,
    values: Vec<f32>,
    ids: Vec<u32>,
    /// Where they stood in the caller's array; empty: where they stand now.
    origin: Vec<u32>,
    weights: Vec<f32>,
}

impl Scratch {
    /// The candidates of a whole vocabulary in order.
    pub(crate) fn dense<'a>(
        &'a mut self,
        values: &'a [f32],
        checked: &Checked,
    ) -> Result<core::Candidates<'a>, core::NoCandidate> {
        match checked.input {
            Input::Logits => self.buffer.fill(values, &checked.sampling),
            Input::Weights => core::Candidates::dense(values),
        }
    }

    /// Candidates of a C struct, and the place in the caller's array of each.
    ///
    /// # Safety
    /// The arrays of `given` are as long as it says.
    pub(crate) unsafe fn fill(
        &mut self,
        given: &Candidates,
        checked: &Checked,
    ) -> Result<Made<'_>, Failure> {
        let len = given.len;
        self.values.clear();
        self.ids.clear();
        // SAFETY: the caller's promise.
        match unsafe {
            (
                given.values.is_null(),
                slice(
                    given.data,
                    if given.data.is_null() { 0 } else { len },
                    "data",
                )?,
            )
        } {
            (false, []) => {
                // SAFETY: the caller's promise.
                let values = unsafe { slice(given.values, len, "values") }?;
                if given.tokens.is_null() {
                    check_vocabulary(len)?;
                    let candidates = match checked.input {
                        Input::Logits => self.buffer.fill(values, &checked.sampling),
                        Input::Weights => core::Candidates::dense(values),
                    }
                    .map_err(|_| no_candidate(None))?;
                    return Ok(Made::in_order(candidates));
                }
                // SAFETY: the caller's promise.
                self.ids
                    .extend_from_slice(unsafe { tokens(given.tokens, len, "tokens") }?);
                self.values.extend_from_slice(values);
            }
            (true, data @ [_, ..]) => {
                if checked.input == Input::Weights {
                    let message = "data holds logits: set input to WMK_INPUT_LOGITS";
                    return Err(Failure::new(Status::Argument, message));
                }
                self.take(data)?;
            }
            (true, []) if len == 0 => return Err(no_candidate(None)),
            (true, []) => {
                let message = "values and data are NULL, but len is not 0";
                return Err(Failure::new(Status::NullPointer, message));
            }
            (false, _) => {
                let message = "give one of values and data, and leave the other NULL";
                return Err(Failure::new(Status::Argument, message));
            }
        }
        self.pairs(checked)
    }

    /// Candidates of llama.cpp's array.
    pub(crate) fn llama(&mut self, data: &[TokenData]) -> Result<Made<'_>, Failure> {
        self.values.clear();
        self.ids.clear();
        self.take(data)?;
        self.pairs(&Checked::plain())
    }

    fn take(&mut self, data: &[TokenData]) -> Result<(), Failure> {
        for (at, one) in data.iter().enumerate() {
            let id = u32::try_from(one.id).map_err(|_| {
                let message = format!("data[{at}].id is {}; a token id is not negative", one.id);
                Failure::new(Status::Token, message)
            })?;
            self.ids.push(id);
            self.values.push(one.logit);
        }
        Ok(())
    }

    /// Candidates of `ids` and `values`.
    fn pairs(&mut self, checked: &Checked) -> Result<Made<'_>, Failure> {
        check_vocabulary(self.values.len())?;
        let by_index = match checked.input {
            Input::Logits => self.buffer.fill(&self.values, &checked.sampling),
            Input::Weights => core::Candidates::dense(&self.values),
        }
        .map_err(|_| no_candidate(None))?;
        self.origin.clear();
        self.weights.clear();
        for (index, weight) in by_index.iter() {
            self.origin.push(index);
            self.weights.push(weight);
        }
        // In place where none was dropped; else gathered.
        if self.origin.len() < self.ids.len() {
            // Not in ascending order, so not in place.
            let first = self.ids.len();
            self.ids.extend_from_within(..);
            for (at, &index) in self.origin.iter().enumerate() {
                self.ids[at] = self.ids[first + index as usize];
            }
            self.ids.truncate(self.origin.len());
        }
        let candidates =
            core::Candidates::pairs(&self.ids, &self.weights).map_err(|_| no_candidate(None))?;
        Ok(Made {
            candidates,
            origin: Some(&self.origin),
        })
    }
}

/// Candidates, and where they stood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made<'a> {
    pub(crate) candidates: core::Candidates<'a>,
    origin: Option<&'a [u32]>,
}

impl<'a> Made<'a> {
    /// Candidates of a whole vocabulary in order.
    pub(crate) fn in_order(candidates: core::Candidates<'a>) -> Self {
        // Truncated ones are named by their token, which is their place.
        let origin = candidates.tokens();
        Self { candidates, origin }
    }

    /// Place in the caller's array, and token.
    pub(crate) fn get(&self, index: usize) -> (usize, u32) {
        let place = self.origin.map_or(index, |origin| origin[index] as usize);
        (place, self.candidates.get(index).0)
    }
}

pub(crate) fn check_vocabulary(len: usize) -> Result<(), Failure> {
    if len <= i32::MAX as usize {
        return Ok(());
    }
    let message = format!("a row of {len} candidates: token ids end at {}", i32::MAX);
    Err(Failure::new(Status::Length, message))
}

pub(crate) fn no_candidate(row: Option<usize>) -> Failure {
    let row = row.map_or(String::new(), |row| format!("row {row}: "));
    let message = format!(
        "{row}no candidate has a finite logit or a positive weight: check what the model and the filters before gave"
    );
    Failure::new(Status::NoCandidate, message)
}

/// Chooses one of the candidates by the mark, in the row of a window of window_len = h ids. *index gets its place in the
/// caller's array.
///
/// For engines that keep windows and rules (what to skip, and why) themselves; the others use a session. For coin see
/// wmk_session_decide. Nothing is kept, and no memory of the scheme is written: any threads may call this at once.
///
/// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_select_candidates(
    scheme: *const Scheme,
    window: *const i32,
    window_len: usize,
    candidates: *const Candidates,
    sampling: *const Sampling,
    coin: u64,
    index: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, window, given, checked) = unsafe {
            (
                &*handle(scheme, "scheme")?.mark,
                tokens(window, window_len, "window")?,
                read(candidates)?,
                Checked::read(sampling)?,
            )
        };
        let scheme = mark.scheme();
        crate::rows::check_width(scheme.context_width(), window.len())?;
        with_scratch(|scratch| {
            // SAFETY: the header's conventions.
            let made = unsafe { scratch.fill(&given, &checked) }?;
            let chosen = scheme.choose(&scheme.row(window), &made.candidates, &mut coins(coin));
            // SAFETY: the header's conventions.
            unsafe { put(index, made.get(chosen).0, "index") }
        })
    })
}

thread_local! {
    static SCRATCH: std::cell::RefCell<Scratch> = std::cell::RefCell::default();
}

/// This thread's memory for candidates. Not to be nested.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(work)
}
