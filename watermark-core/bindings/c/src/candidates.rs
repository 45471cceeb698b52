//! What a token is chosen from.

use watermark_core::candidates as core;
use watermark_core::candidates::CandidateBuffer;
use watermark_core::profile::Mark;
use watermark_core::scheme::TokenRole;

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

/// What a token is in speculative decoding, which the two keys of a dual-key mark are for: a draft and the token in its place
/// must not share a coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Role {
    /// No speculation: a fair coin of the caller's picks one of two keys.
    Ordinary = 0,
    /// Drawn from the draft model's distribution q. Under a mark with one key a session leaves it alone.
    Draft = 1,
    /// In place of a rejected draft, drawn from (p - q)+.
    Recovered = 2,
    /// After a run of drafts that were all kept, drawn from the target's distribution p.
    Bonus = 3,
}

pub(crate) fn role(code: i32) -> Result<TokenRole, Failure> {
    Ok(match code {
        0 => TokenRole::Ordinary,
        1 => TokenRole::Draft,
        2 => TokenRole::Recovered,
        3 => TokenRole::Bonus,
        other => {
            let message = format!("role of wmk_candidates is {other}; a wmk_role is 0 to 3");
            return Err(Failure::new(Status::Argument, message));
        }
    })
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
    /// A wmk_role: 0 outside speculative decoding.
    pub role: i32,
    /// 0.
    pub reserved: i32,
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
    /// Tokens of those that truncation left, and where they stood in the caller's array.
    kept: Vec<u32>,
    origin: Vec<u32>,
    weights: Vec<f32>,
}

impl Scratch {
    /// The candidates of a whole vocabulary in order. Numbers beyond the profile's vocabulary are padding of the model's, and
    /// are left out before temperature and truncation.
    pub(crate) fn dense<'a>(
        &'a mut self,
        values: &'a [f32],
        checked: &Checked,
        mark: &Mark,
    ) -> Result<Made<'a>, core::NoCandidate> {
        let candidates = self.weigh(&values[..values.len().min(known(mark))], checked)?;
        // Truncated ones are named by their token, which is their place.
        let origin = candidates.tokens();
        Ok(Made { candidates, origin })
    }

    fn weigh<'a>(
        &'a mut self,
        values: &'a [f32],
        checked: &Checked,
    ) -> Result<core::Candidates<'a>, core::NoCandidate> {
        match checked.input {
            Input::Logits => self.buffer.fill(values, &checked.sampling),
            Input::Weights => core::Candidates::dense(values),
        }
    }

    /// The candidates of a C struct.
    ///
    /// # Safety
    /// The arrays of `given` are as long as it says.
    pub(crate) unsafe fn fill<'a>(
        &'a mut self,
        given: &'a Candidates,
        checked: &Checked,
        mark: &Mark,
    ) -> Result<Made<'a>, Failure> {
        let len = given.len;
        check_vocabulary(len)?;
        self.values.clear();
        self.ids.clear();
        match (given.values.is_null(), given.data.is_null()) {
            (false, true) => {
                // SAFETY: the caller's promise.
                let values = unsafe { slice(given.values, len, "values") }?;
                if given.tokens.is_null() {
                    return self
                        .dense(values, checked, mark)
                        .map_err(|_| no_candidate(None));
                }
                // SAFETY: the caller's promise.
                let ids = unsafe { tokens(given.tokens, len, "tokens") }?;
                self.ids.extend_from_slice(ids);
                self.values.extend_from_slice(values);
            }
            (true, false) if checked.input == Input::Weights => {
                let message = "data holds logits: set input to WMK_INPUT_LOGITS";
                return Err(Failure::new(Status::Argument, message));
            }
            // SAFETY: the caller's promise.
            (true, false) => self.take(unsafe { slice(given.data, len, "data") }?)?,
            (true, true) => {
                let message = "values and data are NULL: give one of them";
                return Err(Failure::new(Status::NullPointer, message));
            }
            (false, false) => {
                let message = "give one of values and data, and leave the other NULL";
                return Err(Failure::new(Status::Argument, message));
            }
        }
        self.pairs(checked, mark)
    }

    /// The candidates of llama.cpp's array.
    pub(crate) fn llama(&mut self, data: &[TokenData], mark: &Mark) -> Result<Made<'_>, Failure> {
        self.values.clear();
        self.ids.clear();
        self.take(data)?;
        self.pairs(&Checked::plain(), mark)
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

    /// The candidates of `ids` and `values`.
    fn pairs(&mut self, checked: &Checked, mark: &Mark) -> Result<Made<'_>, Failure> {
        let known = known(mark);
        for (value, _) in self
            .values
            .iter_mut()
            .zip(&self.ids)
            .filter(|(_, id)| **id as usize >= known)
        {
            // No candidate, as a logit and as a weight.
            *value = f32::NEG_INFINITY;
        }
        let by_place = match checked.input {
            Input::Logits => self.buffer.fill(&self.values, &checked.sampling),
            Input::Weights => core::Candidates::dense(&self.values),
        };
        let by_place = by_place.map_err(|_| no_candidate(None))?;
        self.weights.clear();
        self.weights
            .extend(by_place.iter().map(|(_, weight)| weight));
        let mut made = (&self.ids, None);
        // Truncation drops some, and may leave the others in another order.
        if let Some(places) = by_place.tokens() {
            self.origin.clear();
            self.origin.extend_from_slice(places);
            self.kept.clear();
            self.kept
                .extend(places.iter().map(|&place| self.ids[place as usize]));
            made = (&self.kept, Some(&*self.origin));
        }
        let (tokens, origin) = made;
        let candidates = core::Candidates::pairs(tokens, &self.weights);
        Ok(Made {
            candidates: candidates.map_err(|_| no_candidate(None))?,
            origin,
        })
    }
}

/// Token ids of the profile's vocabulary.
fn known(mark: &Mark) -> usize {
    let vocabulary = mark.profile().vocabulary.as_ref();
    vocabulary.map_or(usize::MAX, |vocabulary| vocabulary.size as usize)
}

/// Candidates, and where they stood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made<'a> {
    pub(crate) candidates: core::Candidates<'a>,
    origin: Option<&'a [u32]>,
}

impl Made<'_> {
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
/// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero. WMK_STATUS_UNSUPPORTED: a draft under a mark with one
/// key.
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
        let role = role(given.role)?;
        if role == TokenRole::Draft && !scheme.marks_drafts() {
            let message = "a draft under a mark with one key would use up the coin of the token in its place: draw it \
                           ordinarily, or use a dual-key profile";
            return Err(Failure::new(Status::Unsupported, message));
        }
        with_scratch(|scratch| {
            // SAFETY: the header's conventions.
            let made = unsafe { scratch.fill(&given, &checked, mark) }?;
            let row = scheme.row(window);
            let chosen = scheme.choose_as(role, &row, &made.candidates, &mut coins(coin));
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
