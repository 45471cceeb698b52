//! The state of one sequence.

use std::ffi::c_char;
use std::sync::{Arc, Mutex};

use watermark_core::sampler as core;
use watermark_core::sampler::{Decision as CoreDecision, SkipReason};

use crate::candidates::{Candidates, Checked, Made, Sampling, no_candidate, with_scratch};
use crate::coins::coins;
use crate::memory::versioned;
use crate::memory::{handle, lock, put, put_text, read, slice, slice_mut, token, write};
use crate::rows::{Logits, Matrix, Pool, each_row, pool_of};
use crate::scheme::Scheme;
use crate::status::{Failure, Status, guard};

/// How a token came about: by the mark, or by ordinary sampling for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Outcome {
    /// There is no decision: the row has no candidate.
    None = -1,
    /// By the mark.
    Marked = 0,
    /// Marking is switched off for this sequence.
    Disabled = 1,
    /// Temperature 0: there is no choice to make.
    Greedy = 2,
    /// Fewer than h tokens in the segment yet.
    PartialContext = 3,
    /// The window stood earlier in the sequence.
    RepeatedContext = 4,
    /// Less entropy than the profile's min_entropy.
    LowEntropy = 5,
    /// The sequence has its number of marked tokens.
    Budget = 6,
}

/// Outcomes that wmk_counts has room for.
pub const WMK_OUTCOMES: usize = 16;

impl From<SkipReason> for Outcome {
    fn from(reason: SkipReason) -> Self {
        match reason {
            SkipReason::Disabled => Self::Disabled,
            SkipReason::Greedy => Self::Greedy,
            SkipReason::PartialContext => Self::PartialContext,
            SkipReason::RepeatedContext => Self::RepeatedContext,
            SkipReason::LowEntropy => Self::LowEntropy,
            SkipReason::Budget => Self::Budget,
        }
    }
}

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Marked => Self::Marked,
            core::Outcome::Skipped(reason) => reason.into(),
        }
    }
}

fn outcome(code: i32) -> Result<core::Outcome, Failure> {
    use core::Outcome::{Marked, Skipped};
    Ok(match code {
        0 => Marked,
        1 => Skipped(SkipReason::Disabled),
        2 => Skipped(SkipReason::Greedy),
        3 => Skipped(SkipReason::PartialContext),
        4 => Skipped(SkipReason::RepeatedContext),
        5 => Skipped(SkipReason::LowEntropy),
        6 => Skipped(SkipReason::Budget),
        other => {
            let message = format!(
                "outcome is {other}; pass on that of the decision (a wmk_outcome from 0 to 6)"
            );
            return Err(Failure::new(Status::Argument, message));
        }
    })
}

/// What wmk_session_decide says. An element of arrays, so without struct_size: it will not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// Place of the token among the candidates; -1 where the mark leaves the choice to ordinary sampling.
    pub index: i64,
    /// The token; -1 where index is.
    pub token: i32,
    /// A wmk_outcome.
    pub outcome: i32,
}

impl Decision {
    const NONE: Self = Self {
        index: -1,
        token: -1,
        outcome: Outcome::None as i32,
    };

    /// What to tell the core's session, of a decision that was made.
    pub(crate) fn core_outcome(&self) -> core::Outcome {
        outcome(self.outcome).unwrap_or(core::Outcome::Skipped(SkipReason::Disabled))
    }
}

/// One sequence: its tokens since the prompt, and the windows met. Serves one call at a time.
#[derive(Debug)]
pub struct Session {
    state: Mutex<core::Session<'static>>,
}

impl Session {
    pub(crate) fn of(session: core::Session<'static>) -> Self {
        Self {
            state: Mutex::new(session),
        }
    }
}

/// An empty sequence. The prompt stays outside: it never enters a window. *session is to be freed by wmk_session_free; it
/// keeps what it needs of the scheme.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_new(
    scheme: *const Scheme,
    session: *mut *mut Session,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let mark = unsafe { Arc::clone(&handle(scheme, "scheme")?.mark) };
        // SAFETY: the header's conventions.
        unsafe { put_new(core::Session::shared(mark), session) }
    })
}

/// # Safety
/// A pointer can be written at `to`, unless it is null.
pub(crate) unsafe fn put_new(
    session: core::Session<'static>,
    to: *mut *mut Session,
) -> Result<(), Failure> {
    let raw = Box::into_raw(Box::new(Session::of(session)));
    // SAFETY: the caller's promise; and where it cannot be put, the session was this function's alone.
    unsafe { put(to, raw, "session").inspect_err(|_| drop(Box::from_raw(raw))) }
}

/// A copy that goes on independently: for beams, drafts and forks. *copy is to be freed as well.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_clone(
    session: *const Session,
    copy: *mut *mut Session,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let session = lock(unsafe { &handle(session, "session")?.state }, "session")?.clone();
        // SAFETY: the header's conventions.
        unsafe { put_new(session, copy) }
    })
}

/// Frees a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_free(session: *mut Session) -> Status {
    guard(|| {
        if !session.is_null() {
            // SAFETY: the header's conventions: a live handle, which came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    })
}

/// # Safety
/// As [`handle`].
unsafe fn with<R>(
    session: *const Session,
    work: impl FnOnce(&mut core::Session<'static>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's promise.
    let state = unsafe { &handle(session, "session")?.state };
    let mut session = lock(state, "session")?;
    work(&mut session)
}

/// The next token by the mark, or the reason to sample ordinarily: *decision. Changes nothing, and gives the same answer to
/// the same question.
///
/// coin: 64 random bits of the caller's generator, fresh for every step of every sequence. They become the key of ChaCha8,
/// from which a green list, a tournament, and the choice between dual keys draw; Gumbel under one key draws nothing. The
/// library keeps no generator: seeds, replay and reproducibility stay with the engine that has them. Coins that repeat
/// where windows repeat make text repeat.
///
/// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_decide(
    session: *const Session,
    candidates: *const Candidates,
    sampling: *const Sampling,
    coin: u64,
    decision: *mut Decision,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        asked(
            session,
            candidates,
            sampling,
            decision,
            |session, made, temperature| match session.decide(
                &made.candidates,
                temperature,
                &mut coins(coin),
            ) {
                CoreDecision::Marked(index) => {
                    let (place, token) = made.get(index);
                    Decision {
                        index: place as i64,
                        token: token as i32,
                        outcome: Outcome::Marked as i32,
                    }
                }
                CoreDecision::Skip(reason) => Decision {
                    outcome: Outcome::from(reason) as i32,
                    ..Decision::NONE
                },
            },
        )
    }
}

/// As wmk_session_decide, but where the mark skips, a candidate is drawn by its probability with the coin: the decision always
/// has a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_step(
    session: *const Session,
    candidates: *const Candidates,
    sampling: *const Sampling,
    coin: u64,
    decision: *mut Decision,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        asked(
            session,
            candidates,
            sampling,
            decision,
            |session, made, temperature| step(session, made, temperature, &mut coins(coin)),
        )
    }
}

/// The mark's choice, or an ordinary draw with the same generator.
pub(crate) fn step(
    session: &core::Session<'_>,
    made: &Made<'_>,
    temperature: f32,
    coins: &mut rand_chacha::ChaCha8Rng,
) -> Decision {
    let decision = session.decide(&made.candidates, temperature, coins);
    let index = match decision {
        CoreDecision::Marked(index) => index,
        CoreDecision::Skip(_) => made.candidates.sample(coins),
    };
    let (place, token) = made.get(index);
    Decision {
        index: place as i64,
        token: token as i32,
        outcome: Outcome::from(decision.outcome()) as i32,
    }
}

/// # Safety
/// The header's conventions.
unsafe fn asked(
    session: *const Session,
    candidates: *const Candidates,
    sampling: *const Sampling,
    decision: *mut Decision,
    decide: impl FnOnce(&core::Session<'static>, &Made<'_>, f32) -> Decision,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (given, checked) = unsafe { (read(candidates)?, Checked::read(sampling)?) };
        // SAFETY: the caller's promise.
        unsafe {
            with(session, |session| {
                with_scratch(|scratch| {
                    let made = scratch.fill(&given, &checked)?;
                    let decided = decide(session, &made, checked.sampling.temperature);
                    put(decision, decided, "decision")
                })
            })
        }
    })
}

/// Appends the token that the engine took, with the outcome of its decision. If the engine took another token than the
/// mark chose, the outcome is WMK_OUTCOME_DISABLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_accept(
    session: *mut Session,
    token: i32,
    outcome: i32,
) -> Status {
    guard(|| {
        let token = self::token(token, "token")?;
        let outcome = self::outcome(outcome)?;
        // SAFETY: the header's conventions.
        unsafe {
            with(session, |session| {
                session.accept(token, outcome);
                Ok(())
            })
        }
    })
}

/// Takes back the last tokens accepted; all, if there are fewer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_rollback(session: *mut Session, tokens: usize) -> Status {
    // SAFETY: the header's conventions.
    unsafe { change(session, |session| session.rollback(tokens)) }
}

/// Back to an empty sequence; switch and budget stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_reset(session: *mut Session) -> Status {
    // SAFETY: the header's conventions.
    unsafe { change(session, core::Session::reset) }
}

/// Starts a segment (after hidden reasoning or a tool call): no window crosses this point.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_begin_segment(session: *mut Session) -> Status {
    // SAFETY: the header's conventions.
    unsafe { change(session, core::Session::begin_segment) }
}

/// Makes room for so many more tokens, so that accepting them does not allocate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_reserve(session: *mut Session, tokens: usize) -> Status {
    // SAFETY: the header's conventions.
    unsafe { change(session, |session| session.reserve(tokens)) }
}

/// Switches marking off (0) or on from here on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_set_enabled(session: *mut Session, enabled: i32) -> Status {
    // SAFETY: the header's conventions.
    unsafe { change(session, |session| session.set_enabled(enabled != 0)) }
}

/// Marks at most this many tokens of the sequence; UINT64_MAX is no limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_set_budget(
    session: *mut Session,
    marked_tokens: u64,
) -> Status {
    let budget = (marked_tokens != u64::MAX).then_some(marked_tokens);
    // SAFETY: the header's conventions.
    unsafe { change(session, |session| session.set_budget(budget)) }
}

unsafe fn change(session: *mut Session, work: impl FnOnce(&mut core::Session<'static>)) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            with(session, |session| {
                work(session);
                Ok(())
            })
        }
    })
}

/// How the tokens of a session came about.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counts {
    /// sizeof(wmk_counts).
    pub struct_size: usize,
    /// Tokens accepted.
    pub tokens: u64,
    /// Segments.
    pub segments: u64,
    /// Tokens of every wmk_outcome: outcomes[WMK_OUTCOME_MARKED] by the mark, the others by the reason to skip.
    pub outcomes: [u64; WMK_OUTCOMES],
}
versioned!(Counts, "wmk_counts");

/// Counts the tokens of a session by outcome. Goes through all of them: not for every step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_counts(
    session: *const Session,
    counts: *mut Counts,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let counted = unsafe { with(session, |session| Ok(count(session))) }?;
        // SAFETY: the header's conventions.
        unsafe { write(counts, counted) }
    })
}

pub(crate) fn count(session: &core::Session<'_>) -> Counts {
    let record = session.record();
    let mut outcomes = [0; WMK_OUTCOMES];
    outcomes[Outcome::Marked as usize] = record.marked;
    for skip in &record.skips {
        outcomes[Outcome::from(skip.reason) as usize] += skip.len as u64;
    }
    Counts {
        struct_size: 0,
        tokens: record.tokens.len() as u64,
        segments: record.segments.len() as u64,
        outcomes,
    }
}

/// The tokens of a session: *len gets their number, and up to capacity of them are written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_tokens(
    session: *const Session,
    tokens: *mut i32,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        unsafe {
            with(session, |session| {
                let out = slice_mut(tokens, capacity, "tokens")?;
                for (to, &token) in out.iter_mut().zip(session.tokens()) {
                    *to = token as i32;
                }
                put(len, session.tokens().len(), "len")
            })
        }
    })
}

/// The record of a session as JSON, for a log of what was written: token ids, slot, skips; no text, no key. With a NUL, into a
/// buffer of len bytes; *needed, unless it is NULL, gets the length with the NUL.
///
/// WMK_STATUS_BUFFER: the buffer is too small, and *needed says how long it must be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_record(
    session: *const Session,
    buffer: *mut c_char,
    len: usize,
    needed: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let record = unsafe { with(session, |session| Ok(session.record())) }?;
        let json = serde_json::to_string(&record).expect("a record is plain data");
        // SAFETY: the header's conventions.
        unsafe { put_text(&json, buffer, len, needed) }
    })
}

/// One step of every sequence of a batch: row i of the logits to the next token of sessions[i], drawn with coins[i] and
/// accepted. The arrays have as many entries as the logits have rows; no session may stand twice.
///
/// WMK_STATUS_NO_CANDIDATE, _BUSY or _POISONED: the first row that failed is named; its outcome is WMK_OUTCOME_NONE, and the
/// other rows are done. Any other failure: nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_sample_rows(
    pool: *const Pool,
    sessions: *const *mut Session,
    logits: *const Logits,
    sampling: *const Sampling,
    coins: *const u64,
    decisions: *mut Decision,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (pool, matrix, checked) = unsafe {
            (
                pool_of(pool)?,
                Matrix::read(logits)?,
                Checked::read(sampling)?,
            )
        };
        let rows = matrix.rows;
        // SAFETY: the header's conventions. A pointer that is null is no reference, and a session is one through its lock.
        let (sessions, numbers, decisions) = unsafe {
            (
                slice(sessions.cast::<Option<&Session>>(), rows, "sessions")?,
                slice(coins, rows, "coins")?,
                slice_mut(decisions, rows, "decisions")?,
            )
        };
        check_sessions(sessions)?;
        each_row(pool, decisions, 1, rows, |row, decision| {
            decision[0] = Decision::NONE;
            let Some(session) = sessions[row] else {
                return Ok(());
            };
            let mut session = lock(&session.state, "session")?;
            decision[0] = with_scratch(|scratch| {
                let candidates = scratch
                    .dense(matrix.row(row), &checked)
                    .map_err(|_| no_candidate(Some(row)))?;
                let made = Made::in_order(candidates);
                let temperature = checked.sampling.temperature;
                Ok(step(
                    &session,
                    &made,
                    temperature,
                    &mut self::coins(numbers[row]),
                ))
            })?;
            session.accept(decision[0].token as u32, decision[0].core_outcome());
            Ok(())
        })
    })
}

/// All there, and none twice.
fn check_sessions(sessions: &[Option<&Session>]) -> Result<(), Failure> {
    thread_local! {
        static PLACES: std::cell::RefCell<Vec<usize>> = std::cell::RefCell::default();
    }
    PLACES.with_borrow_mut(|places| {
        places.clear();
        for (row, session) in sessions.iter().enumerate() {
            let session = session.ok_or_else(|| {
                Failure::new(Status::NullPointer, format!("sessions[{row}] is NULL"))
            })?;
            places.push(std::ptr::from_ref(session) as usize);
        }
        places.sort_unstable();
        if places.windows(2).any(|two| two[0] == two[1]) {
            let message = "a session stands twice in the batch: one session is one sequence";
            return Err(Failure::new(Status::Argument, message));
        }
        Ok(())
    })
}
